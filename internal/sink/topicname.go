package sink

import (
	"fmt"
	"strings"
)

// maxTopicName is the length in bytes that Kafka allows.
const maxTopicName = 249

// TopicName is the clean topic of a table: <prefix>.<keyspace>.<table>. It is an error if Kafka does not allow a name
// that long.
//
// Cassandra allows letters, digits and underscores in the names of keyspaces and tables, which stay as they are. Any
// other byte becomes a dash and two hexadecimal digits, so that different tables have different topics whatever they are
// called, and the name has the two dots behind the prefix.
func TopicName(prefix, keyspace, table string) (string, error) {
	name := prefix + "." + legalName(keyspace) + "." + legalName(table)
	if len(name) > maxTopicName {
		return "", fmt.Errorf("clean topic %s: its name has %d bytes, and Kafka allows %d; choose a shorter topic-prefix", name, len(name), maxTopicName)
	}
	return name, nil
}

func legalName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "-%02x", c)
		}
	}
	return b.String()
}

// SchemaTopicName is the topic that keeps the schemas of the clean topics where there is no registry.
func SchemaTopicName(prefix string) string { return prefix + ".schemas" }

// checkPrefix says what is wrong with a topic prefix.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return fmt.Errorf("topic-prefix: expected a name, found none")
	}
	for i := range len(prefix) {
		if c := prefix[i]; legalName(string(c)) != string(c) && c != '.' && c != '-' {
			return fmt.Errorf("topic-prefix %q: expected letters, digits, dots, dashes and underscores, which Kafka allows in the name of a topic; found %q", prefix, c)
		}
	}
	return nil
}
