//! `quorate operator status`: who leads, who is sealed, who lags, how far the ceremony is.

use clap::Args;
use comfy_table::Table;
use quorate_client::v1::{Ceremony, NodeStatus, StatusResponse};
use quorate_core::seam::WallClock;
use serde_json::{Value, json};

use super::memory::Memory;
use super::nodes::{self, Asked};
use crate::command::failure::CommandResult;
use crate::command::{Shared, output};
use crate::wiring::SystemClock;

/// Who leads, who is sealed, who lags, how far a ceremony is.
///
/// In JSON, "leader" is the id of the leading node, 0 when none is known.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator status
  quorate operator status --output json")]
pub struct Status {}

impl Status {
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let asked = nodes::ask_all(&shared.client().await?).await;
        let Some(status) = nodes::best(&asked) else {
            return Err(nodes::first_failure(asked, "show the cluster's status"));
        };
        let silent: Vec<&Asked> = asked.iter().filter(|a| a.status.is_err()).collect();
        shared.format().print(&to_json(status, &silent), || table(status, &silent))
    }
}

fn to_json(status: &StatusResponse, silent: &[&Asked]) -> Value {
    json!({
        "leader": status.leader,
        "nodes": status.nodes.iter().map(node_to_json).collect::<Vec<_>>(),
        "state": status.state,
        "answered_by": status.answered_by,
        "cluster_id": status.cluster_id,
        "lineage": status.lineage,
        "ceremony": status.ceremony.as_ref().map(ceremony_to_json),
        "cluster_time_ms": status.cluster_time_ms,
        "level": Some(status.level).filter(|level| *level > 0),
        "seal_fingerprint": Some(&status.seal_fingerprint).filter(|f| !f.is_empty()),
        "seal_generation": Some(status.seal_generation).filter(|g| *g > 0),
        "dev": status.dev,
        "hint": status.hint,
        "unreachable": silent.iter().map(|a| a.address.as_str()).collect::<Vec<_>>(),
    })
}

/// How many whole days a node's certificate is good for; less than 0 once it has expired.
fn certificate_days_left(n: &NodeStatus) -> Option<i64> {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let ms = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
    (n.certificate_expires_ms > 0)
        .then(|| ms(n.certificate_expires_ms).saturating_sub(ms(SystemClock.now_ms())).div_euclid(DAY_MS))
}

/// One node as JSON, here and in `members list`.
pub fn node_to_json(n: &NodeStatus) -> Value {
    json!({
        "id": n.id,
        "name": n.name,
        "role": n.role,
        "voter": n.voter,
        "reachable": n.reachable,
        "sealed": n.sealed,
        "applied_index": n.applied_index,
        "lag": n.lag,
        "api": n.api,
        "peer": n.peer,
        "assurance": n.assurance,
        "hsm_algorithm": n.hsm_algorithm,
        "version": n.version,
        "level": Some(n.level).filter(|level| *level > 0),
        "problem": n.problem,
        "free_bytes": n.free_bytes,
        "low_space": n.low_space,
        "certificate_expires_ms": n.certificate_expires_ms,
        "certificate_days_left": certificate_days_left(n),
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
        "expires_ms": c.expires_ms,
    })
}

/// How far a ceremony is, in words.
pub fn ceremony_in_words(c: &Ceremony) -> String {
    let numbers: Vec<String> = c.share_numbers.iter().map(u32::to_string).collect();
    let which = if numbers.is_empty() { String::new() } else { format!(" (numbers {})", numbers.join(", ")) };
    format!("{} of {} shares entered at {}{which}", c.entered, c.threshold, c.node)
}

/// The nodes as a table, here and in `members list`.
pub fn node_table(nodes: &[NodeStatus]) -> Table {
    output::columns(
        ["ID", "NAME", "ROLE", "SEALED", "LAG", "API", "CERTIFICATE", "ASSURANCE", "VERSION", "LEVEL", "PROBLEM"],
        nodes.iter().map(|n| {
            let role = if n.voter || n.role == "learner" { n.role.clone() } else { format!("{} (no vote)", n.role) };
            let problem = match (n.reachable, n.problem.is_empty()) {
                (true, _) => n.problem.clone(),
                (false, true) => "unreachable".to_owned(),
                (false, false) => format!("unreachable; {}", n.problem),
            };
            // What is known of a node that does not answer is of long ago.
            let sealed = match (n.reachable, n.sealed) {
                (false, _) => "?",
                (true, true) => "sealed",
                (true, false) => "no",
            };
            let certificate = match certificate_days_left(n) {
                None => String::new(),
                Some(days) if days < 0 => "expired".to_owned(),
                Some(days) => format!("{days} days"),
            };
            let lag = if n.reachable { n.lag.to_string() } else { "?".to_owned() };
            let api = n.api.clone();
            [
                n.id.to_string(),
                n.name.clone(),
                role,
                sealed.into(),
                lag,
                api,
                certificate,
                n.assurance.clone(),
                n.version.clone(),
                if n.level == 0 { String::new() } else { n.level.to_string() },
                problem,
            ]
        }),
    )
}

/// The seal as the answering node has it, and whether this machine knows another.
fn seal_in_words(status: &StatusResponse) -> String {
    let (fingerprint, generation) = (&status.seal_fingerprint, status.seal_generation);
    if fingerprint.is_empty() {
        return String::new();
    }
    let memory = status.cluster_id.parse().ok().and_then(|cluster| Memory::of(cluster).ok());
    let strange = memory.is_some_and(|memory| memory.contradicts(fingerprint, generation));
    let strange = if strange { "; NOT the one that this machine remembers: enter no share" } else { "" };
    format!("generation {generation}, fingerprint {fingerprint}{strange}")
}

fn table(status: &StatusResponse, silent: &[&Asked]) -> Table {
    let leader = status.nodes.iter().find(|n| n.id == status.leader);
    let leader = leader.map_or_else(|| "none".to_owned(), |n| format!("{} ({})", n.name, n.id));
    let dev = if status.dev { "  (for development only)" } else { "" };
    let silent: Vec<String> = silent
        .iter()
        .map(|a| format!("{}: {}", a.address, a.status.as_ref().err().map_or("", |e| e.message.as_str())))
        .collect();
    let mut rows = vec![
        ("cluster", format!("{}{dev}", status.cluster_id)),
        ("seal", seal_in_words(status)),
        ("answered by", format!("{}, which is {}", status.answered_by, status.state)),
        ("leader", leader),
        ("time", if status.cluster_time_ms == 0 { String::new() } else { output::date(status.cluster_time_ms) }),
        ("level", if status.level == 0 { String::new() } else { status.level.to_string() }),
        ("ceremony", status.ceremony.as_ref().map(ceremony_in_words).unwrap_or_default()),
        ("no answer", silent.join("\n")),
        ("next", status.hint.clone()),
    ];
    if !status.nodes.is_empty() {
        rows.push(("nodes", node_table(&status.nodes).trim_fmt()));
    }
    output::fields(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> StatusResponse {
        let in_days = |days: u64| SystemClock.now_ms() + days * 24 * 60 * 60 * 1000 + 60_000;
        let node = |id: u64, sealed| NodeStatus {
            id,
            name: format!("n{id}"),
            role: if id == 1 { "leader" } else { "follower" }.into(),
            voter: true,
            reachable: id != 3,
            certificate_expires_ms: [0, in_days(89), 1, 0][id as usize],
            sealed,
            free_bytes: 1 << 20,
            low_space: id == 2,
            level: [0, 3, 2, 0][id as usize],
            problem: if id == 2 { "short of disk space: 1 MiB free".into() } else { String::new() },
            ..Default::default()
        };
        StatusResponse {
            cluster_id: "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab".into(),
            leader: 1,
            nodes: vec![node(1, false), node(2, true), node(3, true)],
            ceremony: Some(Ceremony {
                node: "n2".into(),
                threshold: 3,
                entered: 2,
                share_numbers: vec![1, 4],
                ..Default::default()
            }),
            state: "ok".into(),
            answered_by: "n1".into(),
            level: 2,
            ..Default::default()
        }
    }

    #[test]
    fn the_json_is_what_scripts_rely_on() {
        let json = to_json(&status(), &[]);
        assert_eq!(json["leader"], 1);
        assert_eq!(json["nodes"][1]["id"], 2);
        assert_eq!(json["nodes"][1]["name"], "n2");
        assert_eq!(json["nodes"][0]["sealed"], false);
        assert_eq!(json["nodes"][1]["sealed"], true);
        assert_eq!((&json["nodes"][0]["low_space"], &json["nodes"][1]["low_space"]), (&json!(false), &json!(true)));
        assert_eq!(json["nodes"][1]["free_bytes"], 1 << 20);
        assert_eq!([&json["level"], &json["nodes"][0]["level"]], [2, 3]);
        assert!(json["nodes"][2]["level"].is_null(), "it has not been heard of");
        let days = |n: usize| &json["nodes"][n]["certificate_days_left"];
        assert!(days(0) == 89 && days(1).as_i64().is_some_and(|d| d < 0) && days(2).is_null(), "{json}");
    }

    #[test]
    fn the_table_tells_it_at_a_glance() {
        let text = table(&status(), &[]).trim_fmt();
        for expected in [
            "n1 (1)",
            "2 of 3 shares entered at n2 (numbers 1, 4)",
            "unreachable",
            "n1, which is ok",
            "short of disk space",
            "89 days",
            "expired",
        ] {
            assert!(text.contains(expected), "{expected} in:\n{text}");
        }
        let silent = text.lines().find(|line| line.contains(" n3 ")).expect("a line of its own");
        assert!(silent.contains(" ? ") && !silent.contains("sealed"), "of long ago: {silent}");
    }
}
