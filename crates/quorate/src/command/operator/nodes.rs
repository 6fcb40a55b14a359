//! Several addresses, each asked on its own: what each node says, and which one to go to.

use std::time::Duration;

use quorate_client::v1::{StatusRequest, StatusResponse};
use quorate_client::{Client, ClientError};

use crate::command::failure::{CommandResult, Failure};

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
    /// `ok`, `sealed`, `uninitialized` or `damaged`; nothing when it did not answer.
    pub fn state(&self) -> Option<&str> {
        self.status.as_ref().ok().map(|s| s.state.as_str())
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

/// The most telling of all answers: of a node that knows a leader, then of one that is part of a cluster.
pub fn best(asked: &[Asked]) -> Option<&StatusResponse> {
    let told = asked.iter().filter_map(|a| a.status.as_ref().ok());
    told.max_by_key(|s| (s.state != "uninitialized", s.leader != 0, s.state == "ok", s.nodes.len()))
}

/// The failure to report when no address has answered.
pub fn first_failure(asked: Vec<Asked>, what: &str) -> Failure {
    let first = asked.into_iter().find_map(|a| a.status.err());
    match first {
        Some(error) => Failure::call(what, error),
        None => Failure::usage("no node address is given; set QUORATE_ADDR"),
    }
}
