// Package e2e tests the whole product as its users run it: separate processes of cassdelta between a real three-node
// Cassandra cluster, a real Kafka and a real schema registry.
//
// # What is run
//
// Three nodes at replication factor 3 with CDC on, one agent for each node, one dedup process. A workload made from a
// seed writes to several tables while one node is down for a while and while agents and dedup are killed with SIGKILL
// at moments that are conditions on the topics, never pauses. The seed is printed; CASSDELTA_E2E_SEED repeats it.
//
// # What is checked
//
// The clean topics are read by franz-go, goavro and the registry's own schemas, nothing of the product. Three
// oracles, none of which shares code with the product, say what must be in them:
//
//   - Cassandra: SELECT at ALL after hints and repair. The fold of the clean topics must equal it, row by row.
//   - The raw model (rawmodel_test.go). How many events a set of writes makes depends on the order in which their
//     copies arrive: an older write that arrives after a newer one that shadows it makes none, and before it one. So no
//     number can be computed from the statements of a concurrent workload. But the raw topic fixes the order: given it,
//     the events are determined one by one. The raw model folds the raw records in their order with maps and the
//     last-write-wins rule, and says for each raw record the events that it must cause; they are compared one by one:
//     operation, images, write time, and which raw record caused them.
//   - The statement model (statementmodel_test.go). It knows the statements only. In the ordered phase of the workload
//     each write is acknowledged by all replicas before the next write to the same partition is sent, with a greater
//     time stamp. So each log has the writes of a partition in the order they were sent; whatever the interleaving of
//     the three logs in the raw topic, the first copy of each write comes after the first copies of all earlier ones,
//     and the later copies change nothing. Therefore the events are those of the statements run one after the other,
//     and their exact number, order and images follow from the statements alone. For the rest of the workload it
//     still gives the final rows, since time stamps are unique.
//
// The first says that the end is right, the second that everything on the way from the raw topic is right, the third
// that the way into the raw topic is right too. Beside them: each row's chain is unbroken and on one partition; each
// acknowledged write is in the raw topic, with a copy from each replica for the ordered phase; no finished segment is
// left in any cdc_raw; the dead-letter topic is empty; a reader that followed all the time saw what one sees at the end.
//
// # Running
//
// The tests of real clusters are TestCassandra50, TestCassandra41 and TestCassandra40; they need a JDK, Maven (to
// fetch the servers once) and about 5 GB of memory, and take some minutes each:
//
//	go test ./e2e -run TestCassandra50 -v -timeout 15m
//
// # Rounds
//
// TestRounds has no Cassandra: raw records as agents write them, three copies of each mutation, go to real brokers, while in
// each round something is done to the dedup workers or a broker (roundsactions_test.go): killed, paused for longer than the session
// timeout, scaled, moved to other state directories, out of space. After each round the events must be those of the raw
// model, one by one, and the round's line says so. The test has two rounds; ./do rounds has as many as it is told.
//
// All other tests of this package check the models and the validators themselves, by feeding them what is broken; they
// need nothing and take a second:
//
//	go test ./e2e -skip '^(TestCassandra|TestRounds)'
package e2e
