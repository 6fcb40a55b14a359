//! The public seal configuration of one generation G: who the custodians are, and the quorum's public key
//! (key-hierarchy §4.1). In clear, hash-chained; every change is a new generation.
//!
//! ```text
//! ver u8 ‖ suite u8 ‖ L 16 ‖ C 16 ‖ G u32 ‖ S 4 ‖ t u8 ‖ n u8 ‖ n × {x u8 ‖ len u32, label ‖ pk_x 32}
//!   ‖ len u32, PK_Q ‖ len u32, box_Q ‖ len u32, PK_aud ‖ PK_anchor 32 ‖ unseal modes u8
//!   ‖ m u8 × {len u32, recovery SPKI} ‖ flags u8 ‖ SHA-256(SealConfig_{G−1}) 32 (zeros at G = 1)
//!   ‖ k u8 × {signer kind u8 ‖ len u32, signer ‖ len u32, signature}
//!
//! box_Q = box(kdf(UK, "quorum-key", [], 32), "quorum-key-box", hdr = all before the signatures without box_Q, SK_Q)
//! ```

use std::fmt;

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, Lineage};
use quorate_core::seam::Entropy;
use thiserror::Error;

use crate::boxes;
use crate::hybrid::{HybridKeyError, HybridPublicKey, QuorumSecretKey};
use crate::kdf::{Label, derive, message, sha256};
use crate::secret::Secret;
use crate::suite::{HashSuite, UnknownSuite};

const VERSION: u8 = 1;
const BOX_Q_LEN: usize = QuorumSecretKey::LEN + boxes::BOX_OVERHEAD;
/// Longest custodian label, in bytes: it is shown in tables and typed in commands.
pub const LABEL_LEN_MAX: usize = 64;
const SPKI_LEN_MAX: usize = 2048;
const RECOVERY_MAX: usize = 8;
const SIGNER_LEN_MAX: usize = 256;
const SIGNATURE_LEN_MAX: usize = 1024;

/// S: names one set of shares; random for each set.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetId(pub [u8; 4]);

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}
impl fmt::Debug for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 of a whole seal configuration, signatures included: the link of the chain, and what the keyring names.
pub type SealConfigHash = [u8; 32];

/// One custodian.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Custodian {
    /// The share's x, 1 to n.
    pub x: u8,
    /// What people call the holder; public.
    pub label: String,
    /// Public half of the share's Ed25519 proof key: the commitment to the share.
    pub proof_key: [u8; 32],
}

/// How nodes may be unsealed besides by the quorum: chosen by the custodians, never by an administrator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsealModes(u8);

impl UnsealModes {
    /// By a quorum of custodians, always allowed. Bits for peer and auto unseal are reserved.
    pub const QUORUM: Self = Self(1);
}

/// Marks of a cluster that people must see.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SealFlags {
    /// Made by `quorate dev`: its shares and tokens lie beside each other.
    pub dev: bool,
    /// One share opens it: no split knowledge.
    pub single_share: bool,
}

impl SealFlags {
    fn to_byte(self) -> u8 {
        u8::from(self.dev) | u8::from(self.single_share) << 1
    }
    fn from_byte(b: u8) -> Option<Self> {
        (b < 4).then_some(Self { dev: b & 1 != 0, single_share: b & 2 != 0 })
    }
}

/// Who signed a seal configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SignerKind {
    /// The principal that founded the cluster.
    InitPrincipal = 1,
    /// The node that founded it, with its identity key.
    Node = 2,
    /// A custodian of the generation before, with a share's proof key.
    Custodian = 3,
}

/// One signature over [`SealConfig::signing_message`]; checked by those who know the signer's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealSignature {
    /// What kind of signer.
    pub kind: SignerKind,
    /// Which one: a principal, a node's name, or a custodian's x in decimal.
    pub signer: String,
    /// The signature, in the form its key type has.
    pub signature: Vec<u8>,
}

/// Why bytes are no seal configuration, or box_Q does not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SealConfigError {
    /// Not the format, or a rule is broken (1 ≤ t ≤ n, x from 1 to n, one share only where flagged).
    #[error("{0}: the seal configuration was damaged or forged; do not enter shares")]
    Malformed(#[from] Malformed),
    /// A version this build does not know.
    #[error("seal configuration version {0} is unknown: it was written by a newer version; upgrade this program")]
    UnknownVersion(u8),
    /// A hash suite this build does not have.
    #[error(transparent)]
    Suite(#[from] UnknownSuite),
    /// A public key inside.
    #[error(transparent)]
    Key(#[from] HybridKeyError),
    /// The combined shares do not open box_Q.
    #[error("the shares were combined, but do not open the quorum key of set {0}: the configuration was changed")]
    QuorumKeyNotOpened(SetId),
}

/// The seal configuration of one generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealConfig {
    /// Hash suite of the cluster.
    pub suite: HashSuite,
    /// L.
    pub lineage: Lineage,
    /// C.
    pub cluster: ClusterId,
    /// G, from 1.
    pub generation: u32,
    /// S.
    pub set_id: SetId,
    /// t: how many shares open it.
    pub threshold: u8,
    /// n: how many shares there are.
    pub total: u8,
    /// Who holds them, in order of x.
    pub custodians: Vec<Custodian>,
    /// PK_Q.
    pub quorum_public_key: HybridPublicKey,
    /// SK_Q, boxed under UK.
    pub box_q: Vec<u8>,
    /// PK_aud: audit segments are sealed to it.
    pub pk_aud: HybridPublicKey,
    /// PK_anchor: Ed25519, verifies anchors.
    pub pk_anchor: [u8; 32],
    /// How nodes may be unsealed.
    pub unseal_modes: UnsealModes,
    /// Recovery recipients (SPKI, DER).
    pub recovery: Vec<Vec<u8>>,
    /// Marks.
    pub flags: SealFlags,
    /// Hash of the generation before; zeros at G = 1.
    pub previous_hash: SealConfigHash,
    /// Who vouches for it. Added before anything names [`SealConfig::hash`].
    pub signatures: Vec<SealSignature>,
}

impl SealConfig {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = self.write(Some(&self.box_q)).u8(self.signatures.len() as u8);
        for s in &self.signatures {
            w = w.u8(s.kind as u8).field(s.signer.as_bytes()).field(&s.signature);
        }
        w.finish()
    }

    /// SHA-256 of the canonical bytes, signatures included.
    pub fn hash(&self) -> SealConfigHash {
        sha256(&self.encode())
    }

    /// What signers sign: `quorate/v1/seal-config ‖ 0x00 ‖ [SHA-256(all before the signatures)]`.
    pub fn signing_message(&self) -> Vec<u8> {
        let body = sha256(&self.write(Some(&self.box_q)).finish());
        message(Label::SealConfig, &Writer::new().field(&body).finish())
    }

    /// The custodian whose share has this x.
    pub fn custodian(&self, x: u8) -> Option<&Custodian> {
        self.custodians.get(usize::from(x).checked_sub(1)?)
    }

    /// Boxes SK_Q under UK; every other field must be final.
    pub(crate) fn seal_quorum_key(&mut self, uk: &Secret<32>, sk_q: &QuorumSecretKey, entropy: &dyn Entropy) {
        let hdr = self.write(None).finish();
        self.box_q = boxes::seal(&box_q_key(uk), Label::QuorumKeyBox, &hdr, b"", &sk_q.encode(), entropy);
    }

    /// Opens SK_Q with UK, and checks that it belongs to PK_Q.
    pub(crate) fn open_quorum_key(&self, uk: &Secret<32>) -> Result<QuorumSecretKey, SealConfigError> {
        let hdr = self.write(None).finish();
        let sk_q = boxes::open(&box_q_key(uk), Label::QuorumKeyBox, &hdr, b"", &self.box_q)
            .map_err(|_| SealConfigError::QuorumKeyNotOpened(self.set_id))?;
        let sk_q = QuorumSecretKey::decode(&sk_q)?;
        if sk_q.public_key()? != self.quorum_public_key {
            return Err(SealConfigError::QuorumKeyNotOpened(self.set_id));
        }
        Ok(sk_q)
    }

    fn write(&self, box_q: Option<&[u8]>) -> Writer {
        let mut w = (Writer::new().u8(VERSION).u8(self.suite as u8).raw(&self.lineage.0).raw(&self.cluster.0))
            .u32(self.generation)
            .raw(&self.set_id.0)
            .u8(self.threshold)
            .u8(self.total);
        for c in &self.custodians {
            w = w.u8(c.x).field(c.label.as_bytes()).raw(&c.proof_key);
        }
        w = w.field(&self.quorum_public_key.encode());
        if let Some(box_q) = box_q {
            w = w.field(box_q);
        }
        w = w.field(&self.pk_aud.encode()).raw(&self.pk_anchor).u8(self.unseal_modes.0).u8(self.recovery.len() as u8);
        for spki in &self.recovery {
            w = w.field(spki);
        }
        w.u8(self.flags.to_byte()).raw(&self.previous_hash)
    }

    /// Reads canonical bytes and checks every rule. Signatures are checked by those who know the signers' keys.
    ///
    /// # Errors
    /// When they are not a seal configuration, or one that this build cannot use.
    pub fn decode(bytes: &[u8]) -> Result<Self, SealConfigError> {
        let mut r = Reader::new("seal configuration", bytes);
        match r.u8()? {
            VERSION => {}
            other => return Err(SealConfigError::UnknownVersion(other)),
        }
        let suite = HashSuite::from_byte(r.u8()?)?;
        let lineage = Lineage(r.array()?);
        let cluster = ClusterId(r.array()?);
        let generation = r.u32()?;
        let set_id = SetId(r.array()?);
        let (threshold, total) = (r.u8()?, r.u8()?);
        let custodians = (0..total)
            .map(|_| Ok(Custodian { x: r.u8()?, label: r.text(LABEL_LEN_MAX)?.to_owned(), proof_key: r.array()? }))
            .collect::<Result<_, Malformed>>()?;
        let config = Self {
            suite,
            lineage,
            cluster,
            generation,
            set_id,
            threshold,
            total,
            custodians,
            quorum_public_key: HybridPublicKey::decode(r.field(HybridPublicKey::LEN)?)?,
            box_q: r.field(BOX_Q_LEN)?.to_vec(),
            pk_aud: HybridPublicKey::decode(r.field(HybridPublicKey::LEN)?)?,
            pk_anchor: r.array()?,
            unseal_modes: UnsealModes(r.u8()?),
            recovery: (0..r.u8()?).map(|_| Ok(r.field(SPKI_LEN_MAX)?.to_vec())).collect::<Result<_, Malformed>>()?,
            flags: SealFlags::from_byte(r.u8()?).ok_or(Malformed("seal configuration: flags"))?,
            previous_hash: r.array()?,
            signatures: (0..r.u8()?).map(|_| read_signature(&mut r)).collect::<Result<_, Malformed>>()?,
        };
        r.finish()?;
        config.check()?;
        Ok(config)
    }

    /// The rules that every seal configuration obeys.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        check_threshold(self.threshold, self.total, self.flags.single_share)?;
        let in_order = self.custodians.iter().map(|c| c.x).eq(1..=self.total);
        if !in_order || !self.custodians.iter().all(|c| is_label(&c.label)) {
            return Err(Malformed("seal configuration: custodians"));
        }
        if self.generation == 0 || (self.generation == 1) != (self.previous_hash == [0; 32]) {
            return Err(Malformed("seal configuration: generation"));
        }
        if self.box_q.len() != BOX_Q_LEN || self.recovery.len() > RECOVERY_MAX {
            return Err(Malformed("seal configuration: lengths"));
        }
        if self.unseal_modes != UnsealModes::QUORUM {
            return Err(Malformed("seal configuration: unseal modes, a newer version is needed"));
        }
        Ok(())
    }
}

/// 2 ≤ t ≤ n, or exactly one share of one where that was asked for.
pub(crate) fn check_threshold(threshold: u8, total: u8, single_share: bool) -> Result<(), Malformed> {
    let good = if single_share { (threshold, total) == (1, 1) } else { 2 <= threshold && threshold <= total };
    if good { Ok(()) } else { Err(Malformed("seal configuration: threshold")) }
}

/// Whether a custodian's label can be shown and typed: 1 to 64 bytes, no control characters.
pub(crate) fn is_label(label: &str) -> bool {
    !label.is_empty() && label.len() <= LABEL_LEN_MAX && !label.chars().any(char::is_control)
}

fn box_q_key(uk: &Secret<32>) -> Secret<32> {
    derive(uk.expose(), Label::QuorumKey, b"")
}

fn read_signature(r: &mut Reader<'_>) -> Result<SealSignature, Malformed> {
    let kind = match r.u8()? {
        1 => SignerKind::InitPrincipal,
        2 => SignerKind::Node,
        3 => SignerKind::Custodian,
        _ => return Err(Malformed("seal configuration: signer kind")),
    };
    Ok(SealSignature {
        kind,
        signer: r.text(SIGNER_LEN_MAX)?.to_owned(),
        signature: r.field(SIGNATURE_LEN_MAX)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::founding;

    #[test]
    fn encodes_and_decodes_all_fields() {
        let mut config = founding(3, 5).seal_config;
        config.recovery = vec![vec![1, 2], vec![3]];
        config.flags.dev = true;
        config.signatures = vec![
            SealSignature { kind: SignerKind::InitPrincipal, signer: "admin/ada".into(), signature: vec![9; 64] },
            SealSignature { kind: SignerKind::Node, signer: "n1".into(), signature: vec![] },
            SealSignature { kind: SignerKind::Custodian, signer: "3".into(), signature: vec![8; 64] },
        ];
        assert_eq!(SealConfig::decode(&config.encode()).unwrap(), config);
        let unsigned = SealConfig { signatures: vec![], ..config.clone() };
        assert_eq!(unsigned.signing_message(), config.signing_message());
        assert_ne!(unsigned.hash(), config.hash());
    }

    #[test]
    fn every_changed_byte_is_refused_or_changes_the_hash_and_keeps_box_q_shut() {
        let f = founding(2, 3);
        let bytes = f.seal_config.encode();
        let uk = crate::split::combine(f.shares.iter().take(2).map(|s| (s.x(), s.y()))).unwrap();
        f.seal_config.open_quorum_key(&uk).ok().unwrap();
        // Every byte before box_Q, and a sample of those in and after it.
        for i in (0..1450).step_by(7).chain((1450..bytes.len() - 1).step_by(97)).chain(bytes.len() - 40..bytes.len()) {
            let mut bad = bytes.clone();
            bad[i] ^= 2;
            let Ok(config) = SealConfig::decode(&bad) else { continue };
            assert_ne!(config.hash(), f.seal_config.hash());
            assert!(config.open_quorum_key(&uk).is_err(), "byte {i}");
        }
    }

    #[test]
    fn rules_are_checked() {
        let good = founding(2, 3).seal_config;
        type Change = fn(&mut SealConfig);
        let changes: [(&str, Change); 12] = [
            ("t above n", |c| c.threshold = 4),
            ("t of 1", |c| c.threshold = 1),
            ("t of 0", |c| c.threshold = 0),
            ("single share with three", |c| c.flags.single_share = true),
            ("x twice", |c| c.custodians[1].x = 1),
            ("x from 0", |c| c.custodians[0].x = 0),
            ("empty label", |c| c.custodians[0].label.clear()),
            ("control character", |c| c.custodians[0].label = "a\u{1b}[0m".into()),
            ("generation 0", |c| c.generation = 0),
            ("generation 2 without a predecessor", |c| c.generation = 2),
            ("short box_Q", |c| c.box_q.truncate(10)),
            ("peer unseal", |c| c.unseal_modes = UnsealModes(3)),
        ];
        for (name, change) in changes {
            let mut config = good.clone();
            change(&mut config);
            assert!(SealConfig::decode(&config.encode()).is_err(), "{name}");
        }
        let bytes = good.encode();
        let with = |at: usize, b: u8| {
            let mut bad = bytes.clone();
            bad[at] = b;
            SealConfig::decode(&bad).err().unwrap()
        };
        assert_eq!(with(0, 2), SealConfigError::UnknownVersion(2));
        assert_eq!(with(1, 2), SealConfigError::Suite(UnknownSuite::Fips));
        assert!(SealConfig::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn decode_never_panics(bytes: Vec<u8>, cut: u16) {
            prop_assert!(SealConfig::decode(&bytes).is_err());
            let mut good = vec![1, 1];
            good.extend(bytes);
            good.truncate(cut.into());
            prop_assert!(SealConfig::decode(&good).is_err());
        }
    }
}
