// Package flink has the job of Apache Flink that cassdelta's dedup is compared with.
package flink

import "embed"

// Sources are those of the job, in Java.
//
//go:embed *.java
var Sources embed.FS
