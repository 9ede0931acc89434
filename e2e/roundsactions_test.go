package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// missedAfter is longer than the session timeout of a worker: the group has noticed by then that it is gone.
const missedAfter = 13 * time.Second

// action is what a round does to the workers. It says what it did in a few words, and leaves one worker running at least.
type action struct {
	name    string
	do      func(*rounds) (string, error)
	brokers int // that it needs
	// checkpoints says that it needs them.
	checkpoints bool
}

var actions = []action{
	{name: "kill", do: (*rounds).killOne},
	{name: "kill all", do: (*rounds).killAll},
	{name: "kill late", do: (*rounds).killLate},
	{name: "pause", do: (*rounds).pauseOne},
	{name: "restart", do: (*rounds).restartOne},
	{name: "out", do: (*rounds).scaleOut},
	{name: "in", do: (*rounds).scaleIn},
	{name: "exchange", do: (*rounds).exchange},
	{name: "empty", do: (*rounds).emptied},
	{name: "older", do: (*rounds).older},
	{name: "full disk", do: (*rounds).fullDisk},
	{name: "lost disks", do: (*rounds).lostDisks, checkpoints: true},
	{name: "broker", do: (*rounds).killBroker, brokers: 3},
}

func actionByName(name string) (action, error) {
	i := slices.IndexFunc(actions, func(a action) bool { return a.name == name })
	if i < 0 {
		return action{}, fmt.Errorf("no action %q", name)
	}
	return actions[i], nil
}

// running are the workers that run.
func (r *rounds) running() []*worker {
	return slices.DeleteFunc(slices.Clone(r.workers), func(w *worker) bool { return !w.running() })
}

// one is a worker that runs.
func (r *rounds) one() *worker { return pick(r.r, r.running()...) }

// of is how many run, for a line.
func (r *rounds) of(w *worker) string { return fmt.Sprintf("%s of %d", w.name, len(r.running())) }

// pass lets time go by.
func (r *rounds) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}

// stop stops a worker in order.
func (r *rounds) stop(w *worker) error {
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	return w.stop(ctx)
}

func (r *rounds) killOne() (string, error) {
	w := r.one()
	what := r.of(w)
	return what, errors.Join(w.kill(), w.start())
}

func (r *rounds) killAll() (string, error) {
	all := r.running()
	var errs []error
	for _, w := range all {
		errs = append(errs, w.kill())
	}
	for _, w := range all {
		errs = append(errs, w.start())
	}
	return fmt.Sprintf("%d", len(all)), errors.Join(errs...)
}

// killLate starts the worker again when the group has missed it.
func (r *rounds) killLate() (string, error) {
	w := r.one()
	what := r.of(w)
	if err := w.kill(); err != nil {
		return "", err
	}
	r.pass(missedAfter)
	return what, w.start()
}

func (r *rounds) pauseOne() (string, error) {
	w := r.one()
	if err := w.pause(); err != nil {
		return "", err
	}
	r.pass(missedAfter)
	return r.of(w), w.resume()
}

func (r *rounds) restartOne() (string, error) {
	w := r.one()
	what := r.of(w)
	return what, errors.Join(r.stop(w), w.start())
}

func (r *rounds) scaleOut() (string, error) {
	n := len(r.running())
	for _, w := range r.workers {
		if !w.running() {
			if err := w.start(); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%d to %d", n, len(r.workers)), nil
}

func (r *rounds) scaleIn() (string, error) {
	running, stays := r.running(), r.one()
	for _, w := range running {
		if w != stays {
			if err := r.stop(w); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%d to 1", len(running)), nil
}

// exchange gives two workers the state directories of each other: one of them may not be running, or never have run.
func (r *rounds) exchange() (string, error) {
	a := r.one()
	b := pick(r.r, slices.DeleteFunc(slices.Clone(r.workers), func(w *worker) bool { return w == a })...)
	again := []*worker{a}
	what := fmt.Sprintf("%s with %s, stopped", a.name, b.name)
	if b.running() {
		again = append(again, b)
		what = fmt.Sprintf("%s with %s, killed", a.name, b.name)
	}
	for _, w := range again {
		end := w.kill
		if len(again) == 1 {
			end = func() error { return r.stop(w) }
		}
		if err := end(); err != nil {
			return "", err
		}
	}
	aside := filepath.Join(r.dir, "aside")
	for _, move := range [][2]string{{a.state, aside}, {b.state, a.state}, {aside, b.state}} {
		if err := os.Rename(move[0], move[1]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	var errs []error
	for _, w := range again {
		errs = append(errs, w.start())
	}
	return what, errors.Join(errs...)
}

// emptied loses the state directory of a worker.
func (r *rounds) emptied() (string, error) {
	w := r.one()
	what := r.of(w)
	return what, errors.Join(w.kill(), os.RemoveAll(w.state), w.start())
}

// older gives a worker a copy of its state directory that is some seconds older, as from a backup.
func (r *rounds) older() (string, error) {
	w := r.one()
	what := r.of(w)
	saved := filepath.Join(r.dir, "saved")
	err := errors.Join(r.stop(w), os.CopyFS(saved, os.DirFS(w.state)), w.start())
	if err == nil {
		err = r.flows()
	}
	if err != nil {
		return "", err
	}
	r.pass(time.Second)
	return what, errors.Join(w.kill(), os.RemoveAll(w.state), os.Rename(saved, w.state), w.start())
}

// fullDisk lets the disk of a worker be full for a while. What the worker does meanwhile is its own affair; if it ends, it
// says why.
func (r *rounds) fullDisk() (string, error) {
	w := r.one()
	what := r.of(w)
	disk := filepath.Join(r.dir, "disk")
	if err := r.stop(w); err != nil {
		return "", err
	}
	err := os.MkdirAll(disk, 0o755)
	if err == nil {
		err = mountSmall(disk, 96<<20)
	}
	if err != nil {
		return "", err
	}
	defer unmount(disk)
	home := w.state
	onDisk := filepath.Join(disk, "state")
	err = errors.Join(os.CopyFS(onDisk, os.DirFS(home)), os.RemoveAll(home), os.Symlink(onDisk, home), w.start())
	if err == nil {
		err = r.flows()
	}
	if err != nil {
		return "", err
	}
	ballast := filepath.Join(disk, "ballast")
	w.expected.Store(true)
	if err := fill(ballast); err != nil {
		return "", err
	}
	select {
	case <-w.ended:
		what += ": ended"
	case <-time.After(25 * time.Second):
		what += ": goes on"
	case <-r.ctx.Done():
	}
	if err := os.Remove(ballast); err != nil {
		return "", err
	}
	if !w.running() {
		if log := logEnd(w.log); !strings.Contains(log, "no space left on device") {
			return "", w.explain("it ended, and does not say that the disk is full")
		}
		if err := w.start(); err != nil {
			return "", err
		}
	}
	w.expected.Store(false)
	if err := r.flows(); err != nil {
		return "", err
	}
	return what, errors.Join(r.stop(w), os.Remove(home), os.CopyFS(home, os.DirFS(onDisk)), w.start())
}

// fill writes to a file until the disk is full.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 16 {
		block := make([]byte, size)
		for err == nil {
			_, err = f.Write(block)
		}
		err = nil
	}
	return nil
}

// lostDisks kills all workers, loses their state directories, and starts them: the states come of checkpoints, which the logs of the workers
// say.
func (r *rounds) lostDisks() (string, error) {
	// Whoever stops in order leaves a checkpoint.
	all := r.running()
	for _, w := range all {
		if err := errors.Join(r.stop(w), w.start()); err != nil {
			return "", err
		}
	}
	if err := r.flows(); err != nil {
		return "", err
	}
	restored, err := r.restored()
	if err != nil {
		return "", err
	}
	for _, w := range all {
		if err := errors.Join(w.kill(), os.RemoveAll(w.state)); err != nil {
			return "", err
		}
	}
	for _, w := range all {
		if err := w.start(); err != nil {
			return "", err
		}
	}
	if err := r.flows(); err != nil {
		return "", err
	}
	now, err := r.restored()
	if err != nil {
		return "", err
	}
	if now-restored < rawPartitions {
		return "", fmt.Errorf("%d states were restored from checkpoints, expected those of %d partitions", now-restored, rawPartitions)
	}
	return fmt.Sprintf("all of %d", len(all)), nil
}

// replayed is the log line of a state that is not empty and behind the group. On a disk that was lost it can only be of a checkpoint.
var replayed = regexp.MustCompile(`"msg":"bringing the state to the group's position",.*"state":"[1-9]`)

// restored counts the states that were restored from checkpoints so far. With standby they are there before a partition is opened, and
// those that are of a checkpoint are counted when they are brought to the group's position.
func (r *rounds) restored() (n int, err error) {
	for _, w := range r.workers {
		log, err := os.ReadFile(w.log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		if *roundsStandby {
			n += len(replayed.FindAll(log, -1))
		}
		n += strings.Count(string(log), "the state is restored")
	}
	return n, nil
}

// killBroker kills a broker, and starts it again some seconds later.
func (r *rounds) killBroker() (string, error) {
	i := r.r.IntN(len(r.kafka.Brokers))
	r.kafka.KillBroker(i)
	r.pass(time.Duration(1+r.r.IntN(8)) * time.Second)
	if err := r.kafka.StartBroker(r.ctx, i); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d", i+1, len(r.kafka.Brokers)), r.await("all replicas are in sync", func() error {
		topics, err := r.admin.ListTopicsWithInternal(r.ctx)
		if err != nil {
			return err
		}
		for _, t := range topics {
			for _, p := range t.Partitions {
				if len(p.ISR) < len(p.Replicas) {
					return fmt.Errorf("of topic %s, partition %d, %d of %d replicas are in sync", t.Topic, p.Partition, len(p.ISR), len(p.Replicas))
				}
			}
		}
		return nil
	})
}
