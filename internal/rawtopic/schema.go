package rawtopic

// AvroSchema is the schema of all raw records: a union whose branches are numbered as [Kind]. Within one value of
// [Init.Version] it does not change.
const AvroSchema = `[
  {"type": "record", "name": "Data", "namespace": "cassdelta.raw",
   "doc": "What one mutation writes to one partition of one table.",
   "fields": [
    {"name": "origin", "doc": "Where it was read.", "type":
      {"type": "record", "name": "Origin", "fields": [
        {"name": "host", "doc": "Id of the node whose log it was.", "type": {"type": "fixed", "name": "Id", "size": 16, "doc": "A UUID, most significant byte first; all zero is none."}},
        {"name": "segment", "doc": "Id of the commit log segment.", "type": "long"},
        {"name": "offset", "doc": "Logical offset behind the mutation in its segment, in bytes.", "type": "long"},
        {"name": "update", "doc": "Number of the update in its mutation, from 0.", "type": "int"}]}},
    {"name": "schema", "doc": "Hash of the definition that column numbers refer to.", "type": {"type": "fixed", "name": "Hash", "size": 16, "doc": "First 16 bytes of the SHA-256 of a definition."}},
    {"name": "key", "doc": "Partition key as Cassandra serializes it.", "type": "bytes"},
    {"name": "deletion", "doc": "Deletion of the partition.", "type": ["null",
      {"type": "record", "name": "Deletion", "doc": "Covers what was written at or before its time stamp.", "fields": [
        {"name": "timestamp", "doc": "markedForDeleteAt, microseconds.", "type": "long"},
        {"name": "local_time", "doc": "Local deletion time, seconds since 1970.", "type": "long"}]}]},
    {"name": "static", "doc": "The static row.", "type": ["null",
      {"type": "record", "name": "Row", "fields": [
        {"name": "clustering", "doc": "A value of each clustering column; empty in the static row.", "type": {"type": "array", "items": ["null", "bytes"]}},
        {"name": "liveness", "doc": "Primary key liveness: what an INSERT writes and an UPDATE does not.", "type": ["null",
          {"type": "record", "name": "Liveness", "fields": [
            {"name": "timestamp", "doc": "Microseconds.", "type": "long"},
            {"name": "ttl", "doc": "Seconds; 0 is none.", "type": "int"},
            {"name": "expires_at", "doc": "Seconds since 1970; null if it does not expire.", "type": ["null", "long"]}]}]},
        {"name": "deletion", "doc": "Deletion of the row.", "type": ["null", "Deletion"]},
        {"name": "shadowable", "doc": "The deletion is void once the row has a newer liveness (views).", "type": "boolean"},
        {"name": "cells", "type": {"type": "array", "items":
          {"type": "record", "name": "Cell", "fields": [
            {"name": "column", "doc": "Index of the column in the definition; dropped columns are counted behind the others.", "type": "int"},
            {"name": "path", "doc": "Element of a multi-cell column; null in a simple column.", "type": ["null", "bytes"]},
            {"name": "timestamp", "doc": "Microseconds.", "type": "long"},
            {"name": "ttl", "doc": "Seconds; 0 is none.", "type": "int"},
            {"name": "local_time", "doc": "Of a tombstone its local deletion time, of an expiring cell the second of its expiry, in seconds since 1970; else null.", "type": ["null", "long"]},
            {"name": "value", "doc": "In CQL's binary form; null is a tombstone.", "type": ["null", "bytes"]}]}}},
        {"name": "complex_deletions", "doc": "Deletions of all elements of a multi-cell column.", "type": {"type": "array", "items":
          {"type": "record", "name": "ComplexDeletion", "fields": [
            {"name": "column", "doc": "As in Cell.", "type": "int"},
            {"name": "deletion", "type": "Deletion"}]}}}]}]},
    {"name": "rows", "doc": "Clustered rows in clustering order.", "type": {"type": "array", "items": "Row"}},
    {"name": "ranges", "doc": "Range tombstones in clustering order; none overlap.", "type": {"type": "array", "items":
      {"type": "record", "name": "Range", "fields": [
        {"name": "start", "type":
          {"type": "record", "name": "Bound", "fields": [
            {"name": "prefix", "doc": "A prefix of the clustering; empty is the end of the partition.", "type": {"type": "array", "items": ["null", "bytes"]}},
            {"name": "inclusive", "type": "boolean"}]}},
        {"name": "end", "type": "Bound"},
        {"name": "deletion", "type": "Deletion"}]}}}]},
  {"type": "record", "name": "Part", "namespace": "cassdelta.raw",
   "doc": "One slice of the encoding of a Data that is too large for one Kafka record.",
   "fields": [
    {"name": "origin", "doc": "That of the whole.", "type": "Origin"},
    {"name": "index", "doc": "From 0.", "type": "int"},
    {"name": "count", "doc": "Number of parts, at least 2.", "type": "int"},
    {"name": "bytes", "doc": "Slice of the encoded record, single-object header included.", "type": "bytes"}]},
  {"type": "record", "name": "Init", "namespace": "cassdelta.raw",
   "doc": "First record of every partition. Repeats agree with it.",
   "fields": [
    {"name": "cluster", "doc": "Name of the Cassandra cluster.", "type": "string"},
    {"name": "topic_id", "doc": "Id that Kafka gave to the topic.", "type": "Id"},
    {"name": "partitions", "doc": "Number of partitions of the topic, which never changes.", "type": "int"},
    {"name": "version", "doc": "Version of this format.", "type": "int"}]},
  {"type": "record", "name": "Schema", "namespace": "cassdelta.raw",
   "doc": "A table definition, ahead of its first use in the partition.",
   "fields": [
    {"name": "hash", "type": "Hash"},
    {"name": "definition", "doc": "JSON.", "type": "string"},
    {"name": "altered_at", "doc": "Time of the DDL statement, microseconds since 1970; 0 if unknown.", "type": "long"},
    {"name": "host", "doc": "Id of the node whose agent sends it.", "type": "Id"},
    {"name": "created", "doc": "The agent reads all that its node ever wrote to the table, which was created with cdc = true.", "type": "boolean"}]},
  {"type": "record", "name": "Tick", "namespace": "cassdelta.raw",
   "doc": "Time has come to the watermark: what expires by then does.",
   "fields": [
    {"name": "watermark", "doc": "Microseconds since 1970.", "type": "long"}]},
  {"type": "record", "name": "Heartbeat", "namespace": "cassdelta.raw",
   "doc": "Kafka has acknowledged what the node had flushed to its log at the time. In a topic of its own.",
   "fields": [
    {"name": "host", "type": "Id"},
    {"name": "time", "doc": "Microseconds since 1970; 0 if the agent does not know yet.", "type": "long"}]},
  {"type": "record", "name": "Truncate", "namespace": "cassdelta.raw",
   "doc": "A node has truncated the table: what its log has of it up to the origin is gone.",
   "fields": [
    {"name": "origin", "doc": "Where the node's truncation takes effect in its log.", "type": "Origin"},
    {"name": "table", "type": "Id"},
    {"name": "timestamp", "doc": "When, by the node's clock, microseconds since 1970.", "type": "long"}]},
  {"type": "record", "name": "Drop", "namespace": "cassdelta.raw",
   "doc": "The table was dropped.",
   "fields": [
    {"name": "origin", "doc": "Where the node's log has it.", "type": "Origin"},
    {"name": "table", "type": "Id"},
    {"name": "timestamp", "doc": "Time of the DDL statement, microseconds since 1970.", "type": "long"}]},
  {"type": "record", "name": "SeedBegin", "namespace": "cassdelta.raw",
   "doc": "Begins a snapshot of the token range (start, end] of a table.",
   "fields": [
    {"name": "id", "doc": "Of the snapshot.", "type": "Id"},
    {"name": "table", "type": "Id"},
    {"name": "start", "doc": "Token, exclusive.", "type": "long"},
    {"name": "end", "doc": "Token, inclusive.", "type": "long"}]},
  {"type": "record", "name": "SeedEnd", "namespace": "cassdelta.raw",
   "doc": "Ends the snapshot that a SeedBegin began.",
   "fields": [
    {"name": "id", "type": "Id"},
    {"name": "table", "type": "Id"},
    {"name": "start", "type": "long"},
    {"name": "end", "type": "long"}]},
  {"type": "record", "name": "AgentJoined", "namespace": "cassdelta.raw",
   "doc": "An agent has joined.",
   "fields": [
    {"name": "host", "doc": "Id of its node.", "type": "Id"}]},
  {"type": "record", "name": "AgentRetired", "namespace": "cassdelta.raw",
   "doc": "An agent will never send again.",
   "fields": [
    {"name": "host", "doc": "Id of its node.", "type": "Id"}]}
]`

// Fingerprint is the CRC-64-AVRO of [AvroSchema]'s parsing canonical form.
const Fingerprint uint64 = 0xb6ad81a8ca8b48f4

// headerLen is the length of a single-object header: C3 01 and the fingerprint.
const headerLen = 10
