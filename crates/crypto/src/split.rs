//! Splitting UK and putting it together again (key-hierarchy §5): Shamir's scheme over GF(2^8) with
//! `shamirsecretsharing`'s key shares.
//!
//! That crate wipes nothing and draws coefficients from a thread-local generator whose state would re-create them; so
//! each call runs on a thread of its own that scrubs the stack it used and exits, taking the generator with it. What it
//! left on the heap is wiped by the zero-on-free allocator. It also accepts what must not be: every parameter is
//! checked here first.

use std::io;
use std::thread;

use quorate_core::stack::scrubbed;
use shamirsecretsharing::hazmat;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::{Secret, SecretBytes};

/// In machine words: 64 KiB.
const STACK_SCRUB_LEN: usize = 64 * 1024 / size_of::<usize>();
const STACK_LEN: usize = 512 * 1024;

/// Splitting or combining did not happen.
#[derive(Debug, Error)]
pub enum SplitError {
    /// No thread could be started.
    #[error("no thread could be started to handle the shares ({0}): raise the limit of processes and try again")]
    Thread(#[from] io::Error),
    /// t and n, or the shares' numbers, are impossible: a bug in the caller.
    #[error("impossible share numbers: 1 to 255 different shares are needed, and no threshold above them")]
    Numbers,
}

/// y of each share, for x from 1 to `total`.
pub(crate) fn split(uk: &Secret<32>, threshold: u8, total: u8) -> Result<Vec<Secret<32>>, SplitError> {
    if threshold == 0 || threshold > total {
        return Err(SplitError::Numbers);
    }
    let shares = on_one_shot_thread(|| {
        let shares = Zeroizing::new(hazmat::create_keyshares(uk.expose(), total, threshold).ok()?);
        let expected = (1..=total).map(Some);
        if !shares.iter().map(|s| s.first().copied()).eq(expected) {
            return None;
        }
        shares.iter().map(|s| Secret::from_slice(&s[1..])).collect::<Option<Vec<_>>>()
    })?;
    shares.ok_or(SplitError::Numbers)
}

/// UK from the (x, y) of at least t shares. Nothing tells whether it is the right one: box_Q will.
pub(crate) fn combine<'a>(shares: impl IntoIterator<Item = (u8, &'a Secret<32>)>) -> Result<Secret<32>, SplitError> {
    let mut key_shares: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(Vec::new());
    for (x, y) in shares {
        if x == 0 || key_shares.iter().any(|s| s[0] == x) {
            return Err(SplitError::Numbers);
        }
        let mut share = Vec::with_capacity(hazmat::KEYSHARE_SIZE);
        share.push(x);
        share.extend_from_slice(y.expose());
        key_shares.push(share);
    }
    if key_shares.is_empty() {
        return Err(SplitError::Numbers);
    }
    let uk = on_one_shot_thread(|| {
        let uk: SecretBytes = Zeroizing::new(hazmat::combine_keyshares(&key_shares).ok()?);
        Secret::from_slice(&uk)
    })?;
    uk.ok_or(SplitError::Numbers)
}

/// Runs `f` on a thread that is made for it, scrubs its stack, and exits before this returns.
fn on_one_shot_thread<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("shares".into())
            .stack_size(STACK_LEN)
            .spawn_scoped(scope, || scrubbed::<STACK_SCRUB_LEN, _>(f))?;
        thread.join().map_err(|_| io::Error::other("the thread that handles the shares panicked"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pick(ys: &[Secret<32>], xs: &[u8]) -> Result<Secret<32>, SplitError> {
        combine(xs.iter().map(|x| (*x, &ys[usize::from(*x) - 1])))
    }

    #[test]
    fn numbers_are_checked() {
        let uk = Secret::from_array([1; 32]);
        assert!(split(&uk, 0, 3).is_err());
        assert!(split(&uk, 4, 3).is_err());
        assert!(split(&uk, 0, 0).is_err());
        let ys = split(&uk, 2, 3).unwrap();
        assert!(combine([]).is_err());
        assert!(combine([(0, &ys[0]), (2, &ys[1])]).is_err());
        assert!(combine([(2, &ys[1]), (2, &ys[1])]).is_err());
    }

    #[test]
    fn the_largest_set_works() {
        let uk = Secret::from_array([3; 32]);
        let ys = split(&uk, 255, 255).unwrap();
        assert_eq!(ys.len(), 255);
        assert!(pick(&ys, &(1..=255).collect::<Vec<_>>()).unwrap().ct_eq(&uk));
        assert!(!pick(&ys, &(2..=255).collect::<Vec<_>>()).unwrap().ct_eq(&uk));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_t_of_n_combine_and_fewer_never_do(
            uk: [u8; 32],
            (n, t, order) in (2u8..=12).prop_flat_map(|n| {
                (Just(n), 2..=n, Just((1..=n).collect::<Vec<u8>>()).prop_shuffle())
            }),
        ) {
            let uk = Secret::from_array(uk);
            let ys = split(&uk, t, n).unwrap();
            prop_assert_eq!(ys.len(), usize::from(n));
            prop_assert!(pick(&ys, &order[..usize::from(t)]).unwrap().ct_eq(&uk));
            prop_assert!(pick(&ys, &order).unwrap().ct_eq(&uk));
            prop_assert!(!pick(&ys, &order[..usize::from(t) - 1]).unwrap().ct_eq(&uk));
        }
    }
}
