//! What is wrong with a policy's text: where, what, why, what to do.

use std::fmt;

use cedar_policy::{ParseErrors, ValidationError, ValidationWarning};
use miette::Diagnostic;
use quorate_core::action::Action;

use crate::role::Role;
use crate::schema::{group_name, groups};

/// One thing that is wrong with a policy's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// The place in the line, in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// Why; may be empty.
    pub why: String,
    /// What to do; may be empty.
    pub todo: String,
}

impl Fault {
    /// At that byte of the text.
    pub(super) fn at(
        text: &str,
        offset: usize,
        what: impl Into<String>,
        why: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[begin..]).chars().count() + 1;
        Self { line, column, what: what.into(), why: why.into(), todo: todo.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)?;
        for part in [&self.why, &self.todo].into_iter().filter(|part| !part.is_empty()) {
            write!(f, "; {part}")?;
        }
        Ok(())
    }
}

/// A policy that is not taken: every fault that was found, in the order of the text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    pub(super) fn of(mut faults: Vec<Fault>) -> Result<(), Self> {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        // Of each kind of resource the same.
        faults.dedup_by(|a, b| (a.line, a.column, &a.what) == (b.line, b.column, &b.what));
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }
}

/// What Cedar's parser found.
pub(super) fn of_syntax(text: &str, errors: &ParseErrors) -> Vec<Fault> {
    let of = |error: &dyn Diagnostic| {
        let said = error.to_string();
        let (what, todo) = if said.contains("template") {
            ("a policy has no slots", "write who and what in place of ?principal and ?resource, or bind a role")
        } else {
            ("this is not Cedar", "")
        };
        said_by_cedar(text, error, what, todo)
    };
    errors.iter().map(|error| of(error)).collect()
}

/// What Cedar's validator found.
pub(super) fn of_validation(text: &str, error: &ValidationError) -> Fault {
    use ValidationError as E;
    let (what, todo) = match error {
        // Cedar's own guess of what was meant is left out: it is seldom right.
        E::UnrecognizedEntityType(_) => {
            let fault = said_by_cedar(text, error, "there is no such type of entity", "");
            let todo = "there are Q::Principal, Q::Group, Q::Object, Q::Namespace, Q::Pairs and Q::Action";
            return Fault { todo: todo.into(), ..fault };
        }
        E::UnrecognizedActionId(_) => {
            let fault = said_by_cedar(text, error, "there is no such action", "");
            let todo = nearest_action(&fault.why).map(|name| format!("did you mean Q::Action::\"{name}\"?"));
            return Fault { todo: todo.unwrap_or_else(|| "the schema has all that there are".into()), ..fault };
        }
        E::UnexpectedType(_) | E::IncompatibleTypes(_) => ("values of these types don't go together", ""),
        E::UnsafeAttributeAccess(_) => (
            "there is no such attribute",
            "the schema has all that there are; a namespace has none: say `resource is Q::Object` first",
        ),
        E::UnsafeOptionalAttributeAccess(_) => {
            ("this attribute may be absent", "look first whether it is there, with `has`")
        }
        E::UnsafeTagAccess(_) => ("this tag may be absent", "look first whether it is there, with `hasTag`"),
        E::NoTagsAllowed(_) => {
            ("this has no tags", "principals, objects and pairs have; of a resource say `resource is Q::Object` first")
        }
        E::UndefinedFunction(_) => ("there is no such function", ""),
        E::WrongNumberArguments(_) | E::FunctionArgumentValidation(_) | E::NonLitExtConstructor(_) => {
            ("these arguments are not right", "")
        }
        E::EmptySetForbidden(_) => ("an empty set says nothing", "leave the comparison out"),
        E::EntityDerefLevelViolation(_) => (
            "this asks for what is known of something else than who asks and what for",
            "use attributes and groups of principal, resource and context alone",
        ),
        _ => ("the policy does not fit the schema", ""),
    };
    said_by_cedar(text, error, what, todo)
}

/// The action, group or role whose name is nearest to the one that Cedar has in quotes.
fn nearest_action(said: &str) -> Option<&'static str> {
    let wanted = said.split('"').nth(1)?.to_lowercase();
    let names = Action::ALL
        .iter()
        .map(|action| action.as_str())
        .chain(Role::ALL.map(Role::as_str))
        .chain(groups().map(group_name));
    let near = names.map(|name| (distance(&wanted, &name.to_lowercase()), name)).min()?;
    (near.0 <= 2).then_some(near.1)
}

/// How many letters have to be put in, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(100).enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = change.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// What Cedar's validator warns of, and is a fault here; none if it may stay.
pub(super) fn of_warning(text: &str, warning: &ValidationWarning) -> Option<Fault> {
    use ValidationWarning as W;
    let (what, todo) = match warning {
        // A value may be of two scripts: that of a tag is what people wrote there.
        W::MixedScriptString(_) => return None,
        W::BidiCharsInString(_) | W::BidiCharsInIdentifier(_) => {
            ("the text has characters that make it look like another", "remove the characters that turn its direction")
        }
        W::MixedScriptIdentifier(_) | W::ConfusableIdentifier(_) => {
            ("a name looks like another", "write it in one script, of letters that no others look like")
        }
        W::ImpossiblePolicy(_) => ("the policy is never true", "correct its conditions, or leave it out"),
        W::InvalidActionApplication(_) => {
            ("the policy is never true", "principals are Q::Principal, resources Q::Object or Q::Namespace")
        }
        _ => ("Cedar warns of this", ""),
    };
    Some(said_by_cedar(text, warning, what, todo))
}

fn said_by_cedar(text: &str, said: &dyn Diagnostic, what: &str, todo: &str) -> Fault {
    let label = said.labels().and_then(|mut labels| labels.next());
    let message = said.to_string();
    // The id is said by whoever shows the fault.
    let message = match message.strip_prefix("for policy `").and_then(|rest| rest.split_once('`')) {
        Some((_, rest)) => rest.trim_start_matches([',', ':', ' ']),
        None => &message,
    };
    let expected = label.as_ref().and_then(|label| label.label()).map(|label| format!(", {label}")).unwrap_or_default();
    let help = said.help().map(|help| help.to_string()).unwrap_or_default();
    let todo = [help.as_str(), todo].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    Fault::at(text, label.map_or(0, |label| label.offset()), what, format!("{message}{expected}"), todo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let text = "ab\ncdä e\n";
        for (offset, line, column) in [(0, 1, 1), (2, 1, 3), (3, 2, 1), (8, 2, 5), (99, 3, 1)] {
            let fault = Fault::at(text, offset, "x", "", "z");
            assert_eq!((fault.line, fault.column), (line, column), "{offset}");
            assert_eq!(fault.to_string(), format!("{line}:{column}: x; z"));
        }
    }
}
