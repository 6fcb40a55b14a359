//! One seed for everything that is chosen: each part draws from a stream of its own, so that adding a draw in one does
//! not change another.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The stream `name`, `number` of a run's seed.
///
/// The seed fixes which operations and faults are chosen, not how real processes interleave them.
pub fn stream(seed: u64, name: &str, number: u64) -> StdRng {
    // FNV-1a: stable for ever, which std's hasher does not promise.
    let bytes = seed.to_be_bytes().into_iter().chain(name.bytes()).chain(number.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    StdRng::seed_from_u64(hash)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, name, number| stream(seed, name, number).random::<u64>();
        assert_eq!(draw(1, "a", 0), draw(1, "a", 0));
        let all = [draw(1, "a", 0), draw(2, "a", 0), draw(1, "b", 0), draw(1, "a", 1)];
        assert!((1..4).all(|i| !all[..i].contains(&all[i])));
    }
}
