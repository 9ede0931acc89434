package dedup

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descText = regexp.MustCompile(`fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)".*variableLabels: \{([^}]*)\}`)
	docRow   = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*) \\| .+ \\|$")
)

// TestMetricsAreDocumented holds the table of docs/metrics.md to what a worker registers: each metric, its type and its labels.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	type metric struct{ kind, labels string }
	documented := map[string]metric{}
	for _, m := range docRow.FindAllStringSubmatch(string(text), -1) {
		if _, twice := documented[m[1]]; twice {
			t.Errorf("%s is documented twice", m[1])
		}
		documented[m[1]] = metric{m[2], strings.TrimSpace(m[3])}
	}
	found := 0
	for _, c := range newMetrics().collectors() {
		descs := make(chan *prometheus.Desc)
		go func() {
			defer close(descs)
			c.Describe(descs)
		}()
		for d := range descs {
			m := descText.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("not understood: %v", d)
			}
			found++
			name := strings.TrimPrefix(m[1], "cassdelta_dedup_")
			want := metric{kindOf(c, name), strings.ReplaceAll(m[3], ",", ", ")}
			switch got, ok := documented[name]; {
			case !ok:
				t.Errorf("it is not documented:\n| `%s` | %s | %s | %s |", name, want.kind, want.labels, m[2])
			case got != want:
				t.Errorf("%s: documented as %+v, expected %+v", name, got, want)
			}
			delete(documented, name)
		}
	}
	for name := range documented {
		t.Errorf("%s is documented, and there is no such metric", name)
	}
	if found < 30 {
		t.Errorf("only %d metrics were found", found)
	}
}

// kindOf is the type of a metric; in collectors of several, those are counters that are called so.
func kindOf(c prometheus.Collector, name string) string {
	if _, ok := c.(prometheus.Histogram); ok {
		return "histogram"
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}
