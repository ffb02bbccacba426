#!/usr/bin/env bash
# Two builds of Causeway beside each other: whether a change costs speed. Both run on one machine, in one run, and take turns in short
# rounds; the ratio is taken within a round, and the median of the rounds is told. The load is made by the new build's generator.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=lib.sh
source benches/lib.sh

usage() {
  cat <<'USAGE'
usage: benches/builds.sh [options] OLD NEW
  OLD, NEW          two binaries of causeway
  --rounds N        rounds of each comparison                  (7)
  --seconds S       length of one measurement                  (3)
  --warmup S        before each measurement, not counted       (1)
  --keys N          number of keys                             (100000)
  --dir DIR         where the data goes; give a real disk      (${TMPDIR:-/var/tmp})
Needs bash, curl and awk. Starts everything on free ports of 127.0.0.1 and stops it again. About five minutes.
USAGE
}
rounds=7 seconds=3 warmup=1 keys=100000 parent=${TMPDIR:-/var/tmp}
while [[ ${1-} == -* ]]; do
  case $1 in -h | --help) usage; exit 0 ;; esac
  (($# >= 2)) || { usage >&2; exit 2; }
  case $1 in
    --rounds) rounds=$2 ;; --seconds) seconds=$2 ;; --warmup) warmup=$2 ;; --keys) keys=$2 ;; --dir) parent=$2 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done
(($# == 2)) || { usage >&2; exit 2; }
old=$(realpath "$1") new=$(realpath "$2")
for binary in "$old" "$new"; do [[ -x $binary ]] || give_up "$binary cannot be run"; done
for tool in curl awk; do command -v "$tool" >/dev/null || give_up "needs $tool, which is not installed"; done

make_work

# load SERIES URLS READ_SHARE [more options]: sets RATE, in requests a second. A request that fails ends the run.
load() {
  local series=$1 urls=$2 share=$3 reply
  shift 3
  reply=$(timeout $((seconds + warmup + 180)) "$new" bench --target "$urls" --connections 128 --seconds "$seconds" --warmup "$warmup" \
    --keys "$keys" --read-share "$share" --value-size 100 --distribution uniform --json "$@" 2>"$work/bench.log") \
    || { tail -n 20 "$work/bench.log" >&2; give_up "$series: the load generator failed"; }
  [[ $(number errors "$reply") == 0 ]] || give_up "$series: requests failed: $reply"
  RATE=$(number requests_per_second "$reply")
  echo "$RATE" >>"$work/$series"
}

# compare NODES K: PUT and GET of both builds, whichever is first changing from round to round.
compare() {
  local nodes=$1 k=$2 round build order share rate
  declare -A urls
  for build in old new; do
    causeway=${!build}
    start_nodes "$build$nodes" "$nodes" "$k"
    urls[$build]=$URLS
    seconds=1 warmup=0 load fill "${urls[$build]}" 0.0 --prefill
  done
  for ((round = 0; round < rounds; round++)); do
    order='old new'
    if ((round % 2)); then order='new old'; fi
    for share in 0.0 1.0; do
      declare -A rate
      for build in $order; do
        load "$build-$nodes-$share" "${urls[$build]}" "$share"
        rate[$build]=$RATE
      done
      awk -v new="${rate[new]}" -v old="${rate[old]}" 'BEGIN { print new / old }' >>"$work/ratio-$nodes-$share"
    done
    say "$nodes nodes: round $((round + 1)) of $rounds"
  done
  stop_all
}
compare 1 1
compare 3 3

row() { # WORDS NODES SHARE
  local ratios=$work/ratio-$2-$3
  printf '| %s | %.0f | %.0f | %.3f (%.3f to %.3f) |\n' "$1" "$(median <"$work/old-$2-$3")" "$(median <"$work/new-$2-$3")" \
    "$(median <"$ratios")" "$(sort -g "$ratios" | head -n 1)" "$(sort -g "$ratios" | tail -n 1)"
}
echo "| 128 connections, $rounds rounds of $seconds s | old, per second | new, per second | new / old within a round |"
echo '|---|---:|---:|---:|'
row 'PUT, one node' 1 0.0
row 'GET, one node' 1 1.0
row 'PUT, three copies' 3 0.0
row 'GET, three copies' 3 1.0
