#!/usr/bin/env bash
# One of three nodes on this machine, in the foreground: ports 8080, 8081 and 8082 of 127.0.0.1. In three terminals:
#   test_scripts/local_node.sh 1
#   test_scripts/local_node.sh 2
#   test_scripts/local_node.sh 3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'USAGE'
usage: local_node.sh 1|2|3

Environment variables:
  BASE_PORT  port of node 1; the others have the next two. Nodes meet each other on ports 10000 above  (8080)
  CAUSEWAY   the binary  (causeway in target/release, else in target/debug, else in PATH)
  DATA       where data is kept, a directory for each node  (data/local)
USAGE
}
give_up() { echo "local_node.sh: $*" >&2; exit 2; }

case ${1:-} in
  1 | 2 | 3) node=$1 ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac
base=${BASE_PORT:-8080} data=${DATA:-data/local} target=${CARGO_TARGET_DIR:-target}
[[ $base =~ ^[0-9]+$ ]] && ((base >= 1 && base <= 55533)) || give_up "BASE_PORT=$base is no port from 1 to 55533"

binary=${CAUSEWAY:-}
for found in "$target/release/causeway" "$target/debug/causeway" "$(command -v causeway || true)"; do
  [[ -n $binary || ! -x $found ]] || binary=$found
done
[[ -x $binary ]] || give_up "there is no binary${binary:+ at $binary}: cargo build --release, or name one with CAUSEWAY"

address() { echo "127.0.0.1:$((base + $1 - 1))"; }
export ip_port VIEW K=3 DATA_DIR=$data/node$node
ip_port=$(address "$node")
VIEW=$(address 1),$(address 2),$(address 3)
for port in "${ip_port#*:}" $((${ip_port#*:} + 10000)); do
  ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || give_up "port $port is taken: stop what listens there, or set BASE_PORT"
done
exec "$binary"
