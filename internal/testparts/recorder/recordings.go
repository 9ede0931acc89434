package recorder

import (
	"fmt"
	"strings"
	"time"

	"cassdelta/internal/testparts"
)

// Recordings are all recordings of this repository.
func Recordings() []Spec {
	return []Spec{
		{
			Name:    "demo",
			About:   "a shop on three nodes: inserts, updates, deletes; a node that was down, hints, a repair",
			Files:   []string{"demo.cql"},
			Cluster: testparts.CassandraOptions{Version: "5.0", Nodes: 3},
		},
		{
			Name:    "types-4.0",
			About:   "every native type, every kind of column, every kind of write",
			Files:   []string{"types.cql", "types-live.cql"},
			Cluster: testparts.CassandraOptions{Version: "4.0"},
		},
		{
			Name:    "types-4.1",
			About:   "every native type, every kind of column, every kind of write",
			Files:   []string{"types.cql", "types-live.cql"},
			Cluster: testparts.CassandraOptions{Version: "4.1"},
		},
		{
			Name:    "types-5.0",
			About:   "every native type and vectors, every kind of column, every kind of write",
			Files:   []string{"types.cql", "types-5.0.cql", "types-live.cql"},
			Cluster: testparts.CassandraOptions{Version: "5.0"},
		},
		{
			Name:     "examples-5.0",
			About:    "the statements of dedup/testdata/recorded, each with a mark behind it",
			Examples: "dedup/testdata/recorded",
			Cluster:  testparts.CassandraOptions{Version: "5.0"},
		},
		{
			Name:  "types-5.0-v8",
			About: "the same as types-5.0 with version 8 of the commit log",
			Files: []string{"types.cql", "types-5.0.cql", "types-v8.cql", "types-live.cql"},
			Cluster: testparts.CassandraOptions{
				Version:   "5.0",
				ExtraYAML: map[string]any{"storage_compatibility_mode": "NONE"},
			},
		},
		{
			Name:    "nested-4.0",
			About:   "collections, tuples, user types and counters, in one another, whole and by element",
			Files:   []string{"nested.cql"},
			Cluster: testparts.CassandraOptions{Version: "4.0"},
		},
		{
			Name:    "nested-4.1",
			About:   "collections, tuples, user types and counters, in one another, whole and by element",
			Files:   []string{"nested.cql"},
			Cluster: testparts.CassandraOptions{Version: "4.1"},
		},
		{
			Name:    "nested-5.0",
			About:   "collections, tuples, user types, vectors and counters, in one another, whole and by element",
			Files:   []string{"nested.cql", "nested-5.0.cql"},
			Cluster: testparts.CassandraOptions{Version: "5.0"},
		},
		{
			Name:    "cluster-5.0",
			About:   "two nodes: counters of both as leaders, hints, a repair; types by their class",
			Files:   []string{"cluster.cql"},
			Cluster: testparts.CassandraOptions{Version: "5.0", Nodes: 2},
		},
		{
			Name:    "crash-5.0",
			About:   "a node is killed in the midst of writes and started again",
			Files:   []string{"crash.cql"},
			Cluster: testparts.CassandraOptions{Version: "5.0"},
		},
		{
			Name:    "ddl-4.0",
			About:   "tables are truncated, dropped, created again, altered, captured and not",
			Files:   []string{"ddl-nodes1.cql", "ddl.cql", "ddl-moment1.cql", "ddl-end.cql"},
			Cluster: testparts.CassandraOptions{Version: "4.0"},
		},
		{
			Name:    "ddl-4.1",
			About:   "tables are truncated, dropped, created again, altered, captured and not",
			Files:   []string{"ddl-nodes1.cql", "ddl.cql", "ddl-moment1.cql", "ddl-end.cql"},
			Cluster: testparts.CassandraOptions{Version: "4.1"},
		},
		{
			Name:    "ddl-5.0",
			About:   "tables on three nodes are truncated, dropped, created again, altered, captured and not; one node is away for a while",
			Files:   []string{"ddl-nodes3.cql", "ddl.cql", "ddl-moment3.cql", "ddl-hints.cql", "ddl-end.cql"},
			Cluster: testparts.CassandraOptions{Version: "5.0", Nodes: 3},
		},
		formsRecording("4.0", []form{
			compressed("LZ4Compressor", ""),
			compressed("SnappyCompressor", ""),
			compressed("DeflateCompressor", ""),
			compressed("ZstdCompressor", ""),
			compressed("NoopCompressor", ""),
			encrypted("testing:1", 64),
		}),
		formsRecording("4.1", []form{
			compressed("LZ4Compressor", `{"lz4_compressor_type": "high", "lz4_high_compressor_level": "17"}`),
			compressed("org.apache.cassandra.io.compress.SnappyCompressor", ""),
			compressed("DeflateCompressor", ""),
			compressed("ZstdCompressor", `{"compression_level": "22"}`),
			encrypted("testing:2", 1),
		}),
		formsRecording("5.0", []form{
			compressed("LZ4Compressor", `{"lz4_compressor_type": "fast"}`),
			compressed("SnappyCompressor", ""),
			compressed("DeflateCompressor", ""),
			compressed("ZstdCompressor", `{"compression_level": "-5"}`),
			compressed("NoopCompressor", ""),
			encrypted("testing:1", 4),
		}),
		{
			Name:      "forms-crash-5.0",
			About:     "a node with compressed, then with encrypted segments is killed in the midst of writes and started again",
			Files:     []string{"forms-crash.cql"},
			Forms:     []form{compressed("LZ4Compressor", ""), encrypted("testing:1", 16)},
			FormFiles: []string{"forms-crash-write.cql"},
			Keystore:  true,
			// So that much is written before the kill.
			Cluster: testparts.CassandraOptions{Version: "5.0", SyncPeriod: 50 * time.Millisecond},
		},
	}
}

// form is a way to store commit log segments.
type form struct {
	name string
	// yaml is a JSON object of keys of cassandra.yaml, in which ${keystore} is the path of the recording's keystore.
	yaml string
}

func formsRecording(version string, forms []form) Spec {
	return Spec{
		Name:      "forms-" + version,
		About:     "segments compressed by every compressor, and encrypted ones",
		Files:     []string{"forms.cql"},
		Forms:     forms,
		FormFiles: []string{"forms-write.cql"},
		Keystore:  true,
		Cluster:   testparts.CassandraOptions{Version: version, SyncPeriod: time.Second},
	}
}

// compressed is commitlog_compression with a compressor of that class; parameters is a JSON object or empty.
func compressed(class, parameters string) form {
	if parameters != "" {
		parameters = `, "parameters": [` + parameters + `]`
	}
	name := strings.TrimSuffix(class[strings.LastIndexByte(class, '.')+1:], "Compressor")
	return form{name, fmt.Sprintf(`{"commitlog_compression": [{"class_name": "%s"%s}]}`, class, parameters)}
}

// encrypted is transparent_data_encryption_options with a key of the recording's keystore.
func encrypted(alias string, chunkKiB int) form {
	return form{"encrypted", fmt.Sprintf(`{"commitlog_compression": null, "transparent_data_encryption_options": {"enabled": true,`+
		` "chunk_length_kb": %d, "cipher": "AES/CBC/PKCS5Padding", "key_alias": "%s",`+
		` "key_provider": [{"class_name": "org.apache.cassandra.security.JKSKeyProvider", "parameters": [{"keystore": "${keystore}",`+
		` "store_type": "JCEKS", "keystore_password": "cassandra-store", "key_password": "cassandra-key"}]}]}}`, chunkKiB, alias)}
}
