//! Names that many clients share, few at a time.

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::Context;

/// A name is replaced after so many calls: long enough for histories with depth, short enough for the search.
const CALLS_MAX: u32 = 250;
/// … or so many seconds, so that not too many calls in doubt gather.
const AGE_MAX: u64 = 20;

/// The names in use.
pub struct Registers(Vec<Slot>);

struct Slot {
    number: u64,
    since: Instant,
    calls: u32,
}

impl Slot {
    fn new(context: &Context) -> Self {
        Self { number: context.number(), since: Instant::now(), calls: 0 }
    }
}

impl Registers {
    /// So many at a time.
    pub fn new(context: &Context, count: usize) -> Self {
        Self((0..count).map(|_| Slot::new(context)).collect())
    }

    /// The number of one of them, for one more call; and whether it is new.
    pub fn any(&mut self, context: &Context, rng: &mut StdRng) -> (u64, bool) {
        let place = rng.random_range(0..self.0.len());
        let slot = &mut self.0[place];
        slot.calls += 1;
        let worn = slot.calls > CALLS_MAX || slot.since.elapsed().as_secs() > AGE_MAX;
        if worn {
            *slot = Slot::new(context);
        }
        (slot.number, worn)
    }
}
