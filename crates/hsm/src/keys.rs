//! The node's three keys: how they are named, made, found and checked.

use std::fmt;

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use quorate_core::id::Name;
use quorate_crypto::HsmAlg;

use crate::HsmError;
use crate::attributes::{self, Usage};
use crate::error::Failure;
use crate::public_key::{ec_point, fingerprint, p256_spki, rsa_spki, sha256};

const RSA_BITS: u64 = 3072;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// Opens this node's envelopes. Made anew at each re-share.
    Kem,
    /// Signs TLS handshakes; in the node's certificate and pinned in membership.
    Identity,
    /// Signs audit checkpoints.
    Audit,
}

impl KeyRole {
    /// The word in the key's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kem => "kem",
            Self::Identity => "identity",
            Self::Audit => "audit",
        }
    }

    /// CKA_LABEL: `quorate/<node name>/<role>`. The node's name, so that nodes may share a network HSM; not the cluster
    /// id, which a new node does not know yet.
    pub fn label(self, node: &Name) -> String {
        format!("quorate/{node}/{}", self.as_str())
    }
}

/// CKA_ID of a key: SHA-256(SPKI)[..16] (key-hierarchy §4.2). Tells an old kem key from the new one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub [u8; 16]);

impl KeyId {
    /// The id of the key with this public half.
    pub fn of(spki_der: &[u8]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&sha256(spki_der)[..16]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Which of several keys with the same label to take. A key that is not named here must be the only one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeySelection {
    /// The kem key, by the membership record's SPKI.
    pub kem: Option<KeyId>,
    /// The identity key, by the certificate's SPKI.
    pub identity: Option<KeyId>,
    /// The audit key.
    pub audit: Option<KeyId>,
}

/// How the kem key's algorithm is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KemChoice {
    /// The first of rsa3072-oaep-sha256 and p256-ecdh that the token can really do.
    #[default]
    Probe,
    /// This one, or an error. `Rsa3072OaepSha1` only with [`crate::TokenProfile::SoftHsm`].
    Only(HsmAlg),
}

/// A kem public key and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeyInfo {
    /// The KEM algorithm.
    pub alg: HsmAlg,
    /// SubjectPublicKeyInfo, DER.
    pub spki_der: Vec<u8>,
}

/// The public halves of a node's keys, SPKI in DER. Identity and audit are P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKeys {
    /// Envelopes are sealed to it.
    pub kem: PublicKeyInfo,
    /// The node's certificate is for it.
    pub identity: Vec<u8>,
    /// Audit checkpoints verify under it.
    pub audit: Vec<u8>,
}

impl NodeKeys {
    /// What an operator compares; see [`fingerprint`].
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.identity, &self.kem.spki_der, &self.audit)
    }

    pub(crate) fn selection(&self) -> KeySelection {
        KeySelection {
            kem: Some(KeyId::of(&self.kem.spki_der)),
            identity: Some(KeyId::of(&self.identity)),
            audit: Some(KeyId::of(&self.audit)),
        }
    }
}

/// A node's keys in a live session.
#[derive(Debug, Clone)]
pub(crate) struct Handles {
    pub(crate) kem: ObjectHandle,
    pub(crate) identity: ObjectHandle,
    pub(crate) audit: ObjectHandle,
    pub(crate) public: NodeKeys,
}

/// Finds and checks the three keys. `kem_alg` tells the two RSA algorithms apart, which the token can't.
pub(crate) fn load(
    session: &Session,
    node: &Name,
    select: &KeySelection,
    kem_alg: Option<HsmAlg>,
) -> Result<Handles, Failure> {
    let find = |role: KeyRole, id| match find(session, &role.label(node), id)? {
        Some(pair) => Ok(pair),
        None => {
            Err(Failure::from(HsmError::KeyMissing { label: role.label(node), id: id.map(|id: KeyId| id.to_string()) }))
        }
    };
    let kem = find(KeyRole::Kem, select.kem)?;
    let identity = find(KeyRole::Identity, select.identity)?;
    let audit = find(KeyRole::Audit, select.audit)?;
    let alg = kem.kem_alg(kem_alg);
    attributes::check_private(session, kem.private, &kem.label, Usage::of_kem(alg))?;
    for key in [&identity, &audit] {
        attributes::check_private(session, key.private, &key.label, Usage::Sign)?;
    }
    Ok(Handles {
        kem: kem.private,
        identity: identity.private,
        audit: audit.private,
        public: NodeKeys { kem: PublicKeyInfo { alg, spki_der: kem.spki }, identity: identity.spki, audit: audit.spki },
    })
}

pub(crate) struct Pair {
    label: String,
    private: ObjectHandle,
    spki: Vec<u8>,
    rsa: bool,
}

impl Pair {
    /// The algorithm of a kem key: an RSA key is for SHA-256 unless it is known to be for SHA-1.
    pub(crate) fn kem_alg(&self, known: Option<HsmAlg>) -> HsmAlg {
        match (self.rsa, known) {
            (false, _) => HsmAlg::P256Ecdh,
            (true, Some(HsmAlg::Rsa3072OaepSha1)) => HsmAlg::Rsa3072OaepSha1,
            (true, _) => HsmAlg::Rsa3072OaepSha256,
        }
    }
}

/// The key pair with this label (and id): `None` if there is none. Both halves must be there and fit.
pub(crate) fn find(session: &Session, label: &str, wanted: Option<KeyId>) -> Result<Option<Pair>, Failure> {
    let damaged = |reason: String| Failure::from(HsmError::KeyDamaged { label: label.to_owned(), reason });
    let mut found = Vec::new();
    for private in session.find_objects(&attributes::search(ObjectClass::PRIVATE_KEY, label))? {
        let id = id_of(session, private)?;
        if wanted.is_none_or(|w| id == w.0) {
            found.push((private, id));
        }
    }
    let (private, id) = match &found[..] {
        [] => return Ok(None),
        [(private, id)] => (*private, id.clone()),
        many => {
            let ids = many.iter().map(|(_, id)| hex(id)).collect();
            return Err(HsmError::KeyAmbiguous { label: label.to_owned(), ids }.into());
        }
    };
    let mut public = attributes::search(ObjectClass::PUBLIC_KEY, label);
    public.push(Attribute::Id(id.clone()));
    let public = session.find_objects(&public)?;
    let [public] = public[..] else {
        return Err(damaged(format!("{} public key objects have its label and id, not 1", public.len())));
    };
    let (spki, rsa) = spki_of(session, public)?.ok_or_else(|| damaged("its public key can't be read".into()))?;
    if KeyId::of(&spki).0[..] != id[..] {
        return Err(damaged("its CKA_ID is not the hash of its public key".into()));
    }
    Ok(Some(Pair { label: label.to_owned(), private, spki, rsa }))
}

fn id_of(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, Failure> {
    match session.get_attributes(object, &[AttributeType::Id])?.pop() {
        Some(Attribute::Id(id)) => Ok(id),
        _ => Ok(Vec::new()),
    }
}

/// SPKI of a public key object, and whether it is RSA; `None` if it is no key we use.
fn spki_of(session: &Session, public: ObjectHandle) -> Result<Option<(Vec<u8>, bool)>, Failure> {
    let values = session.get_attributes(
        public,
        &[AttributeType::EcParams, AttributeType::EcPoint, AttributeType::Modulus, AttributeType::PublicExponent],
    )?;
    let (mut params, mut point, mut modulus, mut exponent) = (None, None, None, None);
    for value in values {
        match value {
            Attribute::EcParams(v) => params = Some(v),
            Attribute::EcPoint(v) => point = Some(v),
            Attribute::Modulus(v) => modulus = Some(v),
            Attribute::PublicExponent(v) => exponent = Some(v),
            _ => {}
        }
    }
    if let (Some(params), Some(point)) = (params, point) {
        if params != attributes::p256_params() {
            return Ok(None);
        }
        return Ok(ec_point(&point).and_then(|p| p256_spki(&p)).map(|spki| (spki, false)));
    }
    let rsa = modulus.zip(exponent).and_then(|(n, e)| {
        let bits = n.iter().skip_while(|&&b| b == 0).count() as u64 * 8;
        if bits != RSA_BITS { None } else { rsa_spki(&n, &e) }
    });
    Ok(rsa.map(|spki| (spki, true)))
}

/// Makes a key pair under its final label and id. A crash in between leaves objects with a `/new` label, which the
/// next call removes: a key with a final label is always whole.
pub(crate) fn generate(session: &Session, label: &str, usage: Usage) -> Result<Pair, Failure> {
    let unfinished = format!("{label}/new");
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for leftover in session.find_objects(&attributes::search(class, &unfinished))? {
            session.destroy_object(leftover)?;
        }
    }
    let (public, private) = session.generate_key_pair(
        &generator(usage),
        &attributes::public_template(&unfinished, usage, true, RSA_BITS),
        &attributes::private_template(&unfinished, usage, true),
    )?;
    let (spki, rsa) = spki_of(session, public)?.ok_or_else(|| {
        Failure::from(HsmError::KeyDamaged {
            label: label.to_owned(),
            reason: "the token made a key whose public half can't be read".into(),
        })
    })?;
    attributes::check_private(session, private, label, usage)?;
    let finished = [Attribute::Id(KeyId::of(&spki).0.to_vec()), Attribute::Label(label.as_bytes().to_vec())];
    // The private half last: it is the one that is searched.
    session.update_attributes(public, &finished)?;
    session.update_attributes(private, &finished)?;
    Ok(Pair { label: label.to_owned(), private, spki, rsa })
}

/// A throw-away pair for a probe.
pub(crate) fn generate_for_session(
    session: &Session,
    usage: Usage,
    rsa_bits: u64,
) -> Result<(ObjectHandle, ObjectHandle, Vec<u8>), Failure> {
    let (public, private) = session.generate_key_pair(
        &generator(usage),
        &attributes::public_template("quorate/probe", usage, false, rsa_bits),
        &attributes::private_template("quorate/probe", usage, false),
    )?;
    let values = session.get_attributes(public, &[AttributeType::Modulus, AttributeType::PublicExponent])?;
    let spki = match &values[..] {
        [Attribute::Modulus(n), Attribute::PublicExponent(e)] => rsa_spki(n, e),
        _ => None,
    };
    match spki {
        Some(spki) => Ok((public, private, spki)),
        None => Err(HsmError::KeyDamaged { label: "quorate/probe".into(), reason: "no public key".into() }.into()),
    }
}

fn generator(usage: Usage) -> Mechanism<'static> {
    match usage {
        Usage::Decrypt => Mechanism::RsaPkcsKeyPairGen,
        Usage::Derive | Usage::Sign => Mechanism::EccKeyPairGen,
    }
}

/// The mechanisms an algorithm needs.
pub(crate) fn mechanisms_of(usage: Usage) -> [MechanismType; 2] {
    match usage {
        Usage::Decrypt => [MechanismType::RSA_PKCS_KEY_PAIR_GEN, MechanismType::RSA_PKCS_OAEP],
        Usage::Derive => [MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDH1_DERIVE],
        Usage::Sign => [MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDSA],
    }
}
