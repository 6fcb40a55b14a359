//! Watches the keyring's record: the step from one root key and epoch to the next, as the log tells it (key-hierarchy §4.5).
//!
//! A desk that was handed the next keyring beforehand opens records with it at once, and seals with it from the entry
//! that puts it into the state. A desk that missed it closes at that entry, before anything later can be read here.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quorate_core::record_key::RecordKey;
use quorate_crypto::Keyring;
use quorate_replica::{ApplyObserver, ReadRecord, Touched};
use tokio::sync::watch;

use super::hot::HotView;
use crate::records::barrier::Barrier;

/// Where a desk stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stands {
    /// At the keyring of the state: the one it was opened with, or, after so many rotations, the last one it was handed.
    Current(u32),
    /// The keyring in the state is one that this desk was not handed.
    Behind,
}

/// Watches the keyring's record while entries are applied.
pub struct KeyringWatch {
    hot: Arc<HotView>,
    barrier: Arc<Barrier>,
    key: RecordKey,
    boxed: Mutex<Boxes>,
    stands: watch::Sender<Stands>,
}

struct Boxes {
    now: Bytes,
    next: Option<Bytes>,
}

impl KeyringWatch {
    /// A watch over the desk whose keyring is in the state as `now`.
    pub fn new(hot: Arc<HotView>, barrier: Arc<Barrier>, now: Bytes) -> Self {
        let boxed = Mutex::new(Boxes { now, next: None });
        Self { hot, barrier, key: RecordKey::keyring(), boxed, stands: watch::Sender::new(Stands::Current(0)) }
    }

    /// Makes ready for the rotation to `keyring`, as boxed; one that was prepared before and has not come is given up.
    pub fn prepare(&self, boxed: Bytes, keyring: &Arc<Keyring>) {
        let mut boxes = self.boxed.lock().unwrap_or_else(PoisonError::into_inner);
        if boxes.now != boxed {
            boxes.next = Some(boxed);
            self.barrier.read_ahead(keyring);
        }
    }

    /// Where the desk stands, as it changes.
    pub fn watch(&self) -> watch::Receiver<Stands> {
        self.stands.subscribe()
    }

    fn came(&self, value: Option<&Bytes>) {
        let mut boxes = self.boxed.lock().unwrap_or_else(PoisonError::into_inner);
        match value {
            // Written anew, unchanged: an approval does that.
            Some(value) if *value == boxes.now => {}
            Some(value) if boxes.next.as_ref() == Some(value) => {
                boxes.now = value.clone();
                boxes.next = None;
                self.barrier.begin_epoch();
                self.stands.send_modify(|stands| {
                    if let Stands::Current(rotations) = stands {
                        *rotations = rotations.wrapping_add(1);
                    }
                });
            }
            _ => {
                self.barrier.close();
                self.hot.close();
                self.stands.send_replace(Stands::Behind);
            }
        }
    }
}

impl ApplyObserver for KeyringWatch {
    fn applied(&self, index: u64, touched: &[Touched]) {
        if let Some((_, _, value)) = touched.iter().find(|(key, _, _)| *key == self.key) {
            self.came(value.as_ref());
        }
        self.hot.applied(index, touched);
    }

    fn replaced(&self, index: u64, record: ReadRecord<'_>) {
        // The rotation may be in what was not applied entry by entry. A record that can't be read counts as missed.
        self.came(record(&self.key).ok().flatten().as_ref());
        self.hot.replaced(index, record);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use quorate_core::id::{ClusterId, GroupId, Lineage};
    use quorate_core::seam::Entropy;

    use super::*;
    use crate::records::barrier::Identity;

    struct Os;
    impl Entropy for Os {
        fn fill(&self, out: &mut [u8]) {
            aws_lc_rs::rand::fill(out).unwrap();
        }
    }

    const NOW: Bytes = Bytes::from_static(b"the keyring it was opened with");
    const NEXT: Bytes = Bytes::from_static(b"the keyring it was handed");

    fn desk() -> (KeyringWatch, Arc<Barrier>) {
        let hsm_random = quorate_crypto::Secret::from_array([1; 32]);
        let keyring = Arc::new(Keyring::generate(&hsm_random, &Os));
        let of = Identity { lineage: Lineage([1; 16]), cluster: ClusterId([2; 16]), group: GroupId(0) };
        let barrier = Arc::new(Barrier::new(keyring.clone(), of, Arc::new(Os)));
        let watch = KeyringWatch::new(Arc::new(HotView::new(1 << 20)), barrier.clone(), NOW);
        watch.prepare(NEXT, &keyring);
        (watch, barrier)
    }

    /// A snapshot may bring the rotation, or one that was missed, without the entry that made it.
    #[test]
    fn a_replaced_state_tells_where_the_desk_stands() {
        let other = Bytes::from_static(b"another keyring");
        let cases = [
            (Some(NOW), Stands::Current(0)),
            (Some(NEXT), Stands::Current(1)),
            (Some(other), Stands::Behind),
            (None, Stands::Behind),
        ];
        for (boxed, stands) in cases {
            let (watch, barrier) = desk();
            watch.replaced(9, &|key| Ok(boxed.clone().filter(|_| *key == RecordKey::keyring())));
            assert_eq!(*watch.watch().borrow(), stands, "{boxed:?}");
            assert_eq!(barrier.keyring().is_ok(), stands != Stands::Behind, "a desk that missed it is closed");
        }
        let (watch, barrier) = desk();
        watch.replaced(9, &|_| Err(io::Error::other("the disk is gone")));
        assert!(barrier.keyring().is_err() && *watch.watch().borrow() == Stands::Behind);
    }
}
