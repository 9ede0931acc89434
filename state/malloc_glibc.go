//go:build linux && cgo

package state

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
__attribute__((constructor)) static void keepLittle(void) {
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
}
#endif
*/
import "C"

// Pebble has its blocks and memtables from malloc. By default glibc has an arena for each thread, and puts into them also
// what is as large as a memtable once one was freed: what is freed in one arena is of no use in another, and a cache of blocks had twice
// the memory that it was told. With one arena, and what is large in mappings of its own, what is freed is used again or given back. It has to be
// said before the first thread begins, which has its arena for good: before Go's own start.
var _ C.int
