# Shared by the benchmark scripts: nodes on free ports of 127.0.0.1, their data in one directory, and figures out of replies. Sourced, not run.
# shellcheck shell=bash
# The script sets causeway, the binary, and parent, where the data goes.

give_up() { echo "$(basename "$0"): $*" >&2; exit 2; }
say() { echo "$(date +%T) $*" >&2; }

# find_binary: builds it when it is not there.
find_binary() {
  if [[ ! -x $causeway ]]; then
    say "building $causeway"
    cargo build --release >&2
  fi
  causeway=$(realpath "$causeway")
}

# ---- What is started, and how it goes again ----------------------------------------------------------------------------------

running=()
stop_all() {
  local pid i
  for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${running[@]}"; do
    for ((i = 0; i < 100; i++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  running=()
}
clean_up() {
  local status=$?
  trap - EXIT INT TERM
  stop_all
  rm -rf "$work"
  exit "$status"
}
# make_work: a directory for everything, on the disk of $parent, which goes again at the end.
make_work() {
  work=$(mktemp -d "$parent/causeway-bench.XXXXXX")
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# A port that is free, and so is the one 10000 above it, where a node listens for its peers. Below the ports that the kernel hands out.
next_port=$((20000 + RANDOM % 1000))
free_port() {
  local p
  while next_port=$((next_port + 1)); do
    ((next_port < 22700)) || give_up "no free port"
    for p in "$next_port" $((next_port + 10000)); do
      if (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then continue 2; fi
    done
    FREE=$next_port
    return
  done
}

spawn() { # NAME COMMAND...: in the background, its words in NAME.log
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 </dev/null &
  running+=($!)
}
until_answers() { # NAME COMMAND...: bounded
  local name=$1 i
  shift
  for ((i = 0; i < 300; i++)); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  tail -n 20 "$work/$name.log" >&2
  give_up "$name does not answer"
}
answers() { curl -sf --max-time 2 "$1"; }

# start_nodes NAME COUNT K: sets URLS, and URL[0], URL[1], ...
start_nodes() {
  local name=$1 count=$2 k=$3 i view='' ports=()
  for ((i = 0; i < count; i++)); do
    free_port
    ports+=("$FREE")
    view+=${view:+,}127.0.0.1:$FREE
  done
  URL=() URLS=''
  for ((i = 0; i < count; i++)); do
    spawn "$name$i" env K="$k" VIEW="$view" ip_port="127.0.0.1:${ports[i]}" DATA_DIR="$work/$name$i" RUST_LOG=warn "$causeway"
    URL+=("http://127.0.0.1:${ports[i]}")
    URLS+=${URLS:+,}${URL[i]}
  done
  for ((i = 0; i < count; i++)); do until_answers "$name$i" answers "${URL[i]}/ready"; done
}

# ---- Figures --------------------------------------------------------------------------------------------------------------------

number() { # NAME JSON
  [[ $2 =~ \"$1\"[[:space:]]*:[[:space:]]*([-+.0-9eE]+) ]] || { echo "$(basename "$0"): no $1 in: $2" >&2; return 1; }
  echo "${BASH_REMATCH[1]}"
}
median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
