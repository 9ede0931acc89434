#!/usr/bin/env bash
# Reads the same segments with cassdelta and with Cassandra's own CommitLogReader, one after the other on the same core,
# and prints both figures and their ratio; then the figures that have no counterpart. See README.md.
set -euo pipefail
cd "$(dirname "$0")/.."

passes=${PASSES:-20} # to warm up, and as many to measure
core=$(($(nproc) - 1))
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

go build -o "$dir/commitlog" ./bench/commitlog
go build -o "$dir/cassdelta" ./cmd/cassdelta
jars=$(go run ./cmd/testparts fetch cassandra-5.0 | awk '{print $2}')
release=$(basename "$jars"/cassandra-all-*.jar .jar)
open=()
for package in java.io java.lang java.nio java.util jdk.internal.ref sun.nio.ch; do
  open+=(--add-opens "java.base/$package=ALL-UNNAMED")
done
for package in jdk.internal.misc jdk.internal.ref sun.nio.ch; do
  open+=(--add-exports "java.base/$package=ALL-UNNAMED")
done

# pinned COMMAND...: on one core, which is all that Go's scheduler and the JVM see.
pinned() { GOMAXPROCS=1 taskset -c "$core" "$@"; }
ours() { pinned "$dir/commitlog" read "$1" "$2" "$passes" "$passes"; }
theirs() { pinned java -Xmx1g -XX:+UseSerialGC "${open[@]}" -cp "$jars/*" bench/java/CommitLogReaderBench.java "$1" "$passes" "$passes"; }

# compare NAME SEGMENTS: one line of the table.
compare() {
  local a b
  a=$(ours "$2" cells)
  b=$(theirs "$2")
  awk -v name="$1" -v ours="$a" -v theirs="$b" '
    function field(line, key,   parts, i, pair) {
      split(line, parts, " ")
      for (i in parts) { split(parts[i], pair, "="); if (pair[1] == key) return pair[2] }
    }
    function rate(line, key) { return field(line, "mutations") / field(line, key) * 1000 }
    BEGIN {
      n = split("mutations cells sum", keys, " ")
      for (i = 1; i <= n; i++) if (field(ours, keys[i]) "" != field(theirs, keys[i]) "") {
        print name ": the two do not read the same:\n  " ours "\n  " theirs > "/dev/stderr"
        exit 1
      }
      n = split("wall_best_ns wall_median_ns cpu_mean_ns", keys, " ")
      printf "%-28s", name
      for (i = 1; i <= n; i++) { a = rate(ours, keys[i]); b = rate(theirs, keys[i]); printf "  %6.2f %6.2f %5.1fx", a, b, a / b }
      printf "\n"
    }'
}

echo "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), one core; $(go version | cut -d' ' -f3); $release; $(java -version 2>&1 | head -1)"
echo "a segment of 32 MiB, every cell; million mutations a second: cassdelta, Cassandra's CommitLogReader, ratio"
printf '%-28s  %-21s  %-21s  %-21s\n' "" "best pass" "median pass" "mean, by CPU time"
for workload in inserts updates; do
  for form in plain lz4; do
    segments=$dir/$workload-$form
    "$dir/commitlog" generate "$segments" "$workload" "$form" 1
    compare "$workload, $form" "$segments"
  done
done

echo
echo "a table that is not wanted (checksums are checked), GB/s of the segments:"
for workload in inserts updates; do
  size=$(cat "$dir/$workload-plain"/*.log | wc -c)
  ours "$dir/$workload-plain" unwanted |
    awk -v name="$workload" -v size="$size" '{ for (i = 4; i <= 6; i++) { split($i, pair, "="); v[i] = size / pair[2] }
      printf "%-28s  best pass %.2f, median pass %.2f, mean by CPU time %.2f\n", name, v[4], v[5], v[6] }'
done
rm -rf "$dir"/*-*

echo
echo "a directory of 1 GiB (32 segments), followed from its start as an agent does, dumped and scanned:"
export CASSDELTA_RAW_KEY="testing:1=$(printf 'sixteen byte key' | xxd -p)" # of the encrypted segments
for form in ${FORMS:-plain lz4 snappy deflate zstd encrypted}; do
  "$dir/commitlog" generate "$dir/large-$form" inserts "$form" 32
  pinned "$dir/commitlog" follow "$dir/large-$form" |
    awk -v name="$form" '{ for (i = 1; i <= NF; i++) { split($i, pair, "="); v[pair[1]] = pair[2] }
      printf "%-28s  %d segments, %.2f million mutations/s, peak resident set %.1f MiB\n", name, v["segments"],
        v["mutations"] / v["wall_ns"] * 1000, v["peak_rss_bytes"] / 1048576 }'
  for command in "dump --json" info; do
    pinned "$dir/commitlog" measure "$dir/cassdelta" segment $command "$dir/large-$form" --schema "$dir/large-$form/schema.cql" |
      awk -v name="$form" -v command="$command" '{ for (i = 1; i <= NF; i++) { split($i, pair, "="); v[pair[1]] = pair[2] }
        printf "%-28s  cassdelta segment %s: %.1f s, %.0f MB printed, peak resident set %.1f MiB\n", name, command, v["wall_ns"] / 1e9,
          v["printed_bytes"] / 1e6, v["peak_rss_bytes"] / 1048576 }'
  done
  rm -rf "$dir/large-$form"
done
