//! openraft's own suite over journal and state on a real disk.

use std::sync::Arc;

use openraft::StorageError;
use openraft::errors::ErrorSource;
use openraft::testing::log::{StoreBuilder, Suite};
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_core::seam::Entropy;

use super::TypeConfig;
use super::apply_thread::ApplyThread;
use super::log_store::LogStore;
use super::machine::Machine;
use crate::disk::RealDisk;
use crate::handler::NoService;
use crate::journal::{Journal, JournalConfig, JournalIds, JournalWriter};
use crate::peer::roster::Roster;
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
        let ids = JournalIds { cluster, node: NodeId(1), group };
        // The suite purges a log whose state it never applied.
        let config = JournalConfig { segment_bytes: 1 << 20, purge_needs_checkpoint: false, ..Default::default() };
        let (journal, _) = Journal::create(&dir.path().join("journal"), ids, config, disk.clone(), Arc::new(Salt))?;
        let writer = JournalWriter::spawn(journal, Box::new(|e| panic!("{e}")))?;
        let files = Arc::new(StateFiles::open(disk, dir.path(), 1 << 20, 0)?);
        let state = State::open(files.clone(), cluster, group, None)?;
        let shared = Arc::new(Shared::new(Arc::new(NoService), Roster::new(None)));
        let reopen =
            move |files: Arc<StateFiles>| State::open(files, cluster, group, None).map_err(std::io::Error::other);
        let apply = ApplyThread::spawn(state, files.clone(), writer.clone(), shared.clone(), reopen)?;
        Ok((dir, LogStore::new(writer, shared.applied())?, Machine::new(files, Arc::new(apply))))
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
