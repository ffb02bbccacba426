#!/usr/bin/env bash
# The container as people start it: the docker run line of the contract, no volume, no second network.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

note "image $IMAGE"
make_networks
plan_nodes 2 2
# Word for word, but for the names and a host port that Docker picks.
for i in 1 2; do
  CONTAINERS+=("${NODE[i]}")
  docker run -d --name "${NODE[i]}" -p 127.0.0.1::8080 --ip="${ADDRESS[i]}" --net="$DATA_NET" -e K=2 -e VIEW="$VIEW" -e ip_port="${ADDRESS[i]}:8080" "$IMAGE" >/dev/null
  find_port "$i"
done
check "both nodes are ready" wait_ready 1 2
check "without a volume it can write" writes 1 plain value
check "and the other node reads it" reads 2 plain value
request GET 2 /kvs/get_partition_members -G -d partition_id=0
members() { [[ $STATUS == 200 && $BODY == *"${ADDRESS[1]}:8080"* && $BODY == *"${ADDRESS[2]}:8080"* ]]; }
check "partition 0 holds both nodes" members
check "it does not run as root" test "$(docker exec "${NODE[1]}" id -u)" != 0
healthy() { [[ $(docker inspect -f '{{.State.Health.Status}}' "${NODE[1]}") == healthy ]]; }
check "Docker's own health check passes" within 30 healthy
check "the health check by hand: status 0" docker exec "${NODE[1]}" causeway health

# refused TEXT [docker arguments...]: a value that makes no sense stops the node at once, with one clear line and status 2.
refused() {
  local text=$1 status=0 lines
  shift
  CONTAINERS+=("$NAME-refused")
  timeout 20 docker run --name "$NAME-refused" --network none "$@" "$IMAGE" >"$WORK/out" 2>&1 || status=$?
  docker rm -f -v "$NAME-refused" >/dev/null 2>&1 || true
  lines=$(wc -l <"$WORK/out")
  note "$text: $(head -c 300 "$WORK/out" | tr '\n' '|')"
  ASKED=
  check "$text: status 2" test "$status" = 2
  check "$text: one line" test "$lines" = 1
}
refused "K=0" -e K=0 -e VIEW=10.0.0.21:8080 -e ip_port=10.0.0.21:8080
refused "an ip_port that is no address" -e K=1 -e VIEW=10.0.0.21:8080 -e ip_port=nonsense
refused "a VIEW with a duplicate" -e K=1 -e VIEW=10.0.0.21:8080,10.0.0.21:8080 -e ip_port=10.0.0.21:8080
finish
