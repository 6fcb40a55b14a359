//! Ending a ceremony before its time: by who began it, or by as many custodians as would complete it; nobody else,
//! whatever role (key-hierarchy §6). An operator's seal ends it too, and says so: see [`super::sealing`].

use std::sync::PoisonError;

use quorate_core::authorize::{EnterShares, authorize};
use quorate_core::principal::Principal;
use quorate_crypto::{CeremonyId, verify_abort};
use tokio::time::Instant;

use crate::error::Error;
use crate::node::Node;

/// One custodian's word that a ceremony is to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AbortSignature {
    /// The number of the share whose proof key signed.
    pub x: u8,
    /// Ed25519, as [`quorate_crypto::Share::sign_abort`] makes it.
    pub signature: Vec<u8>,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aborted {
    /// Whether the ceremony has ended: its shares are forgotten.
    pub aborted: bool,
    /// How many custodians have signed so far.
    pub signatures: u8,
    /// How many have to, unless its starter asks.
    pub threshold: u8,
}

impl Node {
    /// Ends the ceremony `id` that is open at this node: at once when `caller` began it, else with the signature that makes
    /// as many different ones as the ceremony needs shares.
    ///
    /// # Errors
    /// [`Error::NotFound`] when no such ceremony is open here; [`Error::WrongState`] without a signature from anybody but
    /// its starter; [`Error::ShareRefused`] for a signature that does not hold. Nothing was changed then.
    pub fn abort_ceremony(
        &self,
        caller: &Principal,
        id: [u8; 16],
        signature: Option<AbortSignature>,
    ) -> Result<Aborted, Error> {
        authorize::<EnterShares>(caller)?;
        let (name, caller) = (self.config.name.as_str(), caller.to_string());
        let aborted = {
            let mut open = self.ceremony.open.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(ceremony) = open.as_mut().filter(|c| c.id == id && Instant::now() < c.expires) else {
                return Err(Error::NotFound(format!(
                    "no such ceremony is open at {name}: it has ended already, or is another node's"
                )));
            };
            let config = ceremony.value.config();
            let threshold = config.threshold;
            match &signature {
                Some(s) if verify_abort(config, s.x, name, CeremonyId(id), &s.signature) => {
                    _ = ceremony.against.insert(s.x);
                }
                Some(s) => {
                    let why = format!("the signature of share {} does not hold for this ceremony and node", s.x);
                    drop(open);
                    return Err(self.refuse_share(&caller, why));
                }
                None if ceremony.starter == caller => {}
                None => {
                    return Err(Error::WrongState(format!(
                        "{} began this ceremony and may end it alone; otherwise {threshold} custodians sign that it is to \
                         end",
                        ceremony.starter
                    )));
                }
            }
            let signatures = ceremony.against.len() as u8;
            let ended = signature.is_none() || signatures >= threshold;
            if ended {
                *open = None;
            }
            Aborted { aborted: ended, signatures, threshold }
        };
        if aborted.aborted {
            tracing::info!(by = caller, "the ceremony was aborted, its shares are forgotten");
        }
        if let Some(replica) = self.current().replica() {
            replica.hello_now();
        }
        Ok(aborted)
    }
}
