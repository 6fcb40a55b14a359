//! `quorate server`: one node.

use std::path::PathBuf;

use clap::Args;

use super::failure::{CommandResult, Failure};
use crate::config::Config;
use crate::wiring;

/// Run one node of a cluster
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate server --config /etc/quorate/n1.toml

The node comes up uninitialized or sealed and says on standard error what to do next. SIGTERM stops it in order.
QUORATE_LOG sets what it logs (error, warn, info, debug, or module=level); QUORATE_LOG_FORMAT=json makes one JSON object a line.")]
pub struct Server {
    /// The node's configuration (TOML); `quorate manual config` explains every setting
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Allow a cluster made by `quorate dev`, whose shares and PINs lie on disk beside it
    #[arg(long)]
    dev: bool,
    /// End when this process, the parent, ends
    #[arg(long, value_name = "PID", hide = true)]
    die_with_parent: Option<u32>,
}

impl Server {
    /// Runs until a signal. Takes the process from its first moment: the HSM's environment must be set before threads exist.
    pub fn run(self) -> CommandResult {
        if let Some(parent) = self.die_with_parent {
            crate::hygiene::die_with(parent)
                .map_err(|e| Failure::failed("can't start the node", e, "start it with `quorate dev` again"))?;
        }
        let config = Config::load(&self.config).map_err(|e| {
            Failure::failed("can't start the node", e, "`quorate manual config` explains every setting")
        })?;
        quorate_hsm::set_environment(&config.hsm.environment)
            .map_err(|e| Failure::failed("can't start the node", e, "correct [hsm.environment]"))?;
        start_logging();
        #[cfg(feature = "seeded-bugs")]
        crate::seeded::take_up().map_err(|e| Failure::failed("can't start the node", e, ""))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("api")
            .build()
            .map_err(|e| Failure::failed("can't start the node", e, ""))?;
        let result = runtime.block_on(wiring::serve(config, self.dev));
        // The node has stopped; a task that hangs must not keep the process.
        runtime.shutdown_background();
        result
    }
}

/// Names the environment variable that says how log lines are written …
pub const LOG_FORMAT_ENV: &str = "QUORATE_LOG_FORMAT";
/// … and its value for one JSON object a line.
pub const LOG_FORMAT_JSON: &str = "json";

/// Structured logs on standard error. No event anywhere carries a secret, a key name or a share.
fn start_logging() {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(crate::logging::filter())
        .with_writer(std::io::stderr)
        .with_ansi(false);
    match std::env::var(LOG_FORMAT_ENV).as_deref() {
        Ok(LOG_FORMAT_JSON) => builder.json().init(),
        _ => builder.init(),
    }
}
