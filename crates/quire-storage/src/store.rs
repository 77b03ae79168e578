//! The ordered store: keys in order, batches that happen or do not, and a barrier that makes them durable.
//!
//! This is a seam at the edge of the world: RocksDB in production, a map in a simulation.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{ColumnFamilyDescriptor, DB, Direction, IteratorMode, Options, ReadOptions, WriteBatch};
use tokio::sync::oneshot;

/// A family of keys with an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    /// Raft log entries by index.
    Log,
    /// Raft's vote and the like.
    Meta,
    /// The state machine.
    State,
    /// Delta rows.
    Delta,
}

/// In the order of the enum.
const FAMILIES: [Family; 4] = [Family::Log, Family::Meta, Family::State, Family::Delta];

impl Family {
    fn name(self) -> &'static str {
        match self {
            Family::Log => "log",
            Family::Meta => "meta",
            Family::State => "state",
            Family::Delta => "delta",
        }
    }
}

/// One write of a batch.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Sets a key.
    Put(Family, Vec<u8>, Bytes),
    /// Removes a key.
    Delete(Family, Vec<u8>),
    /// Removes the keys of a half-open range.
    DeleteRange(Family, Vec<u8>, Vec<u8>),
}

impl Write {
    /// The key that it sets.
    pub(crate) fn put_key(&self) -> Option<(Family, &[u8])> {
        match self {
            Write::Put(family, key, _) => Some((*family, key)),
            Write::Delete(..) | Write::DeleteRange(..) => None,
        }
    }
}

/// What the store said when it failed. The node that gets one stops serving.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StoreFailure(String);

impl From<rocksdb::Error> for StoreFailure {
    fn from(error: rocksdb::Error) -> Self {
        StoreFailure(error.to_string())
    }
}

impl From<StoreFailure> for std::io::Error {
    fn from(error: StoreFailure) -> Self {
        std::io::Error::other(error.0)
    }
}

pub(crate) type Pair = (Vec<u8>, Bytes);

/// An ordered key-value store.
pub(crate) trait OrderedStore: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreFailure>;

    /// Keys from `start` on (`start` included) below `end`, in order, at most `limit` of them.
    fn scan(&self, family: Family, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreFailure>;

    /// The last key of a family.
    fn last(&self, family: Family) -> Result<Option<Pair>, StoreFailure>;

    /// All of the writes, in order, or none. Visible when it returns; durable after the next [`OrderedStore::sync`], and until then lost
    /// also when only the process ends.
    fn write(&self, writes: Vec<Write>) -> Result<(), StoreFailure>;

    /// Everything written before the call is durable when it returns.
    fn sync(&self) -> Result<(), StoreFailure>;

    /// Every key of some families as of one moment, handed to `visit` in order.
    fn dump(&self, families: &[Family], visit: &mut dyn FnMut(Family, &[u8], &[u8])) -> Result<(), StoreFailure>;
}

/// RocksDB.
pub(crate) struct RocksStore {
    db: DB,
    /// Dropped after `db`, which takes a moment to close: whoever waits for the end waits for this.
    _closed: oneshot::Sender<()>,
}

impl RocksStore {
    /// Opens the store, making it when there is none. One process at a time may. What comes with it completes when it has been closed again,
    /// by whomever used it last.
    pub(crate) fn open(dir: &Path) -> Result<(Arc<RocksStore>, oneshot::Receiver<()>), StoreFailure> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_total_wal_size(512 << 20);
        options.set_keep_log_file_num(4);
        // Appends go to a preallocated, recycled file: an fdatasync then writes no metadata, which on ext4 is nearly half of its time.
        options.set_recycle_log_file_num(2);
        options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::PointInTime);
        // Appends gather in this process until a flush makes them durable: a write is no system call. A killed node comes back with
        // what was flushed, log and state as of one moment; Raft needs no more.
        options.set_manual_wal_flush(true);
        let family_options = || {
            let mut options = Options::default();
            options.set_write_buffer_size(64 << 20);
            options.set_compression_type(rocksdb::DBCompressionType::Lz4);
            options
        };
        let families = FAMILIES.map(|f| ColumnFamilyDescriptor::new(f.name(), family_options()));
        let (closed, when_closed) = oneshot::channel();
        let store = RocksStore { db: DB::open_cf_descriptors(&options, dir, families)?, _closed: closed };
        Ok((Arc::new(store), when_closed))
    }

    fn family(&self, family: Family) -> Arc<rocksdb::BoundColumnFamily<'_>> {
        self.db.cf_handle(family.name()).expect("every family was opened with the database")
    }
}

impl OrderedStore for RocksStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        Ok(self.db.get_cf(&self.family(family), key)?.map(Bytes::from))
    }

    fn scan(&self, family: Family, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreFailure> {
        let mut options = ReadOptions::default();
        if let Some(end) = end {
            options.set_iterate_upper_bound(end.to_vec());
        }
        let iterator = self.db.iterator_cf_opt(&self.family(family), options, IteratorMode::From(start, Direction::Forward));
        let pairs = iterator.take(limit).map(|pair| pair.map(|(k, v)| (k.to_vec(), Bytes::from(v.into_vec()))));
        Ok(pairs.collect::<Result<_, _>>()?)
    }

    fn last(&self, family: Family) -> Result<Option<Pair>, StoreFailure> {
        let mut iterator = self.db.iterator_cf(&self.family(family), IteratorMode::End);
        Ok(iterator.next().transpose()?.map(|(k, v)| (k.to_vec(), Bytes::from(v.into_vec()))))
    }

    fn write(&self, writes: Vec<Write>) -> Result<(), StoreFailure> {
        // Each is found by its name, under a lock: once a batch.
        let families = FAMILIES.map(|family| self.family(family));
        let mut batch = WriteBatch::default();
        for write in writes {
            match write {
                Write::Put(family, key, value) => batch.put_cf(&families[family as usize], key, value),
                Write::Delete(family, key) => batch.delete_cf(&families[family as usize], key),
                Write::DeleteRange(family, start, end) => batch.delete_range_cf(&families[family as usize], start, end),
            }
        }
        Ok(self.db.write(batch)?)
    }

    fn sync(&self) -> Result<(), StoreFailure> {
        Ok(self.db.flush_wal(true)?)
    }

    fn dump(&self, families: &[Family], visit: &mut dyn FnMut(Family, &[u8], &[u8])) -> Result<(), StoreFailure> {
        let snapshot = self.db.snapshot();
        for &family in families {
            for pair in snapshot.iterator_cf(&self.family(family), IteratorMode::Start) {
                let (key, value) = pair?;
                visit(family, &key, &value);
            }
        }
        Ok(())
    }
}
