//! Ceremonies: a share that is not right is refused, and fewer than the threshold open nothing.

use std::collections::BTreeSet;

use super::{Finding, tell};
use crate::cluster::THRESHOLD;
use crate::history::{Answer, Call, Op, Outcome};

/// Judges every share that was entered.
pub fn check(ops: &[Op]) -> Finding {
    let entries = Entries::new(ops);
    let mut broken = Vec::new();
    let mut checked = 0;
    for op in ops {
        let Call::EnterShare { flaw, .. } = op.call else { continue };
        checked += 1;
        if flaw.is_some() && op.is_ok() {
            broken.push(format!("a share that is not right was taken: {}", tell(op)));
        } else if completes(op) && !entries.may_complete(op) {
            broken.push(format!("fewer shares than the threshold of {THRESHOLD} opened a node: {}", tell(op)));
        }
    }
    Finding::new("ceremony", checked, broken, vec![])
}

/// Calls by which nodes may have been opened: whole ceremonies, and shares with which there may have been enough.
pub fn opening(ops: &[Op]) -> Vec<&Op> {
    let entries = Entries::new(ops);
    let opens = |op: &&Op| match op.call {
        Call::Unseal => op.may_have_happened(),
        Call::EnterShare { flaw: None, .. } => op.may_have_happened() && entries.may_complete(op),
        _ => false,
    };
    ops.iter().filter(opens).collect()
}

/// Whether it is known to have completed a ceremony.
fn completes(op: &Op) -> bool {
    matches!(op.outcome, Outcome::Ok(Answer::Share { complete: true })) || op.call == Call::Unseal && op.is_ok()
}

/// All that may have been entered, and what completed a ceremony.
struct Entries<'a> {
    entered: Vec<&'a Op>,
    completed: Vec<&'a Op>,
}

impl<'a> Entries<'a> {
    fn new(ops: &'a [Op]) -> Self {
        let shares = |op: &&Op| matches!(op.call, Call::Unseal | Call::EnterShare { flaw: None, .. });
        let entered: Vec<&Op> = ops.iter().filter(shares).filter(|op| op.may_have_happened()).collect();
        let completed = entered.iter().copied().filter(|op| completes(op)).collect();
        Self { entered, completed }
    }

    /// Whether there may have been enough shares at the node with this one: those that may have been entered before, and
    /// that no ceremony in between has used up.
    fn may_complete(&self, op: &Op) -> bool {
        let mut shares = BTreeSet::new();
        for entry in self.entered.iter().filter(|e| e.node == op.node && e.invoked < op.ended) {
            let used_up = |done: &&Op| {
                let by_it = entry.index == done.index || entry.ended < done.invoked;
                done.node == op.node && by_it && done.ended < op.invoked
            };
            if self.completed.iter().any(used_up) {
                continue;
            }
            match entry.call {
                Call::EnterShare { share, .. } => _ = shares.insert(share),
                // A whole ceremony that may have stopped anywhere.
                _ if !entry.is_ok() => return true,
                _ => {}
            }
        }
        shares.len() >= THRESHOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;
    use crate::history::Flaw;

    fn share(node: u32, at: u64, number: u32, outcome: Outcome) -> Op {
        Op { key: None, ..op(node, at, at + 2, Call::EnterShare { share: number, flaw: None }, outcome) }
    }
    fn taken(complete: bool) -> Outcome {
        Outcome::Ok(Answer::Share { complete })
    }
    fn three(node: u32, at: u64, numbers: [u32; 3]) -> Vec<Op> {
        let entry = |i: u64| share(node, at + 10 * i, numbers[i as usize], taken(i == 2));
        (0..3).map(entry).collect()
    }

    #[test]
    fn the_threshold_opens_and_fewer_do_not() {
        for good in [
            three(1, 0, [4, 2, 5]),
            [three(1, 0, [1, 2, 3]), three(1, 100, [1, 2, 3])].concat(),
            vec![share(1, 0, 1, taken(false)), share(1, 10, 2, doubt()), share(1, 20, 3, taken(true))],
            vec![share(1, 0, 1, refused("SHARE_REFUSED"))],
            // Somebody else's ceremony that failed may have entered anything.
            vec![Op { key: None, ..op(1, 0, 1, Call::Unseal, doubt()) }, share(1, 10, 3, taken(true))],
        ] {
            assert_eq!(check(&good).verdict, Verdict::Valid, "{good:?}");
        }
        for bad in [
            vec![share(1, 0, 1, taken(false)), share(1, 10, 2, taken(true))],
            // The same share again is not another one.
            vec![share(1, 0, 1, taken(false)), share(1, 10, 1, taken(false)), share(1, 20, 2, taken(true))],
            // At another node.
            vec![share(1, 0, 1, taken(false)), share(2, 10, 2, taken(false)), share(1, 20, 3, taken(true))],
            // Used up by a ceremony that was completed.
            [three(1, 0, [1, 2, 3]), vec![share(1, 100, 4, taken(true))]].concat(),
            vec![share(1, 0, 1, taken(false)), share(1, 10, 2, refused("SHARE_REFUSED")), share(1, 20, 3, taken(true))],
        ] {
            assert_eq!(check(&bad).violations, 1, "{bad:?}");
        }
    }

    #[test]
    fn a_flawed_share_is_refused() {
        for flaw in Flaw::ALL {
            let entered = |outcome| op(1, 0, 1, Call::EnterShare { share: 1, flaw: Some(flaw) }, outcome);
            assert_eq!(check(&[entered(refused("SHARE_REFUSED"))]).verdict, Verdict::Valid);
            assert_eq!(check(&[entered(taken(false))]).verdict, Verdict::Invalid);
        }
    }

    #[test]
    fn what_may_have_opened_a_node() {
        let ops = [three(1, 0, [1, 2, 3]), vec![share(1, 100, 1, taken(false)), share(1, 110, 2, doubt())]].concat();
        assert_eq!(opening(&ops).iter().map(|op| op.invoked).collect::<Vec<_>>(), [20]);
    }
}
