//! Revocation in real time (promise P2), by intervals: no search, no limit on length.
//!
//! A use U breaks it when an acknowledged revocation D has `D.ended < U.invoked` and no enabling E, acknowledged or in doubt,
//! has `E.ended > D.invoked` and `E.invoked < U.ended`. The converse, a use denied though enabled, is judged by the same rule.

use std::collections::BTreeMap;

use super::{Finding, tell};
use crate::history::{Call, Op, Outcome};

/// Judges every use of every key.
pub fn check(ops: &[Op]) -> Finding {
    let mut keys: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in ops {
        if let Some(key) = &op.key {
            keys.entry(key).or_default().push(op);
        }
    }
    let (mut broken, mut checked) = (Vec::new(), 0);
    for (key, ops) in keys {
        let settings = |revoke: bool| ops.iter().copied().filter(move |o| o.is_ok() && sets(&o.call, revoke));
        let revoking: Vec<&Op> = ops.iter().copied().filter(|o| o.may_have_happened() && sets(&o.call, true)).collect();
        let forbidden = Rule::new(settings(true), &enabling(&ops));
        let allowed = Rule::new(settings(false), &revoking);
        for op in ops.iter().copied().filter(|o| o.call.is_use()) {
            checked += 1;
            let (rule, what) = match &op.outcome {
                Outcome::Ok(_) => (&forbidden, "a use succeeded after its key's revocation had been acknowledged"),
                Outcome::Fail(why) if why == "KEY_DISABLED" || why == "KEY_PENDING_DELETION" => {
                    (&allowed, "a use was denied though the key had been enabled, and nobody revoked it since")
                }
                _ => continue,
            };
            if let Some(by) = rule.broken_by(op) {
                broken.push(format!("key {key}: {what}\n    {}\n    {}", tell(by), tell(op)));
            }
        }
    }
    Finding::new("revocation", checked, broken, vec![])
}

/// Whether the call revokes the key, or else enables it for certain.
fn sets(call: &Call, revoke: bool) -> bool {
    if revoke { call.revokes() } else { *call == Call::Enable }
}

/// What enabled the key, or may have: so also what made it as it was before its deletion was scheduled.
fn enabling<'a>(ops: &[&'a Op]) -> Vec<&'a Op> {
    let enables = |o: &&Op| o.may_have_happened() && matches!(o.call, Call::Enable | Call::Recover);
    ops.iter().copied().filter(enables).collect()
}

/// How many uses were invoked after an acknowledged revocation that nothing had lifted, and were decided by a node (not
/// merely unanswered): the races that were run.
pub fn races(ops: &[Op]) -> usize {
    let mut keys: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in ops {
        if let Some(key) = &op.key {
            keys.entry(key).or_default().push(op);
        }
    }
    let decided = |o: &Op| o.is_ok() || matches!(&o.outcome, Outcome::Fail(why) if why.starts_with("KEY_"));
    let of_key = |ops: &Vec<&Op>| {
        let rule = Rule::new(ops.iter().copied().filter(|o| o.is_ok() && sets(&o.call, true)), &enabling(ops));
        ops.iter().filter(|o| o.call.is_use() && decided(o) && rule.broken_by(o).is_some()).count()
    };
    keys.values().map(of_key).sum()
}

/// Settings that hold from their end until something lifts them.
struct Rule<'a> {
    /// By end: the setting, and the latest end of a call that it binds, over all settings that ended no later.
    bounds: Vec<(u64, u64, &'a Op)>,
}

impl<'a> Rule<'a> {
    fn new(settings: impl Iterator<Item = &'a Op>, lifting: &[&Op]) -> Self {
        let mut bounds: Vec<_> = settings
            .map(|d| {
                let lifted = lifting.iter().filter(|e| e.ended > d.invoked).map(|e| e.invoked).min();
                (d.ended, lifted.unwrap_or(u64::MAX), d)
            })
            .collect();
        bounds.sort_unstable_by_key(|b| b.0);
        for i in 1..bounds.len() {
            if bounds[i].1 < bounds[i - 1].1 {
                let (_, bound, by) = bounds[i - 1];
                (bounds[i].1, bounds[i].2) = (bound, by);
            }
        }
        Self { bounds }
    }

    /// The setting that binds the call from before its invocation to its end.
    fn broken_by(&self, op: &Op) -> Option<&'a Op> {
        let before = self.bounds.partition_point(|b| b.0 < op.invoked);
        let (_, bound, by) = self.bounds[..before].last()?;
        (op.ended != u64::MAX && *bound >= op.ended).then_some(*by)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;
    use crate::history::State;

    fn disable(at: u64, end: u64) -> Op {
        op(1, at, end, Call::Disable, key(State::Disabled, 1))
    }
    fn enable(at: u64, end: u64, outcome: Outcome) -> Op {
        op(1, at, end, Call::Enable, outcome)
    }
    fn used(at: u64, end: u64) -> Op {
        op(3, at, end, Call::Encrypt { text: at }, encrypted(1))
    }
    fn denied(at: u64, end: u64) -> Op {
        op(3, at, end, Call::Decrypt { text: at }, refused("KEY_DISABLED"))
    }

    #[test]
    fn good_histories_are_accepted() {
        let enabled = || key(State::Enabled, 1);
        let good = [
            vec![disable(0, 10), used(9, 20)],
            vec![disable(0, 10), denied(11, 20)],
            vec![disable(0, 10), enable(12, 20, enabled()), used(15, 25)],
            vec![disable(0, 10), enable(5, 20, enabled()), used(11, 12)],
            // In doubt: may take effect much later.
            vec![disable(0, 10), enable(12, 0, doubt()), used(90, 95)],
            // In doubt: no promise was made.
            vec![op(1, 0, 0, Call::Disable, doubt()), used(11, 12)],
            vec![enable(0, 10, enabled()), op(1, 3, 0, Call::Schedule, doubt()), denied(50, 60)],
            // As before: enabled, or not.
            vec![disable(0, 10), op(1, 11, 20, Call::Recover, enabled()), used(15, 25)],
            vec![op(1, 0, 10, Call::Recover, key(State::Disabled, 1)), denied(11, 20)],
            vec![disable(0, 10), op(3, 11, 12, Call::Encrypt { text: 1 }, refused("UNAVAILABLE"))],
        ];
        for (i, ops) in good.iter().enumerate() {
            assert_eq!(check(ops).verdict, Verdict::Valid, "{i}");
        }
    }

    #[test]
    fn bad_histories_are_rejected() {
        let enabled = || key(State::Enabled, 1);
        let bad = [
            vec![disable(0, 10), used(11, 12)],
            vec![op(1, 0, 10, Call::Schedule, key(State::PendingDeletion, 1)), used(11, 12)],
            vec![enable(0, 5, enabled()), disable(6, 10), used(11, 12)],
            // An enabling that was refused lifts nothing.
            vec![disable(0, 10), enable(11, 12, refused("UNAVAILABLE")), used(13, 14)],
            // Lifted in between, but revoked again.
            vec![disable(0, 10), enable(11, 12, enabled()), disable(13, 14), used(15, 16)],
            // An earlier revocation still holds though a later one overlaps an enabling that began too late.
            vec![disable(0, 10), used(11, 12), enable(13, 14, enabled())],
            vec![enable(0, 10, enabled()), denied(11, 12)],
        ];
        for (i, ops) in bad.iter().enumerate() {
            let finding = check(ops);
            assert_eq!((finding.verdict, finding.violations), (Verdict::Invalid, 1), "{i}");
        }
        assert_eq!(check(&[disable(0, 10), of(used(11, 12), "other")]).verdict, Verdict::Valid);
        assert_eq!(races(&[disable(0, 10), denied(11, 12), denied(5, 6)]), 1);
    }

    proptest! {
        /// The interval logic against the definition, word for word.
        #[test]
        fn the_rule_is_its_definition(spec in proptest::collection::vec((0..4_u8, 0..40_u64, 1..9_u64), 0..12)) {
            let ops: Vec<Op> = spec.into_iter().map(|(kind, at, long)| match kind {
                0 => disable(2 * at, 2 * (at + long) + 1),
                1 => enable(2 * at, 2 * (at + long) + 1, key(State::Enabled, 1)),
                2 => enable(2 * at, 0, doubt()),
                _ => used(2 * at, 2 * (at + long) + 1),
            }).collect();
            let is_bad = |u: &Op| ops.iter().filter(|d| d.call == Call::Disable && d.ended < u.invoked)
                .any(|d| !ops.iter().any(|e| e.call == Call::Enable && e.ended > d.invoked && e.invoked < u.ended));
            let bad = ops.iter().filter(|u| u.call.is_use() && is_bad(u)).count();
            prop_assert_eq!(check(&ops).violations, bad as u64);
        }
    }
}
