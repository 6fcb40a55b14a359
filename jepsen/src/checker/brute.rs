//! Linearizability by trying every order: slow and plain, to check the fast checker against.

use super::object::Object;

/// A call of one object with its interval.
#[derive(Clone, Debug)]
pub struct Interval<Step> {
    /// When it was invoked.
    pub invoked: u64,
    /// When it ended; `u64::MAX` = open.
    pub ended: u64,
    /// What it says.
    pub step: Step,
}

/// Whether some order of the calls, each between its invocation and its end, explains every answer. Time is exponential
/// in the number of calls that overlap.
pub fn linearizable<O: Object>(calls: &[Interval<O::Step>]) -> bool {
    fn go<O: Object>(object: O, left: &mut Vec<&Interval<O::Step>>) -> bool {
        // Whoever comes next must have been invoked before any of the others ended.
        let Some(first_end) = left.iter().map(|c| c.ended).min() else { return true };
        for i in 0..left.len() {
            if left[i].invoked <= first_end
                && let Some(next) = object.after(&left[i].step)
            {
                let call = left.swap_remove(i);
                let found = go(next, left);
                left.push(call);
                let end = left.len() - 1;
                left.swap(i, end);
                if found {
                    return true;
                }
            }
        }
        false
    }
    go(O::default(), &mut calls.iter().collect())
}
