package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"cassdelta/commitlog"
	"cassdelta/schema"
)

// Why something is a dead letter; the label of a metric.
const (
	reasonUnknownTable   = "unknown-table"
	reasonUnknownColumn  = "unknown-column"
	reasonUndecodable    = "undecodable"
	reasonDamaged        = "damaged-entry"
	reasonDamagedSegment = "damaged-segment"
)

// deadLetter writes the payload of an item to the dead-letter topic, in several records if it is too long for one.
func (p *publisher) deadLetter(ctx context.Context, n uint64, item *commitlog.Item, reason string, table schema.UUID, failure error) error {
	p.metrics.deadLetters.WithLabelValues(reason).Inc()
	if p.tables.complain(reason + table.String()) {
		p.log.Error("written to the dead-letter topic; more of the kind are only counted", zap.String("reason", reason), zap.Error(failure))
	}
	headers := []kgo.RecordHeader{
		{Key: "cassdelta.error", Value: []byte(failure.Error())},
		{Key: "cassdelta.reason", Value: []byte(reason)},
		{Key: "cassdelta.host", Value: []byte(p.c.Host.String())},
		{Key: "cassdelta.segment", Value: strconv.AppendInt(nil, item.Segment, 10)},
		{Key: "cassdelta.segment-version", Value: strconv.AppendInt(nil, int64(item.Version), 10)},
		{Key: "cassdelta.position", Value: strconv.AppendInt(nil, item.Position.Offset, 10)},
	}
	if !table.IsZero() {
		headers = append(headers, kgo.RecordHeader{Key: "cassdelta.table-id", Value: []byte(table.String())})
	}
	parts := max(1, (len(item.Payload)+p.c.MaxRecordBytes-1)/p.c.MaxRecordBytes)
	for i := range parts {
		from := i * p.c.MaxRecordBytes
		o := p.take(n)
		o.value = append(o.value[:0], item.Payload[from:min(len(item.Payload), from+p.c.MaxRecordBytes)]...)
		h := headers[:len(headers):len(headers)]
		if parts > 1 {
			h = append(h, kgo.RecordHeader{Key: "cassdelta.part", Value: fmt.Appendf(nil, "%d/%d", i+1, parts)})
		}
		if err := p.send(ctx, o, p.c.DeadLetterTopic, 0, h...); err != nil {
			return err
		}
	}
	return nil
}

// undecodable sets a mutation aside that could be decoded in part only, and adds to it what is found behind the update
// that failed.
func (p *publisher) undecodable(ctx context.Context, n uint64, item *commitlog.Item, failure error) error {
	var table *commitlog.UnknownTableError
	var column *commitlog.UnknownColumnError
	var decode *commitlog.DecodeError
	reason, id, after := reasonUndecodable, schema.UUID{}, -1
	switch {
	case errors.As(failure, &table):
		reason, id, after = reasonUnknownTable, table.ID, table.Offset
		p.tables.countUnknown(id)
	case errors.As(failure, &column):
		reason, after = reasonUnknownColumn, column.Offset
	case errors.As(failure, &decode):
		after = decode.Offset
	}
	// What follows a table that was dropped meanwhile is as good as ever.
	p.tables.decoder.Resync(item.Version, item.Payload, after, &p.mutation)
	if reason == reasonUnknownTable && p.c.Static {
		if p.tables.complain(id.String()) {
			p.log.Info("leaving out the mutations of a table that is not in the schema file", zap.Stringer("table id", id))
		}
		return nil
	}
	return p.deadLetter(ctx, n, item, reason, id, failure)
}
