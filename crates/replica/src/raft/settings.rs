//! openraft's settings and why (key-log §6).

use openraft::{Config, SnapshotPolicy};

use crate::config::Profile;

/// Most bytes of entries in one read for replication: openraft counts entries only, and a message must stay under
/// [`crate::peer::MESSAGE_LEN_MAX`].
pub(crate) const LOG_READ_BYTES_MAX: usize = 1024 * 1024;

/// Most entries of one message that openraft sends.
pub(crate) const PAYLOAD_ENTRIES_MAX: u64 = 1024;

/// The settings of a profile.
pub(crate) fn settings(cluster: String, profile: Profile) -> Config {
    let (heartbeat, election_min, election_max) = match profile {
        Profile::Lan => (40, 90, 200),
        Profile::Wan => (100, 500, 1000),
    };
    Config {
        cluster_name: cluster,
        heartbeat_interval: heartbeat,
        election_timeout_min: election_min,
        election_timeout_max: election_max,
        // A node that cannot win must not push the term up and depose a healthy leader.
        enable_pre_vote: Some(true),
        // A restarted leader asks for votes like anyone else.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        // Lets the connected side elect when an old leader reaches only some. At least twice the election maximum.
        quorum_loss_probe_interval: Some(1000.max(2 * election_max)),
        backoff: "20ms 40ms ..200ms".into(),
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        max_append_entries: Some(4096),
        // Checkpoints are the compactor's, and nothing is purged behind anyone's back (§5.2).
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 3_600_000,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_are_valid() {
        for profile in [Profile::Lan, Profile::Wan] {
            assert!(settings("c".into(), profile).validate().is_ok(), "{profile:?}");
        }
    }
}
