//! Which failures may be tried again elsewhere: only those after which a second attempt can do no harm.

use std::error::Error as StdError;

use quorate_proto::v1::Reason;
use quorate_proto::{PART_KEY, REASON_KEY, TIME_KEY};
use tonic::{Code, Status, TimeoutExpired};

use crate::error::{ClientError, reason};
use crate::tls::ConnectFailure;

/// What a second attempt of a call would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Safety {
    /// The call changes nothing.
    Read,
    /// The call carries a client token: the node answers a repetition with the first outcome.
    Token,
    /// A second attempt would be a second change (or a false refusal), so the first must provably have had no effect.
    Once,
}

/// One attempt's failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// It had none, and another node may well answer.
    None,
    /// It had none: no connection could be made at all.
    NotThere,
    /// It had none, and this node will say the same until someone acts on it (unseals, repairs, makes room, starts others, fixes the address).
    NoneForNow,
    /// Nobody can tell: the connection broke, or the node does not know.
    Unknown,
    /// The node answered: that is the result.
    Answered,
}

/// Sorts a failed attempt. `alert` is the TLS alert that ended the connection, if one did.
pub(crate) fn classify(
    status: &Status,
    endpoint: &str,
    alert: Option<rustls::AlertDescription>,
) -> (Effect, ClientError) {
    let given = status.metadata().get(REASON_KEY).and_then(|v| v.to_str().ok()).map(str::to_owned);
    if let Some(given) = given {
        let effect = match Reason::of(&given) {
            Some(Reason::Unavailable | Reason::Contended | Reason::Busy) => Effect::None,
            Some(
                Reason::Sealed
                | Reason::Uninitialized
                | Reason::Damaged
                | Reason::UpgradeNeeded
                | Reason::NoSpace
                | Reason::NoMajority,
            ) => Effect::NoneForNow,
            Some(Reason::UnknownOutcome) => Effect::Unknown,
            _ => Effect::Answered,
        };
        let time = status.metadata().get(TIME_KEY).and_then(|v| v.to_str().ok()?.parse().ok());
        let error = ClientError::new(&given, status.code(), status.message()).at(endpoint);
        let part = status.metadata().get(PART_KEY).and_then(|v| v.to_str().ok()).map(str::to_owned);
        return (effect, ClientError { part, node_time_ms: time, ..error });
    }
    if let Some(failure) = find::<ConnectFailure>(status) {
        let (effect, why) = match failure {
            ConnectFailure::Unreachable(_) => (Effect::NotThere, reason::UNREACHABLE),
            ConnectFailure::Untrusted(_) => (Effect::NoneForNow, reason::UNTRUSTED_SERVER),
        };
        return (effect, ClientError::new(why, Code::Unavailable, failure.to_string()).at(endpoint));
    }
    if find::<TimeoutExpired>(status).is_some() || status.code() == Code::DeadlineExceeded {
        return (Effect::Unknown, late(endpoint));
    }
    let broken = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled);
    if let (true, Some(alert)) = (broken, alert) {
        let message = format!(
            "{endpoint} refused this client's certificate ({alert:?}); use one that `quorate pki client` issued for this \
             cluster and that has not expired"
        );
        let error = ClientError::new(reason::CERTIFICATE_REFUSED, Code::Unauthenticated, message);
        return (Effect::Answered, error.at(endpoint));
    }
    let message = match deepest(status) {
        Some(source) => format!("the connection to {endpoint} broke: {source}"),
        None => status.message().to_owned(),
    };
    match broken {
        true if never_processed(status) => {
            (Effect::None, ClientError::new(reason::UNREACHABLE, Code::Unavailable, message).at(endpoint))
        }
        true => (Effect::Unknown, ClientError::new(reason::UNREACHABLE, Code::Unavailable, message).at(endpoint)),
        // A status without a reason comes from a proxy or from the gRPC layer itself.
        false => (Effect::Answered, ClientError::new(name(status.code()), status.code(), message).at(endpoint)),
    }
}

/// The error of an attempt that had no answer in time.
pub(crate) fn late(endpoint: &str) -> ClientError {
    let message = format!("no answer from {endpoint} in time; try again, or allow more time");
    ClientError::new(reason::DEADLINE_EXCEEDED, Code::DeadlineExceeded, message).at(endpoint)
}

/// The error to report when a change may have happened.
pub(crate) fn unknown_outcome(last: &ClientError) -> ClientError {
    let message = match last.is(reason::UNKNOWN_OUTCOME) {
        true => last.message.clone(),
        false => {
            format!("the change may or may not have happened: {}; look at the state before you repeat it", last.message)
        }
    };
    ClientError {
        reason: reason::UNKNOWN_OUTCOME.into(),
        message,
        code: Code::Unknown,
        endpoint: last.endpoint.clone(),
        part: None,
        node_time_ms: None,
    }
}

fn find<E: StdError + 'static>(status: &Status) -> Option<&E> {
    let mut source = StdError::source(status);
    while let Some(e) = source {
        if let Some(found) = e.downcast_ref::<E>() {
            return Some(found);
        }
        // `ConnectError` shows its content only as a field.
        if let Some(found) = e.downcast_ref::<tonic::ConnectError>().and_then(|c| c.0.downcast_ref::<E>()) {
            return Some(found);
        }
        source = e.source();
    }
    None
}

/// Whether the connection ended, in order or not, before the node took up the request.
fn never_processed(status: &Status) -> bool {
    // hyper says so only of what it has not begun to send; h2 gives a peer's GOAWAY only to streams beyond the last one
    // that the peer names, which it has not acted upon and will not (RFC 9113 §6.8).
    find::<hyper::Error>(status).is_some_and(hyper::Error::is_canceled)
        || find::<h2::Error>(status)
            .is_some_and(|e| e.is_go_away() && e.is_remote() && e.reason() == Some(h2::Reason::NO_ERROR))
}

fn deepest(status: &Status) -> Option<String> {
    let mut source = StdError::source(status)?;
    while let Some(next) = source.source() {
        source = next;
    }
    Some(source.to_string())
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
