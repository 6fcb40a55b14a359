//! `quorate operator unseal`: one custodian enters one share.

use std::io::IsTerminal;

use clap::Args;
use quorate_client::v1::{Ceremony, ShareChallengeRequest, SubmitShareRequest, SubmitShareResponse};
use quorate_client::{Client, ClientError, reason};
use quorate_crypto::Share;
use serde_json::json;

use super::incomplete;
use super::memory::Memory;
use super::nodes::{self, Asked};
use super::share::Public;
use super::status::ceremony_to_json;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::{Shared, advice, files, output};

/// Enter one share of the unseal key.
///
/// The share is read from the terminal, without being shown, or from standard input; never from an argument. It is checked here before anything is sent: typing errors, another cluster, an old set,
/// a forged share, and that the server proves to be of the share's cluster. It goes to the address you gave and to no other, whatever a node says: with several, name one with --node, or answer the question. Node, address, and the fingerprints of the cluster and of its seal stand above the prompt.
/// Shares of one ceremony are entered at one node: if another ceremony is open elsewhere, you are told before you enter yours.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator unseal
  quorate operator unseal --node n2
  quorate operator unseal < share-1.txt
  pass show quorate-share | quorate operator unseal --output json")]
pub struct Unseal {
    /// This node: its name, or its place among the addresses, from 1 [default: the only one; of several you are asked]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Take a cluster that is older than you know it for the same, after a loss that all custodians know of
    #[arg(long)]
    older: bool,
}

impl Unseal {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let asked = nodes::ask_all(&client).await;
        let node = match &self.node {
            Some(node) => nodes::pick_named(&client, &asked, node)?,
            None => {
                if let Some(by) = all_open(&asked) {
                    return none_needed(shared, by, &[]);
                }
                if asked.iter().all(|a| a.status.is_err()) {
                    return Err(nodes::first_failure(asked, "enter the share"));
                }
                nodes::pick(&asked)?
            }
        };
        if let Some(open) = open(&asked, &node) {
            return none_needed(shared, open, &sealed(&asked));
        }
        let public = Public::of(&node).await?;
        nodes::check_name(self.node.as_deref(), &public.server)?;
        let memory = Memory::of(public.config.cluster)?;
        let index = memory.check(&node, &public.chain, self.older).await?;
        tell_of_others(&asked, &node, &public.server.node)?;
        let share = public.read_share("enter the share")?;

        let (x, label) = (share.x(), public.label(share.x()));
        let answer = enter(&node, &public, share).await?;
        memory.remember(&public.config, index);
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
                    format!("{}; {} more to go", advice::ceremony(c), c.threshold.saturating_sub(c.entered))
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

/// Says which ceremonies are open at other nodes, by their own word or that of the node that was chosen: shares that are entered at
/// two nodes open neither. Whether to go there is for the custodian to say; on a terminal that is asked.
fn tell_of_others(asked: &[Asked], chosen: &Client, name: &str) -> CommandResult {
    let here = chosen.addresses().next();
    let at_chosen = asked.iter().filter(|a| Some(a.address.as_str()) == here).filter_map(|a| a.status.as_ref().ok());
    let own = asked.iter().filter_map(Asked::own_ceremony);
    let mut open: Vec<&Ceremony> = own.chain(at_chosen.filter_map(|s| s.ceremony.as_ref())).collect();
    open.retain(|c| c.node != name && c.entered < c.threshold);
    open.sort_by_key(|c| &c.id);
    open.dedup_by_key(|c| &c.id);
    if open.is_empty() {
        return Ok(());
    }
    for ceremony in open {
        let words = format!(
            "A ceremony is open elsewhere: {}.\nA share that is entered at {name} does not count there. To go on there: --node {}",
            advice::ceremony(ceremony),
            ceremony.node
        );
        eprintln!("{}", words.replace(|c: char| c.is_control() && c != '\n', " "));
    }
    if std::io::stdin().is_terminal() {
        let answer = files::ask(&format!("Enter your share at {name} all the same? [y/N] "))?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::failed("can't enter the share", "you chose not to; nothing was sent", ""));
        }
    }
    Ok(())
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

/// The name of the chosen node, if it says that it is unsealed.
fn open<'a>(asked: &'a [Asked], chosen: &Client) -> Option<&'a str> {
    let here = chosen.addresses().next();
    let at_chosen = asked.iter().find(|a| Some(a.address.as_str()) == here)?.status.as_ref().ok()?;
    (at_chosen.state == "ok").then_some(at_chosen.answered_by.as_str())
}

/// The names of the nodes that say that they are sealed.
fn sealed(asked: &[Asked]) -> Vec<&str> {
    let told = asked.iter().filter_map(|a| a.status.as_ref().ok());
    told.filter(|s| s.state == "sealed").map(|s| s.answered_by.as_str()).collect()
}

/// Says so before anybody types a share: an unsealed node takes none.
fn none_needed(shared: &Shared, open: &str, sealed: &[&str]) -> CommandResult {
    let json = json!({ "unsealed": true, "node": open, "ceremony": null });
    let others = match sealed {
        [] => " and every other node that answers; no share is needed, none was sent".to_owned(),
        [first, ..] => {
            let are = if sealed.len() == 1 { "is" } else { "are" };
            format!("; no share is needed there, none was sent. {} {are} sealed: --node {first}", sealed.join(", "))
        }
    };
    shared.format().print(&json, || output::fields([("unsealed", format!("{open}{others}"))]))
}

/// Whether every node that answers is unsealed; then the name of one.
fn all_open(asked: &[Asked]) -> Option<&str> {
    let mut told = asked.iter().filter_map(|a| a.status.as_ref().ok());
    let first = told.next().filter(|s| s.state == "ok")?;
    told.all(|s| s.state == "ok").then_some(first.answered_by.as_str())
}
