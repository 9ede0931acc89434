// Package obs is how a running process is seen from outside: its log and its metrics.
package obs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// LogConfig says what is logged and how.
type LogConfig struct {
	Level  string `default:"info" enum:"debug,info,warn,error" help:"Least level that is logged: ${enum}."`
	Format string `default:"auto" enum:"auto,console,json" help:"Form of the log: ${enum}; auto is console on a terminal and json otherwise."`
}

// NewLogger makes a logger that writes to w.
func NewLogger(c LogConfig, w *os.File) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	terminal := isatty.IsTerminal(w.Fd())
	var encoder zapcore.Encoder
	if c.Format == "console" || c.Format == "auto" && terminal {
		e := zap.NewDevelopmentEncoderConfig()
		e.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		if terminal {
			e.EncodeLevel = zapcore.CapitalColorLevelEncoder
		}
		encoder = zapcore.NewConsoleEncoder(e)
	} else {
		e := zap.NewProductionEncoderConfig()
		e.EncodeTime = zapcore.RFC3339NanoTimeEncoder
		e.TimeKey = "time"
		encoder = zapcore.NewJSONEncoder(e)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(w), level)), nil
}

// MetricsConfig says where metrics are served.
type MetricsConfig struct {
	Listen   string `help:"Address that serves Prometheus metrics at /metrics, as 127.0.0.1:9404, and says at /healthz that the process is there and, of dedup, at /readyz whether all its partitions are open. Empty: none." placeholder:"ADDRESS"`
	Profiles bool   `help:"Serve Go's profiles there too, at /debug/pprof/."`
}

// Page is something more that is served.
type Page struct {
	Path    string
	Handler http.Handler
}

// NewRegistry makes a registry that holds the metrics of the Go runtime and the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Serve binds the address, then serves until stop is called, which waits for the server's end. An empty address serves
// nothing. Ready says why the process does not do its work yet, nil if it does, for /readyz; nil is a process that cannot tell.
func Serve(c MetricsConfig, g prometheus.Gatherer, ready func() error, log *zap.Logger, pages ...Page) (stop func(), err error) {
	if c.Listen == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("metrics-listen: %w; choose a free address", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	if ready != nil {
		mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
			if err := ready(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			io.WriteString(w, "ok\n")
		})
	}
	for _, p := range pages {
		mux.Handle(p.Path, p.Handler)
	}
	if c.Profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics server stopped", zap.Error(err))
		}
	}()
	log.Info("serving metrics", zap.Stringer("address", listener.Addr()))
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		<-done
	}, nil
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
