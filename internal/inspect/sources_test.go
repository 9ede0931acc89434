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
	const row = `{"table":"ks.t","rows":1,"static_rows":0,"range_tombstones":0,"partition_deletions":0,"bytes":2,"raw_partitions":3}` + "\n"
	none := httptest.NewServer(Handler(standby, false))
	defer none.Close()
	has := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { io.WriteString(out, row) }))
	defer has.Close()
	for _, q := range []Query{{Table: "ks.t", Key: "1"}, {Table: "ks.t", All: true}, {Verify: true}, {}} {
		var out strings.Builder
		if err := Ask(t.Context(), []string{none.URL, has.URL}, q, &out); err != nil || out.String() != row {
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

// TestAskWhatIsNoWorker asks something that takes connections and says nothing.
func TestAskWhatIsNoWorker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := "http://" + l.Addr().String()
	err = speaksHTTP(t.Context(), http.DefaultClient, address, 10*time.Millisecond)
	if want := address + ": no answer within 10ms; expected the address at which a dedup worker serves its metrics (metrics-listen)"; err == nil || err.Error() != want {
		t.Errorf("found %v, expected %s", err, want)
	}
	l.Close()
	if err := Ask(t.Context(), []string{l.Addr().String()}, Query{}, io.Discard); err == nil || !strings.Contains(err.Error(), "expected the address at which a dedup worker") {
		t.Errorf("of an address that nobody has: %v", err)
	}
}

// TestTablesOfSeveralWorkers adds up what each says.
func TestTablesOfSeveralWorkers(t *testing.T) {
	var workers []string
	for _, lines := range []string{
		`{"table":"ks.b","rows":1,"static_rows":2,"range_tombstones":3,"partition_deletions":4,"bytes":5,"raw_partitions":2}` + "\n" + `{"table":"ks.a","rows":7,"raw_partitions":1}` + "\n",
		`{"table":"ks.b","rows":10,"static_rows":20,"range_tombstones":30,"partition_deletions":40,"bytes":50,"raw_partitions":1}` + "\n",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { io.WriteString(out, lines) }))
		defer s.Close()
		workers = append(workers, s.URL)
	}
	var out strings.Builder
	err := Ask(t.Context(), workers, Query{}, &out)
	want := `{"table":"ks.a","rows":7,"static_rows":0,"range_tombstones":0,"partition_deletions":0,"bytes":0,"raw_partitions":1}` + "\n" +
		`{"table":"ks.b","rows":11,"static_rows":22,"range_tombstones":33,"partition_deletions":44,"bytes":55,"raw_partitions":3}` + "\n"
	if err != nil || out.String() != want {
		t.Errorf("found\n%s\nexpected\n%s\nerror %v", out.String(), want, err)
	}
}
