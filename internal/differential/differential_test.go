package differential

import (
	"strings"
	"testing"

	"cassdelta/internal/recording"
)

// seed is that of the runs in tests; "./do differential" draws another each time.
const seed = 20260101

func TestAgainstCassandra(t *testing.T) {
	for _, name := range []string{"5.0/plain", "4.0/plain"} {
		t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
			version, form, _ := strings.Cut(name, "/")
			variants, err := Variants([]string{version}, []string{form})
			if err != nil {
				t.Fatal(err)
			}
			r, err := Run(t.Context(), Options{Variant: variants[0], Seed: seed, Mutations: 3000, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("Cassandra %s, log version %s, seed %d: %d mutations, %d lines, %d bytes, %d differences in %s",
				r.Release, r.LogVersion, seed, r.Mutations, r.Lines, r.Bytes, r.Differences, r.Took)
			for _, d := range r.First {
				t.Error(d)
			}
		})
	}
}

var _ = recording.Open
