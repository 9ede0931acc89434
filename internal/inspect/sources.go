package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cassdelta/dedup"
	"cassdelta/state"
	"cassdelta/state/checkpoint"
)

// Directory is the state directory of a worker that does not run. It is only read.
type Directory struct{ Path string }

// Partitions is that of [Source].
func (d Directory) Partitions(context.Context) ([]int32, error) {
	found, err := d.stores()
	var all []int32
	for p := range found {
		all = append(all, p)
	}
	slices.Sort(all)
	return all, err
}

// stores finds the directories of the partitions, in the state directory or in that of a raw topic in it. One raw topic is expected.
func (d Directory) stores() (map[int32]string, error) {
	topics, err := os.ReadDir(d.Path)
	if err != nil {
		return nil, err
	}
	found := map[int32]string{}
	topic := ""
	for _, t := range topics {
		if !t.IsDir() {
			continue
		}
		partitions, err := os.ReadDir(filepath.Join(d.Path, t.Name()))
		if err != nil {
			return nil, err
		}
		for _, p := range partitions {
			n, err := strconv.ParseInt(p.Name(), 10, 32)
			if err != nil || !p.IsDir() {
				continue
			}
			if topic != "" && topic != t.Name() {
				return nil, fmt.Errorf("%s has the state of the raw topics %s and %s: expected one; give the directory of one, %s", d.Path, topic, t.Name(), filepath.Join(d.Path, topic))
			}
			topic = t.Name()
			found[int32(n)] = filepath.Join(d.Path, t.Name(), p.Name())
		}
	}
	if len(found) == 0 { // maybe it is the directory of one topic
		for _, p := range topics {
			if n, err := strconv.ParseInt(p.Name(), 10, 32); err == nil && p.IsDir() {
				found[int32(n)] = filepath.Join(d.Path, p.Name())
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s is no state directory of dedup: expected TOPIC/PARTITION in it", d.Path)
	}
	return found, nil
}

// Open is that of [Source].
func (d Directory) Open(_ context.Context, partition int32) (*state.Reader, func() error, error) {
	found, err := d.stores()
	if err != nil {
		return nil, nil, err
	}
	r, err := state.OpenReader(found[partition], state.Options{})
	if err != nil {
		return nil, nil, err
	}
	return r, r.Close, nil
}

// Checkpoint is the newest checkpoint of each raw partition, or a savepoint. Each is fetched before it is looked into.
type Checkpoint struct {
	Repo *checkpoint.Repository
	// Savepoint is its name; empty is the newest checkpoint.
	Savepoint string
}

// Partitions is that of [Source].
func (c Checkpoint) Partitions(context.Context) ([]int32, error) {
	var all []int32
	for p := range c.Repo.Scope().Partitions {
		all = append(all, p)
	}
	return all, nil
}

// Find finds the checkpoint of a partition.
func (c Checkpoint) Find(ctx context.Context, partition int32) (*checkpoint.Entry, error) {
	all, err := c.Repo.List(ctx, partition)
	if err != nil {
		return nil, err
	}
	if c.Savepoint != "" {
		for _, e := range all {
			if e.Savepoint == c.Savepoint {
				return e, e.Err
			}
		}
		return nil, fmt.Errorf("%v has no savepoint %s", c.Repo, c.Savepoint)
	}
	if e := checkpoint.Newest(all); e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("%v: %w", c.Repo, checkpoint.ErrNoCheckpoint)
}

// Open is that of [Source].
func (c Checkpoint) Open(ctx context.Context, partition int32) (*state.Reader, func() error, error) {
	e, err := c.Find(ctx, partition)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "cassdelta-state-")
	if err != nil {
		return nil, nil, err
	}
	store := filepath.Join(dir, "state")
	err = c.Repo.Restore(ctx, e, store, vfs.Default, nil)
	var r *state.Reader
	if err == nil {
		r, err = state.OpenReader(store, state.Options{})
	}
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return r, func() error { return errors.Join(r.Close(), os.RemoveAll(dir)) }, nil
}

// worker is the committed state of a worker of this process.
type worker struct{ *dedup.Worker }

func (w worker) Partitions(context.Context) ([]int32, error) { return w.Worker.Partitions(), nil }

func (w worker) Open(_ context.Context, partition int32) (*state.Reader, func() error, error) {
	r, err := w.Snapshot(partition)
	if err != nil {
		return nil, nil, err
	}
	return r, r.Close, nil
}

// Path is where a worker answers queries. errorHeader says that there is no answer, and errorTrailer that one broke off.
const (
	Path         = "/state"
	errorHeader  = "Cassdelta-Error"
	errorTrailer = "Cassdelta-Broken-Off"
)

// Handler answers queries about the committed state of a worker: those of its own machine, or everyone's. There is no login, and what
// is asked for are the rows of the tables, so others who may read metrics are refused unless the operator says otherwise.
func Handler(w *dedup.Worker, everyone bool) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if !everyone && !fromHere(r) {
			out.Header().Set(errorHeader, "the worker shows its state only to its own machine: ask there, or give the worker metrics-state")
			out.WriteHeader(http.StatusForbidden)
			return
		}
		if r.Method != http.MethodGet {
			http.Error(out, "expected GET", http.StatusMethodNotAllowed)
			return
		}
		v := r.URL.Query()
		q := Query{Table: v.Get("table"), Key: v.Get("key"), Row: v.Get("row"), All: v.Has("all"), Verify: v.Has("verify")}
		out.Header().Set("Content-Type", "application/jsonl")
		out.Header().Set("Trailer", errorTrailer)
		// It has a deadline of this answer.
		out.Header().Set("Connection", "close")
		counted := &answerWriter{w: out, deadline: http.NewResponseController(out).SetWriteDeadline, timeout: writeTimeout}
		defer counted.extend()
		err := Run(r.Context(), worker{w}, q, counted)
		if err == nil {
			return
		}
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		if counted.n > 0 {
			out.Header().Set(errorTrailer, text)
			return
		}
		var elsewhere *elsewhereError
		status := http.StatusInternalServerError
		switch {
		case errors.As(err, &elsewhere):
			status = http.StatusMisdirectedRequest
		case errors.Is(err, ErrNotFound):
			status = http.StatusNotFound
		}
		out.Header().Set(errorHeader, text)
		out.WriteHeader(status)
	})
}

// fromHere says whether a request comes from a loopback address.
func fromHere(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}

// writeTimeout is how long a write of an answer waits for who reads it. Meanwhile the worker can give up no store that is read, so a stop waits too.
const writeTimeout = 10 * time.Second

// answerWriter gives up writing to who does not read, and knows whether something was written.
type answerWriter struct {
	w        io.Writer
	deadline func(time.Time) error
	timeout  time.Duration
	n        int64
}

func (a *answerWriter) Write(p []byte) (int, error) {
	if err := a.extend(); err != nil {
		return 0, err
	}
	n, err := a.w.Write(p)
	a.n += int64(n)
	return n, err
}

// extend puts off the deadline. What is written while an answer is worked out for long is still in a buffer, so this is for the end too.
func (a *answerWriter) extend() error {
	err := a.deadline(time.Now().Add(a.timeout))
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// Ask asks running workers, by the addresses at which they serve their metrics. Each knows of the raw partitions that it folds.
func Ask(ctx context.Context, workers []string, q Query, out io.Writer) error {
	v := url.Values{}
	for name, value := range map[string]string{"table": q.Table, "key": q.Key, "row": q.Row} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, set := range map[string]bool{"all": q.All, "verify": q.Verify} {
		if set {
			v.Set(name, "")
		}
	}
	// Until the first line is there it may read the whole state.
	client := &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: 10 * time.Minute}}
	found, nothing := false, ErrNotFound // what is said of the row counts for more than that others have not its raw partition
	var sum *tableSum
	if q.Table == "" && !q.Verify {
		sum = &tableSum{tables: map[string]*usage{}}
	}
	for _, address := range workers {
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		if err := speaksHTTP(ctx, client, address, answerTimeout); err != nil {
			return err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+Path+"?"+v.Encode(), nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		switch text := response.Header.Get(errorHeader); {
		case response.StatusCode == http.StatusOK:
			found = true
			if sum != nil {
				err = sum.add(address, response.Body)
			} else {
				_, err = io.Copy(out, response.Body)
			}
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("%s: the answer broke off: the worker ended, or nothing was read of it for %v; write it to a file, and read that", address, writeTimeout)
			}
			if broken := response.Trailer.Get(errorTrailer); err == nil && broken != "" {
				err = fmt.Errorf("%s: %s", address, broken)
			}
		case text == "":
			err = fmt.Errorf("%s: %s: expected the address at which a dedup worker serves its metrics", address, response.Status)
		case response.StatusCode == http.StatusMisdirectedRequest:
			if nothing == ErrNotFound {
				nothing = &absentError{address + ": " + text}
			}
		case response.StatusCode != http.StatusNotFound:
			err = fmt.Errorf("%s: %s", address, text)
		default:
			nothing = &absentError{address + ": " + text}
		}
		response.Body.Close()
		if err != nil {
			return err
		}
	}
	if !found {
		return nothing
	}
	if sum != nil {
		return (&answer{out: out, tables: sum.tables}).sizes()
	}
	return nil
}

// answerTimeout is how long it may take until an address has answered to what takes no time.
const answerTimeout = 10 * time.Second

// speaksHTTP is an error if there is no answer of any kind, so that nobody waits for that of something else as long as a worker may take.
func speaksHTTP(ctx context.Context, client *http.Client, address string, timeout time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(bounded, http.MethodHead, strings.TrimSuffix(address, "/")+Path, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	response, err := client.Do(request)
	if err == nil {
		return response.Body.Close()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	if bounded.Err() != nil {
		err = fmt.Errorf("no answer within %v", timeout)
	}
	return fmt.Errorf("%s: %w; expected the address at which a dedup worker serves its metrics (metrics-listen)", address, err)
}

// tableSum adds up what workers say of their tables: each has some of the raw partitions.
type tableSum struct{ tables map[string]*usage }

func (s *tableSum) add(address string, lines io.Reader) error {
	for d := json.NewDecoder(lines); ; {
		var u usage
		switch err := d.Decode(&u); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return err
		case err != nil || u.Table == "":
			return fmt.Errorf("%s: expected a line of JSON of each table, found something else (%v): is it a dedup worker of this version?", address, err)
		}
		if all := s.tables[u.Table]; all != nil {
			all.add(&u)
		} else {
			s.tables[u.Table] = &u
		}
	}
}

// absentError is ErrNotFound in the words of a worker.
type absentError struct{ text string }

func (e *absentError) Error() string        { return e.text }
func (e *absentError) Is(target error) bool { return target == ErrNotFound }
