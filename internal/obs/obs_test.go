package obs

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
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
	address := reserved.Addr().String()
	if _, err := Serve(MetricsConfig{Listen: address}, NewRegistry(), zap.NewNop()); err == nil || !strings.Contains(err.Error(), "metrics-listen") {
		t.Errorf("a taken address: error %v", err)
	}
	reserved.Close()

	registry := NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "cassdelta_test_total"})
	registry.MustRegister(counter)
	counter.Inc()
	stop, err := Serve(MetricsConfig{Listen: address}, registry, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || !strings.Contains(string(body), "cassdelta_test_total 1") {
		t.Errorf("error %v, body %q", err, body)
	}
	stop()
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("still listening after stop")
	}
}
