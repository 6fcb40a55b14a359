//! The engine seam (key-log §5.1): one ordered byte space with consistent views; redb behind it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quorate_core::batch::Rev;
use quorate_core::record_key::{RecordKey, Table};
use quorate_journal::disk::{Disk, DiskFile, OpenMode};
use redb::{Durability, ReadableDatabase, TableDefinition};

use super::blocks::CheckedFile;
use super::reserve::{Lender, Lent, Reserve};

/// Writes of one transaction, by key; `None` removes.
pub type WriteSet = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
/// The same, from wherever they are; in key order.
pub type Writes<'a, 'b> = &'a mut dyn Iterator<Item = (&'b [u8], Option<&'b [u8]>)>;

/// Where the state is kept on disk. One writer, any number of views.
pub trait Engine: Send + Sync + 'static {
    /// The state as of the last write; later writes do not change it.
    ///
    /// # Errors
    /// When the engine or its disk fails.
    fn view(&self) -> io::Result<Arc<dyn View>>;
    /// Writes all or nothing; visible to views made later. Durable on return only if `durable` (and then with it
    /// everything written before); else a crash takes back to the last durable write.
    ///
    /// # Errors
    /// When the engine or its disk fails; what was written is then unknown.
    fn commit(&self, writes: Writes<'_, '_>, durable: bool) -> io::Result<()>;

    /// The same for a set.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    fn write(&self, set: &WriteSet, durable: bool) -> io::Result<()> {
        self.commit(&mut set.iter().map(|(key, value)| (&key[..], value.as_deref())), durable)
    }
}

/// The state at exactly one applied index: raw keys and raw values (`rev u64 ‖ value` for records).
pub trait View: Send + Sync {
    /// One raw value.
    ///
    /// # Errors
    /// When the engine or its disk fails.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// At most `limit` pairs of the range, in key order.
    ///
    /// # Errors
    /// When the engine or its disk fails.
    fn scan(&self, range: Range<'_>, limit: usize) -> io::Result<Pairs>;
    /// At most `limit` pairs of the range, from its end backwards.
    ///
    /// # Errors
    /// When the engine or its disk fails.
    fn scan_back(&self, range: Range<'_>, limit: usize) -> io::Result<Pairs>;
}

/// From where to where.
pub type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);
/// Keys with their values.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// One record: its revision and value.
///
/// # Errors
/// When the engine fails or its bytes are not a record.
pub fn get_record(view: &dyn View, key: &RecordKey) -> io::Result<Option<(Rev, Bytes)>> {
    view.get(key.as_bytes())?.map(split_value).transpose()
}

/// One record's value.
///
/// # Errors
/// As [`get_record`].
pub fn get_value(view: &dyn View, key: &RecordKey) -> io::Result<Option<Bytes>> {
    Ok(get_record(view, key)?.map(|(_, value)| value))
}

/// At most `limit` records of `table` in key order, beginning at `from`.
///
/// # Errors
/// When the engine fails or its bytes are not records.
pub fn scan_table(
    view: &dyn View,
    table: Table,
    from: Bound<&RecordKey>,
    limit: usize,
) -> io::Result<Vec<(RecordKey, Rev, Bytes)>> {
    let (first, end) = ([table as u8], [table as u8 + 1]);
    let from = match from {
        Bound::Unbounded => Bound::Included(&first[..]),
        // A key of an earlier table means all of this one, a key of a later table none of it.
        Bound::Included(key) | Bound::Excluded(key) if key.as_bytes() < &first[..] => Bound::Included(&first[..]),
        Bound::Included(key) | Bound::Excluded(key) if key.as_bytes() >= &end[..] => return Ok(Vec::new()),
        Bound::Included(key) => Bound::Included(key.as_bytes()),
        Bound::Excluded(key) => Bound::Excluded(key.as_bytes()),
    };
    records(view.scan((from, Bound::Excluded(&end)), limit)?)
}

/// At most `limit` records of `table` whose keys go on with `prefix`, the last first; with `before`, those before it.
///
/// # Errors
/// As [`scan_table`].
pub fn scan_prefix_back(
    view: &dyn View,
    table: Table,
    prefix: &[u8],
    before: Option<&RecordKey>,
    limit: usize,
) -> io::Result<Vec<(RecordKey, Rev, Bytes)>> {
    let first = [&[table as u8], prefix].concat();
    // No key is longer than this.
    let last = [&first[..], &[0xff; 64]].concat();
    let end = match before {
        Some(key) if key.as_bytes() < &first[..] => return Ok(Vec::new()),
        Some(key) if key.as_bytes() < &last[..] => Bound::Excluded(key.as_bytes()),
        _ => Bound::Included(&last[..]),
    };
    records(view.scan_back((Bound::Included(&first), end), limit)?)
}

fn records(pairs: Pairs) -> io::Result<Vec<(RecordKey, Rev, Bytes)>> {
    let record = |(key, value): (Vec<u8>, _)| {
        let key = RecordKey::parse(&key).map_err(|_| not_a_record())?;
        let (rev, value) = split_value(value)?;
        Ok((key, rev, value))
    };
    pairs.into_iter().map(record).collect()
}

/// Revision and value of a stored record.
pub(super) fn split_value(state_value: Vec<u8>) -> io::Result<(Rev, Bytes)> {
    let mut value = Bytes::from(state_value);
    if value.len() < 8 {
        return Err(not_a_record());
    }
    let rev = value.split_to(8);
    let mut be = [0; 8];
    be.copy_from_slice(&rev);
    Ok((Rev::from_be_bytes(be), value))
}

/// A record as it is stored.
pub(super) fn join_value(rev: Rev, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + value.len());
    bytes.extend_from_slice(&rev.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn not_a_record() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the state holds bytes that are no record: it is damaged; {}", quorate_core::REPLACE_MEMBER),
    )
}

const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("state");

/// redb over the disk seam: one file, one table.
pub struct RedbEngine {
    database: redb::Database,
    damage: Damage,
    reserve: Lent,
    file: Arc<dyn DiskFile>,
}

/// The first damage found in the file while it is open, however it was come upon.
type Damage = Arc<OnceLock<String>>;

impl RedbEngine {
    /// Opens the file, or makes it. However long the file is, a few blocks of it are read: after a crash too, as every
    /// durable write records what redb would otherwise have to find out by reading everything. Damage further in is
    /// found when it is read, and told by an error then.
    ///
    /// # Errors
    /// `InvalidData` when what is read is damaged; the node's journal is not concerned.
    pub fn open(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> io::Result<Self> {
        Self::open_with(disk, path, cache_bytes, Lent::default())
    }

    /// The same, for the state in force: it may use the reserve.
    pub(super) fn open_in_force(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: usize,
        reserve: Arc<Reserve>,
    ) -> io::Result<Self> {
        Self::open_with(disk, path, cache_bytes, Arc::new(OnceLock::from(reserve)))
    }

    fn open_with(disk: &dyn Disk, path: &Path, cache_bytes: usize, reserve: Lent) -> io::Result<Self> {
        let unusable =
            |e: io::Error| io::Error::new(e.kind(), format!("the state file {} cannot be opened: {e}", path.display()));
        let file = disk.open(path, OpenMode::Create)?;
        // A file just made has its name only after this; else a power cut takes away what was durable in it.
        disk.fsync_dir(path.parent().unwrap_or(Path::new(".")))?;
        let file: Arc<dyn DiskFile> = Arc::new(Lender::new(file, reserve.clone()));
        let opened = CheckedFile::open(file.clone(), path).map_err(|e| unusable(damaged(e.kind(), &e)))?;
        let damage = opened.damage;
        let open = || -> Result<redb::Database, redb::Error> {
            let database = redb::Builder::new()
                .set_cache_size(cache_bytes)
                .set_check_integrity_on_open(opened.suspicious)
                .create_with_backend(opened.file)?;
            match database.begin_read()?.open_table(TABLE) {
                Ok(_) => {}
                // Only a new file needs a write, for which a full disk may have no room.
                Err(redb::TableError::TableDoesNotExist(_)) => {
                    let mut write = database.begin_write()?;
                    write.set_quick_repair(true);
                    write.open_table(TABLE)?;
                    write.commit()?;
                }
                Err(e) => return Err(e.into()),
            }
            Ok(database)
        };
        let database = open().map_err(|e| unusable(to_io(&damage, e)))?;
        Ok(Self { database, damage, reserve, file })
    }

    /// The first damage found in the file while it is open.
    pub fn damage(&self) -> Option<String> {
        self.damage.get().cloned()
    }

    /// Length of the file, in bytes.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn bytes(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// It is in force from now on.
    pub(super) fn lend(&self, reserve: Arc<Reserve>) {
        // It has it already: it is the same one.
        _ = self.reserve.set(reserve);
    }
}

impl Engine for RedbEngine {
    fn view(&self) -> io::Result<Arc<dyn View>> {
        let open = || -> Result<_, redb::Error> { Ok(self.database.begin_read()?.open_table(TABLE)?) };
        let table = open().map_err(|e| to_io(&self.damage, e))?;
        Ok(Arc::new(RedbView { table, damage: self.damage.clone() }))
    }

    fn commit(&self, writes: Writes<'_, '_>, durable: bool) -> io::Result<()> {
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
            // In two phases, which the checksums of blocks rely on, and with what a start after a crash needs.
            transaction.set_quick_repair(durable);
            {
                let mut table = transaction.open_table(TABLE)?;
                for (key, value) in writes {
                    match value {
                        Some(value) => table.insert(key, value)?,
                        None => table.remove(key)?,
                    };
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|e| to_io(&self.damage, e))
    }
}

/// A read transaction.
struct RedbView {
    table: redb::ReadOnlyTable<&'static [u8], &'static [u8]>,
    damage: Damage,
}

impl RedbView {
    fn failed(&self, e: redb::StorageError) -> io::Error {
        to_io(&self.damage, e.into())
    }

    fn pairs<'a>(
        &self,
        found: impl Iterator<Item = Result<(Slice<'a>, Slice<'a>), redb::StorageError>>,
    ) -> io::Result<Pairs> {
        found
            .map(|pair| {
                let (key, value) = pair.map_err(|e| self.failed(e))?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            })
            .collect()
    }
}

type Slice<'a> = redb::AccessGuard<'a, &'static [u8]>;

impl View for RedbView {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let value = self.table.get(key).map_err(|e| self.failed(e))?;
        Ok(value.map(|v| v.value().to_vec()))
    }

    fn scan(&self, range: Range<'_>, limit: usize) -> io::Result<Pairs> {
        let found = self.table.range::<&[u8]>(range).map_err(|e| self.failed(e))?;
        self.pairs(found.take(limit))
    }

    fn scan_back(&self, range: Range<'_>, limit: usize) -> io::Result<Pairs> {
        let found = self.table.range::<&[u8]>(range).map_err(|e| self.failed(e))?;
        self.pairs(found.rev().take(limit))
    }
}

fn damaged(kind: io::ErrorKind, what: &dyn std::fmt::Display) -> io::Error {
    match kind {
        io::ErrorKind::InvalidData => {
            io::Error::new(kind, format!("it is damaged ({what}); {}", quorate_core::REPLACE_MEMBER))
        }
        kind => io::Error::new(kind, what.to_string()),
    }
}

/// After a failed read redb only says that it failed before; what it was stays known.
fn to_io(damage: &Damage, e: redb::Error) -> io::Error {
    match (damage.get(), e) {
        (Some(what), _) => damaged(io::ErrorKind::InvalidData, what),
        (None, redb::Error::Corrupted(what)) => damaged(io::ErrorKind::InvalidData, &what),
        (None, redb::Error::Io(e)) => e,
        (None, other) => io::Error::other(other),
    }
}
