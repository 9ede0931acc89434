package recorder

import (
	"cassdelta/internal/testparts"
)

// Recordings are all recordings of this repository, in the order of their names.
func Recordings() []Spec {
	return []Spec{
		{
			Name:    "demo",
			About:   "a shop on three nodes: inserts, updates, deletes; a node that was down, hints, a repair",
			Files:   []string{"demo.cql"},
			Cluster: testparts.CassandraOptions{Version: "5.0", Nodes: 3},
		},
	}
}
