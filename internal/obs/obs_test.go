package obs

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestLogToAFileIsJSON(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	log, err := NewLogger(LogConfig{Level: "info", Format: "auto"}, f)
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("hidden")
	log.Info("segment finished", zap.Int64("segment", 7))
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	var line struct {
		Level, Msg, Time string
		Segment          int64
	}
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if line.Level != "info" || line.Msg != "segment finished" || line.Segment != 7 || line.Time == "" {
		t.Errorf("got %+v", line)
	}
}

func TestServe(t *testing.T) {
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer reserved.Close()
	if _, err := Serve(MetricsConfig{Listen: reserved.Addr().String()}, NewRegistry(), nil, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "metrics-listen") {
		t.Errorf("a taken address: error %v", err)
	}

	registry := NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "cassdelta_test_total"})
	registry.MustRegister(counter)
	counter.Inc()
	for _, profiles := range []bool{false, true} {
		ready := func() error {
			if profiles {
				return errors.New("not yet")
			}
			return nil
		}
		core, logs := observer.New(zap.InfoLevel)
		stop, err := Serve(MetricsConfig{Listen: "127.0.0.1:0", Profiles: profiles}, registry, ready, zap.New(core))
		if err != nil {
			t.Fatal(err)
		}
		address := logs.All()[0].ContextMap()["address"].(string)
		for path, want := range map[string]string{"/metrics": "cassdelta_test_total 1", "/healthz": "ok", "/debug/pprof/goroutine?debug=1": "goroutine profile"} {
			response, err := http.Get("http://" + address + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if served := profiles || !strings.HasPrefix(path, "/debug"); err != nil || served != strings.Contains(string(body), want) {
				t.Errorf("profiles %v, %s: expected %q %v, error %v, body %q", profiles, path, want, served, err, body)
			}
		}
		response, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if want := map[bool]int{false: http.StatusOK, true: http.StatusServiceUnavailable}[profiles]; response.StatusCode != want {
			t.Errorf("/readyz: expected status %d, found %d", want, response.StatusCode)
		}
		stop()
		if _, err := net.Dial("tcp", address); err == nil {
			t.Error("still listening after stop")
		}
	}
}
