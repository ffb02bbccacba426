#!/usr/bin/env bash
# SIGTERM ends a node within five seconds with status 0, also with an idle client connected, with requests under way, and with its peer
# gone. What it had acknowledged is there when it starts again.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

start_cluster 2 2
stops() { # NODE: SIGTERM, then its status
  local start status
  now_ms; start=$NOW
  docker kill -s TERM "${NODE[$1]}" >/dev/null
  status=$(timeout 15 docker wait "${NODE[$1]}") || status="none (still running after 15 s)"
  now_ms; STOPPED_MS=$((NOW - start)) ASKED=''
  note "node $1 ended with status $status after $STOPPED_MS ms"
  [[ $status == 0 ]] && ((STOPPED_MS <= 5000))
}

for i in 1 2 3 4 5; do writes 1 "kept-$i" "value-$i" || break; done
check "writes are taken" written

exec {idle}<>"/dev/tcp/127.0.0.1/${PORT[1]}" # a client that keeps its connection and says nothing
check "SIGTERM with an idle connection: ends within 5 s with status 0" stops 1
exec {idle}>&-

start_node 1
check "started again: ready" wait_ready 1
all_there() { local i; for i in 1 2 3 4 5; do reads 1 "kept-$i" "value-$i" || return 1; done; }
check "started again: everything is there" all_there

busy() { # until the node is gone; bounded
  local i
  for ((i = 0; i < 2000; i++)); do
    put 2 "busy-$i" "value-$i"
    if written; then echo "$i" >>"$WORK/busy"; elif [[ $STATUS == 000 ]]; then return; fi
  done
}
busy & HELPERS+=($!); pid=$!
within 20 eval '[[ -s $WORK/busy ]] && (($(wc -l <"$WORK/busy") >= 20))' || true
check "SIGTERM under load: ends within 5 s with status 0" stops 2
wait "$pid" || true
check "SIGTERM of the last node, its peer gone: ends within 5 s with status 0" stops 1
start_node 1; start_node 2
check "both started again: ready" wait_ready 1 2
busy_there() { local i; while read -r i; do CTX=; reads 2 "busy-$i" "value-$i" || return 1; done <"$WORK/busy"; }
check "all $(wc -l <"$WORK/busy") writes acknowledged under load are there" within "$LEVEL_S" busy_there
finish
