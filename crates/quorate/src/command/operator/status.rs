//! `quorate operator status`: what state the cluster is in and what to do about it; who leads, who is sealed, who lags.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use quorate_client::v1::verdict::Kind;
use quorate_client::v1::{Ceremony, NodeStatus, Severity, StatusResponse, Verdict};
use serde_json::{Value, json};

use super::nodes::{self, Asked};
use super::screen;
use crate::command::failure::{CommandResult, Failure};
use crate::command::terminal::Surface;
use crate::command::{Shared, advice, output};

/// Between two looks with `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// What a terminal does first: home, and everything below is cleared.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// What state the cluster is in and what to do about it; who leads, who is sealed, who lags.
///
/// Exit code 0 when nothing is wrong, 3 when the cluster is sealed, degraded (a member is down, damaged, sealed, or short of space)
/// or without a majority, or the node was removed from it, 1 when no node answers. In JSON, "severity" is ok, degraded, sealed,
/// uninitialized, no majority or removed, "verdicts" says why, and "leader" is the id of the leading node, 0 when none is known.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator status
  quorate operator status --watch
  quorate operator status --output json")]
pub struct Status {
    /// Look again every 2 seconds, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let look = async || {
            let asked = nodes::ask_all(&client).await;
            match merged(&nodes::answers(&asked)) {
                Some(status) => Ok((status, asked)),
                None => Err(nodes::first_failure(asked, "show the cluster's status")),
            }
        };
        if !self.watch {
            let (status, asked) = look().await?;
            output::line(&written(&status, &asked, shared)?)?;
            return if status.severity() == Severity::Ok { Ok(()) } else { Err(Failure::Unwell) };
        }
        loop {
            let text = match look().await {
                Ok((status, asked)) => written(&status, &asked, shared)?,
                Err(failure) => failure.to_string(),
            };
            if std::io::stdout().is_terminal() {
                output::bytes(CLEAR.as_bytes())?;
            }
            output::line(&text)?;
            std::io::stdout().flush().map_err(|e| Failure::failed("can't write to standard output", e, ""))?;
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }
}

/// The best answer, with what nodes say of themselves that the others can't know: that they are damaged, and do not even start
/// their part.
fn merged(answers: &[&StatusResponse]) -> Option<StatusResponse> {
    let mut status = nodes::best(answers)?.clone();
    for theirs in answers {
        let name = &theirs.answered_by;
        let own = theirs.nodes.iter().find(|n| n.name == *name);
        let (Some(own), Some(row)) = (own, status.nodes.iter_mut().find(|n| n.name == *name)) else { continue };
        let known = (&row.state, &row.problem) == (&own.state, &own.problem);
        if theirs.cluster_id != status.cluster_id || known || !is_broken(own) {
            continue;
        }
        (row.state, row.problem) = (own.state.clone(), own.problem.clone());
        // The others know no more than that it is.
        status.verdicts.retain(|verdict| of_whom(verdict) != Some(name));
        let told = theirs.verdicts.iter().filter(|v| of_whom(v) == Some(name)).cloned();
        status.verdicts.retain_mut(|verdict| match &mut verdict.kind {
            Some(Kind::Unreachable(n)) => {
                n.nodes.retain(|node| node != name);
                !n.nodes.is_empty()
            }
            Some(Kind::Healthy(_)) => false,
            _ => true,
        });
        status.verdicts.extend(told);
    }
    status.verdicts.sort_by_key(|verdict| std::cmp::Reverse(verdict.severity));
    status.severity = status.verdicts.first().map_or(status.severity, |verdict| verdict.severity);
    Some(status)
}

fn is_broken(n: &NodeStatus) -> bool {
    matches!(&*n.state, "damaged" | "upgrade-needed")
}

/// Whose damage a verdict tells of.
fn of_whom(verdict: &Verdict) -> Option<&String> {
    match &verdict.kind {
        Some(Kind::Damaged(trouble) | Kind::UpgradeNeeded(trouble)) => Some(&trouble.node),
        _ => None,
    }
}

/// As it is asked for: for a program, or a screen.
fn written(status: &StatusResponse, asked: &[Asked], shared: &Shared) -> CommandResult<String> {
    let silent: Vec<(&str, &str)> =
        asked.iter().filter_map(|a| Some((a.address.as_str(), a.status.as_ref().err()?.message.as_str()))).collect();
    shared.format().written(&to_json(status, &silent), || screen::status(status, &silent, Surface::stdout()))
}

fn to_json(status: &StatusResponse, silent: &[(&str, &str)]) -> Value {
    let hint = status.verdicts.first().map(|verdict| advice::of(verdict, &status.answered_by).hint());
    json!({
        "leader": status.leader,
        "severity": advice::severity(status.severity()),
        "verdicts": status.verdicts.iter().map(|v| verdict_to_json(v, &status.answered_by)).collect::<Vec<_>>(),
        "nodes": status.nodes.iter().map(node_to_json).collect::<Vec<_>>(),
        "state": status.state,
        "answered_by": status.answered_by,
        "cluster_id": status.cluster_id,
        "lineage": status.lineage,
        "ceremony": status.ceremony.as_ref().map(ceremony_to_json),
        "cluster_time": output::moment(status.cluster_time_ms),
        "level": Some(status.level).filter(|level| *level > 0),
        "seal_fingerprint": Some(&status.seal_fingerprint).filter(|f| !f.is_empty()),
        "seal_generation": Some(status.seal_generation).filter(|g| *g > 0),
        "dev": status.dev,
        "hint": output::text(&hint.unwrap_or_default()),
        "unreachable": silent.iter().map(|(address, _)| address).collect::<Vec<_>>(),
    })
}

fn verdict_to_json(verdict: &Verdict, by: &str) -> Value {
    let said = advice::of(verdict, by);
    let nodes: Vec<&String> = match &verdict.kind {
        Some(Kind::Damaged(t) | Kind::UpgradeNeeded(t) | Kind::Doubted(t)) => vec![&t.node],
        Some(Kind::NoMajority(n)) => n.missing.iter().collect(),
        Some(Kind::Sealed(s)) => s.nodes.iter().collect(),
        Some(Kind::ClockOff(c)) => vec![&c.node],
        Some(Kind::LowSpace(n) | Kind::Unreachable(n)) => n.nodes.iter().collect(),
        Some(Kind::CertificateEnds(c)) => vec![&c.node],
        _ => Vec::new(),
    };
    json!({
        "kind": verdict.kind.as_ref().map(advice::kind),
        "severity": advice::severity(verdict.severity()),
        "nodes": nodes,
        "what": said.what,
        "detail": Some(said.detail).filter(|detail| !detail.is_empty()),
        "todo": said.todo,
    })
}

/// One node as JSON, here and in `members list`.
pub fn node_to_json(n: &NodeStatus) -> Value {
    json!({
        "id": n.id,
        "name": n.name,
        "role": n.role,
        "voter": n.voter,
        "reachable": n.reachable,
        // What a node was that does not answer is not what it is.
        "sealed": n.reachable.then_some(n.sealed),
        "state": Some(&n.state).filter(|state| n.reachable && !state.is_empty()),
        "applied_index": n.applied_index,
        "lag": n.reachable.then_some(n.lag),
        "api": n.api,
        "peer": n.peer,
        "assurance": n.assurance,
        "hsm_algorithm": n.hsm_algorithm,
        "version": n.version,
        "level": Some(n.level).filter(|level| *level > 0),
        "problem": output::text(&n.problem),
        "free_bytes": n.free_bytes,
        "low_space": n.low_space,
        "certificate_ends_at": output::moment(n.certificate_expires_ms),
        "certificate_days_left": screen::certificate_days_left(n),
    })
}

/// A ceremony as JSON, here and in `unseal`.
pub fn ceremony_to_json(c: &Ceremony) -> Value {
    json!({
        "id": c.id,
        "node": c.node,
        "threshold": c.threshold,
        "entered": c.entered,
        "share_numbers": c.share_numbers,
        "custodians": c.labels,
        "expires_at": output::moment(c.expires_ms),
    })
}

#[cfg(test)]
mod tests {
    use quorate_client::v1::verdict::{Healthy, Nodes, Trouble};

    use super::*;

    fn node(id: u64, state: &str) -> NodeStatus {
        NodeStatus {
            id,
            name: format!("n{id}"),
            reachable: true,
            sealed: state != "ok",
            state: state.into(),
            free_bytes: 1 << 20,
            low_space: id == 2,
            level: [0, 3, 2, 0][id as usize],
            ..Default::default()
        }
    }

    fn verdict(severity: Severity, kind: Kind) -> Verdict {
        Verdict { severity: severity.into(), kind: Some(kind) }
    }

    fn status(verdicts: Vec<Verdict>) -> StatusResponse {
        StatusResponse {
            cluster_id: "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab".into(),
            leader: 1,
            nodes: vec![node(1, "ok"), node(2, "sealed"), node(3, "ok")],
            state: "ok".into(),
            answered_by: "n1".into(),
            level: 2,
            severity: verdicts.first().map_or(0, |verdict| verdict.severity),
            verdicts,
            ..Default::default()
        }
    }

    #[test]
    fn the_json_is_what_scripts_rely_on() {
        let gone = verdict(Severity::Degraded, Kind::Unreachable(Nodes { nodes: vec!["n3".into()] }));
        let json = to_json(&status(vec![gone]), &[("a:1", "refused")]);
        assert_eq!(json["leader"], 1);
        assert_eq!((&json["severity"], &json["unreachable"]), (&json!("degraded"), &json!(["a:1"])));
        assert_eq!(
            (&json["verdicts"][0]["kind"], &json["verdicts"][0]["nodes"]),
            (&json!("unreachable"), &json!(["n3"]))
        );
        assert!(
            json["hint"].as_str().is_some_and(|hint| hint.contains("n3 does not answer: start it again")),
            "{json}"
        );
        assert_eq!(json["nodes"][1]["id"], 2);
        assert_eq!(json["nodes"][1]["name"], "n2");
        assert_eq!((&json["nodes"][0]["sealed"], &json["nodes"][1]["sealed"]), (&json!(false), &json!(true)));
        assert_eq!((&json["nodes"][0]["low_space"], &json["nodes"][1]["low_space"]), (&json!(false), &json!(true)));
        assert_eq!(json["nodes"][1]["free_bytes"], 1 << 20);
        assert_eq!([&json["level"], &json["nodes"][0]["level"]], [2, 3]);
        assert!(json["nodes"][2]["level"].is_null(), "it has not been heard of");
        let well = to_json(&status(vec![verdict(Severity::Ok, Kind::Healthy(Healthy {}))]), &[]);
        assert_eq!((&well["severity"], &well["hint"]), (&json!("ok"), &json!(null)));
    }

    /// Its journal is gone, so that it does not even speak to the others; but whoever asks it is told.
    #[test]
    fn a_node_that_says_it_is_damaged_is_shown_so_whatever_the_others_know() {
        let gone = verdict(Severity::Degraded, Kind::Unreachable(Nodes { nodes: vec!["n3".into()] }));
        let mut others = status(vec![gone]);
        (others.nodes[2].reachable, others.nodes[2].state) = (false, String::new());
        let what = || Trouble { node: "n3".into(), what: "its journal".into() };
        let own = StatusResponse {
            cluster_id: others.cluster_id.clone(),
            answered_by: "n3".into(),
            state: "damaged".into(),
            nodes: vec![NodeStatus { problem: "its journal".into(), ..node(3, "damaged") }],
            verdicts: vec![verdict(Severity::Degraded, Kind::Damaged(what()))],
            ..Default::default()
        };
        let foreign = StatusResponse { cluster_id: "another".into(), ..own.clone() };
        let seen = merged(&[&others, &own]).expect("answers");
        assert_eq!(seen.answered_by, "n1");
        assert_eq!((&*seen.nodes[2].state, &*seen.nodes[2].problem), ("damaged", "its journal"));
        assert_eq!(seen.verdicts, own.verdicts, "named once, and not as silent");
        let less = Trouble { node: "n3".into(), what: "it can't open its journal".into() };
        let mut others_know = status(vec![verdict(Severity::Degraded, Kind::Damaged(less))]);
        (others_know.nodes[2].state, others_know.nodes[2].problem) = ("damaged".into(), "it can't open".into());
        let seen = merged(&[&others_know, &own]).expect("answers");
        assert_eq!((&seen.verdicts, &*seen.nodes[2].problem), (&own.verdicts, "its journal"), "it knows itself what");
        assert_eq!(merged(&[&others, &foreign]).expect("answers"), others, "another cluster's says nothing of ours");
        assert!(merged(&[]).is_none());
    }
}
