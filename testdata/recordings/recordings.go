// Package recordings holds recordings of real Cassandra nodes, each in a folder that package internal/recording reads.
// Command testparts makes them: go run ./cmd/testparts record NAME.
package recordings

import (
	"embed"
	"io/fs"
)

//go:embed demo
var demo embed.FS

// Demo is the recording named demo, small enough to be part of a program.
func Demo() fs.FS {
	sub, err := fs.Sub(demo, "demo")
	if err != nil {
		// Only a name that is no valid path fails.
		panic(err)
	}
	return sub
}
