//! One method per call of the protocol.

use quorate_proto::v1::keys_client::KeysClient;
use quorate_proto::v1::namespaces_client::NamespacesClient;
use quorate_proto::v1::operator_client::OperatorClient;
use quorate_proto::v1::principals_client::PrincipalsClient;
use quorate_proto::v1::secrets_client::SecretsClient;
use quorate_proto::v1::*;

use crate::client::Client;
use crate::error::ClientError;
use crate::retry::Safety;

macro_rules! calls {
    ($service:ident: $($(#[$doc:meta])* $safety:ident $name:ident($request:ty) -> $response:ty;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: $request) -> Result<$response, ClientError> {
                    self.call(Safety::$safety, request, |channel, request| async move {
                        $service::new(channel).$name(request).await
                    })
                    .await
                }
            )*
        }
    };
}

calls! { KeysClient:
    /// Metadata of a key.
    Read describe_key(KeyRequest) -> KeyResponse;
    /// One page of keys.
    Read list_keys(ListKeysRequest) -> ListKeysResponse;
    /// Lets a disabled key be used again.
    Once enable_key(KeyRequest) -> KeyResponse;
    /// Forbids every use; once this returns, no node uses the key.
    Once disable_key(KeyRequest) -> KeyResponse;
    /// Puts a key away; once this returns, no node uses it.
    Once archive_key(KeyRequest) -> KeyResponse;
    /// Gets a key back that was put away.
    Once recover_key(KeyRequest) -> KeyResponse;
    /// Sets the day on which the key's material is destroyed, 7 to 90 days ahead.
    Once schedule_key_deletion(ScheduleKeyDeletionRequest) -> KeyResponse;
    /// Cancels that; the key is then disabled, or as before.
    Once cancel_key_deletion(CancelKeyDeletionRequest) -> KeyResponse;
    /// Destroys a key that waits for it, before its day.
    Once purge_key(KeyRequest) -> PurgeKeyResponse;
    /// Sets how often a key is rotated without being asked.
    Once set_key_rotation(SetKeyRotationRequest) -> KeyResponse;
    /// When a key was used last, and how often.
    Read get_last_use(KeyRequest) -> LastUseResponse;
    /// What the node that answers states of a destruction: take [`Client::node`] for each, one after the other.
    Read get_destruction(GetDestructionRequest) -> DestructionResponse;
    /// Changes a key's description or its floors, lowers whether its material may leave, or says whether its uses are noted.
    Once update_key(UpdateKeyRequest) -> KeyResponse;
    /// Puts tags on a key.
    Once tag_key(TagKeyRequest) -> KeyResponse;
    /// Takes tags off a key.
    Once untag_key(UntagKeyRequest) -> KeyResponse;
    /// Versions of a key, newest first, at most 100 at a time.
    Read list_versions(ListVersionsRequest) -> ListVersionsResponse;
    /// Changes a version's dates, or whether it may be used.
    Once update_version(UpdateVersionRequest) -> VersionResponse;
    /// Lets a version that is not active yet be used from now on.
    Once activate_version(VersionRequest) -> VersionResponse;
    /// Deactivates a version, or tells that it is compromised.
    Once revoke_version(RevokeVersionRequest) -> VersionResponse;
    /// Destroys a version's material, at once and for ever.
    Once destroy_version(VersionRequest) -> VersionResponse;
    /// A public key that wraps material to be imported, and the token that it is imported with.
    Read get_import_parameters(GetImportParametersRequest) -> GetImportParametersResponse;
    /// Imports a key's material; the same again does no harm.
    Once import_material(ImportMaterialRequest) -> VersionResponse;
    /// Erases imported material, until the same is imported again.
    Once delete_material(VersionRequest) -> VersionResponse;
    /// Gets a key's material, wrapped or as it is.
    Read export_key(ExportKeyRequest) -> ExportKeyResponse;
    /// Makes a backup of a key, which this cluster alone opens.
    Read backup_key(KeyRequest) -> BackupKeyResponse;
    /// Gives a key a name.
    Once create_alias(CreateAliasRequest) -> AliasResponse;
    /// Takes a name away.
    Once delete_alias(DeleteAliasRequest) -> DeleteAliasResponse;
    /// One page of aliases.
    Read list_aliases(ListAliasesRequest) -> ListAliasesResponse;
    /// Encrypts up to 4096 bytes.
    Read encrypt(EncryptRequest) -> EncryptResponse;
    /// Decrypts what `encrypt` or `generate_data_key` made.
    Read decrypt(DecryptRequest) -> DecryptResponse;
    /// A new data key, encrypted under a key, with or without its plaintext.
    Read generate_data_key(GenerateDataKeyRequest) -> GenerateDataKeyResponse;
    /// A new key pair, its private key encrypted under a key, with or without its plaintext.
    Read generate_data_key_pair(GenerateDataKeyPairRequest) -> GenerateDataKeyPairResponse;
    /// Encrypts anew what is in a ciphertext; the plaintext stays inside.
    Read re_encrypt(ReEncryptRequest) -> ReEncryptResponse;
    /// Wraps the bytes of another key.
    Read wrap(WrapRequest) -> WrapResponse;
    /// Unwraps what `wrap` made.
    Read unwrap(UnwrapRequest) -> UnwrapResponse;
    /// Signs a message or its digest.
    Read sign(SignRequest) -> SignResponse;
    /// Verifies a signature.
    Read verify(VerifyRequest) -> VerifyResponse;
    /// Makes a message authentication code.
    Read mac(MacRequest) -> MacResponse;
    /// Verifies a message authentication code.
    Read verify_mac(VerifyMacRequest) -> VerifyResponse;
    /// Agrees on a secret with the holder of another private key.
    Read agree(AgreeRequest) -> AgreeResponse;
    /// Makes a shared secret and its encapsulation.
    Read encapsulate(EncapsulateRequest) -> EncapsulateResponse;
    /// Opens an encapsulation.
    Read decapsulate(DecapsulateRequest) -> DecapsulateResponse;
    /// Derives bytes of another key.
    Read derive_key(DeriveKeyRequest) -> DeriveKeyResponse;
    /// The digest of a message, by no key.
    Read make_digest(MakeDigestRequest) -> MakeDigestResponse;
    /// Encrypts many small values; each succeeds or fails by itself.
    Read encrypt_many(EncryptManyRequest) -> EncryptManyResponse;
    /// Decrypts many; likewise.
    Read decrypt_many(DecryptManyRequest) -> DecryptManyResponse;
    /// Signs many; likewise.
    Read sign_many(SignManyRequest) -> SignManyResponse;
    /// The public key of a pair.
    Read get_public_key(GetPublicKeyRequest) -> GetPublicKeyResponse;
    /// Random bytes.
    Read generate_random(GenerateRandomRequest) -> GenerateRandomResponse;
    /// Authenticated, does nothing.
    Read echo(EchoRequest) -> EchoResponse;
}

calls! { SecretsClient:
    /// Reads a secret.
    Read get_secret(GetSecretRequest) -> GetSecretResponse;
    /// What is known of a secret, without its value.
    Read describe_secret(SecretRequest) -> SecretResponse;
    /// One page of secrets, without their values.
    Read list_secrets(ListSecretsRequest) -> ListSecretsResponse;
    /// Versions of a secret, newest first, at most 100 at a time, without their values.
    Read list_secret_versions(ListSecretVersionsRequest) -> ListSecretVersionsResponse;
    /// Changes what is said of a version, whether it may be read, and the secret's tags.
    Once update_secret(UpdateSecretRequest) -> SecretResponse;
    /// Sets the day on which a secret is destroyed, 7 to 90 days ahead; once this returns, nobody reads it.
    Once delete_secret(DeleteSecretRequest) -> SecretResponse;
    /// Takes that back.
    Once recover_secret(SecretRequest) -> SecretResponse;
    /// Destroys a deleted secret before its day.
    Once purge_secret(SecretRequest) -> PurgeSecretResponse;
}

calls! { NamespacesClient:
    /// Makes a namespace.
    Once create_namespace(CreateNamespaceRequest) -> NamespaceResponse;
    /// What is known of a namespace.
    Read describe_namespace(NamespaceRequest) -> NamespaceResponse;
    /// One page of namespaces.
    Read list_namespaces(ListNamespacesRequest) -> ListNamespacesResponse;
    /// Changes what may be made in a namespace.
    Once update_namespace(UpdateNamespaceRequest) -> NamespaceResponse;
    /// Deletes an empty namespace.
    Once delete_namespace(NamespaceRequest) -> DeleteNamespaceResponse;
}

calls! { PrincipalsClient:
    /// One page of those who were ever disabled.
    Read list_principals(ListPrincipalsRequest) -> ListPrincipalsResponse;
    /// Lets somebody in again.
    Once enable_principal(PrincipalRequest) -> PrincipalResponse;
    /// Shuts somebody out; once this returns, no node takes anything from them.
    Once disable_principal(PrincipalRequest) -> PrincipalResponse;
    /// Revokes a credential for ever; once this returns, no node takes it.
    Once revoke_credential(RevokeCredentialRequest) -> CredentialResponse;
    /// Whether a credential was revoked.
    Read describe_credential(CredentialRequest) -> CredentialResponse;
    /// One page of the credentials that were revoked.
    Read list_credentials(ListCredentialsRequest) -> ListCredentialsResponse;
}

calls! { OperatorClient:
    /// Who leads, who is sealed, who lags, how far a ceremony is.
    Read status(StatusRequest) -> StatusResponse;
    /// The public seal configuration.
    Read seal_config(SealConfigRequest) -> SealConfigResponse;
    /// Genesis. Address one node ([`Client::node`]): the others would found clusters of their own.
    Once init(InitRequest) -> InitResponse;
    /// A fresh challenge of one node; the share goes to the same node.
    Read share_challenge(ShareChallengeRequest) -> ShareChallengeResponse;
    /// Enters a share at one node.
    Once submit_share(SubmitShareRequest) -> SubmitShareResponse;
    /// Ends the ceremony open at one node.
    Once abort_ceremony(AbortCeremonyRequest) -> AbortCeremonyResponse;
    /// Seals one node or all.
    Once seal(SealRequest) -> SealResponse;
    /// A one-use token for a new node.
    Once invite(InviteRequest) -> InviteResponse;
    /// Takes an open invitation back.
    Once uninvite(UninviteRequest) -> UninviteResponse;
    /// Lets a node in whose fingerprint has been compared.
    Once approve(ApproveRequest) -> ApproveResponse;
    /// Makes learners voters, in one joint change.
    Once promote(PromoteRequest) -> PromoteResponse;
    /// Hands leadership to a voter.
    Once transfer_leader(TransferLeaderRequest) -> TransferLeaderResponse;
    /// Removes a member and rotates the root key. Address another unsealed member ([`Client::node`]).
    Once remove_member(RemoveMemberRequest) -> RemoveMemberResponse;
    /// Members, and nodes that wait for approval.
    Read list_members(ListMembersRequest) -> ListMembersResponse;
    /// Sets cluster time to what the clocks say, the caller's own among them; at an unsealed member ([`Client::node`]).
    Once confirm_time(ConfirmTimeRequest) -> ConfirmTimeResponse;
}

macro_rules! with_token {
    ($service:ident: $($(#[$doc:meta])* $name:ident($request:ty) -> $response:ty;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: $request) -> Result<$response, ClientError> {
                    self.with_token(request, |request| &mut request.token, |request| {
                        self.call(Safety::Token, request, |channel, request| async move {
                            $service::new(channel).$name(request).await
                        })
                    })
                    .await
                }
            )*
        }
    };
}

with_token! { KeysClient:
    /// Creates a key. Without a token in the request the client makes one: retries of this call give the same key.
    create_key(CreateKeyRequest) -> KeyResponse;
    /// Creates many keys with one request. Token as in [`Self::create_key`]: retries of this call do what is missing, and
    /// give the same keys.
    create_keys(CreateKeysRequest) -> CreateKeysResponse;
    /// Makes a new version of a key, which encrypts from now on. Token as in [`Self::create_key`].
    rotate_key(RotateKeyRequest) -> KeyResponse;
    /// Replaces a key by a new one, which takes over its aliases. Token as in [`Self::create_key`].
    rekey_key(RekeyKeyRequest) -> KeyResponse;
    /// Brings a key back from its backup, disabled. Token as in [`Self::create_key`].
    restore_key(RestoreKeyRequest) -> KeyResponse;
}

with_token! { SecretsClient:
    /// Sets a secret's value: makes the secret, or a new version of it. Token as in [`Self::create_key`].
    set_secret(SetSecretRequest) -> SecretResponse;
}
