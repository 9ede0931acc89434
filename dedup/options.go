package dedup

import (
	"bytes"
	"fmt"

	"cassdelta/internal/rawtopic"
	"cassdelta/schema"
)

// TableOptions say which events of a table are emitted. They are no part of the fold: what is left out keeps its number,
// and the state is the same whatever they are, so they can be changed at any time.
type TableOptions struct {
	Emit Emit `yaml:"emit"`
	// Expiry says whether expiries are emitted: the events with ReasonTTL that time alone made. Nil is true. Where it is false a
	// reader learns from the next event of the row alone, or not at all, that something of it has expired. What a write does that
	// comes after its own expiry is emitted in any case: it takes values from the row that were not to expire then, or at all.
	Expiry *bool `yaml:"expiry"`
}

// Emit is which changes of a table are emitted.
type Emit string

const (
	// EmitAll are all. The empty Emit is the same.
	EmitAll Emit = "all"
	// EmitChanges are those that a reader of the images can see: a row that begins or ceases to exist, or has another value.
	EmitChanges Emit = "changes"
)

// UnmarshalText takes the values that there are.
func (e *Emit) UnmarshalText(text []byte) error {
	if v := Emit(text); v == EmitAll || v == EmitChanges {
		*e = v
		return nil
	}
	return fmt.Errorf("expected %s or %s, found %q", EmitAll, EmitChanges, text)
}

// leaves reports whether an event is left out. Where Emit leaves one out the image after it is the one before it, so the
// chain of the events that are emitted has no gap; without expiries it has.
func (o *TableOptions) leaves(e *Event) bool {
	return o.Expiry != nil && !*o.Expiry && e.Reason == ReasonTTL && e.Origin == (rawtopic.Origin{}) || o.Emit == EmitChanges && e.rewrite()
}

// rewrite reports whether the images are there and the same: what changed are write times, times to live, or the
// liveness.
func (e *Event) rewrite() bool {
	if e.Before == nil || e.After == nil {
		return false
	}
	for i := range e.Before {
		if (e.Before[i] == nil) != (e.After[i] == nil) || !bytes.Equal(e.Before[i], e.After[i]) {
			return false
		}
	}
	return true
}

// optionsOf finds the options of tables, which are looked up by name once for each definition.
type optionsOf struct {
	byName map[string]TableOptions
	known  map[*schema.Table]*TableOptions
}

func (o *optionsOf) table(t *schema.Table) *TableOptions {
	if found := o.known[t]; found != nil {
		return found
	}
	if o.known == nil || len(o.known) >= maxKnownOptions {
		o.known = map[*schema.Table]*TableOptions{}
	}
	options := o.byName[t.FullName()]
	o.known[t] = &options
	return &options
}

// maxKnownOptions bounds what a task keeps of definitions that were replaced.
const maxKnownOptions = 1 << 12
