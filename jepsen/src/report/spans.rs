//! From when to when each fault lasted, read from the history. Pure.

use std::collections::BTreeSet;

use clap::ValueEnum;

use crate::checker::coverage::effect_event;
use crate::history::History;
use crate::nemesis::Kind;

/// A fault, from its beginning until it was healed, seconds from the start.
#[derive(Clone, PartialEq, Debug)]
pub struct Span {
    /// Its kind.
    pub kind: Kind,
    /// When it began.
    pub from: f64,
    /// When it was over.
    pub to: f64,
    /// What it was.
    pub words: String,
}

/// Kinds whose events have names of their own: what begins one, and what ends it.
const NAMED: [(&str, &[&str], &[&str]); 5] = [
    ("kill", &["kill-took-effect"], &["restart"]),
    ("pause", &["pause-took-effect"], &["resume"]),
    ("snapshot", &["away"], &["back"]),
    ("memory", &["squeeze"], &["release"]),
    ("membership", &["join", "remove"], &["membership-took-effect"]),
];

/// All faults, by beginning. Unless it has names of its own, a kind begins with the event of its name, or where there is none
/// with the one that says it took effect; it ends with `heal-KIND` or `restart-KIND`, and at the latest when everything is healed.
pub fn spans(history: &History) -> Vec<Span> {
    let names: BTreeSet<&str> = history.nemesis().map(|(_, f, _)| f).collect();
    let mut spans: Vec<Span> = Vec::new();
    for kind in Kind::value_variants().iter().copied() {
        let (name, effect) = (kind.name(), effect_event(kind.name()));
        let own = [format!("heal-{name}"), format!("restart-{name}")];
        let named = NAMED.iter().find(|(of, ..)| *of == name);
        let begins = |f: &str| match named {
            Some((_, begins, _)) => begins.contains(&f),
            None => f == if names.contains(name) { name } else { &effect },
        };
        let ends =
            |f: &str| f == "healed" || own.iter().any(|o| o == f) || named.is_some_and(|(.., ends)| ends.contains(&f));
        let has_end = names.iter().any(|f| *f != "healed" && ends(f));
        let mut open: Option<Span> = None;
        for (event, f, words) in history.nemesis() {
            let at = event.time as f64 / 1e9;
            if begins(f) {
                let begun = Span { kind, from: at, to: at, words: words.to_owned() };
                // Where nothing tells of an end, each beginning is a moment.
                match (has_end, open.is_some()) {
                    (true, true) => {}
                    (true, false) => open = Some(begun),
                    (false, _) => spans.push(begun),
                }
            } else if ends(f)
                && let Some(span) = open.take()
            {
                spans.push(Span { to: at, ..span });
            }
        }
        spans.extend(open);
    }
    spans.sort_by(|a, b| a.from.total_cmp(&b.from));
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event, What};

    fn history(events: &[(u64, &str)]) -> History {
        let event = |(s, f): &(u64, &str)| Event {
            index: *s,
            time: s * 1_000_000_000,
            what: What::Nemesis { f: (*f).to_owned(), value: format!("at {s}") },
        };
        History { events: events.iter().map(event).collect() }
    }

    #[test]
    fn each_kind_from_its_beginning_to_its_end() {
        let spans = spans(&history(&[
            (1, "partition"),
            (2, "kill-took-effect"),
            (3, "heal-partition"),
            (4, "partition-took-effect"),
            (5, "restart"),
            (6, "power-took-effect"),
            (7, "restart-power"),
            (8, "restart-power"),
            (9, "pause-took-effect"),
            (10, "resume"),
            (11, "pause-took-effect"),
            (12, "healed"),
            (13, "power-off"),
        ]));
        let told: Vec<_> = spans.iter().map(|s| (s.kind, s.from, s.to)).collect();
        let expected = [
            (Kind::Partition, 1.0, 3.0),
            (Kind::Kill, 2.0, 5.0),
            (Kind::Power, 6.0, 7.0),
            (Kind::Pause, 9.0, 10.0),
            (Kind::Pause, 11.0, 12.0),
        ];
        assert_eq!(told, expected);
        assert_eq!(spans[0].words, "at 1");
    }

    #[test]
    fn what_never_ends_is_a_moment() {
        let spans = spans(&history(&[(1, "kill-took-effect"), (4, "kill-took-effect"), (9, "healed")]));
        assert_eq!(spans.iter().map(|s| (s.from, s.to)).collect::<Vec<_>>(), [(1.0, 1.0), (4.0, 4.0)]);
    }
}
