//! Nothing acknowledged is lost (promise P1): judged by the last reads, after every fault was healed and every node restarted.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Finding, tell};
use crate::history::{Answer, Call, Op, Outcome};

/// Reasons that say "it is not there", or not what it was.
const LOST: [&str; 5] = ["NOT_FOUND", "UNKNOWN_KEY", "TAMPERED", "WRONG_LINEAGE", "WRONG_KEY"];

/// Reasons that say of a version that it opens nothing any more.
const SPENT: [&str; 2] = ["COMPROMISED", "DESTROYED"];

/// Every acknowledged key is described by every member with at least its acknowledged version, and every acknowledged
/// ciphertext opens exactly, unless its version was compromised or destroyed. Of a key that was purged, or may have been,
/// nothing is expected.
pub fn check(ops: &[Op], members: &[u32]) -> Finding {
    let purges = |o: &&Op| o.call == Call::Purge && o.may_have_happened();
    let purged: HashSet<&str> = ops.iter().filter(purges).filter_map(|o| o.key.as_deref()).collect();
    let ops: Vec<&Op> = ops.iter().filter(|o| !o.key.as_deref().is_some_and(|key| purged.contains(key))).collect();
    let mut spent: HashSet<(&str, u32)> = HashSet::new();
    for op in ops.iter().filter(|o| o.may_have_happened()) {
        if let (Some(key), Call::Compromise { version } | Call::DestroyVersion { version }) = (&op.key, &op.call) {
            spent.insert((key, *version));
        }
    }
    // What was acknowledged: the highest version of each key, and each text.
    let mut versions: BTreeMap<&str, u32> = BTreeMap::new();
    let mut texts: BTreeMap<u64, &Op> = BTreeMap::new();
    for op in ops.iter().filter(|o| !o.last) {
        let (Some(key), Outcome::Ok(answer)) = (&op.key, &op.outcome) else { continue };
        match (&op.call, answer) {
            (Call::Create { .. } | Call::Rotate, Answer::Key { version, .. }) => {
                let known = versions.entry(key).or_default();
                *known = (*known).max(*version);
            }
            (call, Answer::Encrypted { .. }) => texts.extend(call.encrypts().map(|text| (text, *op))),
            _ => {}
        }
    }
    let (mut broken, mut undecided) = (Vec::new(), Vec::new());
    let mut described: HashSet<(&str, u32)> = HashSet::new();
    let mut opened: HashMap<u64, bool> = HashMap::new();
    for op in ops.iter().filter(|o| o.last) {
        let Some(key) = op.key.as_deref() else { continue };
        if let Outcome::Fail(why) = &op.outcome
            && LOST.contains(&why.as_str())
            && (versions.contains_key(key) || matches!(op.call, Call::Decrypt { text } if texts.contains_key(&text)))
        {
            broken.push(format!("acknowledged, and lost: {}", tell(op)));
            described.insert((key, op.node));
            if let Call::Decrypt { text } = op.call {
                opened.insert(text, false);
            }
            continue;
        }
        match (&op.call, &op.outcome) {
            (Call::Decrypt { text }, Outcome::Fail(why)) if SPENT.contains(&why.as_str()) => {
                let by = texts.get(text).map(|op| &op.outcome);
                if let Some(Outcome::Ok(Answer::Encrypted { version })) = by {
                    if !spent.contains(&(key, *version)) {
                        broken.push(format!("version {version} opens nothing, which nobody asked for: {}", tell(op)));
                    }
                    opened.insert(*text, false);
                }
            }
            (Call::Describe, Outcome::Ok(Answer::Key { version, .. })) => {
                described.insert((key, op.node));
                if let Some(known) = versions.get(key)
                    && version < known
                {
                    broken.push(format!("version {known} was acknowledged, and lost: {}", tell(op)));
                }
            }
            (Call::Decrypt { text }, Outcome::Ok(Answer::Decrypted { version, exact })) => {
                opened.insert(*text, true);
                let made = texts.get(text).map(|op| &op.outcome);
                if !exact {
                    broken.push(format!("a ciphertext opened to something else: {}", tell(op)));
                } else if let Some(Outcome::Ok(Answer::Encrypted { version: by })) = made
                    && by != version
                {
                    broken.push(format!("a ciphertext of version {by} opened under another: {}", tell(op)));
                }
            }
            _ => {}
        }
    }
    for key in versions.keys() {
        let missing: Vec<String> =
            members.iter().filter(|n| !described.contains(&(*key, **n))).map(|n| format!("n{n}")).collect();
        if !missing.is_empty() {
            undecided.push(format!("key {key} was not described in the end by {}", missing.join(", ")));
        }
    }
    undecided.extend(
        texts
            .iter()
            .filter(|(text, _)| !opened.contains_key(text))
            .map(|(_, op)| format!("never opened in the end: {}", tell(op))),
    );
    Finding::new("durability", versions.len() + texts.len(), broken, undecided)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;
    use crate::history::State;

    fn begun() -> Vec<Op> {
        let rotated = op(1, 4, 5, Call::Rotate, key(State::Enabled, 2));
        vec![create(0), op(1, 2, 3, Call::Encrypt { text: 9 }, encrypted(1)), rotated]
    }
    fn described(node: u32, version: u32) -> Op {
        last(op(node, 50, 51, Call::Describe, key(State::Enabled, version)))
    }
    fn opened(outcome: Outcome) -> Op {
        last(op(2, 60, 61, Call::Decrypt { text: 9 }, outcome))
    }
    fn verdict(ends: Vec<Op>) -> Verdict {
        check(&[begun(), ends].concat(), &[1, 2]).verdict
    }

    #[test]
    fn what_is_all_there_is_accepted() {
        let exact = || opened(decrypted(1, true));
        assert_eq!(verdict(vec![described(1, 2), described(2, 2), exact()]), Verdict::Valid);
        // A rotation in doubt may have happened.
        assert_eq!(verdict(vec![described(1, 3), described(2, 3), exact()]), Verdict::Valid);
    }

    #[test]
    fn what_is_lost_is_rejected() {
        let exact = || opened(decrypted(1, true));
        for lost in [
            vec![described(1, 2), described(2, 1), exact()],
            vec![described(1, 2), last(op(2, 50, 51, Call::Describe, refused("NOT_FOUND"))), exact()],
            vec![described(1, 2), described(2, 2), opened(decrypted(1, false))],
            vec![described(1, 2), described(2, 2), opened(decrypted(2, true))],
            vec![described(1, 2), described(2, 2), opened(refused("UNKNOWN_KEY"))],
            vec![described(1, 2), described(2, 2), opened(refused("TAMPERED"))],
        ] {
            assert_eq!(verdict(lost.clone()), Verdict::Invalid, "{lost:?}");
        }
    }

    #[test]
    fn what_was_spent_need_not_open_and_nothing_is_expected_of_a_purged_key() {
        let described = || vec![described(1, 2), described(2, 2)];
        for why in ["COMPROMISED", "DESTROYED"] {
            for call in [Call::Compromise { version: 1 }, Call::DestroyVersion { version: 1 }] {
                let spent = op(1, 6, 7, call, doubt());
                assert_eq!(verdict([vec![spent], described(), vec![opened(refused(why))]].concat()), Verdict::Valid);
            }
            let other = op(1, 6, 7, Call::Compromise { version: 2 }, Outcome::Ok(Answer::Done));
            assert_eq!(verdict([vec![other], described(), vec![opened(refused(why))]].concat()), Verdict::Invalid);
        }
        let purge = |outcome| vec![op(1, 8, 9, Call::Purge, outcome)];
        assert_eq!(verdict(purge(doubt())), Verdict::Valid);
        assert_eq!(verdict(purge(refused("WRONG_STATE"))), Verdict::Unknown, "it is still to be looked for");
    }

    #[test]
    fn what_was_not_looked_at_is_no_pass() {
        let exact = || opened(decrypted(1, true));
        for unseen in [
            vec![],
            vec![described(1, 2), exact()],
            vec![described(1, 2), described(2, 2)],
            vec![described(1, 2), described(2, 2), opened(refused("UNAVAILABLE"))],
            vec![described(1, 2), last(op(2, 50, 51, Call::Describe, refused("SEALED"))), exact()],
        ] {
            assert_eq!(verdict(unseen.clone()), Verdict::Unknown, "{unseen:?}");
        }
    }
}
