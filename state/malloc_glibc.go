//go:build linux && cgo

package state

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
static void keepLittle(void) {
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
}
#else
static void keepLittle(void) {}
#endif
*/
import "C"

// Pebble has its blocks and memtables from malloc. By default glibc has an arena for each thread, and puts into them also
// what is as large as a memtable once one was freed: of such holes the process would keep a quarter more than it uses. With
// one arena, and what is large in mappings of its own, it gives back what is freed.
func init() { C.keepLittle() }
