//! A removed member is out: from the acknowledgement of its removal on it answers no call about a key.

use std::collections::BTreeMap;

use super::{Finding, tell};
use crate::history::{Call, Op};

/// Judges every call at a node that was removed. Numbers of nodes are not given twice: who joins later is another node.
pub fn check(ops: &[Op]) -> Finding {
    let mut removed: BTreeMap<u32, &Op> = BTreeMap::new();
    for op in ops.iter().filter(|o| o.is_ok()) {
        if let Call::Remove { member } = op.call {
            let first = removed.entry(member).or_insert(op);
            if op.ended < first.ended {
                *first = op;
            }
        }
    }
    let mut asked = 0;
    let mut broken = Vec::new();
    for op in ops.iter().filter(|o| !o.call.is_operators()) {
        let Some(removal) = removed.get(&op.node).filter(|removal| removal.ended < op.invoked) else { continue };
        asked += 1;
        if op.is_ok() {
            broken.push(format!("a removed member answered:\n    {}\n    {}", tell(removal), tell(op)));
        }
    }
    Finding::new("membership", asked, broken, vec![])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;
    use crate::history::{Answer, Outcome, State};

    fn removal(member: u32, at: u64, outcome: Outcome) -> Op {
        Op { key: None, ..op(1, at, at + 2, Call::Remove { member }, outcome) }
    }
    fn done() -> Outcome {
        Outcome::Ok(Answer::Done)
    }
    fn used(node: u32, at: u64) -> Op {
        op(node, at, at + 10, Call::Encrypt { text: at }, encrypted(1))
    }

    #[test]
    fn a_removed_member_answers_nothing() {
        for good in [
            vec![removal(2, 10, done()), used(1, 20)],
            // Invoked before the acknowledgement.
            vec![removal(2, 10, done()), used(2, 11)],
            vec![removal(2, 10, doubt()), used(2, 20)],
            vec![removal(2, 10, refused("WRONG_STATE")), used(2, 20)],
            vec![removal(2, 10, done()), op(2, 20, 21, Call::Encrypt { text: 1 }, refused("UNAVAILABLE"))],
        ] {
            assert_eq!(check(&good).verdict, Verdict::Valid, "{good:?}");
        }
        for bad in [
            vec![removal(2, 10, done()), used(2, 20)],
            vec![removal(2, 10, done()), op(2, 20, 21, Call::Describe, key(State::Enabled, 1))],
            // The first acknowledgement counts.
            vec![removal(2, 10, done()), used(2, 20), removal(2, 40, done())],
            vec![removal(2, 10, doubt()), removal(2, 20, done()), used(2, 30)],
        ] {
            assert_eq!(check(&bad).violations, 1, "{bad:?}");
        }
    }
}
