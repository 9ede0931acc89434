//go:build cgo

package state

// OutsideHeap says that the memory of a [Cache] and of memtables is not in Go's heap.
const OutsideHeap = true
