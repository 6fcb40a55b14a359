//! The network of a run: a place for each node and one for the clients, and links between them that fail as they are told.
//!
//! | back end | how | cut | delay, jitter, loss, duplication, corruption, rate | recorded |
//! | --- | --- | --- | --- | --- |
//! | [`tap`] | namespaces joined by a switch of our own | frames, per direction | yes | yes |
//! | [`proxy`] | loopback, a TCP proxy for each node | connections held, per direction | delay, rate, changed bytes, half-close, reset | no |
//! | [`veth`] | namespaces joined by a bridge of the kernel, nftables | frames, per direction | no | no |
//!
//! The machine's own network is not touched.

pub mod frame;
pub mod link;
mod places;
pub mod proxy;
mod recording;
pub mod stream;
pub mod tap;
mod trial;
pub mod veth;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use link::{Counts, Policy};
pub use places::output as feed;
pub use recording::Recorded;
#[cfg(test)]
pub(crate) use recording::tests::record as record_for_tests;

/// The clients' place in the network.
pub const CLIENTS: u32 = 250;
/// The greatest number of a node's place.
pub const PLACES_MAX: u32 = 99;
/// Where nodes answer clients.
pub const API_PORT: u16 = 7600;
/// Where nodes answer each other.
pub const PEER_PORT: u16 = 7601;

/// A way to build a network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Namespaces joined by a switch of our own: cuts, delays, loses, doubles and changes frames, and records them
    Tap,
    /// Namespaces joined by the kernel's bridge: cuts only, and seven times the throughput
    Veth,
    /// Loopback and a TCP proxy, where namespaces are not allowed: connections are held, late, slow, changed, half-closed, reset
    Proxy,
}

impl Backend {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Veth => "veth",
            Self::Proxy => "proxy",
        }
    }

    /// Whether its links can do more than be cut ([`Policy`]).
    pub fn shapes(self) -> bool {
        self != Self::Veth
    }

    /// Whether it records what nodes send.
    pub fn records(self) -> bool {
        self == Self::Tap
    }

    /// Builds a network for `nodes` nodes. What earlier runs left behind whose process is gone is removed first.
    ///
    /// # Errors
    /// With what the system refused (`jepsen doctor`).
    pub fn build(self, nodes: u32, seed: u64, recording: Option<Recording>) -> anyhow::Result<Box<dyn Net>> {
        Ok(match self {
            Self::Tap => Box::new(tap::Tap::build(nodes, seed, recording)?),
            Self::Veth => Box::new(veth::Veth::build(nodes)?),
            Self::Proxy => Box::new(proxy::Proxy::build(nodes, seed)?),
        })
    }

    /// Builds a small network, tries it out, and takes it down again.
    ///
    /// # Errors
    /// With what the system refused.
    pub fn try_out(self) -> anyhow::Result<()> {
        let net = self.build(2, 0, None)?;
        trial::run(&*net, 1)?;
        // Nodes come later, too.
        net.attach(3)?;
        trial::run(&*net, 3)
    }

    /// The first that this machine allows; the one that can do most first.
    ///
    /// # Errors
    /// None does: with what each was refused.
    pub fn best() -> anyhow::Result<Self> {
        Self::allowed(1)?.first().copied().context("no network")
    }

    /// The first `most` of those that this machine allows; the one that can do most first.
    ///
    /// # Errors
    /// None does: with what each was refused.
    pub fn allowed(most: usize) -> anyhow::Result<Vec<Self>> {
        let (mut allowed, mut refused) = (Vec::new(), Vec::new());
        for backend in Self::value_variants() {
            match backend.try_out() {
                Ok(()) => allowed.push(*backend),
                Err(e) => refused.push(format!("{}: {e:#}", backend.name())),
            }
            if allowed.len() == most {
                break;
            }
        }
        if !allowed.is_empty() {
            return Ok(allowed);
        }
        bail!("no network can be built here; run as root, outside a container that forbids it: {}", refused.join("; "))
    }
}

/// Where frames are recorded, and how much of them.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The pcap file.
    pub file: PathBuf,
    /// Its greatest length, bytes.
    pub limit: u64,
}

/// A network; taken down when dropped.
pub trait Net: Sync {
    /// Which it is.
    fn backend(&self) -> Backend;

    /// The address at which a node listens.
    fn listens(&self, node: u32) -> IpAddr {
        own_address(node)
    }

    /// The address at which all others reach a node.
    fn reached(&self, node: u32) -> IpAddr {
        own_address(node)
    }

    /// A place more, for a node that comes later; it is joined to all others.
    ///
    /// # Errors
    /// What the system refused.
    fn attach(&self, node: u32) -> anyhow::Result<()>;

    /// Makes a node's folder, whose process is to be started, its own.
    ///
    /// # Errors
    /// What the system said.
    fn own(&self, _node: u32, _folder: &Path) -> anyhow::Result<()> {
        Ok(())
    }

    /// Moves this thread, and those it starts from now on, to the clients' place.
    ///
    /// # Errors
    /// What the system said.
    fn enter(&self) -> anyhow::Result<()>;

    /// Moves this thread to a node's place.
    ///
    /// # Errors
    /// What the system said.
    fn visit(&self, node: u32) -> anyhow::Result<()>;

    /// A command that will run at a node's place, under its own process id.
    fn command(&self, node: u32, program: &Path) -> Command;

    /// Drops everything from the first to the second place of each pair, and of no others.
    ///
    /// # Errors
    /// What the system said.
    fn cut(&self, pairs: &[(u32, u32)]) -> anyhow::Result<()>;

    /// Restores every cut link; returns how many frames were dropped, or pieces and connections held, since the last call.
    ///
    /// # Errors
    /// What the system said.
    fn heal(&self) -> anyhow::Result<u64>;

    /// Links from the first to the second place of each pair follow the policy, and no others follow any.
    ///
    /// # Errors
    /// The back end can't.
    fn shape(&self, pairs: &[(u32, u32)], policy: &Policy) -> anyhow::Result<()>;

    /// No link follows a policy any more; returns what the last one did.
    ///
    /// # Errors
    /// The back end can't.
    fn unshape(&self) -> anyhow::Result<Counts>;

    /// Ends the recording, if there was one; no frame passes any more.
    ///
    /// # Errors
    /// The file could not be written.
    fn recorded(&self) -> anyhow::Result<Option<Recorded>>;
}

/// The address of a place in a namespace of its own.
fn own_address(place: u32) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, place as u8).into()
}
