//! The service's errors as gRPC statuses: a code for the machine at large, the reason in a trailer for ours, and the
//! message for people.

use quorate_proto::{PART_KEY, REASON_KEY, TIME_KEY, v1};
use quorate_service::core::decide::Refusal;
use quorate_service::{Error, Reason};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// The gRPC code of a reason; a new reason does not compile until it has one.
fn code(reason: Reason) -> Code {
    match reason {
        Reason::Unauthenticated => Code::Unauthenticated,
        Reason::Denied => Code::PermissionDenied,
        Reason::InvalidArgument
        | Reason::TooLarge
        | Reason::TokenReused
        | Reason::TokenTime
        | Reason::WrongUsage
        | Reason::WrongKind
        | Reason::WrongAlgorithm
        | Reason::WrongKey
        | Reason::WrongLineage
        | Reason::Tampered
        | Reason::ShareRefused
        | Reason::InvitationRefused => Code::InvalidArgument,
        Reason::NotFound | Reason::UnknownKey | Reason::NamespaceNotFound => Code::NotFound,
        Reason::AlreadyExists | Reason::AlreadyInitialized => Code::AlreadyExists,
        Reason::KeyDisabled
        | Reason::Archived
        | Reason::KeyPendingDeletion
        | Reason::WrongState
        | Reason::NotEmpty
        | Reason::Exhausted => Code::FailedPrecondition,
        Reason::PurgeProtected | Reason::MaterialMissing | Reason::TokenExpired => Code::FailedPrecondition,
        Reason::Unsupported | Reason::NotExportable | Reason::WrappedOnly => Code::FailedPrecondition,
        Reason::WrongMaterial | Reason::TokenForeign => Code::InvalidArgument,
        Reason::NotYetValid | Reason::NoLongerValid | Reason::Compromised | Reason::Destroyed | Reason::Retired => {
            Code::FailedPrecondition
        }
        Reason::LimitExceeded | Reason::Busy | Reason::NoSpace => Code::ResourceExhausted,
        Reason::Contended => Code::Aborted,
        // Another node may serve: a client that knows no reasons should try one.
        Reason::Sealed | Reason::Uninitialized | Reason::Damaged | Reason::UpgradeNeeded | Reason::Unavailable => {
            Code::Unavailable
        }
        Reason::NoMajority => Code::Unavailable,
        Reason::UnknownOutcome => Code::Unknown,
        Reason::Internal => Code::Internal,
    }
}

/// A reason in the protocol's words; a new one does not compile until it has one.
fn word(reason: Reason) -> &'static str {
    let reason = match reason {
        Reason::Unauthenticated => v1::Reason::Unauthenticated,
        Reason::Denied => v1::Reason::Denied,
        Reason::Uninitialized => v1::Reason::Uninitialized,
        Reason::AlreadyInitialized => v1::Reason::AlreadyInitialized,
        Reason::Sealed => v1::Reason::Sealed,
        Reason::Damaged => v1::Reason::Damaged,
        Reason::UpgradeNeeded => v1::Reason::UpgradeNeeded,
        Reason::InvalidArgument => v1::Reason::InvalidArgument,
        Reason::TooLarge => v1::Reason::TooLarge,
        Reason::NotFound => v1::Reason::NotFound,
        Reason::AlreadyExists => v1::Reason::AlreadyExists,
        Reason::NamespaceNotFound => v1::Reason::NamespaceNotFound,
        Reason::NotEmpty => v1::Reason::NotEmpty,
        Reason::KeyDisabled => v1::Reason::KeyDisabled,
        Reason::Archived => v1::Reason::Archived,
        Reason::KeyPendingDeletion => v1::Reason::KeyPendingDeletion,
        Reason::WrongState => v1::Reason::WrongState,
        Reason::LimitExceeded => v1::Reason::LimitExceeded,
        Reason::Exhausted => v1::Reason::Exhausted,
        Reason::TokenReused => v1::Reason::TokenReused,
        Reason::TokenTime => v1::Reason::TokenTime,
        Reason::WrongUsage => v1::Reason::WrongUsage,
        Reason::WrongKind => v1::Reason::WrongKind,
        Reason::WrongAlgorithm => v1::Reason::WrongAlgorithm,
        Reason::NotYetValid => v1::Reason::NotYetValid,
        Reason::NoLongerValid => v1::Reason::NoLongerValid,
        Reason::Compromised => v1::Reason::Compromised,
        Reason::Destroyed => v1::Reason::Destroyed,
        Reason::Retired => v1::Reason::Retired,
        Reason::PurgeProtected => v1::Reason::PurgeProtected,
        Reason::MaterialMissing => v1::Reason::MaterialMissing,
        Reason::WrongMaterial => v1::Reason::WrongMaterial,
        Reason::TokenExpired => v1::Reason::TokenExpired,
        Reason::TokenForeign => v1::Reason::TokenForeign,
        Reason::Unsupported => v1::Reason::Unsupported,
        Reason::NotExportable => v1::Reason::NotExportable,
        Reason::WrappedOnly => v1::Reason::WrappedOnly,
        Reason::WrongKey => v1::Reason::WrongKey,
        Reason::WrongLineage => v1::Reason::WrongLineage,
        Reason::UnknownKey => v1::Reason::UnknownKey,
        Reason::Tampered => v1::Reason::Tampered,
        Reason::ShareRefused => v1::Reason::ShareRefused,
        Reason::InvitationRefused => v1::Reason::InvitationRefused,
        Reason::Busy => v1::Reason::Busy,
        Reason::NoSpace => v1::Reason::NoSpace,
        Reason::Contended => v1::Reason::Contended,
        Reason::UnknownOutcome => v1::Reason::UnknownOutcome,
        Reason::Unavailable => v1::Reason::Unavailable,
        Reason::NoMajority => v1::Reason::NoMajority,
        Reason::Internal => v1::Reason::Internal,
    };
    reason.word()
}

/// Longest message, in characters: it travels in a header, three bytes for each that is not plain ASCII.
const MESSAGE_MAX: usize = 1000;

/// The status of an error.
pub(crate) fn status(error: &Error) -> Status {
    let reason = error.reason();
    let mut metadata = MetadataMap::with_capacity(1);
    metadata.insert(REASON_KEY, MetadataValue::from_static(word(reason)));
    if let Some(part) = error.part() {
        metadata.insert(PART_KEY, MetadataValue::from_static(part.word()));
    }
    if let Error::Refused(Refusal::TokenTime { now_ms }) = error {
        metadata.insert(TIME_KEY, MetadataValue::from(*now_ms));
    }
    let mut message = error.to_string();
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_MAX) {
        message.truncate(end);
        message.push('…');
    }
    Status::with_metadata(code(reason), message, metadata)
}

#[cfg(test)]
mod tests {
    use quorate_core::request::Part;

    use super::*;

    #[test]
    fn no_message_is_longer_than_a_header_may_be() {
        let status = status(&Error::NotFound("ж".repeat(1 << 20)));
        assert_eq!(status.message().chars().count(), MESSAGE_MAX + 1);
    }

    /// Whoever writes a client reads them there.
    #[test]
    fn the_words_for_parts_are_those_of_the_contract() {
        let contract = include_str!("../../proto/proto/quorate/v1/reason.proto");
        let (_, told) = contract.split_once("names it: ").expect("they are listed");
        let (told, _) = told.split_once('.').expect("the list ends");
        // In brackets: what it means.
        let plain = told
            .replace("\n//", "")
            .split('(')
            .map(|part| part.split_once(')').map_or(part, |(_, rest)| rest))
            .collect::<String>();
        let mut told: Vec<_> = plain.split(',').map(str::trim).collect();
        let mut words: Vec<_> = Part::ALL.iter().map(|part| part.word()).collect();
        told.sort_unstable();
        words.sort_unstable();
        assert_eq!(told, words);
    }

    #[test]
    fn every_error_carries_code_reason_and_message() {
        let status = status(&Error::Sealed);
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.metadata().get(REASON_KEY).unwrap(), "SEALED");
        assert!(status.message().contains("custodians unseal it"));
        for reason in Reason::ALL.iter().copied() {
            assert_ne!(code(reason), Code::Ok);
            // What metrics and logs call it is what clients are told.
            assert_eq!(word(reason), reason.as_str());
        }
    }
}
