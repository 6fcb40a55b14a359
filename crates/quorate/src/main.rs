//! The quorate binary: `quorate server` is a node, everything else is its command line.

mod allocator;
mod command;
mod config;
mod evidence;
mod hygiene;
mod logging;
mod pki;
mod prompt;
#[cfg(feature = "seeded-bugs")]
mod seeded;
mod tls;
mod wiring;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocator::ZeroOnFree = allocator::ZeroOnFree;

fn main() -> ExitCode {
    if let Err(e) = hygiene::harden() {
        eprintln!("error: can't keep this process's memory from being dumped\n  why: {e}");
        return ExitCode::FAILURE;
    }
    // One provider for all of TLS; libraries that look for a default find this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    command::main()
}
