//! Which call goes in which state: every call that the table of states speaks of, cell by cell, on the wire.

use quorate_core::lifecycle::{Cell, KeyState as State, Row, Standing, VersionState};
use quorate_crypto::material::{Encoded, Material, PublicKey};
use quorate_proto::v1::secrets_client::SecretsClient;

use super::*;
use crate::support::OsEntropy;

/// In which state an object, or its only version, is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Column {
    Pending,
    Missing,
    Archived,
    Disabled,
    PreActive,
    Active,
    Deactivated,
    Compromised,
    Destroyed,
}

impl Column {
    const ALL: [Self; 9] = [
        Self::Pending,
        Self::Missing,
        Self::Archived,
        Self::Disabled,
        Self::PreActive,
        Self::Active,
        Self::Deactivated,
        Self::Compromised,
        Self::Destroyed,
    ];

    /// What the table, which is read against its source where it stands, says of a row in that column.
    fn cell(self, row: Row) -> Cell {
        let stands = Standing { state: State::Enabled, missing: false, archived: false };
        let pending = State::PendingDeletion { at_ms: 9, since_ms: 1, was_enabled: true };
        let of_key = |key| if row.goes(key).is_ok() { Cell::Goes } else { Cell::No };
        match self {
            Self::Pending => of_key(Standing { state: pending, ..stands }),
            Self::Missing => of_key(Standing { missing: true, ..stands }),
            Self::Archived => of_key(Standing { archived: true, ..stands }),
            Self::Disabled => of_key(Standing { state: State::Disabled, ..stands }),
            Self::PreActive => row.cell(VersionState::PreActive),
            Self::Active => row.cell(VersionState::Active),
            Self::Deactivated => row.cell(VersionState::Deactivated),
            Self::Compromised => row.cell(VersionState::Compromised),
            Self::Destroyed => row.cell(VersionState::Destroyed),
        }
    }

    /// How a refusal in it is called.
    fn reason(self) -> &'static str {
        match self {
            Self::Pending => "KEY_PENDING_DELETION",
            Self::Missing => "MATERIAL_MISSING",
            Self::Archived => "ARCHIVED",
            Self::Disabled => "KEY_DISABLED",
            Self::PreActive => "NOT_YET_VALID",
            Self::Active => "WRONG_STATE",
            Self::Deactivated => "NO_LONGER_VALID",
            Self::Compromised => "COMPROMISED",
            Self::Destroyed => "DESTROYED",
        }
    }
}

/// What a call is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    /// A key of that spec and usage, made here.
    Key(&'static str, &'static str),
    /// One whose material was imported.
    External(&'static str),
    Secret,
}

const BLOB: Of = Of::Key("aes-256", "");
const SIGNS: Of = Of::Key("p-256", "");
const WRAPS: Of = Of::Key("aes-256", "wrap");
const MACS: Of = Of::Key("hmac-sha256", "");
const KEM: Of = Of::Key("ml-kem-512", "");

const CALLS: [(&str, Row, Of); 49] = [
    ("Encrypt", Row::Protect, BLOB),
    ("EncryptMany", Row::Protect, BLOB),
    ("GenerateDataKey", Row::Protect, BLOB),
    ("GenerateDataKeyPair", Row::Protect, BLOB),
    ("ReEncrypt to", Row::Protect, BLOB),
    ("Sign", Row::Protect, SIGNS),
    ("SignMany", Row::Protect, SIGNS),
    ("Mac", Row::Protect, MACS),
    ("Wrap", Row::Protect, WRAPS),
    ("Agree", Row::Protect, Of::Key("p-256", "agree")),
    ("Encapsulate", Row::Protect, KEM),
    ("DeriveKey", Row::Protect, Of::Key("aes-256", "derive")),
    ("Decrypt", Row::Process, BLOB),
    ("DecryptMany", Row::Process, BLOB),
    ("ReEncrypt from", Row::Process, BLOB),
    ("Verify", Row::Process, SIGNS),
    ("VerifyMac", Row::Process, MACS),
    ("Unwrap", Row::Process, WRAPS),
    ("Decapsulate", Row::Process, KEM),
    ("GetSecret", Row::ReadSecret, Of::Secret),
    ("GetPublicKey", Row::PublicKey, SIGNS),
    ("DescribeKey", Row::Describe, SIGNS),
    ("ListVersions", Row::Describe, SIGNS),
    ("GetLastUse", Row::Describe, SIGNS),
    ("DescribeSecret", Row::Describe, Of::Secret),
    ("ListSecretVersions", Row::Describe, Of::Secret),
    ("UpdateKey", Row::Update, SIGNS),
    ("TagKey", Row::Update, SIGNS),
    ("UpdateVersion", Row::Update, SIGNS),
    ("BackupKey", Row::Update, SIGNS),
    ("UpdateSecret", Row::Update, Of::Secret),
    ("EnableKey", Row::Enable, SIGNS),
    ("DisableKey", Row::Enable, SIGNS),
    ("RotateKey", Row::Rotate, SIGNS),
    ("SetKeyRotation", Row::Rotate, BLOB),
    ("SetSecret", Row::AddVersion, Of::Secret),
    ("RekeyKey", Row::Rekey, SIGNS),
    ("ActivateVersion", Row::Activate, SIGNS),
    ("RevokeVersion", Row::Deactivate, SIGNS),
    ("RevokeVersion compromised", Row::Compromise, SIGNS),
    ("DestroyVersion", Row::DestroyVersion, SIGNS),
    ("ScheduleKeyDeletion", Row::ScheduleDeletion, SIGNS),
    ("CreateAlias", Row::Name, SIGNS),
    ("ExportKey", Row::Export, SIGNS),
    ("DeleteMaterial", Row::DeleteMaterial, Of::External("p-256")),
    ("GetImportParameters", Row::Import, Of::External("p-256")),
    ("ImportMaterial", Row::Import, Of::External("p-256")),
    ("ArchiveKey", Row::Archive, SIGNS),
    ("RecoverKey", Row::Recover, SIGNS),
];

/// Where a call is answered otherwise than its row is.
fn exception(call: &str, column: Column) -> Option<Result<(), Why>> {
    match (call, column) {
        // Of imported keys, whatever their state.
        ("RekeyKey" | "SetKeyRotation", Column::Missing) => Some(Err(Why("UNSUPPORTED".into()))),
        // Which version takes the material is said when it comes.
        ("GetImportParameters", Column::Compromised | Column::Destroyed) => Some(Ok(())),
        _ => None,
    }
}

struct Wire {
    keys: KeysClient<Channel>,
    secrets: SecretsClient<Channel>,
    /// What every imported key has.
    material: Arc<Encoded>,
    /// A key that is active all the time.
    steady: String,
    /// An import that was prepared while the key took it.
    import: Option<v1::ImportMaterialRequest>,
    names: u64,
}

/// Why a call was refused.
#[derive(PartialEq, Eq, Debug)]
struct Why(String);

impl From<Status> for Why {
    fn from(status: Status) -> Self {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.message().len() > 20, "says what, why, and what to do: {}", status.message());
        Self(status.metadata().get(REASON_KEY).expect("a reason").to_str().expect("text").to_owned())
    }
}

impl Wire {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("thing-{}", self.names)
    }

    /// An object of that kind, active or not; imported, if its material is.
    async fn create(&mut self, of: Of, active: bool, missing: bool) -> String {
        let (spec, usage) = match of {
            Of::Key(spec, usage) => (spec, usage),
            Of::External(spec) => (spec, ""),
            Of::Secret => {
                let name = self.name();
                let wanted = v1::SetSecretRequest { name: name.clone(), value: "s".into(), ..Default::default() };
                self.secrets.set_secret(wanted).await.expect("set");
                return format!("secret/{name}");
            }
        };
        let external = missing || matches!(of, Of::External(_));
        let wanted = v1::CreateKeyRequest {
            spec: spec.into(),
            usage: usage.into(),
            exportable: "plain".into(),
            origin: if external { "external".into() } else { String::new() },
            activation_ms: (!active).then_some(0),
            ..Default::default()
        };
        let id = self.keys.create_key(wanted).await.expect("created").into_inner().key.expect("told").key_id;
        if external && !missing {
            let import = self.import(&id).await;
            self.keys.import_material(import).await.expect("imported");
        }
        id
    }

    /// What imports the material into a key.
    async fn import(&mut self, id: &str) -> v1::ImportMaterialRequest {
        let with = self.keys.get_import_parameters(parameters(id)).await.expect("parameters").into_inner();
        let public = PublicKey::parse(&with.wrapping_key).expect("a public key");
        let by = Algorithm::RsaAesKwpSha256;
        let wrapped = public.wrap(by, &self.material.material, &OsEntropy).expect("wrapped").into();
        v1::ImportMaterialRequest { key: id.into(), token: with.token, wrapped, ..Default::default() }
    }
    /// Brings an object to where the column has it.
    async fn put(&mut self, id: &str, column: Column) {
        let revoke = |compromised| v1::RevokeVersionRequest { key: id.into(), compromised, ..Default::default() };
        let deletion = v1::ScheduleKeyDeletionRequest { key: id.into(), days: 7, ..Default::default() };
        let keys = &mut self.keys;
        match column {
            Column::Pending if secret(id).is_some() => {
                let name = secret(id).expect("a secret").to_owned();
                self.secrets
                    .delete_secret(v1::DeleteSecretRequest { name, ..Default::default() })
                    .await
                    .expect("deleted");
            }
            Column::Missing | Column::PreActive | Column::Active => {}
            Column::Pending => drop(keys.schedule_key_deletion(deletion).await.expect("scheduled")),
            Column::Archived => drop(keys.archive_key(key(id)).await.expect("archived")),
            Column::Disabled => drop(keys.disable_key(key(id)).await.expect("disabled")),
            Column::Deactivated => drop(keys.revoke_version(revoke(false)).await.expect("deactivated")),
            Column::Compromised => drop(keys.revoke_version(revoke(true)).await.expect("compromised")),
            Column::Destroyed => {
                keys.revoke_version(revoke(false)).await.expect("deactivated");
                keys.destroy_version(version(id, 1)).await.expect("destroyed");
            }
        }
    }

    /// What the object itself makes of a message, for the call that takes it back.
    async fn made(&mut self, call: &str, id: &str, could: bool) -> Bytes {
        let of = id.to_owned();
        match call {
            "ImportMaterial" => {
                self.import = Some(self.import(id).await);
                Bytes::new()
            }
            "Decrypt" | "DecryptMany" | "ReEncrypt from" if !could => {
                // Of a key that never encrypted anything there is none: one that says so.
                let steady = self.steady.clone();
                let mut blob =
                    self.keys.encrypt(plain(&steady, b"m")).await.expect("encrypted").into_inner().ciphertext.to_vec();
                let [is, named] = [&steady[..], id].map(|id| id.parse::<KeyId>().expect("an id").0);
                let at = blob.windows(16).position(|part| part == is).expect("a blob names its key");
                blob[at..at + 16].copy_from_slice(&named);
                blob.into()
            }
            _ if !could => Bytes::from_static(b"wrong"),
            "Decrypt" | "DecryptMany" | "ReEncrypt from" => {
                self.keys.encrypt(plain(id, b"m")).await.expect("encrypted").into_inner().ciphertext
            }
            "Unwrap" => {
                let wrap = v1::WrapRequest { key: of, plaintext: vec![7; 32].into(), ..Default::default() };
                self.keys.wrap(wrap).await.expect("wrapped").into_inner().wrapped
            }
            "Decapsulate" => {
                let encapsulate = v1::EncapsulateRequest { key: of, version: 0 };
                self.keys.encapsulate(encapsulate).await.expect("encapsulated").into_inner().ciphertext
            }
            // What is verified may be wrong: that is an answer.
            _ => Bytes::from_static(b"wrong"),
        }
    }

    async fn call(&mut self, call: &str, id: &str, made: Bytes) -> Result<(), Why> {
        let (of, name, steady) = (id.to_owned(), self.name(), self.steady.clone());
        let secret = secret(id).unwrap_or_default().to_owned();
        let tag = || vec![v1::Tag { name: "a".into(), value: "b".into() }];
        let (keys, secrets) = (&mut self.keys, &mut self.secrets);
        match call {
            "Encrypt" => drop(keys.encrypt(plain(id, b"m")).await?),
            "EncryptMany" => {
                let many = v1::EncryptManyRequest { parts: vec![plain(id, b"m")] };
                // Where none of them can be done, the whole is refused.
                drop(keys.encrypt_many(many).await?)
            }
            "GenerateDataKey" => {
                drop(keys.generate_data_key(v1::GenerateDataKeyRequest { key: of, ..Default::default() }).await?)
            }
            "GenerateDataKeyPair" => drop(keys.generate_data_key_pair(data_key_pair(id)).await?),
            "ReEncrypt to" => {
                let ciphertext = keys.encrypt(plain(&steady, b"m")).await.expect("encrypted").into_inner().ciphertext;
                drop(keys.re_encrypt(v1::ReEncryptRequest { ciphertext, to: of, ..Default::default() }).await?)
            }
            "Sign" => drop(keys.sign(sign(id, b"m")).await?),
            "SignMany" => {
                let many = v1::SignManyRequest { parts: vec![sign(id, b"m")] };
                drop(keys.sign_many(many).await?)
            }
            "Mac" => drop(keys.mac(v1::MacRequest { key: of, ..Default::default() }).await?),
            "Wrap" => {
                let plaintext = vec![7; 32].into();
                drop(keys.wrap(v1::WrapRequest { key: of, plaintext, ..Default::default() }).await?)
            }
            "Agree" => drop(keys.agree(v1::AgreeRequest { key: of, peer: spki(), ..Default::default() }).await?),
            "Encapsulate" => drop(keys.encapsulate(v1::EncapsulateRequest { key: of, version: 0 }).await?),
            "DeriveKey" => {
                drop(keys.derive_key(v1::DeriveKeyRequest { key: of, bytes: 32, ..Default::default() }).await?)
            }
            "Decrypt" => drop(keys.decrypt(cipher(&made)).await?),
            "DecryptMany" => {
                let many = v1::DecryptManyRequest { parts: vec![cipher(&made)] };
                drop(keys.decrypt_many(many).await?)
            }
            "ReEncrypt from" => {
                let wanted = v1::ReEncryptRequest { ciphertext: made, to: steady, ..Default::default() };
                drop(keys.re_encrypt(wanted).await?)
            }
            "Verify" => drop(keys.verify(verify(id, b"m", &made)).await?),
            "VerifyMac" => {
                drop(keys.verify_mac(v1::VerifyMacRequest { key: of, mac: made, ..Default::default() }).await?)
            }
            "Unwrap" => drop(keys.unwrap(v1::UnwrapRequest { key: of, wrapped: made, ..Default::default() }).await?),
            "Decapsulate" => {
                drop(keys.decapsulate(v1::DecapsulateRequest { key: of, version: 0, ciphertext: made }).await?)
            }
            "GetSecret" => drop(secrets.get_secret(v1::GetSecretRequest { name: secret, version: 0 }).await?),
            "GetPublicKey" => drop(keys.get_public_key(v1::GetPublicKeyRequest { key: of, version: 0 }).await?),
            "DescribeKey" => drop(keys.describe_key(key(id)).await?),
            "ListVersions" => {
                drop(keys.list_versions(v1::ListVersionsRequest { key: of, ..Default::default() }).await?)
            }
            "GetLastUse" => drop(keys.get_last_use(key(id)).await?),
            "DescribeSecret" => drop(secrets.describe_secret(v1::SecretRequest { name: secret }).await?),
            "ListSecretVersions" => {
                let wanted = v1::ListSecretVersionsRequest { name: secret, ..Default::default() };
                drop(secrets.list_secret_versions(wanted).await?)
            }
            "UpdateKey" => {
                let description = Some("other".into());
                drop(keys.update_key(v1::UpdateKeyRequest { key: of, description, ..Default::default() }).await?)
            }
            "TagKey" => drop(keys.tag_key(v1::TagKeyRequest { key: of, tags: tag() }).await?),
            "UpdateVersion" => {
                let enabled = Some(false);
                drop(keys.update_version(v1::UpdateVersionRequest { key: of, enabled, ..Default::default() }).await?)
            }
            "BackupKey" => drop(keys.backup_key(key(id)).await?),
            "UpdateSecret" => {
                let wanted = v1::UpdateSecretRequest { name: secret, tags: tag(), ..Default::default() };
                drop(secrets.update_secret(wanted).await?)
            }
            "EnableKey" => drop(keys.enable_key(key(id)).await?),
            "DisableKey" => drop(keys.disable_key(key(id)).await?),
            "RotateKey" => drop(keys.rotate_key(v1::RotateKeyRequest { key: of, ..Default::default() }).await?),
            "SetKeyRotation" => {
                let wanted = v1::SetKeyRotationRequest { key: of, days: 365, ..Default::default() };
                drop(keys.set_key_rotation(wanted).await?)
            }
            "SetSecret" => {
                let wanted = v1::SetSecretRequest { name: secret, value: "t".into(), ..Default::default() };
                drop(secrets.set_secret(wanted).await?)
            }
            "RekeyKey" => drop(keys.rekey_key(v1::RekeyKeyRequest { key: of, ..Default::default() }).await?),
            "ActivateVersion" => drop(keys.activate_version(version(id, 0)).await?),
            "RevokeVersion" => {
                drop(keys.revoke_version(v1::RevokeVersionRequest { key: of, ..Default::default() }).await?)
            }
            "RevokeVersion compromised" => {
                let wanted = v1::RevokeVersionRequest { key: of, compromised: true, ..Default::default() };
                drop(keys.revoke_version(wanted).await?)
            }
            "DestroyVersion" => drop(keys.destroy_version(version(id, 1)).await?),
            "ScheduleKeyDeletion" => {
                let wanted = v1::ScheduleKeyDeletionRequest { key: of, days: 7, ..Default::default() };
                drop(keys.schedule_key_deletion(wanted).await?)
            }
            "CancelKeyDeletion" => drop(keys.cancel_key_deletion(cancel(id, true)).await?),
            "PurgeKey" => drop(keys.purge_key(key(id)).await?),
            "CreateAlias" => drop(keys.create_alias(v1::CreateAliasRequest { name, key: of }).await?),
            "ExportKey" => drop(keys.export_key(v1::ExportKeyRequest { key: of, ..Default::default() }).await?),
            "DeleteMaterial" => drop(keys.delete_material(version(id, 0)).await?),
            "GetImportParameters" => drop(keys.get_import_parameters(parameters(id)).await?),
            "ImportMaterial" => {
                let import = self.import.take().expect("prepared");
                drop(keys.import_material(import).await?)
            }
            "ArchiveKey" => drop(keys.archive_key(key(id)).await?),
            "RecoverKey" => drop(keys.recover_key(key(id)).await?),
            other => panic!("no such call: {other}"),
        }
        Ok(())
    }
}

/// The name, if it is a secret's.
fn secret(id: &str) -> Option<&str> {
    id.strip_prefix("secret/")
}

/// All that is told of an object.
async fn told(wire: &mut Wire, id: &str) -> String {
    if let Some(name) = secret(id).map(str::to_owned) {
        let described = wire.secrets.describe_secret(v1::SecretRequest { name: name.clone() }).await;
        let versions = v1::ListSecretVersionsRequest { name, ..Default::default() };
        let versions = wire.secrets.list_secret_versions(versions).await.expect("listed").into_inner();
        return format!("{:?} {versions:?}", described.expect("described").into_inner());
    }
    let described = wire.keys.describe_key(key(id)).await.expect("described").into_inner();
    let versions = v1::ListVersionsRequest { key: id.into(), ..Default::default() };
    let versions = wire.keys.list_versions(versions).await.expect("listed").into_inner();
    format!("{described:?} {versions:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_states_and_calls() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let material = Arc::new(Material::fresh(quorate_core::key_spec::KeySpec::P256, &OsEntropy));
    let mut wires = Vec::new();
    for (n, role) in [Role::Admin, Role::User].into_iter().enumerate() {
        let secrets = SecretsClient::new(connect(&node, Some(principal(role, "somebody"))).await);
        let (keys, material, names) = (keys(&node, role).await, material.clone(), 10_000 * n as u64);
        wires.push(Wire { keys, secrets, material, steady: String::new(), import: None, names });
    }
    let mut user = wires.pop().expect("two");
    let mut admin = wires.pop().expect("two");
    admin.steady = admin.create(BLOB, true, false).await;
    user.steady = admin.steady.clone();

    assert!(Row::ALL.iter().all(|row| CALLS.iter().any(|(_, of, _)| of == row)), "no row is left out");
    for (call, row, of) in CALLS {
        for column in Column::ALL {
            // The other states come to secrets by no call of this door.
            if of == Of::Secret && !matches!(column, Column::Pending | Column::Active) {
                continue;
            }
            let at = format!("{call} when {column:?}");
            let missing = column == Column::Missing;
            let of_key = missing || matches!(column, Column::Pending | Column::Archived | Column::Disabled);
            let is_of_pre_active = matches!(row, Row::Activate | Row::DestroyVersion);
            let active = column != Column::PreActive && !(of_key && is_of_pre_active);
            let id = admin.create(of, active, missing).await;
            let made = admin.made(call, &id, active && !missing).await;
            admin.put(&id, column).await;
            let before = told(&mut admin, &id).await;
            let cell = column.cell(row);
            if cell == Cell::IfTrusted {
                assert_eq!(user.call(call, &id, made.clone()).await, Err(Why("COMPROMISED".into())), "{at}");
            }
            let done = admin.call(call, &id, made).await;
            let by_row = || if cell == Cell::No { Err(Why(column.reason().into())) } else { Ok(()) };
            let refused = done.is_err();
            assert_eq!(done, exception(call, column).unwrap_or_else(by_row), "{at}");
            if refused {
                assert_eq!(told(&mut admin, &id).await, before, "{at} has changed something");
            }
        }
    }

    // The rest of the table: what is called off, or purged, is what waits for it.
    for call in ["CancelKeyDeletion", "PurgeKey"] {
        for column in Column::ALL {
            let missing = column == Column::Missing;
            let id = admin.create(SIGNS, column != Column::PreActive, missing).await;
            admin.put(&id, column).await;
            let before = told(&mut admin, &id).await;
            let done = admin.call(call, &id, Bytes::new()).await;
            if column == Column::Pending {
                assert_eq!(done, Ok(()), "{call}");
            } else {
                assert_eq!(done, Err(Why("WRONG_STATE".into())), "{call} when {column:?}");
                assert_eq!(told(&mut admin, &id).await, before, "{call} when {column:?}");
            }
        }
    }
}
