package dedup

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cassdelta/state"
)

// Settings are what a transition of the fold depends on besides the log and the state.
type Settings struct {
	// Fold is the version of the fold.
	Fold int32
	// Retention is how long the dead of a table are kept at least, in seconds: longer if its gc grace is.
	Retention int64
}

// DefaultSettings are those of a worker that is told no others.
var DefaultSettings = Settings{Fold: FoldVersion, Retention: int64(defaultRetention / time.Second)}

// defaultRetention is what operators take for granted to be repaired in time, with much to spare.
const defaultRetention = 30 * 24 * time.Hour

// epoch is a run of records of a raw partition that are folded by the same settings. The records of an epoch are those from an offset on, up to the
// next epoch's. Its text is
//
//	2@1234;fold=1;retention=2592000
//
// and is stored with S, of the epoch that the state is in, and with C, of the last ones up to it. So other settings take effect in one place of the log,
// and a replay of what is before that place has the settings by which its events were made. An epoch begins where S == C: in the
// transaction whose first record is its first.
type epoch struct {
	// number is one more than that of the epoch before.
	number int64
	// from is the offset of its first record. An epoch may have none.
	from     int64
	settings Settings
}

// firstEpoch is that of a state and of a position that say nothing of epochs.
var firstEpoch = epoch{number: 1, settings: DefaultSettings}

// maxEpochs is how many epochs the metadata of a position has: Kafka bounds it, and there is one more each time that an operator
// alters a setting.
const maxEpochs = 8

func (e epoch) text() string {
	return fmt.Sprintf("%d@%d;fold=%d;retention=%d", e.number, e.from, e.settings.Fold, e.settings.Retention)
}

var errNoEpoch = errors.New("it is no epoch that this version knows; a newer one has settings that this one has not")

func parseEpoch(text string) (epoch, error) {
	if text == "" {
		return firstEpoch, nil
	}
	words := strings.Split(text, ";")
	number, from, _ := strings.Cut(words[0], "@")
	if len(words) != 3 {
		return epoch{}, fmt.Errorf("%q: %w", text, errNoEpoch)
	}
	fold, isFold := strings.CutPrefix(words[1], "fold=")
	retention, isRetention := strings.CutPrefix(words[2], "retention=")
	var e epoch
	var errs [4]error
	e.number, errs[0] = strconv.ParseInt(number, 10, 64)
	e.from, errs[1] = strconv.ParseInt(from, 10, 64)
	version, err := strconv.ParseInt(fold, 10, 32)
	e.settings.Fold, errs[2] = int32(version), err
	e.settings.Retention, errs[3] = strconv.ParseInt(retention, 10, 64)
	if errors.Join(errs[:]...) != nil || !isFold || !isRetention || e.number < 1 || e.from < 0 || e.settings.Retention < 0 {
		return epoch{}, fmt.Errorf("%q: %w", text, errNoEpoch)
	}
	return e, nil
}

// epochs are those that are known of a raw partition, in order and without a gap.
type epochs []epoch

func (all epochs) text() string {
	var texts []string
	for _, e := range all {
		texts = append(texts, e.text())
	}
	return strings.Join(texts, ",")
}

func parseEpochs(text string) (all epochs, err error) {
	for part := range strings.SplitSeq(text, ",") {
		e, err := parseEpoch(part)
		if err == nil && (part == "" || len(all) > 0 && (e.number != all.last().number+1 || e.from < all.last().from)) {
			err = fmt.Errorf("%q: %w", part, errNoEpoch)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func (all epochs) last() epoch { return all[len(all)-1] }

// with is all with one more, from an offset on. The oldest are forgotten.
func (all epochs) with(from int64, s Settings) epochs {
	more := append(slices.Clone(all), epoch{number: all.last().number + 1, from: from, settings: s})
	return more[max(0, len(more)-maxEpochs):]
}

// upTo are those that have begun at an offset.
func (all epochs) upTo(offset int64) epochs {
	n := len(all)
	for n > 0 && all[n-1].from > offset {
		n--
	}
	return all[:n]
}

// between says through which epochs a state comes to the group's position: those from the one that it is in, which is the first, on. In is the epoch that is stored
// with the state, which is at a position, hasState false if there is none.
func between(in epoch, at state.Position, hasState bool, c committed, s Settings) (epochs, error) {
	all := c.knownEpochs()
	switch {
	case len(all) == 0 && hasState:
		return epochs{in}, nil // a tool set the position
	case len(all) == 0:
		return epochs{{number: 1, settings: s}}, nil
	case !hasState && all[0].number != 1:
		return nil, fmt.Errorf("the settings have changed %d times, and those of the first records are not known any more", all.last().number-1)
	case !hasState:
		return all, nil
	case in.number == all[0].number-1:
		return append(epochs{in}, all...), nil
	}
	i := slices.Index(all, in)
	if i < 0 {
		return nil, fmt.Errorf("the state is of the epoch %s, which is not among those that the group's position names, %s", in.text(), all.text())
	}
	if all = all[i:]; len(all) > 1 && (state.Position{Offset: all[1].from}).Compare(at) < 0 {
		return nil, fmt.Errorf("the state at %v is of the epoch %s, and by the group's position the records from offset %d on are of the epoch %s: the group was set back since",
			at, in.text(), all[1].from, all[1].text())
	}
	return all, nil
}

// foldable is an error if the fold of an epoch is not part of this program.
func (all epochs) foldable() error {
	for _, e := range all {
		if e.settings.Fold != FoldVersion {
			return fmt.Errorf("the records from the offset %d on were folded by version %d of the fold, and this program has version %d; "+
				"run the program that has that version", e.from, e.settings.Fold, FoldVersion)
		}
	}
	return nil
}

// epochsOf are the epochs from that of the state on.
func (t *task) epochsOf(r *resumption) (epochs, error) {
	t.stored = t.store.Epoch()
	in, err := parseEpoch(t.stored)
	var all epochs
	if err == nil {
		all, err = between(in, r.state, r.hasState, r.group, t.w.settings)
	}
	if err != nil {
		return nil, &PositionError{Topic: r.topic.Name, Partition: r.partition, Reason: fmt.Sprintf(
			"the records after the state in %s cannot be folded as they were: %v; run the version of the program that has written it, or remove that directory: "+
				"the state is then restored from a checkpoint, or built again from the raw topic", r.directory, err)}
	}
	if !r.hasState && !r.hasGroup {
		all[0].from = r.log.start
	}
	return all, nil
}

// startIn makes the fold go by the first of all. The position that the group has is to.
func (t *task) startIn(all epochs, to committed) {
	t.epochs, t.before, t.known = all, all, to.knownEpochs()
	if len(t.known) == 0 {
		t.known = all
	}
	t.knownText = t.known.text()
	t.fold.Use(all[0].settings)
}

// enterDue lets the fold enter the epochs that have begun at an offset, before the record there.
func (t *task) enterDue(offset int64) error {
	for len(t.epochs) > 1 && t.epochs[1].from <= offset {
		if err := t.enter(t.epochs[1:]); err != nil {
			return err
		}
	}
	return nil
}

func (t *task) enter(all epochs) error {
	if err := t.fold.Enter(t.tx, all[0].settings); err != nil {
		return &stopError{fmt.Errorf("raw topic %s, partition %d: go over to other settings: %w", t.w.topic.Name, t.partition, err)}
	}
	t.epochs = all
	return nil
}

// switchEpoch begins an epoch if the worker has other settings than the last, at the start of a transaction: S is C.
func (t *task) switchEpoch() error {
	if t.committed.Done > 0 {
		return nil // a record is folded to its end by the settings with which it was begun
	}
	if err := t.enterDue(t.committed.Offset); err != nil {
		return err
	}
	now, wanted := t.epochs[0], t.w.settings
	if now.settings == wanted {
		return nil
	}
	t.known = t.known.with(t.committed.Offset, wanted)
	t.knownText = t.known.text()
	return t.enter(epochs{t.known.last()})
}
