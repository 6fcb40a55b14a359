//! Imported material whose time is over is used by nobody, and erased; but not before. (That it is the same everywhere and at any
//! time, or missing, is `linear`'s.)

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, tell};
use crate::history::{Answer, Call, Op, Outcome};

/// A use is taken so long after the end at most: the clocks of nodes may be wrong, and the cluster's lags.
const USED_MS: u64 = 30_000;
/// … and the material is erased within this time, for which the last reads wait.
const ERASED_MS: u64 = 180_000;

/// Judges every import with an end. `began_ms` as in [`super::due::check`].
pub fn check(ops: &[Op], began_ms: u64) -> Finding {
    let ms = |ns: u64| began_ms.saturating_add(ns / 1_000_000);
    let (mut broken, mut checked) = (Vec::new(), 0);
    let mut keys: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in ops {
        let Some(key) = &op.key else { continue };
        keys.entry(key).or_default().push(op);
        if let Outcome::Ok(Answer::Versions { states, ends }) = &op.outcome
            && *ends != 0
        {
            checked += 1;
            let erased = states.contains('-');
            if erased && ms(op.ended) < *ends {
                broken.push(format!("the material of key {key} was erased before its end: {}", tell(op)));
            } else if !erased && ms(op.invoked) > ends + ERASED_MS {
                broken.push(format!("the material of key {key} was not erased at its end: {}", tell(op)));
            }
        }
    }
    for (key, ops) in keys {
        for import in &ops {
            let Outcome::Ok(Answer::Material { ends: ends @ 1.., .. }) = import.outcome else { continue };
            checked += 1;
            // Until it may have another end, or none.
            let others = ops.iter().filter(|o| changes(o) && o.index != import.index && o.ended > import.invoked);
            let until = others.map(|o| o.invoked).min().unwrap_or(u64::MAX);
            let late = |o: &&&Op| o.call.is_use() && o.is_ok() && ms(o.invoked) > ends + USED_MS && o.ended < until;
            for used in ops.iter().filter(late) {
                let told = format!("{}\n    {}", tell(import), tell(used));
                broken.push(format!("the material of key {key} was used after its end\n    {told}"));
            }
        }
    }
    Finding::new("material", checked, broken, vec![])
}

/// How many keys' material was seen to be erased at its end.
pub fn erased(ops: &[Op]) -> usize {
    let gone =
        |o: &&Op| matches!(&o.outcome, Outcome::Ok(Answer::Versions { states, ends: 1.. }) if states.contains('-'));
    ops.iter().filter(gone).filter_map(|o| o.key.as_deref()).collect::<BTreeSet<_>>().len()
}

/// Whether it puts another end to the material, or none, or may.
fn changes(op: &Op) -> bool {
    op.may_have_happened() && matches!(op.call, Call::Import { .. } | Call::DeleteMaterial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;

    const MS: u64 = 1_000_000;
    const BEGAN: u64 = 1_800_000_000_000;

    /// Imported at 10 ms, to be erased 5000 ms after the beginning.
    fn import(at_ms: u64, ends: u64) -> Op {
        let told = Outcome::Ok(Answer::Material { material: 1, ends });
        op(1, at_ms * MS, (at_ms + 1) * MS, Call::Import { material: 1, seconds: 5 }, told)
    }
    fn used(at_ms: u64) -> Op {
        op(2, at_ms * MS, (at_ms + 1) * MS, Call::Encrypt { text: at_ms }, encrypted(1))
    }
    fn listed(at_ms: u64, states: &str, ends: u64) -> Op {
        let told = Outcome::Ok(Answer::Versions { states: states.into(), ends });
        op(2, at_ms * MS, (at_ms + 1) * MS, Call::ListVersions, told)
    }
    fn verdict(ops: Vec<Op>) -> Verdict {
        check(&[vec![import(10, BEGAN + 5000)], ops].concat(), BEGAN).verdict
    }

    #[test]
    fn material_lasts_until_its_end_and_no_longer() {
        let delete = |at_ms| op(1, at_ms * MS, (at_ms + 1) * MS, Call::DeleteMaterial, doubt());
        let end = BEGAN + 5000;
        for good in [
            vec![used(4000), used(5100), listed(4000, "a", end), listed(6000, "-", end), listed(20_000, "a", end)],
            // Imported again meanwhile, without an end or with another; or deleted, perhaps.
            vec![import(100, 0), used(60_000), listed(600_000, "a", 0)],
            vec![import(100, BEGAN + 90_000), used(60_000)],
            vec![delete(100), listed(200, "-", 0), used(60_000)],
        ] {
            assert_eq!(verdict(good.clone()), Verdict::Valid, "{good:?}");
        }
        assert_eq!((erased(&[listed(6000, "-", end)]), erased(&[listed(200, "-", 0), listed(300, "a", end)])), (1, 0));
        for bad in [used(35_100), listed(1000, "-", end), listed(186_000, "a", end)] {
            assert_eq!(verdict(vec![bad.clone()]), Verdict::Invalid, "{bad:?}");
        }
    }
}
