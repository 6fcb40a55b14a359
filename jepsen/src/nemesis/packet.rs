//! What is done to the frames, or the streams, of which links. Pure.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::net::{Backend, CLIENTS, Counts, Policy};

/// What happens to frames, or to streams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Harm {
    /// All are late by the same time.
    Delay,
    /// Each is late by another time: they overtake each other.
    Reorder,
    /// Some are lost.
    Loss,
    /// Some arrive twice.
    Duplication,
    /// Some arrive with a bit turned over: IP's or TCP's checksum finds it, and they count as lost.
    Corruption,
    /// Some arrive with a bit turned over and a right checksum: TLS must find it, and end the connection.
    Forgery,
    /// So many bytes per second and no more.
    Rate,
    /// Some connections end in order, in one direction.
    HalfClose,
    /// Some connections are reset.
    Reset,
}

impl Harm {
    /// Its name in histories, after that of the nemesis.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Reorder => "reorder",
            Self::Loss => "loss",
            Self::Duplication => "duplication",
            Self::Corruption => "corruption",
            Self::Forgery => "forgery",
            Self::Rate => "rate",
            Self::HalfClose => "half-close",
            Self::Reset => "reset",
        }
    }

    /// Those that can be had on a network.
    pub fn of(net: Backend) -> &'static [Self] {
        match net {
            Backend::Tap => &[
                Self::Delay,
                Self::Reorder,
                Self::Loss,
                Self::Duplication,
                Self::Corruption,
                Self::Forgery,
                Self::Rate,
            ],
            Backend::Veth => &[],
            Backend::Proxy => &[Self::Delay, Self::Forgery, Self::Rate, Self::HalfClose, Self::Reset],
        }
    }

    /// To how many frames it happened.
    pub fn count(self, counts: &Counts) -> u64 {
        match self {
            Self::Delay => counts.delayed,
            Self::Reorder => counts.reordered,
            Self::Loss => counts.lost,
            Self::Duplication => counts.duplicated,
            Self::Corruption => counts.corrupted,
            Self::Forgery => counts.forged,
            Self::Rate => counts.limited,
            Self::HalfClose => counts.half_closed,
            Self::Reset => counts.reset,
        }
    }

    /// A policy that does this and nothing else. A node whose links follow a `harsh` one may be of no use to the majority.
    fn policy(self, harsh: bool, rng: &mut StdRng) -> Policy {
        let mut pick = |mild: std::ops::Range<f64>, bad: std::ops::Range<f64>| {
            let range = if harsh { bad } else { mild };
            rng.random_range(range)
        };
        let none = Policy::default();
        match self {
            Self::Delay => Policy { delay: ms(pick(5.0..40.0, 100.0..600.0)), ..none },
            Self::Reorder => Policy { jitter: ms(pick(5.0..40.0, 50.0..400.0)), ..none },
            Self::Loss => Policy { loss: pick(0.01..0.08, 0.15..0.5), ..none },
            Self::Duplication => Policy { duplicate: pick(0.05..0.3, 0.3..1.0), ..none },
            Self::Corruption => Policy { corrupt: pick(0.01..0.08, 0.1..0.4), ..none },
            Self::Forgery => Policy { forge: pick(0.002..0.01, 0.02..0.1), ..none },
            Self::Rate => Policy { rate: Some(pick(250_000.0..1_000_000.0, 10_000.0..60_000.0) as u64), ..none },
            Self::HalfClose => Policy { half_close: pick(0.002..0.01, 0.02..0.1), ..none },
            Self::Reset => Policy { reset: pick(0.002..0.01, 0.02..0.1), ..none },
        }
    }
}

/// Links that follow a policy, and how many nodes it takes from the majority.
#[derive(Clone, PartialEq, Debug)]
pub struct Shaping {
    /// What it does.
    pub harm: Harm,
    /// (from, to), places.
    pub links: Vec<(u32, u32)>,
    /// What the links do.
    pub policy: Policy,
    /// Nodes that may be outside the majority.
    pub costs: u32,
    /// In words.
    pub words: String,
}

/// One of these harms to some links, chosen by chance: all between nodes, all of the clients, or, harshly, those of one node.
pub fn shaping(harms: &[Harm], members: &[u32], leader: Option<u32>, rng: &mut StdRng) -> Shaping {
    let harm = harms[rng.random_range(0..harms.len())];
    let any = members[rng.random_range(0..members.len())];
    // The leader is the most telling victim.
    let victim = if rng.random_ratio(1, 2) { leader.unwrap_or(any) } else { any };
    let others = || members.iter().copied().chain([CLIENTS]).filter(move |n| *n != victim);
    let from: Vec<(u32, u32)> = others().map(|n| (victim, n)).collect();
    let to: Vec<(u32, u32)> = others().map(|n| (n, victim)).collect();
    let scope = rng.random_range(0..5);
    let (links, harsh, words) = match scope {
        0 if members.len() > 1 => {
            let all = members.iter().flat_map(|a| members.iter().map(move |b| (*a, *b)));
            (all.filter(|(a, b)| a != b).collect(), false, "all links between nodes".to_owned())
        }
        0 | 1 => {
            let all = members.iter().flat_map(|n| [(*n, CLIENTS), (CLIENTS, *n)]);
            (all.collect(), false, "all links of the clients".to_owned())
        }
        2 => ([from, to].concat(), true, format!("n{victim}, both ways")),
        3 => (from, true, format!("what n{victim} sends")),
        _ => (to, true, format!("what n{victim} receives")),
    };
    let policy = harm.policy(harsh, rng);
    let leader = leader.map_or("leader unknown".to_owned(), |l| format!("leader n{l}"));
    let words = format!("{harm:?}: {words}, {} ({leader})", tell(&policy));
    Shaping { harm, links, policy, costs: u32::from(harsh), words }
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

fn tell(policy: &Policy) -> String {
    let Policy { delay, jitter, loss, duplicate, corrupt, forge, rate, half_close, reset } = policy;
    let parts = [
        ("lost", loss),
        ("twice", duplicate),
        ("corrupted", corrupt),
        ("forged", forge),
        ("half-closed", half_close),
        ("reset", reset),
    ];
    let parts =
        parts.into_iter().filter(|(_, part)| **part > 0.0).map(|(what, part)| format!("{:.1} % {what}", part * 100.0));
    let times = [("later", delay), ("later at most", jitter)];
    let times = times
        .into_iter()
        .filter(|(_, time)| !time.is_zero())
        .map(|(what, time)| format!("{} ms {what}", time.as_millis()));
    let rate = rate.map(|rate| format!("{} kB/s", rate / 1000));
    times.chain(parts).chain(rate).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::net::link::Link;
    use crate::seed::stream;

    #[test]
    fn every_harm_and_scope_is_chosen_and_stays_within_its_budget() {
        for (nodes, net) in [(1, Backend::Tap), (3, Backend::Proxy), (5, Backend::Tap)] {
            let mut rng = stream(5, "packet", nodes.into());
            let members: Vec<u32> = (1..=nodes).collect();
            let chosen: Vec<Shaping> = (0..500).map(|_| shaping(Harm::of(net), &members, Some(1), &mut rng)).collect();
            assert_eq!(chosen.iter().map(|s| s.harm).collect::<BTreeSet<_>>().len(), Harm::of(net).len());
            for s in &chosen {
                let touched = |node: u32| s.links.iter().any(|(a, b)| *a == node || *b == node);
                assert!(!s.links.is_empty() && s.links.iter().all(|(a, b)| a != b), "{s:?}");
                // What is harsh meets one node alone.
                assert!(s.costs == 0 || (1..=nodes).any(|n| s.links.iter().all(|(a, b)| *a == n || *b == n)), "{s:?}");
                assert!(s.costs == 1 || (1..=nodes).all(touched), "{s:?}");
            }
            assert!(chosen.iter().any(|s| s.costs == 0) && chosen.iter().any(|s| s.costs == 1));
            assert!(chosen.iter().any(|s| s.words.contains("leader n1")));
        }
    }

    #[test]
    fn a_harm_counts_its_own_frames_and_no_others() {
        let frame = crate::net::frame::tests::segment(1, &[7; 400]);
        for harm in Harm::of(Backend::Tap) {
            let mut link = Link::new(stream(3, "link", 0));
            link.set_policy(Some(harm.policy(true, &mut stream(3, "policy", 0))));
            // A burst, as of one write of many segments.
            for i in 0..1000 {
                link.pass(Duration::from_micros(i), &frame);
            }
            let counts = link.take_counts();
            for other in Harm::of(Backend::Tap) {
                let expected = other == harm || (*harm, *other) == (Harm::Reorder, Harm::Delay);
                assert_eq!(other.count(&counts) > 0, expected, "{harm:?} {other:?} {counts:?}");
            }
        }
    }
}
