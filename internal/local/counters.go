package local

import "github.com/prometheus/client_golang/prometheus"

// counters holds metrics that can still be read when their owner has ended and taken them back.
type counters struct{ *prometheus.Registry }

// Unregister keeps the collector.
func (counters) Unregister(prometheus.Collector) bool { return true }

// each calls f with the labels and the value of each counter of a name.
func (c counters) each(name string, f func(labels map[string]string, n int64)) error {
	families, err := c.Gather()
	if err != nil {
		return err
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			f(labels, int64(m.GetCounter().GetValue()))
		}
	}
	return nil
}
