package dedup

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"cassdelta/schema"
)

// TestWatermark: hosts are "name published/appended", in seconds, and silent-after is 600 s.
func TestWatermark(t *testing.T) {
	for _, c := range []struct{ hosts, want string }{
		{"", "no heartbeats"},
		{"a 1000/1001", "940"},
		{"a 1000/1001, b 990/1001, c 1005/1006", "930"},
		{"a 1000/1600, b 1599/1600", "940"},    // a has a backlog, and holds time
		{"a 1000/1000, b 1599/1600", "940"},    // a is not heard of for as long as that is borne,
		{"a 1000/1000, b 1600/1601", "1540 a"}, // and then no longer
		{"a 1000/1000, b 1100/1100, c 1701/1701", "1641 a,b"},
		{"a 1000/1000", "940"},              // when no agent runs none is silent, and time stands
		{"a 1000/5000, b 4999/5000", "940"}, // back, with a backlog: it counts again
		{"a 0/1001, b 1000/1001", "stands"}, // a has just started
		{"a 0/1000, b 1600/1601", "1540 a"},
		{"a 9000/1001, b 9000/1003", "941"}, // a clock is ahead of the brokers'
		{"a 9000/1001, b 990/1001", "930"},
	} {
		hosts := map[schema.UUID]heartbeat{}
		for _, h := range strings.Split(c.hosts, ", ") {
			if name, times, ok := strings.Cut(h, " "); ok {
				published, appended, _ := strings.Cut(times, "/")
				seconds := func(text string) int64 {
					n, err := strconv.ParseInt(text, 10, 64)
					if err != nil {
						t.Fatal(err)
					}
					return n * microseconds
				}
				hosts[schema.UUID{name[0]}] = heartbeat{seconds(published), seconds(appended)}
			}
		}
		w, silent, ok := watermark(hosts, 600*time.Second)
		found := fmt.Sprint(w / microseconds)
		switch {
		case !ok:
			found = "no heartbeats"
		case w == noWatermark:
			found = "stands"
		}
		for i, host := range silent {
			found += map[bool]string{true: " ", false: ","}[i == 0] + string(host[0])
		}
		if found != c.want {
			t.Errorf("%q: found %q, expected %q", c.hosts, found, c.want)
		}
	}
}

// TestWatermarkNeverClaimsTooMuch lets hosts say random things, and stop, and come back: the watermark is behind all that
// the hosts that count have said and behind the brokers' time, and it moves when they move.
func TestWatermarkNeverClaimsTooMuch(t *testing.T) {
	const silentAfter = 30 * time.Second
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		hosts := map[schema.UUID]heartbeat{}
		clock := int64(1_000_000_000_000)
		for range 200 {
			clock += r.Int64N(5 * microseconds)
			host := schema.UUID{byte(r.IntN(4))}
			if r.IntN(4) == int(host[0]) { // each host is now and then silent
				clock += r.Int64N(2 * silentAfter.Microseconds())
			}
			published := clock - r.Int64N(100*microseconds) + 20*microseconds
			if r.IntN(20) == 0 {
				published = 0
			}
			hosts[host] = heartbeat{published, clock}
			w, silent, ok := watermark(hosts, silentAfter)
			if !ok {
				t.Fatalf("seed %d: no heartbeats in %v", seed, hosts)
			}
			if w > clock-tickLateness.Microseconds() {
				t.Fatalf("seed %d: the watermark %d is ahead of the brokers' time %d", seed, w, clock)
			}
			counted := 0
			for id, h := range hosts {
				isSilent := false
				for _, s := range silent {
					isSilent = isSilent || s == id
				}
				if isSilent != (clock-h.appended > silentAfter.Microseconds()) {
					t.Fatalf("seed %d: at %d host %v of %v is silent: %v", seed, clock, id, hosts, isSilent)
				}
				if isSilent {
					continue
				}
				counted++
				if h.published == 0 && w != noWatermark || w > h.published-tickLateness.Microseconds() && h.published != 0 {
					t.Fatalf("seed %d: the watermark %d claims more than %+v", seed, w, h)
				}
			}
			if counted == 0 {
				t.Fatalf("seed %d: no host of %v counts", seed, hosts)
			}
			// When all speak and have caught up, it is what can be.
			all := map[schema.UUID]heartbeat{}
			for id := range hosts {
				all[id] = heartbeat{clock, clock}
			}
			if w, silent, _ := watermark(all, silentAfter); w != clock-tickLateness.Microseconds() || silent != nil {
				t.Fatalf("seed %d: the watermark stays at %d, the time is %d", seed, w, clock)
			}
		}
	}
}
