//! A node never says that quorate itself is at fault: an `INTERNAL` answer is a bug, whatever it did or did not do.

use super::{Finding, tell};
use crate::history::{Op, Outcome};

/// Judges every answer.
pub fn check(ops: &[Op]) -> Finding {
    let at_fault = |op: &&Op| matches!(&op.outcome, Outcome::Fail(why) | Outcome::Info(why) if why == "INTERNAL");
    let broken = ops.iter().filter(at_fault).map(|op| format!("an internal fault: {}", tell(op))).collect();
    Finding::new("answers", ops.len(), broken, vec![])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::hand::*;
    use crate::history::Call;

    #[test]
    fn a_fault_of_quorate_itself_is_rejected_and_any_other_refusal_is_not() {
        let used = |why: &str| vec![op(1, 2, 3, Call::Encrypt { text: 1 }, refused(why))];
        assert_eq!(check(&used("UNAVAILABLE")).verdict, Verdict::Valid);
        assert_eq!(check(&used("INTERNAL")).verdict, Verdict::Invalid);
        let open = vec![op(1, 2, 3, Call::Rotate, Outcome::Info("INTERNAL".into()))];
        assert_eq!(check(&open).verdict, Verdict::Invalid);
    }
}
