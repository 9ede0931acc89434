package sink

import (
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"cassdelta/dedup"
	"cassdelta/schema"
	"cassdelta/schema/registry"
)

// lasting are what brokers answer about a topic until someone changes something.
var lasting = []error{
	kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.InvalidTopicException, kerr.PolicyViolation,
	kerr.InvalidConfig, kerr.InvalidReplicationFactor, kerr.InvalidPartitions,
}

// tableError makes err a [*dedup.TableError] if it is one that stays until someone changes something: the topic may not be made or
// written, the registry does not take the schema.
func tableError(table *schema.Table, err error) error {
	var partitions *partitionsError
	if errors.As(err, &partitions) || registry.Refused(err) || slices.ContainsFunc(lasting, func(e error) bool { return errors.Is(err, e) }) {
		return &dedup.TableError{Table: table.FullName(), Err: err}
	}
	return err
}

// partitionsError says that a clean topic has another number of partitions than those that are made.
type partitionsError struct {
	topic           string
	expected, found int32
}

func (e *partitionsError) Error() string {
	return fmt.Sprintf("clean topic %s: expected %d partitions, found %d; the number is fixed when the topic is made: "+
		"set clean-partitions to that of all clean topics, or choose another topic-prefix", e.topic, e.expected, e.found)
}
