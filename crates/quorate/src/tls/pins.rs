//! Which identity keys the committed membership pins, as far as TLS needs to know: an expired certificate is let pass
//! for a pinned key only. Without that, a cluster that was sealed for longer than a certificate lives could never meet
//! again (key-hierarchy §6).

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The pinned identity keys by node name. Clones share them.
#[derive(Clone, Default)]
pub struct Pins(Arc<ArcSwap<BTreeMap<String, Vec<u8>>>>);

impl Pins {
    /// Replaces all pins: call it whenever membership changes.
    pub fn replace(&self, members: impl IntoIterator<Item = (String, Vec<u8>)>) {
        self.0.store(Arc::new(members.into_iter().collect()));
    }

    /// Whether this very key (SPKI, DER) is pinned for this node.
    pub fn contains(&self, name: &str, identity_spki: &[u8]) -> bool {
        self.0.load().get(name).is_some_and(|pinned| pinned == identity_spki)
    }
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.load().keys()).finish()
    }
}
