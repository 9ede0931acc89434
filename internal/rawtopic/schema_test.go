package rawtopic

import (
	"testing"

	"github.com/linkedin/goavro/v2"
)

// crc64Avro is CRC-64-AVRO as the Avro specification writes it down.
func crc64Avro(text string) uint64 {
	const empty = 0xc15d213aa4d7a795
	var table [256]uint64
	for i := range table {
		fp := uint64(i)
		for range 8 {
			fp = fp>>1 ^ empty&-(fp&1)
		}
		table[i] = fp
	}
	fp := uint64(empty)
	for i := range len(text) {
		fp = fp>>8 ^ table[byte(fp)^text[i]]
	}
	return fp
}

func TestFingerprintIsThatOfTheSchema(t *testing.T) {
	codec := newCodec(t)
	if got := crc64Avro(codec.CanonicalSchema()); got != Fingerprint {
		t.Errorf("the fingerprint of the schema is %#016x, the constant is %#016x", got, Fingerprint)
	}
	if codec.Rabin != Fingerprint {
		t.Errorf("goavro computes the fingerprint %#016x, the constant is %#016x", codec.Rabin, Fingerprint)
	}
}

func newCodec(t testing.TB) *goavro.Codec {
	t.Helper()
	codec, err := goavro.NewCodec(AvroSchema)
	if err != nil {
		t.Fatal(err)
	}
	return codec
}
