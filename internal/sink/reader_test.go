package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/schema/registry"
)

// TestReaderTellsFaultsOfRecordsApart holds that a damaged record is a RecordError, and a missing registry is none.
func TestReaderTellsFaultsOfRecordsApart(t *testing.T) {
	b, ctx := startBroker(t), timeout(t)
	e := randomEvent(t, rand.New(rand.NewPCG(3, 4)), testTable(t, customersCQL))
	reg := startRegistry(t)
	var byTopic, byRegistry kgo.Record
	if _, err := newSink(t, b, nil).Encode(ctx, e, &byTopic, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := newSink(t, b, reg).Encode(ctx, e, &byRegistry, nil); err != nil {
		t.Fatal(err)
	}
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer broken.Close()
	refusing, err := registry.New(registry.Config{URLs: []string{broken.URL}, Username: "me", Password: "hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		record   kgo.Record
		edit     func(*kgo.Record)
		registry *registry.Client
		own      bool // a fault of the record
		says     string
	}{
		{"no value", byTopic, func(r *kgo.Record) { r.Value = nil }, nil, true, "value: expected an Avro datum, found none"},
		{"no key", byTopic, func(r *kgo.Record) { r.Key = nil }, nil, true, "key: expected an Avro datum, found none"},
		{"text", byTopic, func(r *kgo.Record) { r.Value = []byte(`{"op":"c"}`) }, nil, true, "expected Avro's single-object encoding"},
		{"short", byTopic, func(r *kgo.Record) { r.Value = r.Value[:5] }, nil, true, "found 5 bytes"},
		{"cut", byTopic, func(r *kgo.Record) { r.Value = r.Value[:len(r.Value)-9] }, nil, true, "value: "},
		{"longer", byTopic, func(r *kgo.Record) { r.Value = append(r.Value[:len(r.Value):len(r.Value)], 0) }, nil, true, "found 1 more bytes"},
		{"unknown fingerprint", byTopic, func(r *kgo.Record) { r.Key = appendSingleObjectHeader(nil, 1) }, nil, true, "its schema 0000000000000001 is not in topic test.clean.schemas"},
		{"key in place of the value", byTopic, func(r *kgo.Record) { r.Value = r.Key }, nil, true, "it is not Debezium's envelope"},
		{"unknown id", byRegistry, func(r *kgo.Record) { r.Key = registry.AppendConfluentHeader(nil, 4711) }, reg, true, "schema 4711"},
		{"short with a registry", byRegistry, func(r *kgo.Record) { r.Key = []byte{0, 1} }, reg, true, "expected Confluent's wire format"},
		{"no registry", byRegistry, func(*kgo.Record) {}, nil, false, "give registry-url"},
		{"a registry that refuses", byRegistry, func(*kgo.Record) {}, refusing, false, "check the user name and the password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reader := NewReader(ReaderConfig{Prefix: "test.clean", Opts: b.opts, Registry: c.registry})
			defer reader.Close()
			rec := c.record
			rec.Partition, rec.Offset = 2, 11
			c.edit(&rec)
			_, err := reader.Read(ctx, &rec)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("%v, expected %q", err, c.says)
			}
			var own *RecordError
			if errors.As(err, &own) != c.own {
				t.Errorf("a fault of the record: %t, expected %t: %v", !c.own, c.own, err)
			}
			if c.own && !strings.HasPrefix(err.Error(), "topic test.clean.shop.customers, partition 2, offset 11: ") {
				t.Errorf("it does not say where: %v", err)
			}
		})
	}
}

// TestReaderWithoutSchemaTopic holds that a topic that is not there yet does not stop a reader from finding it later.
func TestReaderWithoutSchemaTopic(t *testing.T) {
	b, ctx := startBroker(t), timeout(t)
	reader := NewReader(ReaderConfig{Prefix: "test.clean", Opts: b.opts})
	defer reader.Close()
	header := appendSingleObjectHeader(nil, 1)
	var own *RecordError
	if _, err := reader.Read(ctx, &kgo.Record{Key: header, Value: header}); !errors.As(err, &own) {
		t.Fatalf("%v, expected a RecordError", err)
	}
	e := randomEvent(t, rand.New(rand.NewPCG(3, 4)), testTable(t, customersCQL))
	var rec kgo.Record
	if _, err := newSink(t, b, nil).Encode(ctx, e, &rec, nil); err != nil {
		t.Fatal(err)
	}
	c, err := reader.Read(ctx, &rec)
	if err != nil {
		t.Fatal(err)
	}
	checkChange(t, e, c)
}

// FuzzReader feeds damaged keys and values to a reader that knows the schemas.
func FuzzReader(f *testing.F) {
	b, ctx := startBroker(f), timeout(f)
	s := newSink(f, b, nil)
	r := rand.New(rand.NewPCG(5, 6))
	table := testTable(f, nativesCQL)
	reader := NewReader(ReaderConfig{Prefix: "test.clean", Opts: b.opts})
	f.Cleanup(reader.Close)
	for range 20 {
		var rec kgo.Record
		if _, err := s.Encode(ctx, randomEvent(f, r, table), &rec, nil); err != nil {
			f.Fatal(err)
		}
		if _, err := reader.Read(ctx, &rec); err != nil {
			f.Fatal(err)
		}
		f.Add(rec.Key, rec.Value)
	}
	// What is not known yet is asked of the broker, which would only slow this down.
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	f.Fuzz(func(t *testing.T, key, value []byte) {
		c, err := reader.Read(ended, &kgo.Record{Topic: "t", Key: key, Value: value})
		if err != nil {
			return
		}
		if _, err := c.MarshalJSON(); err != nil {
			t.Error(err)
		}
	})
}
