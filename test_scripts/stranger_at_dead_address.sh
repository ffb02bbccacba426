#!/usr/bin/env bash
# A node dies, and a node of another cluster, which has seen many more views, gets its address. The others of the cluster take nothing from it: they
# serve on, restarts included, and the dead node comes back as what it was.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

note "image $IMAGE: 3 nodes, K=3, and another cluster"
make_networks
plan_nodes 3 3 2
ADDRESS[5]=${ADDRESS[3]} # the stranger's, later
for i in 1 2 3; do create_node "$i"; start_node "$i"; done
create_node 4 -e K=1 -e VIEW="${ADDRESS[4]}:8080"; start_node 4
check "both clusters are ready" wait_ready 1 2 3 4
CTX=
check "a session writes" writes 1 some-key first

kill_node 3
# Whoever reaches an empty node first has it: here the others of the cluster would take it for the dead node, back without its disk.
for i in 1 2; do pause_node "$i"; done
start_spare 5
add 5 4
for i in 1 2; do unpause_node "$i"; done
check "the other cluster adds a node at the dead one's address" status_is 200
for k in 2 1 2; do request PUT 4 /view -d k="$k" --max-time 30; done
check "and changes its view three times more" status_is 200

serves() { writes "$1" some-key "$2" && reads "$((3 - $1))" some-key "$2"; }
for i in 1 2; do check "node $i serves on for 4 s" all_along 4 serves "$i" "through-$i"; done
for i in 1 2; do kill_node "$i"; done
for i in 1 2; do start_node "$i"; done
check "both killed and started again beside the stranger: ready" wait_ready 1 2
for i in 1 2; do check "node $i serves on for 4 s" all_along 4 serves "$i" "again-$i"; done
CTX=
check "the other cluster knows nothing of their key" finds_nothing 4 some-key

kill_node 5
start_node 3
check "the stranger gone, the dead node is back" wait_ready 3
CTX=
check "with what was written meanwhile" within "$LEVEL_S" reads 3 some-key again-2
finish
