//! Envelopes: RK_r, sealed so that it takes a node's HSM *and* the quorum to open it (key-hierarchy §4.1, §4.4).
//!
//! ```text
//! envelope = ver u8 ‖ kind u8 ‖ hsm_alg u8 ‖ len u32, ct_h ‖ q_alg u8 ‖ ct_q 1120 ‖ hsm_check 16 ‖ box 108
//! ctx      = [L, C, G u32, S, r u32, node name, SHA-256(SPKI_hsm), SHA-256(SPKI_identity), SHA-256(PK_Q),
//!             SHA-256(ct_h), SHA-256(ct_q), kind u8]          hand-over: and [sender name, nonce, ceremony id]
//! hsm_check = kdf(ss_h, "hsm-check", ctx, 16)
//! box       = box(kdf([ss_h, ss_x25519, ss_mlkem], "envelope", ctx, 32), "envelope-box", hdr = ctx, RK_r)
//! ```
//!
//! Not two nested layers: both secrets enter one KDF, so the order cannot be got wrong, and one AEAD binds everything.
//! A hand-over has no quorum half: q_alg is 0, ct_q is empty, the KDF's key is `[ss_h]`. It is made for one recipient's
//! nonce, lives in memory only and is never written.

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, Lineage};
use quorate_core::seam::Entropy;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::boxes::{self, BOX_OVERHEAD, NotOpened};
use crate::ceremony::CeremonyId;
use crate::hsm_kem::{CT_H_LEN_MAX, HsmAlg, KemError, check_ciphertext, encapsulate};
use crate::hybrid::{
    CIPHERTEXT_LEN, Encapsulated, HybridKeyError, HybridPublicKey, Q_ALG_X25519_MLKEM768, QuorumSecretKey,
};
use crate::kdf::{Label, derive, sha256};
use crate::root::RootKey;
use crate::seal_config::SetId;
use crate::secret::{Secret, ct_eq};

const VERSION: u8 = 1;
const HSM_CHECK_LEN: usize = 16;
const BOX_LEN: usize = 32 + BOX_OVERHEAD;
const Q_ALG_NONE: u8 = 0;

/// What an envelope is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EnvelopeKind {
    /// A member's: opened by its HSM and the quorum. In the replicated state.
    Node = 1,
    // 2, 4 and 5 are reserved for recovery, auto and local.
    /// From an unsealed member to another that is to be unsealed: opened by the recipient's HSM alone.
    Handover = 3,
}

/// Everything an envelope is bound to, except its own ciphertexts and kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnvelopeContext {
    /// L.
    pub lineage: Lineage,
    /// C.
    pub cluster: ClusterId,
    /// G: generation of the seal configuration.
    pub generation: u32,
    /// S: the share set.
    pub set_id: SetId,
    /// r: generation of the root key inside.
    pub root_generation: u32,
    /// Name of the node whose HSM opens it.
    pub node_name: String,
    /// SHA-256 of that HSM's KEM key (SPKI, DER).
    pub spki_hsm_sha256: [u8; 32],
    /// SHA-256 of the node's identity key (SPKI, DER).
    pub spki_identity_sha256: [u8; 32],
    /// SHA-256 of PK_Q ([`HybridPublicKey::sha256`]).
    pub pk_q_sha256: [u8; 32],
}

/// What a hand-over is bound to besides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandoverContext {
    /// As for the recipient's own envelope.
    pub envelope: EnvelopeContext,
    /// Name of the node that hands over.
    pub sender: String,
    /// Chosen by the recipient for this one hand-over.
    pub nonce: [u8; 32],
    /// The ceremony that unsealed the sender.
    pub ceremony: CeremonyId,
}

/// Why an envelope cannot be made, read or opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EnvelopeError {
    /// Not the format.
    #[error("{0}: the envelope was damaged; have an unsealed member make a new one")]
    Malformed(#[from] Malformed),
    /// A version this build does not know.
    #[error("envelope version {0} is unknown: it was written by a newer version; upgrade this node")]
    UnknownVersion(u8),
    /// Kinds 2 (recovery), 4 (auto) and 5 (local) are reserved, others not assigned.
    #[error("envelope kind {0} is not supported by this version; upgrade this node")]
    UnsupportedKind(u8),
    /// It is of the other supported kind.
    #[error("the envelope is of the wrong kind: a node's envelope and a hand-over are not exchangeable")]
    WrongKind,
    /// The HSM half.
    #[error(transparent)]
    Hsm(#[from] KemError),
    /// The quorum half.
    #[error(transparent)]
    Quorum(#[from] HybridKeyError),
    /// The context names another key than the one given.
    #[error("the envelope's context does not fit the {0} it was given: this is a bug, nothing was sealed")]
    ContextMismatch(&'static str),
    /// Wrong HSM secret, wrong quorum key, wrong context or changed bytes.
    #[error(
        "the envelope does not open: it was made for another HSM key, share set, node or root generation, or changed"
    )]
    NotOpened,
}

impl From<NotOpened> for EnvelopeError {
    fn from(NotOpened: NotOpened) -> Self {
        Self::NotOpened
    }
}

/// An envelope: public bytes, worth nothing without its HSM (and the quorum).
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    kind: EnvelopeKind,
    alg: HsmAlg,
    ct_h: Vec<u8>,
    ct_q: Vec<u8>,
    hsm_check: [u8; HSM_CHECK_LEN],
    boxed: Vec<u8>,
}

/// The HSM half of a new envelope.
pub(crate) struct HsmHalf {
    pub(crate) alg: HsmAlg,
    pub(crate) ct_h: Vec<u8>,
    pub(crate) ss_h: Secret<32>,
}

impl Envelope {
    /// Seals `root` for a node: to its HSM (SPKI, DER) and the quorum, from public keys alone.
    ///
    /// # Errors
    /// When `kind` is not [`EnvelopeKind::Node`], a public key is invalid, or the context names other keys.
    pub fn seal(
        kind: EnvelopeKind,
        ctx: &EnvelopeContext,
        alg: HsmAlg,
        hsm_spki: &[u8],
        quorum: &HybridPublicKey,
        root: &RootKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, EnvelopeError> {
        if kind != EnvelopeKind::Node {
            return Err(EnvelopeError::WrongKind);
        }
        check_context(ctx, hsm_spki, root)?;
        if ctx.pk_q_sha256 != quorum.sha256() {
            return Err(EnvelopeError::ContextMismatch("quorum key"));
        }
        let (ct_h, ss_h) = encapsulate(alg, hsm_spki, entropy)?;
        let quorum = quorum.encapsulate(entropy)?;
        Ok(Self::assemble(kind, HsmHalf { alg, ct_h, ss_h }, Some(quorum), root, |h| ctx.fields(h), entropy))
    }

    /// Seals `root` for one hand-over: to the recipient's HSM alone (SPKI, DER, as pinned in membership).
    ///
    /// # Errors
    /// When the public key is invalid, or the context names another.
    pub fn seal_handover(
        ctx: &HandoverContext,
        alg: HsmAlg,
        hsm_spki: &[u8],
        root: &RootKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, EnvelopeError> {
        check_context(&ctx.envelope, hsm_spki, root)?;
        let (ct_h, ss_h) = encapsulate(alg, hsm_spki, entropy)?;
        Ok(Self::assemble(EnvelopeKind::Handover, HsmHalf { alg, ct_h, ss_h }, None, root, |h| ctx.fields(h), entropy))
    }

    pub(crate) fn assemble(
        kind: EnvelopeKind,
        hsm: HsmHalf,
        quorum: Option<Encapsulated>,
        root: &RootKey,
        fields: impl FnOnce(&Ciphertexts) -> Vec<u8>,
        entropy: &dyn Entropy,
    ) -> Self {
        let ct_q = quorum.as_ref().map_or_else(Vec::new, |q| q.ciphertext.clone());
        let ctx = fields(&Ciphertexts::new(kind, &hsm.ct_h, &ct_q));
        let halves = quorum.as_ref().map(|q| (&q.x25519, &q.mlkem));
        let key = envelope_key(&hsm.ss_h, halves, &ctx);
        Self {
            kind,
            alg: hsm.alg,
            hsm_check: hsm_check(&hsm.ss_h, &ctx),
            boxed: boxes::seal(&key, Label::EnvelopeBox, &ctx, b"", root.key().expose(), entropy),
            ct_h: hsm.ct_h,
            ct_q,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> EnvelopeKind {
        self.kind
    }
    /// How the token opens its half.
    pub fn alg(&self) -> HsmAlg {
        self.alg
    }
    /// The ciphertext for the token; its length and, for ECDH, its point were checked.
    pub fn ct_h(&self) -> &[u8] {
        &self.ct_h
    }

    /// Whether `ss_h` is what this very envelope was sealed with: proves at start, without custodians, that the HSM
    /// still opens it.
    pub fn check_hsm(&self, ctx: &EnvelopeContext, ss_h: &Secret<32>) -> bool {
        let ctx = ctx.fields(&self.ciphertexts());
        ct_eq(&hsm_check(ss_h, &ctx), &self.hsm_check)
    }

    /// Opens a node's envelope with both halves.
    ///
    /// # Errors
    /// [`EnvelopeError::NotOpened`] for any mismatch, [`EnvelopeError::WrongKind`] for a hand-over.
    pub fn open(
        &self,
        ctx: &EnvelopeContext,
        ss_h: &Secret<32>,
        quorum: &QuorumSecretKey,
    ) -> Result<RootKey, EnvelopeError> {
        if self.kind != EnvelopeKind::Node {
            return Err(EnvelopeError::WrongKind);
        }
        // A damaged ct_q gives other secrets, or (a point of small order) none: the same answer for both.
        let (x25519, mlkem) = quorum.decapsulate(&self.ct_q).map_err(|_| EnvelopeError::NotOpened)?;
        let fields = ctx.fields(&self.ciphertexts());
        self.open_box(&envelope_key(ss_h, Some((&x25519, &mlkem)), &fields), &fields, ctx.root_generation)
    }

    /// Opens a hand-over with the recipient's HSM half.
    ///
    /// # Errors
    /// [`EnvelopeError::NotOpened`] for any mismatch, [`EnvelopeError::WrongKind`] for a node's envelope.
    pub fn open_handover(&self, ctx: &HandoverContext, ss_h: &Secret<32>) -> Result<RootKey, EnvelopeError> {
        if self.kind != EnvelopeKind::Handover {
            return Err(EnvelopeError::WrongKind);
        }
        let fields = ctx.fields(&self.ciphertexts());
        self.open_box(&envelope_key(ss_h, None, &fields), &fields, ctx.envelope.root_generation)
    }

    /// What the recipient answers to this hand-over once it has opened it: `kdf(RK, "handover-ack", ctx, 32)`. Public,
    /// and worth nothing beyond the proof.
    pub fn handover_ack(&self, ctx: &HandoverContext, root: &RootKey) -> [u8; 32] {
        *derive::<32>(root.key().expose(), Label::HandoverAck, &ctx.fields(&self.ciphertexts())).expose()
    }

    fn open_box(&self, key: &Secret<32>, ctx: &[u8], root_generation: u32) -> Result<RootKey, EnvelopeError> {
        let root = boxes::open(key, Label::EnvelopeBox, ctx, b"", &self.boxed)?;
        Ok(RootKey::from_parts(root_generation, Secret::from_slice(&root).ok_or(EnvelopeError::NotOpened)?))
    }

    fn ciphertexts(&self) -> Ciphertexts {
        Ciphertexts::new(self.kind, &self.ct_h, &self.ct_q)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let q_alg = if self.ct_q.is_empty() { Q_ALG_NONE } else { Q_ALG_X25519_MLKEM768 };
        (Writer::new().u8(VERSION).u8(self.kind as u8).u8(self.alg as u8).field(&self.ct_h))
            .u8(q_alg)
            .raw(&self.ct_q)
            .raw(&self.hsm_check)
            .raw(&self.boxed)
            .finish()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// When they are not an envelope, or of a version, kind or algorithm that this build does not support.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let mut r = Reader::new("envelope", bytes);
        match r.u8()? {
            VERSION => {}
            other => return Err(EnvelopeError::UnknownVersion(other)),
        }
        let kind = match r.u8()? {
            1 => EnvelopeKind::Node,
            3 => EnvelopeKind::Handover,
            other => return Err(EnvelopeError::UnsupportedKind(other)),
        };
        let alg = HsmAlg::from_byte(r.u8()?)?;
        let ct_h = r.field(CT_H_LEN_MAX)?.to_vec();
        check_ciphertext(alg, &ct_h)?;
        let ct_q = match (kind, r.u8()?) {
            (EnvelopeKind::Node, Q_ALG_X25519_MLKEM768) => r.raw(CIPHERTEXT_LEN)?.to_vec(),
            (EnvelopeKind::Handover, Q_ALG_NONE) => Vec::new(),
            _ => return Err(Malformed("envelope: quorum algorithm").into()),
        };
        let envelope = Self { kind, alg, ct_h, ct_q, hsm_check: r.array()?, boxed: r.raw(BOX_LEN)?.to_vec() };
        r.finish()?;
        Ok(envelope)
    }
}

/// What an envelope's own bytes add to its context.
pub(crate) struct Ciphertexts {
    kind: EnvelopeKind,
    ct_h_sha256: [u8; 32],
    ct_q_sha256: [u8; 32],
}

impl Ciphertexts {
    fn new(kind: EnvelopeKind, ct_h: &[u8], ct_q: &[u8]) -> Self {
        Self { kind, ct_h_sha256: sha256(ct_h), ct_q_sha256: sha256(ct_q) }
    }
}

impl EnvelopeContext {
    pub(crate) fn fields(&self, of: &Ciphertexts) -> Vec<u8> {
        self.write(of).finish()
    }
    fn write(&self, of: &Ciphertexts) -> Writer {
        Writer::new()
            .field(&self.lineage.0)
            .field(&self.cluster.0)
            .u32(self.generation)
            .field(&self.set_id.0)
            .u32(self.root_generation)
            .field(self.node_name.as_bytes())
            .field(&self.spki_hsm_sha256)
            .field(&self.spki_identity_sha256)
            .field(&self.pk_q_sha256)
            .field(&of.ct_h_sha256)
            .field(&of.ct_q_sha256)
            .u8(of.kind as u8)
    }
}

impl HandoverContext {
    pub(crate) fn fields(&self, of: &Ciphertexts) -> Vec<u8> {
        let w = self.envelope.write(of).field(self.sender.as_bytes());
        w.field(&self.nonce).field(&self.ceremony.0).finish()
    }
}

fn check_context(ctx: &EnvelopeContext, hsm_spki: &[u8], root: &RootKey) -> Result<(), EnvelopeError> {
    if ctx.spki_hsm_sha256 != sha256(hsm_spki) {
        return Err(EnvelopeError::ContextMismatch("HSM key"));
    }
    if ctx.root_generation != root.generation() {
        return Err(EnvelopeError::ContextMismatch("root key"));
    }
    Ok(())
}

fn envelope_key(ss_h: &Secret<32>, quorum: Option<(&Secret<32>, &Secret<32>)>, ctx: &[u8]) -> Secret<32> {
    // Fixed length and built in place, so that no reallocation leaves a secret behind.
    let mut key = Zeroizing::new([0; 3 * 36]);
    let mut len = 0;
    for secret in [Some(ss_h), quorum.map(|q| q.0), quorum.map(|q| q.1)].into_iter().flatten() {
        key[len..len + 4].copy_from_slice(&32u32.to_be_bytes());
        key[len + 4..len + 36].copy_from_slice(secret.expose());
        len += 36;
    }
    derive(&key[..len], Label::Envelope, ctx)
}

fn hsm_check(ss_h: &Secret<32>, ctx: &[u8]) -> [u8; HSM_CHECK_LEN] {
    *derive::<HSM_CHECK_LEN>(ss_h.expose(), Label::HsmCheck, ctx).expose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hybrid::HybridSecretKey;
    use crate::testing::{TestEntropy, TestToken};

    struct Fixture {
        token: TestToken,
        quorum: QuorumSecretKey,
        root: RootKey,
        ctx: EnvelopeContext,
    }

    impl Fixture {
        fn new() -> Self {
            let token = TestToken::new();
            let quorum = HybridSecretKey::generate(Secret::from_array([7; 32])).unwrap();
            let ctx = EnvelopeContext {
                lineage: Lineage([1; 16]),
                cluster: ClusterId([2; 16]),
                generation: 3,
                set_id: SetId([4; 4]),
                root_generation: 5,
                node_name: "n1".into(),
                spki_hsm_sha256: sha256(&token.spki),
                spki_identity_sha256: [6; 32],
                pk_q_sha256: quorum.public_key().unwrap().sha256(),
            };
            Self { token, quorum, root: RootKey::from_parts(5, Secret::from_array([9; 32])), ctx }
        }
        fn seal(&self) -> Envelope {
            let pk_q = self.quorum.public_key().unwrap();
            let e = TestEntropy::new(1);
            Envelope::seal(EnvelopeKind::Node, &self.ctx, HsmAlg::P256Ecdh, &self.token.spki, &pk_q, &self.root, &e)
                .unwrap()
        }
        fn handover_ctx(&self) -> HandoverContext {
            HandoverContext {
                envelope: self.ctx.clone(),
                sender: "n2".into(),
                nonce: [8; 32],
                ceremony: CeremonyId([9; 16]),
            }
        }
        fn handover(&self) -> Envelope {
            let e = TestEntropy::new(2);
            Envelope::seal_handover(&self.handover_ctx(), HsmAlg::P256Ecdh, &self.token.spki, &self.root, &e).unwrap()
        }
    }

    type Change<T> = fn(&mut T);
    const CHANGES: [(&str, Change<EnvelopeContext>); 9] = [
        ("lineage", |c| c.lineage.0[0] ^= 1),
        ("cluster", |c| c.cluster.0[15] ^= 1),
        ("generation", |c| c.generation += 1),
        ("set", |c| c.set_id.0[3] ^= 1),
        ("root generation", |c| c.root_generation -= 1),
        ("node name", |c| c.node_name = "n3".into()),
        ("HSM key", |c| c.spki_hsm_sha256[0] ^= 1),
        ("identity key", |c| c.spki_identity_sha256[0] ^= 1),
        ("quorum key", |c| c.pk_q_sha256[31] ^= 1),
    ];

    #[test]
    fn opens_with_both_halves() {
        let f = Fixture::new();
        let envelope = Envelope::decode(&f.seal().encode()).ok().unwrap();
        let ss_h = f.token.decapsulate(&envelope);
        assert!(envelope.check_hsm(&f.ctx, &ss_h));
        assert!(envelope.open(&f.ctx, &ss_h, &f.quorum).ok().unwrap().ct_eq(&f.root));
    }

    #[test]
    fn one_half_alone_never_opens() {
        let f = Fixture::new();
        let envelope = f.seal();
        let ss_h = f.token.decapsulate(&envelope);
        let other_quorum = HybridSecretKey::generate(Secret::from_array([8; 32])).unwrap();
        assert_eq!(envelope.open(&f.ctx, &ss_h, &other_quorum).err(), Some(EnvelopeError::NotOpened));
        let other_hsm = Secret::from_array([0; 32]);
        assert!(!envelope.check_hsm(&f.ctx, &other_hsm));
        assert_eq!(envelope.open(&f.ctx, &other_hsm, &f.quorum).err(), Some(EnvelopeError::NotOpened));
        // Nor does one right half of the two inside the hybrid key.
        let (right, other) = (f.quorum.encode(), other_quorum.encode());
        for mixed in [[&right[..33], &other[33..]].concat(), [&other[..33], &right[33..]].concat()] {
            let mixed = HybridSecretKey::decode(&mixed).ok().unwrap();
            assert_eq!(envelope.open(&f.ctx, &ss_h, &mixed).err(), Some(EnvelopeError::NotOpened));
        }
    }

    #[test]
    fn any_altered_field_of_the_context_keeps_it_shut() {
        let f = Fixture::new();
        let (envelope, handover) = (f.seal(), f.handover());
        let (ss_h, ss_handover) = (f.token.decapsulate(&envelope), f.token.decapsulate(&handover));
        for (name, change) in CHANGES {
            let mut ctx = f.ctx.clone();
            change(&mut ctx);
            assert!(!envelope.check_hsm(&ctx, &ss_h), "{name}");
            assert_eq!(envelope.open(&ctx, &ss_h, &f.quorum).err(), Some(EnvelopeError::NotOpened), "{name}");
            let ctx = HandoverContext { envelope: ctx, ..f.handover_ctx() };
            assert_eq!(handover.open_handover(&ctx, &ss_handover).err(), Some(EnvelopeError::NotOpened), "{name}");
        }
        let changes: [(&str, Change<HandoverContext>); 3] = [
            ("sender", |c| c.sender = "n4".into()),
            ("nonce", |c| c.nonce[0] ^= 1),
            ("ceremony", |c| c.ceremony.0[0] ^= 1),
        ];
        for (name, change) in changes {
            let mut ctx = f.handover_ctx();
            change(&mut ctx);
            assert_eq!(handover.open_handover(&ctx, &ss_handover).err(), Some(EnvelopeError::NotOpened), "{name}");
        }
    }

    #[test]
    fn any_altered_byte_keeps_it_shut() {
        let f = Fixture::new();
        let good = f.seal();
        let bytes = good.encode();
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            let Ok(envelope) = Envelope::decode(&bad) else { continue };
            // The token's answer to the ciphertext that it would now be given.
            let ss_h = f.token.decapsulate(&envelope);
            let opened = envelope.open(&f.ctx, &ss_h, &f.quorum);
            // hsm_check is not needed to open: with it changed, the start-up check fails instead.
            let check_at = bytes.len() - BOX_LEN - HSM_CHECK_LEN;
            if (check_at..check_at + HSM_CHECK_LEN).contains(&i) {
                assert!(!envelope.check_hsm(&f.ctx, &ss_h), "byte {i}");
            } else {
                assert_eq!(opened.err(), Some(EnvelopeError::NotOpened), "byte {i}");
            }
        }
    }

    #[test]
    fn a_handover_opens_with_the_hsm_alone_and_is_no_node_envelope() {
        let f = Fixture::new();
        let handover = Envelope::decode(&f.handover().encode()).ok().unwrap();
        let ss_h = f.token.decapsulate(&handover);
        assert!(handover.open_handover(&f.handover_ctx(), &ss_h).ok().unwrap().ct_eq(&f.root));
        assert_eq!(handover.open(&f.ctx, &ss_h, &f.quorum).err(), Some(EnvelopeError::WrongKind));
        assert_eq!(f.seal().open_handover(&f.handover_ctx(), &ss_h).err(), Some(EnvelopeError::WrongKind));
    }

    #[test]
    fn reserved_kinds_and_unknown_ids_are_refused() {
        let f = Fixture::new();
        let bytes = f.seal().encode();
        let with = |at: usize, byte: u8| {
            let mut b = bytes.clone();
            b[at] = byte;
            Envelope::decode(&b).err().unwrap()
        };
        assert_eq!(with(0, 2), EnvelopeError::UnknownVersion(2));
        for kind in [0, 2, 4, 5, 6, 255] {
            assert_eq!(with(1, kind), EnvelopeError::UnsupportedKind(kind));
        }
        assert_eq!(with(1, 3), EnvelopeError::Malformed(Malformed("envelope: quorum algorithm")));
        assert_eq!(with(2, 9), EnvelopeError::Hsm(KemError::UnknownAlgorithm(9)));
        assert_eq!(with(8, 5), EnvelopeError::Hsm(KemError::InvalidCiphertext(HsmAlg::P256Ecdh)), "not on the curve");
        let long = [&bytes[..], &[0]].concat();
        assert!(Envelope::decode(&long).is_err() && Envelope::decode(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_context_for_other_keys_is_refused_at_sealing() {
        let f = Fixture::new();
        let pk_q = f.quorum.public_key().unwrap();
        let e = TestEntropy::new(1);
        let seal = |kind, ctx: &EnvelopeContext| {
            Envelope::seal(kind, ctx, HsmAlg::P256Ecdh, &f.token.spki, &pk_q, &f.root, &e).err()
        };
        assert_eq!(seal(EnvelopeKind::Handover, &f.ctx), Some(EnvelopeError::WrongKind));
        for (name, what) in [("HSM key", "HSM key"), ("quorum key", "quorum key"), ("root generation", "root key")] {
            let mut ctx = f.ctx.clone();
            CHANGES.iter().find(|c| c.0 == name).unwrap().1(&mut ctx);
            assert_eq!(seal(EnvelopeKind::Node, &ctx), Some(EnvelopeError::ContextMismatch(what)));
        }
    }

    proptest! {
        #[test]
        fn decode_never_panics(bytes: Vec<u8>) {
            prop_assert!(Envelope::decode(&bytes).is_err());
        }
    }
}
