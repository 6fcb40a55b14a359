//! What this node states for who was not there, signed by its HSM: a file of such statements is checked with the cluster's root
//! certificate alone. Each node speaks for itself: of its own log and its own disk nobody else knows.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::evidence::DestructionStatement;
use quorate_core::id::{KeyId, KeyVersion};
use tokio::time::Instant;

use crate::call::Call;
use crate::error::Error;
use crate::node::{GROUP, Node};
use crate::seal::sha256;

/// Statements that a node signs within [`WINDOW`], at most: its HSM has handshakes to sign, too.
const STATEMENTS_MAX: usize = 50;
const WINDOW: Duration = Duration::from_secs(10);

/// A statement, and what it is checked by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// Its canonical bytes.
    pub statement: Vec<u8>,
    /// ECDSA-P256-SHA256 by the node's identity key, DER.
    pub signature: Vec<u8>,
    /// The node's certificate, then its CA's (DER).
    pub certificates: Vec<Bytes>,
}

/// How many statements were signed of late.
#[derive(Default)]
pub(crate) struct Pace(Mutex<VecDeque<Instant>>);

impl Pace {
    /// Whether one more may be.
    ///
    /// # Errors
    /// [`Error::Busy`], with how long that takes.
    fn take(&self, now: Instant) -> Result<(), Error> {
        let mut of_late = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while of_late.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            of_late.pop_front();
        }
        match of_late.front() {
            Some(first) if of_late.len() >= STATEMENTS_MAX => {
                let left = (*first + WINDOW).saturating_duration_since(now).as_secs().max(1);
                Err(Error::Busy(format!(
                    "this node signs {STATEMENTS_MAX} statements in {} s, so that its HSM has time for other things; try again in \
                     {left} s",
                    WINDOW.as_secs()
                )))
            }
            _ => {
                of_late.push_back(now);
                Ok(())
            }
        }
    }
}

impl Node {
    /// States, under its signature, what it knows of the destruction of an object, or of a version of it, and what of that its
    /// own files may still hold.
    ///
    /// # Errors
    /// [`Error::Denied`]; nothing is known of one; [`Error::Sealed`] on a sealed node; [`Error::Busy`];
    /// [`Error::Unavailable`], also when its HSM fails.
    pub async fn prove_destruction(
        &self,
        call: &Call,
        key: KeyId,
        version: Option<KeyVersion>,
    ) -> Result<Signed, Error> {
        let opened = self.opened()?;
        let told = opened.kms.destruction(call, key, version).await?;
        let retained = opened.records.replica.retained().map_err(|e| Error::Unavailable(e.to_string()))?;
        let certificates = (**self.certificate.load()).clone();
        let leaf = certificates.first().ok_or(Error::Internal("a node knows no certificate of its own"))?;
        let statement = DestructionStatement {
            cluster: self.config.cluster,
            lineage: opened.kms.lineage(),
            group: GROUP,
            node: opened.records.replica.id(),
            name: self.config.name.clone(),
            certificate: sha256(leaf),
            stated_ms: told.now_ms,
            applied: told.applied,
            destroyed_at: told.destroyed_at,
            log_from: retained.log_from,
            state_at: retained.state_at,
            is_here: told.is_here,
            members: told.members,
            destruction: told.record,
        };
        let statement = statement.encode();
        // Who may have none, and what there is none of, has been turned away by now.
        self.statements.take(Instant::now())?;
        let signature = self.hsm.sign_identity(&DestructionStatement::signed(&statement)).await;
        let signature = signature.map_err(|e| Error::Unavailable(format!("this node's HSM failed: {e}")))?;
        Ok(Signed { statement, signature, certificates })
    }
}

#[cfg(test)]
mod tests;
