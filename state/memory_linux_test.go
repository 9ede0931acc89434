package state

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// What the heap grows into after AdviseHeap has large pages, where the system has them.
func TestAdviseHeap(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil {
		t.Logf("no large pages here, nothing to see: %v", err)
		return
	}
	AdviseHeap(64 << 20)
	memory := make([]byte, 32<<20)
	at := uintptr(unsafe.Pointer(&memory[16<<20]))
	if flags := mappingFlags(t, at); !strings.Contains(flags+" ", " hg ") {
		t.Errorf("memory that was allocated has the flags %q, expected hg among them", flags)
	}
	memory[0] = 1
}

// mappingFlags are those of the mapping of this process that has an address, as proc_pid_smaps(5) has them.
func mappingFlags(t *testing.T, address uintptr) string {
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	inside := false
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var begin, end uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &begin, &end); n == 2 {
			inside = begin <= address && address < end
		}
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && inside {
			return flags
		}
	}
	t.Fatalf("no mapping has the address %x", address)
	return ""
}
