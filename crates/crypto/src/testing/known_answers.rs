//! Every byte format against vectors that an independent program made (`tests/vectors/generate.py`), in both
//! directions: our reader opens its bytes, our writer makes the same ones from the same randomness.

use std::num::NonZeroU32;
use std::sync::Mutex;

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::rsa::{OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{ED25519, KeyPair};
use quorate_core::batch::{Batch, Entry, Expect, Genesis, Op};
use quorate_core::codec::Writer;
use quorate_core::id::{BatchId, ClusterId, Epoch, GroupId, KeyId, KeyVersion, Lineage, Namespace, NodeId};
use quorate_core::name::Class;
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::request::Token;
use quorate_core::seam::Entropy;
use serde_json::Value;

use crate::envelope::HsmHalf;
use crate::hybrid::{Encapsulated, x25519_ephemeral};
use crate::kdf::{Label, derive_into, sha256};
use crate::material::symmetric::{self as blob, BlobHeader, BlobKind, ContextHash, KeyRef, SymmetricKey};
use crate::root::{Purpose, fresh};
use crate::*;

/// Bytes given out once, in order; all of them must be used.
struct Given(Mutex<Vec<u8>>);

impl Given {
    fn new(mut bytes: Vec<u8>) -> Self {
        bytes.reverse();
        Self(Mutex::new(bytes))
    }
    fn done(self) {
        assert!(self.0.into_inner().unwrap().is_empty(), "not all randomness was drawn");
    }
}

impl Entropy for Given {
    fn fill(&self, out: &mut [u8]) {
        let mut left = self.0.lock().unwrap();
        out.iter_mut().for_each(|b| *b = left.pop().expect("more randomness was drawn than the format says"));
    }
}

/// A vector file, or a part of one.
#[derive(Clone, Copy)]
struct V<'a>(&'a Value);

impl<'a> V<'a> {
    fn at(self, key: &str) -> V<'a> {
        V(self.0.get(key).unwrap_or_else(|| panic!("{key} is missing")))
    }
    fn list(self) -> impl Iterator<Item = V<'a>> {
        self.0.as_array().unwrap().iter().map(V)
    }
    fn text(self) -> &'a str {
        self.0.as_str().unwrap()
    }
    fn int(self) -> u64 {
        self.0.as_u64().unwrap()
    }
    fn bytes(self) -> Vec<u8> {
        let hex = self.text();
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }
    fn array<const N: usize>(self) -> [u8; N] {
        self.bytes().try_into().unwrap()
    }
    fn secret(self) -> Secret<32> {
        Secret::from_array(self.array())
    }
    fn entropy(self, key: &str) -> Given {
        Given::new(self.at(key).bytes())
    }
    fn lineage(self) -> Lineage {
        Lineage(self.at("lineage").array())
    }
    fn cluster(self) -> ClusterId {
        ClusterId(self.at("cluster").array())
    }
    fn set_id(self) -> SetId {
        SetId(self.at("set_id").array())
    }
}

macro_rules! vectors {
    ($name:literal) => {
        &serde_json::from_str::<Value>(include_str!(concat!("../../tests/vectors/", $name, ".json"))).unwrap()
    };
}

fn label(purpose: &str) -> Label {
    *Label::ALL.iter().find(|l| l.as_str() == format!("quorate/v1/{purpose}")).unwrap()
}

#[test]
fn fields_kdf_and_boxes() {
    let v = V(vectors!("primitives"));
    for case in v.at("fields").list() {
        let ints: Vec<u64> = case.at("ints").list().map(V::int).collect();
        let mut w = Writer::new().u8(ints[0] as u8).u16(ints[1] as u16).u32(ints[2] as u32).u64(ints[3]);
        for bytes in case.at("bytes").list() {
            w = w.field(&bytes.bytes());
        }
        assert_eq!(w.finish(), case.at("out").bytes());
    }
    for case in v.at("kdf").list() {
        let mut out = vec![0; case.at("out").bytes().len()];
        derive_into(&case.at("key").bytes(), label(case.at("label").text()), &case.at("fields").bytes(), &mut out);
        assert_eq!(out, case.at("out").bytes());
    }
    for case in v.at("boxes").list() {
        let (key, hdr, aad, pt) =
            (case.at("key").secret(), case.at("hdr").bytes(), case.at("aad").bytes(), case.at("pt").bytes());
        let entropy = case.entropy("entropy");
        assert_eq!(boxes::seal(&key, Label::Ciphertext, &hdr, &aad, &pt, &entropy), case.at("box").bytes());
        entropy.done();
        let entropy = case.entropy("entropy");
        assert_eq!(boxes::seal0(&key, Label::Record, &hdr, &aad, &pt, &entropy), case.at("box0").bytes());
        entropy.done();
        let opened = boxes::open(&key, Label::Ciphertext, &hdr, &aad, &case.at("box").bytes()).unwrap();
        assert_eq!(*opened, pt);
        let opened = boxes::open0(&key, Label::Record, &hdr, &aad, &case.at("box0").bytes()).unwrap();
        assert_eq!(*opened, pt);
    }
    use Purpose::*;
    let purposes = [UnsealKey, RootKey, EpochKey, NameKey, IdKey, AnchorSeed, BackupKey, QuorumX25519, AuditX25519];
    assert_eq!(v.at("root_gen").list().count(), purposes.len());
    for (case, purpose) in v.at("root_gen").list().zip(purposes) {
        assert_eq!(case.at("purpose").text(), purpose.as_str());
        let secret = fresh(purpose, &case.at("hsm").secret(), &case.entropy("entropy"));
        assert!(secret.ct_eq(&case.at("out").secret()), "{purpose:?}");
    }
}

#[test]
fn shares_proofs_and_the_splitter() {
    let v = V(vectors!("shares"));
    let (cluster, nonce, node) = (v.cluster(), v.at("nonce").array(), v.at("node_name").text());
    let fingerprint = ClusterFingerprint::new(cluster, &v.at("root_spki").bytes());
    assert_eq!(fingerprint.0, v.at("fingerprint").array());
    let threshold = v.at("threshold").int() as u8;
    let config = SealConfig::decode(&V(vectors!("seal_config")).at("encoded").bytes()).unwrap();
    let mut shares = Vec::new();
    for case in v.at("shares").list() {
        let x = case.at("x").int() as u8;
        let made = Share::new(fingerprint, v.set_id(), threshold, x, case.at("y").secret());
        assert_eq!(made.encode().to_vec(), case.at("bytes").bytes());
        assert_eq!(*made.to_text(), case.at("text").text());
        let read = Share::parse(case.at("text").text()).ok().unwrap();
        assert_eq!(
            (read.x(), read.threshold(), read.set_id(), read.cluster_fp()),
            (x, threshold, v.set_id(), fingerprint)
        );
        assert!(read.y().ct_eq(made.y()));
        read.check(&config, &fingerprint).unwrap();
        assert_eq!(read.proof_key(cluster).public_key().as_ref(), case.at("proof_key").bytes());
        assert_eq!(read.prove(cluster, node, &nonce).to_vec(), case.at("proof").bytes());
        assert!(verify_proof(&config, x, cluster, node, &nonce, &case.at("proof").bytes()));
        shares.push(read);
    }
    // Shares made by another implementation of the scheme: every window of t gives UK, and opens box_Q.
    for chosen in shares.windows(threshold.into()) {
        let uk = split::combine(chosen.iter().map(|s| (s.x(), s.y()))).unwrap();
        assert!(uk.ct_eq(&v.at("uk").secret()));
    }
    let mut ceremony = Ceremony::new(CeremonyId([0; 16]), config, fingerprint);
    for share in shares.into_iter().rev().take(threshold.into()) {
        ceremony.submit(share).unwrap();
    }
    assert_eq!(*ceremony.complete().ok().unwrap().encode(), V(vectors!("seal_config")).at("sk_q").bytes());
}

#[test]
fn seal_config() {
    let v = V(vectors!("seal_config"));
    let encoded = v.at("encoded").bytes();
    let mut made = SealConfig {
        suite: HashSuite::Blake3,
        lineage: v.lineage(),
        cluster: v.cluster(),
        generation: v.at("generation").int() as u32,
        set_id: v.set_id(),
        threshold: v.at("threshold").int() as u8,
        total: v.at("custodians").list().count() as u8,
        custodians: (v.at("custodians").list())
            .map(|c| Custodian {
                x: c.at("x").int() as u8,
                label: c.at("label").text().into(),
                proof_key: c.at("proof_key").array(),
            })
            .collect(),
        quorum_public_key: HybridPublicKey::decode(&v.at("pk_q").bytes()).unwrap(),
        box_q: vec![],
        pk_aud: HybridPublicKey::decode(&v.at("pk_aud").bytes()).unwrap(),
        pk_anchor: v.at("pk_anchor").array(),
        unseal_modes: UnsealModes::QUORUM,
        recovery: v.at("recovery").list().map(V::bytes).collect(),
        flags: SealFlags { dev: true, single_share: false },
        previous_hash: [0; 32],
        signatures: (v.at("signatures").list())
            .map(|s| SealSignature {
                kind: if s.at("kind").int() == 1 { SignerKind::InitPrincipal } else { SignerKind::Node },
                signer: s.at("signer").text().into(),
                signature: s.at("signature").bytes(),
            })
            .collect(),
    };
    let (uk, sk_q) = (v.at("uk").secret(), HybridSecretKey::decode(&v.at("sk_q").bytes()).unwrap());
    let entropy = v.entropy("entropy");
    made.seal_quorum_key(&uk, &sk_q, &entropy);
    entropy.done();
    assert_eq!(made.box_q, v.at("box_q").bytes());
    assert_eq!(made.encode(), encoded);
    assert_eq!(made.hash(), v.at("hash").array());
    assert_eq!(made.signing_message(), v.at("signing_message").bytes());
    let read = SealConfig::decode(&encoded).unwrap();
    assert_eq!(read, made);
    assert_eq!(*read.open_quorum_key(&uk).ok().unwrap().encode(), v.at("sk_q").bytes());
    // The first signer used UK as its seed, so that the vectors need no other key.
    let signer = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(uk.expose()).unwrap();
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(&ED25519, signer.public_key().as_ref());
    key.verify(&read.signing_message(), &read.signatures[0].signature).unwrap();
}

#[test]
fn keyring() {
    let v = V(vectors!("keyring"));
    let ctx = KeyringContext {
        lineage: v.lineage(),
        cluster: v.cluster(),
        group: GroupId(v.at("group").int() as u32),
        seal_config_hash: v.at("seal_config_hash").array(),
        pk_anchor: v.at("anchor_public_key").array(),
    };
    let root = RootKey::from_parts(v.at("root_generation").int() as u32, v.at("root_key").secret());
    let boxed = v.at("boxed").bytes();
    let read = Keyring::open(&root, &ctx, &boxed).ok().unwrap();
    assert_eq!(*read.encode(), v.at("plaintext").bytes());
    assert_eq!((read.version(), read.current_epoch()), (v.at("version").int() as u32, Epoch(2)));
    assert_eq!(read.anchor_public_key(), v.at("anchor_public_key").array());
    let entropy = v.entropy("entropy");
    assert_eq!(read.seal(&root, &ctx, &entropy), boxed);
    entropy.done();
    let case = v.at("backup");
    let (key, plaintext, backup) =
        (KeyId(case.at("key").array()), case.at("plaintext").bytes(), case.at("bytes").bytes());
    assert_eq!(*read.open_backup(&Backup::parse(&backup).unwrap()).unwrap(), plaintext);
    let entropy = case.entropy("entropy");
    assert_eq!(read.seal_backup(v.lineage(), key, &plaintext, &entropy), backup);
    entropy.done();
}

#[test]
fn records_and_a_batch() {
    let v = V(vectors!("records"));
    let keyring = Keyring::decode(2, &v.at("keyring").bytes()).ok().unwrap();
    let (lineage, group) = (v.lineage(), GroupId(v.at("group").int() as u32));
    let epoch = Epoch(v.at("epoch").int() as u32);
    assert!(keyring.record_key_of(epoch).unwrap().ct_eq(&v.at("record_key").secret()));
    assert_eq!(keyring.list_tag(Namespace(3), Class::Key), v.at("list_tag").array());
    let token = Token(v.at("token").array());
    assert_eq!(keyring.free_of_token(b"admin/a", token, 5).to_be_bytes(), v.at("free_of_token").array());
    let id = BatchId { origin: NodeId(v.at("origin").int()), boot: v.at("boot").int() as u32, seq: v.at("seq").int() };
    let (mut expects, mut ops) = (Vec::new(), Vec::new());
    for case in v.at("records").list() {
        let table = Table::from_byte(case.at("table").int() as u8).unwrap();
        let (name, body, value) = (case.at("name").bytes(), case.at("body").bytes(), case.at("value").bytes());
        assert_eq!(keyring.blind(table, &name), case.at("blind").array());
        let blind = keyring.blind(table, &name);
        let key = RecordKey::with(table, &case.at("prefix").bytes(), blind, &case.at("suffix").bytes());
        assert_eq!(key.as_bytes(), case.at("key").bytes());
        let writer = WriterId { batch: id, op: case.at("op").int() as u16 };
        let read = keyring.open_record(lineage, group, &key, Some(&name), &value).ok().unwrap();
        assert_eq!((&read.name, &read.body[..], read.writer), (&name, &body[..], writer));
        let entropy = case.entropy("entropy");
        assert_eq!(keyring.seal_record(lineage, group, &key, writer, &name, &body, &entropy), value);
        entropy.done();
        expects.push(Expect { key: key.clone(), rev: 100 * u64::from(writer.op) });
        ops.push(Op::Put(key, value));
    }
    let gone = keyring.record_key(Table::Name, &v.at("deleted").at("name").bytes());
    expects.push(Expect { key: gone.clone(), rev: v.at("deleted").at("rev").int() });
    ops.push(Op::Delete(gone));
    expects.sort_by(|a, b| a.key.cmp(&b.key));
    let batch = Batch {
        lineage,
        cluster: v.cluster(),
        group,
        epoch,
        id,
        stamp_ms: v.at("stamp_ms").int(),
        audit: v.at("audit").array(),
        expects,
        ops,
    };
    let bytes = v.at("batch").bytes();
    assert_eq!(keyring.seal_batch(&batch).unwrap(), bytes);
    let (read, mac_at) = Batch::decode(&bytes).unwrap();
    assert_eq!(read, batch);
    assert_eq!(keyring.mac(&bytes[..mac_at]).to_vec(), bytes[mac_at..]);
    assert!(keyring.verify_batch(&bytes, read.epoch, mac_at));
}

/// What a token would return for `ct_h`.
fn token(v: V<'_>, alg: HsmAlg, ct_h: &[u8]) -> Secret<32> {
    match alg.oaep() {
        None => {
            let key = PrivateKey::from_private_key(&ECDH_P256, &v.at("p256_private").bytes()).unwrap();
            let z = agreement::agree(&key, UnparsedPublicKey::new(&ECDH_P256, ct_h), (), |z| Ok(Secret::from_slice(z)));
            z.ok().flatten().unwrap()
        }
        Some(oaep) => {
            let key = PrivateDecryptingKey::from_pkcs8(&v.at("rsa_pkcs8").bytes()).unwrap();
            let key = OaepPrivateDecryptingKey::new(key).unwrap();
            let mut out = vec![0; key.min_output_size()];
            Secret::from_slice(key.decrypt(oaep, ct_h, &mut out, None).unwrap()).unwrap()
        }
    }
}

#[test]
fn envelopes() {
    let v = V(vectors!("envelopes"));
    let sk_q = HybridSecretKey::decode(&v.at("sk_q").bytes()).unwrap();
    let pk_q = HybridPublicKey::decode(&v.at("pk_q").bytes()).unwrap();
    assert_eq!(sk_q.public_key().unwrap(), pk_q);
    assert_eq!(pk_q.encode(), v.at("pk_q").bytes());
    let root = RootKey::from_parts(v.at("root_generation").int() as u32, v.at("root_key").secret());
    for case in v.at("envelopes").list() {
        let alg = HsmAlg::from_byte(case.at("alg").int() as u8).unwrap();
        let spki = case.at("spki").bytes();
        let ctx = EnvelopeContext {
            lineage: v.lineage(),
            cluster: v.cluster(),
            generation: v.at("generation").int() as u32,
            set_id: v.set_id(),
            root_generation: root.generation(),
            node_name: v.at("node_name").text().into(),
            spki_hsm_sha256: sha256(&spki),
            spki_identity_sha256: sha256(&v.at("identity_spki").bytes()),
            pk_q_sha256: pk_q.sha256(),
        };
        let handover = HandoverContext {
            envelope: ctx.clone(),
            sender: v.at("sender").text().into(),
            nonce: v.at("nonce").array(),
            ceremony: CeremonyId(v.at("ceremony").array()),
        };
        let encoded = case.at("encoded").bytes();

        // Their envelope, opened by us.
        let read = Envelope::decode(&encoded).ok().unwrap();
        assert_eq!((read.alg(), read.ct_h()), (alg, &case.at("ct_h").bytes()[..]));
        let raw = token(v, alg, read.ct_h());
        assert!(raw.ct_eq(&case.at("raw").secret()));
        let ss_h = kem_secret(alg, raw, read.ct_h(), &spki);
        assert!(ss_h.ct_eq(&case.at("ss_h").secret()));
        let opened = match read.kind() {
            EnvelopeKind::Node => {
                assert!(read.check_hsm(&ctx, &ss_h));
                read.open(&ctx, &ss_h, &sk_q)
            }
            EnvelopeKind::Handover => {
                assert_eq!(read.handover_ack(&handover, &root).to_vec(), case.at("ack").bytes());
                read.open_handover(&handover, &ss_h)
            }
        };
        assert!(opened.ok().unwrap().ct_eq(&root));

        // Ours, made from the same randomness. (OAEP and ML-KEM draw their own: there, the ciphertext is taken.)
        if alg == HsmAlg::P256Ecdh {
            let entropy = case.entropy("hsm_entropy");
            let (ct_h, ss) = encapsulate(alg, &spki, &entropy).unwrap();
            entropy.done();
            assert!(ct_h == read.ct_h() && ss.ct_eq(&ss_h));
        }
        let ct_q = case.at("ct_q").bytes();
        let quorum = (!ct_q.is_empty()).then(|| {
            let seed = case.at("x25519_seed").array();
            let (ephemeral, x25519) = x25519_ephemeral(&seed, &pk_q.encode()[1..33].try_into().unwrap()).unwrap();
            assert_eq!(ephemeral, ct_q[..32]);
            let (theirs, mlkem) = sk_q.decapsulate(&ct_q).unwrap();
            assert!(theirs.ct_eq(&x25519) && x25519.ct_eq(&case.at("ss_x25519").secret()));
            assert!(mlkem.ct_eq(&case.at("ss_mlkem").secret()));
            Encapsulated { ciphertext: ct_q.clone(), x25519, mlkem }
        });
        let entropy = case.entropy("box_entropy");
        let hsm = HsmHalf { alg, ct_h: read.ct_h().to_vec(), ss_h };
        let made = Envelope::assemble(
            read.kind(),
            hsm,
            quorum,
            &root,
            |of| {
                let fields = match read.kind() {
                    EnvelopeKind::Node => ctx.fields(of),
                    EnvelopeKind::Handover => handover.fields(of),
                };
                assert_eq!(fields, case.at("context").bytes());
                fields
            },
            &entropy,
        );
        entropy.done();
        assert_eq!(made.encode(), encoded);
    }
}

#[test]
fn customer_ciphertexts() {
    let v = V(vectors!("material"));
    let material = SymmetricKey::from_slice(&v.at("material").bytes()).unwrap();
    let context = |pairs| ContextHash::of(&quorate_core::request::EncryptionContext::new(pairs).unwrap());
    let key = |version: u64| KeyRef {
        lineage: v.lineage(),
        key_id: KeyId(v.at("key_id").array()),
        version: KeyVersion(NonZeroU32::new(version as u32).unwrap()),
    };
    for case in v.at("blobs").list() {
        let kind = [BlobKind::Direct, BlobKind::DataKey, BlobKind::KeyPairPrivate][case.at("kind").int() as usize - 1];
        let pairs = (case.at("context").list())
            .map(|p| {
                let mut sides = p.list().map(V::text);
                (sides.next().unwrap().into(), sides.next().unwrap().into())
            })
            .collect();
        let context = context(pairs);
        assert_eq!(context.0, case.at("context_hash").array());
        let (pt, made, key) = (case.at("pt").bytes(), case.at("blob").bytes(), key(case.at("version").int()));
        let header = BlobHeader::parse(&made).unwrap();
        assert_eq!((header.kind, header.key_id, header.version), (kind, key.key_id, key.version));
        assert!(header.is_of(&key.lineage));
        assert_eq!(*blob::decrypt(&material, &context, &made).unwrap(), pt);
        let entropy = case.entropy("entropy");
        assert_eq!(blob::encrypt(&material, key, kind, &context, &pt, &entropy), made);
        entropy.done();
    }
    let case = v.at("data_key");
    let entropy = case.entropy("entropy");
    let none = context(Vec::new());
    let mut plaintext = [0; 32];
    entropy.fill(&mut plaintext);
    let made = blob::encrypt(&material, key(1), blob::BlobKind::DataKey, &none, &plaintext, &entropy);
    entropy.done();
    assert_eq!((&plaintext[..], made), (&*case.at("plaintext").bytes(), case.at("blob").bytes()));
}

#[test]
fn genesis_entry() {
    let v = V(vectors!("genesis"));
    let (config, envelopes) = (V(vectors!("seal_config")), V(vectors!("envelopes")));
    let genesis = Entry::Genesis(Box::new(Genesis {
        lineage: config.lineage(),
        cluster: config.cluster(),
        time_ms: v.at("time_ms").int(),
        seal_config: config.at("encoded").bytes(),
        node_name: v.at("node_name").text().into(),
        envelope: envelopes.at("envelopes").list().next().unwrap().at("encoded").bytes(),
        keyring: V(vectors!("keyring")).at("boxed").bytes(),
        level: Vec::new(),
    }));
    assert_eq!(genesis.encode(), v.at("entry").bytes());
    assert!(Entry::decode(&v.at("entry").bytes()).unwrap() == genesis);
}
