//! Why the replica refuses or fails, in its callers' terms.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_core::REPLACE_MEMBER;
use quorate_core::id::{ClusterId, NodeId};
use quorate_journal::disk::is_full;
use thiserror::Error;

use crate::quorum::Quorum;

/// Something found while running after which this node no longer serves.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Problem {
    /// A committed batch does not carry a valid MAC: a sealed leader let a forged batch in (key-hierarchy §2).
    #[error(
        "the committed batch at index {index} was forged (its MAC does not hold): this node stopped serving. The node \
         that led then, while it was sealed, let it in: the nodes' logs say which; take it off the network. An entry \
         can't be undone yet: keep the data folders of all nodes as they are"
    )]
    BadMac {
        /// Where it stands in the log.
        index: u64,
    },
    /// The state on disk is not what was applied. The log is not concerned: this node goes on voting.
    #[error("{0}")]
    State(String),
    /// An older part of the log on disk is not what was written. The state stands for it, and what is newer was read at the
    /// start: this node goes on voting and leading. Who needs that part is sent the state.
    #[error("the journal is damaged: {0}; {REPLACE_MEMBER}")]
    Journal(String),
    /// What comes next is of a version that this one does not know. Says what it met, and which level is needed.
    #[error("{0}. Nothing is lost: this node stopped before that, and goes on from there then")]
    UpgradeNeeded(String),
    /// The disk is full, and so is what was set aside for that.
    #[error(
        "the disk is full, so the state can't be written ({0}): this node stopped serving; make room on the disk of its \
         data directory and start it again, what was acknowledged is in its log"
    )]
    DiskFull(String),
    /// What is on this node's disk is older than what the node has said or done: its data directory was put back from a
    /// copy, or runs twice, or its disk lies about syncs.
    #[error(
        "{0}: its disk took back what was synced to it, its data directory was put back from an older copy, or a second copy \
         of it runs. It neither votes nor follows nor changes anything any more; the other members serve as long as they are \
         a majority. {REPLACE_MEMBER}"
    )]
    Lost(Rollback),
    /// The consensus core stopped.
    #[error("replication stopped: {0}; restart this node, and look at its disk if that does not help")]
    Stopped(String),
}

impl Problem {
    /// Whether this node should let another one lead that says it serves. Not after a forged batch: who still serves then has not
    /// come so far, or forged it.
    pub(crate) fn makes_way(&self) -> bool {
        matches!(self, Self::State(_) | Self::DiskFull(_) | Self::UpgradeNeeded(_))
    }

    /// Of two problems the graver one is told and acted upon: damage of an old part of the log ends nothing, to be lost ends all.
    pub(crate) fn gravity(&self) -> u8 {
        match self {
            Self::Journal(_) => 0,
            Self::Lost(_) => 2,
            _ => 1,
        }
    }

    /// Whether this node, if it leads, takes no more into the log.
    pub(crate) fn ends_sequencing(&self) -> bool {
        !matches!(self, Self::Journal(_))
    }
}

/// What shows that a node was rolled back: others, or its token, know more of it than is here.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Rollback {
    /// The log lacks what was acknowledged.
    #[error("this node has acknowledged entry {acked} of the log, which is not here")]
    Entries {
        /// Index of the newest entry that others count on.
        acked: u64,
    },
    /// It was found out before, and is written in the node file.
    #[error("this node was found to have less than it had said, at an earlier start")]
    Before,
    /// The state and the log end before what the token says to have been there.
    #[error("this node had applied entry {known} of the log, as its token says, but here the log ends at entry {mine}")]
    Applied {
        /// Index of the entry that was applied.
        known: u64,
        /// Index of the last one that is here.
        mine: u64,
    },
    /// The vote that was given is gone.
    #[error("this node's newest vote is of term {mine}, but it has given one in term {known}")]
    Vote {
        /// The term it is known to have voted in.
        known: u64,
        /// The term of the vote that is here.
        mine: u64,
    },
    /// Another start of this node is known.
    #[error("this is start {mine} of this node, but start {known} of it, another process, is known")]
    Superseded {
        /// The number of this start.
        mine: u32,
        /// The number that the log knows.
        known: u32,
    },
}

/// Why a replica could not be opened or created.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder already holds a node.
    #[error("{0} already belongs to a node; choose an empty data_dir, or start that node")]
    AlreadyExists(String),
    /// The folder holds none.
    #[error("{0} holds no node yet: found a cluster or join one first")]
    Missing(String),
    /// The folder belongs to someone else.
    #[error(
        "the data directory belongs to node {found_node} ({found_name}) of cluster {found_cluster}, \
         but the configuration and certificate say {name} of {cluster}; point data_dir at this node's own folder"
    )]
    WrongNode {
        /// The cluster the folder belongs to.
        found_cluster: ClusterId,
        /// The node id in the folder.
        found_node: NodeId,
        /// The node's name in the folder.
        found_name: String,
        /// What was expected.
        cluster: ClusterId,
        /// What was expected.
        name: String,
    },
    /// Another process has it open.
    #[error("{0}")]
    InUse(String),
    /// What is on disk can't be trusted; the node must not vote.
    #[error("{0}")]
    Damaged(String),
    /// What is on disk is whole, and of a version that this one does not know.
    #[error("{0}. Nothing is lost: this node goes on from there then")]
    UpgradeNeeded(String),
    /// The disk is full.
    #[error(
        "the disk of {dir} is full, so this node can't start ({error}): make room there and start it again; nothing was \
         lost"
    )]
    DiskFull {
        /// The data directory.
        dir: String,
        /// Which file found no room.
        error: io::Error,
    },
    /// A setting makes no sense.
    #[error("configuration of the replica: {0}")]
    Config(String),
    /// The operating system refused.
    #[error("{doing}: {error}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }

    /// Says so when it is a full disk that kept the node from starting.
    pub(crate) fn of_disk(self, dir: &Path) -> Self {
        match self {
            Self::Io { doing, error } if is_full(&error) => Self::DiskFull {
                dir: dir.display().to_string(),
                error: io::Error::new(error.kind(), format!("{doing}: {error}")),
            },
            other => other,
        }
    }
}

/// Why a cluster could not be founded.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FoundError {
    /// There is one already.
    #[error("cluster {0} is founded already; a second init is refused")]
    AlreadyFounded(ClusterId),
    /// The member's fields are unusable.
    #[error("{0}: correct the node's configuration")]
    Invalid(String),
    /// It did not work, and nothing was written.
    #[error("the cluster could not be founded: {0}; look at the log of this node and try again")]
    Failed(String),
    /// It was begun: the log has its first entry, and may have genesis.
    #[error("founding the cluster is not finished: {0}")]
    Begun(String),
}

/// Why no read index was had; nothing may be answered from the state.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    /// No leader confirmed the state within the deadline.
    #[error("no majority of the cluster confirmed the state in time ({0}); try again, or ask another node")]
    Unavailable(String),
    /// There has been no majority of the voters, or none that leads, for longer than elections take.
    #[error("{0}")]
    NoMajority(Quorum),
    /// This node has stopped serving.
    #[error(transparent)]
    Stopped(#[from] Problem),
}

/// Why a proposal has no outcome.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ProposeError {
    /// It may have been applied, or may still be.
    #[error("the outcome is unknown: the deadline passed while the change was under way ({0})")]
    Unknown(String),
    /// Certainly not applied: it has not left this node.
    #[error("the change was not accepted: {0}")]
    NotAccepted(String),
    /// Certainly not applied, it has not left this node: too few voters have disk space to store it. Says which have not.
    #[error("the change was not accepted: {0}")]
    NoSpace(String),
}

/// Why a membership change failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum MembershipError {
    /// Refused by a rule; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// No leader took it within the deadline; nothing was changed.
    #[error("no leader took the membership change in time ({0}); nothing was changed, try again")]
    Unavailable(String),
    /// It was under way when the deadline passed: look at the members before trying again.
    #[error("the outcome of the membership change is unknown ({0}); list the members before trying again")]
    Unknown(String),
}

/// Why a call to a peer failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CallError {
    /// Nobody by that id is a member.
    #[error("node {0} is no member of this cluster")]
    NoMember(NodeId),
    /// The peer answered nothing in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// It could not be reached, or the connection broke.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// It refused to talk to us (foreign cluster, not pinned, …).
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// Its application answered with an error.
    #[error("{0}")]
    Application(String),
}

/// Why this node's state must not be served from.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StateMismatch {
    /// It does not match its own digest, or can't be read.
    #[error(
        "the state in {file} at index {index} does not match its digest ({what}): this node must not serve; {todo}",
        file = file.display(),
        todo = quorate_core::REPLACE_MEMBER
    )]
    Digest {
        /// Where it is kept.
        file: PathBuf,
        /// The applied index of the scanned view.
        index: u64,
        /// What was found.
        what: String,
    },
    /// It was made from a forged batch, applied while this node was sealed or had stopped serving.
    #[error(transparent)]
    Forged(Problem),
}
