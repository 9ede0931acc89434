package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cassdelta/internal/sink"
	"cassdelta/schema/registry"
)

// Config says what is printed and how.
type Config struct {
	// ClientOpts are those of the connection to Kafka.
	ClientOpts []kgo.Opt
	// Prefix begins the names of the clean topics.
	Prefix string
	// Tables limits the tables: KEYSPACE.TABLE is one, KEYSPACE all of a keyspace. None is no limit.
	Tables []string
	// FromStart begins with the oldest events that the topics have; otherwise only events that come after the start of Follow
	// are printed.
	FromStart bool
	// UntilEnd ends with the last event that is there when Follow starts, and so begins with the oldest too.
	UntilEnd bool
	// Registry has the schemas; nil if they are in the schema topic.
	Registry *registry.Client
	// JSON prints for programs.
	JSON bool
	// Out takes the events, Notes remarks about what is no event.
	Out, Notes io.Writer
}

// lookEvery is the time after which new topics are looked for.
const lookEvery = 2 * time.Second

// Follow prints the committed events of all clean topics, those that are made while it runs too, until ctx ends. The events
// of a partition are printed in order, those of different ones as they come. A record that is no event is remarked and left
// out; with UntilEnd there is an error at the end if there were such.
func Follow(ctx context.Context, cfg Config) error {
	topics, names, err := topicPattern(cfg.Prefix, cfg.Tables)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(cfg.ClientOpts[:len(cfg.ClientOpts):len(cfg.ClientOpts)],
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The last record of a partition mostly is the end of a transaction; the end is reached when that was seen.
		kgo.KeepControlRecords())...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	reader := sink.NewReader(sink.ReaderConfig{Prefix: cfg.Prefix, Opts: cfg.ClientOpts, Registry: cfg.Registry})
	defer reader.Close()
	f := &follower{
		cfg: cfg, topics: topics, names: names, client: client, admin: kadm.NewClient(client), reader: reader, printer: NewPrinter(cfg.Out, cfg.JSON),
		partitions: map[string]map[int32]bool{}, ends: map[place]int64{},
	}
	if err := client.Ping(ctx); err != nil {
		return ended(ctx, fmt.Errorf("no Kafka broker answers: %w; check kafka-brokers, and whether they want TLS or a login", err))
	}
	if err := f.begin(ctx); err != nil {
		return ended(ctx, err)
	}
	return ended(ctx, f.run(ctx))
}

// ended is nil in place of the errors that the end of ctx makes.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// topicPattern matches the clean topics of the tables. names says the same for people.
func topicPattern(prefix string, tables []string) (pattern *regexp.Regexp, names string, err error) {
	const each = `[^.]+`
	var patterns, globs []string
	for _, t := range tables {
		keyspace, table, one := strings.Cut(t, ".")
		if keyspace == "" || one && table == "" || strings.Contains(table, ".") {
			return nil, "", fmt.Errorf("table %q: expected KEYSPACE.TABLE, or KEYSPACE for all of its tables", t)
		}
		topic, err := sink.TopicName(prefix, keyspace, table)
		if err != nil {
			return nil, "", err
		}
		if one {
			patterns, globs = append(patterns, regexp.QuoteMeta(topic)), append(globs, topic)
		} else {
			patterns, globs = append(patterns, regexp.QuoteMeta(topic)+each), append(globs, topic+"*")
		}
	}
	if len(patterns) == 0 {
		patterns, globs = []string{regexp.QuoteMeta(prefix) + `\.` + each + `\.` + each}, []string{prefix + ".*.*"}
	}
	pattern, err = regexp.Compile(`^(` + strings.Join(patterns, "|") + `)$`)
	return pattern, strings.Join(globs, ", "), err
}

// place is a partition.
type place struct {
	topic     string
	partition int32
}

// follower is the state of Follow. It belongs to one goroutine.
type follower struct {
	cfg     Config
	topics  *regexp.Regexp
	names   string // of the topics, for people
	client  *kgo.Client
	admin   *kadm.Client
	reader  *sink.Reader
	printer *Printer
	// partitions are those that are consumed.
	partitions map[string]map[int32]bool
	// ends are the offsets to reach, with UntilEnd: those of the partitions where that was not reached yet.
	ends map[place]int64
	// unread counts the records that are no events.
	unread int
}

// begin starts with the topics that are there.
func (f *follower) begin(ctx context.Context) error {
	found, err := f.look(ctx)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		if f.cfg.UntilEnd {
			return fmt.Errorf("there is no topic %s; check topic-prefix and the names of the tables", f.names)
		}
		fmt.Fprintf(f.cfg.Notes, "There is no topic %s yet; waiting for one.\n", f.names)
		return nil
	}
	names := found.Names()
	starts, err := f.admin.ListStartOffsets(ctx, names...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("list the first offsets of the clean topics: %w", err)
	}
	ends, err := f.admin.ListCommittedOffsets(ctx, names...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("list the last offsets of the clean topics: %w", err)
	}
	f.consume(found, func(p place) kgo.Offset {
		start, _ := starts.Lookup(p.topic, p.partition)
		end, _ := ends.Lookup(p.topic, p.partition)
		if f.cfg.UntilEnd && start.Offset < end.Offset {
			f.ends[p] = end.Offset
		}
		if f.cfg.FromStart || f.cfg.UntilEnd {
			return kgo.NewOffset().At(start.Offset)
		}
		return kgo.NewOffset().At(end.Offset)
	})
	return nil
}

// look finds the topics that are there and usable.
func (f *follower) look(ctx context.Context) (kadm.TopicDetails, error) {
	all, err := f.admin.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the topics: %w", err)
	}
	all.FilterInternal()
	for name, t := range all {
		usable := t.Err == nil
		for _, p := range t.Partitions {
			usable = usable && p.Err == nil
		}
		if !usable || !f.topics.MatchString(name) {
			delete(all, name)
		}
	}
	return all, nil
}

// consume begins with the partitions that are new, each at the offset that from says.
func (f *follower) consume(found kadm.TopicDetails, from func(place) kgo.Offset) {
	fresh := map[string]map[int32]kgo.Offset{}
	for name, t := range found {
		for partition := range t.Partitions {
			if f.partitions[name][partition] {
				continue
			}
			if fresh[name] == nil {
				fresh[name] = map[int32]kgo.Offset{}
			}
			if f.partitions[name] == nil {
				f.partitions[name] = map[int32]bool{}
			}
			fresh[name][partition] = from(place{name, partition})
			f.partitions[name][partition] = true
		}
	}
	f.client.AddConsumePartitions(fresh)
}

// run prints until ctx ends, or the ends are reached.
func (f *follower) run(ctx context.Context) error {
	looked := time.Now()
	for !f.cfg.UntilEnd || len(f.ends) > 0 {
		if !f.cfg.UntilEnd && time.Since(looked) >= lookEvery {
			found, err := f.look(ctx)
			if err != nil {
				return err
			}
			// All that a new topic has came after the start.
			f.consume(found, func(place) kgo.Offset { return kgo.NewOffset().AtStart() })
			looked = time.Now()
		}
		wait, cancel := context.WithTimeout(ctx, lookEvery)
		fetches := f.client.PollFetches(wait)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := f.print(ctx, fetches); err != nil {
			return err
		}
	}
	if f.unread > 0 {
		return fmt.Errorf("%d records could not be read; they are named above", f.unread)
	}
	return nil
}

func (f *follower) print(ctx context.Context, fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, context.DeadlineExceeded) {
			continue
		}
		if loss := (*kgo.ErrDataLoss)(nil); errors.As(e.Err, &loss) {
			fmt.Fprintf(f.cfg.Notes, "Records were missed: %v\n", e.Err)
			continue
		}
		return fmt.Errorf("read topic %s, partition %d: %w", e.Topic, e.Partition, e.Err)
	}
	for r := range fetches.RecordsAll() {
		if f.cfg.UntilEnd {
			at := place{r.Topic, r.Partition}
			end := f.ends[at] // 0 once it was reached
			if r.Offset >= end-1 {
				delete(f.ends, at)
			}
			if r.Offset >= end {
				continue // it came after the start
			}
		}
		if r.Attrs.IsControl() {
			continue
		}
		change, err := f.reader.Read(ctx, r)
		if unread := (*sink.RecordError)(nil); errors.As(err, &unread) {
			f.unread++
			fmt.Fprintf(f.cfg.Notes, "A record was left out: %v\n", unread)
			continue
		}
		if err != nil {
			return fmt.Errorf("topic %s: %w", r.Topic, err)
		}
		if err := f.printer.Print(change); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}
