//! The calls of the protocol, as far as is known before a request's body is read: who may make them, and how much memory
//! answering one takes.

use quorate_service::core::authorize::{
    Denied, Echo, EnterShares, ManageCluster, ManageKeys, ReadKeys, ReadStatus, Right, UseKeys, authorize,
};
use quorate_service::core::principal::Principal;

/// Memory for a request's head, its state and a small body and answer, in bytes.
const COST: usize = 16 * 1024;
/// The same where an answer holds up to a thousand records.
const COST_OF_MANY: usize = 512 * 1024;

/// A call, by its path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method<'a> {
    /// `grpc.health.v1.Health`: asked by anybody.
    Health,
    /// A call of ours, by its name; whether there is such a one is the service's to say.
    Ours(&'a str),
}

impl<'a> Method<'a> {
    /// Reads `/SERVICE/CALL`; none for a service that is not here.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let (service, call) = path.strip_prefix('/')?.split_once('/')?;
        match service {
            "grpc.health.v1.Health" => Some(Self::Health),
            "quorate.v1.Keys" | "quorate.v1.Operator" => Some(Self::Ours(call)),
            _ => None,
        }
    }

    /// Whether `who` has the right that it takes. The desk asks again, with the whole request before it: here a body is
    /// kept out that could not be wanted.
    pub(crate) fn check(self, who: &Principal) -> Result<(), Denied> {
        let Self::Ours(call) = self else { return Ok(()) };
        right_for(call).map_or(Ok(()), |right| right(who))
    }

    /// What a call takes besides a large body, in bytes.
    pub(crate) fn cost(self) -> usize {
        match self {
            Self::Ours("ListKeys" | "ListAliases" | "CreateKeys") => COST_OF_MANY,
            _ => COST,
        }
    }
}

/// Asks for one right.
type Check = fn(&Principal) -> Result<(), Denied>;

fn right_for(call: &str) -> Option<Check> {
    Some(match call {
        "Encrypt" | "Decrypt" | "GenerateDataKey" | "GenerateRandom" => has::<UseKeys>,
        "DescribeKey" | "ListKeys" | "ListAliases" => has::<ReadKeys>,
        "CreateKey"
        | "CreateKeys"
        | "EnableKey"
        | "DisableKey"
        | "RotateKey"
        | "ScheduleKeyDeletion"
        | "CancelKeyDeletion"
        | "CreateAlias"
        | "DeleteAlias" => has::<ManageKeys>,
        "Echo" => has::<Echo>,
        "Status" | "SealConfig" | "ListMembers" => has::<ReadStatus>,
        "ShareChallenge" | "SubmitShare" | "AbortCeremony" => has::<EnterShares>,
        "Init" | "Seal" | "Invite" | "Approve" | "Promote" | "TransferLeader" | "RemoveMember" | "ConfirmTime" => {
            has::<ManageCluster>
        }
        _ => return None,
    })
}

fn has<R: Right>(who: &Principal) -> Result<(), Denied> {
    authorize::<R>(who).map(drop)
}

#[cfg(test)]
mod tests {
    use quorate_service::core::principal::Role;

    use super::*;

    #[test]
    fn every_call_of_the_protocol_has_its_right() {
        let protocol = concat!(
            include_str!("../../proto/proto/quorate/v1/keys.proto"),
            include_str!("../../proto/proto/quorate/v1/operator.proto")
        );
        let calls: Vec<_> = protocol
            .lines()
            .filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next())
            .map(str::trim)
            .collect();
        assert!(calls.len() > 25, "{calls:?}");
        let without: Vec<_> = calls.iter().filter(|call| right_for(call).is_none()).collect();
        assert!(without.is_empty(), "calls without a right: {without:?}");
    }

    #[test]
    fn a_path_says_whose_call_it_is() {
        assert_eq!(Method::parse("/quorate.v1.Keys/Encrypt"), Some(Method::Ours("Encrypt")));
        assert_eq!(Method::parse("/grpc.health.v1.Health/Watch"), Some(Method::Health));
        for other in ["", "/", "/health", "/healthz", "/quorate.v1.Keys", "quorate.v1.Keys/Encrypt", "/else/Encrypt"] {
            assert_eq!(Method::parse(other), None, "{other:?}");
        }
        let custodian = Principal { role: Role::Custodian, name: "c".parse().unwrap() };
        assert!(Method::Ours("SubmitShare").check(&custodian).is_ok());
        assert!(Method::Ours("Encrypt").check(&custodian).is_err());
        assert!(Method::Health.check(&custodian).is_ok());
    }
}
