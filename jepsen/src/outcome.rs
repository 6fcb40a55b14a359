//! What a failed call means for the history: `fail` only when it provably had no effect, else `info`.

use quorate_client::{ClientError, reason};

use crate::history::{Answer, Call, Outcome};

/// What a reason given by the client says about the call's effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    /// It had none: refused by a node before it was proposed, or never sent.
    None,
    /// Nobody can tell.
    Unknown,
}

/// The table. A reason that is not in it may mean anything.
const EFFECTS: &[(&str, Effect)] = &[
    // A node's decision about the request or the records, taken before anything is proposed.
    ("UNAUTHENTICATED", Effect::None),
    ("DENIED", Effect::None),
    ("ALREADY_INITIALIZED", Effect::None),
    ("INVALID_ARGUMENT", Effect::None),
    ("TOO_LARGE", Effect::None),
    ("NOT_FOUND", Effect::None),
    ("ALREADY_EXISTS", Effect::None),
    ("KEY_DISABLED", Effect::None),
    ("KEY_PENDING_DELETION", Effect::None),
    ("WRONG_STATE", Effect::None),
    ("LIMIT_EXCEEDED", Effect::None),
    ("EXHAUSTED", Effect::None),
    ("TOKEN_REUSED", Effect::None),
    ("TOKEN_TIME", Effect::None),
    ("WRONG_KEY", Effect::None),
    ("WRONG_LINEAGE", Effect::None),
    ("UNKNOWN_KEY", Effect::None),
    ("TAMPERED", Effect::None),
    ("WRONG_USAGE", Effect::None),
    ("WRONG_ALGORITHM", Effect::None),
    ("NOT_YET_VALID", Effect::None),
    ("NO_LONGER_VALID", Effect::None),
    ("COMPROMISED", Effect::None),
    ("DESTROYED", Effect::None),
    ("PURGE_PROTECTED", Effect::None),
    ("MATERIAL_MISSING", Effect::None),
    ("WRONG_MATERIAL", Effect::None),
    ("TOKEN_EXPIRED", Effect::None),
    ("TOKEN_FOREIGN", Effect::None),
    ("UNSUPPORTED", Effect::None),
    ("NOT_EXPORTABLE", Effect::None),
    ("WRAPPED_ONLY", Effect::None),
    ("SHARE_REFUSED", Effect::None),
    ("INVITATION_REFUSED", Effect::None),
    // A node that can't serve; its words promise that nothing was changed, and the checkers hold it to that.
    (reason::SEALED, Effect::None),
    (reason::UNINITIALIZED, Effect::None),
    (reason::DAMAGED, Effect::None),
    (reason::UPGRADE_NEEDED, Effect::None),
    (reason::UNAVAILABLE, Effect::None),
    (reason::NO_MAJORITY, Effect::None),
    (reason::CONTENDED, Effect::None),
    (reason::BUSY, Effect::None),
    (reason::NO_SPACE, Effect::None),
    // The client never sent it. (A stream that breaks later is an UNKNOWN_OUTCOME of every call that changes something.)
    (reason::UNREACHABLE, Effect::None),
    (reason::UNTRUSTED_SERVER, Effect::None),
    (reason::INVALID_CONFIG, Effect::None),
    (reason::UNKNOWN_OUTCOME, Effect::Unknown),
    (reason::DEADLINE_EXCEEDED, Effect::Unknown),
    // The alert may end a connection on which the request had already been sent.
    (reason::CERTIFICATE_REFUSED, Effect::Unknown),
    ("INTERNAL", Effect::Unknown),
];

/// How a failed call ends in the history.
pub fn of_error(call: &Call, error: &ClientError) -> Outcome {
    let known = EFFECTS.iter().find(|(reason, _)| error.is(reason)).map(|(_, effect)| *effect);
    match known {
        Some(Effect::None) => Outcome::Fail(error.reason.clone()),
        // What changes nothing can't be left half done.
        _ if call.is_read() => Outcome::Fail(error.reason.clone()),
        _ => Outcome::Info(error.reason.clone()),
    }
}

/// How a share that was entered by the command ends in the history. What the command says in other words than these may
/// mean anything.
pub fn of_share(said: anyhow::Result<serde_json::Value>) -> Outcome {
    match said {
        // The node was open already: the command sent nothing.
        Ok(answer) if answer["share_number"].is_null() => Outcome::Fail("WRONG_STATE".into()),
        Ok(answer) => {
            Outcome::Ok(Answer::Share { complete: answer["unsealed"] == true || answer["ceremony"].is_null() })
        }
        Err(e) => {
            let text = format!("{e:#}");
            let none = EFFECTS.iter().filter(|(_, effect)| *effect == Effect::None);
            match none.into_iter().find(|(reason, _)| text.contains(&format!("({reason}"))) {
                Some((reason, _)) => Outcome::Fail((*reason).to_owned()),
                None => Outcome::Info(text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(reason: &str) -> ClientError {
        ClientError {
            reason: reason.into(),
            message: String::new(),
            code: 2.into(),
            endpoint: None,
            part: None,
            node_time_ms: None,
        }
    }

    #[test]
    fn a_refusal_is_a_fail_and_a_doubt_is_an_info() {
        let rotate = |reason| of_error(&Call::Rotate, &error(reason));
        assert_eq!(rotate("KEY_DISABLED"), Outcome::Fail("KEY_DISABLED".into()));
        assert_eq!(rotate("UNREACHABLE"), Outcome::Fail("UNREACHABLE".into()));
        assert_eq!(rotate("NO_SPACE"), Outcome::Fail("NO_SPACE".into()));
        for doubt in
            ["UNKNOWN_OUTCOME", "DEADLINE_EXCEEDED", "INTERNAL", "CERTIFICATE_REFUSED", "A_NEW_REASON", "CANCELLED"]
        {
            assert_eq!(rotate(doubt), Outcome::Info(doubt.into()));
            assert_eq!(of_error(&Call::Describe, &error(doubt)), Outcome::Fail(doubt.into()));
        }
    }

    #[test]
    fn a_share_that_the_command_refused_was_not_entered() {
        let said = |text: &str| of_share(Err(anyhow::anyhow!("{text}")));
        assert_eq!(
            said("can't enter the share (SHARE_REFUSED, says n1): it was already entered"),
            Outcome::Fail("SHARE_REFUSED".into())
        );
        assert!(matches!(said("can't tell whether the share was accepted"), Outcome::Info(_)));
        assert!(matches!(said("can't enter the share (UNKNOWN_OUTCOME, says n1)"), Outcome::Info(_)));
        let taken = |json: serde_json::Value| of_share(Ok(json));
        let complete = |complete| Outcome::Ok(Answer::Share { complete });
        use serde_json::json;
        let begun = json!({ "share_number": 1, "unsealed": false, "ceremony": { "entered": 1 } });
        assert_eq!(taken(begun), complete(false));
        assert_eq!(taken(json!({ "share_number": 1, "unsealed": false, "ceremony": null })), complete(true));
        assert_eq!(taken(json!({ "share_number": 1, "unsealed": true, "ceremony": null })), complete(true));
        assert_eq!(taken(json!({ "unsealed": true, "ceremony": null })), Outcome::Fail("WRONG_STATE".into()));
    }

    #[test]
    fn no_reason_is_listed_twice() {
        let mut names: Vec<_> = EFFECTS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EFFECTS.len());
    }
}
