package dedup

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
)

// ongoing says whether a session has a transaction under way.
func (w *rig) ongoing(session string) bool {
	w.t.Helper()
	listed, err := w.adm.ListTransactions(w.ctx, nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return listed[session].State == "Ongoing"
}

// TestAbandonedTransaction stops a worker within a transaction, which is aborted once the worker is no member any more, and not
// before; the worker begins anew when it goes on.
func TestAbandonedTransaction(t *testing.T) {
	w := newRig(t)
	w.write(0, 50)
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var emitted atomic.Bool
	paused := w.start("a", vfs.NewCrashableMem(), func(worker *Worker) {
		worker.cfg.Emitter = &encoder{fail: func(*Event) error { emitted.Store(true); return nil }}
		worker.crash = func(now stage) error {
			if now == afterFold && emitted.Load() {
				once.Do(func() { close(reached); <-release })
			}
			return nil
		}
	})
	<-reached
	session := sessionOf("a")
	w.until(w.ctx, "the transaction is under way", func() bool { return w.ongoing(session) })
	paused.endAbandoned(w.ctx)
	if !w.ongoing(session) {
		t.Fatal("the transaction of a member was aborted")
	}
	if _, err := w.adm.LeaveGroup(w.ctx, kadm.LeaveGroup(groupName).InstanceIDs(session)); err != nil {
		t.Fatal(err)
	}
	heir := w.start("b", vfs.NewCrashableMem())
	w.folded(0, 2)
	if w.ongoing(session) {
		t.Error("another worker has the partitions, and the transaction of the former is under way")
	}
	close(release)
	w.write(0, 5)
	w.settle()
	for _, r := range []*running{paused, heir} {
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	}
	w.finished()
}

// TestSessionSuffix: sessions of other groups are left alone.
func TestSessionSuffix(t *testing.T) {
	for suffix, ours := range map[string]bool{
		"-ABCDEFGHIJKLMNOPQRSTUVWX27-0":   true,
		"-ABCDEFGHIJKLMNOPQRSTUVWX27-12":  true,
		"-x-ABCDEFGHIJKLMNOPQRSTUVWX27-0": false,
		"2-ABCDEFGHIJKLMNOPQRSTUVWX27-0":  false,
		"-ABCDEFGHIJKLMNOPQRSTUVWX27":     false,
	} {
		if sessionSuffix.MatchString(suffix) != ours {
			t.Errorf("%s: expected %v", suffix, ours)
		}
	}
}
