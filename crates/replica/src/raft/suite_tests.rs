//! openraft's own suite over journal and state on a real disk.

use std::sync::Arc;

use futures::StreamExt as _;
use openraft::errors::ErrorSource;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId as _;
use openraft::{EntryPayload, StorageError};
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_core::level::Levels;
use quorate_core::seam::Entropy;
use quorate_journal::disk::RealDisk;
use quorate_journal::{Driver, JournalConfig, JournalIds};

use super::applier::Applier;
use super::log_store::LogStore;
use super::machine::Machine;
use super::{LeaderId, LogId, RaftEntry, TypeConfig};
use crate::handler::NoService;
use crate::log::{Log, LogConfig, LogWriter};
use crate::peer::members::Members;
use crate::sequences::Sequences;
use crate::shared::Shared;
use crate::state::{State, StateFiles};

/// A salt per segment is all the journal wants of it.
struct Salt;

impl Entropy for Salt {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0x5a);
    }
}

struct Stores;

impl Stores {
    fn make() -> Result<(tempfile::TempDir, LogStore, Machine), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let disk = Arc::new(RealDisk);
        let (cluster, group) = (ClusterId([1; 16]), GroupId(0));
        let ids = JournalIds { cluster, node: NodeId(1), stream: group.0 };
        // The suite purges a log whose state it never applied.
        let journal = JournalConfig { segment_bytes: 1 << 20, ..Default::default() };
        let config = LogConfig { journal, purge_needs_checkpoint: false, ..Default::default() };
        let (log, _) = Log::create(&dir.path().join("journal"), ids, config, disk.clone(), Arc::new(Salt))?;
        // The suite takes the folders away from under its stores.
        let driver = Driver::Simulation(Arc::new(|_| ()));
        let writer = LogWriter::spawn(log, &driver)?;
        let files = Arc::new(StateFiles::open(disk, dir.path(), 1 << 20, 0)?);
        let open = move |files: Arc<StateFiles>| {
            State::open(files.store()?, cluster, group, Arc::new(NoService), Levels::default(), None)
                .map(State::with_gaps)
        };
        let state = open(files.clone())?;
        let sequences = Sequences::new(ids.node, 1, &Salt);
        let shared = Arc::new(Shared::new(Arc::new(NoService), Members::new(None), sequences));
        let reopen = move |files: Arc<StateFiles>| open(files).map_err(std::io::Error::other);
        let apply = Applier::spawn(state, files.clone(), writer.clone(), shared.clone(), &driver, reopen)?;
        Ok((dir, LogStore::new(NodeId(1), writer, shared.applied())?, Machine::new(files, Arc::new(apply))))
    }
}

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Stores {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        Self::make().map_err(|e| StorageError::write(ErrorSource::from_string(e)))
    }
}

#[tokio::test]
async fn openraft_s_suite_passes() {
    let result = Suite::test_all(Stores).await;
    assert!(result.is_ok(), "{result:?}");
}

/// What is not there any more is no end of the log: apply would go on as if it had seen it all.
#[tokio::test]
async fn a_log_that_lacks_entries_before_its_end_says_so() {
    let (_dir, mut log, _machine) = Stores::make().expect("stores");
    let entry = |index| RaftEntry { log_id: LogId::new(LeaderId::new(1, 1), index), payload: EntryPayload::Blank };
    log.append((0..4).map(entry), IOFlushed::noop()).await.expect("appended");
    let indexes = |entries: Vec<std::io::Result<RaftEntry>>| {
        entries.into_iter().map(|entry| entry.map(|e| e.log_id.index).map_err(|e| e.to_string())).collect::<Vec<_>>()
    };
    let whole = log.entries_stream(1..4).await.collect().await;
    assert_eq!(indexes(whole), [Ok(1), Ok(2), Ok(3)]);
    let unbounded = log.entries_stream(2..).await.collect().await;
    assert_eq!(indexes(unbounded), [Ok(2), Ok(3)]);
    let beyond = log.entries_stream(2..6).await.collect().await;
    assert_eq!(indexes(beyond), [Ok(2), Ok(3)]);
    log.purge(LogId::new(LeaderId::new(1, 1), 1)).await.expect("purged");
    log.append([entry(4)], IOFlushed::noop()).await.expect("appended, after the purge");
    let purged = log.entries_stream(1..5).await.collect().await;
    assert_eq!(indexes(purged), [Err("the log lacks entry 1".into())]);
}
