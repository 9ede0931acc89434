package keystore

import (
	"crypto/sha1"
	"os"
	"runtime"
	"testing"
)

func seed(f *testing.F, name string) []byte {
	f.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// bounded fails if do takes more memory than a multiple of the input.
func bounded(t *testing.T, input []byte, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(len(input))*1024+1<<20 {
		t.Fatalf("%d bytes of input took %d bytes of memory", len(input), grown)
	}
}

// FuzzJCEKS takes arbitrary bytes apart as the content of a JCEKS keystore whose checksum was right.
func FuzzJCEKS(f *testing.F) {
	b := seed(f, "mixed.jceks")
	f.Add(b[:len(b)-sha1.Size])
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			entries, err := parseJCEKS(b)
			if err == nil && len(entries) > len(b) {
				t.Fatalf("%d entries in %d bytes", len(entries), len(b))
			}
		})
	})
}

// FuzzJavaObject reads arbitrary bytes as a serialized Java object, and a key from it.
func FuzzJavaObject(f *testing.F) {
	b := seed(f, "mixed.jceks")
	entries, err := parseJCEKS(b[:len(b)-sha1.Size])
	if err != nil {
		f.Fatal(err)
	}
	for i := range b {
		if o, n, err := parseObject(b[i:]); err == nil && o != nil {
			f.Add(b[i : i+n])
		}
	}
	if _, ok := entries["testing:1"].(sealedKey); !ok {
		f.Fatal("testing:1 is no sealed key")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			o, n, err := parseObject(b)
			if err != nil {
				return
			}
			if n > len(b) {
				t.Fatalf("an object of %d bytes in %d", n, len(b))
			}
			if k, err := keyOf(o); err == nil && len(k.key) > len(b) {
				t.Fatalf("a key of %d bytes in %d", len(k.key), len(b))
			}
		})
	})
}

// FuzzPKCS12 takes arbitrary bytes apart as a PKCS12 keystore whose MAC was right.
func FuzzPKCS12(f *testing.F) {
	f.Add(seed(f, "modern.p12"))
	f.Add(seed(f, "legacy.p12"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, b, func() {
			_, content, err := splitPKCS12(b)
			if err != nil {
				return
			}
			if entries, err := parsePKCS12(content); err == nil && len(entries) > len(b) {
				t.Fatalf("%d entries in %d bytes", len(entries), len(b))
			}
		})
	})
}
