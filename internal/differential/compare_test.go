package differential

import (
	"fmt"
	"strings"
	"testing"
)

// line is one that a reader prints.
func line(segment, position, update int, rest string) string {
	return fmt.Sprintf(`{"seg":%d,"pos":%d,"size":10,"i":%d,"n":2,%s}`+"\n", segment, position, update, rest)
}

func TestCompare(t *testing.T) {
	a, b, c, d := line(1, 5, 0, "a"), line(1, 5, 1, "b"), line(1, 90, 0, "c"), line(2, 7, 0, "d")
	long := line(3, 1, 0, strings.Repeat("x", 3<<20))
	for _, test := range []struct {
		name         string
		ours, theirs string
		want         Comparison // but for First
		first        string
	}{
		{"nothing", "", "", Comparison{}, ""},
		{"the same", a + b + c + d, a + b + c + d, Comparison{Mutations: 3, Lines: 4, Bytes: 30}, ""},
		{"a line that is longer than the buffer", long, long, Comparison{Mutations: 1, Lines: 1, Bytes: 10}, ""},
		{"a byte differs", a + line(1, 5, 1, "B") + c, a + b + c, Comparison{Mutations: 2, Lines: 3, Bytes: 20, Differences: 1}, "from byte 39 on"},
		{"ours lacks one", a + c, a + b + c, Comparison{Mutations: 2, Lines: 3, Bytes: 20, Differences: 1}, "only Cassandra has"},
		{"theirs lacks one", a + b + c + d, a + b + d, Comparison{Mutations: 2, Lines: 3, Bytes: 20, Differences: 1}, "only cassdelta has"},
		{"ours ends early", a, a + b + c, Comparison{Mutations: 2, Lines: 3, Bytes: 20, Differences: 2}, "only Cassandra has"},
		{"theirs ends early", a + b, a, Comparison{Mutations: 1, Lines: 1, Bytes: 10, Differences: 1}, "only cassdelta has"},
		{"ours says nothing", "", a, Comparison{Mutations: 1, Lines: 1, Bytes: 10, Differences: 1}, "only Cassandra has"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := compare(strings.NewReader(test.ours), strings.NewReader(test.theirs))
			if err != nil {
				t.Fatal(err)
			}
			first := strings.Join(got.First, "\n")
			got.First = nil
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("found %+v, expected %+v", got, test.want)
			}
			if (first == "") != (test.first == "") || !strings.Contains(first, test.first) {
				t.Errorf("quoted %q, expected %q in it", first, test.first)
			}
		})
	}
}

func TestCompareRefuses(t *testing.T) {
	a, b := line(1, 5, 0, "a"), line(1, 5, 1, "b")
	for name, bad := range map[string]string{
		"a line without an end":    a + b[:30],
		"a line of something else": a + "Exception in thread main\n" + b,
	} {
		for _, pair := range [][2]string{{bad, a + b}, {a + b, bad}} {
			if _, err := compare(strings.NewReader(pair[0]), strings.NewReader(pair[1])); err == nil {
				t.Errorf("%s is no error", name)
			}
		}
	}
}

func TestQuotesShowWhatDiffers(t *testing.T) {
	text := strings.Repeat("a", 5000) + "NEEDLE" + strings.Repeat("b", 5000)
	if quoted := cut([]byte(text), 5000); !strings.Contains(quoted, "NEEDLE") || len(quoted) > 1000 {
		t.Errorf("%d bytes: %s", len(quoted), quoted)
	}
}
