# Two stages: the first has the toolchain, the second only what runs.
# Plain Dockerfile syntax throughout, so that engines without BuildKit build it too.

FROM rust:1-slim-bookworm AS build
WORKDIR /build

# Dependencies first, with empty sources: this layer lasts until Cargo.toml or Cargo.lock change.
# Cargo wants a file for each bench, example and test that Cargo.toml names, so those get a stand-in too.
COPY Cargo.toml Cargo.lock ./
RUN set -eu; \
    mkdir -p src benches examples tests; \
    echo 'fn main() {}' >src/main.rs; \
    : >src/lib.rs; \
    awk -F'"' '/^\[/ { dir = "" } \
               /^\[\[bench\]\]/ { dir = "benches" } \
               /^\[\[example\]\]/ { dir = "examples" } \
               /^\[\[test\]\]/ { dir = "tests" } \
               dir != "" && /^name *=/ { print dir "/" $2 ".rs" } \
               dir != "" && /^path *=/ { print $2 }' Cargo.toml | \
    while read -r file; do mkdir -p "$(dirname "$file")"; echo 'fn main() {}' >"$file"; done; \
    cargo build --release --locked --bin causeway

# Then the project. COPY keeps the files' dates, which may be older than the stand-ins' build:
# without the touch cargo would take the stand-ins for up to date.
COPY . .
RUN set -eu; \
    find src -name '*.rs' -exec touch {} +; \
    cargo build --release --locked --bin causeway; \
    strip -o /causeway target/release/causeway

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="causeway" \
      org.opencontainers.image.description="A partitioned, replicated, causally consistent key-value store" \
      org.opencontainers.image.licenses="MIT"

# A fixed uid, so that the files of a volume belong to the same user in every image. /data is made before
# VOLUME: a new volume, named or anonymous, takes over its owner and so can be written without root.
RUN groupadd --gid 10001 causeway \
 && useradd --uid 10001 --gid causeway --home-dir /data --no-create-home --shell /usr/sbin/nologin causeway \
 && install -d -o causeway -g causeway -m 0750 /data
COPY --from=build /causeway /usr/local/bin/causeway

# The last one is for commands: `docker exec NAME causeway status` asks the node in the same container.
ENV DATA_DIR=/data BIND=0.0.0.0:8080 CAUSEWAY_NODE=127.0.0.1:8080
USER causeway
WORKDIR /data
VOLUME /data

# 8080: clients. 18080: the other nodes, on the port of ip_port + 10000.
EXPOSE 8080 18080

HEALTHCHECK --interval=5s --timeout=3s --start-period=15s --retries=3 CMD ["causeway", "health"]

# Exec form: the node is process 1 and gets SIGTERM itself.
STOPSIGNAL SIGTERM
ENTRYPOINT ["causeway"]
