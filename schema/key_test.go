package schema

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// keyTable makes a table with a partition key of n blobs.
func keyTable(t testing.TB, n int, columns ...Column) *Table {
	t.Helper()
	for i := range n {
		columns = append(columns, Column{Name: "p" + strconv.Itoa(i), Kind: PartitionKey, Position: i, Type: nativeTypes["blob"]})
	}
	table, err := NewTable(Table{Keyspace: "ks", Name: "t", ID: UUID{1}, Columns: columns, Flags: []string{"compound"}})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestSplitPartitionKey(t *testing.T) {
	for _, c := range []struct {
		columns int
		key     string
		want    []string // in hexadecimal digits, or an error if there is none
	}{
		{1, "", []string{""}},
		{1, "0001ff00", []string{"0001ff00"}},
		{2, "0001610000026263" + "00", []string{"61", "6263"}},
		{2, "000000000000", []string{"", ""}},
		{3, "000000000000000100" + "00", []string{"", "", "00"}},
		{2, "", nil},
		{2, "00016100", nil},              // no second column
		{2, "00016100" + "00", nil},       // half a length
		{2, "00016100" + "000262", nil},   // half a value
		{2, "00016100" + "000162", nil},   // no byte 0
		{2, "00016101" + "000000", nil},   // not 0
		{2, "00016100" + "00000000", nil}, // one more byte
	} {
		table := keyTable(t, c.columns)
		key := unhex(t, c.key)
		got, err := table.SplitPartitionKey([][]byte{{7}}, key)
		if c.want == nil {
			if err == nil || !strings.Contains(err.Error(), "ks.t") {
				t.Errorf("%s of %d columns: %x, %v", c.key, c.columns, got, err)
			}
			continue
		}
		if err != nil || len(got) != 1+c.columns || got[0][0] != 7 {
			t.Errorf("%s of %d columns: %x, %v", c.key, c.columns, got, err)
			continue
		}
		for i, want := range c.want {
			if v := got[1+i]; v == nil || !bytes.Equal(v, unhex(t, want)) {
				t.Errorf("%s of %d columns: column %d is %x, expected %s", c.key, c.columns, i, v, want)
			}
		}
		if joined := table.JoinPartitionKey([]byte{9}, got[1:]); !bytes.Equal(joined, append([]byte{9}, key...)) {
			t.Errorf("%s of %d columns: joined it is %x", c.key, c.columns, joined)
		}
	}
}

func TestJoinedPartitionKeysSplit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		table := keyTable(t, 1+r.IntN(4))
		var values [][]byte
		for range table.PartitionKeyColumns() {
			values = append(values, bytes.Repeat([]byte{byte(r.IntN(2))}, []int{0, 1, 2, 255, 256, 65535}[r.IntN(6)]))
		}
		got, err := table.SplitPartitionKey(nil, table.JoinPartitionKey(nil, values))
		if err != nil || len(got) != len(values) {
			t.Fatalf("%d columns became %d: %v", len(values), len(got), err)
		}
		for i := range values {
			if !bytes.Equal(values[i], got[i]) {
				t.Fatalf("column %d of %d bytes became one of %d", i, len(values[i]), len(got[i]))
			}
		}
	}
}

func FuzzSplitPartitionKey(f *testing.F) {
	f.Add(byte(2), []byte("\x00\x01a\x00\x00\x00\x00"))
	f.Add(byte(1), []byte("a"))
	f.Fuzz(func(t *testing.T, columns byte, key []byte) {
		table := keyTable(t, 1+int(columns%4))
		values, err := table.SplitPartitionKey(nil, key)
		if err != nil {
			return
		}
		if joined := table.JoinPartitionKey(nil, values); !bytes.Equal(joined, key) {
			t.Errorf("%x splits into %x and joins to %x", key, values, joined)
		}
	})
}
