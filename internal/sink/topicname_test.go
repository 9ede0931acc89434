package sink

import (
	"strings"
	"testing"
)

func TestTopicName(t *testing.T) {
	for _, c := range []struct{ prefix, keyspace, table, want string }{
		{"cassdelta", "shop", "orders", "cassdelta.shop.orders"},
		{"e2e.clean", "shop", "Order_Lines2", "e2e.clean.shop.Order_Lines2"},
		{"p", "a-b", "c.d", "p.a-2db.c-2ed"},
		{"p", "a", "é", "p.a.-c3-a9"},
	} {
		if got, err := TopicName(c.prefix, c.keyspace, c.table); got != c.want || err != nil {
			t.Errorf("%s, %s, %s: %s, %v; expected %s", c.prefix, c.keyspace, c.table, got, err, c.want)
		}
	}
}

func TestTopicNameTellsTablesApart(t *testing.T) {
	names := []string{"a", "a-2db", "a-b", "a.b", "a_b", "A", "a-", "a-2d", "-2d", "-", ".", ""}
	seen := map[string][2]string{}
	for _, keyspace := range names {
		for _, table := range names {
			name, err := TopicName("p", keyspace, table)
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[name]; ok {
				t.Errorf("%q.%q and %q.%q are both %s", keyspace, table, other[0], other[1], name)
			}
			seen[name] = [2]string{keyspace, table}
		}
	}
}

func TestTopicNameIsNotLongerThanKafkaAllows(t *testing.T) {
	longest := strings.Repeat("t", maxTopicName-len("p.k."))
	if name, err := TopicName("p", "k", longest); len(name) != maxTopicName || err != nil {
		t.Errorf("%d bytes, %v", len(name), err)
	}
	if _, err := TopicName("p", "k", longest+"t"); err == nil || !strings.Contains(err.Error(), "choose a shorter topic-prefix") {
		t.Errorf("one byte more: %v", err)
	}
}

func TestCheckPrefix(t *testing.T) {
	for _, prefix := range []string{"cassdelta", "e2e.clean", "a-b_c.D"} {
		if err := checkPrefix(prefix); err != nil {
			t.Error(err)
		}
	}
	for _, prefix := range []string{"", "a/b", "a b", "é"} {
		if err := checkPrefix(prefix); err == nil {
			t.Errorf("%q is a prefix", prefix)
		}
	}
}
