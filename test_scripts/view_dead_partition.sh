#!/usr/bin/env bash
# Both nodes of a partition die with their disks, and one of another partition: that one can be removed, changes that need the dead partition are
# refused and say what to do, and it is given up when its data may be lost. Then the cluster changes as before, with all that was elsewhere.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
own=${WRITES:-60}

start_cluster 6 2 1
CTX=
check "$own keys are written" write_keys "$own" 1 2 3 4 5 6
check "all nodes have them" within "$LEVEL_S" keys_are "$own" 1 2 3 4 5 6
request GET 5 /kvs/get_number_of_keys
field count; rest=$((own - FIELD))
for i in 2 5 6; do remove_node "$i"; done

names_nodes() { [[ $BODY == *"${ADDRESS[5]}:8080"* && $BODY == *"${ADDRESS[6]}:8080"* && $BODY == *--lose-data* ]]; }
refused() { [[ $STATUS == 409 ]] && field_is code "$1" && names_nodes; }
removal_losing_data() { # NODE VIA
  request PUT "$2" /kvs/view_update --max-time 30 -d "ip_port=${ADDRESS[$1]}:8080" -d type=remove -d allow_data_loss=true
  note "remove node $1 through node $2, data may be lost: status $STATUS in $TOOK_MS ms: ${BODY:0:200}"
}
given_up() { request GET 1 /view; [[ $STATUS == 200 && $BODY == *'"given_up":true}'* ]]; }

remove 2 1
check "the dead node of another partition is removed" done_within 10
check "a new node is started" start_spare 7
remove 4 1
check "to remove a living one needs the dead partition: refused, with the nodes and the way out" refused dead_partition
check "at once" test "$TOOK_MS" -le 8000
remove 5 1
check "so is the removal of a node that lost the only data, without consent" refused data_loss
removal_losing_data 5 1
check "told that the data may be lost, it is removed" done_within 15
check "the other one is shown as given up" given_up
add 7 1
check "nothing else is changed before it is removed" status_is 409
remove 6 3
check "it is removed, with no more said" done_within 10
check "three nodes in two partitions are left" view_is 1 3 4
check "what they had is there" keys_are "$rest" 1 3 4
CTX=
check "keys are written in all places" write_keys "$own" 1 3 4
check "all are read, through each node" read_keys "$own" 1 3 4
add 7 4
check "a node is added as ever" done_within 10
check "four nodes in two partitions" view_is 1 3 4 7
remove 4 7
check "and one removed" done_within 10
check "all keys are there" keys_are "$own" 1 3 7
check "all are read, through each node" read_keys "$own" 1 3 7
finish
