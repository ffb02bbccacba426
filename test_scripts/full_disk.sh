#!/usr/bin/env bash
# The disk runs full: writes get 507 with a reason, reads go on, and after a restart every acknowledged write is there.
# The disk is a small tmpfs volume. A second container holds it, so that it outlives the node's restart.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
size_mb=${DISK_MB:-192} # a node keeps a reserve of 128 MiB for its own housekeeping
value_kb=${VALUE_KB:-1024}

note "image $IMAGE: 1 node, K=1, a disk of $size_mb MiB"
make_networks
plan_nodes 1 1
volume=$NAME-small
VOLUMES+=("$volume")
ids=$(docker run --rm --entrypoint id "$IMAGE" -u):$(docker run --rm --entrypoint id "$IMAGE" -g)
docker volume create --driver local --opt type=tmpfs --opt device=tmpfs \
  --opt o="size=${size_mb}m,uid=${ids%:*},gid=${ids#*:},mode=0750" "$volume" >/dev/null
CONTAINERS+=("$NAME-holder")
docker run -d --name "$NAME-holder" --network none --entrypoint sleep -v "$volume:/data" "$IMAGE" 600 >/dev/null
create_node 1 -v "$volume:/data"
start_node 1
check "the node starts on a disk of $size_mb MiB" wait_ready 1

# Values that no store can shrink or share. Letters and digits only, so the form needs no encoding.
head -c $((value_kb * 768)) /dev/urandom | base64 -w 0 | tr '+/' 'xy' | tr -d '=' >"$WORK/pad"
fill_one() { # NUMBER: the value starts with its number, which is what is compared later
  { printf 'key=fill-%s&value=v%s-' "$1" "$1"; cat "$WORK/pad"; } >"$WORK/form"
  request PUT 1 /kvs --data-binary "@$WORK/form"
}
value_is_whole() { # split at its quotes, the reply has the value on a line of its own
  { printf 'v%s-' "$1"; cat "$WORK/pad"; echo; } >"$WORK/want"
  request GET 1 /kvs -G -d "key=fill-$1"
  [[ $STATUS == 200 ]] && tr '"' '\n' <"$BODY_FILE" | grep "^v$1-" | cmp -s - "$WORK/want"
}

: >"$WORK/acknowledged"
fill() {
  local i
  for ((i = 0; i < size_mb * 4096 / value_kb; i++)); do
    fill_one "$i"
    if written; then echo "$i" >>"$WORK/acknowledged"; else return 0; fi
  done
}
fill
check "the first write that does not fit gets 507" status_is 507
check "with a reason" eval 'field_is msg error && field error && [[ -n $FIELD ]]'
note "it said: $FIELD"
check "within a second" in_time
check "after at least one write that did fit ($(wc -l <"$WORK/acknowledged") of $value_kb KiB)" test -s "$WORK/acknowledged"

refused_again() { local i; for i in 1 2 3; do fill_one "more-$i"; [[ $STATUS == 507 ]] && in_time || return 1; done; }
check "the next ones get 507 too" refused_again
all_whole() { local i; while read -r i; do value_is_whole "$i" || return 1; done <"$WORK/acknowledged"; }
check "reads go on: all acknowledged values are whole" all_whole
request GET 1 /kvs -G -d key=fill-more-1
check "a refused write is not there" status_is 404
request GET 1 /health
check "the node is alive" status_is 200
not_ready() { request GET 1 /ready; [[ $STATUS == 503 && $BODY == *"disk is full"* ]]; }
check "it says that it is not ready, and why" within 5 not_ready

docker kill -s TERM "${NODE[1]}" >/dev/null
status=$(timeout 15 docker wait "${NODE[1]}") || status=none
check "SIGTERM on a full disk: status 0" test "$status" = 0
start_node 1
reads_again() { request GET 1 /kvs -G -d key=fill-more-1; [[ $STATUS == 404 ]]; }
check "it starts again on the full disk, and serves reads" within 30 reads_again
check "after the restart all acknowledged values are whole" all_whole
kill_node 1
start_node 1
check "it starts again after kill -9" within 30 reads_again
check "after kill -9 all acknowledged values are whole" all_whole
finish
