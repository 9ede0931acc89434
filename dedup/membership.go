package dedup

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// memberOptions come before those of the user, who may have others.
var memberOptions = []kgo.Opt{
	// A worker that vanishes is missed after this time. One that is merely slow for so long finds its partitions with others, which
	// costs them the opening of the partitions and nothing else. Brokers allow no less than 6 s unless told to.
	kgo.SessionTimeout(10 * time.Second),
	// With its heartbeat a member learns that the group is rebalanced, and the group waits for the last of them: partitions that move are
	// folded by nobody meanwhile.
	kgo.HeartbeatInterval(500 * time.Millisecond),
}

// membership is what the consumer group says that a session owns.
//
// The client's callbacks alone do not tell: the transaction session that wraps them leaves out calls of OnRevoked once
// one was made since the last transaction ended. So the whole assignment is taken from where it is read, the answer to
// SyncGroup, and the callbacks only tell when it takes effect, and which partitions begin anew.
type membership struct {
	topic string
	// changed is called, outside of the lock, after every change; revoked says that something may be lost, so that
	// a transaction under way cannot be committed.
	changed func(revoked bool)

	mu      sync.Mutex
	synced  []int32 // of the last SyncGroup
	current assignment
	fresh   map[int32]bool
}

// assignment is what the group gave in one generation.
type assignment struct {
	// member and generation name the generation. A position committed under another is of another assignment.
	member     string
	generation int32
	owned      map[int32]bool
	// valid is false while the group is between generations.
	valid bool
}

// take returns the assignment, and the partitions that were assigned anew since the last call: what was known of
// them is of a former ownership.
func (m *membership) take() (a assignment, fresh map[int32]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh, m.fresh = m.fresh, nil
	return m.current, fresh
}

// options are those of the client that is the member.
func (m *membership) options() []kgo.Opt {
	return []kgo.Opt{
		kgo.Balancers(observedBalancer{kgo.CooperativeStickyBalancer(), m}),
		kgo.OnPartitionsAssigned(m.assigned),
		kgo.OnPartitionsRevoked(m.revoked),
		kgo.OnPartitionsLost(m.lost),
	}
}

func (m *membership) assigned(_ context.Context, cl *kgo.Client, added map[string][]int32) {
	member, generation := cl.GroupMetadata()
	m.mu.Lock()
	owned := make(map[int32]bool, len(m.synced))
	for _, p := range m.synced {
		owned[p] = true
	}
	m.current = assignment{member: member, generation: generation, owned: owned, valid: true}
	if m.fresh == nil {
		m.fresh = map[int32]bool{}
	}
	for _, p := range added[m.topic] {
		m.fresh[p] = true
	}
	m.mu.Unlock()
	m.changed(false)
}

func (m *membership) revoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	if len(gone[m.topic]) == 0 {
		return
	}
	m.mu.Lock()
	m.current.valid = false
	m.mu.Unlock()
	m.changed(true)
}

func (m *membership) lost(context.Context, *kgo.Client, map[string][]int32) {
	m.mu.Lock()
	m.current = assignment{}
	m.mu.Unlock()
	m.changed(true)
}

// observedBalancer is a balancer whose assignments are noted.
type observedBalancer struct {
	kgo.GroupBalancer
	m *membership
}

func (b observedBalancer) ParseSyncAssignment(encoded []byte) (map[string][]int32, error) {
	all, err := b.GroupBalancer.ParseSyncAssignment(encoded)
	if err == nil {
		b.m.mu.Lock()
		b.m.synced = append([]int32(nil), all[b.m.topic]...)
		b.m.mu.Unlock()
	}
	return all, err
}
