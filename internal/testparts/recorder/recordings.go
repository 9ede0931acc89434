package recorder

import (
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
			Name:  "types-5.0-v8",
			About: "the same as types-5.0 with version 8 of the commit log",
			Files: []string{"types.cql", "types-5.0.cql", "types-v8.cql", "types-live.cql"},
			Cluster: testparts.CassandraOptions{
				Version:   "5.0",
				ExtraYAML: map[string]any{"storage_compatibility_mode": "NONE"},
			},
		},
		{
			Name:    "crash-5.0",
			About:   "a node is killed in the midst of writes and started again",
			Files:   []string{"crash.cql"},
			Cluster: testparts.CassandraOptions{Version: "5.0"},
		},
	}
}
