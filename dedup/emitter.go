package dedup

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Emitter turns events into Kafka records. The worker produces them; an emitter never does, nor does it change a
// decision of the fold.
type Emitter interface {
	// Encode fills dst (Topic, Partition, Key, Value, Headers, Timestamp) for an event, puts the bytes that dst points to
	// behind buf, and returns the extended buf. The array of dst.Headers may be used again. When it returns, the topic
	// and the schemas that a reader needs exist.
	//
	// It is called from several goroutines at once. An error that is a [*schema.AvroError] or a [*TooLargeError] says that this
	// event can never be written: the worker puts its raw record into the dead-letter topic and goes on. A [*TableError] says that
	// none of its table can be for now: the worker parks the table. Any other is taken to pass, and is tried again until it does.
	Encode(ctx context.Context, e *Event, dst *kgo.Record, buf []byte) ([]byte, error)
	// MaxBatchBytes is how large a batch of records the brokers take for a topic, in bytes. It is asked once for each topic
	// and session, after the first event for the topic was encoded.
	MaxBatchBytes(topic string) int32
}

// TooLargeError says that an event is larger than a record of its topic can be.
type TooLargeError struct {
	Topic string
	// Size is that of the record, Room the most that the topic takes, both in bytes.
	Size, Room int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("expected at most %d bytes in a record of topic %s, found %d; raise max.message.bytes of the topic, and restart the workers", e.Room, e.Topic, e.Size)
}
