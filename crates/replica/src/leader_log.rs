//! What a node logs about who leads: by name, and why that has changed as far as it can tell.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::id::NodeId;
use tokio::sync::watch;

use crate::node::Node;
use crate::raft::LeaderId;
use crate::status::log_leader;

/// Another leader than before is known, or none.
#[derive(Clone, Copy)]
struct Change {
    me: NodeId,
    /// Who led last.
    last: Option<NodeId>,
    now: Option<NodeId>,
    /// The highest leadership that this node has heard of: who leads, or asks for votes.
    highest: LeaderId,
    /// How long nothing was heard of who led last.
    silent: Option<Duration>,
    /// Whom that one wanted to lead next.
    heir: Option<NodeId>,
    /// How long a leader may be silent.
    lease: Duration,
}

/// In words.
fn in_words(change: Change, name: impl Fn(NodeId) -> String) -> String {
    let Change { me, last, now, highest, silent, heir, lease } = change;
    let call = |id| if id == me { format!("{} (this node)", name(id)) } else { name(id) };
    let (asks, term) = (NodeId(highest.node_id), highest.term);
    let last = last.filter(|last| *last != asks);
    let why = match last {
        Some(last) if heir == Some(asks) => format!(": {} handed its leadership on", call(last)),
        Some(last) if now.is_none() && last == me => format!(": {} was deposed, or has lost its majority", call(me)),
        Some(last) if now.is_none() => match silent {
            Some(silent) if silent >= lease => format!(": {} was silent for {} ms", call(last), silent.as_millis()),
            _ => format!(": not all hear {}", call(last)),
        },
        _ => String::new(),
    };
    match now {
        Some(leader) => format!("{} leads, in term {term}{why}", call(leader)),
        None => format!("no leader; {} asks for votes in term {term}{why}", call(asks)),
    }
}

/// Turns openraft's view of the leader into ours, for as long as the replica runs.
pub(crate) async fn follow(node: std::sync::Arc<Node>, leader: watch::Sender<Option<NodeId>>) {
    let mut metrics = node.base.raft.server_metrics();
    let (me, lease) = (node.base.me, Duration::from_millis(node.base.raft.config().election_timeout_max));
    let mut last = None;
    loop {
        let (now, highest) = {
            let metrics = metrics.borrow_watched();
            (metrics.current_leader.map(NodeId), metrics.vote.leader_id)
        };
        if leader.send_if_modified(|was| std::mem::replace(was, now) != now) {
            let silent = node.base.grants.heard().map(|at| at.elapsed());
            let change = Change { me, last, now, highest, silent, heir: node.base.grants.heir(), lease };
            log_leader(me, now, &in_words(change, |id| node.base.shared.members.name_of(id)));
            last = now.or(last);
        }
        node.base.shared.note_change();
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;

    use super::*;

    #[test]
    fn a_change_is_told_with_its_cause() {
        let name = |id: NodeId| format!("n{id}");
        let asks = Change {
            me: NodeId(1),
            last: Some(NodeId(2)),
            now: None,
            highest: LeaderId::new(7, 3),
            silent: Some(Duration::from_millis(340)),
            heir: None,
            lease: Duration::from_millis(200),
        };
        let leads = Change { now: Some(NodeId(3)), ..asks };
        for (change, words) in [
            (asks, "no leader; n3 asks for votes in term 7: n2 was silent for 340 ms"),
            (
                Change { silent: Some(Duration::ZERO), ..asks },
                "no leader; n3 asks for votes in term 7: not all hear n2",
            ),
            (
                Change { heir: Some(NodeId(3)), ..asks },
                "no leader; n3 asks for votes in term 7: n2 handed its leadership on",
            ),
            (
                Change { last: Some(NodeId(1)), ..asks },
                "no leader; n3 asks for votes in term 7: n1 (this node) was deposed, or has lost its majority",
            ),
            (
                Change { highest: LeaderId::new(7, 1), ..asks },
                "no leader; n1 (this node) asks for votes in term 7: n2 was silent for 340 ms",
            ),
            (leads, "n3 leads, in term 7"),
            (Change { heir: Some(NodeId(3)), ..leads }, "n3 leads, in term 7: n2 handed its leadership on"),
            (Change { last: None, ..leads }, "n3 leads, in term 7"),
        ] {
            assert_eq!(in_words(change, name), words);
        }
    }
}
