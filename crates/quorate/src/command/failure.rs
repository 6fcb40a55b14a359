//! How a command fails: exit code 1 with what, why and what to do; exit code 2 when it was called wrongly; 3 when it did what it
//! was asked for, and has shown a cluster in which something is wrong.

use std::fmt;

use quorate_client::{ClientError, reason};
use serde_json::{Value, json};

use super::{explain, output};

/// The code of a command that was called wrongly.
pub const USAGE: &str = "USAGE";
/// The code of whatever fails on this machine.
pub const FAILED: &str = "FAILED";

/// The code of a signature, or an authentication code, that is not right.
pub const NOT_VALID: &str = "NOT_VALID";

/// Result of a command.
pub type CommandResult<T = ()> = Result<T, Failure>;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// Called wrongly: exit code 2.
    Usage(String),
    /// What was shown is a cluster in which something is wrong: exit code 3, and no more words.
    Unwell,
    /// Refused or failed: exit code 1.
    Failed {
        /// A code for programs, which `quorate explain` knows.
        reason: String,
        /// What did not happen.
        what: String,
        /// Why.
        why: String,
        /// What to do, when there is something to say.
        todo: String,
    },
}

impl Failure {
    /// Called wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Refused or failed.
    pub fn failed(what: impl Into<String>, why: impl fmt::Display, todo: impl Into<String>) -> Self {
        Self::Failed { reason: FAILED.into(), what: what.into(), why: why.to_string(), todo: todo.into() }
    }

    /// Something was verified, and is not right.
    pub fn not_valid(what: impl Into<String>, why: impl fmt::Display, todo: impl Into<String>) -> Self {
        Self::Failed { reason: NOT_VALID.into(), what: what.into(), why: why.to_string(), todo: todo.into() }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed { .. } => 1,
            Self::Usage(_) => 2,
            Self::Unwell => 3,
        }
    }

    /// As programs read it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Unwell => Value::Null,
            Self::Usage(message) => json!({ "reason": USAGE, "message": message, "hint": null }),
            Self::Failed { reason, what, why, todo } => {
                let message = if why.is_empty() { what.clone() } else { format!("{what}: {why}") };
                json!({ "reason": reason, "message": message, "hint": output::text(todo) })
            }
        }
    }

    /// A call of the client that failed while doing `what` ("create the key").
    pub fn call(what: impl fmt::Display, error: ClientError) -> Self {
        let ClientError { reason, message, endpoint, part, .. } = error;
        let by = endpoint.map(|e| format!(", says {e}")).unwrap_or_default();
        let what = match reason.as_str() {
            reason::INVALID_CONFIG => format!("can't {what}"),
            _ => format!("can't {what} ({reason}{by})"),
        };
        // What a node says knows nothing of these commands.
        let todo = match reason.as_str() {
            "NOT_FOUND" if part.is_some() => "`quorate keys list` and `quorate alias list` show what there is",
            "WRONG_STATE" if part.as_deref() == Some("version") => {
                "`quorate keys versions KEY` shows in what state each is"
            }
            "WRONG_STATE" if part.as_deref() == Some("key") => "`quorate keys describe KEY` shows its state",
            "INVALID_ARGUMENT" if part.as_deref() == Some("namespace") => {
                "--namespace NAME says in which namespace a command works; `quorate namespace list` shows what there is"
            }
            code => explain::of(code).map_or("", |known| known.todo),
        };
        Self::Failed { reason, what, why: message, todo: todo.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwell => Ok(()),
            Self::Usage(message) => write!(f, "error: {message}\nFor more information, try '--help'."),
            Self::Failed { what, why, todo, .. } => {
                write!(f, "error: {what}")?;
                for (label, text) in [("why", why), ("do ", todo)] {
                    if !text.is_empty() {
                        write!(f, "\n  {label}: {text}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let mut chain = error.chain().map(ToString::to_string);
        let what = chain.next().unwrap_or_default();
        Self::failed(what, chain.collect::<Vec<_>>().join(": "), "")
    }
}

/// Adds what was being done to a failed call.
pub trait Doing<T> {
    /// `what` completes "can't …".
    fn doing(self, what: impl fmt::Display) -> CommandResult<T>;
}

impl<T> Doing<T> for Result<T, ClientError> {
    fn doing(self, what: impl fmt::Display) -> CommandResult<T> {
        self.map_err(|e| Failure::call(what, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_why_and_what_to_do() {
        let failure = Failure::failed("can't open the file", "it is not there", "name another");
        assert_eq!(failure.to_string(), "error: can't open the file\n  why: it is not there\n  do : name another");
        assert_eq!((failure.exit_code(), Failure::usage("x").exit_code()), (1, 2));
        let json =
            json!({ "reason": "FAILED", "message": "can't open the file: it is not there", "hint": "name another" });
        assert_eq!(failure.to_json(), json);
        let chained = Failure::from(anyhow::anyhow!("inner").context("middle").context("outer"));
        assert_eq!(chained.to_string(), "error: outer\n  why: middle: inner");
    }
}
