#!/usr/bin/env bash
# A pair is split and both sides take writes. After healing all replicas agree within five seconds, and what was written causally
# later has won, whichever side it was written on.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

start_cluster 4 2
partition_of_node 1; here=$FIELD
key_in_partition "$here" 1; clash=$KEY
key_in_partition "$here" 1; chain=$KEY
key_in_partition "$here" 1; later=$KEY
key_in_partition "$here" 1; gone=$KEY
check "node 2 holds the keys" within 5 holds 2 "$gone" first

cut_off 2

CTX=
check "side A takes a write" writes 1 "$clash" from-A
CTX=
check "side B takes a write of the same key" writes 2 "$clash" from-B
check "side B reads its own write" reads 2 "$clash" from-B

# A chain on one side: read, then write on top of it.
CTX=
writes 2 "$chain" B-1 && reads 2 "$chain" B-1
check "side B writes on top of what it has read" writes 2 "$chain" B-2

# The session walks over: side B has not seen what the second write depends on, and takes it all the same.
CTX=
writes 1 "$later" A-first
check "side B takes a write that depends on one that it has not seen" writes 2 "$later" B-after-A
CTX=
writes 2 "$gone" B-first
delete 1 "$gone"
check "side A takes a delete that depends on a write of side B" status_is 200

connect_again 2
agree() {
  local one
  peek 1 "$clash"; field value || return 1
  one=$FIELD
  [[ $one == from-A || $one == from-B ]] && holds 2 "$clash" "$one" && WINNER=$one
}
check "healed: both replicas hold the same value within $LEVEL_S s" within "$LEVEL_S" agree
note "it took $WAITED_MS ms; ${WINNER:-nobody} won"
check "healed: the end of the chain has won, at both" within "$LEVEL_S" eval 'holds 1 "$chain" B-2 && holds 2 "$chain" B-2'
check "healed: the causally later write has won, at both" within "$LEVEL_S" eval 'holds 1 "$later" B-after-A && holds 2 "$later" B-after-A'
check "healed: the causally later delete has won, at both" within "$LEVEL_S" eval 'holds_nothing 1 "$gone" && holds_nothing 2 "$gone"'

everywhere() {
  local i
  for ((i = 1; i <= NODES; i++)); do
    CTX=
    reads "$i" "$clash" "${WINNER:-}" && reads "$i" "$chain" B-2 && reads "$i" "$later" B-after-A && finds_nothing "$i" "$gone" || return 1
  done
}
check "healed: every node answers the same" everywhere
check "and it stays so" all_along 2 everywhere
finish
