//go:build simulate

package dedup

import (
	"unsafe"
)

// In a bubble of testing/synctest time goes on when all goroutines wait, except for those that wait for a mutex: it might be held
// by someone outside. Nothing of the simulation is outside, and clients hold mutexes while they wait for brokers, so
// here they wait like all others. It takes -ldflags=-checklinkname=0 to reach that table of the runtime.

//go:linkname idleReasons runtime.isIdleInSynctest
var idleReasons [1]bool

//go:linkname reasonNames runtime.waitReasonStrings
var reasonNames [1]string

func init() {
	simulated = true
	const reasons = 40 // there are some more
	names, idle := unsafe.Pointer(&reasonNames), unsafe.Pointer(&idleReasons)
	found := 0
	for i := range reasons {
		switch *(*string)(unsafe.Add(names, uintptr(i)*unsafe.Sizeof(""))) {
		case "sync.Mutex.Lock", "sync.RWMutex.RLock", "sync.RWMutex.Lock":
			*(*bool)(unsafe.Add(idle, i)) = true
			found++
		}
	}
	if found != 3 {
		panic("the runtime's reasons for waiting are others than expected")
	}
}
