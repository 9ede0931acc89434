package cqlsource

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"cassdelta/internal/testparts"
	"cassdelta/schema"
)

var update = flag.Bool("update", false, "write the files in testdata anew, by the last node that is tested")

// definitions make tables of every kind. Statements that begin with a version are for it and later ones.
var definitions = []string{
	`CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`,
	`CREATE TYPE k.place (street text, tags frozen<set<text>>)`,
	`CREATE TYPE k.loose (tags set<text>)`,
	`CREATE TYPE k."Person" (home frozen<place>, "Full Name" text)`,
	`ALTER TYPE k.place ADD zip int`,
	`CREATE TABLE k.plain (a int PRIMARY KEY, b text) WITH cdc = true AND gc_grace_seconds = 60`,
	`CREATE TABLE k.uncaptured (a int PRIMARY KEY, b text)`,
	`CREATE TABLE k.key (a int, b text, c timeuuid, d decimal, e inet, s set<int> static, v int, PRIMARY KEY ((b, a), d, c, e))
		WITH CLUSTERING ORDER BY (d DESC, c ASC, e DESC)`,
	`CREATE TABLE k.nested (a frozen<map<int, frozen<loose>>> PRIMARY KEY, p frozen<"Person">, b list<frozen<list<int>>>, c place, d frozen<tuple<int, frozen<place>>>,
		e map<text, frozen<set<blob>>>, f duration, g 'org.apache.cassandra.db.marshal.DynamicCompositeType(a=>Int32Type)')`,
	`CREATE TABLE k.counts (a int, b int, c counter, s counter static, PRIMARY KEY (a, b))`,
	`CREATE TABLE k."QuotedName" ("The ""Key" int PRIMARY KEY, "select" int, "äpfel" int)`,
	`CREATE TABLE k.dropped (a int, b int, c list<int>, d frozen<place>, e text, s int static, PRIMARY KEY (a, b))`,
	`ALTER TABLE k.dropped DROP c`, `ALTER TABLE k.dropped DROP d`, `ALTER TABLE k.dropped DROP e`, `ALTER TABLE k.dropped DROP s`,
	`ALTER TABLE k.dropped ADD e text`, `ALTER TABLE k.dropped ADD z int`,
	`CREATE TABLE k.dropped_one (a int PRIMARY KEY, b int)`, `ALTER TABLE k.dropped_one DROP b`,
	`CREATE TABLE k.renamed (a int, b int, PRIMARY KEY (a, b))`, `ALTER TABLE k.renamed RENAME a TO y AND b TO x`,
	`CREATE TABLE k.compact (a int PRIMARY KEY, b text, column1 int) WITH COMPACT STORAGE`,
	`CREATE TABLE k.compact_counts (a int PRIMARY KEY, b counter) WITH COMPACT STORAGE`,
	`CREATE TABLE k.compact_dense (a int, b int, v text, PRIMARY KEY (a, b)) WITH COMPACT STORAGE`,
	`CREATE TABLE k.compact_key (a int, b int, c int, PRIMARY KEY (a, b, c)) WITH COMPACT STORAGE AND CLUSTERING ORDER BY (b DESC, c ASC)`,
	`CREATE TABLE k.was_compact (a int PRIMARY KEY, b text) WITH COMPACT STORAGE`, `ALTER TABLE k.was_compact DROP COMPACT STORAGE`,
	`CREATE INDEX ON k.plain (b)`,
	`CREATE MATERIALIZED VIEW k.view_of_all AS SELECT * FROM k.plain WHERE a IS NOT NULL AND b IS NOT NULL PRIMARY KEY (b, a)`,
	`CREATE MATERIALIZED VIEW k.view_of_some AS SELECT x, y FROM k.renamed WHERE x IS NOT NULL AND y IS NOT NULL PRIMARY KEY (x, y)
		WITH CLUSTERING ORDER BY (y DESC) AND gc_grace_seconds = 7`,
	`CREATE FUNCTION k.f (x int) RETURNS NULL ON NULL INPUT RETURNS int LANGUAGE java AS $$ return x; /* ; */ $$`,
	`5.0 CREATE TABLE k.vectors (a int PRIMARY KEY, b vector<float, 3>, c vector<frozen<list<text>>, 2>)`,
	`5.0 CREATE TABLE k.masked (a int PRIMARY KEY, b text MASKED WITH DEFAULT, c text MASKED WITH mask_inner(1, null))`,
}

// options turn on what definitions needs.
func options(version string) map[string]any {
	switch version {
	case "4.0":
		return map[string]any{"enable_materialized_views": true, "enable_user_defined_functions": true, "enable_drop_compact_storage": true}
	case "4.1":
		return map[string]any{"materialized_views_enabled": true, "user_defined_functions_enabled": true, "drop_compact_storage_enabled": true}
	}
	return map[string]any{"materialized_views_enabled": true, "user_defined_functions_enabled": true, "drop_compact_storage_enabled": true,
		"dynamic_data_masking_enabled": true}
}

func TestCassandra40(t *testing.T) { testCassandra(t, "4.0", 1) }
func TestCassandra41(t *testing.T) { testCassandra(t, "4.1", 1) }
func TestCassandra50(t *testing.T) { testCassandra(t, "5.0", 2) }

func testCassandra(t *testing.T, version string, nodes int) {
	c := testparts.CassandraForTest(t, testparts.CassandraOptions{Version: version, Nodes: nodes, CDC: true, ExtraYAML: options(version)})
	node := c.Nodes[0]
	session, err := node.Session()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	created := 0
	for _, d := range definitions {
		if d = strings.TrimPrefix(d, version+" "); d[0] >= '0' && d[0] <= '9' {
			continue // for a later version
		}
		run(t, session, d)
		if strings.HasPrefix(d, "CREATE TABLE") || strings.HasPrefix(d, "CREATE MATERIALIZED VIEW") {
			created++
		}
	}
	address := net.JoinHostPort(node.Addr, strconv.Itoa(node.CQLPort))
	log, logged := observer.New(zap.WarnLevel)
	source, err := New(Config{ContactPoints: []string{closed, address}, Timeout: 20 * time.Second}, zap.New(log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)

	t.Run("agrees with DESCRIBE", func(t *testing.T) { agrees(t, source, session, created) })
	t.Run("agrees with its rows as JSON", func(t *testing.T) { agreesWithRows(t, source, session) })
	t.Run("sees changes", func(t *testing.T) { seesChanges(t, source, session) })
	t.Run("knows the nodes", func(t *testing.T) { knowsNodes(t, source, c.Nodes, version) })
	t.Run("reads settings", func(t *testing.T) { readsSettings(t, source) })
	t.Run("leaves nothing open", func(t *testing.T) { leavesNothingOpen(t, address) })
	for _, e := range logged.All() {
		t.Errorf("logged: %s %v", e.Message, e.ContextMap())
	}
}

func run(t *testing.T, session *gocql.Session, statement string) {
	t.Helper()
	if err := session.Query(statement).ExecContext(t.Context()); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func read(t *testing.T, source *Source) *schema.Catalog {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	catalog, err := source.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

func find(t *testing.T, catalog *schema.Catalog, fullName string) *schema.Table {
	t.Helper()
	for _, table := range catalog.Tables() {
		if table.FullName() == fullName {
			return table
		}
	}
	t.Fatalf("there is no table %s", fullName)
	return nil
}

// agrees compares system_schema with what DESCRIBE prints, of as many tables as were created.
func agrees(t *testing.T, source *Source, session *gocql.Session, created int) {
	var text strings.Builder
	iter := session.Query(`DESCRIBE KEYSPACE k WITH INTERNALS`).IterContext(t.Context())
	var keyspace, kind, name, statement string
	for iter.Scan(&keyspace, &kind, &name, &statement) {
		fmt.Fprintln(&text, statement)
	}
	if err := iter.Close(); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/describe.cql", []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	described, err := schema.ParseCQL("describe.cql", text.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	if err := described.MissingIDs(); err != nil {
		t.Error(err)
	}
	catalog := read(t, source)
	count := 0
	for _, table := range catalog.Tables() {
		if table.Keyspace == "k" {
			count++
		}
	}
	if count != created || len(described.Tables) != created {
		t.Errorf("%d tables by CQL, %d in the file, expected %d", count, len(described.Tables), created)
	}
	for _, want := range described.Tables {
		got := catalog.ByID(want.ID)
		if got == nil {
			t.Errorf("%s is in the file only", want.FullName())
			continue
		}
		if got.Hash() != want.Hash() {
			t.Errorf("%s: by CQL\n%s\nin the file\n%s", want.FullName(), got.Definition(), want.Definition())
		}
		if age := time.Since(time.UnixMicro(got.AlteredAt)); age < 0 || age > time.Hour {
			t.Errorf("%s was altered at %d, %s ago", want.FullName(), got.AlteredAt, age)
		}
	}
	find(t, catalog, "system_schema.tables")
}

// agreesWithRows compares the catalog with what ParseRows makes of the same rows, those of all tables of system_schema.
func agreesWithRows(t *testing.T, source *Source, session *gocql.Session) {
	var text strings.Builder
	var tables []string
	iter := session.Query(`SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system_schema'`).IterContext(t.Context())
	for table := ""; iter.Scan(&table); {
		tables = append(tables, table)
	}
	if err := iter.Close(); err != nil || len(tables) < 5 {
		t.Fatalf("%q, %v", tables, err)
	}
	for _, table := range tables {
		iter := session.Query(`SELECT JSON * FROM system_schema.` + table).IterContext(t.Context())
		for row := ""; iter.Scan(&row); {
			fmt.Fprintln(&text, row)
		}
		if err := iter.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		var kept strings.Builder
		for line := range strings.Lines(text.String()) {
			if strings.Contains(line, `"keyspace_name": "k"`) {
				kept.WriteString(line)
			}
		}
		if err := os.WriteFile("testdata/rows.jsonl", []byte(kept.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	parsed, refused, err := ParseRows("rows", text.String())
	if err != nil || len(refused) > 0 {
		t.Fatal(err, refused)
	}
	want := read(t, source)
	if got := schema.NewCatalog(parsed); len(got.Tables()) != len(want.Tables()) {
		t.Errorf("%d tables, expected %d", len(got.Tables()), len(want.Tables()))
	}
	for _, table := range parsed {
		if other := want.ByID(table.ID); other == nil || other.Hash() != table.Hash() || table.AlteredAt != 0 {
			t.Errorf("%s, altered at %d, is not the same by CQL", table.Definition(), table.AlteredAt)
		}
	}
}

func seesChanges(t *testing.T, source *Source, session *gocql.Session) {
	first := read(t, source)
	if again := read(t, source); again != first {
		t.Error("the schema did not change, yet the catalog is another")
	}
	before := find(t, first, "k.plain")
	if before.GCGraceSeconds != 60 || !before.CDC || find(t, first, "k.uncaptured").CDC {
		t.Errorf("options are not read: %s", before.Definition())
	}
	run(t, session, `ALTER TABLE k.uncaptured ADD c place`)
	run(t, session, `ALTER TABLE k.uncaptured WITH cdc = true`)
	second := read(t, source)
	after := find(t, second, "k.uncaptured")
	if _, ok := after.ColumnIndex("c"); !ok || !after.CDC || after.AlteredAt <= find(t, first, "k.uncaptured").AlteredAt {
		t.Errorf("altered at %d: %s", after.AlteredAt, after.Definition())
	}
	if find(t, second, "k.plain").Hash() != before.Hash() {
		t.Error("another table changed")
	}
	run(t, session, `ALTER TYPE k.place ADD country text`)
	third := find(t, read(t, source), "k.uncaptured")
	if third.AlteredAt <= after.AlteredAt || third.Hash() == after.Hash() {
		t.Errorf("a field was added to the type of a column: altered at %d, before that at %d: %s", third.AlteredAt, after.AlteredAt, third.Definition())
	}
	run(t, session, `DROP TABLE k.counts`)
	if read(t, source).ByID(find(t, first, "k.counts").ID) != nil {
		t.Error("a dropped table is still there")
	}
}

func knowsNodes(t *testing.T, source *Source, nodes []*testparts.Node, version string) {
	info, err := source.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Hosts) != len(nodes) || info.Name == "" || !strings.HasPrefix(info.ReleaseVersion, version) {
		t.Fatalf("%+v", info)
	}
	for i, node := range nodes {
		id, err := node.HostID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h := info.Hosts[i] // there are at most two, and the first answered
		if h.ID.String() != id || h.Address != netip.MustParseAddr(node.Addr) || len(h.Addresses) != 1 || h.Addresses[0] != h.Address ||
			h.ReleaseVersion != info.ReleaseVersion || h.DataCenter == "" || h.Rack == "" {
			t.Errorf("%+v, expected host %s at %s", h, id, node.Addr)
		}
	}
}

func readsSettings(t *testing.T, source *Source) {
	for name, want := range map[string]string{"cdc_enabled": "true", "no_such_setting": ""} {
		if got, err := source.Setting(t.Context(), name); err != nil || got != want {
			t.Errorf("%s is %q, %v, expected %q", name, got, err, want)
		}
	}
}

// leavesNothingOpen reads by way of an address that the node does not know as its own.
func leavesNothingOpen(t *testing.T, address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var ends sync.WaitGroup
	var accepted atomic.Int32
	ends.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			node, err := net.Dial("tcp", address)
			if err != nil {
				client.Close()
				t.Error(err)
				continue
			}
			pipe := func(to, from net.Conn) { _, _ = io.Copy(to, from); to.Close(); from.Close() }
			ends.Go(func() { pipe(node, client) })
			ends.Go(func() { pipe(client, node) })
		}
	})
	source := newSource(t, Config{ContactPoints: []string{l.Addr().String()}})
	read(t, source)
	read(t, source)
	l.Close()
	ends.Wait() // for every connection to end, with the source still open
	if n := accepted.Load(); n != 4 {
		t.Errorf("2 calls made %d connections, expected 4", n)
	}
}
