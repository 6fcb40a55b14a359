//! Loopback ports for the nodes: 7600/7601, 7610/7611 …, or another row, or free ones when those are taken.
//!
//! A port is only bound by its node, a moment later. Until then, and against another `quorate dev` that starts at the
//! same time, it is reserved by a socket name that this process holds.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use quorate_core::seam::Entropy;

use crate::command::failure::{CommandResult, Failure};

/// First API port unless told otherwise; the node's peer port is the next one, the next node's ten further.
pub const FIRST: u16 = 7600;
const STEP: u16 = 10;
/// Free ports are looked for here: below the ports that the system gives to outgoing connections.
const FREE_FROM: u16 = 20_000;
const FREE_COUNT: u16 = 12_000;
const TRIES_MAX: usize = 1000;

/// Which ports a new cluster is to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
    /// The row that begins at this port, and no other.
    Exactly(u16),
    /// That row, or any free ports where it is taken.
    Preferably(u16),
    /// Any free ports.
    Any,
}

impl Row {
    /// The API port of the node at `place`, from 0.
    pub fn wanted(self, place: u16) -> Option<u16> {
        let first = match self {
            Self::Exactly(first) | Self::Preferably(first) => first,
            Self::Any => return None,
        };
        first.checked_add(place * STEP).filter(|port| *port < u16::MAX)
    }
}

/// Ports held for this process's nodes.
#[derive(Default)]
pub struct Ports {
    reserved: Vec<UnixDatagram>,
}

impl Ports {
    /// A pair of ports (API, peer) for the node at `place`, from 0.
    pub fn pick(&mut self, row: Row, place: u16, entropy: &dyn Entropy) -> CommandResult<(u16, u16)> {
        let wanted = row.wanted(place);
        if let Some(api) = wanted
            && self.reserve(api)
            && self.reserve(api + 1)
        {
            return Ok((api, api + 1));
        }
        if let Row::Exactly(first) = row {
            let why = match wanted {
                Some(api) => format!("127.0.0.1:{api} or {} is in use", api + 1),
                None => format!("the row that begins at {first} goes beyond the last port"),
            };
            let todo = "stop what uses it, name another with --first-port, or leave that out";
            return Err(Failure::failed("can't use the ports", why, todo));
        }
        for _ in 0..TRIES_MAX {
            let mut random = [0; 2];
            entropy.fill(&mut random);
            let port = FREE_FROM + u16::from_be_bytes(random) % (FREE_COUNT / 2) * 2;
            if self.reserve(port) && self.reserve(port + 1) {
                return Ok((port, port + 1));
            }
        }
        Err(Failure::failed("can't find free ports on 127.0.0.1", "every port tried is taken", "stop what uses them"))
    }

    /// Reserves the port of an address that a cluster keeps; false when it is taken.
    pub fn keep(&mut self, address: &str) -> bool {
        address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).is_some_and(|port| self.reserve(port))
    }

    fn reserve(&mut self, port: u16) -> bool {
        let name = format!("quorate-dev-port-{port}");
        let Ok(held) = SocketAddr::from_abstract_name(name).and_then(|a| UnixDatagram::bind_addr(&a)) else {
            return false;
        };
        // Bound by anybody else? The listener is closed at once.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free {
            self.reserved.push(held);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiring::OsEntropy;

    #[test]
    fn ports_are_given_once_and_only_when_free() {
        let (mut a, mut b) = (Ports::default(), Ports::default());
        let (api, peer) = a.pick(Row::Any, 0, &OsEntropy).unwrap();
        assert_eq!(peer, api + 1);
        let (other, _) = b.pick(Row::Preferably(api), 0, &OsEntropy).unwrap();
        assert_ne!(api, other, "reserved by the first, though nobody listens");
        let why = b.pick(Row::Exactly(api), 0, &OsEntropy).unwrap_err().to_string();
        assert!(why.contains(&format!("127.0.0.1:{api}")), "{why}");
        assert!(!b.keep(&format!("127.0.0.1:{api}")));
        drop(a);
        assert!(b.keep(&format!("127.0.0.1:{api}")));
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!b.keep(&taken.local_addr().unwrap().to_string()));
        assert!(!b.keep("nonsense"));
    }
}
