package inspect

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"cassdelta/dedup"
)

// TestOnlyFromHere asks in a way that is refused to all, so that who is refused as a stranger is told so first.
func TestOnlyFromHere(t *testing.T) {
	for address, here := range map[string]bool{
		"127.0.0.1:1": true, "127.3.2.1:70": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"10.0.0.1:1": false, "192.168.1.1:1": false, "[fe80::1%eth0]:1": false, "[::ffff:10.0.0.1]:1": false, "": false, "@": false,
	} {
		for _, everyone := range []bool{false, true} {
			request := httptest.NewRequest(http.MethodPost, Path, nil)
			request.RemoteAddr = address
			answer := httptest.NewRecorder()
			Handler(nil, everyone).ServeHTTP(answer, request)
			want := http.StatusMethodNotAllowed
			if !here && !everyone {
				want = http.StatusForbidden
			}
			if answer.Code != want {
				t.Errorf("from %q, for everyone %v: expected status %d, found %d", address, everyone, want, answer.Code)
			}
		}
	}
}

type noEmitter struct{ dedup.Emitter }

// TestAskPureStandby asks a worker that folds nothing, beside one that has the row: what the one does not have the other has.
func TestAskPureStandby(t *testing.T) {
	standby, err := dedup.NewWorker(dedup.WorkerConfig{
		RawTopic: "raw", Group: "group", DeadLetterTopic: "letters", StateDirectory: t.TempDir(), Emitter: noEmitter{}, Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	none := httptest.NewServer(Handler(standby, false))
	defer none.Close()
	has := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { io.WriteString(out, "a row\n") }))
	defer has.Close()
	for _, q := range []Query{{Table: "ks.t", Key: "1"}, {Table: "ks.t", All: true}, {Verify: true}, {}} {
		var out strings.Builder
		if err := Ask(t.Context(), []string{none.URL, has.URL}, q, &out); err != nil || out.String() != "a row\n" {
			t.Errorf("%+v: %q, %v", q, out.String(), err)
		}
		if err := Ask(t.Context(), []string{none.URL}, q, io.Discard); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), none.URL) {
			t.Errorf("%+v: %v, expected that the only worker has nothing", q, err)
		}
	}
}

// TestWhoDoesNotRead asks for more than the buffers on the way take, and reads nothing of it.
func TestWhoDoesNotRead(t *testing.T) {
	ended := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		w := &answerWriter{w: out, deadline: http.NewResponseController(out).SetWriteDeadline, timeout: 50 * time.Millisecond}
		line := make([]byte, 1<<20)
		for {
			if _, err := w.Write(line); err != nil {
				ended <- err
				return
			}
		}
	}))
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits for ever")
	}
}
