package recorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/errgroup"

	"cassdelta/internal/testparts"
)

// waitTimeout bounds each wait for a condition.
const waitTimeout = 2 * time.Minute

func await(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, last: %w", ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// awaitSchemaAgreement waits until all running nodes have one version of the schema.
func (r *recorder) awaitSchemaAgreement(ctx context.Context) error {
	return await(ctx, func() error {
		versions := map[gocql.UUID]bool{}
		for _, n := range r.cluster.Nodes {
			if !n.Running() {
				continue
			}
			s, err := r.session(n.Name)
			if err != nil {
				return err
			}
			var v gocql.UUID
			if err := s.Query("SELECT schema_version FROM system.local").ScanContext(ctx, &v); err != nil {
				return err
			}
			versions[v] = true
		}
		if len(versions) != 1 {
			return fmt.Errorf("the nodes have %d versions of the schema", len(versions))
		}
		return nil
	})
}

// awaitHints waits until hints for a node were delivered since it was last started and none are left.
func (r *recorder) awaitHints(ctx context.Context, n *testparts.Node) error {
	err := await(ctx, func() error {
		delivered, err := r.deliveredHintFiles(n)
		if err != nil {
			return err
		}
		if delivered <= r.hintFiles[n.Name] {
			return fmt.Errorf("no hints were delivered to %s", n.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.cluster.AwaitHintsDelivered(ctx, r.hostID(n))
}

// deliveredHintFiles counts the files of hints whose delivery to n the other nodes have logged.
func (r *recorder) deliveredHintFiles(n *testparts.Node) (int, error) {
	delivered := 0
	for _, other := range r.cluster.Nodes {
		log, err := os.ReadFile(other.LogPath)
		if err != nil {
			return 0, err
		}
		delivered += strings.Count(string(log), "Finished hinted handoff of file "+r.hostID(n))
	}
	return delivered, nil
}

func (r *recorder) start(ctx context.Context, n *testparts.Node) error {
	var err error
	if r.hintFiles[n.Name], err = r.deliveredHintFiles(n); err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	return r.cluster.AwaitUp(ctx)
}

// awaitSync waits until the commit log of a node was synced with changes of cdc tables in it.
func (r *recorder) awaitSync(ctx context.Context, n *testparts.Node) error {
	before, err := indexState(n)
	if err != nil {
		return err
	}
	return await(ctx, func() error {
		now, err := indexState(n)
		if err == nil && now == before {
			err = fmt.Errorf("the index files of %s have not moved", n.Name)
		}
		return err
	})
}

// repetition is a directive that runs the next statement n times; kill names a node to kill after the given number of
// acknowledgements, or is empty.
type repetition struct {
	n     int
	kill  string
	after int
}

func parseRepetition(verb string, args []string) (*repetition, error) {
	want := map[string]int{"repeat": 1, "burst": 4}[verb]
	if len(args) != want || verb == "burst" && args[1] != "kill" {
		return nil, fmt.Errorf("@%s %s: expected '@repeat N' or '@burst N kill NODE AFTER'", verb, strings.Join(args, " "))
	}
	rep := &repetition{}
	var err error
	if rep.n, err = strconv.Atoi(args[0]); err != nil {
		return nil, fmt.Errorf("@%s: %w", verb, err)
	}
	if verb == "burst" {
		rep.kill = args[2]
		if rep.after, err = strconv.Atoi(args[3]); err != nil {
			return nil, fmt.Errorf("@%s: %w", verb, err)
		}
	}
	return rep, nil
}

// burst runs a statement from many writers and kills a node in their midst.
func (r *recorder) burst(ctx context.Context, s *gocql.Session, cql string, rep repetition) error {
	victim, err := r.node(rep.kill)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var next, acknowledged atomic.Int64
	var g errgroup.Group
	for range 16 {
		g.Go(func() error {
			for {
				i := next.Add(1)
				if i > int64(rep.n) {
					return nil
				}
				q := strings.ReplaceAll(cql, "${i}", strconv.FormatInt(i, 10))
				if err := s.Query(q).Consistency(r.consistency).ExecContext(ctx); err != nil {
					if acknowledged.Load() >= int64(rep.after) {
						return nil
					}
					return fmt.Errorf("%s: %w", q, err)
				}
				if acknowledged.Add(1) == int64(rep.after) {
					victim.Kill()
					cancel()
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	r.dropSession(victim.Name)
	if victim.Running() {
		return errors.New("all statements of the burst were done before the node was killed")
	}
	r.log("%d statements were acknowledged before the kill", acknowledged.Load())
	return nil
}
