package main

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cassdelta/schema"
)

// fakeNode is as much of a Cassandra node as tells its settings, its schema and who it is, by the native protocol,
// version 4.
type fakeNode struct {
	listener   net.Listener
	host       schema.UUID
	cluster    string
	cdcEnabled string

	mu      sync.Mutex
	tables  []*schema.Table
	version byte // of the schema

	done sync.WaitGroup
}

// startNode starts a node of the cluster "demo" with CDC on.
func startNode(t *testing.T, host schema.UUID, tables ...*schema.Table) *fakeNode {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &fakeNode{listener: l, host: host, cluster: "demo", cdcEnabled: "true", tables: tables, version: 1}
	n.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.done.Go(func() { n.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		n.done.Wait()
	})
	return n
}

func (n *fakeNode) addr() string { return n.listener.Addr().String() }

// Opcodes of the native protocol.
const (
	opError     = 0x00
	opStartup   = 0x01
	opReady     = 0x02
	opOptions   = 0x05
	opSupported = 0x06
	opQuery     = 0x07
	opResult    = 0x08
	opPrepare   = 0x09
	opExecute   = 0x0a
	opRegister  = 0x0b
)

func (n *fakeNode) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	for {
		var header [9]byte // version, flags, stream (2), opcode, length (4)
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(header[5:]))
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		op, answer := n.answer(header[4], body)
		frame := binary.BigEndian.AppendUint32([]byte{0x84, 0, header[2], header[3], op}, uint32(len(answer)))
		if _, err := conn.Write(append(frame, answer...)); err != nil {
			return
		}
	}
}

func (n *fakeNode) answer(op byte, body []byte) (byte, []byte) {
	switch op {
	case opOptions:
		return opSupported, []byte{0, 0}
	case opStartup, opRegister:
		return opReady, nil
	case opQuery, opPrepare:
		query := string(body[4 : 4+binary.BigEndian.Uint32(body)])
		if op == opQuery {
			return n.query(query)
		}
		parameters := strings.Count(query, "?") // all are texts
		b := appendShort(binary.BigEndian.AppendUint32(nil, 4), query)
		b = binary.BigEndian.AppendUint32(b, 1) // of one table
		b = binary.BigEndian.AppendUint32(b, uint32(parameters))
		b = binary.BigEndian.AppendUint32(b, 0) // none of them is a partition key
		b = appendShort(appendShort(b, "k"), "t")
		for range parameters {
			b = append(appendShort(b, "name"), cqlText...)
		}
		b = binary.BigEndian.AppendUint32(b, 0)
		return opResult, binary.BigEndian.AppendUint32(b, 0)
	case opExecute:
		return n.query(string(body[2 : 2+binary.BigEndian.Uint16(body)]))
	}
	return opError, appendShort([]byte{0, 0, 0, 0x0a}, "unexpected request")
}

// Types of columns in the protocol.
const (
	cqlText   = "\x00\x0d"
	cqlInt    = "\x00\x09"
	cqlBigint = "\x00\x02"
	cqlBool   = "\x00\x04"
	cqlUUID   = "\x00\x0c"
	cqlInet   = "\x00\x10"
	cqlTime   = "\x00\x0b"
	cqlTexts  = "\x00\x22\x00\x0d" // set<text>
	cqlList   = "\x00\x20\x00\x0d" // list<text>
)

// query answers by the table and the columns that a query names.
func (n *fakeNode) query(query string) (byte, []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	selected, from, _ := strings.Cut(strings.TrimPrefix(query, "SELECT "), " FROM ")
	from, _, _ = strings.Cut(from, " ")
	var rows []map[string]any
	switch from {
	case "system.local":
		rows = append(rows, map[string]any{
			"cluster_name": n.cluster, "host_id": n.host, "broadcast_address": net.IP{127, 0, 0, 1}, "listen_address": net.IP{127, 0, 0, 1},
			"rpc_address": net.IP{127, 0, 0, 1}, "data_center": "dc1", "rack": "r1", "release_version": "5.0.6", "schema_version": schema.UUID{6: 0x11, 15: n.version},
		})
	case "system_views.settings":
		rows = append(rows, map[string]any{"value": n.cdcEnabled})
	case "system_schema.tables":
		for _, t := range n.tables {
			rows = append(rows, map[string]any{
				"keyspace_name": t.Keyspace, "table_name": t.Name, "id": t.ID, "flags": t.Flags, "cdc": t.CDC, "gc_grace_seconds": t.GCGraceSeconds,
				"WRITETIME(id)": int64(1),
			})
		}
	case "system_schema.columns":
		for _, t := range n.tables {
			for _, c := range t.Columns {
				order, position := "none", int32(c.Position)
				if c.Kind == schema.Clustering {
					order = map[bool]string{false: "asc", true: "desc"}[c.Desc]
				} else if c.Kind != schema.PartitionKey {
					position = -1
				}
				rows = append(rows, map[string]any{
					"keyspace_name": t.Keyspace, "table_name": t.Name, "column_name": c.Name, "position": position, "clustering_order": order,
					"kind": []string{"partition_key", "clustering", "static", "regular"}[c.Kind], "type": c.Type.CQL(), "WRITETIME(type)": int64(1),
				})
			}
		}
	}
	columns := strings.Split(selected, ", ")
	if selected == "*" {
		columns = nil
		for _, row := range rows[:min(1, len(rows))] {
			columns = slices.Sorted(maps.Keys(row))
		}
	}
	b := binary.BigEndian.AppendUint32(nil, 2) // rows
	b = binary.BigEndian.AppendUint32(b, 1)    // of one table
	b = binary.BigEndian.AppendUint32(b, uint32(len(columns)))
	b = appendShort(appendShort(b, "k"), "t")
	for _, c := range columns {
		b = append(appendShort(b, c), columnType(c)...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(rows)))
	for _, row := range rows {
		for _, c := range columns {
			b = appendValue(b, row[c])
		}
	}
	return opResult, b
}

func columnType(name string) string {
	switch name {
	case "id", "host_id", "schema_version":
		return cqlUUID
	case "broadcast_address", "listen_address", "rpc_address", "peer", "preferred_ip", "native_address":
		return cqlInet
	case "flags":
		return cqlTexts
	case "field_names", "field_types":
		return cqlList
	case "cdc":
		return cqlBool
	case "gc_grace_seconds", "position":
		return cqlInt
	case "dropped_time":
		return cqlTime
	}
	if strings.HasPrefix(name, "WRITETIME(") {
		return cqlBigint
	}
	return cqlText
}

// appendValue appends a value with its length.
func appendValue(b []byte, v any) []byte {
	var value []byte
	switch v := v.(type) {
	case nil:
		return binary.BigEndian.AppendUint32(b, 0xffffffff)
	case string:
		value = []byte(v)
	case schema.UUID:
		value = v[:]
	case net.IP:
		value = v
	case bool:
		value = []byte{0}
		if v {
			value[0] = 1
		}
	case int32:
		value = binary.BigEndian.AppendUint32(nil, uint32(v))
	case int64:
		value = binary.BigEndian.AppendUint64(nil, uint64(v))
	case []string:
		value = binary.BigEndian.AppendUint32(nil, uint32(len(v)))
		for _, s := range v {
			value = appendValue(value, s)
		}
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
}

// appendShort appends a text with a length of 2 bytes.
func appendShort(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// TestFakeNode holds that the fake is one that the program can read.
func TestFakeNode(t *testing.T) {
	tables := demoTables(t)
	n := startNode(t, schema.UUID{1}, tables...)
	f := cassandraFlags{ContactPoints: []string{n.addr()}}
	found, err := findNode(t.Context(), &f, testLog(t))
	if err != nil || found != (node{n.host, "demo"}) {
		t.Fatalf("%+v, %v", found, err)
	}
	source, err := f.source(testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	catalog, err := source.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range tables {
		if found := catalog.ByID(want.ID); found == nil || found.Hash() != want.Hash() {
			t.Errorf("%s is read as %+v", want.FullName(), found)
		}
	}
}
