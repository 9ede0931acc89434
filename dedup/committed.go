package dedup

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"cassdelta/schema"
	"cassdelta/state"
)

// committed is the position C that the group has committed for a raw partition. Kafka stores its offset as such. The
// rest is in the commit's metadata, a text of these words:
//
//	cassdelta/1 done=12 fold=1 topic=3f0c...
//
// done is how many events of the record at the offset are in the clean topics; fold is the version of the fold that
// made them; topic is the id of the raw topic, all zeros where the brokers give none. A commit without metadata is one of the
// tools that set offsets: no event of the record is done.
type committed struct {
	state.Position
	// epoch is the leader epoch of the last record read before the position, -1 if unknown: by it a reader
	// notices that the log was cut.
	epoch int32
	fold  int32
	topic schema.UUID
}

// metadataMark begins the metadata of a commit, and is the version of its form.
const metadataMark = "cassdelta/1"

// metadata is the text that goes with the offset.
func (c committed) metadata() string {
	b := make([]byte, 0, 80)
	b = append(b, metadataMark...)
	b = append(b, " done="...)
	b = strconv.AppendInt(b, c.Done, 10)
	b = append(b, " fold="...)
	b = strconv.AppendInt(b, int64(c.fold), 10)
	b = append(b, " topic="...)
	b = hex.AppendEncode(b, c.topic[:])
	return string(b)
}

// parseCommitted reads a commit.
func parseCommitted(offset int64, epoch int32, metadata string) (committed, error) {
	c := committed{Position: state.Position{Offset: offset}, epoch: epoch}
	if metadata == "" {
		return c, nil
	}
	invalid := func(what string) (committed, error) {
		return committed{}, fmt.Errorf("the metadata %q of the committed offset %d %s; another program commits in this group: give this one a group of its own",
			metadata, offset, what)
	}
	words := strings.Split(metadata, " ")
	if words[0] != metadataMark {
		return invalid("does not begin with " + metadataMark)
	}
	seen := map[string]bool{}
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "done":
			c.Done, err = strconv.ParseInt(value, 10, 64)
			if err == nil && c.Done < 0 {
				err = strconv.ErrRange
			}
		case "fold":
			var fold int64
			fold, err = strconv.ParseInt(value, 10, 32)
			c.fold = int32(fold)
		case "topic":
			var id []byte
			if id, err = hex.DecodeString(value); err == nil && len(id) != len(c.topic) {
				err = hex.ErrLength
			}
			copy(c.topic[:], id)
		}
		if err != nil {
			return invalid("has no " + name + " that can be read")
		}
		seen[name] = true
	}
	for _, name := range []string{"done", "fold", "topic"} {
		if !seen[name] {
			return invalid("has no " + name)
		}
	}
	return c, nil
}
