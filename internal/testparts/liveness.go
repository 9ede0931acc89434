package testparts

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/errgroup"
)

// liveTimeout bounds the waits below: failure detection, and hints, which are looked for every 10 s.
const liveTimeout = 2 * time.Minute

// seesPeers asks for a read that every node must answer. system_distributed has replication factor 3 whatever the
// size of the cluster; in a smaller one the node's list of peers has to do.
func (n *Node) seesPeers(ctx context.Context, s *gocql.Session) error {
	if n.peers+1 >= 3 {
		const q = `SELECT status FROM system_distributed.view_build_status WHERE keyspace_name = 'x' AND view_name = 'x'`
		err := s.Query(q).Consistency(gocql.All).ScanContext(ctx, nil)
		if err != nil && !errors.Is(err, gocql.ErrNotFound) {
			return fmt.Errorf("read at ALL from %s: %w", n.Name, err)
		}
	}
	var peers int
	if err := s.Query("SELECT count(*) FROM system.peers_v2").ScanContext(ctx, &peers); err != nil {
		return fmt.Errorf("peers of %s: %w", n.Name, err)
	}
	if peers < n.peers {
		return fmt.Errorf("%s sees %d of %d peers", n.Name, peers, n.peers)
	}
	return nil
}

// AwaitUp returns when every running node sees all nodes of the cluster as alive.
func (c *Cassandra) AwaitUp(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		if n.Running() {
			g.Go(func() error { return n.awaitReady(ctx) })
		}
	}
	return g.Wait()
}

// AwaitDown returns when every running node knows that n is down, so that it writes hints for n at once instead of
// after a time-out.
func (c *Cassandra) AwaitDown(ctx context.Context, n *Node) error {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	for _, other := range c.Nodes {
		if other == n || !other.Running() {
			continue
		}
		err := poll(ctx, 200*time.Millisecond, func() error {
			status, err := other.Nodetool(ctx, "status")
			if err != nil {
				return err
			}
			for line := range strings.Lines(status) {
				f := strings.Fields(line)
				if len(f) > 1 && f[0] == "DN" && f[1] == n.Addr {
					return nil
				}
			}
			return fmt.Errorf("nodetool status of %s does not show %s as DN:\n%s", other.Name, n.Addr, status)
		})
		if err != nil {
			return fmt.Errorf("%s is not seen as down: %w", n.Name, err)
		}
	}
	return nil
}

// HintFiles lists the files with hints that other nodes keep for the node with this host id.
func (c *Cassandra) HintFiles(hostID string) ([]string, error) {
	var files []string
	for _, n := range c.Nodes {
		found, err := filepath.Glob(filepath.Join(n.HintsDir(), hostID+"-*.hints"))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// AwaitHintsDelivered returns when no node keeps hints for the node with this host id: Cassandra removes a file of
// hints when all of them are delivered.
func (c *Cassandra) AwaitHintsDelivered(ctx context.Context, hostID string) error {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	return poll(ctx, 100*time.Millisecond, func() error {
		files, err := c.HintFiles(hostID)
		if err != nil {
			return err
		}
		if len(files) > 0 {
			return fmt.Errorf("hints for %s are not delivered: %s", hostID, strings.Join(files, ", "))
		}
		return nil
	})
}
