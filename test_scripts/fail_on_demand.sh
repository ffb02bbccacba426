#!/usr/bin/env bash
# POST /fail makes a node act as a dead one while its process lives, POST /recover brings it back, level; a restart of the container does too.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

start_cluster 4 2
partition_of_node 1; here=$FIELD
key_in_partition "$here" 1; key=$KEY

order() { request POST "$3" "/$1/${ADDRESS[$2]}:8080" --max-time 20; [[ $STATUS == 200 ]]; }
node_is() { # NODE STATUS STATE, as any other node finds it
  request GET 4 /nodes
  [[ $BODY == *"\"status\":\"$2\",\"state\":\"$3\",\"node\":\"${ADDRESS[$1]}:8080\""* ]]
}
answered_by() { request GET "$1" "/read/$2"; [[ $STATUS == 200 ]] && field message && [[ $FIELD == *"${ADDRESS[$1]}:8080"* ]]; }
says_how_to_recover() { [[ $STATUS == 503 && $BODY == *"POST /recover/"* ]]; }

check "node 1 fails, as node 3 passes on" order fail 1 3
check "a failed node is healthy" healthy 1
request GET 1 /kvs -G -d "key=$key"
check "it serves nobody, and says what brings it back" says_how_to_recover
check "the others find it dead, and failed" node_is 1 dead failed
SLOWEST_MS=0
CTX=
check "its peer goes on alone" eval 'writes 3 "$key" meanwhile && field copies && ((FIELD == 1))'
check "and is read through the others" reads 4 "$key" meanwhile
check "each within a second" all_in_time

check "node 1 recovers" order recover 1 4
CTX=
check "it answers itself, at once" answered_by 1 "$key"
check "with what was written meanwhile" field_is value meanwhile
check "the others find it alive" node_is 1 alive serving

check "nodes 1 and 2 fail, which is a whole partition" eval 'order fail 1 3 && order fail 2 3'
get 3 "$key"
check "its keys get 503 with a reason" says_unavailable
check "within a second" in_time
docker restart -t 10 "${NODE[1]}" >/dev/null
find_port 1
check "a restart of the container ends it: node 1 is ready" wait_ready 1
check "and has the value" reads 1 "$key" meanwhile
kill_node 1
check "a node that is really dead is told from a failed one" within 5 node_is 1 dead "no answer"
request POST 3 "/recover/${ADDRESS[1]}:8080"
check "and cannot be recovered by a call" status_is 503
check "node 2 recovers" order recover 2 3
check "and serves the partition alone" reads 3 "$key" meanwhile
finish
