# Short names for the commands of CONTRIBUTING.md: https://just.systems. Nothing needs them.

[private]
default:
    @just --list

# All that must hold before a change lands: format, lints, tests, image, scenarios
ci:
    .ci/run

# The binary, target/release/causeway
build:
    cargo build --release

# A cluster on this machine
local *ARGS:
    cargo run --release -- local {{ ARGS }}

# Every suite, or what is named
test *ARGS:
    cargo test {{ ARGS }}

# Format and lints
lint:
    cargo fmt --all --check
    cargo clippy --locked --all-targets -- -D warnings

# One seed of the simulator, with its last events
seed SEED TRACE="400":
    cargo run --example simulate -- --seed {{ SEED }} --trace {{ TRACE }}

# One seed of the Raft group's simulator
raft-seed SEED TRACE="info":
    SIM_SEED={{ SEED }} SIM_TRACE={{ TRACE }} cargo test --test raft_sim promise -- --nocapture

# So many seeds of the simulator, from one on
seeds COUNT FROM="0":
    cargo run --example simulate -- --seeds {{ COUNT }} --from {{ FROM }}

# Break a rule and see what notices: `just tooth ServeEmpty`, `just tooth ForgetVote raft_sim`
tooth RULE SUITE="sim":
    TEETH={{ RULE }} cargo test --test {{ SUITE }} every_broken_rule -- --nocapture

# Write spec/openapi.json anew
openapi:
    UPDATE_SPEC=1 cargo test openapi

# Licences, sources and known vulnerabilities of dependencies (needs cargo-deny)
deny:
    cargo deny check
