//! The node's own secret, boxed to its token, as the replica uses it.

use std::io;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_core::id::{ClusterId, Name};
use quorate_core::seam::Entropy;
use quorate_crypto::{BoxedOwnKey, OWN_TAG_LEN};
use quorate_hsm::{Hsm, HsmError};
use quorate_replica::{MadeOwnKey, OwnKey, OwnKeys};

/// Boxes it to the KEM key of a token.
pub struct HsmOwnKeys {
    hsm: Hsm,
    cluster: ClusterId,
    name: Name,
    entropy: Arc<dyn Entropy>,
}

struct Key(quorate_crypto::OwnKey);

impl OwnKey for Key {
    fn tag(&self, word: &[u8]) -> [u8; OWN_TAG_LEN] {
        self.0.tag(word)
    }
}

impl HsmOwnKeys {
    /// For the node of that name.
    pub fn new(hsm: Hsm, cluster: ClusterId, name: Name, entropy: Arc<dyn Entropy>) -> Self {
        Self { hsm, cluster, name, entropy }
    }
}

fn not_this_token(e: &dyn std::fmt::Display) -> io::Error {
    let what = format!(
        "its HSM does not open this node's own key ({e}): connect the token this node was made with, or restore its node file"
    );
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl OwnKeys for HsmOwnKeys {
    fn make(&self) -> BoxFuture<'_, io::Result<MadeOwnKey>> {
        async {
            let kem = &self.hsm.node_keys().map_err(io::Error::other)?.kem;
            let made = BoxedOwnKey::make(kem.alg, &kem.spki_der, self.cluster, &self.name, &*self.entropy);
            let (boxed, key) = made.map_err(io::Error::other)?;
            Ok((boxed.encode(), Arc::new(Key(key)) as Arc<dyn OwnKey>))
        }
        .boxed()
    }

    fn open<'a>(&'a self, boxed: &'a [u8]) -> BoxFuture<'a, io::Result<Arc<dyn OwnKey>>> {
        async {
            let spki = &self.hsm.node_keys().map_err(io::Error::other)?.kem.spki_der;
            let boxed = BoxedOwnKey::decode(boxed).map_err(|e| not_this_token(&e))?;
            let raw = self.hsm.decapsulate(boxed.ct_h()).await.map_err(|e| match e {
                HsmError::Refused { .. } => not_this_token(&e),
                e => io::Error::other(e),
            })?;
            let key = boxed.open(raw, spki, self.cluster, &self.name).map_err(|e| not_this_token(&e))?;
            Ok(Arc::new(Key(key)) as Arc<dyn OwnKey>)
        }
        .boxed()
    }
}
