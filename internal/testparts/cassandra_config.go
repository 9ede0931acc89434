package testparts

import (
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const logbackXML = `<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level [%thread] %date{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="STDOUT"/></root>
</configuration>
`

// toolsLogbackXML keeps nodetool's output free of log lines.
const toolsLogbackXML = `<configuration>
  <appender name="STDERR" class="ch.qos.logback.core.ConsoleAppender">
    <target>System.err</target>
    <encoder><pattern>%-5level %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="STDERR"/></root>
</configuration>
`

// tokensPerNode is num_tokens.
const tokensPerNode = 4

// writeConfig makes the node's folder with its configuration. Index counts the nodes from 0.
func (n *Node) writeConfig(opts CassandraOptions, index int, nodes []*Node) error {
	conf := filepath.Join(n.Dir, "conf")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return err
	}
	seeds := make([]string, len(nodes))
	for i, node := range nodes {
		seeds[i] = node.Addr
	}
	text, err := yaml.Marshal(n.yaml(opts, index, seeds))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(conf, "cassandra.yaml"), text, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(conf, "logback.xml"), []byte(logbackXML), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(conf, "logback-tools.xml"), []byte(toolsLogbackXML), 0o644)
}

func (n *Node) yaml(opts CassandraOptions, index int, seeds []string) map[string]any {
	y := map[string]any{
		"cluster_name":   "cassdelta",
		"partitioner":    "org.apache.cassandra.dht.Murmur3Partitioner",
		"num_tokens":     tokensPerNode,
		"initial_token":  initialTokens(index, len(seeds)),
		"auto_bootstrap": false,
		// With every node a seed, none waits for another at the first start.
		"seed_provider":              seedProvider(seeds),
		"endpoint_snitch":            "SimpleSnitch",
		"dynamic_snitch":             false,
		"listen_address":             n.Addr,
		"storage_port":               storagePort,
		"rpc_address":                n.Addr,
		"start_native_transport":     true,
		"native_transport_port":      n.CQLPort,
		"data_file_directories":      []string{filepath.Join(n.Dir, "data")},
		"commitlog_directory":        n.CommitLogDir(),
		"cdc_raw_directory":          n.CDCRawDir(),
		"hints_directory":            n.HintsDir(),
		"saved_caches_directory":     filepath.Join(n.Dir, "saved_caches"),
		"cdc_enabled":                opts.CDC,
		"commitlog_sync":             "periodic",
		"auto_snapshot":              false,
		"phi_convict_threshold":      16, // a busy machine is no reason to call a node down
		"concurrent_reads":           8,
		"concurrent_writes":          8,
		"memtable_flush_writers":     1,
		"concurrent_compactors":      1,
		"authenticator":              "AllowAllAuthenticator",
		"authorizer":                 "AllowAllAuthorizer",
		"max_hints_delivery_threads": 1,
	}
	sync := int(opts.SyncPeriod.Milliseconds())
	if opts.Version == "4.0" {
		y["commitlog_sync_period_in_ms"] = sync
		y["commitlog_segment_size_in_mb"] = opts.SegmentSizeMiB
		y["cdc_total_space_in_mb"] = 512
		y["cdc_free_space_check_interval_ms"] = 100
		y["hints_flush_period_in_ms"] = 500
		y["read_request_timeout_in_ms"] = 10000
		y["range_request_timeout_in_ms"] = 10000
		y["write_request_timeout_in_ms"] = 10000
		y["request_timeout_in_ms"] = 10000
	} else {
		y["commitlog_sync_period"] = fmt.Sprintf("%dms", sync)
		y["commitlog_segment_size"] = fmt.Sprintf("%dMiB", opts.SegmentSizeMiB)
		y["cdc_total_space"] = "512MiB"
		y["cdc_free_space_check_interval"] = "100ms"
		y["hints_flush_period"] = "500ms"
		y["read_request_timeout"] = "10000ms"
		y["range_request_timeout"] = "10000ms"
		y["write_request_timeout"] = "10000ms"
		y["request_timeout"] = "10000ms"
	}
	changeKeys(y, opts.ExtraYAML)
	return y
}

func seedProvider(seeds []string) any {
	return []any{map[string]any{
		"class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
		"parameters": []any{map[string]any{"seeds": strings.Join(seeds, ",")}},
	}}
}

// changeKeys adds and replaces keys; the value nil removes one.
func changeKeys(y, changes map[string]any) {
	for key, value := range changes {
		if value == nil {
			delete(y, key)
		} else {
			y[key] = value
		}
	}
}

// Configure adds and replaces keys of the node's cassandra.yaml; the value nil removes a key. The node reads the file
// when it starts.
func (n *Node) Configure(changes map[string]any) error {
	path := filepath.Join(n.Dir, "conf", "cassandra.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configure %s: %w", n.Name, err)
	}
	var y map[string]any
	if err := yaml.Unmarshal(text, &y); err != nil {
		return fmt.Errorf("configure %s: %s: %w", n.Name, path, err)
	}
	changeKeys(y, changes)
	if text, err = yaml.Marshal(y); err != nil {
		return fmt.Errorf("configure %s: %w", n.Name, err)
	}
	return os.WriteFile(path, text, 0o644)
}

// initialTokens spreads the nodes' tokens evenly and in turn over the ring, so that a cluster of one shape always has
// the same ring.
func initialTokens(index, nodes int) string {
	step := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 64), big.NewInt(int64(nodes*tokensPerNode)))
	tokens := make([]string, tokensPerNode)
	for i := range tokens {
		token := new(big.Int).Mul(step, big.NewInt(int64(index+nodes*i)))
		// Murmur3 tokens begin at -2^63, which itself is no token.
		token.Sub(token, new(big.Int).Lsh(big.NewInt(1), 63)).Add(token, big.NewInt(1))
		tokens[i] = token.String()
	}
	return strings.Join(tokens, ",")
}

// openModules are what Cassandra's own scripts open to it on Java 17, and what 4.0 needs beyond.
var openModules = []string{
	"--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
	"--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
	"--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
	"--add-exports=java.management.rmi/com.sun.jmx.remote.internal.rmi=ALL-UNNAMED",
	"--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
	"--add-exports=java.rmi/sun.rmi.server=ALL-UNNAMED",
	"--add-exports=java.sql/java.sql=ALL-UNNAMED",
	"--add-exports=java.base/java.lang.ref=ALL-UNNAMED",
	"--add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED",
	"--add-opens=java.base/java.lang.module=ALL-UNNAMED",
	"--add-opens=java.base/jdk.internal.loader=ALL-UNNAMED",
	"--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
	"--add-opens=java.base/jdk.internal.reflect=ALL-UNNAMED",
	"--add-opens=java.base/jdk.internal.math=ALL-UNNAMED",
	"--add-opens=java.base/jdk.internal.module=ALL-UNNAMED",
	"--add-opens=java.base/jdk.internal.util.jar=ALL-UNNAMED",
	"--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
	"--add-opens=java.base/sun.nio=ALL-UNNAMED",
	"--add-opens=java.base/java.io=ALL-UNNAMED",
	"--add-opens=java.base/java.lang=ALL-UNNAMED",
	"--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
	"--add-opens=java.base/java.util=ALL-UNNAMED",
	"--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
	"--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
	"--add-opens=java.base/java.nio=ALL-UNNAMED",
	// 4.0 and 4.1 measure prepared statements by reflection over all that they refer to.
	"--add-opens=java.base/java.math=ALL-UNNAMED",
	"--add-opens=java.base/java.net=ALL-UNNAMED",
	"--add-opens=java.base/java.nio.charset=ALL-UNNAMED",
	"--add-opens=java.base/java.text=ALL-UNNAMED",
	"--add-opens=java.base/java.time=ALL-UNNAMED",
	"--add-opens=java.base/java.util.concurrent.locks=ALL-UNNAMED",
	"--add-opens=java.base/java.util.function=ALL-UNNAMED",
	"--add-opens=java.base/java.util.regex=ALL-UNNAMED",
	"--add-opens=java.base/sun.nio.cs=ALL-UNNAMED",
	"--add-opens=java.base/sun.util.calendar=ALL-UNNAMED",
	"--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
	"--add-opens=java.rmi/sun.rmi.transport.tcp=ALL-UNNAMED",
}

// command is the command line of the server.
func (n *Node) command() ([]string, error) {
	cp, err := classpath(n.partDir)
	if err != nil {
		return nil, err
	}
	jamm, err := filepath.Glob(filepath.Join(n.partDir, "jamm-*.jar"))
	if err != nil || len(jamm) != 1 {
		return nil, fmt.Errorf("%s: expected one jamm-*.jar, found %d: remove the folder so that it is fetched again", n.partDir, len(jamm))
	}
	conf := filepath.Join(n.Dir, "conf")
	argv := []string{n.java,
		"-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Xshare:auto", "-XX:+ExitOnOutOfMemoryError", "-XX:ErrorFile=" + filepath.Join(n.Dir, "logs", "hs_err.log"),
	}
	argv = append(append(argv, openModules...), n.properties...)
	return append(argv,
		"-Djdk.attach.allowAttachSelf=true",
		"-javaagent:"+jamm[0],
		"-Dcassandra.config=file://"+filepath.Join(conf, "cassandra.yaml"),
		"-Dlogback.configurationFile=file://"+filepath.Join(conf, "logback.xml"),
		"-Dcassandra.storagedir="+n.Dir,
		"-Dcassandra.logdir="+filepath.Join(n.Dir, "logs"),
		// Otherwise Cassandra closes its output when it is up.
		"-Dcassandra-foreground=yes",
		"-Dcassandra.jmx.local.port="+strconv.Itoa(n.JMXPort),
		"-Dcassandra.superuser_setup_delay_ms=0",
		"-Dcassandra.skip_wait_for_gossip_to_settle=0",
		"-Dcassandra.ring_delay_ms=2000",
		"-Dcassandra.shutdown_announce_in_ms=500",
		"-Dcassandra.consistent.rangemovement=false",
		"-Dio.netty.tryReflectionSetAccessible=true",
		"-Djava.io.tmpdir="+filepath.Join(n.Dir, "conf"),
		"-cp", conf+string(os.PathListSeparator)+cp,
		"org.apache.cassandra.service.CassandraDaemon",
	), nil
}
