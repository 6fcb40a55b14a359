//! The ids of new objects, made with the keyring (key-model §1.2).

use std::sync::Arc;

use quorate_core::id::{KeyId, Namespace};
use quorate_core::name::Class;
use quorate_core::principal::Principal;
use quorate_core::request::Token;
use quorate_core::seam::{Entropy, NewIds};
use quorate_crypto::Keyring;

use super::Records;
use crate::error::Error;

/// Makes them for one decision; holds the keyring, so it is never kept across an await.
pub struct KeyringIds {
    keyring: Arc<Keyring>,
    entropy: Arc<dyn Entropy>,
}

impl Records {
    /// # Errors
    /// [`Error::Sealed`] once the desk is closed.
    pub fn new_ids(&self) -> Result<KeyringIds, Error> {
        Ok(KeyringIds { keyring: self.barrier.keyring()?, entropy: self.world.entropy.clone() })
    }
}

impl KeyringIds {
    fn id(&self, namespace: Namespace, class: Class, time_ms: u64, free: u64) -> KeyId {
        KeyId::new(time_ms, free, self.keyring.list_tag(namespace, class))
    }
}

impl NewIds for KeyringIds {
    fn fresh(&self, namespace: Namespace, class: Class, time_ms: u64) -> KeyId {
        let mut free = [0; 8];
        self.entropy.fill(&mut free);
        self.id(namespace, class, time_ms, u64::from_be_bytes(free))
    }
    fn of_token(&self, by: &Principal, namespace: Namespace, token: Token, n: u32) -> KeyId {
        self.id(namespace, Class::Key, token.time_ms(), self.keyring.free_of_token(&by.encode(), token, n))
    }
}
