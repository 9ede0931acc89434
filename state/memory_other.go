//go:build !linux

package state

func advise([]byte) {}

// AdviseHeap does nothing here; on Linux it asks for large pages for Go's heap.
func AdviseHeap(int) {}
