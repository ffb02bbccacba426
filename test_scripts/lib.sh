# Shared by every script in this directory: containers, requests, checks, clean-up. Sourced, not run.
# shellcheck shell=bash
#
# Each node sits on two networks. Nodes talk to each other on the data network, at fixed addresses; clients come in over the
# client network, by a port published on 127.0.0.1, or from a container there at the node's fixed address. Cutting a node off the data network thus leaves it in reach of its clients,
# which is what a network split looks like from one side.

# shellcheck source=checks.sh
source "$(dirname "${BASH_SOURCE[0]}")/checks.sh"

usage() {
  cat <<USAGE
usage: $(basename "$0") [--image IMAGE] [--prefix NAME] [--subnet A.B.0.0/16]

The same as environment variables:
  IMAGE     image under test                                            (causeway:test)
  PREFIX    start of the names of all containers, networks and volumes  (cwtest)
  SUBNET    network of the nodes    (the first free one of 10.77.0.0/16 to 10.92.0.0/16)
  CLIENT_SUBNET  network of the clients     (the first free one of 10.93.0.0/16 to 10.108.0.0/16)
  LIMIT_MS  how long an answer may take, with curl's own start          (1250)
  LEVEL_S   seconds in which replicas must agree after a fault is over  (5)

Needs bash 5, curl and a Docker engine. Leaves nothing behind. Ends with 1 when a check fell short, 2 when it could not run.
USAGE
}

while (($#)); do
  case $1 in
    --image | --prefix | --subnet)
      (($# >= 2)) || give_up "$1 needs a value"
      case $1 in --image) IMAGE=$2 ;; --prefix) PREFIX=$2 ;; --subnet) SUBNET=$2 ;; esac
      shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

IMAGE=${IMAGE:-causeway:test}
PREFIX=${PREFIX:-cwtest}
LEVEL_S=${LEVEL_S:-5}

command -v docker >/dev/null || give_up "needs docker, which is not installed"
docker info >/dev/null 2>&1 || give_up "no Docker engine answers (docker info)"
docker image inspect "$IMAGE" >/dev/null 2>&1 || give_up "there is no image $IMAGE; make it with: docker build -t $IMAGE ."

# ---- What this run makes, and how it goes again -------------------------------------------------------------------------------

NAME=$PREFIX-$$-$RANDOM # no two runs share a name, so each one removes only its own
WORK=$(mktemp -d)
CONTAINERS=() NETWORKS=() VOLUMES=() HELPERS=()

clean_up() {
  local status=$? c
  trap - EXIT INT TERM
  set +e
  for c in "${HELPERS[@]}"; do kill "$c" 2>/dev/null; done
  for c in "${CONTAINERS[@]}"; do docker unpause "$c"; done >/dev/null 2>&1
  ((${#CONTAINERS[@]})) && docker rm -f -v "${CONTAINERS[@]}" >/dev/null 2>&1
  ((${#VOLUMES[@]})) && docker volume rm -f "${VOLUMES[@]}" >/dev/null 2>&1
  ((${#NETWORKS[@]})) && docker network rm "${NETWORKS[@]}" >/dev/null 2>&1
  rm -rf "$WORK"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

last_words() {
  local c
  for c in "${CONTAINERS[@]}"; do
    note "last words of $c:"
    docker logs --tail 25 "$c" 2>&1 | sed 's/^/#   /' || true
  done
}

# ---- Containers --------------------------------------------------------------------------------------------------------------

DATA_NET=$NAME-data
CLIENT_NET=$NAME-client # sorts before the data network: Docker publishes ports through the first of a container's networks
ADDRESS=() CLIENT_ADDRESS=() NODE=()

make_networks() {
  NETWORKS+=("$DATA_NET" "$CLIENT_NET")
  make_network "$CLIENT_NET" "${CLIENT_SUBNET:-}" CLIENT_SUBNET 10.{93..108}.0.0/16; CLIENT_SUBNET=$MADE
  make_network "$DATA_NET" "${SUBNET:-}" SUBNET 10.{77..92}.0.0/16; SUBNET=$MADE
}

# make_network NAME SUBNET VARIABLE OTHER...: with that subnet, or, when it is empty, the first of the others that is free; MADE is it.
make_network() {
  local name=$1 given=$2 variable=$3
  shift 3
  if [[ -n $given ]]; then
    docker network create --subnet "$given" "$name" >/dev/null || give_up "cannot make a network with subnet $given"
    MADE=$given
    return
  fi
  for MADE in "$@"; do
    if docker network create --subnet "$MADE" "$name" >/dev/null 2>&1; then return; fi
  done
  give_up "no free subnet among $1 to $MADE; name one with $variable"
}

# plan_nodes N K [SPARES]: names and addresses, and the view that the first N begin with. The spare nodes are in none.
plan_nodes() {
  local i base clients
  NODES=$1 REPLICAS=$2 VIEW=
  base=${SUBNET%/*} clients=${CLIENT_SUBNET%/*}
  for ((i = 1; i <= NODES + ${3:-0}; i++)); do
    NODE[i]=$NAME-n$i
    ADDRESS[i]=${base%.*}.$((20 + i)) CLIENT_ADDRESS[i]=${clients%.*}.$((20 + i))
    ((i > NODES)) || VIEW+=${VIEW:+,}${ADDRESS[i]}:8080
  done
}

# create_node I [docker arguments...]: made, put on both networks, and only then started, so that it never sees the one without the other.
create_node() {
  local i=$1 view=(-e VIEW="$VIEW")
  shift
  ((i <= NODES)) || view=()
  CONTAINERS+=("${NODE[i]}")
  docker create --name "${NODE[i]}" --network "$DATA_NET" --ip "${ADDRESS[i]}" -p 127.0.0.1::8080 \
    -e K="$REPLICAS" "${view[@]}" -e ip_port="${ADDRESS[i]}:8080" "$@" "$IMAGE" >/dev/null
  docker network connect --ip "${CLIENT_ADDRESS[i]}" "$CLIENT_NET" "${NODE[i]}"
}

# The published port is a new one after each start; the address on the client network stays.
start_node() { docker start "${NODE[$1]}" >/dev/null; find_port "$1"; }
find_port() { read -r "PORT[$1]" <<<"$(docker port "${NODE[$1]}" 8080/tcp)"; PORT[$1]=${PORT[$1]##*:}; }

kill_node() { docker kill -s KILL "${NODE[$1]}" >/dev/null; }
pause_node() { docker pause "${NODE[$1]}" >/dev/null; }
unpause_node() { docker unpause "${NODE[$1]}" >/dev/null; }
remove_node() { docker rm -f -v "${NODE[$1]}" >/dev/null; } # -v: its disk goes too
cut_off() { docker network disconnect "$DATA_NET" "${NODE[$1]}"; }
connect_again() { docker network connect --ip "${ADDRESS[$1]}" "$DATA_NET" "${NODE[$1]}"; find_port "$1"; }

ready() { request GET "$1" /ready; [[ $STATUS == 200 ]]; }
wait_ready() { local i; for i in "$@"; do within 30 ready "$i" || return 1; done; }

healthy() { request GET "$1" /health; [[ $STATUS == 200 ]]; }
start_spare() { create_node "$1"; start_node "$1"; within 30 healthy "$1"; }

# start_cluster N K [SPARES]: the usual beginning of a scenario. Spare nodes are not started.
start_cluster() {
  local i
  note "image $IMAGE: $1 nodes, K=$2"
  make_networks
  plan_nodes "$1" "$2" "${3:-0}"
  for ((i = 1; i <= NODES; i++)); do create_node "$i"; done
  for ((i = 1; i <= NODES; i++)); do start_node "$i"; done
  for ((i = 1; i <= NODES; i++)); do
    wait_ready "$i" || { check "node $i is ready within 30 s" false; finish; }
  done
  ok "$NODES nodes are ready"
}

# ---- Sessions ----------------------------------------------------------------------------------------------------------------

CTX=''

# A session is its causal_payload, in CTX. It goes out unencoded, as clients paste it, and takes over what each reply says.
session() { if field causal_payload && [[ -n $FIELD ]]; then CTX=$FIELD; fi; }

put() { request PUT "$1" /kvs --data-urlencode "key=$2" --data-urlencode "value=$3" -d "causal_payload=$CTX"; session; }
get() { request GET "$1" /kvs -G --data-urlencode "key=$2" -d "causal_payload=$CTX"; session; }
delete() { request DELETE "$1" /kvs -G --data-urlencode "key=$2" -d "causal_payload=$CTX"; session; }

# What one replica holds itself: no session, no waiting. Only for keys of that node's own partition.
peek() { request GET "$1" /kvs -G --data-urlencode "key=$2" -d consistency=eventual; }

written() { [[ $STATUS == 200 || $STATUS == 201 ]]; }
writes() { put "$@"; written; }
reads() { get "$1" "$2"; [[ $STATUS == 200 ]] && field_is value "$3"; }
holds() { peek "$1" "$2"; [[ $STATUS == 200 ]] && field_is value "$3"; }
finds_nothing() { get "$1" "$2"; [[ $STATUS == 404 ]]; }
holds_nothing() { peek "$1" "$2"; [[ $STATUS == 404 ]]; }

# A 503 as the contract has it: when to come back, why, and the session's own past.
says_unavailable() {
  [[ $STATUS == 503 ]] && has_header Retry-After && field_is msg error && field error && [[ -n $FIELD ]] &&
    field causal_payload && [[ -n $FIELD ]]
}

partition_of_node() { request GET "$1" /kvs/get_partition_id; field partition_id || give_up "node $1 does not tell its partition: $BODY"; }

# Writes fresh keys through a node until one falls into the partition asked for; KEY is that key, its value is "first".
KEYS_MADE=0
key_in_partition() {
  local partition=$1 node=$2 tries
  for ((tries = 0; tries < 200; tries++)); do
    KEYS_MADE=$((KEYS_MADE + 1))
    KEY=key-$KEYS_MADE
    put "$node" "$KEY" first
    if written && field_is partition_id "$partition"; then return 0; fi
  done
  check "a key of partition $partition is found in 200 tries" false
  finish
}

# ---- Views -------------------------------------------------------------------------------------------------------------------

# add NODE VIA, remove NODE VIA: a change of the view, asked for at another node or at the node itself.
add() { view_update add "$@"; }
remove() { view_update remove "$@"; }
view_update() {
  request PUT "$3" /kvs/view_update --max-time 30 -d "ip_port=${ADDRESS[$2]}:8080" -d "type=$1"
  note "$1 node $2 through node $3: status $STATUS in $TOOK_MS ms: ${BODY:0:200}"
}
done_within() { [[ $STATUS == 200 ]] && ((TOOK_MS <= $1 * 1000)); }
answered_within() { [[ $STATUS == [25]0[0-9] ]] && ((TOOK_MS <= $1 * 1000)); }
is_removed() { get "$1" some-key; [[ $STATUS == 421 ]] && field error && [[ $FIELD == *removed* ]]; }

# view_is NODE...: these and nobody else are in the view, in ceil(N/K) partitions of at most K nodes, as each of them tells.
view_is() {
  local n id parts members all wanted
  wanted=$(for n in "$@"; do echo "${ADDRESS[n]}:8080"; done | sort)
  for n in "$@"; do
    request GET "$n" /kvs/get_all_partition_ids
    [[ $STATUS == 200 && $BODY =~ \[([0-9, ]*)\] ]] || return 1
    read -ra parts <<<"${BASH_REMATCH[1]//,/ }"
    ((${#parts[@]} == ($# + REPLICAS - 1) / REPLICAS)) || return 1
    all=
    for id in "${parts[@]}"; do
      request GET "$n" "/kvs/get_partition_members?partition_id=$id"
      members=$(grep -oE '[0-9.]+:[0-9]+' <<<"$BODY") || return 1
      (($(wc -l <<<"$members") <= REPLICAS)) || return 1
      all+=$members$'\n'
    done
    [[ $(sort <<<"${all%$'\n'}") == "$wanted" ]] || return 1
  done
}

# keys_are TOTAL NODE...: the nodes of each partition count as many keys, and all partitions together TOTAL.
keys_are() {
  local total=$1 n sum=0
  local -A counted=()
  shift
  for n in "$@"; do
    partition_of_node "$n"; local partition=$FIELD
    request GET "$n" /kvs/get_number_of_keys
    field count || return 1
    [[ ${counted[$partition]:-$FIELD} == "$FIELD" ]] || return 1
    counted[$partition]=$FIELD
  done
  for n in "${counted[@]}"; do sum=$((sum + n)); done
  ((sum == total))
}

# write_keys N NODE...: keys own-1 to own-N, through the nodes in turn; read_keys N NODE...: each node has all of them.
write_keys() {
  local count=$1 i
  shift
  for ((i = 1; i <= count; i++)); do writes "${*:(i - 1) % $# + 1:1}" "own-$i" "value-$i" || return 1; done
}
read_keys() {
  local count=$1 i n
  shift
  for n in "$@"; do
    for ((i = 1; i <= count; i++)); do reads "$n" "own-$i" "value-$i" || return 1; done
  done
}

# ---- Clients at work ---------------------------------------------------------------------------------------------------------

# start_load SECONDS SESSIONS KEYS [arguments of bench...]: sessions that roam over all nodes there are and write down every answer.
start_load() {
  local seconds=$1 sessions=$2 keys=$3 i targets=
  shift 3
  for i in "${!NODE[@]}"; do
    ! docker inspect "${NODE[i]}" >/dev/null 2>&1 || targets+=${targets:+,}${CLIENT_ADDRESS[i]}:8080
  done
  LOAD=$NAME-load LOAD_KEYS=$keys HISTORY=/data/history.jsonl
  CONTAINERS+=("$LOAD")
  docker run -d --name "$LOAD" --network "$CLIENT_NET" --no-healthcheck "$IMAGE" bench --target "$targets" --routing roam \
    --connections "$sessions" --keys "$keys" --distribution "${DISTRIBUTION:-zipf}" --read-share 0.5 --value-size 40 \
    --warmup 0 --seconds "$seconds" --timeout 2 --json --history "$HISTORY" "$@" >/dev/null
}
loading() { [[ $(docker inspect -f '{{.State.Running}}' "$LOAD") == true ]]; }

# Waits for the load's end; leaves its history in $WORK/history and its keys in KEYS_USED.
end_load() {
  local status
  status=$(timeout 120 docker wait "$LOAD") || true
  check "the load came to its end" test "$status" = 0
  note "the load: $(docker logs "$LOAD" 2>/dev/null | head -c 1000)"
  docker logs "$LOAD" 2>&1 >/dev/null | cut -c 1-200 | sed -n '1,12s/^/#   /p'
  docker cp -q "$LOAD:$HISTORY" "$WORK/history" || { check "the history is there" false; finish; }
  mapfile -t KEYS_USED < <(grep -oE '"key":"[^"]+"' "$WORK/history" | sort -u | cut -d '"' -f 4)
  check "all $LOAD_KEYS keys were used" test "${#KEYS_USED[@]}" = "$LOAD_KEYS"
}

# What a node says of each key without looking further, a line each. A node that does not hold the key asks one that does.
dump() {
  local key urls=()
  for key in "${KEYS_USED[@]}"; do urls+=("http://127.0.0.1:${PORT[$1]}/kvs?key=$key&consistency=eventual"); done
  curl -sS --max-time 10 -w ' %{http_code}\n' "${urls[@]}" 2>/dev/null |
    sed -nE 's/.*"value":("[^"]*").* 200$/\1/p; t; s/.* 404$/nothing/p; t; s/^.*$/no answer/p'
}
agreed() { # NODE...
  local n
  dump "$1" >"$WORK/dump"
  ! grep -q 'no answer' "$WORK/dump" && [[ $(wc -l <"$WORK/dump") == "${#KEYS_USED[@]}" ]] || return 1
  for n in "${@:2}"; do dump "$n" | cmp -s - "$WORK/dump" || return 1; done
}

# check_history [TEXT OPTION...]: what it is to be, and how `causeway check` is told so.
check_history() {
  local text=${1:-causally consistent} verdict=0 kept
  docker run --rm -i --network none --no-healthcheck "$IMAGE" check - "${@:2}" <"$WORK/history" >"$WORK/verdict" 2>&1 || verdict=$?
  sed 's/^/#   /' "$WORK/verdict"
  check "the history is $text" test "$verdict" = 0
  if ((verdict)); then
    kept=$(mktemp "${TMPDIR:-/tmp}/causeway-history-XXXXXX.jsonl")
    cp "$WORK/history" "$kept"
    note "the history is kept in $kept"
  fi
}
