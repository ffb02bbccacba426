#!/usr/bin/env bash
# Runs every scenario of this directory, one after the other, and adds up what they found.
# usage: run_all.sh [--image IMAGE] [--prefix NAME] [--subnet A.B.0.0/16] [SCENARIO...]      (run_all.sh --help tells the rest)
set -euo pipefail
cd "$(dirname "$0")"

options=() scenarios=()
while (($#)); do
  case $1 in
    -h | --help)
      echo "usage: run_all.sh [options of a scenario] [SCENARIO...]   scenarios: all *.sh here that need containers"
      exec ./read_after_write.sh --help ;;
    --*) (($# >= 2)) || { echo "run_all.sh: $1 needs a value" >&2; exit 2; }; options+=("$1" "$2"); shift 2 ;;
    *) scenarios+=("$1"); shift ;;
  esac
done
if ((${#scenarios[@]} == 0)); then
  # keys_local.sh needs no container: the checks of a change run it by itself.
  for file in *.sh; do
    case $file in lib.sh | checks.sh | run_all.sh | local_node.sh | keys_local.sh) ;; *) scenarios+=("$file") ;; esac
  done
fi

export SECONDS_OF_SOAK=${SECONDS_OF_SOAK:-100} # each of its faults once, instead of half an hour
export P99_TIMES=${P99_TIMES:-10} # few requests make up its short tail, and a machine with other work lengthens that

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0
for scenario in "${scenarios[@]}"; do
  echo "# ---- $scenario"
  start=$SECONDS
  status=0
  # The limit is far above what a scenario takes; a hang must not take the whole run with it.
  timeout -k 60 "${SCENARIO_LIMIT_S:-600}" bash "./${scenario##*/}" "${options[@]}" </dev/null >"$log" 2>&1 || status=$?
  grep -vE '^[0-9]+ passed, [0-9]+ failed$' "$log" || true
  if [[ $(tail -n 1 "$log") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
    ((status == 0 || BASH_REMATCH[2] > 0)) || { failed=$((failed + 1)); echo "not ok - $scenario ended with status $status"; }
  else
    failed=$((failed + 1))
    echo "not ok - $scenario broke off with status $status"
  fi
  echo "# $scenario took $((SECONDS - start)) s"
done
echo "$passed passed, $failed failed"
((failed == 0))
