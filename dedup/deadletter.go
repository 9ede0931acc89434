package dedup

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Headers of what a worker writes. The value of a dead letter is that of the raw record, as it is; its key is null.
const (
	// HeaderError says what is wrong with the record.
	HeaderError = "cassdelta.error"
	// HeaderRawTopic, HeaderRawPartition and HeaderRawOffset say which raw record it is, or comes of.
	HeaderRawTopic     = "cassdelta.raw.topic"
	HeaderRawPartition = "cassdelta.raw.partition"
	HeaderRawOffset    = "cassdelta.raw.offset"
	// HeaderIndex says which of the events of the raw record it is.
	HeaderIndex = "cassdelta.index"
)

// maxErrorText bounds what an error may say in a header, in bytes.
const maxErrorText = 2 << 10

// deadLetter makes rec the dead letter of a raw record, or, unless index is -1, of one of its events that was parked. It says which group it is
// of: several may write to one topic.
func deadLetter(rec *kgo.Record, topic, group string, raw *kgo.Record, index int64, reason error) {
	text := reason.Error()
	text = text[:min(len(text), maxErrorText)]
	*rec = kgo.Record{
		Topic: topic,
		Value: raw.Value,
		Headers: append(rec.Headers[:0],
			kgo.RecordHeader{Key: HeaderError, Value: []byte(text)},
			kgo.RecordHeader{Key: HeaderGroup, Value: []byte(group)},
			kgo.RecordHeader{Key: HeaderRawTopic, Value: []byte(raw.Topic)},
			kgo.RecordHeader{Key: HeaderRawPartition, Value: strconv.AppendInt(nil, int64(raw.Partition), 10)},
			kgo.RecordHeader{Key: HeaderRawOffset, Value: strconv.AppendInt(nil, raw.Offset, 10)}),
	}
	if index >= 0 {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: HeaderIndex, Value: strconv.AppendInt(nil, index, 10)})
	}
}
