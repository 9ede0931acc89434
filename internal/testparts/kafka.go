package testparts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	kafkaPort           = 9092
	kafkaControllerPort = 9093
	// kafkaClusterID is any base64 UUID.
	kafkaClusterID = "MkU3OEVBNTcwNTJENDM2Qg"
)

// KafkaOptions describe a cluster. Only Dir is required.
type KafkaOptions struct {
	// Dir holds everything that the brokers write; it is created.
	Dir string
	// Brokers is their number; 0 is 1. With three, topics have three replicas, and a write needs two of them.
	Brokers int
	// ExtraProperties are keys of server.properties that are added or replaced.
	ExtraProperties map[string]string
}

// Kafka is a cluster whose brokers are the controllers too.
type Kafka struct {
	// Brokers are the bootstrap servers: the addresses of the brokers, in the order of their numbers.
	Brokers []string
	Dir     string

	java, classpath string
	procs           []*process
	net             *network
	releaseOnce     sync.Once
}

// StartKafka fetches what is needed, starts the brokers and returns when they answer. After an error nothing is left
// running.
func StartKafka(ctx context.Context, opts KafkaOptions) (*Kafka, error) {
	if opts.Dir == "" {
		return nil, errors.New("no folder is given for kafka")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, err
	}
	java, err := javaPath()
	if err != nil {
		return nil, err
	}
	partDir, err := Fetch(ctx, "kafka")
	if err != nil {
		return nil, err
	}
	cp, err := classpath(partDir)
	if err != nil {
		return nil, err
	}
	n := max(1, opts.Brokers)
	nw, err := reserveNetwork(n, kafkaPort, kafkaControllerPort)
	if err != nil {
		return nil, err
	}
	k := &Kafka{Dir: dir, java: java, classpath: cp, procs: make([]*process, n), net: nw}
	for i := range n {
		k.Brokers = append(k.Brokers, fmt.Sprintf("%s:%d", nw.host(i+1), kafkaPort))
	}
	for i := range n {
		if err := k.format(ctx, i, opts.ExtraProperties); err != nil {
			k.Close()
			return nil, err
		}
	}
	if err := k.Start(ctx); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// brokerDir is the folder of a broker. One that is alone has that of the cluster.
func (k *Kafka) brokerDir(i int) string {
	if len(k.procs) == 1 {
		return k.Dir
	}
	return filepath.Join(k.Dir, fmt.Sprintf("broker%d", i+1))
}

func (k *Kafka) propertiesPath(i int) string {
	return filepath.Join(k.brokerDir(i), "server.properties")
}

// LogPath is the log of broker i, counted from 0.
func (k *Kafka) LogPath(i int) string { return filepath.Join(k.brokerDir(i), "logs", "kafka.log") }

// format writes the configuration of a broker and the identity of its storage folder.
func (k *Kafka) format(ctx context.Context, i int, extra map[string]string) error {
	host, n := k.net.host(i+1), len(k.procs)
	var voters []string
	for j := range n {
		voters = append(voters, fmt.Sprintf("%d@%s:%d", j+1, k.net.host(j+1), kafkaControllerPort))
	}
	replicas, least := strconv.Itoa(min(n, 3)), strconv.Itoa(min(n, 2))
	properties := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  strconv.Itoa(i + 1),
		"controller.quorum.voters":                 strings.Join(voters, ","),
		"listeners":                                fmt.Sprintf("PLAINTEXT://%s:%d,CONTROLLER://%[1]s:%[3]d", host, kafkaPort, kafkaControllerPort),
		"advertised.listeners":                     fmt.Sprintf("PLAINTEXT://%s:%d", host, kafkaPort),
		"listener.security.protocol.map":           "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"controller.listener.names":                "CONTROLLER",
		"inter.broker.listener.name":               "PLAINTEXT",
		"log.dirs":                                 filepath.Join(k.brokerDir(i), "data"),
		"num.partitions":                           "4",
		"num.network.threads":                      "2",
		"num.io.threads":                           "2",
		"default.replication.factor":               replicas,
		"min.insync.replicas":                      least,
		"offsets.topic.replication.factor":         replicas,
		"offsets.topic.num.partitions":             "4",
		"transaction.state.log.replication.factor": replicas,
		"transaction.state.log.min.isr":            least,
		"transaction.state.log.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":         "0",
		"log.cleaner.dedupe.buffer.size":           "8388608", // the default wants 128 MB of heap
	}
	for key, value := range extra {
		properties[key] = value
	}
	lines := make([]string, 0, len(properties))
	for key, value := range properties {
		lines = append(lines, key+"="+value+"\n")
	}
	slices.Sort(lines)
	if err := os.MkdirAll(k.brokerDir(i), 0o755); err != nil {
		return fmt.Errorf("configure kafka: %w", err)
	}
	if err := os.WriteFile(k.propertiesPath(i), []byte(strings.Join(lines, "")), 0o644); err != nil {
		return fmt.Errorf("configure kafka: %w", err)
	}
	cmd := exec.CommandContext(ctx, k.java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", k.classpath,
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"kafka.tools.StorageTool", "format", "-t", kafkaClusterID, "-c", k.propertiesPath(i))
	cmd.Dir = k.brokerDir(i)
	cmd.SysProcAttr = childAttributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format the storage of kafka: %w\n%s", err, lastLines(out, 15))
	}
	return nil
}

// Start starts the brokers again after [Kafka.Kill] or [Kafka.Stop], at the same addresses and with all their data.
func (k *Kafka) Start(ctx context.Context) error {
	for i := range k.procs {
		if err := k.launch(i); err != nil {
			return err
		}
	}
	for i := range k.procs {
		if err := k.awaitBroker(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// StartBroker starts one broker again after [Kafka.KillBroker]. It returns when the broker answers.
func (k *Kafka) StartBroker(ctx context.Context, i int) error {
	if err := k.launch(i); err != nil {
		return err
	}
	return k.awaitBroker(ctx, i)
}

func (k *Kafka) launch(i int) error {
	if k.procs[i].running() {
		return fmt.Errorf("start %s: it is running", k.brokerName(i))
	}
	var err error
	k.procs[i], err = startProcess(k.brokerName(i), k.brokerDir(i), k.LogPath(i), []string{k.java,
		"-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto",
		"-XX:+ExitOnOutOfMemoryError",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-cp", k.classpath, "kafka.Kafka", k.propertiesPath(i)})
	return err
}

func (k *Kafka) brokerName(i int) string {
	if len(k.procs) == 1 {
		return "kafka"
	}
	return fmt.Sprintf("kafka broker %d", i+1)
}

func (k *Kafka) awaitBroker(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers[i]))
	if err != nil {
		return fmt.Errorf("start kafka: %w", err)
	}
	defer client.Close()
	return k.procs[i].await(ctx, "ready", client.Ping)
}

// PID is the id of the process of the first broker, which runs.
func (k *Kafka) PID() int { return k.procs[0].pid }

// Stop ends the brokers by SIGTERM, which hands over and syncs their logs.
func (k *Kafka) Stop(ctx context.Context) error {
	errs := make([]error, len(k.procs))
	var stopping sync.WaitGroup
	for i, p := range k.procs {
		stopping.Go(func() { errs[i] = p.stop(ctx) }) // at once: one that is left alone has no quorum to tell
	}
	stopping.Wait()
	return errors.Join(errs...)
}

// Kill ends the brokers by SIGKILL.
func (k *Kafka) Kill() {
	for i := range k.procs {
		k.KillBroker(i)
	}
}

// KillBroker ends one broker by SIGKILL.
func (k *Kafka) KillBroker(i int) { k.procs[i].kill() }

// Close kills the brokers that are running, and gives their addresses up.
func (k *Kafka) Close() {
	k.Kill()
	k.releaseOnce.Do(k.net.release)
}
