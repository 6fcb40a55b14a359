//! Whether who calls an operator's door is somebody: what is done with keys looks for itself, in the view it is decided on.

use std::time::Duration;

use quorate_core::access::{Caller, admit};
use quorate_core::principal::Principal;
use tokio::time::Instant;

use crate::error::Error;
use crate::node::{Node, State};

/// How long a round is waited for where what this node knows would do.
const ROUND: Duration = Duration::from_secs(2);

/// By what it is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// What a majority has confirmed until now: who was shut out changes nothing any more.
    Round,
    /// The same if it can be had soon, else what this node has heard of: for what must work without a majority.
    Known,
    /// What this node has heard of: for what changes nothing and shows no more than the state of nodes.
    Heard,
}

impl Node {
    /// Who calls. A sealed node can't read what is known of credentials: there the certificate says it alone.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when the credential, or who presents it, was shut out; [`Error::Unavailable`] without a round.
    pub async fn admitted(&self, caller: &Caller, by: Freshness, deadline: Instant) -> Result<Principal, Error> {
        let state = self.current();
        if let State::Unsealed(unsealed) = &*state {
            let records = &unsealed.opened.records;
            match by {
                Freshness::Round => drop(records.read_index(deadline).await.map_err(|e| e.told_to(&caller.principal))?),
                Freshness::Known => drop(records.read_index(deadline.min(Instant::now() + ROUND)).await),
                Freshness::Heard => {}
            }
            let view = records.view()?;
            match records.facts(&view) {
                Ok(mut facts) => admit(&mut facts, caller)?,
                // Sealed meanwhile.
                Err(Error::Sealed) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(caller.principal.clone())
    }
}
