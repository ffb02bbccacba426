#!/usr/bin/env bash
# Causeway beside a bare HTTP handler, etcd and redis-server: one machine, one run, one page (Markdown).
#
# What makes it fair: everybody has a fresh data directory on the same file system and syncs each write; what is compared takes turns
# in short rounds, so that a slow minute of the machine hits both; the page gives medians, and each ratio is taken within a round.
# All HTTP targets get their load from the same generator, `causeway bench`. redis-server gets it from redis-benchmark, by its own protocol.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=lib.sh
source benches/lib.sh

usage() {
  cat <<'USAGE'
usage: benches/compare.sh [options]
  --quick           two rounds of one second: says that it works, not how fast it is
  --rounds N        rounds of each comparison                  (5)
  --seconds S       length of one measurement                  (4)
  --warmup S        before each measurement, not counted       (1)
  --keys N          number of keys                             (100000)
  --causeway PATH   the binary    (target/release/causeway, built when it is not there)
  --dir DIR         where the data goes; give a real disk      (${TMPDIR:-/var/tmp})
  --output FILE     write the page there as well
  --install         install etcd-server, redis-server and redis-tools with apt-get when they are missing
  --strict          end with 1 when a target is missed
Needs bash, curl and awk. Without etcd or redis-server it leaves that part out and says so. Starts everything on free ports of 127.0.0.1
and stops it again. About ten minutes.
USAGE
}
rounds=5 seconds=4 warmup=1 keys=100000 causeway=target/release/causeway parent=${TMPDIR:-/var/tmp} output='' install='' strict=''
while (($#)); do
  case $1 in
    --quick) rounds=2 seconds=1 warmup=1 keys=10000; shift; continue ;;
    --install) install=yes; shift; continue ;;
    --strict) strict=yes; shift; continue ;;
    -h | --help) usage; exit 0 ;;
  esac
  (($# >= 2)) || { usage >&2; exit 2; }
  case $1 in
    --rounds) rounds=$2 ;; --seconds) seconds=$2 ;; --warmup) warmup=$2 ;; --keys) keys=$2 ;;
    --causeway) causeway=$2 ;; --dir) parent=$2 ;; --output) output=$2 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done

for tool in curl awk; do command -v "$tool" >/dev/null || give_up "needs $tool, which is not installed"; done
if [[ -n $install ]] && ! { command -v etcd && command -v redis-benchmark && command -v redis-server; } >/dev/null; then
  say "installing etcd-server, redis-server and redis-tools"
  # In run level 1 Debian's packages do not start their services, which would sit on the usual ports.
  { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends etcd-server redis-server redis-tools; } </dev/null >&2
fi
find_binary
have_etcd='' have_redis=''
if command -v etcd >/dev/null; then have_etcd=yes; fi
if command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null; then have_redis=yes; fi

make_work

# start_etcd NAME COUNT: etcd as it comes, with nothing set but names and addresses. Sets URLS.
start_etcd() {
  local name=$1 count=$2 i cluster='' client=() peer=()
  URLS=''
  for ((i = 0; i < count; i++)); do
    free_port; client+=("http://127.0.0.1:$FREE")
    free_port; peer+=("http://127.0.0.1:$FREE")
    cluster+=${cluster:+,}$name$i=${peer[i]}
    URLS+=${URLS:+,}${client[i]}
  done
  for ((i = 0; i < count; i++)); do
    # Debian's package refuses some platforms unless it is told that they are meant.
    spawn "$name$i" env ETCD_UNSUPPORTED_ARCH="$(dpkg --print-architecture 2>/dev/null || true)" etcd --name "$name$i" --data-dir "$work/$name$i" \
      --listen-client-urls "${client[i]}" --advertise-client-urls "${client[i]}" \
      --listen-peer-urls "${peer[i]}" --initial-advertise-peer-urls "${peer[i]}" --initial-cluster "$cluster" --logger zap
  done
  for ((i = 0; i < count; i++)); do until_answers "$name$i" answers "${client[i]}/health"; done
}

# ---- Measuring ---------------------------------------------------------------------------------------------------------------

# A series is a file: one line "requests/s p50 p99 p99.9 errors" a round.
# bench SERIES CONNECTIONS PROTOCOL URLS READ_SHARE [more options]
bench() {
  local series=$1 connections=$2 protocol=$3 urls=$4 share=$5 reply
  shift 5
  say "$series"
  # The limit leaves room for filling the store first; a hang must not take the run with it.
  reply=$(timeout $((seconds + warmup + 180)) "$causeway" bench --target "$urls" --protocol "$protocol" --connections "$connections" \
    --seconds "$seconds" --warmup "$warmup" --read-share "$share" --keys "$keys" --value-size 100 --distribution uniform \
    --json "$@" 2>"$work/bench.log") || { tail -n 20 "$work/bench.log" >&2; give_up "$series: the load generator failed"; }
  {
    number requests_per_second "$reply"; number p50_us "$reply"; number p99_us "$reply"; number p999_us "$reply"; number errors "$reply"
  } | paste -sd ' ' >>"$work/$series.series"
}

# fill PROTOCOL URLS: every key once, so that no read asks for a key that is not there.
fill() { seconds=1 warmup=0 bench "fill_$1" 128 "$1" "$2" 0.0 --prefill; }

# redis_bench SERIES PORT COMMAND: by number of requests, as redis-benchmark has no clock.
redis_bench() {
  local line
  say "$1"
  line=$(timeout $((seconds * 20 + 60)) redis-benchmark -h 127.0.0.1 -p "$2" -c 128 -n $((seconds * 60000)) -d 100 -r "$keys" -t "$3" --csv |
    tail -n 1 | tr -d '"')
  # "SET",rps,average,least,p50,p95,p99,most in milliseconds; it does not tell p99.9
  awk -F, '{ printf "%s %d %d - 0\n", $2, $5 * 1000, $7 * 1000 }' <<<"$line" >>"$work/$1.series"
}

one_node() {
  local bare node etcd='' redis='' i
  free_port; bare=http://127.0.0.1:$FREE
  spawn bare "$causeway" bench-server --bind "127.0.0.1:$FREE"
  until_answers bare answers "$bare/bare"
  start_nodes one 1 1; node=$URLS
  if [[ -n $have_etcd ]]; then start_etcd etcd 1; etcd=$URLS; fi
  if [[ -n $have_redis ]]; then
    free_port; redis=$FREE
    mkdir "$work/redis"
    spawn redis redis-server --port "$redis" --bind 127.0.0.1 --dir "$work/redis" --appendonly yes --appendfsync always --save ''
    until_answers redis redis-cli -h 127.0.0.1 -p "$redis" ping
    redis_bench fill_redis "$redis" set
  fi
  fill causeway "$node"
  if [[ -n $etcd ]]; then fill etcd "$etcd"; fi
  for ((i = 0; i < rounds; i++)); do
    bench one_put 128 causeway "$node" 0.0
    if [[ -n $etcd ]]; then bench etcd1_put 128 etcd "$etcd" 0.0; fi
    if [[ -n $redis ]]; then redis_bench redis_set "$redis" set; fi
    bench one_get 128 causeway "$node" 1.0
    bench bare_get 128 bare "$bare" 1.0
    if [[ -n $etcd ]]; then bench etcd1_get 128 etcd "$etcd" 1.0; fi
    if [[ -n $redis ]]; then redis_bench redis_get "$redis" get; fi
  done
  stop_all
}

has_quorum() { curl -sf --max-time 2 "$1/admin/status" | grep -q '^has_quorum: true'; }

three_nodes() {
  local nodes etcd='' i
  start_nodes three 3 3; nodes=$URLS
  for i in 0 1 2; do until_answers "three$i" has_quorum "${URL[i]}"; done
  if [[ -n $have_etcd ]]; then start_etcd etcd-of-3- 3; etcd=$URLS; fi
  fill causeway "$nodes"
  fill keys "$nodes"
  if [[ -n $etcd ]]; then fill etcd "$etcd"; fi
  for ((i = 0; i < rounds; i++)); do
    bench three_put 128 causeway "$nodes" 0.0
    if [[ -n $etcd ]]; then bench etcd3_put 128 etcd "$etcd" 0.0; fi
    bench keys_put 128 keys "$nodes" 0.0
    bench three_get 128 causeway "$nodes" 1.0
    if [[ -n $etcd ]]; then bench etcd3_get 128 etcd "$etcd" 1.0; fi
    bench keys_get 128 keys "$nodes" 1.0
    # Who goes first changes from round to round: the second one finds the caches warm.
    if ((i % 2)); then
      bench mix_eventual 128 causeway "$nodes" 0.5 --consistency eventual
      bench mix_causal 128 causeway "$nodes" 0.5 --consistency causal
    else
      bench mix_causal 128 causeway "$nodes" 0.5 --consistency causal
      bench mix_eventual 128 causeway "$nodes" 0.5 --consistency eventual
    fi
  done
  stop_all
}

# Two nodes with half of the keys each. One key only: it is asked for at its owner, and at the other node, which then forwards every
# single request. The rest of the path is the same for both.
forwarding() {
  local keys=1 owner other i
  start_nodes two 2 1
  fill causeway "${URL[0]}"
  owner=''
  for i in 0 1; do
    if [[ $(curl -sf --max-time 2 "${URL[i]}/kvs/get_number_of_keys" || true) =~ \"count\"[[:space:]]*:[[:space:]]*1[^0-9] ]]; then
      owner=${URL[i]} other=${URL[1 - i]}
    fi
  done
  if [[ -z $owner ]]; then
    say "neither node has exactly one key: forwarding is left out"
    stop_all
    return
  fi
  for ((i = 0; i < rounds; i++)); do
    bench local_get 64 causeway "$owner" 1.0 --routing any
    bench forwarded_get 64 causeway "$other" 1.0 --routing any
  done
  stop_all
}

# ---- The page ----------------------------------------------------------------------------------------------------------------

column() { awk -v c="$2" '{ print $c }' "$work/$1.series"; }

row() { # SERIES CONNECTIONS TEXT
  local c cells=()
  [[ -s $work/$1.series ]] || return 0
  for c in 2 3 4; do
    if [[ $(column "$1" "$c" | head -n 1) == - ]]; then cells+=(-); else cells+=("$(column "$1" "$c" | median | awk '{ printf "%.0f", $1 }')"); fi
  done
  printf '| %s | %s | %.0f | %.0f to %.0f | %s | %s | %s | %d |\n' "$3" "$2" "$(column "$1" 1 | median)" \
    "$(column "$1" 1 | sort -g | head -n 1)" "$(column "$1" 1 | sort -g | tail -n 1)" "${cells[@]}" \
    "$(column "$1" 5 | awk '{ n += $1 } END { print n }')"
}
head_row() {
  echo "| $1 | connections | requests/s | least to most | p50 us | p99 us | p99.9 us | errors |"
  echo "|---|--:|--:|--:|--:|--:|--:|--:|"
}

ratio() { # SERIES SERIES TARGET TEXT: the ratio within each round, then the median of those
  local all middle verdict errors
  if [[ ! -s $work/$1.series || ! -s $work/$2.series ]]; then
    echo "| $4 | not measured | | $3 | |"
    return
  fi
  all=$(paste -d ' ' <(column "$1" 1) <(column "$2" 1) | awk '{ printf "%.3f\n", ($2 > 0 ? $1 / $2 : 0) }' | sort -g)
  middle=$(median <<<"$all")
  verdict=$(awk -v a="$middle" -v b="$3" 'BEGIN { print (a >= b ? "yes" : "**no**") }')
  errors=$(cat "$work/$1.series" "$work/$2.series" | awk '{ n += $5 } END { print n + 0 }')
  ((errors == 0)) || verdict="**no**: $errors errors" # a refusal is quick, and must not count as speed
  [[ $verdict == yes ]] || echo "$4" >>"$work/missed"
  printf '| %s | %.3f | %.3f to %.3f | %s | %s |\n' "$4" "$middle" "$(head -n 1 <<<"$all")" "$(tail -n 1 <<<"$all")" "$3" "$verdict"
}

page() {
  cat <<PAGE
# Causeway beside others

One machine, one run, everything on 127.0.0.1, the load generator on the same cores. $rounds rounds of $seconds s each, taking turns; medians.
Values of 100 bytes, $keys keys, uniform.

| | |
|---|---|
| when | $when |
| processor | $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores |
| memory | $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo) |
| load before | $load |
| kernel | $(uname -sr) |
| file system | $filesystem; a synchronous 4 KiB write takes $sync_us us |
| causeway | $("$causeway" --version 2>/dev/null || echo unknown) |
| etcd | $etcd_version |
| redis-server | $redis_version |

## One node

Causeway with K=1, etcd with one member, redis-server with appendfsync always. Each write is on disk before it is answered.

$(head_row "")
$(row bare_get 128 "bare actix-web handler, GET")
$(row one_get 128 "causeway GET")
$(row etcd1_get 128 "etcd range (HTTP gateway)")
$(row redis_get 128 "redis GET (its own protocol)")
$(row one_put 128 "causeway PUT")
$(row etcd1_put 128 "etcd put (HTTP gateway)")
$(row redis_set 128 "redis SET (its own protocol)")

## Three nodes

Causeway with K=3, etcd with three members; the clients spread over all three.

$(head_row "")
$(row three_get 128 "causeway GET")
$(row etcd3_get 128 "etcd range (HTTP gateway)")
$(row three_put 128 "causeway PUT")
$(row etcd3_put 128 "etcd put (HTTP gateway)")
$(row keys_get 128 "causeway GET /keys, linearizable")
$(row keys_put 128 "causeway PUT /keys, linearizable")
$(row mix_causal 128 "causeway half GET, half PUT, causal")
$(row mix_eventual 128 "causeway half GET, half PUT, eventual")

## Forwarding

Two nodes, K=1, one key: asked for at its owner, and at the other node, which forwards every request.

$(head_row "")
$(row local_get 64 "GET at the owner")
$(row forwarded_get 64 "GET at the other node")

## Ratios

| ratio | median | least to most | target | met |
|---|--:|--:|--:|---|
$(ratio one_get bare_get 0.85 "GET / bare handler")
$(ratio one_put etcd1_put 4 "PUT, one node / etcd, one member")
$(ratio three_put etcd3_put 5 "PUT, three copies / etcd, three members")
$(ratio keys_put etcd3_put 4 "PUT /keys / etcd, three members")
$(ratio keys_get etcd3_get 4 "GET /keys / etcd range, both linearizable, three members")
$(ratio mix_causal mix_eventual 0.95 "causal / eventual, half reads")
$(ratio forwarded_get local_get 0.75 "forwarded GET / local GET")
PAGE
}

when=$(date -u '+%Y-%m-%d %H:%M UTC')
load=$(cut -d ' ' -f 1-3 /proc/loadavg)
filesystem=$(findmnt -no FSTYPE -T "$work" 2>/dev/null || stat -f -c %T "$work")
[[ $filesystem != tmpfs ]] || say "the data goes to a tmpfs, where syncing costs nothing: give a real disk with --dir"
sync_us=$(dd if=/dev/zero of="$work/sync" bs=4k count=200 oflag=dsync 2>&1 | awk '/copied/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^s,?$/) printf "%.0f", $i / 200 * 1e6 }')
etcd_version='left out: not installed (--install does it)'
redis_version=$etcd_version
if [[ -n $have_etcd ]]; then etcd_version=$(etcd --version | awk 'NR == 1 { print $3 }'); fi
if [[ -n $have_redis ]]; then redis_version=$(redis-server --version | sed 's/.* v=\([^ ]*\).*/\1/'); fi

one_node
three_nodes
forwarding
page >"$work/page"
cat "$work/page"
if [[ -n $output ]]; then cp "$work/page" "$output"; fi
if [[ -n $strict && -s $work/missed ]]; then exit 1; fi
