// Package testparts starts the real servers that cassdelta works with: Apache Cassandra with CDC on (4.0, 4.1 or 5.0,
// one node or three), Apache Kafka (one KRaft broker), an object store with the API of S3 and a schema registry with the Confluent API.
//
// The servers are ordinary child processes, made from artifacts of Maven Central whose versions are pinned in
// artifacts.json. They are fetched once per machine into a cache folder: [CacheDir]. A JDK 17 ("java") is needed to
// run them and Maven ("mvn") to fetch them.
//
// # Addresses
//
// Each cluster, broker or registry takes a loopback network 127.0.N.0/24 of its own for as long as it lives, so that
// any number of them run side by side on one machine and each has its usual ports: Cassandra's node i listens on
// 127.0.N.i ports 9042 and 7000, Kafka on 127.0.N.1 port 9092, the registry on 127.0.N.1 port 8081. The network is
// held by a listener at 127.0.N.254:[reservePort], which the system releases with the process. The whole of
// 127.0.0.0/8 answers on Linux only.
//
// # Processes
//
// A part is ready when it has answered a real request, never after a pause. It is stopped by its own process id. When
// the process that started it dies, however it dies, the system kills the part. Each part writes only below the folder
// that it is given; its output is the file logs/<part>.log there, and every error about a part names that file and
// quotes its last lines.
package testparts
