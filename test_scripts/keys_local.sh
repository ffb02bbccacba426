#!/usr/bin/env bash
# The linearizable lists on three nodes of this machine, without Docker: the leader stopped and restarted, no quorum, all restarted.
# Nothing that was acknowledged is lost, nothing is acknowledged without a quorum, and nothing turns up that nobody sent.
# usage: keys_local.sh [--port PORT|any] [--causeway PATH]     ports PORT to PORT+2 and those 10000 above; default 8080
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=checks.sh
source "$here/checks.sh"

# Two seconds are promised without a quorum; the rest is for curl and a busy machine.
REFUSED_MS=${REFUSED_MS:-2500}
BASE_PORT=8080
while (($#)); do
  case $1 in
    --port) BASE_PORT=${2:?} ;;
    --causeway) export CAUSEWAY=${2:?} ;;
    *) sed -n '2,4s/^# //p' "$0"; exit 2 ;;
  esac
  shift 2
done

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# Whether none of the six ports is taken; else TAKEN is one that is.
free_from() {
  for TAKEN in {0..2} {10000..10002}; do
    TAKEN=$((TAKEN + $1))
    ! taken "$TAKEN" || return 1
  done
}
if [[ $BASE_PORT == any ]]; then
  # Below the ports that the kernel hands out, with their peers' ports.
  for ((BASE_PORT = 20000 + RANDOM % 2500; BASE_PORT < 22700; BASE_PORT += 3)); do ! free_from "$BASE_PORT" || break; done
fi
free_from "$BASE_PORT" || give_up "port $TAKEN is taken: stop what listens there, or choose others with --port PORT or --port any"
export BASE_PORT

WORK=$(mktemp -d)
export DATA=$WORK RUST_LOG=${RUST_LOG:-warn}
PID=()
clean_up() {
  local status=$? pid
  trap - EXIT INT TERM
  set +e
  for pid in "${PID[@]}"; do kill -KILL "$pid"; wait "$pid"; done 2>/dev/null
  rm -rf "$WORK"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
last_words() {
  for i in 1 2 3; do
    note "last words of node $i:"
    tail -n 15 "$WORK/log$i" | sed 's/^/#   /'
  done
}

# ---- Nodes -------------------------------------------------------------------------------------------------------------------

start_node() {
  "$here/local_node.sh" "$1" >>"$WORK/log$1" 2>&1 </dev/null &
  PID[$1]=$! PORT[$1]=$((BASE_PORT + $1 - 1))
}
# stop_node NODE [SIGNAL]: TERM lets it finish, KILL does not.
stop_node() {
  kill -s "${2:-TERM}" "${PID[$1]}"
  wait "${PID[$1]}" 2>/dev/null || true
  unset "PID[$1]"
}
running() { echo "${!PID[@]}"; }

# status NODE NAME: that line of its /admin/status, in SAID.
status() {
  request GET "$1" /admin/status
  SAID=$(sed -n "s/^$2: //p" <<<"$BODY")
  [[ $STATUS == 200 && -n $SAID ]]
}
says() { status "$1" "$2" && [[ $SAID == "$3" ]]; }
# All nodes that run name the same running leader, in the same term, and see a quorum: LEADER, TERM.
is_led() {
  local i leader='' term=''
  for i in $(running); do
    says "$i" has_quorum true && status "$i" leader && [[ -z $leader || $SAID == "$leader" ]] || return 1
    leader=$SAID
    status "$i" term && [[ -z $term || $SAID == "$term" ]] || return 1
    term=$SAID
  done
  LEADER=$((${leader##*:} - BASE_PORT + 1)) TERM=$term
  [[ -n ${PID[LEADER]:-} ]] && says "$LEADER" state leader
}
others() { local i; for i in $(running); do ((i == LEADER)) || echo "$i"; done; }
all_follow() { local i; for i in $(others); do says "$i" state follower || return 1; done; }
# The log has come to rest: nothing but clients' requests moves it from now on.
is_calm() { at_leader; local before=$AT; sleep 1; at_leader; [[ $AT == "$before" ]]; }
at_leader() { status "$LEADER" log_len || return 1; AT=$SAID; status "$LEADER" commit_idx && AT+=" $SAID"; }
# moved BY: log_len and commit_idx of the leader have grown by that many since the last look.
moved() { local -a old; read -ra old <<<"$AT"; at_leader; [[ $AT == "$((old[0] + $1)) $((old[1] + $1))" ]]; }
is_level() { status "$LEADER" commit_idx && says "$1" commit_idx "$SAID"; }

# ---- Lists -------------------------------------------------------------------------------------------------------------------

post() { request POST "$1" "/keys/$2" -d "$3"; }
put() { post "$1" "$2" "{\"type\":\"PUT\",\"value\":$3}"; }
append() { post "$1" "$2" "{\"type\":\"APPEND\",\"value\":\"$3\"}"; }
puts() { put "$@"; status_is 204; }
appends() { append "$@"; status_is 204; }
reads() { request GET "$1" "/keys/$2"; [[ $STATUS == 200 && $BODY == "$3" ]]; }
all_read() { local i; for i in $(running); do reads "$i" "$@" || return 1; done; }
holds() { request GET "$1" "/keys/$2?consistency=local"; [[ $STATUS == 200 && $BODY == "$3" ]]; }
# A refusal in time. Whether it may be done all the same is in MAYBE.
refused() {
  MAYBE='may be'
  [[ $BODY != *"nothing was done"* ]] || MAYBE=not
  [[ $STATUS == 503 ]] && ((TOOK_MS <= REFUSED_MS)) && has_header Retry-After
}

# ---- All is well -------------------------------------------------------------------------------------------------------------

note "three nodes on ports $BASE_PORT to $((BASE_PORT + 2))"
for i in 1 2 3; do start_node "$i"; done
check "there is one leader, and all know it" within 30 is_led
note "node $LEADER leads in term $TERM"
for i in 1 2 3; do check "node $i names itself" says "$i" self "127.0.0.1:${PORT[i]}"; done
check "the others follow" within 10 all_follow
check "the log comes to rest" within 30 is_calm

read -r any <<<"$(others)"
check "PUT through node $any" puts "$any" pets '["cat","dog"]'
check "PUT is one more entry, committed" moved 1
check "APPEND through node $LEADER" appends "$LEADER" pets mouse
check "APPEND is one more entry, committed" moved 1
check "every node reads both" all_read pets '["cat","dog","mouse"]'
check "GET writes nothing into the log" moved 0
for i in $(others); do check "node $i has the same commit_idx as the leader" within 5 is_level "$i"; done

# ---- The leader stops --------------------------------------------------------------------------------------------------------

old=$LEADER term=$TERM
stop_node "$old"
check "leader $old stopped: another one" within 10 is_led
note "node $LEADER leads in term $TERM"
check "it is a later term" test "$TERM" -gt "$term"
for i in $(running); do check "APPEND through node $i" appends "$i" pets "bird-$i"; done
list="[\"cat\",\"dog\",\"mouse\",$(running | sed -E 's/([0-9])/"bird-\1"/g; s/ /,/g')]"
check "both read all of it" all_read pets "$list"
start_node "$old"
check "the old leader is back: all agree on the leader" within 30 is_led
check "it has the same commit_idx as the leader" within 10 is_level "$old"
check "and what was written meanwhile" within 10 holds "$old" pets "$list"

# ---- Two of three stop -------------------------------------------------------------------------------------------------------

alone=$LEADER # it may take what it cannot have decided
for i in 1 2 3; do ((i == alone)) || stop_node "$i" KILL; done
append "$alone" pets early
check "at once, APPEND is refused in time" refused; early=$MAYBE
check "node $alone alone: has_quorum is false" within 10 says "$alone" has_quorum false
append "$alone" pets late
check "APPEND is refused in time" refused; late=$MAYBE
put "$alone" other '["never"]'
check "PUT is refused in time" refused; other=$MAYBE
request GET "$alone" /keys/pets
check "GET is refused in time" refused
check "a local read still shows what was acknowledged" holds "$alone" pets "$list"
note "early $early be done, late $late, PUT $other"

# ---- All stop, and start again -----------------------------------------------------------------------------------------------

stop_node "$alone"
for i in 1 2 3; do start_node "$i"; done
check "all restarted: there is a leader" within 30 is_led
item() { [[ $2 == not ]] || echo "(,\"$1\")?"; } # what may be there
expected="^${list%]}$(item early "$early")$(item late "$late")\\]\$"
as_expected() { request GET 1 /keys/pets; [[ $STATUS == 200 && $BODY =~ ${expected/\[/\\[} ]]; }
check "nothing acknowledged is lost, and nothing came that was not asked for" as_expected
last=$BODY
check "all nodes read the same" all_read pets "$last"
no_other() { request GET 1 /keys/other; [[ $STATUS == 404 || ($other != not && $BODY == '["never"]') ]]; }
check "the refused PUT is what its refusal said" no_other
check "and the store goes on" puts 2 other '["now"]'
finish
