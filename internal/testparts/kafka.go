package testparts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// KafkaOptions describe a broker. Only Dir is required.
type KafkaOptions struct {
	// Dir holds everything that the broker writes; it is created.
	Dir string
	// ExtraProperties are keys of server.properties that are added or replaced.
	ExtraProperties map[string]string
}

// Kafka is one broker that is its own controller.
type Kafka struct {
	// Brokers are the bootstrap servers.
	Brokers []string
	Dir     string
	LogPath string

	java, classpath string
	proc            *process
	net             *network
	releaseOnce     sync.Once
}

// StartKafka fetches what is needed, starts a broker and returns when it answers. After an error nothing is left
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
	nw, err := reserveNetwork(1, kafkaPort, kafkaControllerPort)
	if err != nil {
		return nil, err
	}
	k := &Kafka{
		Brokers:   []string{fmt.Sprintf("%s:%d", nw.host(1), kafkaPort)},
		Dir:       dir,
		LogPath:   filepath.Join(dir, "logs", "kafka.log"),
		java:      java,
		classpath: cp,
		net:       nw,
	}
	if err := k.format(ctx, opts.ExtraProperties); err != nil {
		k.Close()
		return nil, err
	}
	if err := k.Start(ctx); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

func (k *Kafka) propertiesPath() string { return filepath.Join(k.Dir, "server.properties") }

// format writes the configuration and the storage folder's identity.
func (k *Kafka) format(ctx context.Context, extra map[string]string) error {
	host := k.net.host(1)
	properties := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  "1",
		"controller.quorum.voters":                 fmt.Sprintf("1@%s:%d", host, kafkaControllerPort),
		"listeners":                                fmt.Sprintf("PLAINTEXT://%s:%d,CONTROLLER://%[1]s:%[3]d", host, kafkaPort, kafkaControllerPort),
		"advertised.listeners":                     fmt.Sprintf("PLAINTEXT://%s:%d", host, kafkaPort),
		"listener.security.protocol.map":           "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"controller.listener.names":                "CONTROLLER",
		"inter.broker.listener.name":               "PLAINTEXT",
		"log.dirs":                                 filepath.Join(k.Dir, "data"),
		"num.partitions":                           "4",
		"num.network.threads":                      "2",
		"num.io.threads":                           "2",
		"offsets.topic.replication.factor":         "1",
		"offsets.topic.num.partitions":             "4",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
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
	if err := os.MkdirAll(k.Dir, 0o755); err != nil {
		return fmt.Errorf("configure kafka: %w", err)
	}
	if err := os.WriteFile(k.propertiesPath(), []byte(strings.Join(lines, "")), 0o644); err != nil {
		return fmt.Errorf("configure kafka: %w", err)
	}
	cmd := exec.CommandContext(ctx, k.java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", k.classpath,
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"kafka.tools.StorageTool", "format", "-t", kafkaClusterID, "-c", k.propertiesPath())
	cmd.Dir = k.Dir
	cmd.SysProcAttr = childAttributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format the storage of kafka: %w\n%s", err, lastLines(out, 15))
	}
	return nil
}

// Start starts the broker again after [Kafka.Kill] or [Kafka.Stop], at the same address and with all its data.
func (k *Kafka) Start(ctx context.Context) error {
	if k.proc.running() {
		return errors.New("start kafka: it is running")
	}
	var err error
	k.proc, err = startProcess("kafka", k.Dir, k.LogPath, []string{k.java,
		"-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto",
		"-XX:+ExitOnOutOfMemoryError",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-cp", k.classpath, "kafka.Kafka", k.propertiesPath()})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...))
	if err != nil {
		return fmt.Errorf("start kafka: %w", err)
	}
	defer client.Close()
	return k.proc.await(ctx, "ready", client.Ping)
}

// Stop ends the broker by SIGTERM, which hands over and syncs its logs.
func (k *Kafka) Stop(ctx context.Context) error { return k.proc.stop(ctx) }

// Kill ends the broker by SIGKILL.
func (k *Kafka) Kill() { k.proc.kill() }

// Close kills the broker, if it is running, and gives its address up.
func (k *Kafka) Close() {
	k.Kill()
	k.releaseOnce.Do(k.net.release)
}
