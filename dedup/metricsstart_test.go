package dedup

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestCountersBeginAtZero holds that counters by labels that are known are there before anything is counted, so that the first is an increase.
func TestCountersBeginAtZero(t *testing.T) {
	r := prometheus.NewRegistry()
	unregister, err := newMetrics().register(r)
	if err != nil {
		t.Fatal(err)
	}
	defer unregister()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, f := range families {
		found[f.GetName()] = len(f.GetMetric())
	}
	for name, want := range map[string]int{"dead_letters": 3, "transactions": 3, "aborts": 6, "data_records": 7} {
		if n := found["cassdelta_dedup_"+name+"_total"]; n != want {
			t.Errorf("%s has %d counters, expected %d", name, n, want)
		}
	}
}
