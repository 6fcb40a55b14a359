//! `quorate operator seal`: keys are forgotten, and shares that were entered.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::SealRequest;
use quorate_client::{Client, ClientError, reason};
use serde_json::json;

use super::nodes;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::{Shared, completions, output};

/// Seal one node, or every node.
///
/// A sealed node forgets the keys and refuses to use any until custodians unseal it; it still votes and replicates. Shares
/// entered before are forgotten as well, also on a node that is sealed already: that ends its ceremony.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator seal --cluster
  quorate operator seal --node n2")]
pub struct Seal {
    /// Every node; once this returns, no node uses a key
    #[arg(long, conflicts_with = "node")]
    cluster: bool,
    /// Only this node: its name, or its place among the addresses, from 1
    #[arg(long, value_name = "NODE", add = ArgValueCompleter::new(completions::members))]
    node: Option<String>,
}

impl Seal {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        if !self.cluster && self.node.is_none() {
            return Err(Failure::usage("say which: --node NAME for one node, or --cluster for every node"));
        }
        let client = shared.client().await?;
        let sealed = match &self.node {
            Some(node) => one(&nodes::named(&client, node).await?).await.doing("seal")?,
            None => match client.seal(SealRequest { cluster: true }).await {
                Ok(answer) => answer.sealed_nodes,
                // No node can write the seal of a cluster that is sealed already; what is left is entered shares.
                Err(e) if e.is(reason::SEALED) => each(&client).await?,
                Err(e) => return Err(Failure::call("seal", e)),
            },
        };
        shared.format().print(&json!({ "sealed_nodes": sealed }), || output::fields([("sealed", sealed.join(", "))]))
    }
}

async fn one(node: &Client) -> Result<Vec<String>, ClientError> {
    Ok(node.seal(SealRequest { cluster: false }).await?.sealed_nodes)
}

/// Seals every node whose address was given, each by itself. Fails unless that is every member.
async fn each(client: &Client) -> CommandResult<Vec<String>> {
    let asked = nodes::ask_all(client).await;
    let mut sealed = Vec::new();
    for node in asked.iter().filter(|a| a.status.is_ok()) {
        sealed.extend(one(&node.client).await.doing("seal")?);
    }
    let members = nodes::best(&nodes::answers(&asked)).into_iter().flat_map(|s| &s.nodes);
    let missed: Vec<&str> = members.map(|n| n.name.as_str()).filter(|n| !sealed.iter().any(|s| s == n)).collect();
    if missed.is_empty() {
        return Ok(sealed);
    }
    Err(Failure::failed(
        "can't seal every node",
        format!("{} sealed, forgetting entered shares; not reached: {}", sealed.join(", "), missed.join(", ")),
        "name every node in QUORATE_ADDR, and try again",
    ))
}
