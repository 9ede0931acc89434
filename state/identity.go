package state

import (
	"encoding/json"
	"fmt"
)

// Identity says what a store was built from. It is stored when the store is made, and a store is only ever opened as
// what it is: positions and rows of another topic, of another partition, would give wrong
// events.
type Identity struct {
	// Topic is the name of the raw topic, and TopicID the id that Kafka gave it: a topic made again under the same
	// name has another id. Zero if the brokers give none.
	Topic   string
	TopicID [16]byte
	// Partition is the raw partition, of Partitions.
	Partition, Partitions int32
}

// FormatVersion is the version of the keys' layout and of what this package itself stores.
const FormatVersion = 1

// storedIdentity is the JSON of the store's meta value "identity".
type storedIdentity struct {
	Format     int    `json:"format"`
	Topic      string `json:"topic"`
	TopicID    string `json:"topic_id"`
	Partition  int32  `json:"partition"`
	Partitions int32  `json:"partitions"`
}

func (id Identity) stored() storedIdentity {
	return storedIdentity{
		Format: FormatVersion, Topic: id.Topic, TopicID: fmt.Sprintf("%x", id.TopicID),
		Partition: id.Partition, Partitions: id.Partitions,
	}
}

func (id Identity) encode() ([]byte, error) {
	return json.Marshal(id.stored())
}

// validate refuses what cannot be an identity.
func (id Identity) validate() error {
	switch {
	case id.Topic == "":
		return fmt.Errorf("state: the identity names no topic")
	case id.Partitions < 1 || id.Partitions > StoreGroup:
		return fmt.Errorf("state: topic %s has %d partitions, expected 1 to %d", id.Topic, id.Partitions, StoreGroup)
	case id.Partition < 0 || id.Partition >= id.Partitions:
		return fmt.Errorf("state: partition %d of topic %s, expected 0 to %d", id.Partition, id.Topic, id.Partitions-1)
	}
	return nil
}

// check compares what the directory holds with what is expected of it.
func (id Identity) check(dir string, value []byte) error {
	var found storedIdentity
	if err := json.Unmarshal(value, &found); err != nil {
		return fmt.Errorf("state: %s: the stored identity %q is not what a store writes: %w; "+
			"move the directory away, the state is then built again from the raw topic", dir, value, err)
	}
	want := id.stored()
	if found == want {
		return nil
	}
	const rebuilt = "the state is then built again from the raw topic"
	advice := "point the state directory elsewhere, or move this one away: " + rebuilt
	switch {
	case found.Format != want.Format:
		advice = "open it with the version of the program that wrote it, or move the directory away: " + rebuilt
	case found.Topic == want.Topic && found.TopicID != want.TopicID:
		advice = "the topic was deleted and made again, so the stored positions mean nothing now: move the directory away"
	}
	return fmt.Errorf("state: %s holds the state of %s, expected that of %s: %s", dir, found, want, advice)
}

func (s storedIdentity) String() string {
	return fmt.Sprintf("topic %s (id %s), partition %d of %d, format %d",
		s.Topic, s.TopicID, s.Partition, s.Partitions, s.Format)
}
