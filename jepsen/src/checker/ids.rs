//! Ids are given once: no id to two creates, no two ids to one token.

use std::collections::BTreeMap;

use super::{Finding, tell};
use crate::history::{Call, Op};

/// Judges every acknowledged create.
pub fn check(ops: &[Op]) -> Finding {
    let mut by_id: BTreeMap<&str, (u64, &Op)> = BTreeMap::new();
    let mut by_token: BTreeMap<u64, &Op> = BTreeMap::new();
    let (mut broken, mut checked) = (Vec::new(), 0);
    for op in ops.iter().filter(|o| o.is_ok()) {
        let (Call::Create { token, .. }, Some(key)) = (&op.call, &op.key) else { continue };
        checked += 1;
        let (other, first) = by_id.entry(key).or_insert((*token, op));
        if other != token {
            broken.push(format!("key {key} was given to two creates:\n    {}\n    {}", tell(first), tell(op)));
        }
        let first = by_token.entry(*token).or_insert(op);
        if first.key != op.key {
            broken.push(format!("token {token} made two keys:\n    {}\n    {}", tell(first), tell(op)));
        }
    }
    Finding::new("ids", checked, broken, vec![])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;
    use crate::history::{Outcome, State};

    fn made(at: u64, token: u64, id: &str) -> Op {
        of(op(1, at, at + 1, Call::create(token), key(State::Enabled, 1)), id)
    }

    #[test]
    fn one_id_for_each_token() {
        let lost = op(1, 4, 5, Call::create(3), Outcome::Info("UNKNOWN_OUTCOME".into()));
        let good = [made(0, 1, "a"), made(2, 2, "b"), lost, made(6, 3, "c"), made(8, 3, "c")];
        assert_eq!(check(&good).verdict, Verdict::Valid);
        assert_eq!(check(&[made(0, 1, "a"), made(2, 2, "a")]).verdict, Verdict::Invalid);
        assert_eq!(check(&[made(0, 1, "a"), made(2, 1, "b")]).verdict, Verdict::Invalid);
    }
}
