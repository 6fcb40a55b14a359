//! Connections in one room of seats ([`Seats`]), each of which learns when it has to leave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::seats::{Room, Seat, Seats};

/// Connections of one kind on one port, by source. Clones are the same room.
pub struct Doorstep<S>(Arc<Mutex<Present<S>>>);

impl<S> Clone for Doorstep<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Present<S> {
    seats: Seats<S>,
    /// Dropping one tells its guest to leave.
    guests: HashMap<Seat, oneshot::Sender<Infallible>>,
}

/// A connection on the doorstep; gives its seat back when dropped.
pub struct Guest<S: Clone + Eq + Hash> {
    doorstep: Doorstep<S>,
    source: S,
    seat: Seat,
    /// None once it has learnt it.
    sent_away: Option<oneshot::Receiver<Infallible>>,
}

impl<S: Clone + Eq + Hash> Doorstep<S> {
    /// An empty room.
    pub(super) fn new(room: Room) -> Self {
        Self(Arc::new(Mutex::new(Present { seats: Seats::new(room), guests: HashMap::new() })))
    }

    /// Takes in a connection from `source`, if there is a place or one is made.
    pub(super) fn enter(&self, source: S) -> Option<Guest<S>> {
        let mut present = self.present();
        let (seat, gone) = present.seats.enter(&source)?;
        let (stays, sent_away) = oneshot::channel();
        present.guests.insert(seat, stays);
        drop(gone.and_then(|gone| present.guests.remove(&gone)));
        Some(Guest { doorstep: self.clone(), source, seat, sent_away: Some(sent_away) })
    }

    fn present(&self) -> MutexGuard<'_, Present<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Clone + Eq + Hash> Guest<S> {
    /// Waits until somebody else has been given the seat.
    pub async fn sent_away(&mut self) {
        if let Some(sent_away) = &mut self.sent_away {
            let _ = sent_away.await;
        }
        self.sent_away = None;
    }
}

impl<S: Clone + Eq + Hash> Drop for Guest<S> {
    fn drop(&mut self) {
        let mut present = self.doorstep.present();
        present.seats.leave(&self.source, self.seat);
        present.guests.remove(&self.seat);
    }
}

/// Whose an address is: one machine usually has a whole /64 of IPv6.
pub(super) fn source_of(from: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match from.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & NETWORK)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::seats::WhenFull;
    use super::*;

    #[tokio::test]
    async fn whoever_has_to_leave_learns_it_and_nothing_is_kept_of_who_has_gone() {
        let doorstep = Doorstep::new(Room { max: 3, of_one_max: 2, when_full: WhenFull::Replace });
        let enter = |from: &str| doorstep.enter(source_of(from.parse().unwrap())).unwrap();
        let mut first = enter("10.0.0.1");
        let mut second = enter("::ffff:10.0.0.1");
        assert_eq!(first.sent_away().now_or_never(), None);
        let third = enter("10.0.0.1");
        assert_eq!(first.sent_away().now_or_never(), Some(()), "the same source, however it is written");
        drop(first);
        assert_eq!(second.sent_away().now_or_never(), None);
        let (a, b) = (enter("2001:db8::1"), enter("2001:db8::2:0:0:1"));
        assert_eq!(second.sent_away().now_or_never(), Some(()), "one /64 after the other found a seat");
        drop((second, third, a, b));
        assert!(doorstep.present().guests.is_empty());
        assert!(enter("10.0.0.1").sent_away().now_or_never().is_none());
    }
}
