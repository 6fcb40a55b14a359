//! `quorate operator confirm-time`: an operator vouches for the time that the nodes' clocks say.

use clap::Args;
use quorate_client::v1::ConfirmTimeRequest;
use quorate_core::seam::WallClock;
use serde_json::json;

use super::nodes::{Asked, ask_all, first_failure};
use crate::command::Shared;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::output;
use crate::wiring::SystemClock;

/// Set cluster time to what the nodes' clocks say, if this machine's clock agrees.
///
/// Rules about time use cluster time, which follows a majority of clocks. With one or two voters nobody can witness a jump, so
/// that after a pause of more than a minute cluster time stands still until an operator has looked at the clock. And should
/// cluster time ever be ahead of the clocks, this sets it back. The clocks of the nodes and of this machine must agree to a
/// minute.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  date                             is the clock right, here and on the nodes' machines?
  quorate operator confirm-time    then cluster time goes on from there")]
pub struct ConfirmTime {}

impl ConfirmTime {
    pub async fn run(self, shared: &Shared) -> CommandResult {
        const DOING: &str = "confirm the time";
        let asked = ask_all(&shared.client().await?).await;
        if asked.iter().all(|a| a.status.is_err()) {
            return Err(first_failure(asked, DOING));
        }
        // With one or two voters it is the answering node's clock that is vouched for: the leader's, if it is unsealed.
        let leads = |a: &Asked| {
            a.status.as_ref().is_ok_and(|s| s.nodes.iter().any(|n| n.id == s.leader && n.name == s.answered_by))
        };
        let Some(node) = asked.iter().filter(|a| a.state() == Some("ok")).max_by_key(|a| leads(a)) else {
            let why = "none of the nodes that answered is unsealed";
            return Err(Failure::failed(
                format!("can't {DOING}"),
                why,
                "let custodians unseal one (`quorate operator unseal`), and try again",
            ));
        };
        let answer =
            node.client.confirm_time(ConfirmTimeRequest { time_ms: SystemClock.now_ms() }).await.doing(DOING)?;
        let time = output::date(answer.time_ms);
        shared.format().print(&json!({ "cluster_time": output::moment(answer.time_ms) }), || {
            output::fields([("cluster time", time)])
        })
    }
}
