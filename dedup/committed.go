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
//	cassdelta/1 done=12 topic=3f0c... epochs=1@0;fold=1;retention=2592000 lettered=1
//
// and, while tables are parked,
//
//	parked=ks.t@17,ks.u@9
//
// done is how many events of the record at the offset are in the clean topics; topic is the id of the raw topic, all zeros where the brokers give
// none; epochs are by which settings the records before were folded, as far as it is known: [epoch]; lettered is there if one of the done events
// could not be written, and the record is in the dead-letter topic for it; restored=2000 says that the position was set to that
// of a checkpoint on purpose, when it was at 2000 at most, or recovered. A commit without metadata is one of the
// tools that set offsets: no event of the record is done.
type committed struct {
	state.Position
	// epoch is the leader epoch of the last record read before the position, -1 if unknown: by it a reader
	// notices that the log was cut.
	epoch int32
	topic schema.UUID
	// epochs are the last ones, up to the one that the position is in, as [epochs.text]; empty if they are not known.
	epochs string
	// lettered says that the record at the offset is in the dead-letter topic: one of its events before Done could not be
	// written; or the position was recovered from its dead letter.
	lettered bool
	// restored is 0, or says that the position was set to that of a checkpoint on purpose, or recovered, and that it was not beyond this offset before:
	// state that is ahead of the position is of no use. It is said until the position is there again, as workers start one after the other.
	restored int64
	// parked says which tables are parked, as [parked.text].
	parked string
}

// parkedTables are the tables that are parked at the position.
func (c committed) parkedTables() parked {
	p, err := parseParked(c.parked)
	if err != nil {
		panic(err) // it was checked when it was read
	}
	return p
}

// knownEpochs are the epochs up to the position; none if they are not known.
func (c committed) knownEpochs() epochs {
	if c.epochs == "" {
		return nil
	}
	all, err := parseEpochs(c.epochs)
	if err != nil {
		panic(err) // it was checked when it was read
	}
	return all
}

// metadataMark begins the metadata of a commit, and is the version of its form.
const metadataMark = "cassdelta/1"

// metadata is the text that goes with the offset.
func (c committed) metadata() string {
	b := make([]byte, 0, 128)
	b = append(b, metadataMark...)
	b = append(b, " done="...)
	b = strconv.AppendInt(b, c.Done, 10)
	b = append(b, " topic="...)
	b = hex.AppendEncode(b, c.topic[:])
	if c.epochs != "" {
		b = append(b, " epochs="...)
		b = append(b, c.epochs...)
	}
	if c.lettered {
		b = append(b, " lettered=1"...)
	}
	if c.restored > 0 {
		b = append(b, " restored="...)
		b = strconv.AppendInt(b, c.restored, 10)
	}
	if c.parked != "" {
		b = append(b, " parked="...)
		b = append(b, c.parked...)
	}
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
		case "epochs":
			var all epochs
			if all, err = parseEpochs(value); err != nil {
				return committed{}, fmt.Errorf("the metadata %q of the committed offset %d: %w; run the version of the program that committed it, or give this one a group of its own",
					metadata, offset, err)
			}
			c.epochs = all.text()
		case "lettered":
			c.lettered = value == "1"
		case "topic":
			var id []byte
			if id, err = hex.DecodeString(value); err == nil && len(id) != len(c.topic) {
				err = hex.ErrLength
			}
			copy(c.topic[:], id)
		case "restored":
			c.restored, err = strconv.ParseInt(value, 10, 64)
			if err == nil && c.restored < 0 {
				err = strconv.ErrRange
			}
		case "parked":
			var p parked
			if p, err = parseParked(value); err == nil {
				c.parked = p.text()
			}
		}
		if err != nil {
			return invalid("has no " + name + " that can be read")
		}
		seen[name] = true
	}
	for _, name := range []string{"done", "topic"} {
		if !seen[name] {
			return invalid("has no " + name)
		}
	}
	return c, nil
}
