package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	keySchema   = `{"type":"record","name":"Key","fields":[{"name":"id","type":"int"}]}`
	otherSchema = `{"type":"record","name":"Key","fields":[{"name":"id","type":{"type":"int","cql":"int"}}]}`
	secret      = "hunter2"
)

// fakeRegistry is as much of the Confluent API as the client needs. Equal schemas have one id.
type fakeRegistry struct {
	mu       sync.Mutex
	schemas  []string            // by id - 1
	subjects map[string][]string // the schemas of each
	requests []string            // method and path of each
	// answers are given, in this order, in place of the real ones; 0 stands for a real one.
	answers []answer
	// login is the user and password that is needed, empty for none.
	login string
}

type answer struct {
	status int
	body   string
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.EscapedPath())
	status, body := f.answer(r)
	if len(f.answers) > 0 {
		if f.answers[0].status != 0 {
			status, body = f.answers[0].status, f.answers[0].body
		}
		f.answers = f.answers[1:]
	}
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func (f *fakeRegistry) answer(r *http.Request) (status int, body string) {
	if user, password, _ := r.BasicAuth(); f.login != "" && user+":"+password != f.login {
		return 401, `{"error_code":401,"message":"Unauthorized"}`
	}
	path := strings.Split(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/api"), "/"), "/")
	switch {
	case r.Method == http.MethodPost && len(path) == 3 && path[0] == "subjects" && path[2] == "versions":
		var posted struct{ Schema, SchemaType string }
		if err := json.NewDecoder(r.Body).Decode(&posted); err != nil || posted.SchemaType != "" && posted.SchemaType != "AVRO" {
			return 422, fmt.Sprintf(`{"error_code":42201,"message":"%v"}`, err)
		}
		id := slices.Index(f.schemas, posted.Schema)
		if id < 0 {
			id = len(f.schemas)
			f.schemas = append(f.schemas, posted.Schema)
		}
		if f.subjects == nil {
			f.subjects = map[string][]string{}
		}
		f.subjects[path[1]] = append(f.subjects[path[1]], posted.Schema)
		return 200, fmt.Sprintf(`{"id":%d}`, id+1)
	case r.Method == http.MethodGet && r.URL.Path == "/api/config":
		return 200, `{"compatibilityLevel":"BACKWARD"}`
	case r.Method == http.MethodGet && len(path) == 3 && path[0] == "schemas" && path[1] == "ids":
		id, _ := strconv.Atoi(path[2])
		if id < 1 || id > len(f.schemas) {
			return 404, `{"error_code":40403,"message":"Schema not found"}`
		}
		text, _ := json.Marshal(map[string]string{"schema": f.schemas[id-1]})
		return 200, string(text)
	}
	return 404, `{"error_code":404,"message":"HTTP 404 Not Found"}`
}

func (f *fakeRegistry) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

// start starts a server and makes a client whose pauses take no time; they are recorded.
func start(t *testing.T, f *fakeRegistry, cfg Config) (*Client, *[]time.Duration) {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	if cfg.URLs == nil {
		cfg.URLs = []string{server.URL + "/api"}
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var pauses []time.Duration
	c.pause = func(_ context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		return nil
	}
	return c, &pauses
}

func TestRegisterAndFetch(t *testing.T) {
	f := &fakeRegistry{}
	c, _ := start(t, f, Config{})
	subject := KeySubject("cdc.shop.orders")
	for _, test := range []struct {
		subject, schema string
		id              int32
		requests        int
	}{
		{subject, keySchema, 1, 1},
		{subject, keySchema, 1, 1},
		{subject, otherSchema, 2, 2}, // it has the fingerprint of the first
		{ValueSubject("cdc.shop.orders"), keySchema, 1, 3},
		{subject, otherSchema, 2, 3},
	} {
		id, err := c.Register(t.Context(), test.subject, test.schema)
		if id != test.id || err != nil {
			t.Errorf("register under %s: %d, %v; expected %d", test.subject, id, err, test.id)
		}
		if n := f.count(); n != test.requests {
			t.Errorf("register under %s: %d requests so far, expected %d", test.subject, n, test.requests)
		}
	}
	if want := "POST /api/subjects/cdc.shop.orders-key/versions"; f.requests[0] != want {
		t.Errorf("the first request is %s, expected %s", f.requests[0], want)
	}
	for range 2 {
		if text, err := c.Schema(t.Context(), 2); text != otherSchema || err != nil {
			t.Errorf("schema 2: %s, %v", text, err)
		}
	}
	if n := f.count(); n != 4 {
		t.Errorf("%d requests, expected 4", n)
	}
}

func TestRetry(t *testing.T) {
	f := &fakeRegistry{answers: []answer{{503, "<html>down</html>"}, {500, `{"error_code":50002,"message":"time-out"}`}, {429, ""}}}
	c, pauses := start(t, f, Config{})
	if id, err := c.Register(t.Context(), "s", keySchema); id != 1 || err != nil {
		t.Fatal(id, err)
	}
	if want := []time.Duration{firstPause, 2 * firstPause, 4 * firstPause}; !slices.Equal(*pauses, want) {
		t.Errorf("the pauses are %v, expected %v", *pauses, want)
	}

	f = &fakeRegistry{answers: slices.Repeat([]answer{{502, "bad gateway"}}, 2*attempts)}
	c, pauses = start(t, f, Config{})
	_, err := c.Register(t.Context(), "s", keySchema)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("after %d attempts: bad gateway", attempts)) {
		t.Errorf("error %v", err)
	}
	if f.count() != attempts || len(*pauses) != attempts-1 || slices.Max(*pauses) != longPause {
		t.Errorf("%d attempts with the pauses %v, expected %d and at most %v", f.count(), *pauses, attempts, longPause)
	}

	// Nothing of the failure is remembered.
	f.answers = nil
	if id, err := c.Register(t.Context(), "s", keySchema); id != 1 || err != nil {
		t.Errorf("afterwards: %d, %v", id, err)
	}
}

func TestRetryEndsWithTheContext(t *testing.T) {
	f := &fakeRegistry{answers: slices.Repeat([]answer{{503, "down"}}, attempts)}
	c, _ := start(t, f, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	c.pause = func(ctx context.Context, d time.Duration) error {
		cancel()
		return pause(ctx, time.Hour)
	}
	if _, err := c.Register(ctx, "s", keySchema); err == nil || f.count() != 1 {
		t.Errorf("error %v after %d attempts", err, f.count())
	}
	if _, err := c.Schema(ctx, 1); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "is up") {
		t.Errorf("error %v, expected that the context is cancelled and no advice", err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	page := "<html>" + strings.Repeat("long ", 10_000)
	for _, test := range []struct {
		name    string
		answers []answer
		call    func(*Client) error
		want    []string
	}{
		{"incompatible", []answer{{409, `{"error_code":409,"message":"READER_FIELD_MISSING_DEFAULT_VALUE"}`}}, register, []string{
			"status 409", "READER_FIELD_MISSING_DEFAULT_VALUE", `PUT /config/cdc.shop.orders-key {"compatibility": "NONE"}`,
		}},
		{"no login", []answer{{401, ""}}, register, []string{"status 401", "user name and the password"}},
		{"no right", []answer{{403, "no"}}, register, []string{"status 403", "right"}},
		{"wrong path", []answer{{404, page}}, register, []string{"status 404", "check the path", "/apis/ccompat/v7", "...; check"}},
		{"no Avro", []answer{{422, `{"error_code":42201,"message":"Invalid schema"}`}}, register, []string{"status 422", "Invalid schema"}},
		{"no registry", []answer{{200, `{"hello":1}`}}, register, []string{"id from 1", "is this a schema registry?"}},
		{"no JSON", []answer{{200, page}}, register, []string{"decode"}},
		{"unknown id", nil, fetch, []string{"schema 99", "status 404", "with which the record was written"}},
		{"no Avro behind the id", []answer{{200, `{"schemaType":"PROTOBUF","schema":"message A {}"}`}}, fetch, []string{"expected an Avro schema", "PROTOBUF"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &fakeRegistry{answers: test.answers}
			c, _ := start(t, f, Config{Username: "app", Password: secret})
			err := test.call(c)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(test.want, "schema registry "+c.name) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) || len(err.Error()) > 2*maxMessage {
				t.Errorf("%v\nhas the password, or is too long", err)
			}
			if f.count() != 1 {
				t.Errorf("%d requests, expected 1", f.count())
			}
		})
	}
}

func register(c *Client) error {
	_, err := c.Register(context.Background(), "cdc.shop.orders-key", keySchema)
	return err
}

func fetch(c *Client) error {
	_, err := c.Schema(context.Background(), 99)
	return err
}

func TestUnreachable(t *testing.T) {
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	c, pauses := start(t, &fakeRegistry{}, Config{URLs: []string{dead.URL}, Username: "app", Password: secret})
	err := register(c)
	for _, want := range []string{dead.URL, "cdc.shop.orders-key", "check the URL"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("error %v, expected one with %q", err, want)
		}
	}
	if len(*pauses) != attempts-1 {
		t.Errorf("%d attempts, expected %d", len(*pauses)+1, attempts)
	}

	// Another URL is as good.
	f := &fakeRegistry{}
	live := httptest.NewServer(f)
	defer live.Close()
	c, pauses = start(t, f, Config{URLs: []string{dead.URL, live.URL}})
	if err := register(c); err != nil || len(*pauses) > 0 {
		t.Errorf("%v after %d pauses", err, len(*pauses))
	}
}

func TestCheck(t *testing.T) {
	down := slices.Repeat([]answer{{503, "down"}}, attempts)
	for _, test := range []struct {
		name    string
		answers []answer
		want    string // of the error; empty for none
	}{
		{"there", nil, ""},
		{"there soon", down[:attempts-1], ""},
		{"no right to see what is asked for", []answer{{403, "no"}}, ""},
		{"in trouble", down, "status 503: given up after 8 attempts"},
		{"no login", []answer{{401, "no"}}, "check the user name and the password"},
		{"wrong path", []answer{{404, "no"}}, "check the path"},
		{"no registry", []answer{{200, "<html>"}}, "decode"},
	} {
		c, _ := start(t, &fakeRegistry{answers: test.answers}, Config{})
		err := c.Check(t.Context())
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, expected %q", test.name, err, test.want)
		}
	}
}

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer silent.Close()
	defer close(release)
	c, pauses := start(t, &fakeRegistry{}, Config{URLs: []string{silent.URL}, Timeout: 10 * time.Millisecond})
	if err := register(c); err == nil || len(*pauses) != attempts-1 {
		t.Errorf("error %v after %d pauses, expected one after all", err, len(*pauses))
	}
}

func TestLogin(t *testing.T) {
	f := &fakeRegistry{login: "app:" + secret}
	server := httptest.NewServer(f)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for _, cfg := range []Config{
		{URLs: []string{host}, Username: "app", Password: secret},
		{URLs: []string{"http://app:" + secret + "@" + host}},
	} {
		c, _ := start(t, f, cfg)
		if err := register(c); err != nil {
			t.Error(err)
		}
	}
	c, _ := start(t, f, Config{URLs: []string{"http://app:wrong" + secret + "@" + host}})
	if err := register(c); err == nil || !strings.Contains(err.Error(), "status 401") || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v, expected status 401 and no password", err)
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(&fakeRegistry{})
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of the client that gives up
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	c, _ := start(t, &fakeRegistry{}, Config{URLs: []string{server.URL}, TLS: &tls.Config{RootCAs: pool}})
	if err := register(c); err != nil {
		t.Error(err)
	}
	c, pauses := start(t, &fakeRegistry{}, Config{URLs: []string{server.URL}})
	if err := register(c); err == nil || !strings.Contains(err.Error(), "authority") || len(*pauses) > 0 {
		t.Errorf("with the system's authorities: error %v after %d pauses, expected one at once", err, len(*pauses))
	}
}

func TestNewRefuses(t *testing.T) {
	for _, urls := range [][]string{
		nil, {""}, {"http://"}, {"ftp://host"}, {"http://host?x=1"}, {"http://app:" + secret + "@ho st"}, {"http://app:" + secret + "@host?x"},
	} {
		if _, err := New(Config{URLs: urls}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v: error %v, expected one without the password", urls, err)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	f := &fakeRegistry{}
	c, _ := start(t, f, Config{})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			schema := []string{keySchema, otherSchema}[i%2]
			id, err := c.Register(context.Background(), "s", schema)
			if err == nil {
				var text string
				if text, err = c.Schema(context.Background(), id); text != schema {
					t.Errorf("schema %d is %s, expected %s", id, text, schema)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestConfluentHeader(t *testing.T) {
	b := append(AppendConfluentHeader([]byte("head"), 0x01020304), "datum"...)
	if want := "head\x00\x01\x02\x03\x04datum"; string(b) != want {
		t.Errorf("%q, expected %q", b, want)
	}
	id, datum, err := CutConfluentHeader(b[4:])
	if id != 0x01020304 || string(datum) != "datum" || err != nil {
		t.Errorf("%x, %q, %v", id, datum, err)
	}
	for _, bad := range [][]byte{nil, {0, 0, 0, 1}, {1, 0, 0, 0, 1}, {0xc3, 0x01, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if _, _, err := CutConfluentHeader(bad); err == nil {
			t.Errorf("%x: no error", bad)
		}
	}
}

func FuzzCutConfluentHeader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, datum, err := CutConfluentHeader(b)
		if err == nil && !bytes.Equal(append(AppendConfluentHeader(nil, id), datum...), b) {
			t.Errorf("%x gave %d and %x", b, id, datum)
		}
	})
}
