package schema

import (
	"encoding/binary"
	"strings"
	"testing"
)

// randomDefinition makes a table of any shape.
func randomDefinition(t *testing.T, seed uint64) *Table {
	r := newRandomTypes(t, seed)
	names := make([]string, 0, len(randomNames))
	for _, i := range r.Perm(len(randomNames)) {
		if randomNames[i] != "" {
			names = append(names, randomNames[i])
		}
	}
	name := func() (n string) { n, names = names[0], names[1:]; return n }
	spec := Table{Keyspace: name(), Name: name(), GCGraceSeconds: r.Int32(), CDC: r.IntN(2) == 0, View: r.IntN(2) == 0, AlteredAt: r.Int64()}
	binary.BigEndian.PutUint64(spec.ID[:], r.Uint64()|1)
	for i := range 1 + r.IntN(2) {
		spec.Columns = append(spec.Columns, Column{Name: name(), Kind: PartitionKey, Position: i, Type: freeze(r.next(3))})
	}
	for i := range r.IntN(3) {
		spec.Columns = append(spec.Columns, Column{Name: name(), Kind: Clustering, Position: i, Type: freeze(r.next(3)), Desc: r.IntN(2) == 0})
	}
	for range r.IntN(5) {
		spec.Columns = append(spec.Columns, Column{Name: name(), Kind: Static + ColumnKind(r.IntN(2)), Type: r.next(3)})
	}
	for range r.IntN(3) {
		spec.Dropped = append(spec.Dropped, DroppedColumn{Name: name(), Kind: Static + ColumnKind(r.IntN(2)), Type: r.next(3), DroppedAt: r.Int64()})
	}
	for _, f := range []string{"dense", "compound", "counter"} {
		if r.IntN(2) == 0 {
			spec.Flags = append(spec.Flags, f)
		}
	}
	r.Shuffle(len(spec.Columns), func(i, j int) { spec.Columns[i], spec.Columns[j] = spec.Columns[j], spec.Columns[i] })
	table, err := NewTable(spec)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	return table
}

func TestParseDefinitionReadsDefinition(t *testing.T) {
	seen := map[Hash]uint64{}
	for seed := uint64(0); seed < 1000; seed++ {
		want := randomDefinition(t, seed)
		got, err := ParseDefinition(want.Definition())
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, want.Definition())
		}
		if got.Hash() != want.Hash() || describe(got) != describe(want) || got.AlteredAt != 0 {
			t.Fatalf("seed %d: %s was read as\n%s", seed, want.Definition(), got.Definition())
		}
		if other, twice := seen[want.Hash()]; twice {
			t.Fatalf("the tables of seeds %d and %d have one hash", other, seed)
		}
		seen[want.Hash()] = seed
	}
}

// Raw records carry definitions by their hash, so neither the text nor the hash of a definition may ever change.
func TestDefinitionIsFixed(t *testing.T) {
	s := mustParseCQL(t, `USE "K"; CREATE TYPE place (zip int, tags set<text>); CREATE TYPE person (home frozen<place>);
		CREATE TABLE t (p int, k timeuuid, s text static, v map<text, frozen<person>>, gone list<int>, PRIMARY KEY (p, k))
		WITH ID = 40f18b90-e7b3-11f1-b54e-310e9af6e4cf AND CLUSTERING ORDER BY (k DESC) AND cdc = true AND gc_grace_seconds = 60;
		ALTER TABLE t DROP gone USING TIMESTAMP 1795489250595000;`)
	const text = `{"v":1,"keyspace":"K","table":"t","id":"40f18b90-e7b3-11f1-b54e-310e9af6e4cf",` +
		`"types":[{"keyspace":"K","name":"place","fields":[{"name":"zip","type":"int"},{"name":"tags","type":"frozen<set<text>>"}]},` +
		`{"keyspace":"K","name":"person","fields":[{"name":"home","type":"frozen<place>"}]}],` +
		`"columns":[{"name":"p","kind":"partition_key","type":"int"},{"name":"k","kind":"clustering","type":"timeuuid","desc":true},` +
		`{"name":"s","kind":"static","type":"text"},{"name":"v","kind":"regular","type":"map<text, frozen<person>>"}],` +
		`"dropped":[{"name":"gone","kind":"regular","type":"list<int>","dropped_at":1795489250595000}],` +
		`"gc_grace_seconds":60,"cdc":true,"flags":["compound"]}`
	const hash = "3f74800eba4c1ed6f9359a97036c6d56"
	if got := string(s.Tables[0].Definition()); got != text {
		t.Errorf("definition\n%s, expected\n%s", got, text)
	}
	if got := s.Tables[0].Hash().String(); got != hash {
		t.Errorf("hash %s, expected %s", got, hash)
	}
}

func TestParseDefinitionErrors(t *testing.T) {
	const table = `{"v":1,"keyspace":"k","table":"t","id":"40f18b90-e7b3-11f1-b54e-310e9af6e4cf","columns":[{"name":"p","kind":"partition_key","type":"int"}],` +
		`"gc_grace_seconds":60,"cdc":true,"flags":["compound"]}`
	if _, err := ParseDefinition([]byte(table)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, new, want string }{
		{table, "", "table definition: EOF"},
		{`"v":1`, `"v":2`, "version 2, expected 1"},
		{`"v":1`, `"v":1,"w":1`, `unknown field "w"`},
		{`"id":"4`, `"id":"`, "expected 8-4-4-4-12 hexadecimal digits"},
		{`"id":"40f18b90-e7b3-11f1-b54e-310e9af6e4cf"`, `"id":"00000000-0000-0000-0000-000000000000"`, "it has no id"},
		{`"keyspace":"k"`, `"keyspace":""`, "it has no name"},
		{`partition_key`, `primary`, `column kind "primary": expected one of partition_key, clustering, static, regular`},
		{`"type":"int"`, `"type":"number"`, `definition of k.t: column p: type "number": unknown type number`},
		{`partition_key`, `regular`, "it has no partition key"},
		{`"columns":[`, `"columns":[{"name":"p","kind":"partition_key","type":"int"},`, "two columns are named p"},
		{`"type":"int"`, `"type":"INT"`, "its text is not in canonical form"},
		{`"flags":`, `"flags" :`, "its text is not in canonical form"},
		{`["compound"]}`, `["compound"]} `, "its text is not in canonical form"},
	} {
		text := strings.Replace(table, test.old, test.new, 1)
		if _, err := ParseDefinition([]byte(text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, expected %s", text, err, test.want)
		}
	}
}

func FuzzParseDefinition(f *testing.F) {
	for file, text := range recordedSchemas(f) {
		s, err := ParseCQL(file, text)
		if err != nil {
			f.Fatal(err)
		}
		for _, table := range s.Tables {
			if len(table.Definition()) < 1500 {
				f.Add(table.Definition())
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		table, err := ParseDefinition(text)
		if err == nil && string(table.Definition()) != string(text) {
			t.Errorf("%q was read as %q", text, table.Definition())
		}
	})
}
