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

/// All faults, by beginning. A kind begins with the event of its name, or where there is none with the one that says it took
/// effect; it ends with any other event that names it, and at the latest when everything is healed.
pub fn spans(history: &History) -> Vec<Span> {
    let names: BTreeSet<&str> = history.nemesis().map(|(_, f, _)| f).collect();
    let mut spans: Vec<Span> = Vec::new();
    for kind in Kind::value_variants().iter().copied() {
        let (name, effect) = (kind.name(), effect_event(kind.name()));
        let begins = if names.contains(name) { name } else { &effect };
        let ends = |f: &str| match (kind, f) {
            (_, "healed") | (Kind::Kill, "restart") | (Kind::Pause, "resume") => true,
            _ => f != effect && f.split('-').any(|word| word == name),
        };
        let mut open: Option<Span> = None;
        for (event, f, words) in history.nemesis() {
            let at = event.time as f64 / 1e9;
            if f == begins {
                spans.extend(open.replace(Span { kind, from: at, to: at, words: words.to_owned() }));
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
            (10, "healed"),
            (11, "power-off"),
        ]));
        let told: Vec<_> = spans.iter().map(|s| (s.kind, s.from, s.to)).collect();
        let expected =
            [(Kind::Partition, 1.0, 3.0), (Kind::Kill, 2.0, 5.0), (Kind::Power, 6.0, 7.0), (Kind::Pause, 9.0, 10.0)];
        assert_eq!(told, expected);
        assert_eq!(spans[0].words, "at 1");
    }

    #[test]
    fn what_never_ends_is_a_moment() {
        let spans = spans(&history(&[(1, "kill-took-effect"), (4, "kill-took-effect")]));
        assert_eq!(spans.iter().map(|s| (s.from, s.to)).collect::<Vec<_>>(), [(1.0, 1.0), (4.0, 4.0)]);
    }
}
