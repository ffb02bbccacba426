#!/usr/bin/env bash
# Four nodes become seven and four again while clients are at work: nodes come and go one after the other, each change through the node
# that came last. No key is lost or out of place for a moment, and the history is causally consistent.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
own=${WRITES:-40} load_s=${SECONDS_OF_LOAD:-25}

start_cluster 4 2 3
CTX=
check "$own keys are written" write_keys "$own" 1 2 3 4
first=$CTX
for i in 5 6; do check "node $i stands by" start_spare "$i"; done
get 5 own-1
check "a standby says what it is" test "$STATUS" = 503
start_load "$load_s" 8 16 --prefill
total=$((own + 16))
check "the load has written its keys" within 20 keys_are "$total" 1 2 3 4

# ---- four to seven
nodes=(1 2 3 4) via=1
for i in 5 6 7; do
  if ((i == 7)); then # not even started yet
    now_ms; begun=$NOW
    start_spare 7
    add 7 "$via"
    now_ms; check "a node started and added: $((NOW - begun)) ms" test "$((NOW - begun))" -le 10000
  else
    add "$i" "$via"
  fi
  check "node $i is added within 5 s" done_within 5
  nodes+=("$i") via=$i
  check "the reply says so" field_is number_of_partitions $(((${#nodes[@]} + 1) / 2))
  check "every node says so" view_is "${nodes[@]}"
  check "all keys are in their place" keys_are "$total" "${nodes[@]}"
  CTX=$first
  check "node $i reads what was written under the first view, with its payload" read_keys "$own" "$i"
done

# ---- and back: those that were there first go, each asked itself
for i in 1 3 2; do
  remove "$i" "$i"
  check "node $i is removed within 5 s" done_within 5
  for n in "${!nodes[@]}"; do [[ ${nodes[n]} != "$i" ]] || unset "nodes[n]"; done
  check "every node says so" view_is "${nodes[@]}"
  check "all keys are in their place" keys_are "$total" "${nodes[@]}"
  CTX=$first
  check "node $i says that it was removed" is_removed "$i"
done

end_load
check "all nodes agree on all keys" within "$LEVEL_S" agreed "${nodes[@]}"
check_history
CTX=$first
check "a payload of the first view is good under the last" read_keys "$own" "${nodes[@]}"
check "the number of keys is the same" keys_are "$total" "${nodes[@]}"
finish
