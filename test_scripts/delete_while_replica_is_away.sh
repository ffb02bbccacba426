#!/usr/bin/env bash
# A key is deleted while one replica, which still holds it, is away. The key must not come back with that replica, neither when it
# reconnects nor when it restarts with its old disk.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

start_cluster 4 2
partition_of_node 1; here=$FIELD
key_in_partition "$here" 1; cut=$KEY
key_in_partition "$here" 1; killed=$KEY
check "node 2 holds both keys" within 5 eval 'holds 2 "$cut" first && holds 2 "$killed" first'

gone_everywhere() {
  local i
  holds_nothing 1 "$1" && holds_nothing 2 "$1" || return 1
  for ((i = 1; i <= NODES; i++)); do finds_nothing "$i" "$1" || return 1; done
}

cut_off 2
delete 1 "$cut"
check "node 2 is cut off: the delete is taken" status_is 200
check "node 2 is cut off: it still holds the key" holds 2 "$cut" first
connect_again 2
check "reconnected: the key is gone everywhere within $LEVEL_S s" within "$LEVEL_S" gone_everywhere "$cut"
note "it took $WAITED_MS ms"
check "and it stays gone" all_along 3 gone_everywhere "$cut"

kill_node 2
delete 1 "$killed"
check "node 2 is killed: the delete is taken" status_is 200
start_node 2
check "started with its old disk: it is ready" wait_ready 2
check "started with its old disk: the key is gone everywhere within $LEVEL_S s" within "$LEVEL_S" gone_everywhere "$killed"
check "and it stays gone" all_along 3 gone_everywhere "$killed"
check "the first key, too, is still gone" gone_everywhere "$cut"

CTX=
put 2 "$cut" again
check "a deleted key can be written anew (201)" status_is 201
check "and is read at the other replica" reads 1 "$cut" again
finish
