//! `quorate operator …`: genesis, the unseal ceremony, members, status.

mod ceremony;
mod confirm_time;
mod init;
mod members;
mod memory;
mod nodes;
mod screen;
mod seal;
mod share;
mod status;
mod unseal;

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Shared;
use super::failure::{CommandResult, Failure};

/// Time for what takes a node longer than a request: genesis, enrolling a node, a change of membership.
const PATIENCE: Duration = Duration::from_secs(60);

/// Found, unseal, seal and watch a cluster; its members.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator status
  quorate operator unseal
  quorate operator members list")]
pub struct Operator {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    Init(init::Init),
    Unseal(unseal::Unseal),
    Seal(seal::Seal),
    Ceremony(ceremony::CeremonyCommand),
    Status(status::Status),
    Members(members::Members),
    Share(share::ShareCommand),
    ConfirmTime(confirm_time::ConfirmTime),
}

impl Operator {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        match self.action {
            Action::Init(c) => c.run(shared).await,
            Action::Unseal(c) => c.run(shared).await,
            Action::Seal(c) => c.run(shared).await,
            Action::Ceremony(c) => c.run(shared).await,
            Action::Status(c) => c.run(shared).await,
            Action::Members(c) => c.run(shared).await,
            Action::Share(c) => c.run(shared).await,
            Action::ConfirmTime(c) => c.run(shared).await,
        }
    }
}

pub use nodes::{Asked, ask_all, at as node_at};
pub use share::{Public, is_share};
pub use unseal::enter;

/// A node's answer that lacks what it must hold.
fn incomplete(what: &str) -> Failure {
    Failure::failed(
        "can't read the node's answer",
        format!("it holds no {what}"),
        "use the same version of quorate on both sides",
    )
}
