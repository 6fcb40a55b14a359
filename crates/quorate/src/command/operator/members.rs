//! `quorate operator members …`: who is in the cluster, and how others come in.

use clap::{Args, Subcommand};
use quorate_client::v1::{ApproveRequest, InviteRequest, ListMembersRequest, PromoteRequest, TransferLeaderRequest};
use serde_json::json;

use super::status::{node_table, node_to_json};
use crate::command::failure::{CommandResult, Doing};
use crate::command::{Shared, output};

/// Invite, approve, promote and list members; choose who leads.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator members invite --name n2 > token
  quorate operator members approve n2 --fingerprint 3f0a…
  quorate operator members promote n2 n3
  quorate operator members transfer-leader n2
  quorate operator members list")]
pub struct Members {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Print a one-use token with which a new node may ask to join
    ///
    /// Put it into the file that the new node's configuration names (join.token_file), and start the node.
    #[command(after_help = "Examples:
  quorate operator members invite --name n2 > token
  quorate operator members invite --name n2 --valid-minutes 10 --output json")]
    Invite {
        /// The new node's name, as in its certificate
        #[arg(long, value_name = "NAME")]
        name: String,
        /// How long the token is good for
        #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_080))]
        valid_minutes: u32,
    },
    /// Let a node in whose fingerprint you have compared with what the node printed
    #[command(after_help = "Examples:
  quorate operator members approve n2 --fingerprint 3f0a…")]
    Approve {
        /// The node's name
        #[arg(value_name = "NAME")]
        name: String,
        /// The fingerprint the node printed at its start, not what `members list` shows
        #[arg(long, value_name = "F")]
        fingerprint: String,
    },
    /// Make learners voters, all in one step
    ///
    /// Two voters are fewer than one: either can stop the cluster. So go from one to three at once.
    #[command(after_help = "Examples:
  quorate operator members promote n2 n3")]
    Promote {
        /// The nodes' names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Even if that makes an even number of voters, or one lags
        #[arg(long)]
        force: bool,
    },
    /// Hand leadership to another voter, before work on the machine that leads
    ///
    /// No request is lost: those under way go on at the new leader. A member that is no voter, is not reachable or
    /// lacks much of the log is refused, and nothing is changed. SIGTERM to a node does this by itself.
    #[command(after_help = "Examples:
  quorate operator members transfer-leader
  quorate operator members transfer-leader n2
  quorate operator members transfer-leader n2 --output json")]
    TransferLeader {
        /// Who is to lead; without it the best voter: reachable, level with the log, unsealed if one is
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// List members, and nodes that are invited or wait for approval
    #[command(after_help = "Examples:
  quorate operator members list
  quorate operator members list --output json")]
    List {},
}

impl Members {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let patient = client.with_deadline(client.deadline().max(super::PATIENCE));
        match self.action {
            Action::Invite { name, valid_minutes } => {
                let answer = client
                    .invite(InviteRequest { name: name.clone(), valid_minutes })
                    .await
                    .doing("invite the node")?;
                if shared.json_asked() {
                    let json = json!({ "name": name, "token": answer.token, "expires_ms": answer.expires_ms });
                    return output::line(&json.to_string());
                }
                eprintln!("Good for one use by {name} until {}.", output::date(answer.expires_ms));
                output::line(&answer.token)
            }
            Action::Approve { name, fingerprint } => {
                let request = ApproveRequest { name: name.clone(), fingerprint };
                let answer = patient.approve(request).await.doing("approve the node")?;
                let json = json!({ "name": name, "id": answer.id, "unsealed": answer.unsealed });
                shared.format().print(&json, || {
                    let state = if answer.unsealed {
                        "unsealed"
                    } else {
                        "still sealed; it gets the root key when it connects"
                    };
                    output::fields([
                        ("approved", name.clone()),
                        ("id", answer.id.to_string()),
                        ("state", state.to_owned()),
                    ])
                })
            }
            Action::Promote { names, force } => {
                let request = PromoteRequest { names: names.clone(), force };
                let answer = patient.promote(request).await.doing("promote the nodes")?;
                shared.format().print(&json!({ "promoted": names, "voters": answer.voters }), || {
                    let voters: Vec<String> = answer.voters.iter().map(u64::to_string).collect();
                    output::fields([("promoted", names.join(", ")), ("voters", voters.join(", "))])
                })
            }
            Action::TransferLeader { name } => {
                let request = TransferLeaderRequest { name: name.unwrap_or_default() };
                let answer = client.transfer_leader(request).await.doing("hand on leadership")?;
                shared.format().print(&json!({ "leader": answer.leader, "name": answer.name }), || {
                    output::fields([("leader", format!("{} (id {})", answer.name, answer.leader))])
                })
            }
            Action::List {} => {
                let answer = client.list_members(ListMembersRequest {}).await.doing("list members")?;
                let pending = |p: &quorate_client::v1::PendingMember| json!({ "name": p.name, "fingerprint": p.fingerprint, "state": p.state, "expires_ms": p.expires_ms });
                let json = json!({
                    "members": answer.members.iter().map(node_to_json).collect::<Vec<_>>(),
                    "pending": answer.pending.iter().map(pending).collect::<Vec<_>>(),
                });
                shared.format().print(&json, || {
                    let mut rows = vec![("members", node_table(&answer.members).trim_fmt())];
                    if !answer.pending.is_empty() {
                        let pending = answer.pending.iter().map(|p| {
                            [p.name.clone(), p.state.clone(), output::date(p.expires_ms), p.fingerprint.clone()]
                        });
                        let table = output::columns(["NAME", "STATE", "UNTIL", "FINGERPRINT"], pending);
                        rows.push(("pending", table.trim_fmt()));
                    }
                    output::fields(rows)
                })
            }
        }
    }
}
