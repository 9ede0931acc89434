package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/google/pprof/profile"
)

// profiler takes one short CPU profile after the other from the worker.
type profiler struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	file   string
	taken  []*profile.Profile
	err    error
}

// profileSeconds is how long each is. The one under way at the end is lost.
const profileSeconds = 1

func (w *worker) profile(ctx context.Context) *profiler {
	ctx, cancel := context.WithCancel(ctx)
	p := &profiler{cancel: cancel, file: w.o.profile}
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", w.address, profileSeconds)
	p.done.Go(func() {
		for ctx.Err() == nil {
			taken, err := fetchProfile(ctx, url)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				p.err = err
				return
			}
			p.taken = append(p.taken, taken)
		}
	})
	return p
}

func fetchProfile(ctx context.Context, url string) (*profile.Profile, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	return profile.Parse(bytes.NewReader(text))
}

// stop ends the profiling. It may be called again.
func (p *profiler) stop() error {
	if p == nil {
		return nil
	}
	p.cancel()
	p.done.Wait()
	return p.err
}

// breakdown is for what the worker used the processor.
type breakdown struct {
	total int64 // ns
	parts map[string]int64
}

// result writes the profile and breaks it down. Nil if there is none.
func (p *profiler) result() *breakdown {
	if p == nil || len(p.taken) == 0 {
		return nil
	}
	merged, err := profile.Merge(p.taken)
	if err != nil {
		return nil
	}
	if f, err := os.Create(p.file); err == nil {
		merged.Write(f)
		f.Close()
	}
	b := &breakdown{parts: map[string]int64{}}
	for _, s := range merged.Sample {
		cpu := s.Value[len(s.Value)-1]
		b.total += cpu
		b.parts[partOf(s)] += cpu
	}
	return b
}

// parts are what the processor is used for, by functions on the stack: the first line of which one is there counts.
var parts = []struct {
	name      string
	functions []string
}{
	{"garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart", "runtime.gcMarkDone"}},
	{"compaction, flush", []string{"pebble/v2.(*DB).compact", "pebble/v2.(*DB).flush", "pebble/v2.(*DB).runCompaction", "pebble/v2/sstable/rowblk.(*Writer)", "pebble/v2/sstable/colblk.(*Data"}},
	{"decode", []string{"internal/rawtopic.(*Decoder).Decode"}},
	{"look-up", []string{"state.(*Txn).Get", "state.(*Txn).Scan"}},
	{"encode", []string{"internal/sink.(*Sink).Encode"}},
	{"produce", []string{"kgo.(*Client).Produce", "kgo.(*sink)", "kgo.(*recBuf)", "kgo.(*produceRequest)", "kgo.(*compressor)", "dedup.(*session).produce"}},
	{"write state", []string{"state.(*Txn).Commit", "state.(*Txn).Set", "state.(*Txn).Delete", "state.(*Txn).Discard"}},
	{"merge", []string{"dedup.(*Fold).Apply"}},
	{"fetch", []string{"kgo.(*source)", "kgo.(*Client).PollRecords", "kgo.(*cursor", "dedup.(*session).poll"}},
	{"rest of the client", []string{"franz-go/pkg/kgo."}},
	{"rest of the worker", []string{"cassdelta/"}},
	{"rest of the state", []string{"cockroachdb/pebble"}},
}

const otherPart = "runtime and other"

func partOf(s *profile.Sample) string {
	for _, p := range parts {
		for _, l := range s.Location {
			for _, line := range l.Line {
				for _, f := range p.functions {
					if line.Function != nil && strings.Contains(line.Function.Name, f) {
						return p.name
					}
				}
			}
		}
	}
	return otherPart
}

func (b *breakdown) print(out io.Writer) {
	if b == nil {
		return
	}
	fmt.Fprintf(out, "  CPU breakdown    (%.1f s profiled)\n", float64(b.total)/1e9)
	show := func(name string) {
		fmt.Fprintf(out, "    %-20s %5.1f %%\n", name, 100*float64(b.parts[name])/float64(max(1, b.total)))
	}
	for _, p := range parts {
		show(p.name)
	}
	show(otherPart)
}
