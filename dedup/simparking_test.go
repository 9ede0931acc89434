package dedup

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cassdelta/internal/eventcheck"
	"cassdelta/internal/rawtopic"
)

// simParking is what keeps events of tables from being written. Each table has a clean topic of its own. Its methods but heal do
// nothing on nil: no table is refused, and all have one topic.
type simParking struct {
	tables []string

	mu      sync.Mutex
	refused map[string]*simRefusal
}

// simRefusal is one cause: it is outside, or, if fault is not nil, of the brokers.
type simRefusal struct{ fault *kfake.FaultHandle }

func newSimParking(w *world) *simParking {
	p := &simParking{refused: map[string]*simRefusal{}}
	for _, t := range w.tables {
		p.tables = append(p.tables, t.definitions[0].FullName())
	}
	return p
}

// topic is the clean topic of a table.
func (p *simParking) topic(table string) string {
	if p == nil {
		return cleanName
	}
	return cleanName + "." + table
}

// refuses is an error if the events of a table cannot be encoded.
func (p *simParking) refuses(table string) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.refused[table]; r != nil && r.fault == nil {
		return &TableError{Table: table, Err: errors.New("the registry refuses its schema")}
	}
	return nil
}

// set replaces the cause of a table; nil removes it.
func (p *simParking) set(table string, r *simRefusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before := p.refused[table]; before != nil && before.fault != nil {
		before.fault.Remove()
	}
	p.refused[table] = r
}

func (p *simParking) heal() {
	for _, table := range p.tables {
		p.set(table, nil)
	}
}

// cleanTopics are the topics with events.
func (s *simulation) cleanTopics() []string {
	if s.parking == nil {
		return []string{cleanName}
	}
	var topics []string
	for _, table := range s.parking.tables {
		topics = append(topics, s.parking.topic(table))
	}
	return topics
}

// refusing are answers of brokers that will be the same until someone changes something.
var refusing = []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.MessageTooLarge, kerr.PolicyViolation, kerr.InvalidRecord}

// park lets causes come and go, and asks for releases at any time.
func (s *simulation) park() {
	p := s.parking
	for range 1 + s.r.IntN(3) {
		table := p.tables[0] // that most is written to
		if s.r.IntN(2) == 0 {
			table = p.tables[s.r.IntN(len(p.tables))]
		}
		err := refusing[s.r.IntN(len(refusing))]
		switch s.r.IntN(4) {
		case 0:
			s.note("%s cannot be encoded", table)
			p.set(table, &simRefusal{})
		case 1, 2:
			s.note("%s is refused: %v", table, err)
			p.set(table, &simRefusal{s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: p.topic(table), Err: err, Count: -1})})
		case 3:
			s.note("%s can be written", table)
			p.set(table, nil)
		}
	}
	if s.r.IntN(2) == 0 {
		s.release()
	}
}

// release does what cassdelta group release does.
func (s *simulation) release() {
	var all []int32
	for p := range s.partitions {
		all = append(all, p)
	}
	s.note("release: %v", RequestRelease(s.ctx, s.client, groupName, rawName, all...))
}

// merge brings the events of several topics into the order of their raw partitions, in which those of each topic have to be.
func (s *simulation) merge(partitions []eventcheck.Partition) {
	for i := range partitions {
		p := &partitions[i]
		last := map[string]eventcheck.Place{}
		for _, e := range p.Events {
			if before, ok := last[e.Table]; ok && comparePlaces(e.Place, before) <= 0 {
				s.fail("partition %d: in the topic of %s event %s comes after event %s", p.Number, e.Table, e.Place, before)
			}
			last[e.Table] = e.Place
		}
		slices.SortStableFunc(p.Events, func(a, b *eventcheck.Event) int { return comparePlaces(a.Place, b.Place) })
	}
}

func comparePlaces(a, b eventcheck.Place) int {
	return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Index, b.Index))
}

// countParked is how many events were parked.
func (s *simulation) countParked() int {
	name := rawtopic.ParkedTopic(rawName)
	if topics, err := kadm.NewClient(s.client).ListTopics(s.ctx, name); err != nil || !topics.Has(name) {
		return 0
	}
	return len(s.read(name))
}
