#!/usr/bin/env bash
# What clients notice while a change of the view moves keys, and how fast keys move when nothing else runs. One page (Markdown).
#
# A node with all keys is joined by a second one, which takes half of them over. The load is closed: so many sessions, each with one request
# in flight, so that clients and the move share the same cores. Latency is that of whole windows before the change and within it.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=lib.sh
source benches/lib.sh

usage() {
  cat <<'USAGE'
usage: benches/moving.sh [options]
  --quick           20,000 keys: says that it works, not how fast it is
  --keys N          number of keys; half of them move          (2000000)
  --connections N   sessions of the load                       (16)
  --window S        seconds of one measurement                 (3)
  --causeway PATH   the binary    (target/release/causeway, built when it is not there)
  --dir DIR         where the data goes; give a real disk      (${TMPDIR:-/var/tmp})
  --output FILE     write the page there as well
  --strict          end with 1 when a target is missed
Needs bash, curl and awk. Starts everything on free ports of 127.0.0.1 and stops it again. About five minutes.
USAGE
}

keys=2000000 connections=16 window=3 causeway=target/release/causeway parent=${TMPDIR:-/var/tmp} output='' strict=''
while (($#)); do
  case $1 in
    --quick) keys=20000 window=1; shift; continue ;;
    --strict) strict=yes; shift; continue ;;
    -h | --help) usage; exit 0 ;;
  esac
  (($# >= 2)) || { usage >&2; exit 2; }
  case $1 in
    --keys) keys=$2 ;; --connections) connections=$2 ;; --window) window=$2 ;;
    --causeway) causeway=$2 ;; --dir) parent=$2 ;; --output) output=$2 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done
for tool in curl awk; do command -v "$tool" >/dev/null || give_up "needs $tool, which is not installed"; done
find_binary
make_work

start_nodes old 1 1
old=$URLS
free_port
new=127.0.0.1:$FREE
spawn new env K=1 ip_port="$new" DATA_DIR="$work/new" RUST_LOG=warn "$causeway"
until_answers new answers "http://$new/health"

count() { number count "$(curl -sf --max-time 10 "$1/kvs/get_number_of_keys")"; }
bench() { # SECONDS WARMUP SESSIONS [more options]: the reply
  timeout $(($1 + $2 + 900)) "$causeway" bench --target "$old" --seconds "$1" --warmup "$2" --connections "$3" --keys "$keys" \
    --value-size 100 --read-share 0.5 --json "${@:4}" 2>"$work/bench.log" || { tail -n 20 "$work/bench.log" >&2; give_up "the load generator failed"; }
}
measure() { # SERIES: one window, a line "end p50 p99 p99.9 requests/s errors"
  local reply end
  reply=$(bench "$window" 0 "$connections")
  end=${EPOCHREALTIME/./}
  echo "$end $(number p50_us "$reply") $(number p99_us "$reply") $(number p999_us "$reply") $(number requests_per_second "$reply") \
$(number errors "$reply")" >>"$work/$1.series"
}
change() { # add|remove: to its end
  timeout 900 "$causeway" view "$1" "$new" --node "$old" >"$work/change.log" 2>&1 || { tail -n 5 "$work/change.log" >&2; give_up "view $1 failed"; }
}
say "writing $keys keys"
bench 1 0 128 --prefill >/dev/null
say "quiet"
bench 1 1 "$connections" >/dev/null
for ((i = 0; i < 6; i++)); do measure quiet; done

say "moving under load"
began=${EPOCHREALTIME/./}
{ change add; echo "${EPOCHREALTIME/./}" >"$work/added"; } &
adding=$!
while [[ ! -e $work/added ]] && kill -0 "$adding" 2>/dev/null; do measure all; done
wait "$adding" || exit 2
added=$(<"$work/added")
# Only windows that lie within the change count.
awk -v end="$added" '$1 <= end' "$work/all.series" >"$work/moving.series"
moved=$(count "http://$new")

say "moving back, with nothing else"
back_began=${EPOCHREALTIME/./}
change remove
back_ended=${EPOCHREALTIME/./}
total=$(count "$old")

column() { awk -v c="$2" '{ print $c }' "$work/$1.series"; }
row() { # SERIES TEXT
  local c cells=()
  for c in 2 3 4 5; do cells+=("$(column "$1" "$c" | median | awk '{ printf "%.0f", $1 }')"); done
  printf '| %s | %d | %s | %s | %s | %s | %s | %d |\n' "$2" "$(wc -l <"$work/$1.series")" "${cells[@]}" \
    "$(column "$1" 3 | sort -g | tail -n 1)" "$(column "$1" 6 | awk '{ n += $1 } END { print n + 0 }')"
}
verdict() { # VALUE at-most|at-least TARGET TEXT
  local met
  met=$(awk -v a="$1" -v how="$2" -v b="$3" 'BEGIN { print ((how == "at-most" ? a <= b : a >= b) ? "yes" : "**no**") }')
  [[ $met == yes ]] || echo "$4" >>"$work/missed"
  printf '| %s | %s | %s %s | %s |\n' "$4" "$1" "${2/-/ }" "$3" "$met"
}
per_second() { awk -v n="$1" -v from="$2" -v to="$3" 'BEGIN { printf "%.0f", n / ((to - from) / 1e6) }'; }
page() {
  cat <<PAGE
# Causeway while keys move

One machine, two nodes, K=1, the load generator on the same cores ($(nproc)): $connections sessions, half of the requests read. $keys keys, values
of 100 bytes. Medians of windows of $window s.

| | windows | p50 us | p99 us | p99.9 us | requests/s | worst p99 us | errors |
|---|--:|--:|--:|--:|--:|--:|--:|
$(row quiet "nothing moves")
$(if [[ -s $work/moving.series ]]; then row moving "$moved keys move"; fi)

| | measured | target | met |
|---|--:|--:|---|
$(if [[ -s $work/moving.series ]]; then
    verdict "$(awk -v a="$(column moving 3 | median)" -v b="$(column quiet 3 | median)" 'BEGIN { printf "%.2f", a / b }')" at-most 3 "p99 while keys move / quiet p99"
  fi)
$(verdict "$(per_second "$moved" "$back_began" "$back_ended")" at-least 100000 "keys a second when nothing else runs")

Under load $moved keys moved with $(per_second "$moved" "$began" "$added") keys a second. $total of $keys keys are there in the end.
PAGE
}
page >"$work/page"
cat "$work/page"
if [[ -n $output ]]; then cp "$work/page" "$output"; fi
((total == keys)) || give_up "$((keys - total)) keys are missing"
if [[ -n $strict && -s $work/missed ]]; then exit 1; fi
