#!/usr/bin/env bash
# A replica is frozen: it takes connections, and never answers. Requests through the others are answered within a second and without an
# error, as long as the partition has another replica.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
rounds=${ROUNDS:-10}

start_cluster 4 2
partition_of_node 1; here=$FIELD
partition_of_node 3; there=$FIELD
key_in_partition "$here" 1; near=$KEY
key_in_partition "$there" 1; far=$KEY
check "node 2 holds its keys" within 5 holds 2 "$near" first

docker pause "${NODE[2]}" >/dev/null
served() { # one session through the three others, first and later requests alike
  local i n value
  for ((i = 0; i < rounds; i++)); do
    for n in 1 3 4; do
      value=frozen-$i-$n
      writes "$n" "$near" "$value" && in_time && reads $((n == 1 ? 3 : n == 3 ? 4 : 1)) "$near" "$value" && in_time || return 1
      writes "$n" "$far" "$value" && in_time && reads $((n == 1 ? 3 : n == 3 ? 4 : 1)) "$far" "$value" && in_time || return 1
    done
  done
}
fresh_clients_served() {
  local i n
  for ((i = 0; i < rounds; i++)); do
    for n in 1 3 4; do
      CTX=
      writes "$n" "fresh-$i-$n" here && in_time && reads "$n" "fresh-$i-$n" here && in_time || return 1
    done
  done
}
check "frozen: $((rounds * 12)) requests of one session through the three others, no error, each within a second" served
check "frozen: $((rounds * 6)) requests of new sessions, the same" fresh_clients_served
note "slowest answer: $SLOWEST_MS ms"

docker unpause "${NODE[2]}" >/dev/null
check "thawed: node 2 holds the latest value within $LEVEL_S s" within "$LEVEL_S" holds 2 "$near" "frozen-$((rounds - 1))-4"
note "it took $WAITED_MS ms"
check "thawed: its own causal read is right" reads 2 "$near" "frozen-$((rounds - 1))-4"
check "thawed: a write through it is read at its peer at once" eval 'writes 2 "$near" thawed && reads 1 "$near" thawed'
finish
