package e2e

import "fmt"

// event is one change of one row: as a model expects it, or as it was read from a clean topic.
type event struct {
	row rowID
	// op is c, u, d or r.
	op string
	// before and after are nil where the row does not exist. The deletion of a row that was never seen has an empty
	// before.
	before, after image
	// timestamp is the write time of the change, the newest among what changed the row, in microseconds.
	timestamp int64
	// reason is why, of an event that was read.
	reason string
	// complete is false where the past of the row is not known.
	complete bool
	// cause is the raw record that made the change. The statement model does not know it.
	cause rawPlace
	// partition and offset are the place in the clean topic; index counts the events of one raw record. They are set for
	// events that were read.
	partition int32
	offset    int64
	index     int64
}

// rawPlace is the place of a raw record.
type rawPlace struct {
	partition int32
	offset    int64
}

func (p rawPlace) String() string { return fmt.Sprintf("raw %d/%d", p.partition, p.offset) }

func (e *event) String() string {
	if e == nil {
		return "none"
	}
	return fmt.Sprintf("%s %s at %d by %s: %s -> %s", e.op, e.row, e.timestamp, e.cause, e.before, e.after)
}

// sameChange tells whether two events say the same, wherever they come from.
func (e *event) sameChange(f *event) bool {
	return e.row == f.row && e.op == f.op && e.timestamp == f.timestamp && e.complete == f.complete && e.before.equal(f.before) && e.after.equal(f.after)
}

// change makes the event between two images of a row, nil if the row exists in neither.
func change(row rowID, before, after image, timestamp int64) *event {
	e := &event{row: row, before: before, after: after, timestamp: timestamp}
	switch {
	case before == nil && after == nil:
		return nil
	case before == nil:
		e.op = "c"
	case after == nil:
		e.op = "d"
	default:
		e.op = "u"
	}
	return e
}

// byRow groups events, keeping their order.
func byRow(events []*event) map[rowID][]*event {
	rows := map[rowID][]*event{}
	for _, e := range events {
		rows[e.row] = append(rows[e.row], e)
	}
	return rows
}
