//! `quorate operator members …`: who is in the cluster, and how others come in.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{
    ApproveRequest, InviteRequest, ListKeysRequest, ListMembersRequest, NodeStatus, PendingMember, PromoteRequest,
    RemoveMemberRequest, TransferLeaderRequest, UninviteRequest,
};
use quorate_client::{Client, ClientError};
use quorate_service::seal::{VALID_MINUTES_DEFAULT, VALID_MINUTES_MAX};
use serde_json::json;

use super::nodes::{Asked, ask_all, member_name, names_of};
use super::screen;
use super::status::node_to_json;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::terminal::Surface;
use crate::command::{Shared, completions, output};

/// Invite, approve, promote, remove and list members; choose who leads.
///
/// A member is named by its name, or by its id.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator members invite --name n2 > token
  quorate operator members uninvite n2
  quorate operator members approve n2 --fingerprint 3f0a…
  quorate operator members promote n2 n3
  quorate operator members transfer-leader n2
  quorate operator members remove n3
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
        #[arg(long, value_name = "N", default_value_t = VALID_MINUTES_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=VALID_MINUTES_MAX as i64))]
        valid_minutes: u32,
    },
    /// Take an open invitation back
    ///
    /// Its token is worth nothing from then on, and who came with it and waits for approval is not let in. A member stays one:
    /// that is what `members remove` is for.
    #[command(after_help = "Examples:
  quorate operator members uninvite n2
  quorate operator members uninvite n2 --output json")]
    Uninvite {
        /// The invited name
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions::members))]
        name: String,
    },
    /// Let a node in whose fingerprint you have compared with what the node printed
    #[command(after_help = "Examples:
  quorate operator members approve n2 --fingerprint 3f0a…")]
    Approve {
        /// The node's name
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions::members))]
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
        /// The nodes' names, or ids
        #[arg(value_name = "NAME", required = true, add = ArgValueCompleter::new(completions::members))]
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
        /// Who is to lead, by name or id; without it the best voter: reachable, level with the log, unsealed if one is
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions::members))]
        name: Option<String>,
    },
    /// Remove a member for good, and rotate the root key
    ///
    /// Its connections are cut, its envelope is gone, and what is written from now on it could not read even with a
    /// copy of the log; no custodian is needed. Refused when the rest would have no majority within reach. A leader
    /// hands on its leadership first. The node may join again by a new invitation, with an empty data directory.
    #[command(after_help = "Examples:
  quorate operator members remove n3
  quorate operator members remove n3 --compromised --output json")]
    Remove {
        /// The node's name, or id
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions::members))]
        name: String,
        /// Somebody may have had its memory: list the keys it could use, for you to rotate
        #[arg(long)]
        compromised: bool,
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
                if shared.asked_for_programs().is_some() {
                    let json =
                        json!({ "name": name, "token": answer.token, "expires_at": output::moment(answer.expires_ms) });
                    return output::line(&json.to_string());
                }
                eprintln!("Good for one use by {name} until {}.", output::date(answer.expires_ms));
                output::line(&answer.token)
            }
            Action::Uninvite { name } => {
                let request = UninviteRequest { name: name.clone() };
                let answer = client.uninvite(request).await.map_err(|e| about("take the invitation back", e))?;
                shared.format().print(&json!({ "uninvited": name, "waited": answer.waited }), || {
                    let waited = if answer.waited { ", with the node that waited for approval" } else { "" };
                    output::fields([("uninvited", format!("{name}{waited}"))])
                })
            }
            Action::Approve { name, fingerprint } => {
                let request = ApproveRequest { name: name.clone(), fingerprint };
                let answer = patient.approve(request).await.map_err(|e| about("approve the node", e))?;
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
                let mut meant = Vec::with_capacity(names.len());
                for name in &names {
                    meant.push(member_name(&client, name).await?);
                }
                let request = PromoteRequest { names: meant.clone(), force };
                let answer = patient.promote(request).await.map_err(|e| about("promote the nodes", e))?;
                let (names, voters) = (meant, names_of(&client, &answer.voters).await);
                shared.format().print(&json!({ "promoted": names, "voters": answer.voters }), || {
                    output::fields([("promoted", names.join(", ")), ("voters", voters.join(", "))])
                })
            }
            Action::TransferLeader { name } => {
                let name = match name {
                    Some(name) => member_name(&client, &name).await?,
                    None => String::new(),
                };
                let request = TransferLeaderRequest { name };
                let answer = client.transfer_leader(request).await.map_err(|e| about("hand on leadership", e))?;
                shared.format().print(&json!({ "leader": answer.leader, "name": answer.name }), || {
                    output::fields([("leader", format!("{} (id {})", answer.name, answer.leader))])
                })
            }
            Action::Remove { name, compromised } => {
                remove(&client, shared, &member_name(&client, &name).await?, compromised).await
            }
            Action::List {} => {
                let answer = client.list_members(ListMembersRequest {}).await.doing("list members")?;
                let pending = |p: &PendingMember| json!({ "name": p.name, "fingerprint": output::text(&p.fingerprint), "state": p.state, "expires_at": output::moment(p.expires_ms) });
                let json = json!({
                    "members": answer.members.iter().map(node_to_json).collect::<Vec<_>>(),
                    "pending": answer.pending.iter().map(pending).collect::<Vec<_>>(),
                });
                let listed = || listed(&answer.members, &answer.pending, Surface::stdout());
                output::line(&shared.format().written(&json, listed)?)
            }
        }
    }
}

/// Members, and under them who would become one.
fn listed(members: &[NodeStatus], pending: &[PendingMember], surface: Surface) -> String {
    let rows: Vec<_> = pending
        .iter()
        .map(|p| {
            let fingerprint =
                if p.fingerprint.is_empty() { String::new() } else { format!(", fingerprint {}", p.fingerprint) };
            (p.name.as_str(), format!("{} until {}{fingerprint}", p.state, output::date(p.expires_ms)))
        })
        .collect();
    let members = screen::nodes(members, &[], surface);
    if rows.is_empty() { members } else { format!("{members}\n\n{}", output::fields_on(surface, rows)) }
}

/// Whom nobody knows, a list shows.
fn about(doing: &str, error: ClientError) -> Failure {
    let unknown = error.is("NOT_FOUND");
    match Failure::call(doing, error) {
        Failure::Failed { reason, what, why, todo } if unknown && todo.is_empty() => {
            Failure::Failed { reason, what, why, todo: "`quorate operator members list` shows all there are".into() }
        }
        other => other,
    }
}

async fn remove(client: &Client, shared: &Shared, name: &str, compromised: bool) -> CommandResult {
    // The node that is removed must not make the next root key, and a sealed one can't.
    let asked = ask_all(client).await;
    let fits = |a: &&Asked| {
        a.state() == Some("ok") && a.status.as_ref().is_ok_and(|s| !s.answered_by.is_empty() && s.answered_by != name)
    };
    let Some(at) = asked.iter().find(fits) else {
        return Err(Failure::failed(
            format!("can't remove {name}"),
            "no unsealed member besides it answers at the addresses in QUORATE_ADDR",
            "name another member there, or unseal one",
        ));
    };
    // A refusal for want of a quorum is an answer: trying again and again would only hide it.
    let patient = at.client.with_deadline(at.client.deadline().max(super::PATIENCE)).impatient();
    let answer = patient
        .remove_member(RemoveMemberRequest { name: name.to_owned() })
        .await
        .map_err(|e| about("remove the member", e))?;
    let mut keys = Vec::new();
    let mut page_token = Default::default();
    let mut more = compromised;
    while more {
        let page = at
            .client
            .list_keys(ListKeysRequest { limit: 1000, page_token, ..Default::default() })
            .await
            .doing("list keys")?;
        keys.extend(page.keys.into_iter().map(|key| key.key_id));
        page_token = page.next_page_token;
        more = !page_token.is_empty();
    }
    if answer.voters.len() == 2 {
        eprintln!("Two voters are left: the loss of either stops the cluster. Take another node in.");
    }
    if compromised {
        eprintln!(
            "Rotate these keys, and encrypt anew what matters: the node could use each of them while it was unsealed."
        );
    }
    let mut json = json!({
        "removed": name, "id": answer.id, "voters": answer.voters, "root_key_generation": answer.root_generation,
    });
    if compromised {
        json["keys_to_rotate"] = json!(keys);
    }
    let voters = names_of(&at.client, &answer.voters).await;
    shared.format().print(&json, || {
        let mut rows = vec![
            ("removed", format!("{name} (id {})", answer.id)),
            ("voters", voters.join(", ")),
            ("root key", format!("generation {}", answer.root_generation)),
        ];
        if compromised {
            rows.push(("rotate", keys.join("\n")));
        }
        output::fields(rows)
    })
}
