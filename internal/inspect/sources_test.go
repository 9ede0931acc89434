package inspect

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"cassdelta/dedup"
	"cassdelta/state"
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

// TestDirectoryOfOneTopic follows what is said of a state directory of two raw topics.
func TestDirectoryOfOneTopic(t *testing.T) {
	dir := t.TempDir()
	for _, topic := range []string{"old", "raw"} {
		for _, p := range []string{"0", "2"} {
			if err := os.MkdirAll(filepath.Join(dir, topic, p), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if found, err := (Directory{dir}).Partitions(t.Context()); err == nil || !strings.Contains(err.Error(), "give the directory of one, "+filepath.Join(dir, "old")) {
		t.Errorf("found %v, error %v", found, err)
	}
	if found, err := (Directory{filepath.Join(dir, "raw")}).Partitions(t.Context()); err != nil || !slices.Equal(found, []int32{0, 2}) {
		t.Errorf("found %v, error %v", found, err)
	}
}

// TestAskElsewhere asks workers of which one has the raw partition of the key: what that says of the row is what is told, in any order.
func TestAskElsewhere(t *testing.T) {
	server := func(status int, text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set(errorHeader, text)
			out.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	elsewhere := server(http.StatusMisdirectedRequest, (&elsewhereError{3}).Error())
	absent := server(http.StatusNotFound, "there is no such row")
	for _, test := range []struct {
		workers []string
		want    string
	}{
		{[]string{elsewhere, absent}, "no such row"}, {[]string{absent, elsewhere}, "no such row"}, {[]string{elsewhere}, "the key is of raw partition 3"},
	} {
		if err := Ask(t.Context(), test.workers, Query{Table: "ks.t", Key: "1"}, io.Discard); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, expected %s", test.workers, err, test.want)
		}
	}
}

// leaving is a source whose reader is no longer wanted once it is open.
type leaving struct {
	Directory
	leave func()
}

func (l leaving) Open(ctx context.Context, partition int32) (*state.Reader, func() error, error) {
	l.leave()
	return l.Directory.Open(ctx, partition)
}

// TestWhoAsksIsGone reads no whole state for who does not wait for the answer.
func TestWhoAsksIsGone(t *testing.T) {
	dir := t.TempDir()
	s, err := state.Open(filepath.Join(dir, "raw", "0"), state.Identity{Topic: "raw", Partitions: 1}, state.Options{})
	if err == nil {
		err = errors.Join(s.Begin().Commit(state.Position{Offset: 1}), s.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, verify := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		if err := Run(ctx, leaving{Directory{dir}, cancel}, Query{Verify: verify}, io.Discard); !errors.Is(err, context.Canceled) {
			t.Errorf("verify %v: error %v, expected that it ends", verify, err)
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
