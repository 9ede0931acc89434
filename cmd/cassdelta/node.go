package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"cassdelta/schema"
	"cassdelta/schema/cqlsource"
)

// node is the node that an agent runs beside.
type node struct {
	// host is its host id, cluster the name of its cluster.
	host    schema.UUID
	cluster string
}

// nodeTimeout is how long the nodes are asked who they are, so that an agent may start before them.
const nodeTimeout = time.Minute

// awaitNode finds the node of the first contact point: by asking it, or, while it is down, by asking the others which of
// them has its address.
func awaitNode(ctx context.Context, f *cassandraFlags, log *zap.Logger) (node, error) {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	var last error
	for {
		n, err := findNode(ctx, f, log)
		final, off := (*nodeError)(nil), (*cdcOffError)(nil)
		if err == nil || errors.As(err, &final) || errors.As(err, &off) {
			return n, err
		}
		if last == nil {
			log.Warn("waiting for a Cassandra node that answers", zap.Duration("timeout", nodeTimeout), zap.Error(err))
		}
		if last == nil || ctx.Err() == nil {
			last = err // and not the end of ctx, which would hide why it was waited for
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return node{}, ctx.Err()
			}
			return node{}, last
		case <-time.After(time.Second):
		}
	}
}

// nodeError says that asking again is of no use.
type nodeError struct{ error }

// cdcOffError says that a node writes no CDC data.
type cdcOffError struct{ node string }

func (e *cdcOffError) Error() string {
	return fmt.Sprintf("CDC is off on the node %s: set cdc_enabled: true in its cassandra.yaml and restart it", e.node)
}

func findNode(ctx context.Context, f *cassandraFlags, log *zap.Logger) (node, error) {
	own := *f
	own.ContactPoints = f.ContactPoints[:1]
	source, err := own.source(log)
	if err != nil {
		return node{}, &nodeError{err}
	}
	defer source.Close()
	info, ownErr := source.Info(ctx)
	if ownErr == nil {
		return node{info.Hosts[0].ID, info.Name}, checkCDC(ctx, source, own.ContactPoints[0])
	}
	if len(f.ContactPoints) == 1 {
		return node{}, ownErr
	}
	others := *f
	others.ContactPoints = f.ContactPoints[1:]
	rest, err := others.source(log)
	if err != nil {
		return node{}, &nodeError{err}
	}
	defer rest.Close()
	if info, err = rest.Info(ctx); err != nil {
		return node{}, errors.Join(ownErr, err)
	}
	host, _, err := net.SplitHostPort(f.ContactPoints[0])
	if err != nil {
		host = f.ContactPoints[0]
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return node{}, fmt.Errorf("the first of cassandra-contact-points is to be this agent's own node: %w", err)
	}
	for _, h := range info.Hosts {
		if slices.ContainsFunc(h.Addresses, func(a netip.Addr) bool { return slices.Contains(unmapped(addresses), a) }) {
			log.Info("this agent's node does not answer; the others know it", zap.Stringer("host_id", h.ID), zap.Stringer("address", h.Address))
			return node{h.ID, info.Name}, nil
		}
	}
	return node{}, fmt.Errorf("this agent's own node, the first of cassandra-contact-points, does not answer (%w), and no node of the cluster %q has "+
		"the address %s: start it, or name it by its address in the cluster", ownErr, info.Name, host)
}

func unmapped(addresses []netip.Addr) []netip.Addr {
	list := make([]netip.Addr, len(addresses))
	for i, a := range addresses {
		list[i] = a.Unmap()
	}
	return list
}

// checkCDC is an error if the node says that it writes no CDC data. A node that cannot be asked may be right all the
// same.
func checkCDC(ctx context.Context, source *cqlsource.Source, name string) error {
	if enabled, err := source.Setting(ctx, "cdc_enabled"); err == nil && enabled == "false" {
		return &cdcOffError{name}
	}
	return nil
}
