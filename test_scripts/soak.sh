#!/usr/bin/env bash
# A soak. Hundreds of hostile connections (hostile.pl) stay at both ports of every node, and faults come in turn: a disk that is full and
# freed, a node that is killed, data that rots under a node that is stopped and under one that runs. An honest load works meanwhile. It has
# to be answered nearly as fast as before, nothing acknowledged may be lost, no process may end but by this script, and neither memory nor
# descriptors may grow.
#   ./soak.sh                          30 minutes, in rounds of a minute
#   SECONDS_OF_SOAK=100 ./soak.sh      the short form, which run_all.sh runs: each fault once
#
# The hostile clients share the machine with the nodes. So that the honest load is slowed by what the nodes do for them, and not by a
# processor that they take, they open RATE connections a second at most, write a few bytes a second on most of them, and their container
# gets a quarter of one processor. The load is SESSIONS sessions with one request in flight each, which does not take all of two.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
soak_s=${SECONDS_OF_SOAK:-1800} sessions=${SESSIONS:-4} count=${KEYS:-24} hostile=${HOSTILE:-600} rate=${RATE:-80}
times=${P99_TIMES:-3} disk_mb=${DISK_MB:-768}

kinds=(calm full killed rot rot_live)
round_s=$((soak_s / ${#kinds[@]}))
((round_s <= 60)) || round_s=60
((round_s >= 20)) || give_up "SECONDS_OF_SOAK must be $((20 * ${#kinds[@]})) or more: a fault takes 20 s"
rounds=$((soak_s / round_s))
quiet_rounds=$((rounds < 15 ? 1 : 3))

# ---- the cluster: its secret keeps strangers out, and client memory is small, so that its bound is met. Node 1 has a small disk.

note "image $IMAGE: ${NODES:-4} nodes, K=${K:-2}; $rounds rounds of $round_s s with $hostile places for hostile connections"
make_networks
plan_nodes "${NODES:-4}" "${K:-2}"
ids=$(docker run --rm --entrypoint id "$IMAGE" -u):$(docker run --rm --entrypoint id "$IMAGE" -g)
secret=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
VOLUME=()
for ((i = 1; i <= NODES; i++)); do
  VOLUME[i]=$NAME-disk$i
  VOLUMES+=("${VOLUME[i]}")
  small=()
  ((i > 1)) || small=(--opt type=tmpfs --opt device=tmpfs --opt o="size=${disk_mb}m,uid=${ids%:*},gid=${ids#*:},mode=0750")
  docker volume create --driver local "${small[@]}" "${VOLUME[i]}" >/dev/null
  create_node "$i" --no-healthcheck -v "${VOLUME[i]}:/data" --memory $((disk_mb + 512))m \
    -e CLUSTER_SECRET="$secret" -e CLIENT_MEMORY_BYTES=$((32 << 20)) -e RUST_LOG="${RUST_LOG:-warn}"
done
HOLDER=$NAME-holder # so that the small disk outlives its node's restarts
CONTAINERS+=("$HOLDER")
docker run -d --name "$HOLDER" --network none --no-healthcheck --entrypoint sleep -v "${VOLUME[1]}:/data" "$IMAGE" infinity >/dev/null

STARTED=()
begin_node() { start_node "$1"; STARTED[$1]=$(docker inspect -f '{{.State.StartedAt}}' "${NODE[$1]}"); }
runs_on() { [[ $(docker inspect -f '{{.State.Running}} {{.State.StartedAt}}' "${NODE[$1]}") == "true ${STARTED[$1]}" ]]; }
all_run_on() { local n; for ((n = 1; n <= NODES; n++)); do runs_on "$n" || { note "node $n has ended"; return 1; }; done; }
mapfile -t everybody < <(seq "$NODES")
for i in "${everybody[@]}"; do begin_node "$i"; done
wait_ready "${everybody[@]}" || { check "all nodes are ready within 30 s" false; finish; }
ok "$NODES nodes are ready"

# ---- what must not be lost: long values, which make tables on the disks, then a key and an item of a list for each second

head -c 786432 /dev/urandom | base64 -w 0 | tr '+/' 'xy' | tr -d '=' >"$WORK/pad"
cargo=$((24 * ((NODES + REPLICAS - 1) / REPLICAS))) # 24 MiB for each partition; the engine makes a table of 16
load_cargo() { # NUMBER
  { printf 'key=cargo-%s&value=v%s-' "$1" "$1"; cat "$WORK/pad"; } >"$WORK/form"
  request PUT $(($1 % NODES + 1)) /kvs --data-binary "@$WORK/form"
  written
}
cargo_is_whole() { # NUMBER NODE
  { printf 'v%s-' "$1"; cat "$WORK/pad"; echo; } >"$WORK/want"
  request GET "$2" /kvs -G -d "key=cargo-$1" -d consistency=eventual
  [[ $STATUS == 200 ]] && tr '"' '\n' <"$BODY_FILE" | grep "^v$1-" | cmp -s - "$WORK/want"
}
for ((i = 1; i <= cargo; i++)); do load_cargo "$i" || { check "value $i of 1 MiB is written" false; finish; }; done
ok "$cargo values of 1 MiB are written"

: >"$WORK/keys"; : >"$WORK/items"
OWN=0
leave_mark() {
  OWN=$((OWN + 1))
  local node=$((OWN % NODES + 1))
  if writes "$node" "own-$OWN" "value-$OWN"; then echo "own-$OWN value-$OWN" >>"$WORK/keys"; fi
  request POST "$node" /keys/soak -H 'Content-Type: application/json' -d "{\"type\":\"APPEND\",\"value\":\"item-$OWN\"}"
  if [[ $STATUS == 204 ]]; then echo "item-$OWN" >>"$WORK/items"; fi
}

# ---- a line for each node every few seconds: when, the node, the answer of /ready, its memory in KiB, its descriptors. And how long this
# machine takes to store 4 KiB: where that becomes long, what else it does is in p99 too.

: >"$WORK/samples"; : >"$WORK/syncs"
look='exec 3<>/dev/tcp/127.0.0.1/8080; printf "GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" >&3
  read -r -t 5 _ ready _ <&3; while read -r what much _; do [[ $what != RssAnon: ]] || rss=$much; done </proc/1/status
  fds=(/proc/1/fd/*); echo "${ready:-none} $rss ${#fds[@]}"'
sample() {
  local n at seen
  while :; do
    now_ms; at=$NOW
    dd if=/dev/zero of="$WORK/sync" bs=4096 count=1 conv=notrunc oflag=dsync 2>/dev/null
    now_ms; echo "$at $((NOW - at))" >>"$WORK/syncs"
    for n in "${everybody[@]}"; do
      now_ms; at=$NOW
      seen=$(timeout 20 docker exec "${NODE[n]}" bash -c "$look" 2>/dev/null) || seen=
      echo "$at $n ${seen:-down 0 0}" >>"$WORK/samples"
    done
    sleep 5
  done
}
sample &
HELPERS+=($!)

# ---- faults. Each ends with its node ready again; from its begin to then the node may not be.

: >"$WORK/windows"
calm() { :; }

# leave_room MIB: of the small disk. Its node may write meanwhile, so that there is less than was just seen.
take='touch /data/filler
  for try in 1 2 3 4 5; do
    free=$(df --output=avail -B1 /data | tail -n 1) have=$(stat -c %s /data/filler)
    ! fallocate -l $((have + free - ($1 << 20))) /data/filler 2>/dev/null || exit 0
  done; exit 1'
leave_room() { docker exec "$HOLDER" bash -c "$take" _ "$1"; }
says_full() { request GET 1 /ready; [[ $STATUS == 503 && $BODY == *"disk is full"* ]]; }
full() {
  local left
  for left in 100 30 0; do
    check "$left MiB are left on the disk of node 1" leave_room "$left"
    check "with that node 1 says that it is not ready, and why" within 5 says_full
    leave_mark
    sleep 2
  done
  docker exec "$HOLDER" rm /data/filler
  check "freed: node 1 is ready within 15 s" within 15 ready 1
}

killed() {
  kill_node "$1"
  sleep 5
  begin_node "$1"
  check "killed: node $1 is ready within 30 s" within 30 ready "$1"
}

# Turns over some bits in the middle of the longest table in /data; its name.
flip='table=$(find /data/data/keyspaces -path "*/tables/*" -type f -printf "%s %p\n" | sort -n | tail -n 1); size=${table%% *} table=${table#* }
  ((size > 1 << 20)) && perl -e "open F, q(+<), shift or die; sysseek F, shift, 0; sysread F, \$b, 64; sysseek F, -64, 1;
    syswrite F, \$b ^ (chr(0x55) x 64)" "$table" $((size / 2)) && echo "$table"'
with_disk_of() { docker run --rm --network none --no-healthcheck -v "${VOLUME[$1]}:/data" "${@:2}"; }
put_aside() { docker exec "${NODE[$1]}" test -d /data/damaged/data; }
filled_again() { # NODE TEXT
  within 60 put_aside "$1" || true
  check "$2: node $1 has put its data aside" put_aside "$1"
  check "$2: node $1 is ready within 60 s" within 60 ready "$1"
  docker exec "${NODE[$1]}" rm -rf /data/damaged
}
read_cargo() { local i; for ((i = 1; i <= cargo; i++)); do request GET "$1" /kvs -G -d "key=cargo-$i" -d consistency=eventual; done; }

rot() {
  local status table said
  docker kill -s TERM "${NODE[$1]}" >/dev/null
  status=$(timeout 20 docker wait "${NODE[$1]}") || status=none
  check "SIGTERM: node $1 ends with status 0" test "$status" = 0
  table=$(with_disk_of "$1" --entrypoint bash "$IMAGE" -c "$flip") || table='no table'
  status=0
  said=$(with_disk_of "$1" "$IMAGE" scrub /data 2>&1) || status=$?
  check "rotten while it was down: a scrub names $table" test "$status/${said//*"$table"*/named}" = 1/named
  begin_node "$1"
  within 30 ready "$1" || true
  read_cargo "$1"
  filled_again "$1" "rotten while it was down"
}

rot_live() {
  local table
  table=$(docker exec "${NODE[$1]}" bash -c "$flip") || table='no table'
  note "bits of $table turned over at node $1"
  read_cargo "$1"
  if ! within 5 put_aside "$1"; then
    note "it answers from memory; started anew, it has to read"
    kill_node "$1"
    begin_node "$1"
    within 30 ready "$1" || true
    read_cargo "$1"
  fi
  filled_again "$1" "rotten while it ran"
}

# ---- rounds

P99=0
# One round of the honest load, with a fault in it: KIND NODE.
round() {
  local kind=$1 node=$2 begun=$SECONDS began from errors slowest
  now_ms; began=$NOW
  note "---- $kind${node:+ at node $node}"
  start_load "$round_s" "$sessions" "$count" --delete-share 0.05
  while ((SECONDS - begun < 4)); do leave_mark; sleep 1; done
  now_ms; from=$NOW
  if [[ $kind != quiet ]]; then "$kind" "$node"; fi
  now_ms
  if [[ -n $node ]]; then
    echo "$node $from $((NOW + 2000))" >>"$WORK/windows"
    note "$kind at node $node took $((NOW - from)) ms"
  fi
  while loading; do leave_mark; sleep 1; done
  end_load
  field_of() { docker logs "$LOAD" 2>/dev/null | sed -nE "s/.*\"$1\":([0-9]+).*/\1/p"; }
  P99=$(field_of p99_us) errors=$(field_of errors)
  slowest=$(awk -v began="$began" '$1 >= began && $2 > most { most = $2 } END { print most + 0 }' "$WORK/syncs")
  echo "$kind ${P99:-0} $(field_of requests) $errors $slowest" >>"$WORK/rounds"
  if [[ $kind == quiet || $kind == calm ]]; then
    # An attempt to write has 200 ms: where a sync alone takes half of that, the machine and not the store decides.
    if ((slowest < 100)); then check "no request failed in a $kind round" test "$errors" = 0; else
      note "$errors requests failed in a $kind round in which this machine took $slowest ms for a sync"
    fi
  fi
  docker rm -f "$LOAD" >/dev/null
  unset 'CONTAINERS[-1]' # the load, which start_load made last
  check "all replicas agree within $LEVEL_S s" within "$LEVEL_S" agreed "${everybody[@]}"
  check_history ""
  check "no process has ended but by this script" all_run_on
}
# median KIND...: of p99 in those rounds, in microseconds.
median() {
  awk -v kinds=" $* " 'index(kinds, " " $1 " ") { print $2 }' "$WORK/rounds" | sort -n | awk '{ p[NR] = $1 } END { print p[int((NR + 1) / 2)] }'
}

for ((i = 0; i < quiet_rounds; i++)); do round quiet ''; done
quiet=$(median quiet)

HOSTILES=$NAME-hostile
CONTAINERS+=("$HOSTILES")
docker create --name "$HOSTILES" --network "$CLIENT_NET" --no-healthcheck --cpus 0.25 --entrypoint perl "$IMAGE" \
  /tmp/hostile.pl $((soak_s * 4 + 600)) "$hostile" "$rate" cargo-1 "${CLIENT_ADDRESS[@]}" >/dev/null
docker cp -q "$(dirname "${BASH_SOURCE[0]}")/hostile.pl" "$HOSTILES:/tmp/hostile.pl"
docker start "$HOSTILES" >/dev/null
now_ms; hostile_from=$NOW
at_work() { docker logs "$HOSTILES" 2>/dev/null | awk -v most="$hostile" '{ open[$1] += $3 } END { for (t in open) if (open[t] * 3 > most) exit 0; exit 1 }'; }
check "a third of the hostile connections are open at a time" within 60 at_work

victim=1
for ((r = 0; r < rounds; r++)); do
  kind=${kinds[r % ${#kinds[@]}]}
  case $kind in
    calm) round calm '' ;;
    full) round full 1 ;;
    # The small disk has no room for a store that was put aside beside the one that is filled again.
    rot | rot_live) victim=$((victim % (NODES - 1) + 1)); round "$kind" $((victim + 1)) ;;
    killed) victim=$((victim % NODES + 1)); round killed "$victim" ;;
  esac
done
now_ms; hostile_to=$NOW

# ---- what the hostile clients did, and what is left of them

sum_of() { # FIELD: of /status, of all nodes
  local n sum=0
  for n in "${everybody[@]}"; do request GET "$n" /status; field "$1" || return 1; sum=$((sum + FIELD)); done
  SUM=$sum
}
check "the hostile clients were there to the end" test "$(docker inspect -f '{{.State.Running}}' "$HOSTILES")" = true
sum_of late_heads; check "nodes gave up heads that did not come: $SUM" test "$SUM" -gt 0
sum_of cut_off; check "nodes cut off clients that did not read: $SUM" test "$SUM" -gt 0
docker kill "$HOSTILES" >/dev/null
note "kind of hostile client: open at a time (median), opened, ended by the node, bytes sent, bytes got"
docker logs "$HOSTILES" 2>/dev/null | sort -k2,2 -k3,3n | awk '
  $2 != kind { if (n) show(); kind = $2; n = 0; last = -1 }
  { open[++n] = $3; if ($1 > last) { last = $1; rest = $4 " " $5 " " $6 " " $7 } }
  function show() { print "#   " kind ": " open[int((n + 1) / 2)], rest }
  END { show() }'
nothing_held() { sum_of connections && ((SUM <= NODES)) && sum_of unread_bytes && ((SUM == 0)) && sum_of body_bytes && ((SUM == 0)); }
check "without them nodes hold neither connections nor bytes within 30 s" within 30 nothing_held

# ---- the honest clients

round quiet '' # once more, for what the faults have left behind
after=$P99
note "rounds: kind, p99 in us, requests, errors, ms for the slowest of some syncs of this machine"
sed 's/^/#   /' "$WORK/rounds"
calm=$(median calm) all=$(median "${kinds[@]}")
check "p99 with hostile clients alone: $calm us, $quiet us without, at most $times times that" test "$calm" -le $((times * quiet))
check "p99 of the middle of all rounds: $all us, at most $times times that" test "$all" -le $((times * quiet))

check "p99 when all is over: $after us, at most $times times that" test "$after" -le $((times * quiet))

# ---- nothing grew

ready_but_for_faults() {
  awk -v from="$hostile_from" -v to="$hostile_to" '
    NR == FNR { n++; node[n] = $1; begin[n] = $2; end[n] = $3; next }
    $1 < from || $1 > to || $3 == 200 { next }
    { for (i = 1; i <= n; i++) if (node[i] == $2 && $1 >= begin[i] - 2000 && $1 <= end[i]) next; print "#   " $0; bad = 1 }
    END { exit bad }' "$WORK/windows" "$WORK/samples"
}
check "/ready says 200 but for the faulty node: $(wc -l <"$WORK/samples") looks" ready_but_for_faults
# flat COLUMN SLACK: at each node the most in the last third is within 1.5 times the most in the first, and SLACK.
flat() {
  awk -v from="$hostile_from" -v to="$hostile_to" -v column="$1" -v slack="$2" '
    $1 < from || $1 > to || $3 == "down" { next }
    { third = int(3 * ($1 - from) / (to - from + 1)); nodes[$2]; if ($column > most[$2, third]) most[$2, third] = $column }
    END {
      for (n in nodes) {
        print "#   node " n ": at most " most[n, 0] + 0, most[n, 1] + 0, most[n, 2] + 0 " in each third"
        if (most[n, 2] > 1.5 * most[n, 0] + slack) bad = 1
      }
      exit bad
    }' "$WORK/samples"
}
check "memory (KiB) does not grow" flat 4 65536
check "descriptors do not grow" flat 5 64

# ---- nothing is lost

check "all nodes are ready" wait_ready "${everybody[@]}"
mapfile -t KEYS_USED < <(cut -d ' ' -f 1 "$WORK/keys")
sed -E 's/^[^ ]+ (.*)/"\1"/' "$WORK/keys" >"$WORK/want-keys"
own_are_there() { local n; for n in "${everybody[@]}"; do dump "$n" | cmp -s - "$WORK/want-keys" || return 1; done; }
check "all ${#KEYS_USED[@]} of $OWN own keys that were acknowledged are read through every node" within "$LEVEL_S" own_are_there
items_are_there() {
  request GET 1 /keys/soak
  [[ $STATUS == 200 ]] && grep -oE 'item-[0-9]+' "$BODY_FILE" | sort >"$WORK/list" && [[ -z $(uniq -d "$WORK/list") ]] &&
    [[ -z $(sort "$WORK/items" | comm -23 - "$WORK/list") ]]
}
check "all $(wc -l <"$WORK/items") items of the list that were acknowledged are there, once" items_are_there
most() { (($1 * 10 >= OWN * 9)); }
check "nine of ten writes of each were acknowledged" eval 'most ${#KEYS_USED[@]} && most $(wc -l <"$WORK/items")'
cargo_is_there() { local i n; for n in "${everybody[@]}"; do for ((i = 1; i <= cargo; i++)); do cargo_is_whole "$i" "$n" || return 1; done; done; }
check "all long values are whole, through every node" cargo_is_there
check "no process has ended but by this script" all_run_on
finish
