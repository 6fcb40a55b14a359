//! Whether who calls an operator's door is somebody: what is done with keys looks for itself, in the view it is decided on.

use std::time::Duration;

use quorate_core::access::{Caller, NotAdmitted, admit};
use quorate_core::credential::Presented;
use quorate_core::decide::Refusal;
use quorate_core::principal::Principal;
use tokio::time::Instant;

use crate::error::Error;
use crate::node::{Node, State};
use crate::records::Records;

/// How long a round is waited for where what this node knows would do.
const ROUND: Duration = Duration::from_secs(2);

/// By what it is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// What a majority has confirmed until now: who was shut out before the call came changes nothing.
    Round,
    /// The same if it can be had soon, else what this node has heard of: for what must work without a majority.
    Known,
    /// What this node has heard of: for what shows the state of nodes, and for what only a sealed node does.
    Heard,
}

impl Node {
    /// Who calls. A sealed node can't read what is known of credentials: there the certificate says it alone.
    ///
    /// Whether that has ended goes by this node's clock, as in the handshake: cluster time may be what is wrong, and an operator
    /// puts it right.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when the credential, or who presents it, was shut out; [`Error::Unavailable`] without a round.
    pub async fn admitted(&self, caller: &Caller, by: Freshness, deadline: Instant) -> Result<Principal, Error> {
        let ended_ms = caller.presented.ends_ms;
        if ended_ms != 0 && self.world.wall.now_ms() >= ended_ms {
            return Err(Refusal::NotAdmitted(NotAdmitted::Ended { ended_ms }).into());
        }
        if let State::Unsealed(unsealed) = &*self.current() {
            let records = &unsealed.opened.records;
            match by {
                Freshness::Round => drop(records.read_index(deadline).await.map_err(|e| e.told_to(&caller.principal))?),
                Freshness::Known => drop(records.read_index(deadline.min(Instant::now() + ROUND)).await),
                Freshness::Heard => {}
            }
            match is_known(records, caller) {
                Ok(()) => {}
                Err(refused @ Error::Unauthenticated(_)) => return Err(refused),
                Err(e) if by == Freshness::Round => return Err(e),
                // It is being sealed, or is damaged: what it can't read says nothing, and it still shows its state.
                Err(_) => {}
            }
        }
        Ok(caller.principal.clone())
    }
}

/// Whether the credential, and who presents it, is good by what this node has applied.
fn is_known(records: &Records, caller: &Caller) -> Result<(), Error> {
    let presented = Presented { ends_ms: 0, ..caller.presented };
    let view = records.view()?;
    admit(&mut records.facts(&view)?, &Caller { presented, ..caller.clone() })
}
