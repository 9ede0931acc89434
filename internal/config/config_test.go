package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

type command struct {
	File
	Kafka struct {
		Brokers []string `default:"127.0.0.1:9092"`
	} `embed:"" prefix:"kafka-"`
	RawTopic string        `default:"raw"`
	Interval time.Duration `default:"1s"`
	Live     bool
	Level    string `default:"low" enum:"low,high"`
	Name     *onlyY
	Tables   PerTable[tableSettings]
	Must     []string `required:"" default:"set"`
}

type tableSettings struct {
	Who   onlyY `yaml:"who"`
	Quiet *bool `yaml:"quiet"`
}

// onlyY takes the text y.
type onlyY struct{ text string }

func (o *onlyY) UnmarshalText(text []byte) error {
	if o.text = string(text); o.text != "y" {
		return fmt.Errorf("expected y, found %s", text)
	}
	return nil
}

func load(t *testing.T, text string, args ...string) (command, error) {
	t.Helper()
	var cli struct {
		Run command `cmd:""`
	}
	parser, err := kong.New(&cli, kong.DefaultEnvars("CASSDELTA"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "role.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"run", "--config", path}, args...))
	return cli.Run, err
}

func TestFileSetsFlags(t *testing.T) {
	c, err := load(t, "kafka:\n  brokers: [a:1, 'b:2']\nraw-topic: changes\nname: y\ninterval: 250ms\nlive: true\n")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(c.Kafka.Brokers, " ") != "a:1 b:2" || c.RawTopic != "changes" || c.Interval != 250*time.Millisecond || c.Name == nil || c.Name.text != "y" || !c.Live {
		t.Errorf("got %+v", c)
	}
}

func TestPerTable(t *testing.T) {
	const text = "tables:\n  shop.orders: {who: y, quiet: false}\n  shop.Items:\n    quiet: true\n"
	check := func(c command, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		orders, items := c.Tables.ByName["shop.orders"], c.Tables.ByName["shop.Items"]
		if len(c.Tables.ByName) != 2 || orders.Who.text != "y" || orders.Quiet == nil || *orders.Quiet || items.Quiet == nil || !*items.Quiet {
			t.Errorf("got %+v", c.Tables)
		}
	}
	check(load(t, text))
	const line = "{shop.orders: {who: y, quiet: false}, shop.Items: {quiet: true}}"
	check(load(t, "tables: {a.b: {}}\n", "--tables="+line))
	t.Setenv("CASSDELTA_TABLES", line)
	check(load(t, "tables: {a.b: {}}\n"))
	if c, err := load(t, "", "--tables="); err != nil || len(c.Tables.ByName) > 0 {
		t.Errorf("no settings: %+v, %v", c.Tables, err)
	}
	if _, err := load(t, "", "--tables={orders: {}}"); err == nil || !strings.Contains(err.Error(), `--tables: expected the name of a table as keyspace.table, found "orders"`) {
		t.Errorf("a wrong flag: %v", err)
	}
}

func TestPrecedence(t *testing.T) {
	t.Setenv("CASSDELTA_RAW_TOPIC", "from-environment")
	t.Setenv("CASSDELTA_INTERVAL", "3s")
	c, err := load(t, "raw-topic: from-file\ninterval: 2s\nkafka-brokers: [file:1]\n", "--interval=4s")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != nil || c.RawTopic != "from-environment" || c.Interval != 4*time.Second || c.Kafka.Brokers[0] != "file:1" {
		t.Errorf("got %+v", c)
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "raw-topic: a\nraw-topik: b\n", "role.yaml:2: unknown key raw-topik; did you mean raw-topic?"},
		{"unknown nested key", "kafka:\n\n  broker: [x]\n", "role.yaml:3: unknown key kafka.broker; did you mean kafka-brokers?"},
		{"nothing near", "colour-of-the-sky: blue\n", "role.yaml:1: unknown key colour-of-the-sky; --help lists"},
		{"set twice", "kafka-brokers: [a]\nkafka: {brokers: [b]}\n", "role.yaml:2: kafka.brokers is already set by kafka-brokers in line 1"},
		{"not a mapping", "- a\n", "role.yaml:1: expected a mapping of keys to values, found a list"},
		{"nested list", "kafka: {brokers: [[a]]}\n", "role.yaml:1: kafka.brokers: expected a list of plain values"},
		{"wrong value", "raw-topic: a\ninterval: soon\n", "role.yaml:2: interval: expected duration but got \"soon\""},
		{"wrong flag", "live: perhaps\n", "role.yaml:1: live: bool value must be"},
		{"list for one value", "raw-topic: [a, b]\n", "role.yaml:1: raw-topic: expected one value, found a list"},
		{"empty list", "kafka: {brokers: []}\n", "role.yaml:1: kafka.brokers: expected at least one value"},
		{"wrong text", "name: x\n", "role.yaml:1: name: expected y, found x"},
		{"none of those allowed", "level: loud\n", "role.yaml:1: level: expected one of low, high, found \"loud\""},
		{"two problems", "level: loud\nlevels: low\n", "role.yaml:2: unknown key levels; did you mean level?"},
		{"bad yaml", "a: [\n", "role.yaml"},
		{"tables that are none", "live: true\ntables: [a]\n", "role.yaml:2: tables: expected one value, found a list"},
		{"text of tables", "tables: x\n", "role.yaml:1: tables: expected a mapping of keyspace.table to settings, found the value \"x\""},
		{"no table", "tables:\n  a.b: {quiet: true}\n  orders: {quiet: true}\n", `role.yaml:3: tables: expected the name of a table as keyspace.table, found "orders"`},
		{"table twice", "tables:\n  a.b: {}\n  a.b: {}\n", "role.yaml:3: tables: the settings of table a.b are given twice"},
		{"no settings", "tables:\n  a.b: loud\n", "role.yaml:2: tables: a.b: expected a mapping of settings, found the value \"loud\""},
		{"unknown setting", "tables:\n  a.b:\n    quiet: true\n    loud: true\n", "role.yaml:4: tables: a.b: unknown setting loud; there are: who, quiet"},
		{"setting twice", "tables:\n  a.b:\n    quiet: true\n    quiet: true\n", "role.yaml:4: tables: a.b.quiet is set twice"},
		{"wrong setting", "tables:\n  a.b:\n    quiet: true\n    who: me\n", "role.yaml:4: tables: a.b.who: expected y, found me"},
		{"an empty value", "must: [a, '']\n", "role.yaml:1: must: expected a value, found an empty one"},
		{"alias of itself", "kafka: &k\n  brokers: *k\n", "role.yaml:2: kafka.brokers: expected a value, found the alias *k"},
		{"alias in a setting", "x: &x true\ntables:\n  a.b: {quiet: *x}\n", "role.yaml:1: unknown key x"},
		{"two documents", "raw-topic: a\n---\nraw-topic: b\n", "role.yaml:2: expected one document, found another behind ---"},
		{"setting of another type", "tables:\n  a.b: {quiet: perhaps}\n", "role.yaml:2: tables: a.b.quiet: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(t, test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// FuzzParse: any text is taken or refused, soon.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"kafka:\n  brokers: [a:1, 'b:2']\nraw-topic: changes\n", "a: &x\n  b: *x\n", "tables:\n  a.b: {quiet: true}\n", "---\na: 1\n---\n", "<<: *x\n", "- a\n", "!!binary x: y\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := parse("role.yaml", text, nil)
		if err != nil && !strings.HasPrefix(err.Error(), "role.yaml:") {
			t.Errorf("error %v, want one that names the file", err)
		}
		for name, e := range entries {
			if e.line < 1 || e.key == "" && name != "" {
				t.Errorf("entry %q is %+v", name, e)
			}
		}
	})
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"2GiB": 2 << 30, "512MiB": 512 << 20, "64KiB": 64 << 10, "0KiB": 0,
		"": -1, "2": -1, "GiB": -1, "-1GiB": -1, "1.5GiB": -1, "9999999999GiB": -1, "2GB": -1} {
		b := Bytes(-1)
		if err := b.UnmarshalText([]byte(text)); b != want || (err == nil) != (want >= 0) {
			t.Errorf("%q: expected %d, found %d, %v", text, want, b, err)
		}
		if want < 0 || want == 0 {
			continue
		}
		if found, err := b.MarshalText(); err != nil || string(found) != text {
			t.Errorf("expected %q, found %q, %v", text, found, err)
		}
	}
}
