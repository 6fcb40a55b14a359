//! What is known about a key and never changes, or only with its version: its description, when it was created, when each
//! version was made. (Its state and version at each moment are `linear`'s.)

use std::collections::BTreeMap;

use super::{Finding, tell};
use crate::history::{Answer, Call, Op, Outcome};

#[derive(Default)]
struct Known<'a> {
    created: Option<(u64, &'a Op)>,
    /// By version: when it was made.
    rotated: BTreeMap<u32, (u64, &'a Op)>,
}

/// Judges everything that was told about each key.
pub fn check(ops: &[Op]) -> Finding {
    let mut tokens: BTreeMap<&str, u64> = BTreeMap::new();
    for op in ops.iter().filter(|o| o.is_ok()) {
        if let (Call::Create { token, .. }, Some(key)) = (&op.call, &op.key) {
            tokens.insert(key, *token);
        }
    }
    let mut keys: BTreeMap<&str, Known> = BTreeMap::new();
    let (mut broken, mut checked) = (Vec::new(), 0);
    for op in ops {
        let (Some(key), Outcome::Ok(Answer::Metadata { version, token, created, rotated, .. })) =
            (&op.key, &op.outcome)
        else {
            continue;
        };
        checked += 1;
        if tokens.get(key.as_str()).is_some_and(|made| made != token) {
            broken.push(format!("key {key}: not the description that it was created with: {}", tell(op)));
        }
        let known = keys.entry(key).or_default();
        let (first, by) = known.created.get_or_insert((*created, op));
        if first != created {
            broken.push(format!("key {key} was created at two times:\n    {}\n    {}", tell(by), tell(op)));
        }
        let (first, by) = known.rotated.entry(*version).or_insert((*rotated, op));
        if first != rotated {
            broken.push(format!("a version of key {key} was made at two times:\n    {}\n    {}", tell(by), tell(op)));
        }
    }
    for (key, known) in keys {
        for ((_, (before, a)), (_, (after, b))) in known.rotated.iter().zip(known.rotated.iter().skip(1)) {
            if before > after {
                broken.push(format!(
                    "key {key}: a version is older than the one before it:\n    {}\n    {}",
                    tell(a),
                    tell(b)
                ));
            }
        }
    }
    Finding::new("metadata", checked, broken, vec![])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;
    use crate::history::State;

    fn told(at: u64, version: u32, token: u64, created: u64, rotated: u64) -> Op {
        let answer = Answer::Metadata { state: State::Enabled, version, token, created, rotated };
        op(1, at, at + 1, Call::Inspect, Outcome::Ok(answer))
    }

    #[test]
    fn what_never_changes_stays() {
        let begun = || vec![create(0), told(10, 1, 1, 50, 0), told(20, 2, 1, 50, 60)];
        assert_eq!(check(&begun()).verdict, Verdict::Valid);
        assert_eq!(
            check(&[begun(), vec![told(30, 3, 1, 50, 60), told(40, 2, 1, 50, 60)]].concat()).verdict,
            Verdict::Valid
        );
        for bad in [
            told(30, 2, 7, 50, 60),
            told(30, 2, 0, 50, 60),
            told(30, 2, 1, 51, 60),
            told(30, 2, 1, 50, 61),
            told(30, 3, 1, 50, 59),
        ] {
            let finding = check(&[begun(), vec![bad]].concat());
            assert_eq!(finding.violations, 1, "{:?}", finding.details);
        }
    }
}
