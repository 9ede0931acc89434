//go:build unix

package state

import (
	"fmt"
	"syscall"
)

// allocate gets memory from the system, all zeros. It is occupied page by page when it is written.
func allocate(size int) ([]byte, error) {
	memory, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("state: %d bytes of memory for a cache: %w", size, err)
	}
	advise(memory)
	return memory, nil
}

// release gives it back. It only fails for what was not allocated.
func release(memory []byte) { _ = syscall.Munmap(memory) }
