#!/usr/bin/env bash
# Both nodes of a partition are removed while clients are at work, one after the other: its keys move to the partition that is left, and
# nothing is lost. Then both come back, and the other partition's nodes go.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
own=${WRITES:-40} load_s=${SECONDS_OF_LOAD:-25}

start_cluster 4 2
CTX=
check "$own keys are written" write_keys "$own" 1 2 3 4
first=$CTX
start_load "$load_s" 8 16 --prefill
total=$((own + 16))
check "the load has written its keys" within 20 keys_are "$total" 1 2 3 4

step() { # WHAT NODE VIA NODE...: a change, and what has to hold right after it
  local what=$1 node=$2 via=$3
  shift 3
  view_update "$what" "$node" "$via"
  check "$what node $node: done within 5 s" done_within 5
  check "the view is nodes $*" view_is "$@"
  check "all keys are in their place" keys_are "$total" "$@"
  CTX=$first
  check "all keys are read through each of them" read_keys "$own" "$@"
}
step remove 3 1   1 2 4
step remove 4 4   1 2
for i in 3 4; do check "node $i says that it was removed" is_removed "$i"; done
step add 3 2      1 2 3
step add 4 3      1 2 3 4
step remove 1 4   2 3 4
step remove 2 3   3 4

end_load
check "all nodes agree on all keys" within "$LEVEL_S" agreed 3 4
check_history
finish
