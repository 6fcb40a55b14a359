//! What the state says here right now, for this node's own judgement.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::record_key::RecordKey;

use crate::node::Base;
use crate::roster::SignedRoster;
use crate::state::{StateFiles, View, get_value, recorded_roster, seal_config};

/// Reads the state as applied here.
pub(crate) struct StateReader {
    files: Arc<StateFiles>,
    /// The seal configuration that this node was introduced with, for as long as its state has none.
    introduced_by: Option<Bytes>,
}

impl StateReader {
    pub(crate) fn of(base: &Base) -> Self {
        Self { files: base.files.clone(), introduced_by: base.introduced_by.clone() }
    }

    /// At one index.
    pub(crate) fn view(&self) -> io::Result<Arc<dyn View>> {
        self.files.view()
    }

    /// A record's value.
    pub(crate) fn record(&self, key: &RecordKey) -> io::Result<Option<Bytes>> {
        get_value(&*self.files.view()?, key)
    }

    /// The seal configuration in force here; of a state that has none yet, the one that this node was introduced with.
    pub(crate) fn seal_config(&self) -> io::Result<Option<Bytes>> {
        let view = self.files.view()?;
        Ok(seal_config(&|key| get_value(&*view, key))?.or_else(|| self.introduced_by.clone()))
    }

    /// The roster.
    pub(crate) fn roster(&self) -> io::Result<Option<SignedRoster>> {
        recorded_roster(&|key| self.record(key))
    }
}
