package cqlsource

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// protocolVersion is the version of the native protocol that Cassandra 4.0 to 5.0 all speak.
const protocolVersion = 4

// oldestRelease is the first major release that can be read.
const oldestRelease = 4

// do runs f with a session, on the first node where both connecting and f succeed. Of the time that ctx has left each node gets an equal
// share, so that one that never answers leaves some for those behind it. Its error has the story of every contact point.
func (s *Source) do(ctx context.Context, f func(*gocql.Session) error) error {
	var failures []error
	refused := false
	addresses := s.addresses(ctx, &failures)
	for i, a := range addresses {
		nodeCtx, cancel := share(ctx, len(addresses)-i)
		d := &dialer{cfg: &s.cfg, serverName: a.point.host, ctx: nodeCtx}
		err := s.doAt(a, d, f)
		cancel()
		if err == nil {
			s.last = a.dial
			return nil
		}
		if ctx.Err() != nil {
			if len(failures) > 0 {
				return fmt.Errorf("%w, at %s, after: %w", ctx.Err(), a, joined(failures))
			}
			return fmt.Errorf("%w, at %s", ctx.Err(), a)
		}
		refused = refused || d.refused()
		failures = append(failures, fmt.Errorf("%s: %w", a, err))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	advice := "check the contact points, that these nodes run, and that they take CQL clients there (native_transport_port, rpc_address)"
	if refused {
		advice = "check the user name and the password"
		if s.cfg.Username == "" {
			advice = "give a user name and a password"
		}
	}
	return fmt.Errorf("no contact point can be read, %d tried: %w; %s", len(failures), joined(failures), advice)
}

// share is a context with one of so many equal shares of the time that is left.
func share(ctx context.Context, shares int) (context.Context, context.CancelFunc) {
	end, bounded := ctx.Deadline()
	if !bounded || shares == 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(shares))
}

// joined makes one line of several errors.
type joined []error

func (j joined) Error() string {
	var texts []string
	for _, err := range j {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }

// address is one address of a contact point.
type address struct {
	point contactPoint
	dial  string // IP:PORT
}

func (a address) String() string {
	if p := a.point.String(); p != a.dial {
		return p + " (" + a.dial + ")"
	}
	return a.dial
}

// addresses resolves the contact points, and adds what cannot be resolved to failures. The first contact point stays in front,
// since what a node has of its own is asked of it; of the others, the address that answered last is.
func (s *Source) addresses(ctx context.Context, failures *[]error) []address {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	var all []address
	first := 0 // number of addresses of the first contact point
	for n, p := range s.points {
		ips, err := net.DefaultResolver.LookupHost(ctx, p.host) // an IP address is its own
		if err != nil {
			*failures = append(*failures, fmt.Errorf("%s: %w", p, err))
		}
		for _, ip := range ips {
			all = append(all, address{p, net.JoinHostPort(ip, strconv.Itoa(p.port))})
		}
		if n == 0 {
			first = len(all)
		}
	}
	if i := slices.IndexFunc(all, func(a address) bool { return a.dial == s.last }); i >= 0 {
		to := first
		if i < first {
			to = 0
		}
		last := all[i]
		all = slices.Insert(slices.Delete(all, i, i+1), to, last)
	}
	return all
}

// doAt runs f with a session to one node.
func (s *Source) doAt(a address, d *dialer, f func(*gocql.Session) error) error {
	session, err := s.connect(a, d)
	if err != nil {
		return err
	}
	defer session.Close()
	if err := checkRelease(d.ctx, session); err != nil {
		return err
	}
	return f(session)
}

// connect opens a session with this node alone, for as long as the dialer's context lives.
func (s *Source) connect(a address, d *dialer) (*gocql.Session, error) {
	host, _, err := net.SplitHostPort(a.dial)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(host)
	c := gocql.NewCluster(a.dial)
	c.ProtoVersion = protocolVersion
	c.Consistency = gocql.One
	c.Timeout, c.ConnectTimeout = s.cfg.Timeout, s.cfg.Timeout
	c.NumConns = 1
	c.ReconnectInterval = 0
	c.ReconnectionPolicy = &gocql.ConstantReconnectionPolicy{MaxRetries: 1}
	c.DisableInitialHostLookup = true
	c.HostFilter = gocql.HostFilterFunc(func(h *gocql.HostInfo) bool { return h.ConnectAddress().Equal(ip) })
	c.Events.DisableNodeStatusEvents = true
	c.Events.DisableTopologyEvents = true
	c.Events.DisableSchemaEvents = true
	c.Metadata.CacheMode = gocql.Disabled
	c.Logger = gocql.NewLogger(gocql.LogLevelNone)
	c.HostDialer = d
	c.Authenticator = d
	return c.CreateSession()
}

// dialer makes the connections of one session. It ends them with its context, since gocql takes none when it opens a
// session, and keeps track of the login.
type dialer struct {
	cfg        *Config
	serverName string
	ctx        context.Context

	mu sync.Mutex
	// asked and admitted say that the node asked for a login, and that it took one.
	asked, admitted bool
}

// DialHost implements [gocql.HostDialer].
func (d *dialer) DialHost(ctx context.Context, host *gocql.HostInfo) (*gocql.DialedHost, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", host.ConnectAddressAndPort())
	if err != nil {
		return nil, err
	}
	conn := &boundConn{Conn: raw, unbind: context.AfterFunc(d.ctx, func() { raw.Close() })}
	if d.cfg.TLS == nil {
		return &gocql.DialedHost{Conn: conn, DisableCoalesce: true}, nil
	}
	config := d.cfg.TLS
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = d.serverName
	}
	return gocql.WrapTLS(ctx, conn, host.ConnectAddressAndPort(), config)
}

// boundConn is a connection that the end of a context closes.
type boundConn struct {
	net.Conn
	unbind func() bool
}

func (c *boundConn) Close() error {
	c.unbind()
	return c.Conn.Close()
}

// Challenge implements [gocql.Authenticator].
func (d *dialer) Challenge(req []byte) ([]byte, gocql.Authenticator, error) {
	d.mu.Lock()
	d.asked = true
	d.mu.Unlock()
	if d.cfg.Username == "" {
		return nil, nil, errors.New("the node asks for a user name and a password")
	}
	response, _, err := gocql.PasswordAuthenticator{Username: d.cfg.Username, Password: d.cfg.Password}.Challenge(req)
	return response, d, err
}

// Success implements [gocql.Authenticator].
func (d *dialer) Success([]byte) error {
	d.mu.Lock()
	d.admitted = true
	d.mu.Unlock()
	return nil
}

// refused reports whether the node refused the login.
func (d *dialer) refused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked && !d.admitted
}

// checkRelease refuses nodes older than what can be read.
func checkRelease(ctx context.Context, session *gocql.Session) error {
	var release string
	if err := session.Query("SELECT release_version FROM system.local WHERE key = 'local'").ScanContext(ctx, &release); err != nil {
		return fmt.Errorf("read system.local: %w", err)
	}
	major, _, _ := strings.Cut(release, ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestRelease {
		return fmt.Errorf("it runs Cassandra %s: expected 4.0, 4.1 or 5.0", release)
	}
	return nil
}
