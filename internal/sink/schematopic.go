package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	topics "cassdelta/internal/topic"
)

// schemaTopic reads the schema topic, as far as it was needed. Whoever wrote a record has written its schemas before: if
// one is not known yet it is between what was read and the end of the topic.
type schemaTopic struct {
	name   string
	opts   []kgo.Opt
	client *kgo.Client // nil until it is needed
	// consuming is set once the topic was found to be there, and so is read.
	consuming bool
	next      int64 // the offset behind what was read
	texts     map[string]string
}

func newSchemaTopic(name string, opts []kgo.Opt) *schemaTopic {
	return &schemaTopic{name: name, opts: opts, texts: map[string]string{}}
}

func (s *schemaTopic) close() {
	if s.client != nil {
		s.client.Close()
	}
}

// schema gives the text with a key, empty if the topic has none.
func (s *schemaTopic) schema(ctx context.Context, key string) (string, error) {
	if text := s.texts[key]; text != "" {
		return text, nil
	}
	if err := s.readToEnd(ctx); err != nil {
		return "", fmt.Errorf("read the schemas in topic %s: %w", s.name, err)
	}
	return s.texts[key], nil
}

func (s *schemaTopic) readToEnd(ctx context.Context) error {
	if s.client == nil {
		client, err := kgo.NewClient(s.opts...)
		if err != nil {
			return err
		}
		s.client = client
	}
	end, err := s.end(ctx)
	if err != nil {
		return err
	}
	if end > 0 && !s.consuming {
		s.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{s.name: {0: kgo.NewOffset().AtStart()}})
		s.consuming = true
	}
	for s.next < end {
		fetches := s.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("read up to offset %d of %d: %w", s.next, end, context.Cause(ctx))
		}
		for _, e := range fetches.Errors() {
			return e.Err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			s.next = r.Offset + 1
			s.texts[string(r.Key)] = string(r.Value)
		})
	}
	return nil
}

// end is the offset behind the last record, 0 if there is no topic.
func (s *schemaTopic) end(ctx context.Context) (int64, error) {
	if _, _, err := topics.Describe(ctx, s.client, s.name); err != nil {
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			err = nil
		}
		return 0, err
	}
	ends, err := kadm.NewClient(s.client).ListEndOffsets(ctx, s.name)
	if err == nil {
		err = ends.Error()
	}
	end, _ := ends.Lookup(s.name, 0)
	return end.Offset, err
}
