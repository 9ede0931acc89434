package cqlsource

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	defaultPort    = 9042
	defaultTimeout = 10 * time.Second
)

// Config says how to reach a cluster.
type Config struct {
	// ContactPoints are the addresses of nodes, tried in this order: HOST or HOST:PORT. An IPv6 address with a port
	// stands in brackets.
	ContactPoints []string
	// Port is that of contact points without one; 0 is 9042.
	Port int
	// Username and Password log in; both are empty if the cluster asks for none.
	Username, Password string
	// Timeout bounds the time to connect to a node and the time of a query, each; 0 is 10 s.
	Timeout time.Duration
	// TLS is not nil if nodes are to be spoken to by TLS. Without a ServerName in it the certificate must be that of
	// the contact point.
	TLS *tls.Config
}

// contactPoint is a contact point cut into its parts.
type contactPoint struct {
	host string
	port int
}

func (p contactPoint) String() string { return net.JoinHostPort(p.host, strconv.Itoa(p.port)) }

// check sets defaults and cuts the contact points into their parts.
func (c *Config) check() ([]contactPoint, error) {
	if c.Port == 0 {
		c.Port = defaultPort
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	switch {
	case len(c.ContactPoints) == 0:
		return nil, errors.New("no contact points: expected the address of at least one Cassandra node")
	case c.Port < 1 || c.Port > 65535:
		return nil, fmt.Errorf("port %d: expected 1 to 65535", c.Port)
	case c.Timeout < 0:
		return nil, fmt.Errorf("timeout %s: expected more than 0", c.Timeout)
	case c.Username == "" && c.Password != "":
		return nil, errors.New("a password is given without a user name")
	}
	var points []contactPoint
	for _, text := range c.ContactPoints {
		p, err := parseContactPoint(text, c.Port)
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}

func parseContactPoint(text string, port int) (contactPoint, error) {
	host, portText := strings.TrimSpace(text), ""
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, portText = h, p
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if host == "" || strings.ContainsAny(host, ":/[] ") && net.ParseIP(host) == nil {
		return contactPoint{}, fmt.Errorf("contact point %q: expected HOST or HOST:PORT", text)
	}
	if portText != "" {
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || n == 0 {
			return contactPoint{}, fmt.Errorf("contact point %q: port %q: expected 1 to 65535", text, portText)
		}
		port = int(n)
	}
	return contactPoint{host, port}, nil
}
