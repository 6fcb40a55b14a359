//! `quorate operator …`: genesis, the unseal ceremony, members, status.

mod confirm_time;
mod init;
mod members;
mod nodes;
mod share;
mod status;
mod unseal;

use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_client::v1::SealRequest;
use serde_json::json;

use super::Shared;
use super::failure::{CommandResult, Doing, Failure};
use super::output;

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
    Seal(Seal),
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
            Action::Status(c) => c.run(shared).await,
            Action::Members(c) => c.run(shared).await,
            Action::Share(c) => c.run(shared).await,
            Action::ConfirmTime(c) => c.run(shared).await,
        }
    }
}

/// Seal one node, or every node.
///
/// A sealed node forgets the keys and refuses to use any until custodians unseal it; it still votes and replicates.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator seal --cluster
  quorate operator seal --node 2")]
struct Seal {
    /// Every node; once this returns, no node uses a key
    #[arg(long, conflicts_with = "node", required_unless_present = "node")]
    cluster: bool,
    /// Only the node at this place among the addresses, from 1
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    node: Option<u16>,
}

impl Seal {
    async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let client = match self.node {
            Some(place) => nodes::at(&client, place)?,
            None => client,
        };
        let answer = client.seal(SealRequest { cluster: self.cluster }).await.doing("seal")?;
        shared.format().print(&json!({ "sealed_nodes": answer.sealed_nodes }), || {
            output::fields([("sealed", answer.sealed_nodes.join(", "))])
        })
    }
}

pub use nodes::{Asked, ask_all, at as node_at};
pub use share::Public;
pub use unseal::enter;

/// A node's answer that lacks what it must hold.
fn incomplete(what: &str) -> Failure {
    Failure::failed(
        "can't read the node's answer",
        format!("it holds no {what}"),
        "use the same version of quorate on both sides",
    )
}
