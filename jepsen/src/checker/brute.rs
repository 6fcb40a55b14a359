//! Linearizability by trying every order: slow and plain, to check the fast checker against.

use super::model::{Key, Step};

/// A call of one key with its interval.
#[derive(Clone, Debug)]
pub struct Interval {
    /// When it was invoked.
    pub invoked: u64,
    /// When it ended; `u64::MAX` = open.
    pub ended: u64,
    /// What it says.
    pub step: Step,
}

/// Whether some order of the calls, each between its invocation and its end, explains every answer. Time is exponential
/// in the number of calls that overlap.
pub fn linearizable(calls: &[Interval]) -> bool {
    fn go(key: Key, left: &mut Vec<&Interval>) -> bool {
        // Whoever comes next must have been invoked before any of the others ended.
        let Some(first_end) = left.iter().map(|c| c.ended).min() else { return true };
        for i in 0..left.len() {
            if left[i].invoked <= first_end
                && let Some(next) = key.after(&left[i].step)
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
    go(Key::default(), &mut calls.iter().collect())
}
