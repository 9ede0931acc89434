package cqlsource

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"cassdelta/schema"
)

// ClusterInfo describes a cluster as one of its nodes sees it.
type ClusterInfo struct {
	Name string
	// ReleaseVersion is that of the node that answered, such as 5.0.6.
	ReleaseVersion string
	// Hosts are all nodes that are part of the cluster, up or down; the one that answered is first.
	Hosts []Host
}

// Host is one node.
type Host struct {
	// ID is the node's identity, which outlives its addresses.
	ID schema.UUID
	// Address is where the other nodes reach it: broadcast_address.
	Address netip.Addr
	// Addresses are all addresses that are known of it, without double ones, Address first: broadcast_address,
	// listen_address or the preferred one within its datacenter, and where it takes clients (broadcast_rpc_address).
	Addresses        []netip.Addr
	DataCenter, Rack string
	// ReleaseVersion is the node's, "" if it is not known.
	ReleaseVersion string
}

// Info reads the cluster's name and its nodes.
func (s *Source) Info(ctx context.Context) (ClusterInfo, error) {
	if err := s.acquire(ctx); err != nil {
		return ClusterInfo{}, fmt.Errorf("read the cluster's nodes: %w", err)
	}
	defer s.release()
	var info ClusterInfo
	err := s.do(ctx, func(session *gocql.Session) (err error) {
		info, err = readInfo(ctx, session)
		return err
	})
	if err != nil {
		return ClusterInfo{}, fmt.Errorf("read the cluster's nodes: %w", err)
	}
	return info, nil
}

func readInfo(ctx context.Context, session *gocql.Session) (ClusterInfo, error) {
	var info ClusterInfo
	var h Host
	var id gocql.UUID
	var broadcast, second, client net.IP
	add := func() {
		h.ID = schema.UUID(id)
		h.Addresses = addresses(broadcast, second, client)
		h.Address = netip.Addr{}
		if len(h.Addresses) > 0 {
			h.Address = h.Addresses[0]
		}
		info.Hosts = append(info.Hosts, h)
	}
	err := each(ctx, session, "SELECT cluster_name, host_id, broadcast_address, listen_address, rpc_address, data_center, rack, release_version"+
		" FROM system.local WHERE key = 'local'",
		add, &info.Name, &id, &broadcast, &second, &client, &h.DataCenter, &h.Rack, &h.ReleaseVersion)
	if err != nil {
		return ClusterInfo{}, err
	}
	if len(info.Hosts) == 0 {
		return ClusterInfo{}, fmt.Errorf("system.local is empty: the node has not started yet")
	}
	info.ReleaseVersion = h.ReleaseVersion
	err = each(ctx, session, "SELECT host_id, peer, preferred_ip, native_address, data_center, rack, release_version FROM system.peers_v2",
		func() {
			if id != (gocql.UUID{}) { // a node that is joining
				add()
			}
		}, &id, &broadcast, &second, &client, &h.DataCenter, &h.Rack, &h.ReleaseVersion)
	if err != nil {
		return ClusterInfo{}, err
	}
	return info, nil
}

// addresses puts the addresses that are set in a list, each once.
func addresses(ips ...net.IP) []netip.Addr {
	var all []netip.Addr
	for _, ip := range ips {
		a, ok := netip.AddrFromSlice(ip)
		if a = a.Unmap(); ok && !a.IsUnspecified() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}
