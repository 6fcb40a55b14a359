//! What clients asked and what they were told, in the order of one clock: the only evidence that checkers judge by.

mod edn;
mod record;

use std::collections::HashMap;

use anyhow::{Context, bail};
pub use edn::{from_text, line};
pub use record::{Recorder, Ticket};

/// State of a key as the API names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// May be used.
    Enabled,
    /// May not be used.
    Disabled,
    /// Waits for its destruction.
    PendingDeletion,
}

/// What a client asks. `text` numbers a plaintext; each encrypt has its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// Creates a key; the same token means the same key.
    Create {
        /// Number of the client token.
        token: u64,
    },
    /// Reads state and current version.
    Describe,
    /// Reads all that is known about the key.
    Inspect,
    /// Lets the key be used.
    Enable,
    /// Forbids every use.
    Disable,
    /// Schedules its deletion.
    Schedule,
    /// Schedules its deletion for so soon that it is destroyed within the run; only a cluster for development does that.
    ScheduleSoon {
        /// How long it waits.
        seconds: u32,
    },
    /// Cancels that; the key is disabled then.
    Cancel,
    /// Makes a new version.
    Rotate,
    /// Encrypts a text.
    Encrypt {
        /// Its number.
        text: u64,
    },
    /// Decrypts what an earlier encrypt made.
    Decrypt {
        /// Number of its text.
        text: u64,
    },
    /// Makes an alias stand for the key: done when it stood for nothing, or for this key.
    CreateAlias {
        /// Its number.
        alias: u64,
    },
    /// Takes an alias away.
    DeleteAlias {
        /// Its number.
        alias: u64,
    },
    /// Describes the key that an alias stands for.
    DescribeAlias {
        /// Its number.
        alias: u64,
    },
    /// Encrypts a text under the key that an alias stands for.
    EncryptAlias {
        /// Number of the alias.
        alias: u64,
        /// Number of the text.
        text: u64,
    },
    /// Seals the node.
    Seal,
    /// A whole ceremony: the shares that open a node, one after the other.
    Unseal,
    /// Enters one share at a node.
    EnterShare {
        /// Number of its custodian, from 1.
        share: u32,
        /// What is wrong with it: it must be refused then.
        flaw: Option<Flaw>,
    },
    /// Removes a member for good.
    Remove {
        /// Its number.
        member: u32,
    },
    /// A node that lost its data is taken out by its operator and joins anew, under its name: another node from here on.
    Replace,
}

/// What is wrong with a share as it is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// One character is another.
    Mistyped,
    /// The proof is not by the share's proof key.
    Unproven,
    /// The proof is over a challenge that the node never gave.
    Unchallenged,
    /// The share is whole, and of another cluster.
    Foreign,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mistyped, Self::Unproven, Self::Unchallenged, Self::Foreign];
}

impl Call {
    /// Whether it uses key material, which only an enabled key allows.
    pub fn is_use(&self) -> bool {
        matches!(self, Self::Encrypt { .. } | Self::Decrypt { .. } | Self::EncryptAlias { .. })
    }

    /// Whether it changes a key, or what an alias stands for.
    pub fn is_change(&self) -> bool {
        !self.is_use() && !self.is_read() && !self.is_operators()
    }

    /// Whether it only asks.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Describe | Self::Inspect | Self::DescribeAlias { .. })
    }

    /// Whether it is about nodes, not about keys.
    pub fn is_operators(&self) -> bool {
        matches!(self, Self::Seal | Self::Unseal | Self::EnterShare { .. } | Self::Remove { .. } | Self::Replace)
    }

    /// The alias it is about.
    pub fn alias(&self) -> Option<u64> {
        match self {
            Self::CreateAlias { alias }
            | Self::DeleteAlias { alias }
            | Self::DescribeAlias { alias }
            | Self::EncryptAlias { alias, .. } => Some(*alias),
            _ => None,
        }
    }

    /// Whether the uses of the key are forbidden from its acknowledgement on.
    pub fn revokes(&self) -> bool {
        matches!(self, Self::Disable | Self::Schedule | Self::ScheduleSoon { .. })
    }
}

/// What a client was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The key as it is after a change, or as it was found.
    Key {
        /// Its state.
        state: State,
        /// The version that encrypts.
        version: u32,
    },
    /// The key waits for its destruction.
    Due {
        /// When it is destroyed, ms since 1970: not before.
        at: u64,
        /// The version that encrypts.
        version: u32,
    },
    /// All that is known about the key.
    Metadata {
        /// Its state.
        state: State,
        /// The version that encrypts.
        version: u32,
        /// Number of the token that is in its description; 0 when the description is not what it was created with.
        token: u64,
        /// When it was created, ms since 1970 on the cluster's clock.
        created: u64,
        /// When the version that encrypts was made; 0 before the first rotation.
        rotated: u64,
    },
    /// Encrypted under that version.
    Encrypted {
        /// The version.
        version: u32,
    },
    /// Decrypted.
    Decrypted {
        /// The version that had encrypted it.
        version: u32,
        /// Whether the plaintext is what had been encrypted, to the byte.
        exact: bool,
    },
    /// The share was taken.
    Share {
        /// Whether it was the one that completed the ceremony.
        complete: bool,
    },
    /// Done; there is nothing to tell.
    Done,
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With an answer.
    Ok(Answer),
    /// It provably had no effect: the reason.
    Fail(String),
    /// It may have had its effect, or may have it at any later time: the reason.
    Info(String),
}

/// One line of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Place in the history, from 0.
    pub index: u64,
    /// Nanoseconds since the start, on the harness's monotonic clock; no two events have the same.
    pub time: u64,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// At a client.
    Client {
        /// The logical process: it has at most one call open, and is retired by an `info`.
        process: u64,
        /// The node that was asked, from 1.
        node: u32,
        /// The key's id, once known.
        key: Option<String>,
        /// Whether it belongs to the last reads, after every fault has been healed.
        last: bool,
        /// What was asked.
        call: Call,
        /// `None` when it was invoked.
        outcome: Option<Outcome>,
    },
    /// At the nemesis.
    Nemesis {
        /// What, such as `partition`.
        f: String,
        /// Details, for people and for the coverage checker.
        value: String,
    },
}

/// A call from its invocation to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Op {
    /// Index of its invocation in the history.
    pub index: u64,
    /// The logical process.
    pub process: u64,
    /// The node that was asked, from 1.
    pub node: u32,
    /// The key's id, when known.
    pub key: Option<String>,
    /// Whether it belongs to the last reads.
    pub last: bool,
    /// What was asked.
    pub call: Call,
    /// When it was invoked, ns.
    pub invoked: u64,
    /// When it was certain to be over, ns; `u64::MAX` for an `info`, which may take effect at any time.
    pub ended: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Op {
    /// Whether it succeeded.
    pub fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Ok(_))
    }

    /// Whether it took effect or may have.
    pub fn may_have_happened(&self) -> bool {
        !matches!(self.outcome, Outcome::Fail(_))
    }
}

/// A whole history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// Its lines.
    pub events: Vec<Event>,
}

impl History {
    /// Pairs invocations with their ends. A call that never ended is an `info`.
    ///
    /// # Errors
    /// A history that no harness writes: a process with two calls open, an end without a beginning, time running back.
    pub fn ops(&self) -> anyhow::Result<Vec<Op>> {
        let mut ops: Vec<Op> = Vec::new();
        let mut open: HashMap<u64, usize> = HashMap::new();
        let mut last_time = None;
        for event in &self.events {
            if last_time.is_some_and(|t| t >= event.time) {
                bail!("event {}: time runs back", event.index);
            }
            last_time = Some(event.time);
            let What::Client { process, node, key, last, call, outcome } = &event.what else { continue };
            match outcome {
                None => {
                    if open.insert(*process, ops.len()).is_some() {
                        bail!("event {}: process {process} has two calls open", event.index);
                    }
                    ops.push(Op {
                        index: event.index,
                        process: *process,
                        node: *node,
                        key: key.clone(),
                        last: *last,
                        call: call.clone(),
                        invoked: event.time,
                        ended: u64::MAX,
                        outcome: Outcome::Info("it never ended".into()),
                    });
                }
                Some(outcome) => {
                    let place = open.remove(process).with_context(|| {
                        format!("event {}: process {process} ends what it never began", event.index)
                    })?;
                    let op = &mut ops[place];
                    if op.call != *call {
                        bail!("event {}: process {process} ends another call than it began", event.index);
                    }
                    op.outcome = outcome.clone();
                    op.key = key.clone().or(op.key.take());
                    op.ended = if matches!(outcome, Outcome::Info(_)) { u64::MAX } else { event.time };
                }
            }
        }
        Ok(ops)
    }

    /// What the nemesis did: name and details, in order.
    pub fn nemesis(&self) -> impl Iterator<Item = (&Event, &str, &str)> {
        self.events.iter().filter_map(|e| match &e.what {
            What::Nemesis { f, value } => Some((e, f.as_str(), value.as_str())),
            What::Client { .. } => None,
        })
    }
}
