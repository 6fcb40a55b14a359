//! What this node believes of seal configurations: the hashes in its node file, and what custodians signed on from them
//! (trust.md §5). Whoever writes the state, a hostile leader included, can put a configuration there with custodians of its
//! own; no share is taken and no key used under it.

use std::sync::{Mutex, PoisonError};

use quorate_core::REPLACE_MEMBER;
use quorate_core::record_key::RecordKey;
use quorate_crypto::{SealConfig, SealConfigHash, descends};
use quorate_replica::{OpenError, Replica, View};

use crate::error::Error;
use crate::node::Node;
use crate::records::facts::unreadable;

/// The pins of this node, as in its node file.
pub(crate) struct Pins(Mutex<Vec<SealConfigHash>>);

impl Pins {
    pub(crate) fn new(pins: Vec<SealConfigHash>) -> Self {
        Self(Mutex::new(pins))
    }

    pub(crate) fn get(&self) -> Vec<SealConfigHash> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Node {
    /// Believes in these from now on; they are in the node file when this returns.
    pub(super) fn set_pins(&self, pins: Vec<SealConfigHash>) -> Result<(), OpenError> {
        let mut held = self.pins.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != pins {
            Replica::set_pins(&*self.world.disk, &self.config.data_dir, &pins)?;
            *held = pins;
        }
        Ok(())
    }

    /// Moves the pin on to a configuration that descends from it and whose anchor key opened the keyring: a re-share that was
    /// abandoned has signatures too, but no keyring.
    pub(super) fn move_pin(&self, to: SealConfigHash) {
        if let Err(e) = self.set_pins(vec![to]) {
            // Nothing is lost: the state's own chain leads from the old pin to here.
            tracing::warn!(%e, "the pin of the seal configuration can't be moved on");
        }
    }
}

/// Why a state's seal configuration can't be believed.
pub(super) fn unpinned(config: &SealConfig) -> Error {
    Error::Damaged(format!(
        "unpinned: the seal configuration in this node's state (generation {}, fingerprint {}) is neither the one that this \
         node was introduced to nor signed on from it by the custodians; no share is taken and no key used here; find out \
         which node wrote it, then {REPLACE_MEMBER}",
        config.generation,
        config.fingerprint()
    ))
}

/// Whether `config`, which is in force in `view`, is pinned or was signed on to, link by link, from one that is.
pub(super) fn is_believed(view: &View, config: &SealConfig, pins: &[SealConfigHash]) -> Result<bool, Error> {
    let mut chain = vec![config.clone()];
    while let Some(newest) = chain.last().filter(|config| !pins.contains(&config.hash())) {
        let generation = newest.generation.saturating_sub(1);
        let earlier = view.value(&RecordKey::seal_config(generation)).map_err(unreadable)?;
        match earlier.and_then(|bytes| SealConfig::decode(&bytes).ok()) {
            Some(earlier) if earlier.hash() == newest.previous_hash => chain.push(earlier),
            _ => return Ok(false),
        }
    }
    chain.reverse();
    Ok(descends(pins, &chain))
}

/// Every seal configuration from the first to that of `generation`, as it is sent.
pub(super) fn configurations(view: &View, generation: u32) -> Result<Vec<Vec<u8>>, Error> {
    let of = |g| view.value(&RecordKey::seal_config(g)).map_err(unreadable).map(|bytes| bytes.map(Vec::from));
    (1..=generation).map(of).collect::<Result<Option<_>, _>>().map(Option::unwrap_or_default)
}

/// Whether `told`, which begins with the first, is one linked chain that comes to the configuration with this hash and goes
/// on from there only as custodians signed.
pub(super) fn leads_to(told: &[Vec<u8>], hash: &SealConfigHash) -> bool {
    let chain: Option<Vec<_>> = told.iter().map(|bytes| SealConfig::decode(bytes).ok()).collect();
    chain.is_some_and(|chain| {
        let first = chain.first().is_some_and(|c| c.generation == 1);
        let linked = chain.windows(2).all(|pair| pair[0].hash() == pair[1].previous_hash);
        first && linked && descends(&[*hash], &chain)
    })
}
