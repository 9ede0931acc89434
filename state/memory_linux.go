package state

import (
	"runtime/debug"
	"syscall"
	"unsafe"
)

// largePage is the size of a large page, of x86-64 and of arm64 with pages of 4 KiB.
const largePage = 2 << 20

// advise asks for large pages: the cache is read all over, and small ones make the processor look up most of them first.
// A system that has none does without.
func advise(memory []byte) { _ = syscall.Madvise(memory, syscall.MADV_HUGEPAGE) }

// AdviseHeap asks for large pages for so many bytes that Go's heap grows into: records of Kafka and overlays are touched all over
// as well, and each small page that is touched first is a call of the system. It is for the start of a program: it has the
// runtime reserve them, of which nothing is written, and give them back.
func AdviseHeap(size int) {
	memory := make([]byte, size)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(memory))) % largePage
	if int(skip) < size {
		advise(memory[skip:])
	}
	memory = nil
	debug.FreeOSMemory()
}
