//! Compaction: segments are written anew, fewer and without the rows that were deleted.
//!
//! As with seals, objects are put first, and then a log entry swaps them in. Rows keep their ids, so a transaction that began before
//! finds what it deletes, and nothing that was deleted in the meantime comes back: its id stays in the delete set. Old objects stay for
//! snapshots that name them, until `collect` removes them. An entry that came too late is `Stale` on every replica.
//!
//! `choose` decides what is worth it, by bounds; `merge` does it; both are pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quire_kit::clock::{self, Instant};
use quire_kit::{Backoff, Shutdown, random, task};
use quire_objects::{ObjectError, Objects};
use quire_types::{Compact, LogEntry, Outcome, RowSet, SegmentMeta, TableDef, TableId, TableView};

use crate::put::{self, PutError};
use crate::replica::{ProposeError, Replica};

pub(crate) mod choose;
pub(crate) mod merge;

use choose::{Counted, CountedRows, Job};
use merge::{MergeError, Merged};

/// After a failure, with the object store for instance, a table waits.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How eager compaction is.
#[derive(Clone, Debug)]
pub struct CompactOptions {
    /// How often to look for something to do. After something was done it looks at once.
    pub tick: Duration,
}

impl Default for CompactOptions {
    fn default() -> Self {
        CompactOptions { tick: Duration::from_secs(1) }
    }
}

/// Why segments stayed as they are. They are read as before.
#[derive(Debug, thiserror::Error)]
enum CompactError {
    /// Only the leader compacts.
    #[error("this node is not the leader")]
    NotLeader,
    /// The table or a segment went in the meantime.
    #[error("segments of table {0} are gone")]
    Gone(TableId),
    /// A segment cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The rows do not decode or encode.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The object store would not take a segment.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The log did not take the entry, or its answer is not known.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The state machine found the entry to contradict the state.
    #[error("the compaction was refused: {0}")]
    Refused(String),
}

/// Compacts the tables of one node's replica while that node leads.
pub(crate) struct Compactor {
    replica: Arc<Replica>,
    objects: Objects,
    options: CompactOptions,
    tables: Mutex<HashMap<TableId, Known>>,
    pass: AtomicU64,
}

/// What is known of one table.
#[derive(Default)]
struct Known {
    counted: CountedRows,
    retry: Option<(Instant, Backoff)>,
}

/// Compacts until `shutdown`. Runs on every node, acts on the leader.
pub(crate) async fn run_compactor(compactor: Arc<Compactor>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.triggered() => return,
            () = clock::sleep(compactor.options.tick) => {}
        }
        tokio::select! {
            // a compaction given up in the middle leaves an orphan at worst
            () = shutdown.triggered() => return,
            () = Box::pin(compactor.look()) => {}
        }
    }
}

impl Compactor {
    /// Does nothing yet: see [`run_compactor`].
    pub(crate) fn new(replica: Arc<Replica>, objects: Objects, options: CompactOptions) -> Compactor {
        Compactor { replica, objects, options, tables: Mutex::default(), pass: AtomicU64::new(0) }
    }

    /// Does what there is to do, one thing a table in turn.
    async fn look(&self) {
        let mut busy = true;
        while busy && self.replica.is_leader() {
            busy = false;
            let pass = self.pass.fetch_add(1, Ordering::Relaxed);
            let view = self.replica.view();
            self.tables.lock().retain(|table, _| view.tables.contains_key(table));
            for def in view.catalog.tables.values() {
                busy |= Box::pin(self.look_at(def, pass)).await;
            }
        }
    }

    /// Looks at one table until something was written anew, which is said, or there is nothing more to look at.
    async fn look_at(&self, def: &Arc<TableDef>, pass: u64) -> bool {
        while let Some(job) = self.replica.view().tables.get(&def.id).and_then(|rows| self.next(def, rows, pass)) {
            let kind = job.kind();
            match Box::pin(self.compact(def, job, pass)).await {
                Ok(false) => {}
                Ok(true) => {
                    self.tables.lock().entry(def.id).or_default().retry = None;
                    return true;
                }
                Err(error) => {
                    self.failed(def.id, kind, &error);
                    return false;
                }
            }
        }
        false
    }

    fn next(&self, def: &TableDef, rows: &TableView, pass: u64) -> Option<Job> {
        let mut tables = self.tables.lock();
        let known = tables.entry(def.id).or_default();
        if known.retry.as_ref().is_some_and(|(at, _)| clock::now() < *at) {
            return None;
        }
        known.counted.retain(|id, _| rows.segments.iter().any(|s| s.id == *id));
        choose::choose(def, rows, &known.counted, pass)
    }

    fn failed(&self, table: TableId, kind: &'static str, error: &CompactError) {
        match error {
            // another leads, or was first: nothing went wrong
            CompactError::NotLeader | CompactError::Gone(_) | CompactError::Propose(_) => {
                tracing::debug!(table = table.0, kind, %error, "not compacted");
            }
            _ => tracing::warn!(table = table.0, kind, %error, "not compacted, trying again later"),
        }
        metrics::counter!("quire_storage_compactions_failed_total").increment(1);
        let mut tables = self.tables.lock();
        let known = tables.entry(table).or_default();
        let mut backoff = known.retry.take().map_or_else(|| Backoff::new(BACKOFF_FIRST, BACKOFF_MAX), |(_, backoff)| backoff);
        known.retry = Some((clock::now() + backoff.next_delay(), backoff));
    }

    /// False when it turns out not to be worth it.
    async fn compact(&self, def: &Arc<TableDef>, job: Job, pass: u64) -> Result<bool, CompactError> {
        let start = clock::now();
        let kind = job.kind();
        // What is deleted from here on is in the outputs and in the delete set.
        let view = self.replica.view();
        let deleted = view.tables.get(&def.id).ok_or(CompactError::Gone(def.id))?.deleted.clone();
        let (inputs, merged) = match job {
            Job::Merge(inputs) => {
                let merged = self.merge(def, inputs.clone(), deleted).await?;
                (inputs, merged)
            }
            Job::Rewrite(segment) => {
                let dropped = self.count(&segment, &deleted).await?;
                let counted = Counted { of: deleted.len(), pass };
                self.tables.lock().entry(def.id).or_default().counted.insert(segment.id, counted);
                let merged = match dropped.len() {
                    all if all == segment.rows => Merged { segments: vec![], dropped },
                    some if choose::is_worn(some, segment.rows) => self.merge(def, vec![segment.clone()], deleted).await?,
                    _ => return Ok(false),
                };
                (vec![segment], merged)
            }
        };
        let Merged { segments, dropped } = merged;
        let outputs = put::all(&self.objects, segments, "compact").await?;
        let (read, written) = (inputs.iter().map(|s| s.bytes).sum::<u64>(), outputs.iter().map(|s| s.bytes).sum::<u64>());
        let rows = outputs.iter().map(|s| s.rows).sum::<u64>();
        let left_out = dropped.len();
        let entry = Compact { table: def.id, inputs: inputs.iter().map(|s| s.id).collect(), outputs: outputs.clone(), dropped };
        let outcome = self.replica.propose(LogEntry::Compact(entry)).await?;
        tracing::debug!(
            table = def.id.0,
            kind,
            inputs = inputs.len(),
            outputs = outputs.len(),
            rows,
            left_out,
            read,
            written,
            elapsed_ms = start.elapsed().as_millis() as u64,
            ?outcome,
            "compacted"
        );
        match outcome {
            Outcome::Committed(_) => {
                metrics::counter!("quire_storage_compactions_total", "kind" => kind).increment(1);
                metrics::counter!("quire_storage_compacted_segments_total").increment(inputs.len() as u64);
                metrics::counter!("quire_storage_purged_rows_total").increment(left_out);
                metrics::histogram!("quire_storage_compaction_seconds").record(start.elapsed().as_secs_f64());
                Ok(true)
            }
            Outcome::Stale => {
                put::remove(&self.objects, &outputs).await;
                Err(CompactError::Gone(def.id))
            }
            other => {
                put::remove(&self.objects, &outputs).await;
                Err(CompactError::Refused(format!("{other:?}")))
            }
        }
    }

    /// The deleted rows of a segment, by its row ids.
    async fn count(&self, segment: &Arc<SegmentMeta>, deleted: &RowSet) -> Result<RowSet, CompactError> {
        let ranges: Vec<_> = merge::row_id_reads(segment).iter().map(|r| r.offset..r.offset + u64::from(r.length)).collect();
        let pages = self.objects.get_ranges(&key(segment), &ranges).await?;
        let (segment, deleted) = (segment.clone(), deleted.clone());
        Ok(task::blocking(move || merge::deleted_of(&segment, pages, &deleted)).await?)
    }

    /// Reads the segments and merges them, off the runtime's threads.
    async fn merge(&self, def: &Arc<TableDef>, inputs: Vec<Arc<SegmentMeta>>, deleted: RowSet) -> Result<Merged, CompactError> {
        if !self.replica.is_leader() {
            return Err(CompactError::NotLeader);
        }
        let term = self.replica.term();
        let mut read: Vec<(Arc<SegmentMeta>, Bytes)> = Vec::with_capacity(inputs.len());
        for segment in inputs {
            let bytes = self.objects.get_range(&key(&segment), 0..segment.bytes).await?;
            read.push((segment, bytes));
        }
        let def = def.clone();
        Ok(task::blocking(move || merge::merge(&def, &read, &deleted, term, random::u64)).await?)
    }
}

impl Job {
    fn kind(&self) -> &'static str {
        match self {
            Job::Rewrite(_) => "rewrite",
            Job::Merge(_) => "merge",
        }
    }
}

fn key(segment: &SegmentMeta) -> String {
    SegmentMeta::object_key(segment.table, segment.id, segment.term)
}
