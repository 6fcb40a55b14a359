//! Bugs that can be compiled in, to show that the harness in `jepsen/` finds them (`jepsen selftest --bugs`).
//!
//! Only the cargo feature `seeded-bugs` knows them, and it is never on by default: without it [`is`] is `false` for the
//! compiler, and nothing of a bug is in the binary. With it, one bug of [`Bug`] is chosen at the start of the process.

/// A bug. Each stands in one place of the product, which says what it does there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Reads are answered from what this node has applied, with no word from the leader.
    SkipReadIndex,
    /// A read shares a round that was sent before it arrived.
    JoinSentRound,
    /// A round that was given up lends its id to the next, which then takes the late answer.
    ReuseRound,
    /// A use is judged by a view from before its round and one from after it.
    TwoViews,
    /// What was read before a change is put into the hot view after it.
    LateFill,
    /// The journal answers before it has synced.
    AckBeforeFsync,
    /// The count of starts is not kept.
    SkipBootSync,
    /// The applied index is told before the entry is applied.
    PublishBeforeApply,
    /// Now and then a record does not get into this node's state.
    DropRecord,
    /// A node acknowledges its seal, and goes on.
    ServeSealed,
    /// The MAC of a batch is not looked at; and a leader now and then forges one.
    AcceptBadMac,
    /// A vote is not kept.
    LoseVote,
    /// A leader answers reads for two seconds without asking anybody.
    LeaderLease,
    /// Who starts says what it has while it asks what it had.
    WordWhileAsking,
    /// A word about a node is believed whoever made it.
    SkipTag,
    /// A vote told in an answer is adopted as it comes.
    TrustAnswerVote,
    /// Whoever says that it leads is followed, whoever voted.
    CountUnsigned,
    /// Whoever tells of members, or leads, says who they are.
    SkipRoster,
    /// A version that was rotated out protects on.
    KeepFloor,
    /// Nothing is left of a purged key that tells a late retry of its creation.
    ForgetPurged,
    /// A key takes another material than it had.
    AnyMaterial,
    /// The offset of a peer's clock is kept, not its clock, and a majority's median is believed at once.
    OwnOffset,
    /// What destroys goes by this node's own clock, at once.
    DutyAtOnce,
}

#[cfg(not(feature = "seeded-bugs"))]
mod chosen {
    use super::Bug;

    /// Whether the process runs with this bug: never, in a build without them.
    #[inline(always)]
    pub const fn is(_: Bug) -> bool {
        false
    }

    /// Whether it does, at every `n`-th asking.
    #[inline(always)]
    pub const fn every(_: Bug, _: u32) -> bool {
        false
    }

    /// What a hostile leader makes of a batch with its MAC: itself, in a build without bugs.
    #[inline(always)]
    pub fn forged(batch: Vec<u8>) -> Vec<u8> {
        batch
    }
}

#[cfg(feature = "seeded-bugs")]
mod chosen {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Bug;
    use crate::batch::{Batch, Op};
    use crate::record_key::Table;

    static CHOSEN: OnceLock<Bug> = OnceLock::new();
    static ASKED: AtomicU32 = AtomicU32::new(0);

    /// One in so many batches is forged.
    const FORGED_ONE_IN: u32 = 20;

    /// All of them, by the names they are chosen by.
    pub const ALL: [(&str, Bug); 23] = [
        ("skip-read-index", Bug::SkipReadIndex),
        ("join-sent-round", Bug::JoinSentRound),
        ("reuse-round", Bug::ReuseRound),
        ("two-views", Bug::TwoViews),
        ("late-fill", Bug::LateFill),
        ("ack-before-fsync", Bug::AckBeforeFsync),
        ("skip-boot-sync", Bug::SkipBootSync),
        ("publish-before-apply", Bug::PublishBeforeApply),
        ("drop-record", Bug::DropRecord),
        ("serve-sealed", Bug::ServeSealed),
        ("accept-bad-mac", Bug::AcceptBadMac),
        ("lose-vote", Bug::LoseVote),
        ("leader-lease", Bug::LeaderLease),
        ("word-while-asking", Bug::WordWhileAsking),
        ("skip-tag", Bug::SkipTag),
        ("trust-answer-vote", Bug::TrustAnswerVote),
        ("count-unsigned", Bug::CountUnsigned),
        ("skip-roster", Bug::SkipRoster),
        ("keep-floor", Bug::KeepFloor),
        ("forget-purged", Bug::ForgetPurged),
        ("any-material", Bug::AnyMaterial),
        ("own-offset", Bug::OwnOffset),
        ("duty-at-once", Bug::DutyAtOnce),
    ];

    /// Chooses the process's bug, once and for all.
    ///
    /// # Errors
    /// When there is none of that name; the text lists those there are.
    pub fn choose(name: &str) -> Result<Bug, String> {
        let known = ALL.iter().find(|(known, _)| *known == name);
        let names = || ALL.map(|(name, _)| name).join(", ");
        let (_, bug) = known.ok_or_else(|| format!("there is no seeded bug {name:?}; there are {}", names()))?;
        Ok(*CHOSEN.get_or_init(|| *bug))
    }

    /// Whether the process runs with this bug.
    pub fn is(bug: Bug) -> bool {
        CHOSEN.get() == Some(&bug)
    }

    /// Whether it does, at every `n`-th asking; nodes differ in which that is.
    pub fn every(bug: Bug, n: u32) -> bool {
        is(bug) && ASKED.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id()).is_multiple_of(n.max(1))
    }

    /// What a hostile leader makes of a batch with its MAC: now and then a key's record is removed instead of written.
    /// It has no key for a new MAC.
    pub fn forged(batch: Vec<u8>) -> Vec<u8> {
        let Ok((mut forged, mac_at)) = Batch::decode(&batch) else { return batch };
        let of_key = |op: &&mut Op| matches!(op, Op::Put(key, _) if key.table() == Table::Key);
        let Some(op) = forged.ops.iter_mut().find(of_key) else { return batch };
        if !every(Bug::AcceptBadMac, FORGED_ONE_IN) {
            return batch;
        }
        *op = Op::Delete(op.key().clone());
        match forged.encode() {
            Ok(bytes) => [&bytes, &batch[mac_at..]].concat(),
            Err(_) => batch,
        }
    }
}

pub use chosen::*;

#[cfg(all(test, not(feature = "seeded-bugs")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_bugs_has_none() {
        const { assert!(!is(Bug::SkipReadIndex) && !every(Bug::DropRecord, 1)) };
        assert_eq!(forged(vec![1, 2]), [1, 2]);
    }
}
