//! `quorate operator ceremony abort`: the shares entered so far are to be forgotten.

use clap::{Args, Subcommand};
use quorate_client::v1::AbortCeremonyRequest;
use quorate_crypto::CeremonyId;
use serde_json::json;

use super::memory::Memory;
use super::nodes;
use super::share::Public;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::{Shared, output};

/// End a ceremony before its time.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator ceremony abort
  quorate operator ceremony abort --sign --node n2")]
pub struct CeremonyCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Let the node of a ceremony forget the shares that were entered there
    ///
    /// Whoever entered the first share may do so alone. Anybody else signs with a share (--sign): it is read as
    /// `operator unseal` reads one, and stays here; only a signature over this one ceremony is sent. As many custodians as
    /// the ceremony needs shares end it. Without all this it ends after 15 minutes, or when an administrator seals the node.
    #[command(after_help = "Examples:
  quorate operator ceremony abort
  quorate operator ceremony abort --node n2
  quorate operator ceremony abort --sign < share-1.txt")]
    Abort {
        /// This node: its name, or its place among the addresses, from 1 [default: the only one at which a ceremony is open]
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        /// Sign with a share, as a custodian who did not begin it
        #[arg(long)]
        sign: bool,
    },
}

impl CeremonyCommand {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        const DOING: &str = "abort the ceremony";
        let Action::Abort { node, sign } = self.action;
        let client = shared.client().await?;
        let mut asked = nodes::ask_all(&client).await;
        if let Some(node) = &node {
            let there = nodes::pick_named(&client, &asked, node)?;
            asked.retain(|a| there.addresses().any(|address| address == a.address));
        }
        if asked.iter().all(|a| a.status.is_err()) {
            return Err(nodes::first_failure(asked, DOING));
        }
        // A node's word about itself alone: what it tells of others may be anything.
        asked.retain(|a| a.own_ceremony().is_some());
        let [there] = asked.as_slice() else {
            let (why, todo) = match asked.is_empty() {
                true => ("no ceremony is open at any node whose address you gave", "see `quorate operator status`"),
                false => ("ceremonies are open at several nodes", "name one: --node NAME"),
            };
            return Err(Failure::failed(format!("can't {DOING}"), why, todo));
        };
        let id = there.own_ceremony().map(|c| c.id.clone()).unwrap_or_default();
        let mut request = AbortCeremonyRequest { ceremony_id: id.clone(), ..Default::default() };
        let mut client = there.client.clone();
        if sign {
            let public = Public::of(&client).await?;
            nodes::check_name(node.as_deref(), &public.server)?;
            Memory::of(public.config.cluster)?.check(&client, &public.chain, true).await?;
            let share = public.read_share("sign")?;
            let bytes = u128::from_str_radix(&id, 16).map_err(|_| super::incomplete("ceremony"))?.to_be_bytes();
            let signature = share.sign_abort(public.config.cluster, &public.server.node, CeremonyId(bytes));
            client = client.pinned(&public.server).doing("connect")?;
            request.share_number = share.x().into();
            request.signature = signature.to_vec().into();
        }
        let answer = client.abort_ceremony(request).await.doing(DOING)?;
        let json = json!({
            "aborted": answer.aborted,
            "node": answer.node_name,
            "ceremony": id,
            "signatures": answer.signatures,
            "threshold": answer.threshold,
        });
        shared.format().print(&json, || {
            let outcome = match answer.aborted {
                true => format!("aborted: {} has forgotten the shares", answer.node_name),
                false => {
                    format!("{} of {} custodians have signed that it is to end", answer.signatures, answer.threshold)
                }
            };
            output::fields([("ceremony", outcome)])
        })
    }
}
