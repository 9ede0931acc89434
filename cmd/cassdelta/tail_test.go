package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"go.uber.org/zap"

	"cassdelta/dedup"
	"cassdelta/internal/sink"
	"cassdelta/schema"
	"cassdelta/schema/registry"
)

// secret is in no output of any test.
const secret = "hunter2"

// runTail is the verb tail as main runs it.
func runTail(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var c struct {
		Tail tailCmd `cmd:""`
	}
	var out, help bytes.Buffer
	parser, err := kong.New(&c, kong.Name("cassdelta"), kong.DefaultEnvars("CASSDELTA"), kong.Writers(&help, &help), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	kctx, err := parser.Parse(append([]string{"tail"}, args...))
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		kctx.BindTo(ctx, (*context.Context)(nil))
		kctx.BindTo(&out, (*io.Writer)(nil))
		err = kctx.Run()
	}
	text := out.String() + help.String()
	if err != nil {
		text += err.Error()
	}
	if strings.Contains(text, secret) {
		t.Errorf("the password is shown: %s", text)
	}
	return out.String(), err
}

// writeEvents writes an insert, an update and a delete of a row to the clean topic cassdelta.shop.orders.
func writeEvents(t *testing.T, opts []kgo.Opt, reg *registry.Client) {
	t.Helper()
	parsed, err := schema.ParseCQL("test.cql", `CREATE TABLE shop.orders (id int PRIMARY KEY, total decimal, placed timestamp)
		WITH ID = 52bc67b0-e7b2-11f1-bcc4-336fe8c091c7 AND cdc = true;`)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(append(opts[:len(opts):len(opts)], kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, err := sink.New(sink.Config{Prefix: "cassdelta", Client: client, Registry: reg, RawPartitions: 12, Replication: 1, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	image := func(total byte) [][]byte { // id, placed, total
		return [][]byte{nil, binary.BigEndian.AppendUint64(nil, 1769938200000), {0, 0, 0, 1, total}}
	}
	for _, e := range []dedup.Event{
		{Op: dedup.Create, After: image(100)},
		{Op: dedup.Update, Before: image(100), After: image(120)},
		{Op: dedup.Delete, Before: image(120)},
	} {
		e.Table, e.Reason, e.Complete, e.Partition = parsed.Tables[0], dedup.ReasonMutation, true, [][]byte{{0, 0, 0, 7}}
		e.RawPartition, e.Timestamp = 5, 1769938200123456
		var rec kgo.Record
		if _, err := s.Encode(t.Context(), &e, &rec, nil); err != nil {
			t.Fatal(err)
		}
		if err := client.ProduceSync(t.Context(), &rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func startKafka(t *testing.T, opts ...kfake.Opt) (addr string) {
	t.Helper()
	cluster, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()[0]
}

const forPeople = `2026-02-01 09:30:00.123 c shop.orders id=7 placed: 2026-02-01 09:30:00.000Z, total: 10.0
2026-02-01 09:30:00.123 u shop.orders id=7 total: 10.0 -> 12.0
2026-02-01 09:30:00.123 d shop.orders id=7 placed: 2026-02-01 09:30:00.000Z, total: 12.0
`

// TestTail runs events through the sink, a broker and the verb, with the schemas in their topic and in a registry.
func TestTail(t *testing.T) {
	t.Run("schema topic", func(t *testing.T) {
		addr := startKafka(t)
		writeEvents(t, []kgo.Opt{kgo.SeedBrokers(addr)}, nil)
		if out, err := runTail(t, "--kafka-brokers", addr, "--until-end"); out != forPeople || err != nil {
			t.Errorf("printed\n%s%v, expected\n%s", out, err, forPeople)
		}
		if out, err := runTail(t, "--kafka-brokers", addr, "--until-end", "shop.customers"); out != "" || err == nil {
			t.Errorf("a table that is not there: printed %q, %v", out, err)
		}
	})
	t.Run("registry", func(t *testing.T) {
		fake := srfake.New(srfake.WithAuth("Basic bWU6aHVudGVyMg==")) // me:hunter2
		defer fake.Close()
		reg, err := registry.New(registry.Config{URLs: []string{fake.URL()}, Username: "me", Password: secret})
		if err != nil {
			t.Fatal(err)
		}
		addr := startKafka(t)
		writeEvents(t, []kgo.Opt{kgo.SeedBrokers(addr)}, reg)
		t.Setenv("CASSDELTA_REGISTRY_PASSWORD", secret)
		out, err := runTail(t, "--kafka-brokers", addr, "--until-end", "--json", "--registry-url", fake.URL(), "--registry-username", "me")
		if err != nil {
			t.Fatal(err)
		}
		var ops []string
		for line := range strings.Lines(out) {
			var e struct {
				Topic  string
				Op     string
				Key    map[string]int
				Before map[string]any
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if e.Topic != "cassdelta.shop.orders" || e.Key["id"] != 7 || (e.Before == nil) != (e.Op == "c") {
				t.Errorf("%s", line)
			}
			ops = append(ops, e.Op)
		}
		if got := strings.Join(ops, ""); got != "cud" {
			t.Errorf("operations %s, expected cud", got)
		}
		_, err = runTail(t, "--kafka-brokers", addr, "--until-end", "--registry-url", fake.URL(), "--registry-username", "you")
		if err == nil || !strings.Contains(err.Error(), "the user needs the right") {
			t.Errorf("another user: %v", err)
		}
	})
}

// TestConnection logs in and encrypts, by flags, environment and file.
func TestConnection(t *testing.T) {
	server := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ mechanism, fake string }{{"plain", "PLAIN"}, {"scram-sha-256", "SCRAM-SHA-256"}, {"scram-sha-512", "SCRAM-SHA-512"}} {
		t.Run(c.mechanism, func(t *testing.T) {
			addr := startKafka(t, kfake.EnableSASL(), kfake.Superuser(c.fake, "me", secret), kfake.TLS(&tls.Config{Certificates: server.TLS.Certificates}))
			flags := kafkaFlags{Brokers: []string{addr}, TLSCA: new(caFile), Mechanism: c.mechanism, Username: "me", Password: secret}
			if err := flags.TLSCA.UnmarshalText([]byte(ca)); err != nil {
				t.Fatal(err)
			}
			writeEvents(t, flags.Opts(), nil)
			file := filepath.Join(t.TempDir(), "tail.yaml")
			text := "until-end: true\nkafka:\n  brokers: [" + addr + "]\n  tls-ca: " + ca + "\n  sasl-mechanism: " + c.mechanism + "\n  sasl-username: me\n"
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			t.Setenv("CASSDELTA_KAFKA_SASL_PASSWORD", secret)
			if out, err := runTail(t, "--config", file); out != forPeople || err != nil {
				t.Errorf("printed\n%s%v, expected\n%s", out, err, forPeople)
			}
			if _, err := runTail(t, "--config", file, "--kafka-sasl-username", "you"); err == nil || !strings.Contains(err.Error(), "whether they want TLS or a login") {
				t.Errorf("another user: %v", err)
			}
		})
	}
}

// TestUntrustedBroker holds that a certificate that nobody vouches for is refused, and that a broker that wants TLS says
// nothing without.
func TestUntrustedBroker(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	addr := startKafka(t, kfake.TLS(&tls.Config{Certificates: server.TLS.Certificates}))
	for _, args := range [][]string{{"--kafka-tls"}, {}} {
		if _, err := runTail(t, append(args, "--kafka-brokers", addr)...); err == nil || !strings.Contains(err.Error(), "whether they want TLS or a login") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestKafkaFlagRefusals(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		says string
	}{
		{"", "missing flags: --kafka-brokers"},
		{"--kafka-brokers a --kafka-sasl-username me", "must be used together"},
		{"--kafka-brokers a --kafka-sasl-password " + secret, "must be used together"},
		{"--kafka-brokers a --kafka-sasl-mechanism gssapi --kafka-sasl-username me --kafka-sasl-password " + secret, "must be one of"},
		{"--kafka-brokers a --kafka-tls-ca /none.pem", "no such file"},
		{"--kafka-brokers a --kafka-tls-ca " + empty, "expected certificates in PEM form, found none"},
		{"--kafka-brokers a --registry-username me", "must be used together"},
		{"--kafka-brokers a --registry-url ftp://me:" + secret + "@host", "expected http[s]://host"},
		{"--kafka-brokers 127.0.0.1:1", "no Kafka broker answers: "},
	} {
		if _, err := runTail(t, strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, expected %q", c.args, err, c.says)
		}
	}
	t.Setenv("CASSDELTA_KAFKA_SASL_PASSWORD", secret)
	_, _ = runTail(t, "--help") // checks that the password is not in it
}
