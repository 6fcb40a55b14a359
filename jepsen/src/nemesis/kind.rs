//! The kinds of faults, and which of them go where. Pure.

use clap::ValueEnum;

use super::partition;
use crate::net::Backend;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Kind {
    /// Links carry nothing: a minority or the leader cut off, one-way, bridge, ring, flapping
    Partition,
    /// Frames are late, overtake each other, are lost, doubled, changed, or pass slowly
    Packet,
    /// Connections are late, slow, changed, half-closed, reset
    Stream,
    /// SIGKILL to a node (half the time the leader), which is started again
    Kill,
    /// SIGSTOP to a node (half the time the leader), SIGCONT some seconds later
    Pause,
    /// A node, sometimes all at once, loses power: what was not synced to its disk is gone
    Power,
    /// Every node loses power at once
    Blackout,
    /// A node is sealed by its operator, and opened by a ceremony some seconds later
    Seal,
    /// A new node joins and a member (half the time the leader) is removed for good, in either order; leadership is handed on
    Membership,
    /// A node is away until the others have let go of the log that it lacks, and is sent the state
    Snapshot,
    /// A node's memory is limited to what it can't give back: the kernel ends it, or makes it crawl
    Memory,
    /// A node (half the time the leader) stands still for some milliseconds, again and again
    Stutter,
    /// One direction of one of the leader's links carries nothing for a moment, again and again
    Flaky,
    /// Of three nodes the leader is cut off; when another leads, the third is killed and comes back on the old leader's side
    Sides,
    /// A node's time of day leaps, drifts or runs to and fro
    Clock,
    /// The time of day of whoever leads leaps far, for a moment, again and again
    ClockLeap,
    /// All clocks of a node, its timers' too, are slow or fast; half the time the leader's
    ClockRate,
    /// Something else fills a node's disk, and goes away later
    DiskFull,
    /// Writes or syncs of a node fail with EIO
    DiskError,
    /// Writes or syncs of a node fail with ENOSPC
    DiskNoSpace,
    /// Syncs of a node take long
    DiskSlow,
    /// Syncs of a node do nothing, then it loses power
    DiskLie,
    /// Every access to a node's disk fails from one moment to the next, until it is reset
    DiskDead,
    /// A node is started on a read-only disk
    DiskReadOnly,
    /// The end of a node's journal is cut off while it is down
    TornTail,
    /// One bit of any of a node's files is changed while it is down
    BitFlip,
    /// An older copy of a node's folder, of its journal, of its state, or of the folder and its token is put in the place of the newest
    Rollback,
    /// A copy of a node's folder runs beside the node, under the same identity and at the same address
    Twin,
    /// A member's process is stopped, and somebody with its certificate and key brings to the others' doors what it never would
    Hostile,
    /// A node's token refuses every use of its keys
    HsmError,
    /// A node's token hangs, or takes long
    HsmSlow,
    /// A node's token computes wrongly
    HsmWrong,
}

impl Kind {
    /// Its name on the command line and in histories.
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Packet => "packet",
            Self::Stream => "stream",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Power => "power",
            Self::Blackout => "blackout",
            Self::Seal => "seal",
            Self::Membership => "membership",
            Self::Snapshot => "snapshot",
            Self::Memory => "memory",
            Self::Stutter => "stutter",
            Self::Flaky => "flaky",
            Self::Sides => "sides",
            Self::Clock => "clock",
            Self::ClockLeap => "clock-leap",
            Self::ClockRate => "clock-rate",
            Self::DiskFull => "disk-full",
            Self::DiskError => "disk-error",
            Self::DiskNoSpace => "disk-no-space",
            Self::DiskSlow => "disk-slow",
            Self::DiskLie => "disk-lie",
            Self::DiskDead => "disk-dead",
            Self::DiskReadOnly => "disk-read-only",
            Self::TornTail => "torn-tail",
            Self::BitFlip => "bit-flip",
            Self::Rollback => "rollback",
            Self::Twin => "twin",
            Self::Hostile => "hostile",
            Self::HsmError => "hsm-error",
            Self::HsmSlow => "hsm-slow",
            Self::HsmWrong => "hsm-wrong",
        }
    }

    /// Why it can't be had on this network, if so.
    pub fn lacks(self, net: Backend) -> Option<&'static str> {
        match self {
            Self::Packet if net != Backend::Tap => {
                Some("it takes --net tap: only that delays, loses and changes frames")
            }
            Self::Twin if net == Backend::Proxy => Some("it takes --net tap or veth: a place of its own for each node"),
            Self::Stream if net != Backend::Proxy => Some("it takes --net proxy: only that knows connections"),
            kind if kind.takes_disks() && net == Backend::Proxy => {
                Some("it takes mounts, and where those are allowed --net tap or veth is")
            }
            _ => None,
        }
    }

    /// Why it makes no sense with so many nodes.
    pub fn unfit(self, nodes: u32) -> Option<&'static str> {
        match self {
            Self::Partition if partition::shapes(nodes).is_empty() => {
                Some("can't be partitioned with a majority left; use 3 or more")
            }
            Self::Snapshot if nodes < 3 => Some("the others must go on without the node; use 3 or more"),
            Self::Hostile if nodes < 3 => Some("the others must be a majority; use 3 or more"),
            Self::Flaky if nodes < 2 => Some("it takes a link; use 2 or more"),
            Self::Sides if nodes != 3 => Some("it takes 3 nodes, no more and no fewer"),
            Self::ClockLeap if nodes < 3 => Some("a clock that leaps is told from the others; use 3 or more"),
            Self::ClockRate if nodes < 3 => Some("the rate of a clock is compared with the others'; use 3 or more"),
            Self::Twin if nodes < 3 => {
                Some("a node that two processes were is replaced from the others; use 3 or more")
            }
            kind if kind.loses_data() && nodes < 3 => {
                Some("a node that lost its data is replaced from the others; use 3 or more")
            }
            _ => None,
        }
    }

    /// Why it can't go on beside another kind, if so.
    pub fn clashes(self, other: Self) -> Option<&'static str> {
        match (self, other) {
            (Self::Membership, other) | (other, Self::Membership)
                if other.breaks_disks() || matches!(other, Self::Rollback | Self::Twin) =>
            {
                Some("a node whose data is broken may have to be replaced under its name, by another operator's hand")
            }
            _ => None,
        }
    }

    /// Whether it is a fault of a node's disk.
    pub fn breaks_disks(self) -> bool {
        use Kind::*;
        matches!(self, DiskFull | DiskError | DiskNoSpace | DiskSlow | DiskDead | DiskReadOnly) || self.loses_data()
    }

    /// Whether it is a fault of a node's token.
    pub fn breaks_tokens(self) -> bool {
        matches!(self, Self::HsmError | Self::HsmSlow | Self::HsmWrong)
    }

    /// Whether a node may lose by it what it had acknowledged, so that the others have to replace it.
    pub fn loses_data(self) -> bool {
        matches!(self, Self::DiskLie | Self::TornTail | Self::BitFlip)
    }

    /// Whether nodes need disks of their own for it.
    pub fn takes_disks(self) -> bool {
        matches!(self, Self::Power | Self::Blackout) || self.breaks_disks()
    }
}
