//! The `causeway` binary: see [`causeway::cli`].

/// Requests are born on one thread and die on another, many times over: the system's allocator
/// spends a tenth of the node's time on that, this one about half of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    causeway::cli::main()
}
