#!/usr/bin/env bash
# A load roams over all nodes and writes down every answer, while a schedule drawn from a seed cuts nodes off, pauses and kills them,
# alone and together. Afterwards the history has to be causally consistent, and all replicas have to agree on every key.
# No disk is ever lost here, so that nothing acknowledged may be missing, whatever the schedule does.
#   SECONDS_OF_LOAD=300 ./history_under_faults.sh      a long run
#   SEED=n                                             the same faults again
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
load_s=${SECONDS_OF_LOAD:-60} sessions=${SESSIONS:-12} count=${KEYS:-24} seed=${SEED:-$RANDOM}

start_cluster "${NODES:-5}" "${K:-3}"

# ---- the load
start_load "$load_s" "$sessions" "$count" --delete-share 0.05

# ---- the faults
draw() { DRAWN=$((RANDOM % $1)); } # in this shell: a subshell would begin a sequence of its own
kinds=(cut pause kill)
declare -A begin=([cut]=cut_off [pause]=pause_node [kill]=kill_node)
declare -A end=([cut]=connect_again [pause]=unpause_node [kill]=start_node)
RANDOM=$seed
note "SEED=$seed: $load_s s of load by $sessions sessions on $count keys, through $NODES nodes"

# One fault: one or two nodes, each in its own way, for longer than a session waits for a node that is silent. A line "kinds from-ms
# to-ms" for each.
fault() {
  local victims=() ways=() way names='' hold i from
  draw "$NODES"; victims+=($((DRAWN + 1)))
  draw 3; ways+=("${1:-${kinds[DRAWN]}}")
  draw 2
  if ((DRAWN)); then
    draw $((NODES - 1)); victims+=($(((victims[0] + DRAWN) % NODES + 1)))
    draw 3; ways+=("${kinds[DRAWN]}")
  fi
  draw 4000; hold=$((3000 + DRAWN))
  for i in "${!victims[@]}"; do names+=" ${ways[i]}-node-${victims[i]}"; done
  for i in "${!victims[@]}"; do way=${ways[i]}; "${begin[$way]}" "${victims[i]}"; done
  now_ms; from=$NOW
  sleep "$((hold / 1000)).$(printf %03d $((hold % 1000)))"
  now_ms; echo "${ways[*]}" "$from" "$NOW" >>"$WORK/faults"
  note "for $((NOW - from)) ms:$names"
  for i in "${!victims[@]}"; do way=${ways[i]}; "${end[$way]}" "${victims[i]}"; done
}

begun=$SECONDS
rounds=0
sleep 2
while ((SECONDS - begun < load_s - 4)) && loading; do
  fault "${kinds[rounds++ % 3]}" # each kind has its turn, also in a short run
  draw 3; sleep $((1 + DRAWN))
done
note "$rounds rounds of faults; all is healed"
end_load

# ---- all replicas agree
all_ready() { local n; for ((n = 1; n <= NODES; n++)); do ready "$n" || return 1; done; }
check "all nodes are ready" within 30 all_ready

mapfile -t everybody < <(seq "$NODES")
check "all replicas agree on all keys within $LEVEL_S s" within "$LEVEL_S" agreed "${everybody[@]}"
note "it took $WAITED_MS ms; $(grep -c nothing "$WORK/dump" || true) of ${#KEYS_USED[@]} keys are deleted"
check "and it stays so" all_along 2 agreed "${everybody[@]}"

# ---- what was recorded
# The run's keys are named after the moment at which the clock of the history began.
epoch=${KEYS_USED[0]%%-*}; epoch=$((16#${epoch#h}))
tally() { # lines "what number"
  awk -v epoch="$epoch" '
    NR == FNR {
      n++; from[n] = ($(NF - 1) - epoch) * 1000; to[n] = ($NF - epoch) * 1000
      next
    }
    {
      match($0, /"op":"[a-z]+"/); op = substr($0, RSTART + 6, RLENGTH - 7)
      match($0, /"status":"[a-z]+"/); status = substr($0, RSTART + 10, RLENGTH - 11)
      all[op " " status]++
      if (status != "ok") next
      match($0, /"start_us":[0-9]+/); start = substr($0, RSTART + 11, RLENGTH - 11) + 0
      match($0, /"end_us":[0-9]+/); end = substr($0, RSTART + 9, RLENGTH - 9) + 0
      for (i = 1; i <= n; i++) if (start >= from[i] && end <= to[i]) { during[i]++; faulty++ }
    }
    END {
      for (what in all) print what, all[what]
      least = -1
      for (i = 1; i <= n; i++) if (least < 0 || during[i] < least) least = during[i] + 0
      print "during-faults ok", faulty + 0
      print "during-the-worst-fault ok", least
    }' "$WORK/faults" "$WORK/history"
}
tally | sort >"$WORK/tally"
sed 's/^/#   /' "$WORK/tally"
recorded() { awk -v what="$1" 'index($0, what " ") == 1 { found = $NF } END { print found + 0 }' "$WORK/tally"; }
for op in put get delete; do check "there are answers to ${op}s: $(recorded "$op ok")" test "$(recorded "$op ok")" -gt 0; done
for kind in "${kinds[@]}"; do check "there was a $kind" grep -qw "$kind" "$WORK/faults"; done
worst=$(recorded "during-the-worst-fault ok")
check "in each fault some were answered: $(recorded "during-faults ok") in all, $worst in the worst" test "$worst" -gt 0

# ---- the verdict
check_history
finish
