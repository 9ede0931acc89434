package segment

import (
	"crypto/md5"

	"cassdelta/schema"
)

// systemTables are the tables of Cassandra 4.0 to 5.0 whose writes stand in commit logs. Their ids follow from their
// names.
var systemTables = map[string][]string{
	"system": {"IndexInfo", "available_ranges_v2", "batches", "built_views", "compaction_history", "local",
		"local_metadata_log", "paxos", "paxos_repair_history", "paxos_repair_state", "peer_events_v2", "peers", "peers_v2",
		"prepared_statements", "repairs", "size_estimates", "sstable_activity", "sstable_activity_v2", "table_estimates",
		"top_partitions", "transferred_ranges_v2", "view_builds_in_progress"},
	"system_schema": {"aggregates", "column_masks", "columns", "dropped_columns", "functions", "indexes", "keyspaces",
		"tables", "triggers", "types", "views"},
	"system_auth": {"cidr_groups", "cidr_permissions", "identity_to_roles", "network_permissions",
		"resource_role_permissons_index", "role_members", "role_permissions", "roles"},
	"system_distributed": {"parent_repair_history", "partition_denylist", "repair_history", "view_build_status"},
	"system_traces":      {"events", "sessions"},
}

// systemTableNames gives the names of Cassandra's own tables by id.
func systemTableNames() map[schema.UUID]string {
	names := map[schema.UUID]string{}
	for keyspace, tables := range systemTables {
		for _, table := range tables {
			names[systemTableID(keyspace, table)] = keyspace + "." + table
		}
	}
	return names
}

// systemTableID is the id of one of Cassandra's own tables: the version 3 UUID of its keyspace and name.
// Source: TableId.forSystemTable.
func systemTableID(keyspace, table string) schema.UUID {
	id := md5.Sum([]byte(keyspace + table))
	id[6] = id[6]&0x0f | 0x30
	id[8] = id[8]&0x3f | 0x80
	return id
}
