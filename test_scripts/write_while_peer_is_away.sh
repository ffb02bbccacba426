#!/usr/bin/env bash
# One of a pair loses the network; the other takes writes alone and says so. What the lone one cannot know it does not make up.
# Once it is back, it levels within five seconds.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
writes_meanwhile=${WRITES:-30}

start_cluster 4 2
partition_of_node 1; here=$FIELD
key_in_partition "$here" 1; key=$KEY
check "with both replicas there a write has two copies" within 5 eval 'writes 1 "$key" old && field copies && ((FIELD >= 2))'
check "node 2 holds the value itself" within 2 holds 2 "$key" old

cut_off 2
put 1 "$key" new
check "the peer is away: the write is taken" written
check "the peer is away: within a second" in_time
check "the peer is away: the reply says that there is one copy" field_is copies 1

write_many() {
  local i
  for ((i = 0; i < writes_meanwhile; i++)); do writes $((i % 3 == 1 ? 3 : i % 3 == 2 ? 4 : 1)) "away-$i" "value-$i" && in_time || return 1; done
}
check "$writes_meanwhile more writes through the three connected nodes, each within a second" write_many
check "the connected nodes read the new value" reads 3 "$key" new
after=$CTX

peek 2 "$key"
check "consistency=eventual at the lone replica: the old value" field_is value old
request GET 2 /kvs -G -d key="$key" -d "causal_payload=$after" -d consistency=eventual
check "consistency=eventual with a payload that it cannot cover: the old value, marked stale" eval 'field_is value old && field_is stale true'
CTX=$after
get 2 "$key"
check "a causal read there gets 503 with Retry-After, a reason and the payload, never the old value" says_unavailable
check "and it gets that within a second" in_time

connect_again 2
check "reconnected: node 2 holds the new value within $LEVEL_S s" within "$LEVEL_S" holds 2 "$key" new
note "it took $WAITED_MS ms"
check "reconnected: a causal read at node 2 is answered" reads 2 "$key" new
read_many() {
  local i
  for ((i = 0; i < writes_meanwhile; i++)); do reads 2 "away-$i" "value-$i" || return 1; done
}
check "reconnected: node 2 reads all that was written meanwhile" read_many
check "reconnected: a write at node 2 has two copies again" within "$LEVEL_S" eval 'writes 2 "$key" newest && field copies && ((FIELD >= 2))'
check "and node 1 reads it at once" reads 1 "$key" newest
finish
