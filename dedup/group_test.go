package dedup

import "testing"

func TestDescribeUnknownGroup(t *testing.T) {
	w := newRig(t)
	_, err := DescribeGroup(w.ctx, w.writer, "mistyped", w.topic)
	const want = "the brokers know no consumer group mistyped: expected one with positions in the raw topic raw; name the group that the workers have; " +
		"if it is this one, none of them has committed a position yet, or its positions have expired, and cassdelta recover-offsets finds them"
	if err == nil || err.Error() != want {
		t.Errorf("found %v, expected %s", err, want)
	}
}
