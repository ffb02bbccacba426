#!/usr/bin/env bash
# A node is killed amid writes and then removed: the rest goes on with everything that was acknowledged. Started again on its old disk it
# says that it is out and brings nothing back; added again it is a node like any other.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
own=${WRITES:-40} load_s=${SECONDS_OF_LOAD:-25}

start_cluster 4 2
CTX=
check "$own keys are written" write_keys "$own" 1 2 3 4
start_load "$load_s" 8 16 --prefill
total=$((own + 16))
check "the load has written its keys" within 20 keys_are "$total" 1 2 3 4
kill_node 4
remove 4 1
check "the dead node is removed within 8 s" done_within 8
check "three nodes are left, in two partitions" view_is 1 2 3
check "all keys are there" keys_are "$total" 1 2 3
check "all keys are read, through every node" read_keys "$own" 1 2 3
delete 1 own-1
check "a key is deleted" status_is 200
check "another is written over" writes 2 own-2 newer

start_node 4
check "back on its old disk, it answers" within 30 healthy 4
check "it says that it was removed" within 2 is_removed 4
check "the deleted key stays deleted" all_along 2 finds_nothing 3 own-1
check "the newer value stays" reads 1 own-2 newer
check "nothing came back" keys_are $((total - 1)) 1 2 3

add 4 3
check "it is added again within 5 s" done_within 5
check "four nodes, two partitions" view_is 1 2 3 4
check "all keys are in their place" keys_are $((total - 1)) 1 2 3 4
check "it reads the newer value" reads 4 own-2 newer
check "it does not find the deleted key" finds_nothing 4 own-1
check "it takes writes" writes 4 own-1 again
check "others read them" reads 1 own-1 again

end_load
check "all nodes agree on all keys" within "$LEVEL_S" agreed 1 2 3 4
check_history
finish
