//! The calls of the protocol, as far as is known before a request's body is read: who may make them, and how much memory
//! answering one takes.

use quorate_service::core::access::FixedRoles;
use quorate_service::core::action::Action;
use quorate_service::core::authorize::{self, Denied, Echo, EnterShares, ManageCluster, ReadStatus};
use quorate_service::core::principal::Principal;
use quorate_service::core::request::SECRET_LEN_MAX;

/// Memory for a request's head, its state and a small body and answer, in bytes.
const COST: usize = 16 * 1024;
/// The same where an answer holds up to a thousand records.
const COST_OF_MANY: usize = 512 * 1024;

/// The same where an answer holds a secret: it is there, in the answer, and in what is sent of that.
const COST_OF_SECRET: usize = COST + 4 * SECRET_LEN_MAX;

/// The same where an answer holds up to 500 signatures.
const COST_OF_BULK: usize = 3 * 1024 * 1024;

/// The same where a key with a hundred versions is read whole.
const COST_OF_BACKUP: usize = 1024 * 1024;

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
            "quorate.v1.Keys"
            | "quorate.v1.Secrets"
            | "quorate.v1.Namespaces"
            | "quorate.v1.Principals"
            | "quorate.v1.Operator" => Some(Self::Ours(call)),
            _ => None,
        }
    }

    /// Whether `who` has the right that it takes, by the fixed rule of roles, which is all the policy there is. The desk asks
    /// again, with the whole request before it: here a body is kept out that could not be wanted.
    pub(crate) fn check(self, who: &Principal) -> Result<(), Denied> {
        let Self::Ours(call) = self else { return Ok(()) };
        match right_for(call) {
            Some(Right::To(action)) => FixedRoles::screen(who, action),
            Some(Right::Other(has)) => has(who),
            None => Ok(()),
        }
    }

    /// What a call takes besides a large body, in bytes.
    pub(crate) fn cost(self) -> usize {
        match self {
            Self::Ours("ListKeys" | "ListAliases" | "ListVersions" | "CreateKeys") => COST_OF_MANY,
            Self::Ours("ListSecrets" | "ListSecretVersions" | "ListNamespaces") => COST_OF_MANY,
            Self::Ours("ListPrincipals" | "ListCredentials") => COST_OF_MANY,
            Self::Ours("GetSecret") => COST_OF_SECRET,
            Self::Ours("EncryptMany" | "DecryptMany" | "SignMany") => COST_OF_BULK,
            Self::Ours("BackupKey" | "RestoreKey") => COST_OF_BACKUP,
            _ => COST,
        }
    }
}

/// What a call takes.
enum Right {
    /// That action on keys.
    To(Action),
    /// A right that needs no keys.
    Other(fn(&Principal) -> Result<(), Denied>),
}

fn right_for(call: &str) -> Option<Right> {
    Some(match call {
        "Encrypt" => Right::To(Action::Encrypt),
        "Decrypt" => Right::To(Action::Decrypt),
        "GenerateDataKey" => Right::To(Action::DataKeyWithoutPlaintext),
        "GenerateRandom" => Right::To(Action::Random),
        "DescribeKey" => Right::To(Action::Describe),
        "ListKeys" => Right::To(Action::ListObjects),
        "ListAliases" => Right::To(Action::NameList),
        "CreateKey" => Right::To(Action::Create),
        "CreateKeys" => Right::To(Action::CreateMany),
        "EnableKey" => Right::To(Action::Enable),
        "DisableKey" => Right::To(Action::Disable),
        "RotateKey" => Right::To(Action::Rotate),
        "ScheduleKeyDeletion" => Right::To(Action::ScheduleDeletion),
        "CancelKeyDeletion" => Right::To(Action::CancelDeletion),
        "ArchiveKey" => Right::To(Action::Archive),
        "RecoverKey" => Right::To(Action::Recover),
        "RekeyKey" => Right::To(Action::Rekey),
        "BackupKey" => Right::To(Action::Backup),
        "RestoreKey" => Right::To(Action::Restore),
        "PurgeKey" => Right::To(Action::Purge),
        "SetKeyRotation" => Right::To(Action::SetRotation),
        "GetLastUse" => Right::To(Action::LastUse),
        "GetDestruction" => Right::To(Action::ProveDestruction),
        "CreateAlias" => Right::To(Action::NameCreate),
        "DeleteAlias" => Right::To(Action::NameDelete),
        "UpdateKey" => Right::To(Action::Update),
        "TagKey" => Right::To(Action::Tag),
        "UntagKey" => Right::To(Action::Untag),
        "ListVersions" => Right::To(Action::ListVersions),
        "UpdateVersion" => Right::To(Action::UpdateVersion),
        "ActivateVersion" => Right::To(Action::Activate),
        "RevokeVersion" => Right::To(Action::Revoke),
        "DestroyVersion" => Right::To(Action::DestroyVersion),
        "GetImportParameters" => Right::To(Action::ImportParameters),
        "ImportMaterial" => Right::To(Action::ImportMaterial),
        "DeleteMaterial" => Right::To(Action::DeleteMaterial),
        "ExportKey" => Right::To(Action::ExportWrapped),
        "GenerateDataKeyPair" => Right::To(Action::DataKeyPairWithoutPlaintext),
        "ReEncrypt" => Right::To(Action::ReEncryptFrom),
        "Wrap" => Right::To(Action::Wrap),
        "Unwrap" => Right::To(Action::Unwrap),
        "Sign" => Right::To(Action::Sign),
        "Verify" => Right::To(Action::Verify),
        "Mac" => Right::To(Action::Mac),
        "VerifyMac" => Right::To(Action::VerifyMac),
        "Agree" => Right::To(Action::Agree),
        "Encapsulate" => Right::To(Action::Encapsulate),
        "Decapsulate" => Right::To(Action::Decapsulate),
        "DeriveKey" => Right::To(Action::DeriveKey),
        "MakeDigest" => Right::To(Action::Digest),
        "EncryptMany" => Right::To(Action::Encrypt),
        "DecryptMany" => Right::To(Action::Decrypt),
        "SignMany" => Right::To(Action::Sign),
        "GetPublicKey" => Right::To(Action::PublicKey),
        "SetSecret" => Right::To(Action::AddVersion),
        "GetSecret" => Right::To(Action::ReadSecret),
        "DescribeSecret" => Right::To(Action::Describe),
        "ListSecrets" => Right::To(Action::ListObjects),
        "ListSecretVersions" => Right::To(Action::ListVersions),
        "UpdateSecret" => Right::To(Action::UpdateVersion),
        "DeleteSecret" => Right::To(Action::ScheduleDeletion),
        "RecoverSecret" => Right::To(Action::CancelDeletion),
        "PurgeSecret" => Right::To(Action::Purge),
        "CreateNamespace" => Right::To(Action::NamespaceCreate),
        "DescribeNamespace" => Right::To(Action::NamespaceDescribe),
        "ListNamespaces" => Right::To(Action::NamespaceList),
        "UpdateNamespace" => Right::To(Action::NamespaceUpdate),
        "DeleteNamespace" => Right::To(Action::NamespaceDelete),
        "ListPrincipals" => Right::To(Action::PrincipalList),
        "EnablePrincipal" => Right::To(Action::PrincipalEnable),
        "DisablePrincipal" => Right::To(Action::PrincipalDisable),
        "RevokeCredential" => Right::To(Action::CredentialRevoke),
        "DescribeCredential" => Right::To(Action::CredentialDescribe),
        "ListCredentials" => Right::To(Action::CredentialList),
        "Echo" => Right::Other(has::<Echo>),
        "Status" | "SealConfig" | "ListMembers" => Right::Other(has::<ReadStatus>),
        "ShareChallenge" | "SubmitShare" | "AbortCeremony" => Right::Other(has::<EnterShares>),
        "Init" | "Seal" | "Invite" | "Uninvite" | "Approve" | "Promote" | "TransferLeader" | "RemoveMember"
        | "ConfirmTime" => Right::Other(has::<ManageCluster>),
        _ => return None,
    })
}

fn has<R: authorize::Right>(who: &Principal) -> Result<(), Denied> {
    authorize::authorize::<R>(who).map(drop)
}

#[cfg(test)]
mod tests {
    use quorate_service::core::principal::Role;

    use super::*;

    #[test]
    fn every_call_of_the_protocol_has_its_right() {
        let protocol = concat!(
            include_str!("../../proto/proto/quorate/v1/keys.proto"),
            include_str!("../../proto/proto/quorate/v1/secrets.proto"),
            include_str!("../../proto/proto/quorate/v1/namespaces.proto"),
            include_str!("../../proto/proto/quorate/v1/principals.proto"),
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
        let custodian = Principal::certificate(Role::Custodian, "c".parse().unwrap());
        assert!(Method::Ours("SubmitShare").check(&custodian).is_ok());
        assert!(Method::Ours("Encrypt").check(&custodian).is_err());
        assert!(Method::Health.check(&custodian).is_ok());
    }
}
