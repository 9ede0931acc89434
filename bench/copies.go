package bench

import (
	"cmp"
	"container/heap"
)

// Replicas is how many copies of each mutation there are.
const Replicas = 3

// Delay draws how much later than the first the other copies of a mutation come.
type Delay uint64

// The delays of the copies of each kind of mutations.
const (
	InsertDelay Delay = 2001
	UpdateDelay Delay = 2002
	ZipfDelay   Delay = 2003
)

// Copies calls each with the copies of n mutations as three replicas send them: the first, of replica 0, at once, the others
// 10 to 5,000 copies later, and a few more when several would come at once. The mutation is valid during the call.
func Copies(m *Mutations, n int, d Delay, each func(m *Mutation, replica int) error) error {
	var late lateCopies
	var free []*sent
	draw := rng{uint64(d)}
	order := 0
	for at := 0; n > 0 || len(late) > 0; at++ {
		if len(late) > 0 && (late[0].due <= at || n == 0) {
			c := heap.Pop(&late).(lateCopy)
			if err := each(&c.of.Mutation, c.replica); err != nil {
				return err
			}
			if c.of.left--; c.of.left == 0 {
				free = append(free, c.of)
			}
			continue
		}
		n--
		of := &sent{}
		if last := len(free) - 1; last >= 0 {
			of, free = free[last], free[:last]
		}
		m.Next(&of.Mutation)
		if err := each(&of.Mutation, 0); err != nil {
			return err
		}
		of.left = Replicas - 1
		for replica := 1; replica < Replicas; replica++ {
			heap.Push(&late, lateCopy{due: at + 10 + int(draw.below(4991)), order: order, of: of, replica: replica})
			order++
		}
	}
	return nil
}

// sent is a mutation of which copies are to come.
type sent struct {
	Mutation
	left int
}

// lateCopy is a copy that is to come as number due.
type lateCopy struct {
	due, order int
	of         *sent
	replica    int
}

// lateCopies is a heap.
type lateCopies []lateCopy

func (h lateCopies) Len() int      { return len(h) }
func (h lateCopies) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h lateCopies) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].due, h[j].due), cmp.Compare(h[i].order, h[j].order)) < 0
}
func (h *lateCopies) Push(c any) { *h = append(*h, c.(lateCopy)) }
func (h *lateCopies) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
