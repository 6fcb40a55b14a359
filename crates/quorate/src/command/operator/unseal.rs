//! `quorate operator unseal`: one custodian enters one share.

use clap::Args;
use quorate_client::v1::{ShareChallengeRequest, SubmitShareRequest, SubmitShareResponse};
use quorate_client::{Client, ClientError, reason};
use quorate_crypto::Share;
use serde_json::json;

use super::incomplete;
use super::nodes::{self, Asked};
use super::share::Public;
use super::status::{ceremony_in_words, ceremony_to_json};
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::{Shared, output};

/// Enter one share of the unseal key.
///
/// The share is read from the terminal, without being shown, or from standard input; never from an argument. It is checked here before anything is sent: typing errors, another cluster, an old set,
/// a forged share, and that the server proves to be of the share's cluster. With several addresses it goes to the node where a ceremony is open.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator unseal
  quorate operator unseal < share-1.txt
  pass show quorate-share | quorate operator unseal --output json")]
pub struct Unseal {
    /// The node at this place among the addresses, from 1 [default: where a ceremony is open]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    node: Option<u16>,
}

/// What there is to do.
enum Target {
    /// The share goes there.
    Node(Client),
    /// Every node that answers is unsealed.
    Nothing(String),
}

impl Unseal {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let target = match self.node {
            Some(place) => Target::Node(nodes::at(&client, place)?),
            None => choose(nodes::ask_all(&client).await, shared).await?,
        };
        let node = match target {
            Target::Node(node) => node,
            Target::Nothing(by) => {
                let json = json!({ "unsealed": true, "node": by, "ceremony": null });
                return shared.format().print(&json, || {
                    output::fields([(
                        "unsealed",
                        format!("{by} and every other node that answers; no share is needed, none was sent"),
                    )])
                });
            }
        };
        let public = Public::of(&node).await?;
        let share = public.read_share("enter the share")?;

        let (x, label) = (share.x(), public.label(share.x()));
        let answer = enter(&node, &public, share).await?;
        let json = json!({
            "unsealed": answer.unsealed,
            "node": answer.node_name,
            "share_number": x,
            "ceremony": answer.ceremony.as_ref().map(ceremony_to_json),
        });
        shared.format().print(&json, || {
            let progress = match (answer.unsealed, &answer.ceremony) {
                (true, _) => format!("{} is unsealed; the other members get the root key from it", answer.node_name),
                (false, Some(c)) => {
                    format!("{}; {} more to go", ceremony_in_words(c), c.threshold.saturating_sub(c.entered))
                }
                (false, None) => format!(
                    "complete; {} checks its state before it serves, see `quorate operator status`",
                    answer.node_name
                ),
            };
            output::fields([("share", format!("{x} {label}, accepted")), ("ceremony", progress)])
        })
    }
}

/// Sends a checked share to `node`, with the proof that it is at hand.
pub async fn enter(node: &Client, public: &Public, share: Share) -> CommandResult<SubmitShareResponse> {
    // From here on only a node of the share's own cluster will do, whoever answers at the address by now.
    let node = node.pinned(&public.server).doing("connect")?;
    let challenge = node.share_challenge(ShareChallengeRequest {}).await.doing("get a challenge")?;
    let nonce: [u8; 32] = challenge.nonce.as_ref().try_into().map_err(|_| incomplete("nonce of 32 bytes"))?;
    let proof = share.prove(public.config.cluster, &challenge.node_name, &nonce);
    let request =
        SubmitShareRequest { share: share.to_text().to_string(), nonce: challenge.nonce, proof: proof.to_vec().into() };
    drop(share);
    node.submit_share(request).await.map_err(submit_failed)
}

fn submit_failed(error: ClientError) -> Failure {
    if error.is(reason::UNKNOWN_OUTCOME) {
        let todo = "look with `quorate operator status` whether the share counts; entering it again does no harm";
        return Failure::failed("can't tell whether the share was accepted", error.message, todo);
    }
    Failure::call("enter the share", error)
}

/// Where a ceremony is open; else the first sealed node; else nothing is left to do.
async fn choose(asked: Vec<Asked>, shared: &Shared) -> CommandResult<Target> {
    // A ceremony that several nodes tell of is the same one; of several, shares go to the one that is furthest.
    let statuses = || asked.iter().filter_map(|a| a.status.as_ref().ok());
    let open = statuses().filter_map(|s| s.ceremony.as_ref()).max_by_key(|c| c.entered);
    if let Some(ceremony) = open {
        let is_there = |a: &&Asked| a.status.as_ref().is_ok_and(|s| s.answered_by == ceremony.node);
        if let Some(there) = asked.iter().find(is_there) {
            return Ok(Target::Node(there.client.clone()));
        }
        // Open at a node whose address was not given: the members know it.
        let member = statuses().flat_map(|s| &s.nodes).find(|n| n.name == ceremony.node && !n.api.is_empty());
        if let Some(member) = member {
            let client = shared.client_of(&member.api).await?;
            let answers = nodes::ask_all(&client).await.iter().any(|a| a.status.is_ok());
            if answers {
                return Ok(Target::Node(client));
            }
        }
    }
    if let Some(sealed) = asked.iter().find(|a| a.state() == Some("sealed")) {
        return Ok(Target::Node(sealed.client.clone()));
    }
    if let Some(open) = statuses().find(|s| s.state == "ok") {
        return Ok(Target::Nothing(open.answered_by.clone()));
    }
    // Uninitialized or damaged: the node itself says so best.
    match asked.iter().find(|a| a.status.is_ok()) {
        Some(other) => Ok(Target::Node(other.client.clone())),
        None => Err(nodes::first_failure(asked, "enter the share")),
    }
}
