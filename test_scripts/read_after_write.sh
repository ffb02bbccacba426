#!/usr/bin/env bash
# A read right after a write, at another replica, with the write's payload, sees the write, at once.
# The session roams: every node writes, every other node reads, keys fall into both partitions.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
rounds=${ROUNDS:-40}

start_cluster 4 2

# every_other_node_sees KEY VALUE WRITER: the first wrong reply stays the last exchange, for the report.
every_other_node_sees() {
  local reader
  for ((reader = 1; reader <= NODES; reader++)); do
    ((reader == $3)) || { reads "$reader" "$1" "$2" && in_time; } || return 1
  done
}

one_session_roams() {
  local i writer
  CTX=
  for ((i = 0; i < rounds; i++)); do
    writer=$((i % NODES + 1))
    writes "$writer" "roam-$((i % 7))" "value-$i" && every_other_node_sees "roam-$((i % 7))" "value-$i" "$writer" || return 1
  done
}
check "$rounds writes of one session: each read back at the three other nodes, at once" one_session_roams

new_keys() {
  local i writer
  for ((i = 0; i < rounds; i++)); do
    writer=$((i % NODES + 1))
    CTX=
    writes "$writer" "new-$i" "value-$i" && [[ $STATUS == 201 ]] &&
      every_other_node_sees "new-$i" "value-$i" "$writer" || return 1
  done
}
check "$rounds new keys, each in a session of its own: created (201) and read back at the three other nodes" new_keys

# Ann writes two keys; Bob knows nothing, reads the second, and must then find the first wherever he asks.
causes_come_first() {
  local i
  for ((i = 0; i < rounds; i++)); do
    CTX=
    writes $((i % NODES + 1)) "cause-$i" "c-$i" && writes $(((i + 1) % NODES + 1)) "effect-$i" "e-$i" || return 1
    CTX=
    within 5 reads $(((i + 2) % NODES + 1)) "effect-$i" "e-$i" || return 1
    reads $(((i + 3) % NODES + 1)) "cause-$i" "c-$i" || return 1
  done
}
check "$rounds times: who has read an effect finds its cause, in either partition" causes_come_first

deletes_too() {
  local i other
  CTX=
  for ((i = 0; i < rounds; i++)); do
    other=$(((i + 1) % NODES + 1))
    delete $((i % NODES + 1)) "new-$i"
    [[ $STATUS == 200 ]] && finds_nothing "$other" "new-$i" || return 1
  done
}
check "$rounds deletes: 'not found' at another node, at once" deletes_too

payload_is_plain() { [[ -n $CTX && $CTX =~ ^[A-Za-z0-9._~-]+$ ]]; }
check "the payload needs no encoding in a URL ($CTX)" payload_is_plain
check "every answer within a second (slowest: $SLOWEST_MS ms)" all_in_time
finish
