//! `quorate bench …`: how fast the cluster is, and how fast it is back, through the same client and doors as everybody
//! else's requests.

mod failover;
mod kinds;
mod limits;
mod load;
mod probe;
mod quantiles;
mod suite;
mod timeline;

use clap::{Args, Subcommand};

use quorate_client::v1::Tag;

use super::Shared;
use super::dev::{Dev, Running};
use super::failure::{CommandResult, Failure};
use load::{Load, What};

/// Measure the cluster.
///
/// A load is clients that send one request after the other for the given time. What is measured is what a caller sees: the whole
/// request, retries included. It makes a key of its own, which is destroyed a week later. `failover` and `suite` start a cluster of their
/// own on this machine.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate bench echo --clients 64 --size 1024 --seconds 10 --output json
  quorate bench encrypt --clients 64 --size 1024 --seconds 10
  quorate bench encrypt --clients 1 --node 2
  quorate bench create-key --clients 64 --seconds 5
  quorate bench suite
  quorate bench kinds
  quorate bench failover --kills 100")]
pub struct Bench {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Authenticated, does nothing: the yardstick
    #[command(after_help = "Examples:\n  quorate bench echo --clients 64 --size 1024 --seconds 10 --output json")]
    Echo(Load),
    /// Encrypt
    #[command(after_help = "Examples:\n  quorate bench encrypt --clients 1 --node 2")]
    Encrypt(Load),
    /// Decrypt
    #[command(after_help = "Examples:\n  quorate bench decrypt --clients 64 --size 1024")]
    Decrypt(Load),
    /// Make data keys
    #[command(after_help = "Examples:\n  quorate bench data-key --clients 64")]
    DataKey(Load),
    /// Create keys
    #[command(after_help = "Examples:\n  quorate bench create-key --clients 64 --seconds 5")]
    CreateKey(Load),
    Suite(suite::Suite),
    Kinds(kinds::Kinds),
    Failover(failover::Failover),
}

impl Bench {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        match self.action {
            Action::Echo(load) => load.run(What::Echo, shared).await,
            Action::Encrypt(load) => load.run(What::Encrypt, shared).await,
            Action::Decrypt(load) => load.run(What::Decrypt, shared).await,
            Action::DataKey(load) => load.run(What::DataKey, shared).await,
            Action::CreateKey(load) => load.run(What::CreateKey, shared).await,
            Action::Kinds(kinds) => kinds.run(shared).await,
            Action::Suite(suite) => suite.run(shared).await,
            Action::Failover(failover) => failover.run(shared).await,
        }
    }
}

/// Runs `work` on a cluster of its own, which ends with it, also when it is interrupted.
async fn on_own_cluster<T>(
    dir: Option<std::path::PathBuf>,
    work: impl AsyncFnOnce(&mut Running) -> CommandResult<T>,
) -> CommandResult<T> {
    let work = async {
        let mut running = Dev::of_own(dir).launch().await?;
        let done = work(&mut running).await;
        running.cluster.stop().await;
        done
    };
    tokio::select! {
        done = work => done,
        // What was started is killed as it is dropped.
        _ = tokio::signal::ctrl_c() => Err(Failure::failed("the bench was interrupted", "a signal", "")),
    }
}

/// What the bench's keys are known by. A description would be a record more, and creates are measured.
fn marked() -> Vec<Tag> {
    vec![Tag { name: "made-by".into(), value: "quorate bench".into() }]
}

/// Progress, on standard error.
fn say(text: &str) {
    eprintln!("quorate bench: {text}");
}
