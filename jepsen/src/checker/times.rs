//! Cluster time is never more than a minute ahead of the real time, whatever one node's clock does.

use serde::{Deserialize, Serialize};

use super::Finding;

/// As far may cluster time be ahead, ms.
const AHEAD_MAX_MS: u64 = 60_000;

/// What a node told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The node.
    pub node: String,
    /// The time of day once it had told, by the machine's clock, ms since 1970.
    pub real_ms: u64,
    /// Cluster time as it told it, ms since 1970; 0 before genesis.
    pub cluster_ms: u64,
}

/// Judges every sample.
pub fn check(samples: &[Sample]) -> Finding {
    let ahead = |s: &&Sample| s.cluster_ms > s.real_ms.saturating_add(AHEAD_MAX_MS);
    let tell = |s: &Sample| {
        let by_s = s.cluster_ms.saturating_sub(s.real_ms) / 1000;
        format!("{} told a cluster time of {} ms since 1970 at {}: {by_s} s ahead", s.node, s.cluster_ms, s.real_ms)
    };
    Finding::new("times", samples.len(), samples.iter().filter(ahead).map(tell).collect(), vec![])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;

    #[test]
    fn a_minute_ahead_is_accepted_and_no_more() {
        let sample = |cluster_ms| [Sample { node: "n1".into(), real_ms: 1_000_000, cluster_ms }];
        for behind in [0, 1, 1_000_000, 1_060_000] {
            assert_eq!(check(&sample(behind)).verdict, Verdict::Valid, "{behind}");
        }
        assert_eq!(check(&sample(1_060_001)).verdict, Verdict::Invalid);
        assert_eq!(check(&sample(u64::MAX)).verdict, Verdict::Invalid);
    }
}
