#!/usr/bin/env bash
# A change of the view while a node is cut off from the others and not from its clients: the majority makes it, the minority refuses to,
# both go on serving, and after the healing everybody goes by the same view and has everything.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
own=${WRITES:-40} load_s=${SECONDS_OF_LOAD:-45}

start_cluster 4 2 1
CTX=
check "$own keys are written" write_keys "$own" 1 2 3 4
check "node 5 stands by" start_spare 5
start_load "$load_s" 8 16 --prefill
total=$((own + 16))
check "the load has written its keys" within 20 keys_are "$total" 1 2 3 4
add 1 1 # it is there already: the nodes have agreed on the first view when this is answered
check "the view can be changed" done_within 5

# partitions_seen N NODE...: each of these nodes says that there are N partitions.
partitions_seen() {
  local count=$1 n parts
  shift
  for n in "$@"; do
    request GET "$n" /kvs/get_all_partition_ids
    [[ $STATUS == 200 && $BODY =~ \[([0-9, ]*)\] ]] || return 1
    read -ra parts <<<"${BASH_REMATCH[1]//,/ }"
    ((${#parts[@]} == count)) || return 1
  done
}

# not_given_up NODE: as it knows, the last change of the view did without nobody's data.
not_given_up() { request GET "$1" /view; [[ $STATUS == 200 && $BODY == *'"given_up":false'* && $BODY != *'"given_up":true'* ]]; }

# ---- one node is cut off
cut_off 3
add 5 1
check "a node is added without the one that is cut off: answered within 16 s" answered_within 16
made=$STATUS
check "and not refused" test "$made" = 200 -o "$made" = 202
check "the four that hear each other go by it" within 5 partitions_seen 3 1 2 4 5
remove 5 3
check "the one that is cut off changes nothing: 503 within 16 s" answered_within 16
check "the one that is cut off says why" test "$STATUS" = 503
CTX=
check "it takes writes" writes 3 split from-3
check "it reads them" reads 3 split from-3
connect_again 3
check "healed: all five go by the same view" within 15 view_is 1 2 3 4 5
check "healed: what the minority took is read everywhere" within "$LEVEL_S" reads 5 split from-3
check "healed: all keys are in their place" within "$LEVEL_S" keys_are $((total + 1)) 1 2 3 4 5
add 5 2
check "asked again: it is done" done_within 5

# ---- so many that nobody has a majority
cut_off 1; cut_off 2; cut_off 5
remove 5 4
check "without a majority: answered within 16 s" answered_within 16
check "without a majority: 503" test "$STATUS" = 503
CTX=
check "the store goes on" writes 4 split from-4
connect_again 1; connect_again 2; connect_again 5
check "healed: all nodes are ready" wait_ready 1 2 3 4 5
removed_at_last() { remove 5 1; [[ $STATUS == 200 || $STATUS == 404 ]]; }
check "healed: the removal can be made" within 60 removed_at_last
check "healed: who was only cut off is not given up" not_given_up 1
check "the view is what it was" within 5 view_is 1 2 3 4
check "all keys are in their place" within "$LEVEL_S" keys_are $((total + 1)) 1 2 3 4

end_load
check "all nodes agree on all keys" within "$LEVEL_S" agreed 1 2 3 4
check_history
finish
