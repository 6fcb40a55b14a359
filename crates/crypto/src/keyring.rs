//! The keyring: epoch keys, the name key and the anchor key, boxed under RK_r (key-hierarchy §2).
//!
//! ```text
//! keyring = ver u8 ‖ suite u8 ‖ r u32 ‖ v u32
//!           ‖ box(kdf(RK_r, "keyring", [], 32), "keyring-box", hdr = [L, C, g u32, r u32, v u32, SHA-256(SealConfig_G)], pt)
//! pt      = ver u8 ‖ n u16 × {e u32 ‖ E_e 32 ‖ created index u64 ‖ state u8} ‖ K_name generation u32 ‖ K_name 32
//!           ‖ K_mid 32 ‖ anchor seed 32 ‖ K_backup generation u32 ‖ K_backup 32
//! K_rec(e) = kdf(E_e, "record-key", [e u32], 32)      K_mac(e) = kdf(E_e, "batch-mac", [e u32], 32)
//! blind    = BLAKE3 keyed_hash(K_name, [table u8, namespace u32, name])
//! list tag = the first 4 bytes of BLAKE3 keyed_hash(K_mid, ["list", namespace u32, class u8])
//! material id = BLAKE3 keyed_hash(K_mid, ["material", id of the key, material])
//! MAC      = HMAC-SHA-256(K_mac(e), all of the batch before it)
//! ```

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use quorate_core::batch::{Batch, MAC_LEN};
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, Epoch, GroupId, KeyId, Lineage, Namespace};
use quorate_core::name::Class;
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::request::Token;
use quorate_core::seam::Entropy;
use quorate_core::stack::{HASH_LEN, scrubbed};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::boxes;
use crate::kdf::{Label, derive};
use crate::root::{Purpose, RootKey, fresh};
use crate::seal_config::SealConfigHash;
use crate::secret::{Secret, SecretBytes};
use crate::suite::{HashSuite, UnknownSuite};

const VERSION: u8 = 1;
const PLAINTEXT_VERSION: u8 = 2;
const HEADER_LEN: usize = 10;
/// Epochs come every 90 days and go when no record uses them: far fewer than this ever live together.
const EPOCHS_MAX: usize = 1024;
/// Encoded length of one epoch, in bytes.
const EPOCH_LEN: usize = 4 + 32 + 8 + 1;

/// What a keyring is bound to, besides r (the root key's) and v (its own).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyringContext {
    /// L.
    pub lineage: Lineage,
    /// C.
    pub cluster: ClusterId,
    /// g.
    pub group: GroupId,
    /// Hash of the seal configuration in force.
    pub seal_config_hash: SealConfigHash,
    /// PK_anchor of that configuration: what opens must hold its secret half.
    pub pk_anchor: [u8; 32],
}

/// The clear beginning of a boxed keyring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyringHeader {
    /// Hash suite.
    pub suite: HashSuite,
    /// r: which root key opens it.
    pub root_generation: u32,
    /// v: counts up with every change.
    pub version: u32,
}

/// Why a keyring cannot be read or opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum KeyringError {
    /// Not the format.
    #[error("{0}: the keyring was damaged; {todo}", todo = quorate_core::REPLACE_MEMBER)]
    Malformed(#[from] Malformed),
    /// A version this build does not know.
    #[error("keyring version {0} is unknown: it was written by a newer version; upgrade this node")]
    UnknownVersion(u8),
    /// A hash suite this build does not have.
    #[error(transparent)]
    Suite(#[from] UnknownSuite),
    /// It was made under another root key.
    #[error(
        "the keyring needs root key generation {expected}, this node has {got}: it missed a rotation; unseal it again"
    )]
    OtherRoot {
        /// The keyring's r.
        expected: u32,
        /// The root key's.
        got: u32,
    },
    /// Right generation, but it does not open.
    #[error("the keyring does not open: it was changed, or belongs to another cluster or seal configuration")]
    NotOpened,
    /// It opens, but whoever made it had not the secret half of the configuration's anchor key.
    #[error(
        "the keyring opens, but its anchor key is not the one that the seal configuration names: somebody without the \
         cluster's keys made keyring and envelope; use no key there, find out which node wrote them; {todo}",
        todo = quorate_core::REPLACE_MEMBER
    )]
    OtherAnchor,
}

/// What an epoch's keys may be used for (SP 800-57's states).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EpochState {
    /// Protects new records and batches; exactly one, the newest, is.
    Active = 1,
    /// Only reads what it protected.
    Deactivated = 2,
}

struct EpochKeys {
    epoch: Epoch,
    key: Secret<32>,
    created_index: u64,
    state: EpochState,
    record: Secret<32>,
    mac: hmac::Key,
}

impl EpochKeys {
    fn new(epoch: Epoch, key: Secret<32>, created_index: u64, state: EpochState) -> Self {
        let fields = Writer::new().u32(epoch.0).finish();
        let record = derive(key.expose(), Label::RecordKey, &fields);
        let mac: Secret<32> = derive(key.expose(), Label::BatchMac, &fields);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, mac.expose());
        Self { epoch, key, created_index, state, record, mac }
    }
}

/// A hash of what nobody may find in memory, by a key likewise.
fn keyed_hash(key: &Secret<32>, input: &[u8]) -> [u8; 32] {
    scrubbed::<HASH_LEN, _>(|| *blake3::keyed_hash(key.expose(), input).as_bytes())
}

/// Straight from the buffer: an array that is moved leaves copies on the stack.
fn read_key(r: &mut Reader<'_>) -> Result<Secret<32>, Malformed> {
    Secret::from_slice(r.raw(32)?).ok_or(Malformed("keyring: key"))
}

/// The keyring of an unsealed node.
pub struct Keyring {
    version: u32,
    /// Ascending; the last is active. Never empty.
    epochs: Vec<EpochKeys>,
    name_key_generation: u32,
    name_key: Secret<32>,
    /// K_mid: never changes, since ids are made with it.
    id_key: Secret<32>,
    anchor_seed: Secret<32>,
    /// Of K_backup.
    backup_key_generation: u32,
    /// K_backup: opens backups for years, so it goes with no epoch; rolled on purpose alone, which ends all backups before.
    backup_key: Secret<32>,
}

impl Keyring {
    /// A new cluster's: epoch 1, version 1.
    pub fn generate(hsm_random: &Secret<32>, entropy: &dyn Entropy) -> Self {
        let key = fresh(Purpose::EpochKey, hsm_random, entropy);
        Self {
            version: 1,
            epochs: vec![EpochKeys::new(Epoch(1), key, 0, EpochState::Active)],
            name_key_generation: 1,
            name_key: fresh(Purpose::NameKey, hsm_random, entropy),
            id_key: fresh(Purpose::IdKey, hsm_random, entropy),
            anchor_seed: fresh(Purpose::AnchorSeed, hsm_random, entropy),
            backup_key_generation: 1,
            backup_key: fresh(Purpose::BackupKey, hsm_random, entropy),
        }
    }

    /// Begins a new epoch (every 90 days, at re-share, member removal, on demand): later records and batches use it.
    /// `created_index` is the log index at which it was decided. Moves the version on.
    ///
    /// # Errors
    /// When no epoch number is left, or too many live together: the background rewrite must finish first.
    pub fn begin_epoch(
        &mut self,
        created_index: u64,
        hsm_random: &Secret<32>,
        entropy: &dyn Entropy,
    ) -> Result<Epoch, Malformed> {
        let next = self.current_epoch().0.checked_add(1).ok_or(Malformed("keyring: epoch number"))?;
        if self.epochs.len() >= EPOCHS_MAX {
            return Err(Malformed("keyring: too many live epochs"));
        }
        self.version = self.version.checked_add(1).ok_or(Malformed("keyring: version number"))?;
        for e in &mut self.epochs {
            e.state = EpochState::Deactivated;
        }
        let key = fresh(Purpose::EpochKey, hsm_random, entropy);
        self.epochs.push(EpochKeys::new(Epoch(next), key, created_index, EpochState::Active));
        Ok(Epoch(next))
    }

    /// Whether this keyring is `earlier` with one epoch more: the next version, and every other key the same. Who made
    /// it therefore had `earlier`.
    pub fn succeeds(&self, earlier: &Self) -> bool {
        let same = |(mine, theirs): (&EpochKeys, &EpochKeys)| {
            mine.epoch == theirs.epoch && mine.created_index == theirs.created_index && mine.key.ct_eq(&theirs.key)
        };
        self.version.checked_sub(1) == Some(earlier.version)
            && self.epochs.len() == earlier.epochs.len() + 1
            && self.epochs.iter().zip(&earlier.epochs).all(same)
            && self.name_key_generation == earlier.name_key_generation
            && self.name_key.ct_eq(&earlier.name_key)
            && self.id_key.ct_eq(&earlier.id_key)
            && self.anchor_seed.ct_eq(&earlier.anchor_seed)
            && self.backup_key_generation == earlier.backup_key_generation
            && self.backup_key.ct_eq(&earlier.backup_key)
    }

    /// v: counts up with every change.
    pub fn version(&self) -> u32 {
        self.version
    }
    /// The epoch that protects new records and batches.
    pub fn current_epoch(&self) -> Epoch {
        self.active().epoch
    }
    /// The epochs it holds, with their states and the log index at which each was decided.
    pub fn epochs(&self) -> impl Iterator<Item = (Epoch, EpochState, u64)> {
        self.epochs.iter().map(|e| (e.epoch, e.state, e.created_index))
    }
    /// Hash suite of blinded names.
    pub fn suite(&self) -> HashSuite {
        HashSuite::Blake3
    }
    /// PK_anchor.
    pub fn anchor_public_key(&self) -> [u8; 32] {
        self.anchor_pair().public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }

    pub(crate) fn anchor_pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(self.anchor_seed.expose()).expect("a seed has 32 bytes")
    }

    /// Boxes it under a root key.
    pub fn seal(&self, root: &RootKey, ctx: &KeyringContext, entropy: &dyn Entropy) -> Vec<u8> {
        let (suite, r, v) = (self.suite(), root.generation(), self.version);
        let header = Writer::new().u8(VERSION).u8(suite as u8).u32(r).u32(v).finish();
        boxes::seal_onto(header, &box_key(root), Label::KeyringBox, &ctx.fields(r, v), b"", &self.encode(), entropy)
    }

    /// The clear beginning of a boxed keyring.
    ///
    /// # Errors
    /// When the bytes are too short, or of a version or suite that this build does not know.
    pub fn header(bytes: &[u8]) -> Result<KeyringHeader, KeyringError> {
        let mut r = Reader::new("keyring", bytes);
        match r.u8()? {
            VERSION => {}
            other => return Err(KeyringError::UnknownVersion(other)),
        }
        let suite = HashSuite::from_byte(r.u8()?)?;
        Ok(KeyringHeader { suite, root_generation: r.u32()?, version: r.u32()? })
    }

    /// Opens a boxed keyring.
    ///
    /// # Errors
    /// [`KeyringError::OtherRoot`] when it was made under another generation, [`KeyringError::NotOpened`] when it was
    /// changed or belongs elsewhere, [`KeyringError::OtherAnchor`] when a stranger made it: a root key alone proves
    /// nothing, as envelopes are made from public keys.
    pub fn open(root: &RootKey, ctx: &KeyringContext, bytes: &[u8]) -> Result<Self, KeyringError> {
        let KeyringHeader { root_generation, version, .. } = Self::header(bytes)?;
        if root_generation != root.generation() {
            return Err(KeyringError::OtherRoot { expected: root_generation, got: root.generation() });
        }
        let hdr = ctx.fields(root_generation, version);
        let pt = boxes::open(&box_key(root), Label::KeyringBox, &hdr, b"", &bytes[HEADER_LEN..])
            .map_err(|_| KeyringError::NotOpened)?;
        let keyring = Self::decode(version, &pt)?;
        if keyring.anchor_public_key() == ctx.pk_anchor { Ok(keyring) } else { Err(KeyringError::OtherAnchor) }
    }

    pub(crate) fn encode(&self) -> SecretBytes {
        // Reserved at once: growing would leave keys behind in the old allocation.
        let mut out = Zeroizing::new(Vec::with_capacity(1 + 2 + self.epochs.len() * EPOCH_LEN + 2 * 4 + 4 * 32));
        out.push(PLAINTEXT_VERSION);
        out.extend_from_slice(&(self.epochs.len() as u16).to_be_bytes());
        for e in &self.epochs {
            out.extend_from_slice(&e.epoch.0.to_be_bytes());
            out.extend_from_slice(e.key.expose());
            out.extend_from_slice(&e.created_index.to_be_bytes());
            out.push(e.state as u8);
        }
        out.extend_from_slice(&self.name_key_generation.to_be_bytes());
        out.extend_from_slice(self.name_key.expose());
        out.extend_from_slice(self.id_key.expose());
        out.extend_from_slice(self.anchor_seed.expose());
        out.extend_from_slice(&self.backup_key_generation.to_be_bytes());
        out.extend_from_slice(self.backup_key.expose());
        out
    }

    pub(crate) fn decode(version: u32, pt: &[u8]) -> Result<Self, KeyringError> {
        let mut r = Reader::new("keyring", pt);
        match r.u8()? {
            PLAINTEXT_VERSION => {}
            other => return Err(KeyringError::UnknownVersion(other)),
        }
        let mut epochs: Vec<EpochKeys> = Vec::new();
        for left in (0..r.u16()?).rev() {
            let epoch = Epoch(r.u32()?);
            let key = read_key(&mut r)?;
            let created_index = r.u64()?;
            let state = match (r.u8()?, left) {
                (1, 0) => EpochState::Active,
                (2, 1..) => EpochState::Deactivated,
                _ => return Err(Malformed("keyring: epoch state").into()),
            };
            if epochs.last().is_some_and(|e| e.epoch >= epoch) {
                return Err(Malformed("keyring: order of epochs").into());
            }
            epochs.push(EpochKeys::new(epoch, key, created_index, state));
        }
        let name_key_generation = r.u32()?;
        let name_key = read_key(&mut r)?;
        let id_key = read_key(&mut r)?;
        let anchor_seed = read_key(&mut r)?;
        let backup_key_generation = r.u32()?;
        let backup_key = read_key(&mut r)?;
        r.finish()?;
        if epochs.is_empty() || epochs.len() > EPOCHS_MAX {
            return Err(Malformed("keyring: number of epochs").into());
        }
        Ok(Self {
            version,
            epochs,
            name_key_generation,
            name_key,
            id_key,
            anchor_seed,
            backup_key_generation,
            backup_key,
        })
    }

    fn active(&self) -> &EpochKeys {
        self.epochs.last().expect("a keyring is made and decoded with at least one epoch")
    }
    fn epoch(&self, epoch: Epoch) -> Option<&EpochKeys> {
        // Nearly always the newest.
        self.epochs.iter().rev().find(|e| e.epoch == epoch)
    }
    pub(crate) fn epoch_key(&self, epoch: Epoch) -> Option<&Secret<32>> {
        self.epoch(epoch).map(|e| &e.key)
    }
    /// K_backup, and which one it is.
    pub(crate) fn backup_key(&self) -> (u32, &Secret<32>) {
        (self.backup_key_generation, &self.backup_key)
    }
    pub(crate) fn record_key_of(&self, epoch: Epoch) -> Option<&Secret<32>> {
        self.epoch(epoch).map(|e| &e.record)
    }

    /// The blinded form of a name in a table: equal names give equal blinds, and nothing else can be told.
    pub fn blind(&self, table: Table, name: &[u8]) -> [u8; 32] {
        let fields = Writer::new().u8(table as u8).u32(Namespace::FIRST.0).field(name).finish();
        keyed_hash(&self.name_key, &fields)
    }

    /// The record key of a name in a table without clear parts.
    ///
    /// # Panics
    /// When the table has some: that is a bug in the caller.
    pub fn record_key(&self, table: Table, name: &[u8]) -> RecordKey {
        RecordKey::new(table, self.blind(table, name))
    }

    /// What the ids of a namespace's objects of one class have in common (key-model §1.2): who has this key tells the list from it,
    /// anybody else whether two ids are of one.
    pub fn list_tag(&self, namespace: Namespace, class: Class) -> [u8; 4] {
        let hash = self.id_hash(Writer::new().field(b"list").u32(namespace.0).u8(class as u8));
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// What is free in the id of the `n`th object that a token of `who`, a principal in canonical bytes, makes.
    pub fn free_of_token(&self, who: &[u8], token: Token, n: u32) -> u64 {
        let hash = self.id_hash(Writer::new().field(b"token").field(who).raw(&token.0).u32(n));
        hash[..8].iter().fold(0, |free, byte| free << 8 | u64::from(*byte))
    }

    /// What tells the material of a key from others without telling anything about it: the same material, imported again into
    /// the same key, has the same one.
    pub fn material_id(&self, key: KeyId, material: &[u8]) -> [u8; 32] {
        let head = Writer::new().field(b"material").raw(&key.0).finish();
        // Reserved at once, and wiped: growing would leave material behind.
        let mut fields = Zeroizing::new(Vec::with_capacity(head.len() + material.len()));
        fields.extend_from_slice(&head);
        fields.extend_from_slice(material);
        keyed_hash(&self.id_key, &fields)
    }

    fn id_hash(&self, fields: Writer) -> [u8; 32] {
        keyed_hash(&self.id_key, &fields.finish())
    }

    /// Encodes a batch and puts its MAC on. The batch must name the current epoch.
    ///
    /// # Errors
    /// When a rule of the format is broken, or the batch names another epoch.
    pub fn seal_batch(&self, batch: &Batch) -> Result<Vec<u8>, Malformed> {
        if batch.epoch != self.current_epoch() {
            return Err(Malformed("batch: not of the current epoch"));
        }
        let mut bytes = batch.encode()?;
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(&mac);
        Ok(bytes)
    }

    /// MAC of an encoded batch (without MAC) under the current epoch, which the batch must name.
    pub fn mac(&self, batch: &[u8]) -> [u8; MAC_LEN] {
        hmac::sign(&self.active().mac, batch).as_ref().try_into().expect("HMAC-SHA-256 returns 32 bytes")
    }

    /// Whether an encoded batch of epoch `epoch` bears its MAC; `mac_at` is where that begins ([`Batch::decode`] tells
    /// both). False also when the keyring no longer has the epoch.
    pub fn verify_batch(&self, bytes: &[u8], epoch: Epoch, mac_at: usize) -> bool {
        let (Some(keys), Some((batch, mac))) = (self.epoch(epoch), bytes.split_at_checked(mac_at)) else {
            return false;
        };
        mac.len() == MAC_LEN && hmac::verify(&keys.mac, batch, mac).is_ok()
    }
}

impl KeyringContext {
    fn fields(&self, root_generation: u32, version: u32) -> Vec<u8> {
        (Writer::new().field(&self.lineage.0).field(&self.cluster.0).u32(self.group.0).u32(root_generation))
            .u32(version)
            .field(&self.seal_config_hash)
            .finish()
    }
}

fn box_key(root: &RootKey) -> Secret<32> {
    derive(root.key().expose(), Label::Keyring, b"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_core::batch::{Expect, Op};
    use quorate_core::id::{BatchId, NodeId};

    use super::*;
    use crate::testing::TestEntropy;

    fn ctx() -> KeyringContext {
        KeyringContext {
            lineage: Lineage([1; 16]),
            cluster: ClusterId([2; 16]),
            group: GroupId(0),
            seal_config_hash: [3; 32],
            pk_anchor: keyring().anchor_public_key(),
        }
    }
    fn keyring() -> Keyring {
        let hsm = Secret::from_array([4; 32]);
        let mut keyring = Keyring::generate(&hsm, &TestEntropy::new(1));
        keyring.begin_epoch(100, &hsm, &TestEntropy::new(2)).unwrap();
        keyring.begin_epoch(200, &hsm, &TestEntropy::new(3)).unwrap();
        keyring
    }
    fn root(generation: u32) -> RootKey {
        RootKey::from_parts(generation, Secret::from_array([5; 32]))
    }

    #[test]
    fn epochs_follow_one_another() {
        let k = keyring();
        assert_eq!((k.version(), k.current_epoch()), (3, Epoch(3)));
        use EpochState::*;
        let all: Vec<_> = k.epochs().collect();
        assert_eq!(all, [(Epoch(1), Deactivated, 0), (Epoch(2), Deactivated, 100), (Epoch(3), Active, 200)]);
    }

    #[test]
    fn only_who_has_a_keyring_makes_its_successor() {
        let old = keyring();
        let hsm = Secret::from_array([4; 32]);
        let mut next = Keyring::decode(old.version(), &old.encode()).ok().unwrap();
        assert!(!next.succeeds(&old), "the same one");
        next.begin_epoch(300, &hsm, &TestEntropy::new(4)).unwrap();
        assert!(next.succeeds(&old) && !old.succeeds(&next));
        let mut stranger = Keyring::generate(&hsm, &TestEntropy::new(7));
        for (at, seed) in [(100, 2), (200, 3), (300, 4)] {
            stranger.begin_epoch(at, &hsm, &TestEntropy::new(seed)).unwrap();
        }
        assert_eq!(stranger.version(), next.version());
        assert!(!stranger.succeeds(&old), "the same numbers, other keys");
        next.begin_epoch(400, &hsm, &TestEntropy::new(5)).unwrap();
        assert!(!next.succeeds(&old), "two steps");
    }

    #[test]
    fn opens_to_what_it_was() {
        let k = keyring();
        let boxed = k.seal(&root(7), &ctx(), &TestEntropy::new(9));
        let header = Keyring::header(&boxed).unwrap();
        assert_eq!((header.root_generation, header.version), (7, 3));
        let again = Keyring::open(&root(7), &ctx(), &boxed).ok().unwrap();
        assert_eq!(again.version(), 3);
        assert!(again.epochs().eq(k.epochs()));
        assert_eq!(again.encode(), k.encode());
        assert_eq!(again.blind(Table::Key, b"n"), k.blind(Table::Key, b"n"));
        assert_eq!(again.anchor_public_key(), k.anchor_public_key());
        assert_eq!(again.mac(b"m"), k.mac(b"m"));
    }

    #[test]
    fn another_root_context_or_byte_keeps_it_shut() {
        let boxed = keyring().seal(&root(7), &ctx(), &TestEntropy::new(9));
        let err = |root: &RootKey, ctx: &KeyringContext, bytes: &[u8]| Keyring::open(root, ctx, bytes).err().unwrap();
        assert_eq!(err(&root(8), &ctx(), &boxed), KeyringError::OtherRoot { expected: 7, got: 8 });
        let other = RootKey::from_parts(7, Secret::from_array([6; 32]));
        assert_eq!(err(&other, &ctx(), &boxed), KeyringError::NotOpened);
        type Change = fn(&mut KeyringContext);
        let changes: [Change; 4] =
            [|c| c.lineage.0[0] ^= 1, |c| c.cluster.0[0] ^= 1, |c| c.group.0 = 1, |c| c.seal_config_hash[0] ^= 1];
        for change in changes {
            let mut other = ctx();
            change(&mut other);
            assert_eq!(err(&root(7), &other, &boxed), KeyringError::NotOpened);
        }
        let stranger = KeyringContext { pk_anchor: [9; 32], ..ctx() };
        assert_eq!(err(&root(7), &stranger, &boxed), KeyringError::OtherAnchor);
        assert_eq!(err(&root(7), &ctx(), &[&[2], &boxed[1..]].concat()), KeyringError::UnknownVersion(2));
        assert_eq!(err(&root(7), &ctx(), &[&[1, 2], &boxed[2..]].concat()), KeyringError::Suite(UnknownSuite::Fips));
        for i in 2..boxed.len() {
            let mut bad = boxed.clone();
            bad[i] ^= 1;
            assert!(matches!(err(&root(7), &ctx(), &bad), KeyringError::NotOpened | KeyringError::OtherRoot { .. }));
            assert!(Keyring::open(&root(7), &ctx(), &boxed[..i]).is_err());
        }
    }

    #[test]
    fn blinds_depend_on_key_table_and_name() {
        let k = keyring();
        assert_ne!(k.blind(Table::Key, b"a"), k.blind(Table::Name, b"a"));
        assert_ne!(k.blind(Table::Key, b"a"), k.blind(Table::Key, b"b"));
        let other = Keyring::generate(&Secret::from_array([8; 32]), &TestEntropy::new(5));
        assert_ne!(k.blind(Table::Key, b"a"), other.blind(Table::Key, b"a"));
        assert_eq!(k.record_key(Table::Name, b"a").blind(), k.blind(Table::Name, b"a"));
    }

    #[test]
    fn ids_depend_on_the_key_and_on_everything_they_are_made_of() {
        let (k, other) = (keyring(), Keyring::generate(&Secret::from_array([8; 32]), &TestEntropy::new(5)));
        let tag = |k: &Keyring, namespace| k.list_tag(Namespace(namespace), Class::Key);
        assert_ne!(tag(&k, 0), tag(&k, 1));
        let material = |k: &Keyring, id, bytes: &[u8]| k.material_id(KeyId([id; 16]), bytes);
        assert_eq!(material(&k, 1, b"m"), material(&k, 1, b"m"));
        assert_ne!(material(&k, 1, b"m"), material(&k, 2, b"m"));
        assert_ne!(material(&k, 1, b"m"), material(&k, 1, b"n"));
        assert_ne!(material(&k, 1, b"m"), material(&other, 1, b"m"));
        assert_ne!(tag(&k, 0), tag(&other, 0));
        let token = Token([7; 16]);
        let id = k.free_of_token(b"admin/a", token, 0);
        assert_eq!(id, Keyring::decode(3, &k.encode()).ok().unwrap().free_of_token(b"admin/a", token, 0));
        let others = [
            k.free_of_token(b"admin/b", token, 0),
            k.free_of_token(b"admin/a", Token([8; 16]), 0),
            k.free_of_token(b"admin/a", token, 1),
            other.free_of_token(b"admin/a", token, 0),
        ];
        assert!(!others.contains(&id));
    }

    #[test]
    fn a_batch_bears_a_mac_over_every_byte() {
        let k = keyring();
        let key = k.record_key(Table::Name, b"a");
        let mut batch = Batch {
            lineage: Lineage([1; 16]),
            cluster: ClusterId([2; 16]),
            group: GroupId(0),
            epoch: k.current_epoch(),
            id: BatchId { origin: NodeId(1), boot: 2, seq: 3 },
            stamp_ms: 4,
            audit: [0; 32],
            expects: vec![Expect { key: key.clone(), rev: 9 }],
            ops: vec![Op::Delete(key)],
        };
        let bytes = k.seal_batch(&batch).unwrap();
        let (decoded, mac_at) = Batch::decode(&bytes).unwrap();
        assert_eq!(decoded, batch);
        assert!(k.verify_batch(&bytes, decoded.epoch, mac_at));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(!k.verify_batch(&bad, decoded.epoch, mac_at), "byte {i}");
        }
        // Another epoch's key, an epoch the keyring does not have, and cuts that make no sense.
        assert!(!k.verify_batch(&bytes, Epoch(2), mac_at));
        assert!(!k.verify_batch(&bytes, Epoch(9), mac_at));
        assert!(!k.verify_batch(&bytes, decoded.epoch, bytes.len() + 1));
        assert!(!k.verify_batch(&bytes, decoded.epoch, mac_at - 1));
        assert!(!k.verify_batch(&bytes[..mac_at], decoded.epoch, mac_at));
        batch.epoch = Epoch(2);
        assert!(k.seal_batch(&batch).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>, head in prop::bool::ANY) {
            let bytes = if head { [&[1, 1, 0, 0, 0, 7, 0, 0, 0, 1], &bytes[..]].concat() } else { bytes };
            prop_assert!(Keyring::open(&root(7), &ctx(), &bytes).is_err());
            prop_assert!(Keyring::decode(1, &bytes).is_err());
        }
    }
}
