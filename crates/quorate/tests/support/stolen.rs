//! Opens what one node keeps on its disk, with its token and a quorum of shares: what a thief of all three could do,
//! written down from the formats (key-hierarchy §2, §4), so that a test knows the secrets it must not find.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test file uses a part; tests read files")]

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, ML_KEM_768};
use bech32::primitives::decode::CheckedHrpstring;
use quorate_core::codec::{Reader, Writer};
use quorate_core::id::BatchId;
use quorate_core::record_key::{RecordKey, Table};
use quorate_crypto::kdf::{Label, derive};
use quorate_crypto::{Ceremony, CeremonyId, Envelope, Keyring, SealConfig, Secret, Share, boxes, kem_secret};
use quorate_hsm::{Hsm, KeySelection, SoftToken};
use quorate_journal::disk::RealDisk;
use quorate_replica::state::{StateFiles, get_record, scan_table};

/// The raw bytes of a share.
pub fn share_bytes(text: &str) -> Vec<u8> {
    let parsed = CheckedHrpstring::new::<bech32::Bech32m>(text).expect("a share of dev.json");
    parsed.byte_iter().collect()
}

/// Its y, the secret part.
pub fn share_y(text: &str) -> Vec<u8> {
    share_bytes(text)[15..].to_vec()
}

/// UK of a quorum of shares.
pub fn unseal_key(shares: &[String]) -> Vec<u8> {
    let key_shares: Vec<Vec<u8>> = shares.iter().map(|s| share_bytes(s)[14..].to_vec()).collect();
    shamirsecretsharing::hazmat::combine_keyshares(&key_shares).expect("a quorum")
}

/// Everything secret that one stopped node could be made to tell.
pub struct Loot {
    /// X25519 and ML-KEM halves of SK_Q.
    pub quorum: [Vec<u8>; 2],
    pub hsm_half: Vec<u8>,
    pub root_key: Vec<u8>,
    pub epoch_key: Vec<u8>,
    pub record_key: Vec<u8>,
    pub name_key: Vec<u8>,
    pub id_key: Vec<u8>,
    pub anchor_seed: Vec<u8>,
    pub backup_key: Vec<u8>,
    /// Of every version of every key.
    pub materials: Vec<Vec<u8>>,
    /// SK_aud and whatever else the cluster keeps for itself.
    pub cluster_secrets: Vec<Vec<u8>>,
}

/// Opens the data folder of the stopped node `name`.
pub fn open(data: &Path, token: &SoftToken, name: &str, shares: &[String]) -> Loot {
    let state = StateFiles::open(Arc::new(RealDisk), data, 1 << 20, 4 << 20).expect("the state opens");
    let view = state.view().expect("a view");
    let get = |key: RecordKey| get_record(&*view, &key).expect("readable").expect("there").1;
    let generation = get(RecordKey::seal_generation());
    let generation = u32::from_be_bytes(generation[..].try_into().expect("4 bytes"));
    let config = SealConfig::decode(&get(RecordKey::seal_config(generation))).expect("the seal configuration");
    let fields = |w: Writer| w.finish();
    let sha256 = |bytes: &[u8]| digest(&SHA256, bytes);

    let parsed: Vec<Share> = shares.iter().map(|s| Share::parse(s).expect("a share")).collect();
    let mut ceremony = Ceremony::new(CeremonyId([0; 16]), config.clone(), parsed[0].cluster_fp());
    for share in parsed {
        ceremony.submit(share).expect("a good share");
    }
    let quorum = ceremony.complete().unwrap_or_else(|e| panic!("{e}")).encode();
    let (x25519, mlkem) = quorum[1..].split_at(32);

    let hsm = Hsm::open(&token.config().expect("SoftHSM"), token.pin()).expect("the token opens");
    let keys = hsm.load_node_keys(&name.parse().expect("a name"), &KeySelection::default(), None).expect("its keys");
    let bytes = get(RecordKey::envelope(name));
    let envelope = Envelope::decode(&bytes).expect("the envelope");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let raw = runtime.block_on(hsm.decapsulate(envelope.ct_h())).expect("the token opens it");
    let hsm_half = kem_secret(envelope.alg(), raw, envelope.ct_h(), &keys.kem.spki_der);

    // envelope = ver ‖ kind ‖ hsm_alg ‖ ct_h ‖ q_alg ‖ ct_q 1120 ‖ hsm_check 16 ‖ box
    let mut r = Reader::new("envelope", &bytes);
    let (_, ct_h) = (r.raw(3).expect("head"), r.field(1024).expect("ct_h"));
    let (_, ct_q) = (r.u8().expect("q_alg"), r.raw(32 + 1088).expect("ct_q"));
    let boxed = &r.rest()[16..];
    let key = PrivateKey::from_private_key(&X25519, x25519).expect("a key");
    let ss_x25519 = agreement::agree(&key, UnparsedPublicKey::new(&X25519, &ct_q[..32]), (), |ss| Ok(ss.to_vec()));
    let key = DecapsulationKey::new(&ML_KEM_768, mlkem).expect("a key");
    let ss_mlkem = key.decapsulate(Ciphertext::from(&ct_q[32..])).expect("a ciphertext");
    let header = Keyring::header(&get(RecordKey::keyring())).expect("the keyring's head");
    let context = fields(
        Writer::new()
            .field(&config.lineage.0)
            .field(&config.cluster.0)
            .u32(config.generation)
            .field(&config.set_id.0)
            .u32(header.root_generation)
            .field(name.as_bytes())
            .field(sha256(&keys.kem.spki_der).as_ref())
            .field(sha256(&keys.identity).as_ref())
            .field(&config.quorum_public_key.sha256())
            .field(sha256(ct_h).as_ref())
            .field(sha256(ct_q).as_ref())
            .u8(1),
    );
    let halves = Writer::new().field(hsm_half.expose()).field(&ss_x25519.expect("it agrees")).field(ss_mlkem.as_ref());
    let key = derive(&fields(halves), Label::Envelope, &context);
    let root_key = boxes::open(&key, Label::EnvelopeBox, &context, b"", boxed).expect("the envelope opens");
    let mut loot = Loot {
        quorum: [x25519.to_vec(), mlkem.to_vec()],
        hsm_half: hsm_half.expose().to_vec(),
        root_key: root_key.to_vec(),
        epoch_key: Vec::new(),
        record_key: Vec::new(),
        name_key: Vec::new(),
        id_key: Vec::new(),
        anchor_seed: Vec::new(),
        backup_key: Vec::new(),
        materials: Vec::new(),
        cluster_secrets: Vec::new(),
    };
    open_records(&config, &*view, &mut loot);
    hsm.close();
    loot
}

/// The keyring, and with it every version of every key.
fn open_records(config: &SealConfig, view: &dyn quorate_replica::state::View, loot: &mut Loot) {
    let (_, boxed) = get_record(view, &RecordKey::keyring()).expect("readable").expect("there");
    let header = Keyring::header(&boxed).expect("its head");
    let head = Writer::new()
        .field(&config.lineage.0)
        .field(&config.cluster.0)
        .u32(0)
        .u32(header.root_generation)
        .u32(header.version)
        .field(&config.hash())
        .finish();
    let key = derive(&loot.root_key, Label::Keyring, b"");
    let keyring = boxes::open(&key, Label::KeyringBox, &head, b"", &boxed[10..]).expect("the keyring opens");
    let mut r = Reader::new("keyring", &keyring);
    assert_eq!((r.u8(), r.u16()), (Ok(2), Ok(1)), "one epoch, as in a new cluster");
    let epoch = r.u32().expect("e");
    loot.epoch_key = r.raw(32).expect("E_e").to_vec();
    r.raw(8 + 1 + 4).expect("index, state, generation of K_name");
    loot.name_key = r.raw(32).expect("K_name").to_vec();
    loot.id_key = r.raw(32).expect("K_mid").to_vec();
    loot.anchor_seed = r.raw(32).expect("the anchor's seed").to_vec();
    r.u32().expect("generation of K_backup");
    loot.backup_key = r.raw(32).expect("K_backup").to_vec();
    let record_key: Secret<32> = derive(&loot.epoch_key, Label::RecordKey, &Writer::new().u32(epoch).finish());
    loot.record_key = record_key.expose().to_vec();

    for table in [Table::KeyVersion, Table::Internal] {
        for (key, _, value) in scan_table(view, table, std::ops::Bound::Unbounded, 1000).expect("readable") {
            let writer = &value[6..6 + BatchId::LEN + 2];
            let head = Writer::new().field(&config.lineage.0).u32(0).field(key.as_bytes()).u32(epoch).raw(writer);
            let pt = boxes::open0(&record_key, Label::Record, &head.finish(), b"", &value[6 + BatchId::LEN + 2..]);
            let pt = pt.expect("the record opens");
            let mut r = Reader::new("record", &pt);
            let (_, body) = (r.field(pt.len()).expect("its name"), r.field(pt.len()).expect("its body"));
            match table {
                Table::KeyVersion => loot.materials.push(body[body.len() - 32..].to_vec()),
                _ => loot.cluster_secrets.push(body[body.len() - 32..].to_vec()),
            }
        }
    }
}
