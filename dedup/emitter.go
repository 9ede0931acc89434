package dedup

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Emitter turns events into Kafka records. The worker produces them; an emitter never does, nor does it change a
// decision of the fold.
type Emitter interface {
	// Encode fills dst (Topic, Partition, Key, Value, Headers, Timestamp) for an event, puts the bytes that dst points to
	// behind buf, and returns the extended buf. The array of dst.Headers may be used again. When it returns, the topic
	// and the schemas that a reader needs exist.
	//
	// It is called from several goroutines at once. An error that is a [*schema.AvroError] says that this event can never be
	// encoded: the worker puts its raw record into the dead-letter topic and goes on. Any other is taken to pass, and
	// is tried again until it does.
	Encode(ctx context.Context, e *Event, dst *kgo.Record, buf []byte) ([]byte, error)
}
