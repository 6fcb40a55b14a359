//! What the requests of one principal may take in memory at a time, so that nobody's requests leave too little for the
//! others'.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::response::Response;
use http_body_util::BodyExt;
use quorate_service::core::principal::Principal;

/// For the requests of one principal that are under way, in bytes; and for those of all strangers together.
const OF_ONE_MAX: usize = 16 * 1024 * 1024;
const OF_STRANGERS_MAX: usize = 4 * 1024 * 1024;

/// Whose requests: a principal's, or those of everybody without a certificate.
pub type Whose = Option<Principal>;

/// What is taken, by principal.
#[derive(Default)]
pub struct Budget(Mutex<HashMap<Whose, usize>>);

/// A part of a principal's budget; given back when dropped.
pub struct Reserved {
    budget: Arc<Budget>,
    whose: Whose,
    bytes: usize,
}

impl Budget {
    /// Takes `bytes`, if so much is left.
    pub fn take(self: &Arc<Self>, whose: Whose, bytes: usize) -> Option<Reserved> {
        let mut reserved = Reserved { budget: self.clone(), whose, bytes: 0 };
        reserved.grow(bytes).then_some(reserved)
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Whose, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// Takes `bytes` more; false, and nothing is taken, if so much is not left.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let max = if self.whose.is_some() { OF_ONE_MAX } else { OF_STRANGERS_MAX };
        let mut taken = self.budget.taken();
        let of_one = taken.get(&self.whose).copied().unwrap_or(0);
        let Some(now) = of_one.checked_add(bytes).filter(|now| *now <= max) else { return false };
        match taken.get_mut(&self.whose) {
            Some(of_one) => *of_one = now,
            None => drop(taken.insert(self.whose.clone(), now)),
        }
        self.bytes += bytes;
        true
    }

    /// The answer, which holds it until the caller has taken the last of it, or given up.
    pub fn until_taken(self, response: Response) -> Response {
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _ = &self;
                frame
            }))
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut taken = self.budget.taken();
        let Some(of_one) = taken.get_mut(&self.whose) else { return };
        *of_one = of_one.saturating_sub(self.bytes);
        if *of_one == 0 {
            taken.remove(&self.whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_service::core::principal::Role;

    use super::*;

    fn whose(n: usize) -> Whose {
        (n > 0).then(|| Principal::certificate(Role::User, format!("user-{n}").parse().unwrap()))
    }

    #[test]
    fn one_who_has_taken_all_leaves_the_others_theirs() {
        let budget = Arc::<Budget>::default();
        let mut all = budget.take(whose(1), OF_ONE_MAX - 1).unwrap();
        assert!(budget.take(whose(1), 2).is_none() && !all.grow(2));
        assert!(!all.grow(usize::MAX), "no number is too high to be refused");
        assert!(budget.take(whose(2), OF_ONE_MAX).is_some());
        assert!(budget.take(whose(0), OF_STRANGERS_MAX).is_some());
        assert!(all.grow(1));
        drop(all);
        assert!(budget.take(whose(1), OF_ONE_MAX).is_some());
        assert!(budget.taken().is_empty(), "nothing is kept of who has gone");
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_is_held_and_never_too_much(
            steps in prop::collection::vec((0usize..3, 0..OF_ONE_MAX / 2, any::<bool>()), 1..100),
        ) {
            let budget = Arc::<Budget>::default();
            let mut reserved: Vec<Reserved> = Vec::new();
            for (n, bytes, back) in steps {
                if back {
                    reserved.pop();
                }
                let before = budget.taken().get(&whose(n)).copied().unwrap_or(0);
                let max = if n == 0 { OF_STRANGERS_MAX } else { OF_ONE_MAX };
                let given = budget.take(whose(n), bytes);
                prop_assert_eq!(given.is_some(), before + bytes <= max);
                reserved.extend(given);
                for n in 0..3 {
                    let sum: usize = reserved.iter().filter(|h| h.whose == whose(n)).map(|h| h.bytes).sum();
                    prop_assert_eq!(budget.taken().get(&whose(n)).copied().unwrap_or(0), sum);
                }
            }
            reserved.clear();
            prop_assert!(budget.taken().is_empty());
        }
    }
}
