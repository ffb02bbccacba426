#!/usr/bin/env bash
# All replicas of one partition are out of reach, first black-holed, then stopped. Its keys get a prompt and honest 503 from the
# other nodes; the other partition serves as before; when the network is whole again so is the store.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

start_cluster 4 2
partition_of_node 1; here=$FIELD
partition_of_node 3; there=$FIELD
check "nodes 1 and 3 are of different partitions ($here, $there)" test "$here" != "$there"
key_in_partition "$here" 1; near=$KEY
key_in_partition "$there" 1; far=$KEY

# Six requests through each living node, so that the first attempt and the remembered suspicion are both seen.
far_reads_refused() {
  local i
  for ((i = 0; i < 6; i++)); do
    get 1 "$far"; says_unavailable && in_time || return 1
    get 2 "$far"; says_unavailable && in_time || return 1
  done
}
far_writes_refused() {
  local i
  for ((i = 0; i < 3; i++)); do
    put 1 "$far" "lost-$i"; says_unavailable && in_time || return 1
    put 2 "$far" "lost-$i"; says_unavailable && in_time || return 1
  done
}
near_served() {
  local i
  for ((i = 0; i < 10; i++)); do
    writes $((i % 2 + 1)) "$near" "$1-$i" && in_time && reads $(((i + 1) % 2 + 1)) "$near" "$1-$i" && in_time || return 1
  done
}

cut_off 3; cut_off 4
check "both replicas cut off: reads get 503 with Retry-After, a reason and the payload, within a second" far_reads_refused
check "both replicas cut off: writes get the same" far_writes_refused
check "both replicas cut off: the other partition reads and writes on, within a second" near_served cut
session_before=$CTX

connect_again 3; connect_again 4
check "reconnected: the partition is read through the other one within $LEVEL_S s" within "$LEVEL_S" reads 1 "$far" first
check "reconnected: so it is through node 2" within "$LEVEL_S" reads 2 "$far" first
CTX=$session_before
check "reconnected: the cut-off nodes read what was written meanwhile" within "$LEVEL_S" reads 3 "$near" cut-9

docker stop -t 10 "${NODE[3]}" "${NODE[4]}" >/dev/null
check "both replicas stopped: reads get 503 with Retry-After, a reason and the payload, within a second" far_reads_refused
check "both replicas stopped: the other partition reads and writes on, within a second" near_served stop
start_node 3; start_node 4
check "started again: both are ready" wait_ready 3 4
check "started again: the partition is read through the other one within $LEVEL_S s" within "$LEVEL_S" reads 1 "$far" first
finish
