//! The check before a node serves: its state adds up to its digest (key-log §5.4), and every batch it was made from
//! carries a MAC of the keyring (key-hierarchy §2). The digest alone says that nothing was changed since apply; what a
//! sealed node applied, it applied unverified.

use std::io;

use quorate_core::batch::{Batch, Entry};

use crate::error::{Problem, StateMismatch};
use crate::journal::JournalReader;
use crate::node::Node;
use crate::raft::codec::{decode_log_id, from_journal, invalid};
use crate::raft::settings::LOG_READ_BYTES_MAX;
use crate::raft::{Payload, RaftEntry};
use crate::replica::View;
use crate::state::{self, BatchVerifier, Meta};

/// Checks a whole view, and with a verifier the log up to it. That is the retained log: what was
/// purged, or came in a snapshot, is held to the digest alone until signed anchors of digests vouch for it.
pub(crate) fn verify(node: &Node, view: &View) -> Result<(), StateMismatch> {
    let index = view.applied();
    let mismatch = |what: String| StateMismatch::Digest { file: node.files.path(), index, what };
    let unreadable = |e: io::Error| mismatch(e.to_string());
    state::verify_state(view.raw()).map_err(|e| mismatch(e.to_string()))?;
    let Some(verifier) = node.shared.verifier() else { return Ok(()) };
    // A group that is being applied took up the verifier before it was set, perhaps; it is committed.
    let committed = node.journal.committed().map(|id| decode_log_id(&id).map_err(invalid)).transpose();
    let through = committed.map_err(unreadable)?.map_or(index, |id| id.index.max(index));
    match find_forged(&node.journal, through, view.meta(), &*verifier).map_err(unreadable)? {
        Some(index) => Err(StateMismatch::Forged(Problem::BadMac { index })),
        None => Ok(()),
    }
}

/// The first batch in the log, up to and with index `through`, whose MAC is wrong.
fn find_forged(
    journal: &JournalReader,
    through: u64,
    meta: &Meta,
    verifier: &dyn BatchVerifier,
) -> io::Result<Option<u64>> {
    let end = through.saturating_add(1);
    let mut next = 0;
    loop {
        let entries = journal.entries(next..end, LOG_READ_BYTES_MAX)?;
        let Some(last) = entries.last() else { return Ok(None) };
        next = last.index + 1;
        for entry in &entries {
            if is_forged(&from_journal(entry).map_err(invalid)?, meta, verifier) {
                return Ok(Some(entry.index));
            }
        }
    }
}

fn is_forged(entry: &RaftEntry, meta: &Meta, verifier: &dyn BatchVerifier) -> bool {
    let openraft::EntryPayload::Normal(Payload(bytes)) = &entry.payload else { return false };
    // What apply takes for malformed, or for another cluster's, has changed nothing.
    let Ok(Entry::Batch(batch)) = Entry::decode(bytes) else { return false };
    Batch::decode(&batch).is_ok_and(|(decoded, _)| meta.owns(&decoded)) && !verifier.verify(&batch)
}
