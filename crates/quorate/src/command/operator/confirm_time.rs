//! `quorate operator confirm-time`: an operator vouches for the leader's clock.

use clap::Args;
use quorate_client::v1::ConfirmTimeRequest;
use serde_json::json;

use super::nodes::{ask_all, first_failure};
use crate::command::Shared;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::output;

/// Vouch for the clock of the leader, in a cluster of one or two voters.
///
/// Rules about time use cluster time, which follows a majority of clocks. With one or two voters nobody can witness a
/// jump, so that after a pause of more than a minute cluster time stands still until an operator has looked at the clock.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  date                             is the clock of the leader's machine right?
  quorate operator confirm-time    then cluster time goes on")]
pub struct ConfirmTime {}

impl ConfirmTime {
    pub async fn run(self, shared: &Shared) -> CommandResult {
        const DOING: &str = "confirm the time";
        let asked = ask_all(&shared.client().await?).await;
        if asked.iter().all(|a| a.status.is_err()) {
            return Err(first_failure(asked, DOING));
        }
        let leads = |s: &quorate_client::v1::StatusResponse| {
            s.nodes.iter().any(|n| n.id == s.leader && n.name == s.answered_by)
        };
        let Some(leader) = asked.iter().find(|a| a.status.as_ref().is_ok_and(leads)) else {
            let why = "none of the nodes that answered leads";
            return Err(Failure::failed(
                format!("can't {DOING}"),
                why,
                "name every node in QUORATE_ADDR, and try again",
            ));
        };
        let answer = leader.client.confirm_time(ConfirmTimeRequest {}).await.doing(DOING)?;
        let time = output::date(answer.time_ms);
        shared.format().print(&json!({ "time_ms": answer.time_ms }), || output::fields([("cluster time", time)]))
    }
}
