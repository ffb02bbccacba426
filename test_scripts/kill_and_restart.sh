#!/usr/bin/env bash
# kill -9 in the middle of writes: one node with its disk, one node without its disk, all nodes at once. Nothing that was acknowledged
# is lost, and a node that has lost its disk never says "not found" for something that it once acknowledged.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
total=${WRITES:-150}

start_cluster 4 2
partition_of_node 1; here=$FIELD

# writer NAME TOTAL NODE...: one session writes TOTAL keys through the given nodes in turn. A line "key value partition" for each
# acknowledged write, a line in NAME.refused for each other answer.
writer() {
  local name=$1 count=$2 i node
  shift 2
  CTX=
  for ((i = 0; i < count; i++)); do
    node=${*:i % $# + 1:1}
    if writes "$node" "$name-$i" "v-$name-$i"; then
      field partition_id && echo "$name-$i v-$name-$i $FIELD" >>"$WORK/acknowledged"
    else
      echo "node $node: $STATUS in $TOOK_MS ms: ${BODY:0:200}" >>"$WORK/$name.refused"
    fi
    ((TOOK_MS <= LIMIT_MS)) || echo "node $node: $STATUS took $TOOK_MS ms" >>"$WORK/$name.slow"
    echo "$i" >"$WORK/$name.at"
  done
}
has_come_to() { [[ -s $WORK/$1.at ]] && (($(<"$WORK/$1.at") >= $2)); }
has_ended() { ! kill -0 "$1" 2>/dev/null; }
empty() { [[ ! -s $1 ]] || { sed 's/^/#   /' "$1" | head -n 5; return 1; }; }

all_read() {
  local key value partition i=0
  while read -r key value partition; do
    CTX=
    reads $((i++ % NODES + 1)) "$key" "$value" || return 1
  done <"$WORK/acknowledged"
}
node_holds_all() { # of its own partition
  local key value partition
  while read -r key value partition; do
    [[ $partition != "$2" ]] || holds "$1" "$key" "$value" || return 1
  done <"$WORK/acknowledged"
}
count() { wc -l <"$WORK/acknowledged"; }

# ---- with its disk
writer alive "$total" 1 3 4 &
HELPERS+=($!); pid=$!
within 60 has_come_to alive $((total / 3)) || true
kill_node 2
within 60 has_come_to alive $((total * 2 / 3)) || true
start_node 2
within 120 has_ended "$pid" || true
wait "$pid" || true
check "node 2 killed amid $total writes: none through the living nodes failed" empty "$WORK/alive.refused"
check "node 2 killed: none took more than a second" empty "$WORK/alive.slow"
check "restarted with its disk: it is ready" wait_ready 2
check "restarted with its disk: it holds all of its partition within $LEVEL_S s" within "$LEVEL_S" node_holds_all 2 "$here"
check "all $(count) acknowledged writes are read, through every node" all_read

# ---- killed under the writes that it takes itself
writer taken "$total" 2 &
HELPERS+=($!); pid=$!
within 60 has_come_to taken $((total / 3)) || true
kill_node 2
start_node 2 # the writer still knows the old port: all its later writes are refused, which is fine
within 120 has_ended "$pid" || true
wait "$pid" || true
check "killed under its own writes: ready again" wait_ready 2
check "killed under its own writes: all $(count) acknowledged writes are read" within "$LEVEL_S" all_read

# ---- without its disk
check "before node 2 loses its disk, its peer holds all of the partition" within "$LEVEL_S" node_holds_all 1 "$here"
remove_node 2
writer alone 30 1 3 4
check "node 2 is gone with its disk: 30 writes through the others are taken" empty "$WORK/alone.refused"
create_node 2
start_node 2
never_wrong() {
  local key value partition end
  CTX=
  get 1 "alone-29" # a session that knows the latest
  now_ms; end=$((NOW + 5000))
  while read -r key value partition; do
    get 2 "$key"
    case $STATUS in 200) field_is value "$value" || return 1 ;; 503 | 000) ;; *) return 1 ;; esac
    now_ms; ((NOW < end)) || break
  done < <(shuf "$WORK/acknowledged")
}
check "back with an empty disk: asked at once, it gives the right value or 503, never 'not found'" never_wrong
check "back with an empty disk: it is ready" wait_ready 2
check "back with an empty disk: it holds all of its partition within $LEVEL_S s" within "$LEVEL_S" node_holds_all 2 "$here"
kill_node 1
latest_read() { local n; for n in 2 3 4; do CTX=; reads "$n" alone-29 v-alone-29 || return 1; done; }
check "its peer killed: the latest write is read through the three others within $LEVEL_S s" within "$LEVEL_S" latest_read
others_read() {
  local key value partition i=0
  while read -r key value partition; do CTX=; reads $((i++ % 3 + 2)) "$key" "$value" || return 1; done <"$WORK/acknowledged"
}
check "its peer killed: so are all $(count) acknowledged writes, from what it holds now" others_read
start_node 1
check "the peer is back" wait_ready 1

# ---- all at once, as when the power goes
docker kill -s KILL "${NODE[@]}" >/dev/null
for i in 1 2 3 4; do start_node "$i"; done
check "all four killed at once and started again: ready" wait_ready 1 2 3 4
check "all four killed: all $(count) acknowledged writes are read" within "$LEVEL_S" all_read
finish
