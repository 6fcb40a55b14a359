//! What clients asked and what they were told, in the order of one clock: the only evidence that checkers judge by.

mod call;
mod edn;
mod record;

use std::collections::HashMap;

use anyhow::{Context, bail};
pub use call::{Call, Flaw, Form};
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
    /// The state of each version, oldest first, a letter each: active, deactivated, compromised, `x` destroyed, `X` destroyed
    /// and compromised; `-` = without its material.
    Versions {
        /// The letters.
        states: String,
        /// When imported material is erased, or was, ms since 1970; 0 = it has no end.
        ends: u64,
    },
    /// The material that was imported, or that left.
    Material {
        /// Its number.
        material: u64,
        /// When it is erased, ms since 1970; 0 = never, or it was not told.
        ends: u64,
    },
    /// A backup was made, or a secret has that version.
    Made {
        /// The version that was current.
        version: u32,
    },
    /// What a secret was.
    Value {
        /// Number of the value; 0 = none that anybody gave it.
        value: u64,
        /// The version that had it.
        version: u32,
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
