package main

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cassdelta/schema"
)

// closed is an address where nothing listens, and no other test will.
const closed = "127.0.0.1:1"

// TestUnreachable holds that a verb gives up in bounded time where it can do nothing, with one sentence that says what to
// do. The time is that of a bubble, in which nobody waits for it.
func TestUnreachable(t *testing.T) {
	node := startNode(t, schema.UUID{1}, demoTables(t)...)
	cdcRaw, state := t.TempDir(), t.TempDir()
	// Why an address does not answer. At the very end of the time it can be that the time is over.
	const refused = `dial tcp CLOSED: (connect: connection refused|i/o timeout)`
	agent := []string{"agent", "--cdc-raw-directory", cdcRaw, "--state-directory", state}
	dedup := []string{"dedup", "--state-directory", state}
	for _, c := range []struct {
		name     string
		verb     []string
		args     string
		from, to time.Duration // how long it tries
		says     string        // a pattern of the last line of standard error, in which CLOSED stands for the address
	}{
		{
			"agent without Kafka", agent, "--cassandra-contact-points " + node.addr() + " --kafka-brokers CLOSED", 25 * time.Second, 35 * time.Second,
			"cassdelta agent: no Kafka broker answers at CLOSED: unable to dial: " + refused + "; check kafka-brokers, and the brokers",
		},
		{
			"dedup without Kafka", dedup, "--kafka-brokers CLOSED", 25 * time.Second, 35 * time.Second,
			"cassdelta dedup: kafka: none of the brokers CLOSED answered within 30s: unable to dial: " + refused + "; check that they run, their addresses, TLS and credentials",
		},
		{
			"tail without Kafka", []string{"tail"}, "--kafka-brokers CLOSED", 0, 5 * time.Second,
			"cassdelta tail: no Kafka broker answers: unable to dial: " + refused + "; check kafka-brokers, and whether they want TLS or a login",
		},
		{
			"dedup without a registry", dedup, "--kafka-brokers CLOSED --registry-url http://CLOSED", 5 * time.Second, 15 * time.Second,
			"cassdelta dedup: schema registry http://CLOSED: it does not answer: " + refused + "; check the URL, and that the registry is up",
		},
		{
			"tail without a registry", []string{"tail"}, "--kafka-brokers CLOSED --registry-url http://CLOSED", 5 * time.Second, 15 * time.Second,
			"cassdelta tail: schema registry http://CLOSED: it does not answer: " + refused + "; check the URL, and that the registry is up",
		},
		{
			"agent without Cassandra", agent, "--cassandra-contact-points CLOSED --kafka-brokers CLOSED", 55 * time.Second, 65 * time.Second,
			"cassdelta agent: " + noNode,
		},
		{
			"dev without Cassandra", []string{"dev", cdcRaw}, "--cassandra-contact-points CLOSED", 0, 15 * time.Second,
			"cassdelta dev: " + noNode + "; or give the tables by --schema FILE",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append(c.verb[:len(c.verb):len(c.verb)], strings.Fields(strings.ReplaceAll(c.args, "CLOSED", closed))...)
			says := regexp.MustCompile("^" + strings.ReplaceAll(c.says, "CLOSED", regexp.QuoteMeta(closed)) + "$")
			var took time.Duration
			var code int
			var stdout, stderr string
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				code, stdout, stderr = program(t, args...)
				took = time.Since(begin)
			})
			if found := said(stderr); code != exitFailed || stdout != "" || !says.MatchString(found) {
				t.Errorf("exit code %d, found\n%s\nexpected\n%s", code, found, says)
			}
			if took < c.from || took > c.to {
				t.Errorf("it took %v, expected %v to %v", took, c.from, c.to)
			}
		})
	}
}

const noNode = `read the cluster's nodes: no contact point can be read, 1 tried: CLOSED: gocql: unable to create session: ` +
	`unable to connect to initial hosts: dial tcp CLOSED: connect: connection refused; check the contact points, that these nodes run, ` +
	`and that they take CQL clients there \(native_transport_port, rpc_address\)`

// said is standard error without the lines of the log, which are JSON.
func said(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "{") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}
