package schema

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// recordedSchemas are what DESCRIBE KEYSPACE ... WITH INTERNALS printed on Cassandra 4.0, 4.1 and 5.0, by path.
func recordedSchemas(t testing.TB) map[string]string {
	files, err := filepath.Glob("../testdata/recordings/*/schema.cql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded schema was found: %v", err)
	}
	texts := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(text)
	}
	return texts
}

func mustParseCQL(t *testing.T, text string) *CQLSchema {
	t.Helper()
	s, err := ParseCQL("schema.cql", text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// describe is the columns and flags of a table in short: partition key | clustering | static | regular | flags.
func describe(t *Table) string {
	part := func(columns []Column) string {
		var all []string
		for _, c := range columns {
			s := c.Name + " " + c.Type.CQL()
			if c.Desc {
				s += " desc"
			}
			all = append(all, s)
		}
		return strings.Join(all, ", ")
	}
	return strings.Join([]string{part(t.PartitionKeyColumns()), part(t.ClusteringColumns()), part(t.StaticColumns()),
		part(t.RegularColumns()), strings.Join(t.Flags, ",")}, " | ")
}

func TestParseCQLReadsRecordedSchemas(t *testing.T) {
	for file, text := range recordedSchemas(t) {
		s, err := ParseCQL(file, text)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if err := s.MissingIDs(); err != nil {
			t.Error(err)
		}
		if got, want := len(s.Tables), strings.Count(text, "CREATE TABLE"); got != want || want == 0 {
			t.Errorf("%s: %d tables, expected %d", file, got, want)
		}
		if got := len(s.Catalog().Tables()); got != len(s.Tables) {
			t.Errorf("%s: %d tables in the catalog, expected %d", file, got, len(s.Tables))
		}
	}
}

func TestParseCQLReadsDroppedColumns(t *testing.T) {
	s := mustParseCQL(t, recordedSchemas(t)["../testdata/recordings/types-5.0/schema.cql"])
	i := slices.IndexFunc(s.Tables, func(t *Table) bool { return t.Name == "dropped" })
	table := s.Tables[i]
	if got, want := describe(table), "p int |  |  | again text, kept text, later bigint | compound"; got != want {
		t.Errorf("columns %s, expected %s", got, want)
	}
	var got []string
	for _, d := range table.Dropped {
		got = append(got, fmt.Sprint(d.Name, " ", d.Kind, " ", d.Type.CQL(), " ", d.DroppedAt))
	}
	want := []string{"again regular text 1795489250451000", "gone regular int 1795489250530000", "s regular set<int> 1795489250595000"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("dropped %q, expected %q", got, want)
	}
}

// The node that drops a column knows the time to the microsecond, system_schema to the millisecond.
func TestParseCQLCutsDropTimes(t *testing.T) {
	for at, want := range map[string]int64{"1795522102720001": 1795522102720000, "1795522102720000": 1795522102720000, "999": 0, "-1999": -1000} {
		s := mustParseCQL(t, `CREATE TABLE k.t (a int PRIMARY KEY, b int) WITH ID = 40f18b90-e7b3-11f1-b54e-310e9af6e4cf; ALTER TABLE k.t DROP b USING TIMESTAMP `+at)
		if got := s.Tables[0].Dropped[0].DroppedAt; got != want {
			t.Errorf("%s: %d, expected %d", at, got, want)
		}
	}
}

func TestParseCQLTable(t *testing.T) {
	const id = " WITH ID = 40f18b90-e7b3-11f1-b54e-310e9af6e4cf"
	for _, test := range []struct{ name, text, want string }{
		{"inline key", `CREATE TABLE k.t (a int PRIMARY KEY, b text)` + id, "a int |  |  | b text | compound"},
		{"key of one", `CREATE TABLE k.t (a int, b text, PRIMARY KEY (a))` + id, "a int |  |  | b text | compound"},
		{"composite key", `CREATE TABLE k.t (c int, b int, a int, d int, s text STATIC, PRIMARY KEY ((b, a), d, c))` + id +
			` AND CLUSTERING ORDER BY (d DESC, c ASC)`, "b int, a int | d int desc, c int | s text |  | compound"},
		{"order of the first only", `CREATE TABLE k.t (a int, b int, c int, PRIMARY KEY (a, b, c))` + id +
			` AND CLUSTERING ORDER BY (b DESC)`, "a int | b int desc, c int |  |  | compound"},
		{"if not exists", `create table if not exists k.t (a int primary key)` + id, "a int |  |  |  | compound"},
		{"use", `USE k; CREATE TABLE t (a int PRIMARY KEY)` + id, "a int |  |  |  | compound"},
		{"quoted names", `CREATE TABLE "k"."t" ("A ""b""" int PRIMARY KEY, "primary" int, clustering int)` + id,
			`A "b" int |  |  | clustering int, primary int | compound`},
		{"masked", `CREATE TABLE k.t (a int MASKED WITH DEFAULT PRIMARY KEY, b text MASKED WITH mask_inner(1, null), c int)` + id,
			"a int |  |  | b text, c int | compound"},
		{"types", `CREATE TYPE k.u (x int, "Y" list<int>); CREATE TYPE IF NOT EXISTS k.u (z int);
			CREATE TABLE k.t (a frozen<u> PRIMARY KEY, b map<text,frozen<list<frozen<k.u>>>>, c vector < float , 3 >, d u, e 'org.example.T')` + id,
			"a frozen<u> |  |  | b map<text, frozen<list<frozen<u>>>>, c vector<float, 3>, d u, e 'org.example.T' | compound"},
		{"counter", `CREATE TABLE k.t (a int PRIMARY KEY, b counter)` + id, "a int |  |  | b counter | compound,counter"},
		{"compact without clustering", `CREATE TABLE k.t (a int PRIMARY KEY, column1 text, value int)` + id + ` AND COMPACT STORAGE`,
			"a int | column2 text | column1 text, value int | value1 blob | "},
		{"compact without clustering, described", `CREATE TABLE k.t (a int PRIMARY KEY, b text)` + id +
			` AND CLUSTERING ORDER BY (column1 ASC) AND COMPACT STORAGE`, "a int | column1 text | b text | value blob | "},
		{"compact in a comment", "/*\nWarning: Table k.t omitted because ...\n\nCREATE TABLE k.t (\n a int,\n PRIMARY KEY (a)\n) WITH COMPACT STORAGE\n" +
			" AND ID = 40f18b90-e7b3-11f1-b54e-310e9af6e4cf AND comment = '*/';\n*/\n/*\nWarning: Table system_views.x is ...\n\nVIRTUAL TABLE x */",
			"a int | column1 text |  | value blob | "},
		{"compact counter", `CREATE TABLE k.t (a int PRIMARY KEY, b counter)` + id + ` AND COMPACT STORAGE`,
			"a int | column1 text | b counter | value counter | counter"},
		{"compact with clustering", `CREATE TABLE k.t (a int, b int, c int, PRIMARY KEY (a, b))` + id + ` AND COMPACT STORAGE`,
			"a int | b int |  | c int | dense"},
		{"compact with key only", `CREATE TABLE k.t (a int, b int, PRIMARY KEY (a, b))` + id + ` AND COMPACT STORAGE`,
			"a int | b int |  | value empty | dense"},
		{"compact with two clustering", `CREATE TABLE k.t (a int, b int, c int, d int, PRIMARY KEY (a, b, c))` + id + ` AND COMPACT STORAGE`,
			"a int | b int, c int |  | d int | compound,dense"},
		{"added", `CREATE TABLE k.t (a int, b int, PRIMARY KEY (a, b))` + id + `; ALTER TABLE k.t ADD c text; ALTER TABLE k.t ADD (d int, e int static);
			ALTER TABLE k.t ADD f int, g int`, "a int | b int | e int | c text, d int, f int, g int | compound"},
		{"dropped and added", `CREATE TABLE k.t (a int PRIMARY KEY, b int, c int)` + id + `;
			ALTER TABLE k.t DROP (b, c) USING TIMESTAMP 5; ALTER TABLE k.t ADD b text`, "a int |  |  | b text | compound"},
		{"everything skipped", `
			-- a comment; CREATE TABLE x
			// another
			/* CREATE TABLE ( ; */
			CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy'} AND durable_writes = true;
			CREATE FUNCTION k.f (x int) RETURNS NULL ON NULL INPUT RETURNS int LANGUAGE java AS $$ return 1; /* CREATE TABLE */ $$;
			CREATE OR REPLACE AGGREGATE k.g (int) SFUNC f STYPE int; CREATE CUSTOM INDEX i ON k.t (v) USING 'a;b''c';
			CREATE ROLE "a;b"; GRANT SELECT ON k.t TO r;
			BEGIN BATCH INSERT INTO k.t (a, b) VALUES (0xcafe, 'it''s; 1'); APPLY BATCH; ;
			ALTER KEYSPACE k WITH durable_writes = false;
			CREATE TABLE k.t (a int PRIMARY KEY)` + id + ` ; CREATE INDEX ON k.t (a)`, "a int |  |  |  | compound"},
	} {
		s, err := ParseCQL("schema.cql", test.text)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if len(s.Tables) != 1 || s.Tables[0].FullName() != "k.t" {
			t.Errorf("%s: tables %v, expected k.t alone", test.name, s.Tables)
			continue
		}
		if got := describe(s.Tables[0]); got != test.want {
			t.Errorf("%s:\n %s, expected\n %s", test.name, got, test.want)
		}
	}
}

func TestParseCQLOptions(t *testing.T) {
	const table = "CREATE TABLE k.t (a int PRIMARY KEY) WITH ID = '40F18B90-E7B3-11F1-B54E-310E9AF6E4CF' AND "
	const id = "40f18b90-e7b3-11f1-b54e-310e9af6e4cf"
	for _, test := range []struct {
		options string
		cdc     bool
		grace   int32
	}{
		{"comment = ''", false, 864000},
		{"cdc = true", true, 864000},
		{"CDC = 'YES' AND cdc = true AND gc_grace_seconds = 0", true, 0},
		{"cdc = false AND gc_grace_seconds = '60'", false, 60},
		{"gc_grace_seconds = 1 AND extensions = {'a}': 0x01, 'm': {'x': {1}}} AND comment = 'AND cdc = true;'", false, 1},
		{"bloom_filter_fp_chance = 1.0E-4 AND crc_check_chance = 0.5 AND a = -1 AND b = +2.5e+7 AND c = null AND gc_grace_seconds = 2", false, 2},
		{"gc_grace_seconds = 1; ALTER TABLE k.t WITH gc_grace_seconds = 7 AND cdc = true", true, 7},
	} {
		s, err := ParseCQL("schema.cql", table+test.options)
		if err != nil {
			t.Errorf("%s: %v", test.options, err)
			continue
		}
		got := s.Tables[0]
		if got.CDC != test.cdc || got.GCGraceSeconds != test.grace || got.ID.String() != id || got.View || got.AlteredAt != 0 {
			t.Errorf("%s: %+v", test.options, got)
		}
	}
}

func TestParseCQLView(t *testing.T) {
	const base = `CREATE TABLE k.t (a int, b int, c text, d text, PRIMARY KEY (a, b)) WITH ID = 40f18b90-e7b3-11f1-b54e-310e9af6e4cf;`
	const with = ` WITH ID = 50f18b90-e7b3-11f1-b54e-310e9af6e4cf AND CLUSTERING ORDER BY (a DESC, b ASC) AND gc_grace_seconds = 9;`
	for text, want := range map[string]string{
		`CREATE MATERIALIZED VIEW k.v AS SELECT * FROM k.t WHERE c IS NOT NULL AND a > 0 PRIMARY KEY (c, a, b)` + with + `ALTER TABLE k.t ADD e int;`: "c text | a int desc, b int |  | d text, e int | compound",
		`CREATE MATERIALIZED VIEW IF NOT EXISTS k.v AS SELECT a, c, b FROM k.t WHERE c = 'PRIMARY KEY (' PRIMARY KEY ((c), a, b)` + with:              "c text | a int desc, b int |  |  | compound",
	} {
		s := mustParseCQL(t, base+text)
		if len(s.Tables) != 2 || s.Tables[0].View || !s.Tables[1].View {
			t.Fatalf("%s: tables %v", text, s.Tables)
		}
		if got := describe(s.Tables[1]); got != want || s.Tables[1].GCGraceSeconds != 9 || s.Tables[1].FullName() != "k.v" {
			t.Errorf("%s:\n %s, expected\n %s", text, got, want)
		}
	}
}

func TestParseCQLWithoutIDs(t *testing.T) {
	s := mustParseCQL(t, `CREATE KEYSPACE k WITH replication = {};
CREATE TABLE k.a (a int PRIMARY KEY);
CREATE TABLE k."B" (a int PRIMARY KEY) WITH ID = 40f18b90-e7b3-11f1-b54e-310e9af6e4cf;`)
	if len(s.Tables) != 1 || s.Tables[0].Name != "B" || !reflect.DeepEqual(s.Keyspaces, []string{"k"}) {
		t.Errorf("tables %v of keyspaces %v", s.Tables, s.Keyspaces)
	}
	const want = "schema.cql:2: table k.a: expected WITH ID = ..., found none: take the file from DESCRIBE KEYSPACE k WITH INTERNALS"
	if err := s.MissingIDs(); err == nil || err.Error() != want {
		t.Errorf("%v, expected %s", err, want)
	}
}

func TestParseCQLErrors(t *testing.T) {
	const id = " WITH ID = 40f18b90-e7b3-11f1-b54e-310e9af6e4cf"
	const table = "CREATE TABLE k.t (a int PRIMARY KEY, b int)" + id + ";\n"
	for text, want := range map[string]string{
		"\n\nhello":                            `schema.cql:3: expected a CQL statement such as CREATE TABLE, found "hello"`,
		"'CREATE'":                             `schema.cql:1: expected a CQL statement such as CREATE TABLE, found "'CREATE'"`,
		strings.Repeat("é", 60):                `schema.cql:1: expected a CQL statement such as CREATE TABLE, found "é"`,
		"/* \n":                                "schema.cql:1: the comment that begins here has no end: expected */",
		"\n-- x\nINSERT 'x":                    "schema.cql:3: the text that begins here with ' has no end",
		"CREATE FUNCTION $$ $":                 "schema.cql:1: the text that begins here with $$ has no end",
		`USE "k`:                               `schema.cql:1: the text that begins here with " has no end`,
		"USE":                                  "schema.cql:1: expected the name of a keyspace, found the end of the file",
		`USE ""`:                               `schema.cql:1: expected the name of a keyspace, found "\"\""`,
		"CREATE TABLE t (":                     "schema.cql:1: expected keyspace.name, found t and no USE before it",
		"CREATE TABLE k.t":                     `schema.cql:1: expected (, found the end of the file`,
		"CREATE TABLE k.t (a":                  "schema.cql:1: expected a type, found the end of the file",
		"CREATE TABLE k.t (a int b":            `schema.cql:1: expected "," or ")" behind column a, found "b"`,
		"CREATE TABLE k.t (a int, )":           `schema.cql:1: expected the name of a column, found ")"`,
		"CREATE TABLE k.t (\na\nint)":          "schema.cql:1: table k.t: expected a PRIMARY KEY, found none",
		"CREATE TABLE k.t (\na map<int,\nint;": `schema.cql:3: expected ">", found ";"`,
		"CREATE TABLE k.t (\na unknown)":       `schema.cql:2: type "unknown": unknown type unknown`,
		"CREATE TABLE k.t (a int, a int)":      "schema.cql:1: two columns of table k.t are named a",
		"CREATE TABLE k.t (a int PRIMARY KEY, PRIMARY KEY (a))":                                 "schema.cql:1: table k.t has two PRIMARY KEYs",
		"CREATE TABLE k.t (a int, PRIMARY KEY (a, b))":                                          "schema.cql:1: table k.t: column b of the PRIMARY KEY is not defined",
		"CREATE TABLE k.t (a int, PRIMARY KEY (a, a))":                                          "schema.cql:1: table k.t: column a stands twice in the PRIMARY KEY",
		"CREATE TABLE k.t (a int static primary key)":                                           "schema.cql:1: table k.t: column a is static and part of the PRIMARY KEY",
		"CREATE TABLE k.t (a list<int> PRIMARY KEY)" + id:                                       "schema.cql:1: table k.t: column a is part of the primary key, its type list<int> must be frozen",
		"CREATE TABLE k.t (a int PRIMARY KEY) WITH ID = 5":                                      `schema.cql:1: expected the table's id, a UUID, found "5"`,
		"CREATE TABLE k.t (a int PRIMARY KEY) WITH ID = '5'":                                    `schema.cql:1: table id: uuid "5": expected 8-4-4-4-12 hexadecimal digits`,
		"CREATE TABLE k.t (a int PRIMARY KEY) WITH cdc = maybe":                                 `schema.cql:1: expected cdc, true or false, found "maybe"`,
		"CREATE TABLE k.t (a int PRIMARY KEY) WITH gc_grace_seconds = -1":                       `schema.cql:1: expected gc_grace_seconds, a number from 0 to 2147483647, found "-"`,
		"CREATE TABLE k.t (a int PRIMARY KEY) WITH a = {'b': {}":                                `schema.cql:1: expected "}", found the end of the file`,
		"CREATE TABLE k.t (a int PRIMARY KEY) WITH a = ;":                                       `schema.cql:1: expected the value of the option, found ";"`,
		"CREATE TABLE k.t (a int PRIMARY KEY) WITH a = 1 b":                                     `schema.cql:1: expected AND or ";", found "b"`,
		"CREATE TABLE k.t (a int PRIMARY KEY) b":                                                `schema.cql:1: expected ;, found "b"`,
		"CREATE TABLE k.t (a int, b int, PRIMARY KEY (a, b)) WITH CLUSTERING ORDER BY (a DESC)": "schema.cql:1: table k.t: CLUSTERING ORDER BY has a as column 1, expected the clustering columns in their order",
		table + strings.ReplaceAll(table, "k.t", "k.u"):                                         "schema.cql:2: table k.u has the ID 40f18b90-e7b3-11f1-b54e-310e9af6e4cf, which table k.t at line 1 has too",
		table + table:                                                                "schema.cql:2: table k.t is created twice, first at line 1",
		table + "ALTER TABLE k.u ADD x int":                                          "schema.cql:2: ALTER TABLE k.u: no table of this name is created before it",
		table + "ALTER TABLE k.t RENAME a TO b":                                      `schema.cql:2: expected ADD, DROP or WITH, found "RENAME"`,
		table + "ALTER TABLE k.t ADD b int":                                          "schema.cql:2: two columns of table k.t are named b",
		table + "ALTER TABLE k.t DROP b":                                             "schema.cql:2: expected USING, found the end of the file",
		table + "ALTER TABLE k.t DROP a USING TIMESTAMP 1":                           "schema.cql:2: ALTER TABLE k.t DROP a: no static or regular column of this name is defined before it",
		table + "ALTER TABLE k.t DROP b USING TIMESTAMP x":                           `schema.cql:2: expected the time of the drop in microseconds, found "x"`,
		table + "DROP TABLE k.t":                                                     "schema.cql:2: expected definitions only, found DROP TABLE: take what DESCRIBE KEYSPACE ... WITH INTERNALS prints",
		"ALTER TYPE k.u ADD x int":                                                   "schema.cql:1: expected definitions only, found ALTER TYPE: take what DESCRIBE KEYSPACE ... WITH INTERNALS prints",
		"CREATE TYPE k.u (a int, a int)":                                             "schema.cql:1: two fields of type k.u are named a",
		"CREATE TYPE k.u (a int); CREATE TYPE k.u (b int)":                           "schema.cql:1: type k.u is created twice",
		"CREATE MATERIALIZED VIEW k.v AS SELECT * FROM k.t WHERE a = 1":              "schema.cql:1: materialized view k.v: its table k.t is not defined before it",
		table + "CREATE MATERIALIZED VIEW k.v AS SELECT * FROM k.t;":                 `schema.cql:2: expected the PRIMARY KEY of the view, found ";"`,
		table + "CREATE MATERIALIZED VIEW k.v AS SELECT * FROM k.t PRIMARY KEY (x);": "schema.cql:2: table k.v: column x of the PRIMARY KEY is not selected",
		table + "CREATE MATERIALIZED VIEW k.v AS SELECT x FROM k.t PRIMARY KEY (a);": "schema.cql:2: table k.v: column x is not one of k.t",
	} {
		_, err := ParseCQL("schema.cql", text)
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n %v, expected\n %s", text, err, want)
		}
	}
}

func FuzzParseCQL(f *testing.F) {
	for _, text := range recordedSchemas(f) {
		f.Add(text[:min(len(text), 3000)])
	}
	f.Add(`USE k; CREATE TYPE u (a int); CREATE TABLE t (a int, b u static, PRIMARY KEY ((a), c), c 'x') WITH COMPACT STORAGE AND ID='40f18b90-e7b3-11f1-b54e-310e9af6e4cf'`)
	f.Add(`CREATE MATERIALIZED VIEW k.v AS SELECT a, b FROM k.t WHERE a = $$x$$ PRIMARY KEY (a) WITH cdc = true; ALTER TABLE k.t DROP a USING TIMESTAMP -5`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseCQL("f", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("error without a line: %v", err)
			}
			return
		}
		for _, table := range s.Tables {
			again, err := ParseDefinition(table.Definition())
			if err != nil || again.Hash() != table.Hash() {
				t.Errorf("the definition of %s is not read back: %v\n%s", table.FullName(), err, table.Definition())
			}
		}
	})
}
