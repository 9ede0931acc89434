package cqlsource

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// The opcodes of the native protocol, version 4, that a login takes.
const (
	opError        = 0x00
	opStartup      = 0x01
	opAuthenticate = 0x03
	opOptions      = 0x05
	opSupported    = 0x06
	opAuthResponse = 0x0f
	opAuthSuccess  = 0x10
)

// loginServer asks for a login and takes one password. It answers nothing else: behind a login it closes the connection.
type loginServer struct {
	net.Listener
	password string
	done     sync.WaitGroup
}

func newLoginServer(t *testing.T, password string) *loginServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &loginServer{Listener: l, password: password}
	s.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.done.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.done.Wait()
	})
	return s
}

func (s *loginServer) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	for {
		var header [9]byte // version, flags, stream (2), opcode, length (4)
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(header[5:]))
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		reply := func(op byte, body string) {
			frame := append([]byte{0x84, 0, header[2], header[3], op}, 0, 0, 0, byte(len(body)))
			_, _ = conn.Write(append(frame, body...))
		}
		switch header[4] {
		case opOptions:
			reply(opSupported, "\x00\x00")
		case opStartup:
			reply(opAuthenticate, "\x00\x01A")
		case opAuthResponse:
			if string(body[4:]) != "\x00u\x00"+s.password {
				reply(opError, "\x00\x00\x01\x00\x00\x09bad login")
				return
			}
			reply(opAuthSuccess, "\xff\xff\xff\xff")
		default:
			return
		}
	}
}

func TestLogin(t *testing.T) {
	server := newLoginServer(t, "s3cret")
	for _, test := range []struct{ username, password, want string }{
		{"", "", "; give a user name and a password"},
		{"u", "wr0ng", "bad login; check the user name and the password"},
		{"u", "s3cret", "; check the contact points"},
	} {
		s := newSource(t, Config{ContactPoints: []string{server.Addr().String()}, Username: test.username, Password: test.password, Timeout: time.Minute})
		_, err := s.Read(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, expected %q", test.password, err, test.want)
		}
		if err != nil && test.password != "" && strings.Contains(err.Error(), test.password) {
			t.Errorf("the error has the password in it: %v", err)
		}
	}
}
