//! A node that an operator sealed uses no key until a ceremony opens it: from the seal's acknowledgement to the invocation
//! of the share that completes a ceremony, it answers no use. So it does not with one share less than the threshold. An operator
//! who replaces the node puts another in its place, which was never sealed; and a disk that lied may have forgotten the seal.

use std::collections::BTreeMap;

use super::coverage::effect_event;
use super::{Finding, ceremony, tell};
use crate::history::{Call, History, Op};
use crate::nemesis::Kind;

/// From `begun` to `ended`, ns, a node's disk only pretended to keep what was synced, and forgot it then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lie {
    node: u32,
    begun: u64,
    ended: u64,
}

/// All that took effect.
pub fn lies(history: &History) -> Vec<Lie> {
    let (begins, ends) = (Kind::DiskLie.name(), effect_event(Kind::DiskLie.name()));
    let mut begun = BTreeMap::new();
    let mut lies = Vec::new();
    for (event, f, value) in history.nemesis() {
        // `n3: 8 syncs did nothing, …`
        let number = value.strip_prefix('n').and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let Some(node) = number.and_then(|number| number.parse().ok()) else { continue };
        if f == begins {
            begun.insert(node, event.time);
        } else if f == ends
            && let Some(begun) = begun.remove(&node)
        {
            lies.push(Lie { node, begun, ended: event.time });
        }
    }
    lies
}

/// Judges every use, and the seal of the whole cluster at the end: `not_sealed` is what nodes said that go on after it.
pub fn check(ops: &[Op], lies: &[Lie], not_sealed: Option<&str>) -> Finding {
    let seals: Vec<&Op> = ops.iter().filter(|o| o.call == Call::Seal && o.is_ok()).collect();
    // A ceremony at any node opens all.
    let opens = ceremony::opening(ops);
    let spans: Vec<(&Op, u64)> = seals
        .into_iter()
        .map(|seal| {
            let replaced = ops.iter().filter(|o| o.call == Call::Replace && o.node == seal.node);
            let ends = opens.iter().copied().chain(replaced).filter(|o| o.ended > seal.invoked);
            let of_seal = |lie: &&Lie| lie.node == seal.node && lie.begun < seal.ended && seal.invoked < lie.ended;
            let forgotten = lies.iter().filter(of_seal).map(|lie| lie.ended);
            let opened = ends.map(|o| o.invoked).chain(forgotten).min();
            (seal, opened.unwrap_or(u64::MAX))
        })
        .collect();
    let broken = ops
        .iter()
        .filter(|o| o.call.is_use() && o.is_ok())
        .filter_map(|used| {
            let sealed = |(seal, until): &&(&Op, u64)| {
                seal.node == used.node && seal.ended < used.invoked && *until >= used.ended
            };
            let (seal, _) = spans.iter().find(sealed)?;
            Some(format!("a sealed node used a key:\n    {}\n    {}", tell(seal), tell(used)))
        })
        .chain(not_sealed.map(str::to_owned))
        .collect();
    Finding::new("sealed", spans.len(), broken, vec![])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;
    use crate::history::{Answer, Event, Outcome, What};

    fn seal(node: u32, at: u64) -> Op {
        op(node, at, at + 1, Call::Seal, Outcome::Ok(Answer::Done))
    }
    fn unseal(at: u64) -> Op {
        op(1, at, at + 1, Call::Unseal, Outcome::Ok(Answer::Done))
    }
    fn used(node: u32, at: u64, end: u64) -> Op {
        op(node, at, end, Call::Encrypt { text: at }, encrypted(1))
    }

    #[test]
    fn a_cluster_that_goes_on_after_its_seal_is_rejected() {
        assert_eq!(check(&[], &[], None).verdict, Verdict::Valid);
        assert_eq!(check(&[], &[], Some("its nodes say ok")).verdict, Verdict::Invalid);
    }

    #[test]
    fn a_sealed_node_uses_nothing_until_a_ceremony() {
        for good in [
            vec![seal(1, 0), used(2, 5, 6)],
            vec![used(1, 0, 5), seal(1, 2)],
            vec![seal(1, 0), unseal(4), used(1, 8, 9)],
            vec![seal(1, 0), used(1, 3, 7), unseal(6)],
            vec![seal(1, 0), op(1, 5, 6, Call::Encrypt { text: 1 }, refused("SEALED"))],
        ] {
            assert_eq!(check(&good, &[], None).verdict, Verdict::Valid, "{good:?}");
        }
        for bad in [
            vec![seal(1, 0), used(1, 5, 6)],
            vec![seal(1, 0), used(1, 5, 6), unseal(7)],
            vec![seal(1, 0), unseal(4), seal(1, 10), used(1, 15, 16)],
        ] {
            assert_eq!(check(&bad, &[], None).violations, 1, "{bad:?}");
        }
    }

    #[test]
    fn the_seal_of_a_node_ends_with_its_replacement() {
        let replaced = |node, at, outcome| Op { key: None, ..op(node, at, at + 1, Call::Replace, outcome) };
        let done = || Outcome::Ok(Answer::Done);
        for outcome in [done(), crate::checker::hand::doubt()] {
            assert_eq!(
                check(&[seal(1, 0), replaced(1, 10, outcome), used(1, 20, 21)], &[], None).verdict,
                Verdict::Valid
            );
        }
        for bad in [
            vec![seal(1, 0), replaced(2, 10, done()), used(1, 20, 21)],
            vec![replaced(1, 0, done()), seal(1, 10), used(1, 20, 21)],
            vec![seal(1, 0), used(1, 5, 6), replaced(1, 10, done())],
        ] {
            assert_eq!(check(&bad, &[], None).violations, 1, "{bad:?}");
        }
    }

    #[test]
    fn a_disk_that_lied_may_have_forgotten_the_seal() {
        let lie = |node, begun, ended| [Lie { node, begun, ended }];
        // Used while the lie goes on: the node that runs knows of its seal.
        let judge = |lies: &[Lie], at| check(&[seal(1, 10), used(1, at, at + 1)], lies, None).violations;
        assert_eq!(judge(&lie(1, 5, 20), 30), 0);
        assert_eq!((judge(&lie(1, 5, 20), 15), judge(&lie(2, 5, 20), 30)), (1, 1));
        assert_eq!((judge(&lie(1, 12, 20), 30), judge(&lie(1, 2, 9), 30)), (1, 1), "not yet, and no more");
    }

    #[test]
    fn lies_are_those_that_took_effect() {
        let event = |index, f: &str, value: &str| Event {
            index,
            time: index * 10,
            what: What::Nemesis { f: f.into(), value: value.into() },
        };
        let events = vec![
            event(1, "disk-lie", "n12"),
            event(2, "disk-lie", "n3"),
            event(3, "disk-lie-took-effect", "n12 (leader): 8 syncs did nothing, then the power went"),
            event(4, "heal-disk-lie", "n3"),
        ];
        assert_eq!(lies(&History { events }), [Lie { node: 12, begun: 10, ended: 30 }]);
    }

    #[test]
    fn one_share_less_than_the_threshold_opens_nothing() {
        let share = |at, share| {
            let call = Call::EnterShare { share, flaw: None };
            op(2, at, at + 1, call, Outcome::Ok(Answer::Share { complete: share == 3 }))
        };
        let begun = vec![seal(1, 0), share(10, 1), share(20, 2), used(1, 30, 31)];
        assert_eq!(check(&begun, &[], None).violations, 1);
        let complete = vec![seal(1, 0), share(10, 1), share(20, 2), share(25, 3), used(1, 30, 31)];
        assert_eq!(check(&complete, &[], None).verdict, Verdict::Valid, "a ceremony at any node opens all");
    }
}
