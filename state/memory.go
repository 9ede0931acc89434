package state

import "unsafe"

const bucketBytes = int(unsafe.Sizeof(bucket{}))

// bucketsOf is memory, which begins at a multiple of 8 bytes, as an index.
func bucketsOf(memory []byte) []bucket {
	return unsafe.Slice((*bucket)(unsafe.Pointer(unsafe.SliceData(memory))), len(memory)/bucketBytes)
}
