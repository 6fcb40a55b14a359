//! What happens to the frames of one directed link. Pure: time and chance come from outside.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::frame::{corrupt, forge};

/// What waits longer than this because of a rate is dropped, as by a router whose queue is full.
const BACKLOG_MAX: Duration = Duration::from_secs(1);

/// How a link treats its frames. The default does nothing to them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Policy {
    /// Each frame is so late.
    pub delay: Duration,
    /// … and later by a random time below this: frames overtake each other.
    pub jitter: Duration,
    /// So many are lost, as a part of 1.
    pub loss: f64,
    /// So many arrive twice.
    pub duplicate: f64,
    /// In so many a bit is turned over; the receiver's checksum finds it.
    pub corrupt: f64,
    /// In so many a bit of the TCP payload is turned over, and the checksum is right: TLS must find it.
    pub forge: f64,
    /// Bytes per second; unlimited without.
    pub rate: Option<u64>,
    /// With so many pieces of a stream its direction of the connection ends in order. (Of connections, not of frames.)
    pub half_close: f64,
    /// With so many pieces of a stream the connection is reset. (Of connections, not of frames.)
    pub reset: f64,
}

/// Frames to which something happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Frames that came to the link.
    pub seen: u64,
    /// Dropped since the link was cut.
    pub cut: u64,
    /// Late by the policy's delay or jitter.
    pub delayed: u64,
    /// Arrived before one that was sent earlier.
    pub reordered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Arrived with a wrong bit and a wrong checksum.
    pub corrupted: u64,
    /// Arrived with a wrong bit and a right checksum.
    pub forged: u64,
    /// Had to wait for the rate, or were dropped since the queue was full.
    pub limited: u64,
    /// Ended their direction of a connection.
    pub half_closed: u64,
    /// Reset their connection.
    pub reset: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.seen += other.seen;
        self.cut += other.cut;
        self.delayed += other.delayed;
        self.reordered += other.reordered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.forged += other.forged;
        self.limited += other.limited;
        self.half_closed += other.half_closed;
        self.reset += other.reset;
    }
}

/// One direction between two places.
pub struct Link {
    rng: StdRng,
    cut: bool,
    policy: Option<Policy>,
    counts: Counts,
    /// When the last frame will have left, by the rate.
    free_at: Duration,
    /// When the latest frame is due.
    latest: Duration,
}

impl Link {
    /// A sound one.
    pub fn new(rng: StdRng) -> Self {
        let zero = Duration::ZERO;
        Self { rng, cut: false, policy: None, counts: Counts::default(), free_at: zero, latest: zero }
    }

    /// Cuts it, or restores it.
    pub fn set_cut(&mut self, cut: bool) {
        self.cut = cut;
    }

    /// From now on it treats frames so.
    pub fn set_policy(&mut self, policy: Option<Policy>) {
        self.policy = policy;
    }

    /// What happened since the last call, by the policy; the frames dropped by the cut are another matter.
    pub fn take_counts(&mut self) -> Counts {
        let cut = self.counts.cut;
        Counts { cut: 0, ..std::mem::replace(&mut self.counts, Counts { cut, ..Counts::default() }) }
    }

    /// Frames that the cut dropped since the last call.
    pub fn take_cut(&mut self) -> u64 {
        std::mem::take(&mut self.counts.cut)
    }

    /// A frame is sent at `now`: what arrives, and when.
    pub fn pass(&mut self, now: Duration, frame: &[u8]) -> Vec<(Duration, Vec<u8>)> {
        if self.cut {
            self.counts.cut += 1;
            return vec![];
        }
        let Some(policy) = &self.policy else { return vec![(now, frame.to_vec())] };
        let (rng, counts) = (&mut self.rng, &mut self.counts);
        counts.seen += 1;
        // Each frame draws the same numbers whatever happens to it, so that one kind of fault does not move another.
        let [loss, duplicate, corruption, forgery] = std::array::from_fn(|_| rng.random::<f64>());
        let late: [f64; 2] = std::array::from_fn(|_| rng.random::<f64>());
        let mut due = now;
        if let Some(rate) = policy.rate {
            let start = self.free_at.max(now);
            if start > now {
                counts.limited += 1;
            }
            if start - now > BACKLOG_MAX {
                return vec![];
            }
            self.free_at = start + Duration::from_secs_f64(frame.len() as f64 / rate.max(1) as f64);
            due = self.free_at;
        }
        if loss < policy.loss {
            counts.lost += 1;
            return vec![];
        }
        let mut arriving = frame.to_vec();
        if corruption < policy.corrupt && corrupt(&mut arriving, rng) {
            counts.corrupted += 1;
        } else if forgery < policy.forge && forge(&mut arriving, rng) {
            counts.forged += 1;
        }
        let doubled = duplicate < policy.duplicate;
        counts.duplicated += u64::from(doubled);
        let due = late.map(|part| due + policy.delay + policy.jitter.mul_f64(part));
        counts.delayed += u64::from(policy.delay + policy.jitter > Duration::ZERO);
        counts.reordered += u64::from(due[0] < self.latest);
        self.latest = self.latest.max(due[0]);
        let mut copies = vec![(due[0], arriving)];
        if doubled {
            copies.push((due[1], copies[0].1.clone()));
        }
        copies
    }
}

/// When it is due, its number, the place it is for, the frame.
type OnItsWay = (Duration, u64, u32, Vec<u8>);

/// Frames on their way, the next one due first; of several due at once, the first that was sent.
#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<OnItsWay>>,
    number: u64,
}

impl Queue {
    /// Puts a frame for a place on its way.
    pub fn push(&mut self, due: Duration, place: u32, frame: Vec<u8>) {
        self.heap.push(Reverse((due, self.number, place, frame)));
        self.number += 1;
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.heap.peek().map(|entry| entry.0.0)
    }

    /// The next one, if it is due.
    pub fn pop(&mut self, now: Duration) -> Option<(u32, Vec<u8>)> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|entry| (entry.0.2, entry.0.3))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::segment;
    use super::*;
    use crate::seed::stream;

    const MS: Duration = Duration::from_millis(1);

    /// Sends 1000 segments, 1 ms apart, over a link with this policy.
    fn sent(policy: Policy) -> (Counts, Vec<(Duration, Vec<u8>)>) {
        let mut link = Link::new(stream(7, "link", 12));
        link.set_policy(Some(policy));
        let arrived = (0..1000).flat_map(|i| link.pass(MS * i, &segment(i, &[i as u8; 100]))).collect();
        (link.take_counts(), arrived)
    }

    #[test]
    fn a_sound_link_passes_and_a_cut_one_does_not() {
        let mut link = Link::new(stream(7, "link", 12));
        assert_eq!(link.pass(MS, b"frame"), [(MS, b"frame".to_vec())]);
        link.set_cut(true);
        assert!(link.pass(MS, b"frame").is_empty() && link.pass(MS, b"frame").is_empty());
        link.set_cut(false);
        assert_eq!(link.pass(MS, b"frame").len(), 1);
        assert_eq!(link.take_counts(), Counts::default(), "no policy, no effect");
        assert_eq!((link.take_cut(), link.take_cut()), (2, 0));
    }

    #[test]
    fn each_part_of_a_policy_does_its_own_and_nothing_else() {
        let (counts, arrived) = sent(Policy::default());
        assert_eq!((counts, arrived.len()), (Counts { seen: 1000, ..Counts::default() }, 1000));

        let (counts, arrived) = sent(Policy { loss: 0.3, ..Policy::default() });
        assert!((200..400).contains(&counts.lost), "{counts:?}");
        assert_eq!(arrived.len() as u64, 1000 - counts.lost);
        assert_eq!(counts, Counts { seen: 1000, lost: counts.lost, ..Counts::default() });

        let (counts, arrived) = sent(Policy { duplicate: 0.1, ..Policy::default() });
        assert!((50..200).contains(&counts.duplicated) && arrived.len() as u64 == 1000 + counts.duplicated);

        let (counts, arrived) = sent(Policy { delay: 20 * MS, ..Policy::default() });
        assert_eq!((counts.delayed, counts.reordered), (1000, 0));
        assert!(arrived.iter().zip(0..).all(|((due, _), i)| *due == MS * i + 20 * MS));

        let (counts, arrived) = sent(Policy { jitter: 30 * MS, ..Policy::default() });
        assert!(counts.reordered > 500 && arrived.iter().zip(0..).all(|((due, _), i)| *due - MS * i < 30 * MS));

        let changed = |arrived: &[(Duration, Vec<u8>)]| {
            arrived.iter().zip(0..).filter(|((_, f), i)| *f != segment(*i, &[*i as u8; 100])).count() as u64
        };
        let (counts, arrived) = sent(Policy { corrupt: 0.1, ..Policy::default() });
        assert!(counts.corrupted > 50 && changed(&arrived) == counts.corrupted && counts.forged == 0);
        let (counts, arrived) = sent(Policy { forge: 0.1, ..Policy::default() });
        assert!(counts.forged > 50 && changed(&arrived) == counts.forged && counts.corrupted == 0);
    }

    #[test]
    fn a_rate_spaces_frames_and_a_full_queue_drops() {
        let len = segment(0, &[0; 100]).len() as u64;
        // Half of what is sent.
        let (counts, arrived) = sent(Policy { rate: Some(len * 500), ..Policy::default() });
        assert!(arrived.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 2 * MS - Duration::from_nanos(10)));
        assert!(counts.limited > 900 && arrived.len() == 1000);
        // A tenth: a second's worth waits, the rest is dropped.
        let (counts, arrived) = sent(Policy { rate: Some(len * 100), ..Policy::default() });
        assert!((195..215).contains(&arrived.len()) && counts.limited > 900, "{} {counts:?}", arrived.len());
    }

    #[test]
    fn a_seed_gives_the_same_fate_and_one_kind_does_not_move_another() {
        let lossy = Policy { loss: 0.2, duplicate: 0.2, corrupt: 0.1, ..Policy::default() };
        assert_eq!(sent(lossy.clone()), sent(lossy.clone()));
        let (with, without) = (sent(lossy.clone()).0, sent(Policy { duplicate: 0.0, ..lossy }).0);
        assert_eq!((with.lost, with.corrupted), (without.lost, without.corrupted));
        assert!(without.duplicated == 0 && with.duplicated > 0);
    }

    #[test]
    fn frames_arrive_when_they_are_due_and_in_order() {
        let mut queue = Queue::default();
        assert!(queue.pop(MS).is_none() && queue.next_due().is_none());
        for (due, frame) in [(5, b"c"), (3, b"a"), (3, b"b")] {
            queue.push(MS * due, 1, frame.to_vec());
        }
        assert_eq!(queue.next_due(), Some(3 * MS));
        assert!(queue.pop(2 * MS).is_none());
        let popped: Vec<_> = std::iter::from_fn(|| queue.pop(4 * MS)).map(|(_, frame)| frame[0]).collect();
        assert_eq!((popped.as_slice(), queue.pop(5 * MS)), (b"ab".as_slice(), Some((1, b"c".to_vec()))));
    }
}
