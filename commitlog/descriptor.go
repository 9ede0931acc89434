package commitlog

import (
	"fmt"
	"regexp"
	"strconv"
)

// Version is a commit log version: the first number of a segment's name and the first field of its header.
// It is not the product version: Cassandra 5.0 writes version 7 unless told otherwise.
type Version int32

const (
	// Version30 is written by Cassandra 3.0 and 3.11.
	Version30 Version = 6
	// Version40 is written by Cassandra 4.0 and 4.1, and by 5.0 with storage_compatibility_mode CASSANDRA_4.
	Version40 Version = 7
	// Version50 is written by Cassandra 5.0 with storage_compatibility_mode UPGRADING or NONE.
	Version50 Version = 8
)

// Supported reports whether this package reads the version.
func (v Version) Supported() bool { return v >= Version30 && v <= Version50 }

var (
	segmentName = regexp.MustCompile(`^CommitLog-(\d+)-(\d+)\.log$`)
	indexName   = regexp.MustCompile(`^CommitLog-(\d+)-(\d+)_cdc\.idx$`)
)

// SegmentName is the file name of a segment.
func SegmentName(v Version, id int64) string { return fmt.Sprintf("CommitLog-%d-%d.log", v, id) }

// IndexName is the file name of a segment's CDC index.
func IndexName(v Version, id int64) string { return fmt.Sprintf("CommitLog-%d-%d_cdc.idx", v, id) }

// ParseSegmentName takes the name (without directory) of a segment apart; ok is false for any other file.
func ParseSegmentName(name string) (v Version, id int64, ok bool) { return parseName(segmentName, name) }

// ParseIndexName takes the name (without directory) of a CDC index apart; ok is false for any other file.
func ParseIndexName(name string) (v Version, id int64, ok bool) { return parseName(indexName, name) }

func parseName(re *regexp.Regexp, name string) (Version, int64, bool) {
	m := re.FindStringSubmatch(name)
	if m == nil {
		return 0, 0, false
	}
	v, err := strconv.ParseInt(m[1], 10, 32)
	if err != nil {
		return 0, 0, false
	}
	id, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil {
		return 0, 0, false
	}
	return Version(v), id, true
}
