//! Several addresses, each asked on its own: what each node says, and which one to go to.

use std::io::IsTerminal;
use std::time::Duration;

use quorate_client::v1::{Ceremony, Severity, StatusRequest, StatusResponse};
use quorate_client::{Client, ClientError, ServerIdentity};

use crate::command::advice;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::files;

/// A node that does not answer within this is shown as unreachable.
const ASK_TIME_MAX: Duration = Duration::from_secs(3);

/// One address and what the node there says.
pub struct Asked {
    /// `host:port`.
    pub address: String,
    /// A client of this node alone.
    pub client: Client,
    /// Its status.
    pub status: Result<StatusResponse, ClientError>,
}

impl Asked {
    /// `ok`, `sealed`, `uninitialized`, `damaged` or `upgrade-needed`; nothing when it did not answer.
    pub fn state(&self) -> Option<&str> {
        self.status.as_ref().ok().map(|s| s.state.as_str())
    }

    /// The ceremony open at this very node.
    pub fn own_ceremony(&self) -> Option<&Ceremony> {
        let status = self.status.as_ref().ok()?;
        status.ceremony.as_ref().filter(|c| c.node == status.answered_by)
    }

    /// Address, name and state, for a list to choose from; what a node says may not command the terminal.
    fn in_words(&self) -> String {
        let words = match &self.status {
            Err(e) => format!("{}: {}", self.address, e.message),
            Ok(s) => {
                let ceremony = self.own_ceremony().map(|c| format!(", {}", advice::ceremony(c))).unwrap_or_default();
                format!("{}: {}, {}{ceremony}", self.address, s.answered_by, s.state)
            }
        };
        words.replace(char::is_control, " ")
    }
}

/// The client of the node at a place among the addresses, from 1.
pub fn at(client: &Client, place: u16) -> CommandResult<Client> {
    let count = client.addresses().count();
    let node = usize::from(place).checked_sub(1).and_then(|p| client.node(p));
    node.ok_or_else(|| {
        Failure::usage(format!("there is no node {place}: QUORATE_ADDR names {count} address(es), counted from 1"))
    })
}

/// The client of the node of that name, or at that place among the addresses. The name is what the node at an address says of
/// itself: for what a wrong node may be told too, unless [`check_name`] holds it against its certificate.
pub async fn named(client: &Client, node: &str) -> CommandResult<Client> {
    if let Ok(place) = node.parse() {
        return at(client, place);
    }
    pick_named(client, &ask_all(client).await, node)
}

/// Whether the node that was named is the one that answers, by its certificate; a place names none.
pub fn check_name(node: Option<&str>, server: &ServerIdentity) -> CommandResult {
    match node.filter(|node| node.parse::<u16>().is_err()) {
        Some(name) if name != server.node => Err(Failure::failed(
            format!("can't reach node {name}"),
            format!("the node that says to be {name} is {} by its certificate", server.node),
            "enter no share there; tell the other custodians",
        )),
        _ => Ok(()),
    }
}

/// The same of those that were asked.
pub fn pick_named(client: &Client, asked: &[Asked], node: &str) -> CommandResult<Client> {
    if let Ok(place) = node.parse() {
        return at(client, place);
    }
    let is_it = |asked: &&Asked| asked.status.as_ref().is_ok_and(|status| status.answered_by == node);
    if let Some(found) = asked.iter().find(is_it) {
        return Ok(found.client.clone());
    }
    let list = asked.iter().map(|asked| format!("\n  {}", asked.in_words())).collect::<String>();
    let todo = "name its address in QUORATE_ADDR, or another node";
    Err(Failure::failed(format!("can't reach node {node}"), format!("it is at none of the addresses:{list}"), todo))
}

/// The name of the member that is meant: by its name, or by its id.
pub async fn member_name(client: &Client, member: &str) -> CommandResult<String> {
    let Ok(id) = member.parse::<u64>() else { return Ok(member.to_owned()) };
    let status = client.status(StatusRequest {}).await.doing("look for the member")?;
    // A name may be a number too.
    let named = status.nodes.iter().find(|n| n.name == member);
    let found = named.or_else(|| status.nodes.iter().find(|n| n.id == id));
    found.map(|n| n.name.clone()).ok_or_else(|| {
        let why = format!("no member has the id {id}, or is called that");
        Failure::failed("can't find the member", why, "`quorate operator members list` shows them all")
    })
}

/// The names of members with these ids; the id of one that is not found.
pub async fn names_of(client: &Client, ids: &[u64]) -> Vec<String> {
    let status = client.status(StatusRequest {}).await.unwrap_or_default();
    let name = |id: &u64| status.nodes.iter().find(|n| n.id == *id).map_or_else(|| id.to_string(), |n| n.name.clone());
    ids.iter().map(name).collect()
}

/// Asks every address for its status, all at once.
pub async fn ask_all(client: &Client) -> Vec<Asked> {
    let addresses: Vec<String> = client.addresses().map(str::to_owned).collect();
    let asks = addresses.into_iter().enumerate().filter_map(|(place, address)| {
        let client = client.node(place)?;
        let brief = client.with_deadline(ASK_TIME_MAX.min(client.deadline())).impatient();
        Some(async move {
            let status = brief.status(StatusRequest {}).await;
            Asked { address, client, status }
        })
    });
    futures::future::join_all(asks).await
}

/// A client of the first node that answers, and of it alone.
pub async fn first_to_answer(client: &Client) -> CommandResult<Client> {
    let asked = ask_all(client).await;
    match asked.iter().find(|a| a.status.is_ok()) {
        Some(first) => Ok(first.client.clone()),
        None => Err(first_failure(asked, "reach a node")),
    }
}

/// To which node a share goes: the only one, else the one that whoever sits at the terminal names. What nodes say of
/// themselves and of others is shown, and decides nothing: a hostile one would have every share come to it.
pub fn pick(asked: &[Asked]) -> CommandResult<Client> {
    if let [only] = asked {
        return Ok(only.client.clone());
    }
    let list = asked.iter().enumerate().map(|(i, a)| format!("  {}  {}\n", i + 1, a.in_words())).collect::<String>();
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "several addresses are given, and a share goes only where its custodian says: add --node NAME, or name one address \
             in QUORATE_ADDR:\n{list}"
        )));
    }
    let answer = files::ask(&format!("{list}Which of these nodes? [1-{}] ", asked.len()))?;
    let place = answer.trim().parse::<usize>().ok().and_then(|place| place.checked_sub(1));
    let chosen = place.and_then(|place| asked.get(place));
    chosen.map(|a| a.client.clone()).ok_or_else(|| Failure::usage("that is none of them; nothing was sent"))
}

/// Those that came.
pub fn answers(asked: &[Asked]) -> Vec<&StatusResponse> {
    asked.iter().filter_map(|a| a.status.as_ref().ok()).collect()
}

/// The most telling of all answers: of a node that is part of a cluster and has a majority of it, then of one that knows a leader.
pub fn best<'a>(answers: &[&'a StatusResponse]) -> Option<&'a StatusResponse> {
    // What a node that was removed knows of the others is of long ago.
    let member = |s: &StatusResponse| s.state != "uninitialized" && s.severity() != Severity::Removed;
    let majority = |s: &StatusResponse| s.severity() != Severity::NoMajority;
    let telling = |s: &StatusResponse| (member(s), majority(s), s.leader != 0, s.state == "ok", s.nodes.len());
    answers.iter().copied().max_by_key(|s| telling(s))
}

/// The failure to report when no address has answered.
pub fn first_failure(asked: Vec<Asked>, what: &str) -> Failure {
    let first = asked.into_iter().find_map(|a| a.status.err());
    match first {
        Some(error) => Failure::call(what, error),
        None => Failure::usage("no node address is given; set QUORATE_ADDR"),
    }
}
