//! The status as a screen: the verdict on top, then the nodes, then the rest. It fits the terminal: of a node's columns those that
//! matter most stand in its line, the others under it.

use quorate_client::v1::verdict::{Kind, Trouble};
use quorate_client::v1::{NodeStatus, Severity, StatusResponse, Verdict};
use quorate_core::seam::WallClock;

use super::memory::Memory;
use crate::command::terminal::{Surface, Tone};
use crate::command::{advice, output};
use crate::tls::days_left;
use crate::wiring::SystemClock;

/// Between two columns.
const GAP: usize = 2;
/// Before what stands under a node.
const UNDER: usize = 4;
/// A certificate that ends within this is shown as something to look at, in days.
const RENEWAL_DAYS: i64 = 30;

/// The whole screen. `silent` are the addresses that did not answer, and why.
pub fn status(status: &StatusResponse, silent: &[(&str, &str)], surface: Surface) -> String {
    let mut parts = vec![verdicts(&status.verdicts, &status.answered_by, surface)];
    if !status.nodes.is_empty() {
        parts.push(nodes(&status.nodes, &told(&status.verdicts), surface));
    }
    parts.push(output::fields_on(surface, rest(status, silent)));
    parts.join("\n\n")
}

/// The verdicts, the gravest first, with what to do about each.
fn verdicts(verdicts: &[Verdict], by: &str, surface: Surface) -> String {
    let gravest = verdicts.first().map_or(Severity::Unspecified, Verdict::severity);
    let word = advice::severity(gravest).to_uppercase();
    let indent = word.chars().count() + GAP;
    let margin = " ".repeat(indent);
    let mut lines = Vec::new();
    for verdict in verdicts {
        let said = advice::of(verdict, by);
        let what = if said.detail.is_empty() { said.what } else { format!("{}: {}", said.what, said.detail) };
        let tone = tone(verdict.severity());
        lines.extend(surface.wrap(indent, &what).iter().map(|line| format!("{margin}{}", surface.paint(tone, line))));
        for step in said.todo {
            let wrapped = surface.wrap(indent + GAP, &step);
            lines.extend(wrapped.iter().enumerate().map(|(i, line)| {
                let mark = if i == 0 { "- " } else { "  " };
                format!("{margin}{mark}{line}")
            }));
        }
    }
    // The word stands in the margin of the first line.
    let first = lines.first().and_then(|line| line.strip_prefix(&margin)).unwrap_or_default().to_owned();
    let head = format!("{}{}{first}", surface.paint(tone(gravest), &word), " ".repeat(GAP));
    [&[head], lines.get(1..).unwrap_or_default()].concat().join("\n")
}

fn tone(severity: Severity) -> Tone {
    match severity {
        Severity::Ok => Tone::Good,
        Severity::Degraded | Severity::Unspecified => Tone::Warning,
        Severity::Sealed | Severity::Uninitialized | Severity::NoMajority | Severity::Removed => Tone::Bad,
    }
}

/// How many whole days a node's certificate is good for; less than 0 once it has expired.
pub fn certificate_days_left(n: &NodeStatus) -> Option<i64> {
    (n.certificate_expires_ms > 0).then(|| days_left(n.certificate_expires_ms, SystemClock.now_ms()))
}

/// What a node does, in a word.
fn state(n: &NodeStatus) -> (&str, Tone) {
    match (&*n.state, n.reachable, n.sealed) {
        // By its own word, to whoever has reached it.
        ("damaged" | "upgrade-needed", _, _) => (&n.state, Tone::Bad),
        // What is known of a node that does not answer is of long ago.
        (_, false, _) => ("?", Tone::Warning),
        ("uninitialized", true, _) => ("uninitialized", Tone::Warning),
        (_, true, true) => ("sealed", Tone::Warning),
        (_, true, false) => ("unsealed", Tone::Good),
    }
}

/// A column of the table of nodes.
struct Column {
    title: &'static str,
    /// Before the value where it stands under its node; a value that says enough has none.
    name: &'static str,
    value: fn(&NodeStatus) -> String,
}

fn column(title: &'static str, name: &'static str, value: fn(&NodeStatus) -> String) -> Column {
    Column { title, name, value }
}

/// In the order of what matters most.
fn columns() -> [Column; 10] {
    [
        column("NAME", "", |n| n.name.clone()),
        column("STATE", "", |n| state(n).0.to_owned()),
        column("ROLE", "", |n| match n.voter || n.role == "learner" || n.role.is_empty() {
            true => n.role.clone(),
            false => format!("{} (no vote)", n.role),
        }),
        column("LAG", "lag", |n| if n.reachable { n.lag.to_string() } else { "?".to_owned() }),
        column("API", "", |n| n.api.clone()),
        column("CERTIFICATE", "certificate", |n| match certificate_days_left(n) {
            None => String::new(),
            Some(days) if days < 0 => "expired".to_owned(),
            Some(days) => format!("{days} days"),
        }),
        column("ID", "id", |n| n.id.to_string()),
        column("VERSION", "version", |n| n.version.clone()),
        column("LEVEL", "level", |n| if n.level == 0 { String::new() } else { n.level.to_string() }),
        column("ASSURANCE", "assurance", |n| n.assurance.clone()),
    ]
}

/// What the verdicts tell in all detail, and of which node.
fn told(verdicts: &[Verdict]) -> Vec<&Trouble> {
    let trouble = |verdict| match verdict {
        &Verdict { kind: Some(Kind::Damaged(ref trouble) | Kind::UpgradeNeeded(ref trouble)), .. } => Some(trouble),
        _ => None,
    };
    verdicts.iter().filter_map(trouble).collect()
}

/// The nodes, each with what is wrong with it under its line, without what was told.
pub fn nodes(nodes: &[NodeStatus], told: &[&Trouble], surface: Surface) -> String {
    let columns = columns();
    let clean = |text: String| text.replace(char::is_control, " ");
    let cells: Vec<Vec<String>> =
        nodes.iter().map(|n| columns.iter().map(|column| clean((column.value)(n))).collect()).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| cells.iter().map(|row| row[i].chars().count()).chain([columns[i].title.len()]).max().unwrap_or(0))
        .collect();
    let mut taken = 0;
    let in_line = widths.iter().take_while(|width| {
        taken += **width + GAP;
        taken - GAP <= surface.width
    });
    // A name stands in its line, however long it is.
    let in_line = in_line.count().max(1);

    let line = |cells: &[&str], paint: &dyn Fn(usize, String) -> String| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
            let last = i + 1 == in_line;
            paint(i, if last { (*cell).to_owned() } else { format!("{cell:width$}") })
        });
        padded.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let titles: Vec<&str> = columns[..in_line].iter().map(|column| column.title).collect();
    // What is the same everywhere is said once.
    let same = |i: usize| nodes.len() > 1 && cells.iter().all(|row| row[i] == cells[0][i]);
    let named = |row: &[String], which: &dyn Fn(usize) -> bool| -> String {
        let left = (in_line..columns.len()).filter(|i| which(*i) && !row[*i].is_empty());
        let left = left.map(|i| format!("{} {}", columns[i].name, row[i]).trim_start().to_owned());
        left.collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![surface.paint(Tone::Faint, &line(&titles, &|_, cell| cell))];
    for (n, row) in nodes.iter().zip(&cells) {
        let shown: Vec<&str> = row[..in_line].iter().map(String::as_str).collect();
        let worn = certificate_days_left(n).is_some_and(|days| days < RENEWAL_DAYS);
        lines.push(line(&shown, &|i, cell| match columns[i].title {
            "STATE" => surface.paint(state(n).1, &cell),
            "CERTIFICATE" if worn => surface.paint(Tone::Warning, &cell),
            _ => cell,
        }));
        let mut under = |tone, text: &str| {
            let wrapped = surface.wrap(UNDER, text);
            lines.extend(wrapped.iter().map(|line| format!("{}{}", " ".repeat(UNDER), surface.paint(tone, line))));
        };
        under(Tone::Faint, &named(row, &|i| !same(i)));
        let told = told.iter().filter(|trouble| trouble.node == n.name);
        let untold = told.filter_map(|trouble| n.problem.strip_prefix(&trouble.what)).next();
        under(Tone::Warning, untold.map_or(n.problem.as_str(), |rest| rest.trim_start_matches("; ")));
    }
    let everywhere = cells.first().map(|row| named(row, &same)).filter(|named| !named.is_empty());
    if let Some(named) = everywhere {
        let wrapped = surface.wrap(0, &format!("each: {named}"));
        lines.extend(wrapped.iter().map(|line| surface.paint(Tone::Faint, line)));
    }
    lines.join("\n")
}

/// The seal as the answering node has it, and whether this machine knows another.
fn seal(status: &StatusResponse) -> String {
    let (fingerprint, generation) = (&status.seal_fingerprint, status.seal_generation);
    if fingerprint.is_empty() {
        return String::new();
    }
    let memory = status.cluster_id.parse().ok().and_then(|cluster| Memory::of(cluster).ok());
    let strange = memory.is_some_and(|memory| memory.contradicts(fingerprint, generation));
    let strange = if strange { "; NOT the one that this machine remembers: enter no share" } else { "" };
    format!("generation {generation}, fingerprint {fingerprint}{strange}")
}

fn rest(status: &StatusResponse, silent: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let leader = status.nodes.iter().find(|n| n.id == status.leader && status.leader != 0);
    let leader = leader.map_or_else(|| "none".to_owned(), |n| format!("{} ({})", n.name, n.id));
    let dev = if status.dev { "  (for development only)" } else { "" };
    let silent: Vec<String> = silent.iter().map(|(address, why)| format!("{address}: {why}")).collect();
    vec![
        ("cluster", format!("{}{dev}", status.cluster_id)),
        ("seal", seal(status)),
        ("leader", leader),
        ("time", if status.cluster_time_ms == 0 { String::new() } else { output::date(status.cluster_time_ms) }),
        ("level", if status.level == 0 { String::new() } else { status.level.to_string() }),
        ("answered by", format!("{}, which is {}", status.answered_by, status.state)),
        ("no answer", silent.join("\n")),
    ]
}

#[cfg(test)]
mod tests {
    use quorate_client::v1::verdict::Nodes;

    use super::*;

    fn surface(width: usize) -> Surface {
        Surface { width, colours: false }
    }

    fn in_days(days: u64) -> u64 {
        SystemClock.now_ms() + days * 24 * 60 * 60 * 1000 + 60_000
    }

    fn cluster() -> StatusResponse {
        let node = |id: u64| NodeStatus {
            id,
            name: format!("n{id}"),
            role: if id == 1 { "leader" } else { "follower" }.into(),
            voter: true,
            reachable: id != 3,
            certificate_expires_ms: [0, in_days(89), 1, 0][id as usize],
            sealed: id > 1,
            state: ["", "ok", "sealed", "sealed"][id as usize].into(),
            api: format!("127.0.0.1:76{id}0"),
            version: "0.1.0".into(),
            assurance: "software".into(),
            level: [0, 3, 2, 0][id as usize],
            problem: ["", "", "short of disk space: 1 MiB free", "not reachable: connection refused (os error 111)"]
                [id as usize]
                .into(),
            ..Default::default()
        };
        let verdict = |severity: Severity, kind| Verdict { severity: severity.into(), kind: Some(kind) };
        StatusResponse {
            cluster_id: "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab".into(),
            leader: 1,
            nodes: vec![node(1), node(2), node(3)],
            state: "ok".into(),
            answered_by: "n1".into(),
            verdicts: vec![
                verdict(Severity::Degraded, Kind::Damaged(Trouble { node: "n2".into(), what: "its journal".into() })),
                verdict(Severity::Degraded, Kind::Unreachable(Nodes { nodes: vec!["n3".into()] })),
            ],
            level: 2,
            ..Default::default()
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_nothing_is_left_out() {
        let silent = [("127.0.0.1:7630", "it refuses connections")];
        for width in [40, 60, 80, 100, 200] {
            let text = status(&cluster(), &silent, surface(width));
            for line in text.lines() {
                // What is copied stays whole.
                let fits = line.chars().count() <= width || line.contains("6f1c1c9e-");
                assert!(fits, "{width}: {line:?} in\n{text}");
            }
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for expected in [
                "DEGRADED n2 is damaged: its journal",
                "n3 does not answer",
                "`quorate operator members remove n2`",
                "short of disk space",
                "not reachable: connection refused",
                "89 days",
                "expired",
                "127.0.0.1:7610",
                "software",
                "n1 (1)",
                "n1, which is ok",
                "127.0.0.1:7630: it refuses connections",
            ] {
                assert!(words.contains(expected), "{width}: {expected} in\n{text}");
            }
        }
    }

    #[test]
    fn what_matters_most_stands_in_the_line_of_its_node() {
        let line = |width: usize, name: &str| {
            let text = nodes(&cluster().nodes, &[], surface(width));
            text.lines().find(|line| line.starts_with(name)).expect("a line of its own").to_owned()
        };
        assert_eq!(
            line(60, "n1").split_whitespace().collect::<Vec<_>>(),
            ["n1", "unsealed", "leader", "0", "127.0.0.1:7610", "89", "days"]
        );
        assert!(line(200, "n2").contains("software") && !line(60, "n2").contains("software"));
        let silent = line(80, "n3");
        assert!(silent.contains(" ? ") && !silent.contains("sealed"), "of long ago: {silent}");
        let mut own_word = cluster().nodes;
        own_word[2].state = "damaged".into();
        assert!(
            nodes(&own_word, &[], surface(80)).contains("n3    damaged"),
            "reached by whoever asked, not by the others"
        );
    }

    #[test]
    fn what_is_the_same_everywhere_or_was_told_is_said_once() {
        let text = status(&cluster(), &[], surface(60));
        assert_eq!(text.matches("assurance software").count(), 1, "{text}");
        assert!(text.contains("each: version 0.1.0, assurance software") && text.contains("id 1, level 3"), "{text}");
        let mut broken = cluster();
        (broken.nodes[1].state, broken.nodes[1].problem) =
            ("damaged".into(), "its journal; short of disk space".into());
        let text = status(&broken, &[], surface(60));
        assert_eq!(
            (text.matches("its journal").count(), text.matches("    short of disk space").count()),
            (1, 1),
            "{text}"
        );
        assert!(nodes(&broken.nodes, &[], surface(60)).contains("its journal"), "where no verdict tells");
    }

    #[test]
    fn colours_change_no_word_and_mark_the_verdict() {
        let coloured = status(&cluster(), &[], Surface { width: 80, colours: true });
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            plain += before;
            rest = after.split_once('m').expect("ends").1;
        }
        plain += rest;
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&plain), trimmed(&status(&cluster(), &[], surface(80))));
        assert!(coloured.starts_with("\u{1b}[33mDEGRADED"), "{coloured:?}");
    }
}
