#!/usr/bin/env bash
# All nodes of a cluster lose their disks and start again with the same settings: a new cluster. What clients still have from the one before is
# refused, by reads and writes alike, and is passed on to nobody. One node at a time serves nobody before the new cluster is born.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

foreign() { [[ $STATUS == 400 ]] && field_is code foreign_payload && ! field causal_payload; }
refused() { # NODE: with the session of the earlier life
  CTX=$OLD; get "$1" some-key; foreign || return 1
  CTX=$OLD; put "$1" some-key poison; foreign || return 1
  CTX=$OLD; delete "$1" some-key; foreign || return 1
  request GET "$1" /kvs/explain -G -d "causal_payload=$OLD"; foreign
}
forming() { CTX=; get "$1" some-key; [[ $STATUS == 503 ]] && has_header Retry-After && field error && [[ $FIELD == *"1 of 2 nodes of VIEW"* ]]; }

start_cluster 2 2
CTX=
check "a session begins" writes 1 some-key first
request PUT 1 /view -d k=1 --max-time 30
request PUT 1 /view -d k=2 --max-time 30
check "it has seen a later view" writes 2 some-key second
OLD=$CTX

for i in 1 2; do remove_node "$i"; done
create_node 1; start_node 1
check "the first node alone says that the cluster is being formed" within 10 forming 1
create_node 2; start_node 2
check "both are ready" wait_ready 1 2
for i in 1 2; do check "node $i refuses the session of the earlier life" refused "$i"; done
for i in 1 2; do CTX=; check "a new session finds nothing at node $i" finds_nothing "$i" some-key; done
CTX=
check "a new session writes" writes 1 some-key new
check "and reads" reads 2 some-key new
NEW=$CTX
docker kill -s KILL "${NODE[2]}" >/dev/null
start_node 2
check "killed and started again, it is ready" wait_ready 2
check "and refuses it still" refused 2
CTX=$NEW
check "the new session goes on" reads 2 some-key new
finish
