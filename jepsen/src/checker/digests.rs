//! Nodes whose states have the same log index have the same digest: `apply` is deterministic, nobody lost or added a record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Finding;

/// What a node told about its state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The node.
    pub node: String,
    /// Index of the last applied log entry.
    pub index: u64,
    /// The digest of the state then.
    pub digest: String,
}

/// Compares all samples of the same index. One of the `members` at least must have been compared with another.
pub fn check(samples: &[Sample], members: usize) -> Finding {
    let mut by_index: BTreeMap<u64, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        by_index.entry(sample.index).or_default().push(sample);
    }
    let mut compared = 0;
    let mut broken = Vec::new();
    for (index, samples) in by_index {
        if samples.len() > 1 {
            compared += samples.len();
        }
        if samples.iter().any(|s| s.digest != samples[0].digest) {
            let told: Vec<String> = samples.iter().map(|s| format!("{} {}", s.node, s.digest)).collect();
            broken.push(format!("states differ at index {index}: {}", told.join(", ")));
        }
    }
    // One node has nobody to differ from, also when others followed upon it.
    let undecided = (compared == 0 && members > 1 && !samples.is_empty())
        .then(|| format!("{} states were told, no two of them at the same index", samples.len()));
    Finding::new("digests", compared, broken, undecided.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;

    fn sample(node: &str, index: u64, digest: &str) -> Sample {
        Sample { node: node.into(), index, digest: digest.into() }
    }

    #[test]
    fn equal_at_equal_indexes() {
        let good = [sample("n1", 5, "aa"), sample("n2", 5, "aa"), sample("n3", 6, "bb")];
        assert_eq!((check(&good, 3).verdict, check(&good, 3).checked), (Verdict::Valid, 2));
        assert_eq!(check(&[sample("n1", 5, "aa"), sample("n2", 5, "ab")], 3).verdict, Verdict::Invalid);
        assert_eq!(check(&good[1..], 3).verdict, Verdict::Unknown, "nothing was compared");
        assert_eq!(check(&[], 3).verdict, Verdict::Valid);
        assert_eq!(check(&[sample("n1", 5, "aa"), sample("n1", 6, "bb")], 1).verdict, Verdict::Valid, "one node");
        assert_eq!(check(&[sample("n1", 5, "aa"), sample("n2", 6, "bb")], 1).verdict, Verdict::Valid, "its successor");
        // Also of one node with itself: a state that changed under the same index.
        assert_eq!(check(&[sample("n1", 5, "aa"), sample("n1", 5, "ab")], 1).verdict, Verdict::Invalid);
    }
}
