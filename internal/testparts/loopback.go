package testparts

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// reservePort is the port at which the owner of a loopback network listens. Nothing is served there.
const reservePort = 7999

// network is a loopback network 127.0.N.0/24 held by this process.
type network struct {
	n    int
	hold net.Listener
}

// reserveNetwork takes a free network: one that no other process holds and where no port of any host is in use.
func reserveNetwork(hosts int, ports ...int) (*network, error) {
	// 127.0.0.0/24 and 127.0.1.0/24 belong to the machine. Where the search starts differs between processes, so that
	// two of them seldom meet.
	const first, last = 10, 250
	start := os.Getpid() % (last - first + 1)
	for i := range last - first + 1 {
		n := first + (start+i)%(last-first+1)
		hold, err := net.Listen("tcp4", fmt.Sprintf("127.0.%d.254:%d", n, reservePort))
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return nil, fmt.Errorf("127.0.%d.254 is not a local address: test parts need all of 127.0.0.0/8, as Linux has it: %w", n, err)
		}
		if err != nil {
			continue
		}
		nw := &network{n: n, hold: hold}
		if nw.free(hosts, ports) {
			return nw, nil
		}
		hold.Close()
	}
	return nil, fmt.Errorf("no free loopback network in 127.0.%d.0 to 127.0.%d.0: stop other clusters first", first, last)
}

// host is the address of host i, counted from 1.
func (nw *network) host(i int) string { return fmt.Sprintf("127.0.%d.%d", nw.n, i) }

// jmxPort is a port at 127.0.0.1, where Cassandra's local JMX always listens, that belongs to host i of this network.
func (nw *network) jmxPort(i int) int { return 17000 + 10*nw.n + i }

func (nw *network) free(hosts int, ports []int) bool {
	for i := 1; i <= hosts; i++ {
		for _, port := range ports {
			if !canListen(nw.host(i), port) {
				return false
			}
		}
		if !canListen("127.0.0.1", nw.jmxPort(i)) {
			return false
		}
	}
	return true
}

func canListen(host string, port int) bool {
	l, err := net.Listen("tcp4", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func (nw *network) release() { nw.hold.Close() }
