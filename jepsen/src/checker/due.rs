//! A key whose deletion falls due is destroyed, but not before its time, and not when its deletion was cancelled.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, tell};
use crate::history::{Answer, Call, Op, Outcome};

/// Keys that may be gone at any time: their deletion was, or may have been, scheduled for soon, and no cancellation of it was
/// acknowledged.
pub fn doomed(ops: &[Op]) -> BTreeSet<String> {
    let keys = |wanted: &dyn Fn(&Op) -> bool| -> BTreeSet<String> {
        ops.iter().filter(|o| wanted(o)).filter_map(|o| o.key.clone()).collect()
    };
    let scheduled = keys(&|o| matches!(o.call, Call::ScheduleSoon { .. }) && o.may_have_happened());
    let spared = keys(&|o| o.call.spares() && o.is_ok());
    &scheduled - &spared
}

/// How many keys were seen destroyed.
pub fn destroyed(ops: &[Op]) -> usize {
    let doomed = doomed(ops);
    let gone: BTreeSet<&str> = ops.iter().filter(|o| is_gone(o)).filter_map(|o| o.key.as_deref()).collect();
    gone.into_iter().filter(|key| doomed.contains(*key)).count()
}

fn is_gone(op: &Op) -> bool {
    matches!(&op.outcome, Outcome::Fail(why) if why == "NOT_FOUND" || why == "UNKNOWN_KEY")
}

/// Judges every key whose deletion was scheduled for soon. `began_ms`: the time of day at the history's beginning, by the clock
/// that the nodes' right clocks show too.
pub fn check(ops: &[Op], began_ms: u64, members: &[u32]) -> Finding {
    let mut keys: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    let soon = |o: &&Op| matches!(o.call, Call::ScheduleSoon { .. }) && o.may_have_happened();
    for op in ops.iter().filter(soon) {
        keys.extend(op.key.as_deref().map(|key| (key, vec![])));
    }
    for op in ops {
        if let Some(of_key) = op.key.as_deref().and_then(|key| keys.get_mut(key)) {
            of_key.push(op);
        }
    }
    let (mut broken, mut undecided) = (Vec::new(), Vec::new());
    for (key, ops) in &keys {
        let gone: Vec<&Op> = ops.iter().copied().filter(|o| is_gone(o)).collect();
        let cancelled = ops.iter().find(|o| o.call.spares() && o.is_ok());
        let may_be_spared = ops.iter().any(|o| o.call.spares() && o.may_have_happened());
        if let (Some(cancel), Some(gone)) = (cancelled, gone.first()) {
            broken.push(format!(
                "key {key} was destroyed though its deletion was cancelled\n    {}\n    {}",
                tell(cancel),
                tell(gone)
            ));
        }
        // Who is gone stays gone, on every node.
        let first = gone.iter().min_by_key(|o| o.ended);
        if let Some(first) = first
            && let Some(back) = ops.iter().find(|o| o.is_ok() && o.invoked > first.ended)
        {
            broken.push(format!(
                "key {key} was destroyed, and is there again\n    {}\n    {}",
                tell(first),
                tell(back)
            ));
        }
        let at = ops
            .iter()
            .find_map(|o| if let Outcome::Ok(Answer::Due { at, .. }) = &o.outcome { Some((*at, o)) } else { None });
        let Some((at, scheduled)) = at else { continue };
        if let Some(first) = first {
            let seen_ms = began_ms.saturating_add(first.ended / 1_000_000);
            if seen_ms < at {
                let early = at - seen_ms;
                broken.push(format!(
                    "key {key} was destroyed {early} ms early, or more\n    {}\n    {}",
                    tell(scheduled),
                    tell(first)
                ));
            }
        }
        if may_be_spared {
            continue;
        }
        for node in members {
            let mut looks = ops.iter().filter(|o| o.last && o.node == *node && o.call == Call::Describe);
            match looks.next_back() {
                Some(last) if last.is_ok() => {
                    broken.push(format!("key {key} was due, and is still there: {}", tell(last)))
                }
                Some(last) if is_gone(last) => {}
                _ => undecided.push(format!("key {key} was not looked for in the end at n{node}")),
            }
        }
    }
    Finding::new("due", keys.len(), broken, undecided)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;
    use crate::history::State;

    const MS: u64 = 1_000_000;
    const BEGAN: u64 = 1_800_000_000_000;

    /// Scheduled at 10 ms for 5000 ms after the beginning.
    fn begun() -> Vec<Op> {
        let due = Outcome::Ok(Answer::Due { at: BEGAN + 5000, version: 1 });
        vec![create(0), op(1, 10 * MS, 11 * MS, Call::ScheduleSoon { seconds: 5 }, due)]
    }
    fn look(node: u32, at_ms: u64, outcome: Outcome) -> Op {
        op(node, at_ms * MS, (at_ms + 1) * MS, Call::Describe, outcome)
    }
    fn gone(node: u32, at_ms: u64) -> Op {
        look(node, at_ms, refused("NOT_FOUND"))
    }
    fn waits(node: u32, at_ms: u64) -> Op {
        look(node, at_ms, key(State::PendingDeletion, 1))
    }
    fn verdict(ops: Vec<Op>) -> Verdict {
        check(&[begun(), ops].concat(), BEGAN, &[1, 2]).verdict
    }
    fn in_the_end() -> Vec<Op> {
        vec![last(gone(1, 9000)), last(gone(2, 9001))]
    }

    #[test]
    fn what_is_destroyed_in_time_is_accepted() {
        assert_eq!(verdict(in_the_end()), Verdict::Valid);
        assert_eq!(verdict([vec![waits(1, 4000), gone(2, 5000)], in_the_end()].concat()), Verdict::Valid);
        // Not at once: it is looked for again.
        assert_eq!(verdict([vec![last(waits(1, 8000))], in_the_end()].concat()), Verdict::Valid);
        assert_eq!((destroyed(&[begun(), in_the_end()].concat()), destroyed(&begun())), (1, 0));
    }

    #[test]
    fn what_is_destroyed_early_or_not_at_all_is_rejected() {
        assert_eq!(verdict([vec![gone(2, 4998)], in_the_end()].concat()), Verdict::Invalid, "early");
        assert_eq!(verdict(vec![last(gone(1, 9000)), last(waits(2, 8000))]), Verdict::Invalid, "still there");
        assert_eq!(
            verdict([vec![gone(2, 6000), waits(1, 6002)], in_the_end()].concat()),
            Verdict::Invalid,
            "back again"
        );
        assert_eq!(verdict(vec![last(gone(1, 9000))]), Verdict::Unknown, "nobody looked at n2");
    }

    #[test]
    fn what_is_spared_stays() {
        let cancel = |outcome| op(1, 20 * MS, 21 * MS, Call::Cancel, outcome);
        let spared = cancel(key(State::Disabled, 1));
        assert_eq!(verdict(vec![spared.clone()]), Verdict::Valid, "the other checkers see that it stays");
        assert_eq!(verdict([vec![spared.clone()], in_the_end()].concat()), Verdict::Invalid);
        assert_eq!(verdict(vec![cancel(doubt())]), Verdict::Valid);
        assert_eq!(verdict([vec![cancel(doubt())], in_the_end()].concat()), Verdict::Valid);
        let of = |ops: &[Op]| doomed(&[&begun()[..], ops].concat()).len();
        assert_eq!((of(&[]), of(&[spared]), of(&[cancel(doubt())])), (1, 0, 1));
    }
}
