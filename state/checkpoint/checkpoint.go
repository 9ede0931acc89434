// Package checkpoint keeps copies of the state of raw partitions in an object store, so that another worker goes on from them
// when a worker or its disk is lost. docs/checkpoints.md says it from the operator's side.
//
// # Names
//
//	GROUP/TOPIC-TOPICID/PARTITION/files/SHA256-ID
//	GROUP/TOPIC-TOPICID/PARTITION/checkpoints/OFFSET-DONE-ID.json
//	GROUP/TOPIC-TOPICID/PARTITION/savepoints/NAME.json
//
// A checkpoint is a [Manifest]: the list of the files of a Pebble store, at the position S that is in them. Files are shared by the
// checkpoints that have them: an upload puts those only that the last checkpoint before it does not have. The manifest
// comes last, so what has a manifest is whole. Nothing is altered; each object is put under a name that is new, if
// that name is free. A savepoint is a copy of a manifest under a name of its own.
//
// There is no lock and no pointer to the newest. By the fold being pure any worker's checkpoint at S is as good as another's, so a
// worker that is no longer the owner of a partition and does not know it does no harm: whoever restores takes the one with
// the greatest S that is not beyond the group's position.
//
// # What is removed
//
// A checkpoint is newer than another if its position is greater and it was put no earlier. That is the same but for a group that was set back: what
// it made before is beyond its position, hence of no use, and does not take the place of what it makes after.
//
// A checkpoint is removed when keep newer ones are whole, and one of them is older than the grace period. A file is removed when no
// manifest has it, and it is older than the grace period. An upload takes less than [MaxUpload], or is given up before its
// manifest; the grace period is longer. So what an upload refers to stays:
//
//   - Files it put itself are younger than the grace period until its manifest is there.
//   - Files of others it takes only from the checkpoint that was put last, or, of those put at the same time, that with the greatest position.
//     That is removed once a newer one is older than the grace period, and that newer one was not there when the upload began.
//
// Ages are by the store's clock, taken from objects that it has just been given, so the clocks of workers play no
// part but for the length of an upload. A worker that was stopped for hours between its last look at the time and
// its manifest may leave one whose files are gone: whoever lists checkpoints looks for the files too, and such a one counts for nothing.
package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"cassdelta/state"
	"cassdelta/state/objects"
)

const (
	// MaxUpload is how long an upload may take.
	MaxUpload = time.Hour
	// grace is how long what is not needed is kept. It has to be longer than MaxUpload, by more than clocks run
	// differently within that time.
	grace = 3 * time.Hour

	// formatVersion is the version of the names and of the manifest.
	formatVersion = 1
	// inlineBytes is up to which size a file is within the manifest.
	inlineBytes = 16 << 10
	// maxManifest bounds the size of a manifest that is read: 200,000 files, about.
	maxManifest = 64 << 20
	// parallel is how many files are moved at once.
	parallel = 4
)

// ErrUnusable is returned, wrapped, for a checkpoint that this program cannot use: it is damaged, or not whole, or of another form.
var ErrUnusable = errors.New("the checkpoint is of no use")

// Repository is where the checkpoints of one group and one raw topic are. Its methods may be called from any goroutine.
type Repository struct {
	store  objects.Store
	prefix string
	of     Scope
	copies atomic.Int64 // that were begun
}

// Scope is what checkpoints are of.
type Scope struct {
	// Group is the consumer group: its position decides which checkpoints it can go on from.
	Group string
	// Topic and TopicID are the raw topic, which has so many Partitions.
	Topic      string
	TopicID    [16]byte
	Partitions int32
}

// NewRepository makes a repository. It asks for nothing.
func NewRepository(store objects.Store, of Scope) *Repository {
	return &Repository{store: store, of: of, prefix: fmt.Sprintf("%s/%s-%x/", escape(of.Group), of.Topic, of.TopicID)}
}

// Scope is what the checkpoints are of.
func (r *Repository) Scope() Scope { return r.of }

// String says where the checkpoints are.
func (r *Repository) String() string { return fmt.Sprintf("%v/%s", r.store, r.prefix) }

// Scopes finds what the store has checkpoints of.
func Scopes(ctx context.Context, store objects.Store) (all []Scope, err error) {
	seen := map[string]bool{}
	var found []string
	err = store.List(ctx, "", func(i objects.Info) error {
		parts := strings.Split(i.Name, "/")
		if len(parts) == 5 && parts[3]+"/" != filesFolder && !seen[parts[0]+"/"+parts[1]] {
			seen[parts[0]+"/"+parts[1]] = true
			found = append(found, i.Name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range found {
		stored, err := objects.ReadAll(ctx, store, name, maxManifest)
		if err != nil {
			return nil, err
		}
		m, err := decodeManifest(stored)
		if err != nil {
			return nil, fmt.Errorf("%v: %s: %w", store, name, err)
		}
		s := Scope{Group: m.Group, Topic: m.Topic, Partitions: m.Partitions}
		id, err := hex.DecodeString(m.TopicID)
		if err != nil || len(id) != len(s.TopicID) {
			return nil, fmt.Errorf("%v: %s: %w: the topic id %q is none", store, name, ErrUnusable, m.TopicID)
		}
		copy(s.TopicID[:], id)
		all = append(all, s)
	}
	return all, nil
}

// escape makes a name of objects of the name of a group, which has any bytes.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

func (r *Repository) partition(p int32) string { return fmt.Sprintf("%s%05d/", r.prefix, p) }

// Manifest says what a checkpoint is made of.
type Manifest struct {
	Format int `json:"format"`
	// Cluster is the name of the Cassandra cluster, for people.
	Cluster    string `json:"cluster,omitempty"`
	Group      string `json:"group"`
	Topic      string `json:"topic"`
	TopicID    string `json:"topic_id"`
	Partition  int32  `json:"partition"`
	Partitions int32  `json:"partitions"`
	Offset     int64  `json:"offset"`
	Done       int64  `json:"done"`
	// Epoch is [state.Store.Epoch].
	Epoch string `json:"epoch"`
	// StateFormat is [state.FormatVersion].
	StateFormat int `json:"state_format"`
	// Writer is who made it, and Created when by its clock, for people.
	Writer  string    `json:"writer"`
	Created time.Time `json:"created"`
	Files   []File    `json:"files"`
}

// File is a file of a Pebble store.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Object is where its bytes are, within files/. If it is empty they are Content.
	Object  string `json:"object,omitempty"`
	Content []byte `json:"content,omitempty"`
}

// Position is S.
func (m *Manifest) Position() state.Position {
	return state.Position{Offset: m.Offset, Done: m.Done}
}

// Bytes is the size of all files.
func (m *Manifest) Bytes() int64 {
	var n int64
	for i := range m.Files {
		n += m.Files[i].Size
	}
	return n
}

// checksumMark begins the last line of a stored manifest; the checksum of all before that line follows.
const checksumMark = "sha256:"

func (m *Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	return fmt.Appendf(b, "%s%x\n", checksumMark, sha256.Sum256(b)), nil
}

var (
	filePattern   = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	objectPattern = regexp.MustCompile(`^[0-9a-f]{64}-[0-9a-f]{16}$`)
)

func decodeManifest(stored []byte) (*Manifest, error) {
	unusable := func(format string, args ...any) (*Manifest, error) {
		return nil, fmt.Errorf("%w: %s", ErrUnusable, fmt.Sprintf(format, args...))
	}
	body, sum, ok := strings.Cut(string(stored), "\n"+checksumMark)
	if ok {
		body += "\n"
	}
	if got := sha256.Sum256([]byte(body)); !ok || sum != hex.EncodeToString(got[:])+"\n" {
		return unusable("the manifest is damaged: its checksum is not that of its bytes")
	}
	m := new(Manifest)
	if err := json.Unmarshal([]byte(body), m); err != nil {
		return unusable("the manifest cannot be read: %v", err)
	}
	if m.Format != formatVersion {
		return unusable("the manifest has format %d, this program knows format %d; use the version of the program that wrote it", m.Format, formatVersion)
	}
	for i := range m.Files {
		f := &m.Files[i]
		sum, err := hex.DecodeString(f.SHA256)
		if !filePattern.MatchString(f.Name) || f.Name == "." || f.Name == ".." || f.Size < 0 || err != nil || len(sum) != sha256.Size ||
			(f.Object == "" && f.Size != int64(len(f.Content))) || (f.Object != "" && !objectPattern.MatchString(f.Object)) {
			return unusable("the manifest has the file %q of %d bytes, which is not one of a store", f.Name, f.Size)
		}
	}
	return m, nil
}

// check refuses a manifest of something else than what is expected.
func (r *Repository) check(m *Manifest, partition int32) error {
	unusable := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrUnusable, fmt.Sprintf(format, args...))
	}
	id := hex.EncodeToString(r.of.TopicID[:])
	switch {
	case m.Topic != r.of.Topic || m.TopicID != id || m.Partition != partition || m.Partitions != r.of.Partitions:
		return unusable("it is of topic %s (id %s), partition %d of %d, expected %s (id %s), %d of %d",
			m.Topic, m.TopicID, m.Partition, m.Partitions, r.of.Topic, id, partition, r.of.Partitions)
	case m.StateFormat != state.FormatVersion:
		return unusable("its state has format %d, this program has %d", m.StateFormat, state.FormatVersion)
	}
	return nil
}

// checkpointName is the name of a checkpoint within its partition. The order of names is that of positions.
func checkpointName(p state.Position, id string) string {
	return fmt.Sprintf("%020d-%020d-%s", p.Offset, p.Done, id)
}

var checkpointPattern = regexp.MustCompile(`^(\d{20})-(\d{20})-[0-9a-f]{16}$`)

// parseName takes the name of a checkpoint apart.
func parseName(name string) (p state.Position, ok bool) {
	parts := checkpointPattern.FindStringSubmatch(name)
	if parts == nil {
		return p, false
	}
	var err1, err2 error
	p.Offset, err1 = strconv.ParseInt(parts[1], 10, 64)
	p.Done, err2 = strconv.ParseInt(parts[2], 10, 64)
	return p, err1 == nil && err2 == nil
}

// savepointPattern is what a savepoint may be called.
var savepointPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
