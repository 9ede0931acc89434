package dedup

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// simLink is the connections of one process to the brokers. Messages take their time; the process can be cut off for a
// while, and killed.
type simLink struct {
	net     *kfake.VirtualNetwork
	latency time.Duration // the longest of a message
	late    time.Duration // how long after a cut a request may still arrive
	copies  *sync.WaitGroup

	mu    sync.Mutex
	rnd   *rand.Rand
	dead  bool
	thaw  chan struct{} // while it is cut off: closed at the end of that
	conns []*simConn
}

// simConn is one connection: the client's end and the server's, with a copier each way.
type simConn struct {
	inner, server net.Conn // what the copiers hold of the client's side, and the server's
}

var errDead = errors.New("the process is dead")

func (l *simLink) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !l.wait(ctx.Done()) {
		return nil, errDead
	}
	server, err := l.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	client, inner := net.Pipe()
	c := &simConn{inner: inner, server: server}
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		server.Close()
		return nil, errDead
	}
	l.conns = append(l.conns, c)
	l.mu.Unlock()
	l.copies.Go(func() {
		l.copy(server, inner, true)
		server.Close()
		inner.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conns = slices.DeleteFunc(l.conns, func(other *simConn) bool { return other == c })
	})
	l.copies.Go(func() {
		l.copy(inner, server, false)
		inner.Close()
	})
	return client, nil
}

// copy copies until an end is closed. What a client sent may arrive although the connection is closed meanwhile.
func (l *simLink) copy(to, from net.Conn, request bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		delay, alive := l.delay(l.latency)
		time.Sleep(delay)
		alive = l.wait(nil) && alive
		if !alive {
			if !request {
				return
			}
			delay, _ := l.delay(l.late)
			if delay == 0 {
				return
			}
			time.Sleep(delay)
		}
		if _, err := to.Write(buf[:n]); err != nil || !alive {
			return
		}
	}
}

// delay draws a time up to most, mostly much less.
func (l *simLink) delay(most time.Duration) (d time.Duration, alive bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most > 0 {
		d = time.Duration(l.rnd.Int64N(int64(most)))
		if l.rnd.IntN(4) > 0 {
			d /= 16
		}
	}
	return d, !l.dead
}

// wait returns when the process is not cut off, false if it is dead or done is closed.
func (l *simLink) wait(done <-chan struct{}) bool {
	l.mu.Lock()
	thaw := l.thaw
	l.mu.Unlock()
	if thaw != nil {
		select {
		case <-thaw:
		case <-done:
			return false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.dead
}

// freeze cuts the process off until the function that it returns is called.
func (l *simLink) freeze() (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.thaw != nil {
		return func() {}
	}
	thaw := make(chan struct{})
	l.thaw = thaw
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.thaw == thaw {
			l.thaw = nil
			close(thaw)
		}
	}
}

// cut closes all connections.
func (l *simLink) cut() {
	l.mu.Lock()
	conns := slices.Clone(l.conns)
	l.mu.Unlock()
	for _, c := range conns {
		c.inner.Close()
	}
}

// kill lets nothing out any more, but what is on its way.
func (l *simLink) kill() {
	l.mu.Lock()
	l.dead = true
	if l.thaw != nil {
		close(l.thaw)
		l.thaw = nil
	}
	l.mu.Unlock()
	l.cut()
}
