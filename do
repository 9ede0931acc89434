#!/usr/bin/env bash
# The one script of the project: ./do help
set -euo pipefail
cd "$(dirname "$0")"

help() {
  cat <<'TXT'
./do demo             the whole on recorded segments, in one process
./do test             everything that must pass: installs what is missing, checks, unit tests, real servers
./do unit             the tests that need nothing but Go
./do lint             gofmt, go vet, staticcheck
./do fuzz [TIME] [NAME]   each fuzz target, or those with NAME in their name, for TIME (default 60s) or a number of runs (10000x)
./do differential [ARGS]   the commit log reader against Cassandra's own, on random writes to real nodes
./do properties [--cases N] [--seed N]   the fold against its model, on random mutations in random orders
./do workloads [ARGS]   agents and fold against SELECT, on random workloads on real clusters
./do rounds [ARGS]    dedup workers that are killed, paused, scaled, ... on a real broker: --rounds N, --seed N, --brokers 3, --checkpoints s3, --standby, --actions kill,pause
./do simulate [--seeds N] [--seed S] [--trace]   whole dedup workers on simulated brokers, disks and time, and all that can go wrong
./do mutants [--protocol]   each rule of the merge, or of writing exactly once, broken once: the test, or the simulation's seed, that sees it
./do bench dedup [ARGS]   how fast dedup is, on a real broker: ./do bench dedup -help
./do s3               checkpoints on a real S3 server (built the first time, which takes some minutes)
./do cluster [ARGS]   a real three-node Cassandra with CDC on this machine, until Ctrl-C
TXT
}

say() { printf '\n== %s\n' "$*"; }

need_go() {
  command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer (https://go.dev/dl) and run this again" >&2; exit 1; }
}

# A JDK and Maven, for the real servers of the tests.
need_java() {
  if command -v javac >/dev/null && command -v mvn >/dev/null; then return; fi
  say "installing a JDK and Maven"
  local sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  if command -v apt-get >/dev/null; then
    $sudo apt-get update -q
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends openjdk-17-jdk-headless maven
  elif command -v dnf >/dev/null; then
    $sudo dnf install -q -y java-17-openjdk-devel maven
  else
    echo "javac and mvn are missing: install a JDK 17 and Maven, and run this again" >&2
    exit 1
  fi
}

lint() {
  need_go
  say "gofmt, go vet, staticcheck"
  local unformatted
  unformatted=$(gofmt -l $(git ls-files '*.go'))
  [ -z "$unformatted" ] || { printf 'not formatted by gofmt:\n%s\n' "$unformatted" >&2; exit 1; }
  go vet ./...
  go tool staticcheck ./...
}

# Packages whose tests start real servers run one after another, after the others.
real='cassdelta/(bench/dedup|e2e|internal/differential|internal/testparts|schema/cqlsource)$'

unit() {
  need_go
  say "unit tests"
  go test -timeout 10m $(go list ./... | grep -Ev "$real")
}

# Whole workers under seeded trouble; ./do simulate runs more seeds, each of them exactly the same each time.
simulation() {
  need_go
  say "simulated trouble"
  go run ./cmd/testparts simulate --no-exact --seeds 200
}

# What the tests on real servers need is fetched beside the other tests.
fetch_parts() {
  need_java
  go run ./cmd/testparts fetch
}

real_parts() {
  need_go
  say "tests on real servers"
  go test -p 1 -timeout 30m -v $(go list ./... | grep -E "$real")
}

# The tests fuzz by a number of runs: when the time of -fuzztime is over, go test before Go 1.27 now and then fails with "context deadline
# exceeded" (the coordinator sees the end of its context before that of the workers' context, https://go.dev/issue/75804).
# For a time, that message and no other finding is the end of a run like any other.
fuzz() {
  need_go
  local time=${1:-60s} name=${2:-} file pkg target out bin cache built=
  out=$(mktemp) bin=$(mktemp) cache=$(go env GOCACHE)/fuzz/cassdelta
  for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
    pkg=./$(dirname "$file")
    for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
      [[ $pkg/$target == *"$name"* ]] || continue
      say "$pkg $target"
      if [ "$built" != "$pkg" ]; then
        go test -c -fuzz '^Fuzz' -o "$bin" "$pkg" || return 1
        built=$pkg
      fi
      (cd "$pkg" && "$bin" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" -test.fuzzminimizetime 10x \
        -test.fuzzcachedir "$cache/$pkg") 2>&1 | tee "$out" && continue
      grep -qx ' *context deadline exceeded' "$out" && ! grep -q 'Failing input' "$out" && continue
      rm "$out" "$bin"
      return 1
    done
  done
  rm "$out" "$bin"
}

properties() {
  need_go
  local args=()
  while [ $# -gt 0 ]; do
    case $1 in
      --cases|--seed|--case) args+=("-${1#--}" "$2"); shift 2 ;;
      *) echo "unknown argument $1" >&2; exit 2 ;;
    esac
  done
  go test ./dedup -run '^TestProperties$' -count 1 -timeout 12h -v "${args[@]}"
}

bench() {
  [ "${1:-}" = dedup ] || { echo "expected: bench dedup [ARGS]" >&2; exit 2; }
  shift
  need_go
  need_java
  go run ./bench/dedup "$@"
}

rounds() {
  need_go
  need_java
  local args=(-rounds 30)
  while [ $# -gt 0 ]; do
    case $1 in
      --rounds) args+=(-rounds "$2"); shift 2 ;;
      --standby) args+=(-rounds-standby); shift ;;
      --seed|--brokers|--actions|--checkpoints) args+=("-rounds-${1#--}" "$2"); shift 2 ;;
      *) echo "unknown argument $1" >&2; exit 2 ;;
    esac
  done
  go test ./e2e -run '^TestRounds$' -count 1 -timeout 12h -v "${args[@]}"
}

case "${1:-help}" in
  demo) shift; need_go; go run ./cmd/cassdelta demo "$@" ;;
  test)
    start=$SECONDS
    need_go
    fetched=$(mktemp)
    fetch_parts >"$fetched" 2>&1 &
    trap 'kill $! 2>/dev/null || true; rm -f "$fetched"' EXIT
    lint; unit; simulation; fuzz 1000x
    say "fetching the real servers"
    wait $! || { cat "$fetched" >&2; exit 1; }
    cat "$fetched"
    real_parts
    say "all passed in $((SECONDS - start)) s" ;;
  unit) unit ;;
  lint) lint ;;
  fuzz) shift; fuzz "$@" ;;
  differential) shift; need_go; need_java; go run ./cmd/testparts differential "$@" ;;
  properties) shift; properties "$@" ;;
  workloads) shift; need_go; need_java; go run ./cmd/testparts workloads "$@" ;;
  rounds) shift; rounds "$@" ;;
  simulate) shift; need_go; go run ./cmd/testparts simulate "$@" ;;
  mutants) shift; need_go; go run ./cmd/testparts mutants "$@" ;;
  bench) shift; bench "$@" ;;
  s3) need_go; go run ./cmd/testparts objectstore go test -count 1 -v -run '^(TestStore|TestOneWins|TestOnS3)$' ./state/objects ./state/checkpoint ;;
  cluster) shift; need_go; need_java; go run ./cmd/testparts cluster "$@" ;;
  help|-h|--help) help ;;
  *) help >&2; exit 2 ;;
esac
