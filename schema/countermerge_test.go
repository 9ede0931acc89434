package schema

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// counterShardSpec is a shard whose id is 16 times a byte; the kind is global, local or remote.
type counterShardSpec struct {
	id           byte
	clock, count int64
	kind         string
}

func contextOf(cleared bool, shards ...counterShardSpec) []byte {
	var header, body []byte
	n := 0
	for i, s := range shards {
		switch s.kind {
		case "global":
			header = binary.BigEndian.AppendUint16(header, uint16(i)|1<<15)
			n++
		case "local":
			header = binary.BigEndian.AppendUint16(header, uint16(i))
			n++
		}
		body = append(body, bytes.Repeat([]byte{s.id}, 16)...)
		body = binary.BigEndian.AppendUint64(body, uint64(s.clock))
		body = binary.BigEndian.AppendUint64(body, uint64(s.count))
	}
	if cleared {
		n = -n
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(int16(n))), append(header, body...)...)
}

// contextText reads a context in plain steps.
func contextText(context []byte) string {
	n := int(int16(binary.BigEndian.Uint16(context)))
	kinds := map[int]string{}
	for i := range max(n, -n) {
		entry := int(binary.BigEndian.Uint16(context[2+2*i:]))
		if entry >= 1<<15 {
			kinds[entry-1<<15] = "global"
		} else if n > 0 {
			kinds[entry] = "local"
		}
	}
	var shards []string
	body := context[2+2*max(n, -n):]
	for i := 0; len(body) > 0; i, body = i+1, body[32:] {
		kind := kinds[i]
		if kind == "" {
			kind = "remote"
		}
		shards = append(shards, fmt.Sprintf("%x %d %d %s", body[0], int64(binary.BigEndian.Uint64(body[16:])), int64(binary.BigEndian.Uint64(body[24:])), kind))
	}
	return strings.Join(shards, ", ")
}

func TestMergeCounters(t *testing.T) {
	type shard = counterShardSpec
	for _, c := range []struct {
		name   string
		a, b   []byte
		want   string
		beaten [2]bool // of b into a, and of a into b
	}{
		{"other nodes", contextOf(false, shard{1, 1, 5, "global"}, shard{3, 1, 7, "global"}), contextOf(false, shard{2, 9, 2, "global"}), "1 1 5 global, 2 9 2 global, 3 1 7 global", [2]bool{}},
		{"the greater clock", contextOf(false, shard{1, 2, 5, "global"}), contextOf(false, shard{1, 3, 1, "global"}), "1 3 1 global", [2]bool{false, true}},
		{"then the greater count", contextOf(false, shard{1, 2, -5, "global"}), contextOf(false, shard{1, 2, -6, "global"}), "1 2 -5 global", [2]bool{true, false}},
		{"a copy", contextOf(false, shard{1, 2, 5, "global"}, shard{2, 1, 1, "global"}), contextOf(false, shard{2, 1, 1, "global"}), "1 2 5 global, 2 1 1 global", [2]bool{}},
		{"global against remote", contextOf(false, shard{1, 2, 5, "global"}), contextOf(false, shard{1, 9, 9, "remote"}), "1 2 5 global", [2]bool{true, false}},
		{"global against local", contextOf(false, shard{1, 2, 5, "global"}), contextOf(false, shard{1, 9, 9, "local"}), "1 2 5 global", [2]bool{true, false}},
		{"local against remote", contextOf(false, shard{1, 2, 5, "local"}), contextOf(false, shard{1, 9, 9, "remote"}), "1 2 5 local", [2]bool{true, false}},
		{"local, cleared, against remote", contextOf(true, shard{1, 2, 5, "local"}, shard{2, 1, 1, "global"}), contextOf(false, shard{1, 9, 9, "remote"}), "1 9 9 remote, 2 1 1 global", [2]bool{false, true}},
		{"remote", contextOf(false, shard{1, 2, 5, "remote"}), contextOf(false, shard{1, 3, 4, "remote"}), "1 3 4 remote", [2]bool{false, true}},
		{"remote of old", contextOf(false, shard{1, -2, 5, "remote"}), contextOf(false, shard{1, 3, 4, "remote"}), "1 -2 5 remote", [2]bool{true, false}},
		{"remote of old, both", contextOf(false, shard{1, -2, 5, "remote"}), contextOf(false, shard{1, -3, 4, "remote"}), "1 -3 4 remote", [2]bool{false, true}},
		{"two local ones", contextOf(false, shard{1, 2, 5, "local"}), contextOf(false, shard{1, 3, 4, "local"}), "1 3 4 local", [2]bool{false, true}},
		{"the same local one", contextOf(false, shard{1, 2, 5, "local"}), contextOf(false, shard{1, 2, 5, "local"}), "1 2 5 local", [2]bool{}},
		{"nothing", contextOf(false), contextOf(false, shard{1, 1, 1, "global"}), "1 1 1 global", [2]bool{}},
	} {
		for i, order := range [2][2][]byte{{c.a, c.b}, {c.b, c.a}} {
			got, beaten := AppendMergedCounter([]byte("head"), order[0], order[1])
			if text := contextText(got[4:]); text != c.want || string(got[:4]) != "head" || beaten != c.beaten[i] {
				t.Errorf("%s, order %d: %s, beaten %v, expected %s, %v", c.name, i, text, beaten, c.want, c.beaten[i])
			}
			if err := ValidateCounter(got[4:]); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// randomShards makes a context of few nodes, whose clocks meet.
func randomShards(r *rand.Rand) []byte {
	var shards []counterShardSpec
	for id := range byte(5) {
		if r.IntN(2) == 0 {
			shards = append(shards, counterShardSpec{id, r.Int64N(5) - 1, r.Int64N(3), []string{"global", "local", "remote"}[r.IntN(3)]})
		}
	}
	return contextOf(r.IntN(10) == 0, shards...)
}

// The merge is idempotent, commutative and associative, and allocates nothing.
func TestMergeOfCountersIsLawful(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	merge := func(a, b []byte) []byte {
		out, _ := AppendMergedCounter(nil, a, b)
		return out
	}
	for range 20_000 {
		a, b, c := randomShards(r), randomShards(r), randomShards(r)
		ab := merge(a, b)
		if !bytes.Equal(ab, merge(b, a)) {
			t.Fatalf("%x and %x: %x, the other way %x", a, b, ab, merge(b, a))
		}
		if !bytes.Equal(ab, merge(ab, a)) || !bytes.Equal(ab, merge(b, ab)) {
			t.Fatalf("%x and %x: %x, and once more %x, %x", a, b, ab, merge(ab, a), merge(b, ab))
		}
		if left, right := merge(ab, c), merge(a, merge(b, c)); !bytes.Equal(left, right) {
			t.Fatalf("%x, %x and %x: %s, or %s", a, b, c, contextText(left), contextText(right))
		}
	}
	dst, a, b := make([]byte, 0, 1000), randomShards(r), randomShards(r)
	if n := testing.AllocsPerRun(10, func() { dst, _ = AppendMergedCounter(dst[:0], a, b) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWrongCounters(t *testing.T) {
	shard := strings.Repeat("00", 32)
	for _, text := range []string{
		"", "00", "0001", "00000000", "0000" + shard[2:], "0000" + shard + "00", "0000" + shard + shard, "7fff", "8000", "0000000000000000",
	} {
		if err := ValidateCounter(unhex(t, text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func FuzzMergeCounters(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 0))
	for range 20 {
		f.Add(randomShards(r), randomShards(r))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if ValidateCounter(a) != nil || ValidateCounter(b) != nil {
			return
		}
		out, _ := AppendMergedCounter(nil, a, b)
		if err := ValidateCounter(out); err != nil {
			t.Fatalf("%s and %s: %s: %v", hex.EncodeToString(a), hex.EncodeToString(b), hex.EncodeToString(out), err)
		}
		if again, _ := AppendMergedCounter(nil, out, b); !bytes.Equal(again, out) {
			t.Errorf("%x and %x: %x, and once more %x", a, b, out, again)
		}
	})
}
