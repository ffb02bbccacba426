#!/usr/bin/env bash
# A node that alone holds a third of the keys is stopped and removed: refused, until it is said that its data may be lost. Back on its disk it is
# added at once, removed before it has offered all that it had, killed, and added once more: nothing is lost.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
keys=${KEYS:-30000}

start_cluster 3 1
note "writing $keys keys"
docker run --rm --network "$CLIENT_NET" --no-healthcheck "$IMAGE" bench --target "${CLIENT_ADDRESS[1]}:8080" --prefill --keys "$keys" \
  --connections 32 --read-share 1 --value-size 100 --warmup 0 --seconds 1 --json >"$WORK/prefill" 2>&1 || true
check "$keys keys are there" within 60 keys_are "$keys" 1 2 3
request GET 3 /kvs/get_number_of_keys
field count; own=$FIELD
rest=$((keys - own))
sleep 3 # each node asks one other node a second how many keys it has
docker stop -t 20 "${NODE[3]}" >/dev/null

three_partitions() { request GET 1 /kvs/get_all_partition_ids; [[ $BODY =~ \[([0-9]+,\ ?){2}[0-9]+\] ]]; }
shows_offer() { request GET 1 /view; [[ $STATUS == 200 && $BODY == *'"directory"'* ]]; }
names_loss() { [[ $BODY == *"$own"* && $BODY == *"${ADDRESS[3]}:8080"* ]]; }
request GET 1 "/view/plan?type=remove&ip_port=${ADDRESS[3]}:8080"
check "the plan names the $own keys that only node 3 has" names_loss
remove 3 1
check "the removal is refused" status_is 409
check "it says what would be lost" names_loss
check "and how a program tells" field_is code data_loss
request GET 1 /view
check "the view says that no live node holds them" names_loss
check "the view is what it was" three_partitions
request PUT 1 /kvs/view_update --max-time 30 -d "ip_port=${ADDRESS[3]}:8080" -d type=remove -d allow_data_loss=true
check "told that the data may be lost, it is removed" done_within 12
check "the reply says what that is" names_loss
check "two nodes are left" view_is 1 2
check "$rest keys are left" keys_are "$rest" 1 2

offers_are() { request GET "$1" /status; [[ $STATUS == 200 && $BODY == *"\"offers\":$2"* ]]; }
start_node 3
check "it is back, and says that it was removed" within 30 is_removed 3
add 3 1
check "it is added at once" answered_within 30
check "it offers what it had" offers_are 3 '[{'
check "another node shows that" shows_offer
remove 3 2
check "it is removed again" answered_within 30
check "it says that it was removed" within 30 is_removed 3
check "it still offers what it had" offers_are 3 '[{'
kill_node 3
start_node 3
check "killed and back" within 30 is_removed 3
add 3 1
check "it is added again" answered_within 30
check "its offer comes to an end" within 120 offers_are 3 '[]'
check "all $keys keys are there" within 60 keys_are "$keys" 1 2 3
finish
