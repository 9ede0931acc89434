package state

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// fakeDB is a database as its scheduler sees it. As in Pebble a refusal is noted under the mutex under which a slot is asked for.
type fakeDB struct {
	name      string
	scheduler *compactions
	began     func(name string)
	asked     func() // when it is asked whether a compaction waits

	mu      sync.Mutex
	need    []pebble.WaitingCompaction // of what is to run
	waiting bool                       // a slot was refused
	slots   []pebble.CompactionGrantHandle
	closed  bool
}

func (d *fakeDB) GetAllowedWithoutPermission() int { return 1 }

func (d *fakeDB) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	if d.asked != nil {
		d.asked()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.waits() {
		return false, pebble.WaitingCompaction{}
	}
	return true, d.need[0]
}

// waits reports whether a compaction waits for a slot.
func (d *fakeDB) waits() bool {
	if d.closed {
		panic(d.name + " is called after it was closed")
	}
	d.waiting = d.waiting && len(d.need) > 0
	return d.waiting
}

func (d *fakeDB) Schedule(slot pebble.CompactionGrantHandle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.waits() {
		return false
	}
	d.run(slot)
	return true
}

func (d *fakeDB) run(slot pebble.CompactionGrantHandle) {
	d.need = d.need[1:]
	d.slots = append(d.slots, slot)
	d.began(d.name)
}

// want adds a compaction that has to run.
func (d *fakeDB) want(need pebble.WaitingCompaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.need = append(d.need, need)
	d.try()
}

// try asks for slots, as Pebble does unless it waits for one.
func (d *fakeDB) try() {
	for len(d.need) > 0 && !d.waiting {
		ok, slot := d.scheduler.TrySchedule()
		if !ok {
			d.waiting = true
			return
		}
		d.run(slot)
	}
}

// end ends one compaction, if there is one.
func (d *fakeDB) end() bool {
	d.mu.Lock()
	if len(d.slots) == 0 {
		d.mu.Unlock()
		return false
	}
	slot := d.slots[0]
	d.slots = d.slots[1:]
	d.mu.Unlock()
	slot.Done()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.try()
	return true
}

func (d *fakeDB) close() {
	d.scheduler.Unregister()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

func newFakeDB(shared *CompactionSlots, name string, began func(string)) *fakeDB {
	d := &fakeDB{name: name, scheduler: &compactions{shared: shared}, began: began}
	d.scheduler.Register(2, d)
	return d
}

// TestCompactionOrder holds that a slot goes to the store that needs it most.
func TestCompactionOrder(t *testing.T) {
	shared := NewCompactionSlots(1)
	var order []string
	began := func(name string) { order = append(order, name) }
	first := newFakeDB(shared, "first", began)
	first.want(pebble.WaitingCompaction{Priority: 80, Score: 1})
	waiting := map[string]pebble.WaitingCompaction{
		"optional": {Optional: true, Priority: 100, Score: 9},
		"little":   {Priority: 80, Score: 2},
		"much":     {Priority: 80, Score: 3},
		"move":     {Priority: 100, Score: 1},
	}
	dbs := []*fakeDB{first}
	for name, need := range waiting {
		d := newFakeDB(shared, name, began)
		d.want(need)
		dbs = append(dbs, d)
	}
	for slices.ContainsFunc(dbs, (*fakeDB).end) {
	}
	if expected := []string{"first", "move", "much", "little", "optional"}; !slices.Equal(order, expected) {
		t.Errorf("found %v, expected %v", order, expected)
	}
}

// TestCompactionRefusedMeanwhile holds that a store that is refused while the one free slot is offered around gets it then.
func TestCompactionRefusedMeanwhile(t *testing.T) {
	shared := NewCompactionSlots(1)
	var order []string
	began := func(name string) { order = append(order, name) }
	need := pebble.WaitingCompaction{Priority: 80}
	early, late := newFakeDB(shared, "early", began), newFakeDB(shared, "late", began)
	late.asked = func() {
		late.asked = nil
		early.want(need) // it was asked before, and did not wait then
	}
	third := newFakeDB(shared, "third", began)
	third.want(need)
	third.end()
	if expected := []string{"third", "early"}; !slices.Equal(order, expected) {
		t.Errorf("found %v, expected %v", order, expected)
	}
}

// TestCompactionAllFreeSlots holds that no slot stays free while stores wait, though several come free while one is offered around.
func TestCompactionAllFreeSlots(t *testing.T) {
	const slots = 3
	shared := NewCompactionSlots(slots)
	var began []string
	var dbs []*fakeDB
	for i := range 2 * slots {
		d := newFakeDB(shared, fmt.Sprint(i), func(name string) { began = append(began, name) })
		d.want(pebble.WaitingCompaction{Priority: 80})
		dbs = append(dbs, d)
	}
	last := dbs[2*slots-1]
	last.asked = func() {
		last.asked = nil
		for _, d := range dbs[1:slots] {
			d.end()
		}
	}
	dbs[0].end()
	if len(began) != 2*slots || shared.running != slots {
		t.Errorf("the compactions of %v began, and %d slots are taken; expected those of all %d stores, and %d slots", began, shared.running, 2*slots, slots)
	}
}

// TestCompactionNotAccepted holds that a slot goes to another store if the neediest one does not take it.
func TestCompactionNotAccepted(t *testing.T) {
	shared := NewCompactionSlots(1)
	var order []string
	began := func(name string) { order = append(order, name) }
	first, fickle, other := newFakeDB(shared, "first", began), newFakeDB(shared, "fickle", began), newFakeDB(shared, "other", began)
	first.want(pebble.WaitingCompaction{Priority: 80})
	fickle.want(pebble.WaitingCompaction{Priority: 90})
	other.want(pebble.WaitingCompaction{Priority: 80})
	other.asked = func() { fickle.need = nil } // after that one said that it waits
	first.end()
	if expected := []string{"first", "other"}; !slices.Equal(order, expected) {
		t.Errorf("found %v, expected %v", order, expected)
	}
}

// TestCompactionsOfClosedStore holds that a store is closed only when the call to it that is under way has ended.
func TestCompactionsOfClosedStore(t *testing.T) {
	shared := NewCompactionSlots(1)
	d := newFakeDB(shared, "closing", func(string) {})
	closed := make(chan struct{})
	d.asked = func() {
		d.asked = nil
		go func() {
			defer close(closed)
			d.close()
		}()
		for {
			shared.mu.Lock()
			closing, registered := d.scheduler.closed, len(shared.stores) == 1
			shared.mu.Unlock()
			if closing {
				if !registered {
					t.Error("the store is closed during a call")
				}
				return
			}
			runtime.Gosched()
		}
	}
	shared.grant()
	<-closed
}

// TestCompactionSlots lets stores come and go, each with compactions to run: all run, never more than there are slots, nor two of a store.
func TestCompactionSlots(t *testing.T) {
	const stores, lives, each = 8, 50, 20
	for _, slots := range []int{1, 2, 3} {
		shared := NewCompactionSlots(slots)
		var all peak
		var wg sync.WaitGroup
		for i := range stores {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(slots), uint64(i)))
				for life := range lives {
					var own peak
					var ended sync.WaitGroup
					ended.Add(each)
					var d *fakeDB
					d = newFakeDB(shared, fmt.Sprintf("%d.%d", i, life), func(string) {
						own.add()
						all.add()
						go func() {
							defer ended.Done()
							runtime.Gosched()
							own.now.Add(-1)
							all.now.Add(-1)
							d.end()
						}()
					})
					for range each {
						d.want(pebble.WaitingCompaction{Priority: rnd.IntN(3), Score: rnd.Float64()})
					}
					ended.Wait()
					d.close()
					if found := own.most.Load(); found != 1 {
						t.Errorf("%s: %d compactions at a time", d.name, found)
					}
				}
			})
		}
		wg.Wait()
		if found := all.most.Load(); found > int64(slots) || shared.running != 0 || len(shared.stores) != 0 {
			t.Errorf("%d slots: %d compactions at a time; in the end %d slots are taken, and there are %d stores", slots, found, shared.running, len(shared.stores))
		}
	}
}

// peak counts what is under way.
type peak struct{ now, most atomic.Int64 }

func (p *peak) add() {
	now := p.now.Add(1)
	for was := p.most.Load(); now > was && !p.most.CompareAndSwap(was, now); was = p.most.Load() {
	}
}

// TestStoresShareCompactions fills stores of Pebble that share one slot: one compacts at a time, all of them do, and they close amid it.
func TestStoresShareCompactions(t *testing.T) {
	const stores, rows = 4, 4000
	shared := NewCompactionSlots(1)
	var running peak
	var ended atomic.Int64
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			o := Options{FS: vfs.NewMem(), MemTableBytes: 64 << 10, Compactions: shared}
			po := o.pebbleOptions()
			po.L0CompactionThreshold = 2
			po.EventListener = &pebble.EventListener{
				CompactionBegin: func(pebble.CompactionInfo) { running.add() },
				CompactionEnd: func(pebble.CompactionInfo) {
					running.now.Add(-1)
					ended.Add(1)
				},
			}
			db, err := pebble.Open(fmt.Sprint(i), po)
			if err != nil {
				t.Error(err)
				return
			}
			value := make([]byte, 500)
			for r := range rows {
				if err := db.Set(fmt.Appendf(nil, "%08d", r*7919%rows), value, pebble.NoSync); err != nil {
					t.Error(err)
				}
			}
			if err := db.Flush(); err != nil {
				t.Error(err)
			}
			await(t, "each store comes to its turn", func() bool { return db.Metrics().Compact.Count > 0 })
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	taken := func() int {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		return shared.running
	}
	// A database may be closed before its last compaction gives back the slot.
	await(t, "all slots are given back", func() bool { return taken() == 0 })
	if running.most.Load() != 1 {
		t.Errorf("%d compactions, %d at a time, expected one", ended.Load(), running.most.Load())
	}
	t.Logf("%d compactions", ended.Load())
}

// await waits until a condition holds that is not announced, for longer than any machine takes.
func await(t *testing.T, what string, condition func() bool) {
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("waited in vain until %s", what)
			return
		}
	}
}

// TestSlotsOfAFailedOpen holds a store that could not be opened to leaving nothing among those that slots are handed to.
func TestSlotsOfAFailedOpen(t *testing.T) {
	slots := NewCompactionSlots(1)
	registered := false
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpCreate || !strings.HasPrefix(path.Base(op.Path), "temporary.") {
			return nil
		}
		slots.mu.Lock()
		defer slots.mu.Unlock()
		registered = len(slots.stores) == 1
		return syscall.ENOSPC
	}))
	if s, err := Open("dir", testIdentity, Options{FS: fs, Compactions: slots}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("opened: %v, %v", s != nil, err)
	}
	if !registered {
		t.Error("the store was not among those of the slots when the disk failed")
	}
	if len(slots.stores) != 0 {
		t.Error("a store that is not open is among those of the slots")
	}
}
