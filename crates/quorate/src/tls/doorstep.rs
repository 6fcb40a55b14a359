//! Connections of nobody known yet, in a handshake or without a certificate: how many there may be, and how many of one
//! source, so that one machine keeps no other out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of one kind on one port, by source.
#[derive(Clone)]
pub(super) struct Doorstep {
    places: Arc<Semaphore>,
    of_one_max: usize,
    by_source: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place on the doorstep; nobody stands there yet.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A connection on the doorstep.
pub(super) struct Guest {
    doorstep: Doorstep,
    source: IpAddr,
    _place: Place,
}

impl Doorstep {
    /// For `max` connections, half of them of one source at most.
    pub(super) fn new(max: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(max)), of_one_max: max / 2, by_source: Arc::default() }
    }

    /// Waits for a place. Take one before accepting: while all are taken, connections wait in the kernel's backlog, not in
    /// our memory.
    pub(super) async fn place(&self) -> Place {
        // The semaphore is never closed.
        Place { _permit: self.places.clone().acquire_owned().await.expect("never closed") }
    }

    /// Takes in a connection from `from` at once, if there is a place.
    pub(super) fn try_enter(&self, from: IpAddr) -> Option<Guest> {
        self.enter(Place { _permit: self.places.clone().try_acquire_owned().ok()? }, from)
    }

    /// Takes in a connection from `from`; none when its source has its share of the places already.
    pub(super) fn enter(&self, place: Place, from: IpAddr) -> Option<Guest> {
        let source = source_of(from);
        let mut by_source = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_source.entry(source).or_default();
        if *count >= self.of_one_max {
            return None;
        }
        *count += 1;
        Some(Guest { doorstep: self.clone(), source, _place: place })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut by_source = self.doorstep.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

/// Whose an address is: one machine usually has a whole /64 of IPv6.
fn source_of(from: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match from.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & NETWORK)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_source_leaves_half_of_the_places_to_the_others() {
        let doorstep = Doorstep::new(4);
        let enter = async |from: &str| doorstep.enter(doorstep.place().await, from.parse().unwrap());
        let first = enter("10.0.0.1").await.unwrap();
        let second = enter("::ffff:10.0.0.1").await.unwrap();
        assert!(enter("10.0.0.1").await.is_none(), "the same source, however it is written");
        let other = enter("2001:db8::1").await.unwrap();
        let another = enter("2001:db8::2:0:0:1").await.unwrap();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, doorstep.place()).await.is_err(), "all are taken");
        drop(another);
        drop(first);
        assert!(enter("10.0.0.1").await.is_some());
        drop((second, other));
        assert!(doorstep.by_source.lock().unwrap().is_empty(), "nothing is kept of who has gone");
    }
}
