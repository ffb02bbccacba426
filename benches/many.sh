#!/usr/bin/env bash
# Many keys in one call beside single calls: what a batch saves, and what a snapshot costs. All on one machine, in one run, in short rounds
# that take turns; each ratio is taken within a round, and the median of the rounds is told.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=lib.sh
source benches/lib.sh

usage() {
  cat <<'USAGE'
usage: benches/many.sh [options]
  --causeway FILE   the binary                                 (target/release/causeway, built if it is not there)
  --rounds N        rounds of each comparison                  (5)
  --seconds S       length of one measurement                  (3)
  --warmup S        before each measurement, not counted       (1)
  --keys N          number of keys                             (100000)
  --dir DIR         where the data goes; give a real disk      (${TMPDIR:-/var/tmp})
Needs bash, curl and awk. Starts everything on free ports of 127.0.0.1 and stops it again. About three minutes.
USAGE
}
causeway=target/release/causeway rounds=5 seconds=3 warmup=1 keys=100000 parent=${TMPDIR:-/var/tmp}
while (($#)); do
  case $1 in -h | --help) usage; exit 0 ;; esac
  (($# >= 2)) || { usage >&2; exit 2; }
  case $1 in
    --causeway) causeway=$2 ;; --rounds) rounds=$2 ;; --seconds) seconds=$2 ;; --warmup) warmup=$2 ;; --keys) keys=$2 ;; --dir) parent=$2 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done
for tool in curl awk; do command -v "$tool" >/dev/null || give_up "needs $tool, which is not installed"; done
find_binary
make_work

# load SERIES URLS [options of bench]: sets REPLY. A request that fails ends the run, but for snapshots that find no rest.
load() {
  local series=$1 urls=$2
  shift 2
  REPLY=$(timeout $((seconds + warmup + 180)) "$causeway" bench --target "$urls" --seconds "$seconds" --warmup "$warmup" --keys "$keys" \
    --value-size 100 --json "$@" 2>"$work/bench.log") || { tail -n 20 "$work/bench.log" >&2; give_up "$series: the load generator failed"; }
  [[ $series == *busy* || $(number errors "$REPLY") == 0 ]] || give_up "$series: requests failed: $REPLY"
}
operations() { number operations_per_second "$REPLY" 2>/dev/null || number requests_per_second "$REPLY"; }
# note SERIES FIGURE, and ratio SERIES OF TO
note() { echo "$2" >>"$work/$1"; }
ratio() { awk -v of="$2" -v to="$3" 'BEGIN { print of / to }' >>"$work/$1"; }

start_nodes copies 3 3
copies=$URLS
start_nodes parts 3 1
parts=$URLS
seconds=1 warmup=0 load fill "$copies" --read-share 0 --prefill
seconds=1 warmup=0 load fill "$parts" --read-share 0 --prefill
for ((round = 0; round < rounds; round++)); do
  for share in 0 1; do
    load single "$copies" --connections 128 --read-share "$share"
    single=$(operations)
    load batch "$copies" --connections 16 --read-share "$share" --batch 100
    batch=$(operations)
    note "single-$share" "$single"
    note "batch-$share" "$batch"
    ratio "batch-ratio-$share" "$batch" "$single"
  done
  # One client at a time: how long a call takes, and not how many there can be.
  load batch10 "$parts" --connections 1 --read-share 1 --batch 10
  batch10=$(number p50_us "$REPLY")
  load cut "$parts" --connections 1 --read-share 1 --batch 10 --snapshot
  cut=$(number p50_us "$REPLY")
  # The same beside a load of writes and reads.
  "$causeway" bench --target "$parts" --connections 16 --seconds $((2 * seconds + 2 * warmup)) --warmup 0 --keys "$keys" --read-share 0.5 --json \
    >"$work/busy.log" 2>&1 &
  busy=$!
  load batch-busy "$parts" --connections 1 --read-share 1 --batch 10
  batch_busy=$(number p50_us "$REPLY")
  load cut-busy "$parts" --connections 1 --read-share 1 --batch 10 --snapshot
  cut_busy=$(number p50_us "$REPLY")
  wait "$busy"
  note batch10 "$batch10"
  note cut "$cut"
  note batch-busy "$batch_busy"
  note cut-busy "$cut_busy"
  ratio cut-ratio "$cut" "$batch10"
  ratio cut-busy-ratio "$cut_busy" "$batch_busy"
  say "round $((round + 1)) of $rounds"
done
stop_all

row() { # WORDS ONE OTHER RATIO
  printf '| %s | %.0f | %.0f | %.2f (%.2f to %.2f) |\n' "$1" "$(median <"$work/$2")" "$(median <"$work/$3")" "$(median <"$work/$4")" \
    "$(sort -g "$work/$4" | head -n 1)" "$(sort -g "$work/$4" | tail -n 1)"
}
echo "| three copies, operations per second, $rounds rounds of $seconds s | single, 128 connections | batches of 100, 16 connections | batches / single |"
echo '|---|---:|---:|---:|'
row PUT single-0 batch-0 batch-ratio-0
row GET single-1 batch-1 batch-ratio-1
echo
echo '| ten keys in three partitions, one client, median in microseconds | batch of GETs | snapshot | snapshot / batch |'
echo '|---|---:|---:|---:|'
row 'nobody writes' batch10 cut cut-ratio
row 'beside half reads, half writes of 16 connections' batch-busy cut-busy cut-busy-ratio
