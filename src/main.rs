//! The `causeway` binary: see [`causeway::cli`].

/// A request's memory is taken on one thread and given back on another, many times over, which is
/// what the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    causeway::cli::main()
}
