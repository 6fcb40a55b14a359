//! The authority's folder: what is in it, how it is made, how a CA is opened.
//!
//! ```text
//! D/pki.toml            format and cluster id          D/ca.pem         the self-signed root: every node and client trusts it
//! D/root.key.age        D/node-ca.key.age, D/client-ca.key.age         private keys, under the passphrase
//! D/node-ca.pem, D/client-ca.pem                                       the CAs' certificates, sent along with what they issue
//! D/issued.jsonl        what was issued (absent before the first)
//! ```

use std::path::{Path, PathBuf};

use quorate_core::id::ClusterId;
use quorate_core::seam::Entropy;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::issue::{ClientCa, NodeCa};
use super::passphrase::{decrypt, encrypt};
use super::{Ledger, Passphrase, PkiError, WorkFactor, ledger, serial, validity};

use crate::tls::{CaKind, CertificateFacts, ca_uri};

const FORMAT: u32 = 1;
/// Ten years: these keys are offline, and replacing a root means touching every client.
const CA_DAYS: u32 = 3650;

/// `pki.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    format: u32,
    cluster: String,
}

/// An authority's folder, its private keys still closed.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    cluster: ClusterId,
}

/// One CA with its private key open.
pub(super) struct OpenCa {
    pub(super) kind: CaKind,
    pub(super) cluster: ClusterId,
    pub(super) pem: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) not_after_s: i64,
    pub(super) ledger: PathBuf,
}

impl Pki {
    /// Makes the cluster's id, root, node CA and client CA in `dir`, which may exist but holds no authority yet. The
    /// marker file is written last: a folder without it is not an authority.
    ///
    /// # Errors
    /// There is one already, or a file can't be written.
    pub fn init(
        dir: &Path,
        passphrase: &Passphrase,
        work: WorkFactor,
        now_ms: u64,
        entropy: &dyn Entropy,
    ) -> Result<Self, PkiError> {
        let marker = dir.join("pki.toml");
        if exists(&marker) || exists(&dir.join("root.key.age")) {
            return Err(PkiError::Exists(dir.to_owned()));
        }
        let mut id = [0u8; 16];
        entropy.fill(&mut id);
        let cluster = ClusterId(*uuid::Builder::from_random_bytes(id).as_uuid().as_bytes());

        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).map_err(PkiError::make("root key"))?;
        let mut root = ca_params(&format!("quorate root {cluster}"), 1, now_ms, entropy)?;
        // Not below any CA: the extension would name itself.
        root.use_authority_key_identifier_extension = false;
        let root_pem = root.self_signed(&root_key).map_err(PkiError::make("root certificate"))?.pem();
        let issuer = Issuer::from_params(&root, &root_key);

        let mut written = Vec::new();
        for kind in [CaKind::Node, CaKind::Client] {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::make("CA key"))?;
            let mut params = ca_params(&format!("quorate {} CA {cluster}", kind.as_str()), 0, now_ms, entropy)?;
            params.subject_alt_names = vec![uri(&ca_uri(cluster, kind))?];
            params.extended_key_usages = match kind {
                CaKind::Node => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
                CaKind::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            };
            let pem = params.signed_by(&key, &issuer).map_err(PkiError::make("CA certificate"))?.pem();
            written.push((key_file(kind), sealed(passphrase, work, &key)?));
            written.push((cert_file(kind), pem.into_bytes()));
        }
        written.push(("root.key.age".to_owned(), sealed(passphrase, work, &root_key)?));
        written.push(("ca.pem".to_owned(), root_pem.into_bytes()));

        make_dir(dir)?;
        for (file, bytes) in written {
            // Certificates are public, and copied to nodes and clients.
            let mode = if file.ends_with(".pem") { 0o644 } else { 0o600 };
            write_new(&dir.join(file), mode, &bytes)?;
        }
        let text = toml::to_string(&Marker { format: FORMAT, cluster: cluster.to_string() })
            .map_err(|e| PkiError::Damaged { path: marker.clone(), reason: e.to_string() })?;
        write_new(&marker, 0o644, text.as_bytes())?;
        Ok(Self { dir: dir.to_owned(), cluster })
    }

    /// Opens the folder of an authority; no passphrase is needed yet.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join("pki.toml");
        if !exists(&path) {
            return Err(PkiError::NotFound(dir.to_owned()));
        }
        let damaged = |reason: String| PkiError::Damaged { path: path.clone(), reason };
        let text = read_text(&path)?;
        let marker: Marker = toml::from_str(&text).map_err(|e| damaged(e.message().to_owned()))?;
        if marker.format > FORMAT {
            return Err(PkiError::Newer(path));
        }
        let cluster = marker.cluster.parse().map_err(|e| damaged(format!("{e}")))?;
        Ok(Self { dir: dir.to_owned(), cluster })
    }

    /// C.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Where the self-signed root certificate is: what nodes and clients trust.
    pub fn root_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The authority's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every certificate that was issued.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub fn issued(&self) -> Result<Ledger, PkiError> {
        ledger::read(&self.dir.join(ledger::FILE))
    }

    /// Opens the node CA's private key.
    ///
    /// # Errors
    /// The passphrase is wrong, or a file is missing or damaged.
    pub fn node_ca(&self, passphrase: &Passphrase) -> Result<NodeCa, PkiError> {
        self.open_ca(CaKind::Node, passphrase).map(NodeCa)
    }

    /// Opens the client CA's private key.
    ///
    /// # Errors
    /// The passphrase is wrong, or a file is missing or damaged.
    pub fn client_ca(&self, passphrase: &Passphrase) -> Result<ClientCa, PkiError> {
        self.open_ca(CaKind::Client, passphrase).map(ClientCa)
    }

    fn open_ca(&self, kind: CaKind, passphrase: &Passphrase) -> Result<OpenCa, PkiError> {
        let (cert_path, key_path) = (self.dir.join(cert_file(kind)), self.dir.join(key_file(kind)));
        let pem = read_text(&cert_path)?;
        let key_pem = decrypt(passphrase, &key_path, &read(&key_path)?)?;
        let damaged =
            |path: &Path, e: &dyn std::fmt::Display| PkiError::Damaged { path: path.to_owned(), reason: e.to_string() };
        let key = KeyPair::from_pem(&key_pem).map_err(|e| damaged(&key_path, &e))?;
        let certificate = CertificateFacts::of_pem(pem.as_bytes()).map_err(|e| damaged(&cert_path, &e))?;
        if certificate.spki != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(damaged(&key_path, &"it is not the key of the CA's certificate"));
        }
        let not_after_s = certificate.ends_s;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|e| damaged(&cert_path, &e))?;
        let ledger = self.dir.join(ledger::FILE);
        Ok(OpenCa { kind, cluster: self.cluster, pem, issuer, not_after_s, ledger })
    }
}

fn ca_params(
    common_name: &str,
    path_len: u8,
    now_ms: u64,
    entropy: &dyn Entropy,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "quorate");
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.not_before, params.not_after) = validity(now_ms, CA_DAYS)?;
    params.serial_number = Some(serial(entropy));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

pub(super) fn uri(text: &str) -> Result<SanType, PkiError> {
    Ok(SanType::URI(Ia5String::try_from(text).map_err(PkiError::make("certificate's URI"))?))
}

fn key_file(kind: CaKind) -> String {
    format!("{}-ca.key.age", kind.as_str())
}

fn cert_file(kind: CaKind) -> String {
    format!("{}-ca.pem", kind.as_str())
}

fn sealed(passphrase: &Passphrase, work: WorkFactor, key: &KeyPair) -> Result<Vec<u8>, PkiError> {
    encrypt(passphrase, work, Zeroizing::new(key.serialize_pem()).as_bytes())
}

#[expect(clippy::disallowed_methods, reason = "an operator's files, not a node's disk")]
fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    std::fs::read(path).map_err(|source| PkiError::Io { doing: "read", path: path.to_owned(), source })
}

fn read_text(path: &Path) -> Result<String, PkiError> {
    String::from_utf8(read(path)?)
        .map_err(|_| PkiError::Damaged { path: path.to_owned(), reason: "it is not text".into() })
}

fn make_dir(path: &Path) -> Result<(), PkiError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| PkiError::Io { doing: "make", path: path.to_owned(), source })
}

/// A new file, on disk when this returns; an existing one is never overwritten.
#[expect(clippy::disallowed_methods, reason = "an operator's files, not a node's disk")]
fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), PkiError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let written =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    written.map_err(|source| PkiError::Io { doing: "write", path: path.to_owned(), source })
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
