//! Raft's log in the ordered store. Appends that arrive together share one fsync.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, mpsc};

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::type_config::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::{OptionalSend, RaftLogReader};

use super::Group;
use super::codec::{decode, encode};
use crate::store::{Family, OrderedStore, Write};

const VOTE: &[u8] = b"vote";
const PURGED: &[u8] = b"purged";
/// Bytes of entries in one read, so that a follower far behind is sent many messages rather than one too large.
const READ_BYTES_MAX: usize = 8 << 20;

/// The log of one node. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    store: Arc<dyn OrderedStore>,
    /// To the thread that fsyncs.
    flusher: mpsc::Sender<IOFlushed<Group>>,
}

impl LogStore {
    pub(crate) fn new(store: Arc<dyn OrderedStore>) -> Result<LogStore, io::Error> {
        let (flusher, waiting) = mpsc::channel::<IOFlushed<Group>>();
        let synced = store.clone();
        std::thread::Builder::new().name("log fsync".into()).spawn(move || flush(synced.as_ref(), &waiting))?;
        Ok(LogStore { store, flusher })
    }

    fn put<T: serde::Serialize>(&self, key: &[u8], value: &T) -> Result<(), io::Error> {
        self.store.write(vec![Write::Put(Family::Meta, key.to_vec(), encode(value)?)])?;
        Ok(())
    }

    fn read<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, io::Error> {
        self.store.get(Family::Meta, key)?.map(|bytes| decode(&bytes)).transpose()
    }
}

/// Completes appends: whatever has gathered while the disk was busy shares the next fsync.
fn flush(store: &dyn OrderedStore, waiting: &mpsc::Receiver<IOFlushed<Group>>) {
    while let Ok(first) = waiting.recv() {
        let mut group = vec![first];
        group.extend(waiting.try_iter());
        let began = quire_kit::clock::now();
        let result = store.sync();
        metrics::histogram!("quire_storage_fsync_seconds").record(began.elapsed().as_secs_f64());
        metrics::histogram!("quire_storage_appends_per_fsync").record(group.len() as f64);
        if let Err(error) = &result {
            tracing::error!(%error, page = "docs/operating/disk-full.md", "cannot write the log; this node stops serving");
        }
        for append in group {
            append.io_completed(result.clone().map_err(Into::into));
        }
    }
}

fn index_key(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

impl RaftLogReader<Group> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<EntryOf<Group>>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(i) => *i,
            Bound::Excluded(i) => i + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(i) => Some(index_key(i + 1)),
            Bound::Excluded(i) => Some(index_key(*i)),
            Bound::Unbounded => None,
        };
        let pairs = self.store.scan(Family::Log, &index_key(start), end.as_deref(), usize::MAX)?;
        pairs.iter().map(|(_, value)| decode(value)).collect()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<EntryOf<Group>>, io::Error> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in start..end {
            let Some(value) = self.store.get(Family::Log, &index_key(index))? else { break };
            bytes += value.len();
            if bytes > READ_BYTES_MAX && !entries.is_empty() {
                break;
            }
            entries.push(decode(&value)?);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Group>>, io::Error> {
        self.read(VOTE)
    }
}

impl RaftLogStorage<Group> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Group>, io::Error> {
        let last_purged_log_id: Option<LogIdOf<Group>> = self.read(PURGED)?;
        let last = self.store.last(Family::Log)?.map(|(_, value)| decode::<EntryOf<Group>>(&value)).transpose()?;
        let last_log_id = last.map(|entry| entry.log_id()).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Group>) -> Result<(), io::Error> {
        self.put(VOTE, vote)?;
        let store = self.store.clone();
        // A vote must be durable before it is given.
        quire_kit::task::blocking(move || store.sync()).await?;
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Group>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<Group>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut writes = Vec::new();
        for entry in entries {
            writes.push(Write::Put(Family::Log, index_key(entry.index()), encode(&entry)?));
        }
        self.store.write(writes)?;
        self.flusher.send(callback).map_err(|_| io::Error::other("the fsync thread has ended"))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogIdOf<Group>>) -> Result<(), io::Error> {
        let start = last_log_id.map_or(0, |id| id.index + 1);
        self.store.write(vec![Write::DeleteRange(Family::Log, index_key(start), index_key(u64::MAX))])?;
        let store = self.store.clone();
        quire_kit::task::blocking(move || store.sync()).await?;
        Ok(())
    }

    async fn purge(&mut self, log_id: LogIdOf<Group>) -> Result<(), io::Error> {
        let writes = vec![
            Write::Put(Family::Meta, PURGED.to_vec(), encode(&log_id)?),
            Write::DeleteRange(Family::Log, index_key(0), index_key(log_id.index + 1)),
        ];
        self.store.write(writes)?;
        Ok(())
    }
}
