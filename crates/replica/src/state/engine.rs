//! The engine seam (key-log §5.1): one ordered byte space with consistent views; redb behind it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quorate_core::batch::Rev;
use quorate_core::record_key::{RecordKey, Table};
use redb::{Durability, ReadableDatabase, StorageBackend, TableDefinition};

use super::reserve::Reserve;
use crate::disk::{Disk, DiskFile, OpenMode};

/// Writes of one transaction, by key; `None` removes.
pub type WriteSet = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Where the state is kept. One writer, any number of views.
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
    fn write(&self, set: &WriteSet, durable: bool) -> io::Result<()>;
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
    fn scan(&self, range: (Bound<&[u8]>, Bound<&[u8]>), limit: usize) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>>;
}

/// One record: its revision and value.
///
/// # Errors
/// When the engine fails or its bytes are not a record.
pub fn get_record(view: &dyn View, key: &RecordKey) -> io::Result<Option<(Rev, Bytes)>> {
    view.get(key.as_bytes())?.map(split_value).transpose()
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
    let found = view.scan((from, Bound::Excluded(&end)), limit)?;
    found
        .into_iter()
        .map(|(key, value)| {
            let key = RecordKey::parse(&key).map_err(|_| not_a_record())?;
            let (rev, value) = split_value(value)?;
            Ok((key, rev, value))
        })
        .collect()
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
        "the state holds bytes that are no record: it is damaged; repair this node's state from its peers",
    )
}

const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("state");

/// redb over the disk seam: one file, one table.
pub struct RedbEngine {
    database: redb::Database,
    reserve: Lent,
}

/// The reserve, once this is the state in force.
type Lent = Arc<OnceLock<Arc<Reserve>>>;

impl RedbEngine {
    /// Opens the file, or makes it. Every page's checksum is checked first, as redb itself looks at them only after
    /// a crash, and would panic or return wrong bytes on damage after a clean stop.
    ///
    /// # Errors
    /// `InvalidData` when the file is damaged: the node's journal is not concerned, its state can be repaired from
    /// its peers.
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
        let file = disk.open(path, OpenMode::Create)?;
        // A file just made has its name only after this; else a power cut takes away what was durable in it.
        disk.fsync_dir(path.parent().unwrap_or(Path::new(".")))?;
        let backend = DiskBackend { file, reserve: reserve.clone() };
        let open = || -> Result<redb::Database, redb::Error> {
            let database = redb::Builder::new()
                .set_cache_size(cache_bytes)
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)?;
            // Only a new file needs a write, for which a full disk may have no room.
            if database.begin_read()?.list_tables()?.next().is_none() {
                let write = database.begin_write()?;
                write.open_table(TABLE)?;
                write.commit()?;
            }
            Ok(database)
        };
        let database = open().map_err(|e| {
            let e = to_io(e);
            io::Error::new(e.kind(), format!("the state file {} cannot be opened: {e}", path.display()))
        })?;
        Ok(Self { database, reserve })
    }

    /// It is in force from now on.
    pub(super) fn lend(&self, reserve: Arc<Reserve>) {
        // It has it already: it is the same one.
        _ = self.reserve.set(reserve);
    }
}

impl Engine for RedbEngine {
    fn view(&self) -> io::Result<Arc<dyn View>> {
        let open = || -> Result<RedbView, redb::Error> { Ok(RedbView(self.database.begin_read()?.open_table(TABLE)?)) };
        Ok(Arc::new(open().map_err(to_io)?))
    }

    fn write(&self, set: &WriteSet, durable: bool) -> io::Result<()> {
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
            {
                let mut table = transaction.open_table(TABLE)?;
                for (key, value) in set {
                    match value {
                        Some(value) => table.insert(&key[..], &value[..])?,
                        None => table.remove(&key[..])?,
                    };
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(to_io)
    }
}

/// A read transaction.
struct RedbView(redb::ReadOnlyTable<&'static [u8], &'static [u8]>);

impl View for RedbView {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let value = self.0.get(key).map_err(|e| to_io(e.into()))?;
        Ok(value.map(|v| v.value().to_vec()))
    }

    fn scan(&self, range: (Bound<&[u8]>, Bound<&[u8]>), limit: usize) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let found = self.0.range::<&[u8]>(range).map_err(|e| to_io(e.into()))?;
        found
            .take(limit)
            .map(|pair| {
                let (key, value) = pair.map_err(|e| to_io(e.into()))?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            })
            .collect()
    }
}

fn to_io(e: redb::Error) -> io::Error {
    match e {
        redb::Error::Io(e) => e,
        redb::Error::Corrupted(what) => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the state file is damaged ({what}); repair this node's state from its peers"),
        ),
        other => io::Error::other(other),
    }
}

/// redb's file through the disk seam. No locks: the journal's lock covers the data folder. After any error redb is of no
/// use until it is opened again, so a full disk is met here.
struct DiskBackend {
    file: Arc<dyn DiskFile>,
    reserve: Lent,
}

impl std::fmt::Debug for DiskBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl DiskBackend {
    fn with_room(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match self.reserve.get() {
            Some(reserve) => reserve.or_with_it(write),
            None => write(),
        }
    }
}

impl StorageBackend for DiskBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.file.pread(out, offset)? == out.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_room(|| self.file.set_len(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.fdatasync()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with_room(|| self.file.pwrite(data, offset))
    }
}
