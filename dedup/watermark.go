package dedup

import (
	"bytes"
	"math"
	"slices"
	"time"

	"cassdelta/schema"
)

// tickLateness is how far ticks are behind the heartbeats. What a node has written and not flushed is in no heartbeat: so
// this covers the time from one flush to the next, commitlog_sync_period, 10 s unless set. What comes later still is merged as
// ever; it only finds what has expired meanwhile gone.
const tickLateness = time.Minute

// heartbeat is the last one of a host. Both times are in microseconds since 1970.
type heartbeat struct {
	// published is a time at which the host had flushed nothing that is not in the raw topic; 0 if the agent did not know.
	published int64
	// appended is when the brokers took the heartbeat.
	appended int64
}

// watermark is the time that the heartbeats of all hosts allow, in microseconds: the earliest of what they say, less the
// lateness. No host is believed that its clock is ahead of the brokers'. A host does not count if it was not heard of for
// longer than silentAfter before the newest heartbeat of all: so no clock but the brokers' decides, and when no agent
// runs, none is silent and time stands. It is noWatermark while a host that counts does not know; ok is false if no
// heartbeat is known at all. Silent hosts are in order.
func watermark(hosts map[schema.UUID]heartbeat, silentAfter time.Duration) (w int64, silent []schema.UUID, ok bool) {
	newest := int64(math.MinInt64)
	for _, h := range hosts {
		newest = max(newest, h.appended)
	}
	earliest := int64(math.MaxInt64)
	for id, h := range hosts {
		if newest-h.appended > silentAfter.Microseconds() {
			silent = append(silent, id)
			continue
		}
		earliest = min(earliest, h.published, h.appended)
	}
	slices.SortFunc(silent, func(a, b schema.UUID) int { return bytes.Compare(a[:], b[:]) })
	if len(hosts) == 0 || earliest <= 0 {
		return noWatermark, silent, len(hosts) > 0
	}
	return earliest - tickLateness.Microseconds(), silent, true
}
