# Checks, waiting and requests: shared by the scripts with containers (lib.sh) and those without. Sourced, not run. Who sources it sets WORK, a
# directory of its own, and PORT, the port of each node on 127.0.0.1, and defines last_words.
# shellcheck shell=bash

set -euo pipefail
export LC_ALL=C

give_up() { echo "$(basename "$0"): $*" >&2; exit 2; }

((BASH_VERSINFO[0] >= 5)) || give_up "needs bash 5 or newer, this is $BASH_VERSION"
command -v curl >/dev/null || give_up "needs curl, which is not installed"

LIMIT_MS=${LIMIT_MS:-1250}
PASSED=0 FAILED=0
PORT=()

# ---- Checks ------------------------------------------------------------------------------------------------------------------

note() { echo "# $*"; }

ok() { PASSED=$((PASSED + 1)); echo "ok - $*"; }

not_ok() { FAILED=$((FAILED + 1)); echo "not ok - $*"; }

# check TEXT COMMAND...: one line for one claim; when it does not hold, the last exchange is what a person wants to see.
check() {
  local text=$1
  shift
  if "$@"; then ok "$text"; else
    not_ok "$text"
    note "  checked: $*"
    [[ -z ${ASKED:-} ]] || note "  last exchange: $ASKED: status $STATUS in $TOOK_MS ms: ${BODY:0:400}"
  fi
}

# The last line of a script. Logs are shown only when they can explain something: last_words is the script's.
finish() {
  ((FAILED == 0)) || last_words
  echo "$PASSED passed, $FAILED failed"
  ((FAILED == 0)) || exit 1
  exit 0
}

# ---- Waiting -----------------------------------------------------------------------------------------------------------------

now_ms() { NOW=${EPOCHREALTIME/[.,]/}; NOW=${NOW%???}; }

# within SECONDS COMMAND...: tries until it succeeds; WAITED_MS says how long that took.
within() {
  local limit=$(($1 * 1000)) start
  shift
  now_ms; start=$NOW
  until "$@"; do
    now_ms; WAITED_MS=$((NOW - start))
    ((WAITED_MS < limit)) || return 1
    sleep 0.1
  done
  now_ms; WAITED_MS=$((NOW - start))
}

# all_along SECONDS COMMAND...: it must succeed every time until the time is over.
all_along() {
  local limit=$(($1 * 1000)) start
  shift
  now_ms; start=$NOW
  while "$@"; do
    now_ms
    ((NOW - start < limit)) || return 0
    sleep 0.2
  done
  return 1
}

# ---- Requests ----------------------------------------------------------------------------------------------------------------

STATUS=000 BODY='' HEAD='' TOOK_MS=0 SLOWEST_MS=0 ASKED='' FIELD=''

# request METHOD NODE PATH [curl arguments...]: leaves STATUS (000: no answer), BODY (the whole of it in BODY_FILE), HEAD and TOOK_MS.
request() {
  local method=$1 node=$2 path=$3 out seconds file=$WORK/$BASHPID
  shift 3
  BODY_FILE=$file.body
  : >"$file.body"; : >"$file.head" # of an answer that never came, nothing must be left from the one before
  out=$(curl -sS -X "$method" --max-time 10 -o "$file.body" -D "$file.head" -w '%{http_code} %{time_total}' "$@" \
    "http://127.0.0.1:${PORT[node]}$path" 2>"$file.error") || true
  BODY=$(head -c 65536 "$file.body" | tr -d '\0') # bash is slow with long strings, and none of the checks needs them
  HEAD=$(<"$file.head")
  STATUS=${out%% *}
  seconds=${out##* }
  TOOK_MS=$((${seconds%.*} * 1000 + 10#${seconds:${#seconds}-6:3}))
  ((TOOK_MS <= SLOWEST_MS)) || SLOWEST_MS=$TOOK_MS
  ASKED="$method $path at node $node ($*)"
  ASKED=${ASKED:0:300}
}

# field NAME: that field of the last reply, in FIELD. The scripts write plain values only, so strings have no escapes to undo.
field() {
  local text="\"$1\"[[:space:]]*:[[:space:]]*\"([^\"]*)\"" other="\"$1\"[[:space:]]*:[[:space:]]*([-0-9a-z.]+)"
  FIELD=
  if [[ $BODY =~ $text || $BODY =~ $other ]]; then FIELD=${BASH_REMATCH[1]}; else return 1; fi
}

in_time() { ((TOOK_MS <= LIMIT_MS)); }
all_in_time() { ((SLOWEST_MS <= LIMIT_MS)); }
status_is() { [[ $STATUS == "$1" ]]; }
field_is() { field "$1" && [[ $FIELD == "$2" ]]; }
has_header() { grep -qi "^$1: *[^[:space:]]" <<<"$HEAD"; }
