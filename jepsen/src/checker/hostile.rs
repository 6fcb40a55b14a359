//! A member without right finds every door shut: judged by what it was answered there.

use super::Finding;
use super::coverage::effect_event;
use crate::history::History;
use crate::nemesis::Kind;

/// The event of a door that was open.
pub const OPEN: &str = "hostile-open";

/// Judges what a hostile member was told at all doors.
pub fn check(history: &History) -> Finding {
    let is_knock = |f: &str| f.starts_with(Kind::Hostile.name()) && f.ends_with(&effect_event(""));
    let knocks = history.nemesis().filter(|(_, f, _)| is_knock(f)).count();
    let open = history.nemesis().filter(|(_, f, _)| *f == OPEN).map(|(_, _, value)| value.to_owned()).collect();
    Finding::new("hostile", knocks, open, vec![])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::history::{Event, What};

    #[test]
    fn an_open_door_is_rejected_and_a_shut_one_is_not() {
        let of = |events: &[&str]| {
            let event = |(index, f): (usize, &&str)| Event {
                index: index as u64,
                time: index as u64,
                what: What::Nemesis { f: (*f).into(), value: "append at n1".into() },
            };
            check(&History { events: events.iter().enumerate().map(event).collect() })
        };
        let shut = of(&["hostile", "hostile-append-took-effect", "kill-took-effect"]);
        assert_eq!((shut.verdict, shut.checked), (Verdict::Valid, 1));
        let open = of(&["hostile-append-took-effect", OPEN]);
        assert_eq!((open.verdict, open.violations), (Verdict::Invalid, 1));
    }
}
