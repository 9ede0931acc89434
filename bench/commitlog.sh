#!/usr/bin/env bash
# Reads the same segments with cassdelta and with Cassandra's own CommitLogReader, one after the other on the same core,
# and prints both figures and their ratio; then the figures that have no counterpart. See README.md.
set -euo pipefail
cd "$(dirname "$0")/.."

passes=${PASSES:-15} # to warm up, and as many to measure
core=$(($(nproc) - 1))
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

go build -o "$dir/commitlog" ./bench/commitlog
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
theirs() { pinned java -Xmx1g -XX:+UseSerialGC "${open[@]}" -cp "$jars/*" bench/java/CommitLogReaderBench.java "$1" "$2" "$passes" "$passes"; }

# compare NAME SEGMENTS MODE: one line of the table.
compare() {
  awk -v name="$1" -v ours="$(ours "$2" "$3")" -v theirs="$(theirs "$2" "$3")" '
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
      n = split("wall_best_ns wall_median_ns cpu_best_ns", keys, " ")
      printf "%-28s", name
      for (i = 1; i <= n; i++) { a = rate(ours, keys[i]); b = rate(theirs, keys[i]); printf "  %6.2f %6.2f %5.1fx", a, b, a / b }
      printf "\n"
    }'
}

echo "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), one core; $(go version | cut -d' ' -f3); $release; $(java -version 2>&1 | head -1)"
echo "million mutations a second: cassdelta, Cassandra's CommitLogReader, ratio"
printf '%-28s  %-21s  %-21s  %-21s\n' "" "best pass" "median pass" "best pass, CPU time"
for workload in inserts updates; do
  for form in plain lz4; do
    segments=$dir/$workload-$form
    "$dir/commitlog" generate "$segments" "$workload" "$form" 2
    compare "$workload, $form, every cell" "$segments" cells
    if [ "$form" = plain ]; then compare "$workload, $form, decoded" "$segments" mutations; fi
  done
done

echo
echo "a table that is not wanted (checksums are checked), GB/s of the segments:"
for workload in inserts updates; do
  size=$(cat "$dir/$workload-plain"/*.log | wc -c)
  ours "$dir/$workload-plain" unwanted |
    awk -v name="$workload" -v size="$size" '{ split($4, best, "="); split($5, median, "=")
      printf "%-28s  best %.2f, median %.2f\n", name, size / best[2], size / median[2] }'
done
rm -rf "$dir"/*-*

echo
echo "a directory of 1 GiB, followed from its start:"
for form in plain lz4; do
  "$dir/commitlog" generate "$dir/large-$form" inserts "$form" 32
  pinned "$dir/commitlog" follow "$dir/large-$form" |
    awk -v name="$form" '{ for (i = 1; i <= NF; i++) { split($i, pair, "="); v[pair[1]] = pair[2] }
      printf "%-28s  %d segments, %.2f million mutations/s, peak resident set %.1f MiB\n", name, v["segments"],
        v["mutations"] / v["wall_ns"] * 1000, v["peak_rss_bytes"] / 1048576 }'
  rm -rf "$dir/large-$form"
done
