//! Sealing: delta rows become sorted segments.
//!
//! The order is what makes it safe: the objects are put first, then a log entry says that they hold those rows. A crash
//! in between leaves objects that no manifest names; garbage collection finds them. An entry that came too late (another
//! leader sealed the rows, the table is gone) is `Stale` on every replica, and then this node removes its objects; after
//! an entry whose fate it does not know it leaves them alone.
//!
//! Rows that are deleted already are left out, and their ids leave the table's delete set by the same entry: a row that is updated a
//! hundred times between two seals is written once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quire_kit::clock::{self, Instant};
use quire_kit::{Backoff, Shutdown, random, task};
use quire_objects::Objects;
use quire_types::{DeltaMeta, LogEntry, Outcome, ROW_GROUP_ROWS, RowId, RowSet, SEGMENT_ROWS, Seal, TableDef, TableId, TableView, Term};

use crate::put::{self, PutError};
use crate::replica::{ProposeError, Replica};
use crate::store::StoreFailure;

pub(crate) mod rows;

/// Bytes of encoded rows in one seal: it is in memory a few times over while it is sorted and encoded.
const SEAL_BYTES_MAX: u64 = 256 << 20;
/// After a failure, with the object store for instance, a table waits.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// When to seal a table's delta: at the first of the four.
#[derive(Clone, Debug)]
pub struct SealOptions {
    /// Rows.
    pub rows_max: u64,
    /// Bytes of encoded rows.
    pub bytes_max: u64,
    /// Batches, one a commit: a scan takes each by itself, so a thousand single rows cost it more than one batch of them.
    pub batches_max: usize,
    /// Time since this node first saw the oldest row.
    pub age_max: Duration,
    /// How often to look.
    pub tick: Duration,
}

impl Default for SealOptions {
    fn default() -> Self {
        SealOptions {
            rows_max: ROW_GROUP_ROWS as u64,
            bytes_max: 64 << 20,
            batches_max: 1024,
            age_max: Duration::from_secs(60),
            tick: Duration::from_millis(100),
        }
    }
}

/// Why a table was not sealed. Its rows stay in the delta, where they are safe and slow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// Only the leader seals.
    #[error("this node is not the leader")]
    NotLeader,
    /// No such table, or a batch went while it was looked at: sealed by another, truncated.
    #[error("table {0} or its delta is gone")]
    Gone(TableId),
    /// The delta has columns of other types than the table's definition, which only a damaged batch can have.
    #[error("delta batch {first} of table {table}, of version {version}, has columns of other types than the table")]
    Columns {
        /// The table.
        table: TableId,
        /// The batch.
        first: RowId,
        /// The batch's version.
        version: u64,
    },
    /// Delta rows do not decode.
    #[error("delta batch {first} of table {table} does not decode: {reason}")]
    Decode {
        /// The table.
        table: TableId,
        /// The batch.
        first: RowId,
        /// Why.
        reason: String,
    },
    /// The delta cannot be read.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// The rows do not encode.
    #[error("rows of table {table} do not encode: {reason}")]
    Encode {
        /// The table.
        table: TableId,
        /// Why.
        reason: String,
    },
    /// The object store would not take a segment.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The log did not take the entry, or its answer is not known.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The state machine found the entry to contradict the state.
    #[error("the seal was refused: {0}")]
    Refused(String),
}

/// What one seal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Rows that are in segments now.
    pub rows: u64,
    /// The segments.
    pub segments: u64,
}

/// Seals the tables of one node's replica while that node leads.
pub(crate) struct Sealer {
    replica: Arc<Replica>,
    objects: Objects,
    options: SealOptions,
    /// One seal at a time, whoever asks for it.
    watch: tokio::sync::Mutex<Watch>,
}

/// Seals until `shutdown`. Runs on every node, acts on the leader.
pub(crate) async fn run_sealer(sealer: Arc<Sealer>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.triggered() => return,
            () = clock::sleep(sealer.options.tick) => {}
        }
        tokio::select! {
            // a seal given up in the middle leaves an orphan at worst
            () = shutdown.triggered() => return,
            () = Box::pin(sealer.look()) => {}
        }
    }
}

impl Sealer {
    /// Does nothing yet: see [`run_sealer`].
    pub(crate) fn new(replica: Arc<Replica>, objects: Objects, options: SealOptions) -> Sealer {
        Sealer { replica, objects, options, watch: tokio::sync::Mutex::default() }
    }

    /// Seals all rows that are in the table's delta now.
    pub(crate) async fn seal_now(&self, table: TableId) -> Result<Sealed, SealError> {
        let _one = self.watch.lock().await;
        let view = self.replica.view();
        let end = view.tables.get(&table).ok_or(SealError::Gone(table))?.next_row_id;
        let mut done = Sealed::default();
        while self.replica.view().tables.get(&table).is_some_and(|rows| rows.delta.first().is_some_and(|d| d.first < end)) {
            let sealed = Box::pin(self.seal(table)).await?;
            done.rows += sealed.rows;
            done.segments += sealed.segments;
        }
        Ok(done)
    }

    /// Seals what is due.
    async fn look(&self) {
        let mut watch = self.watch.lock().await;
        let view = self.replica.view();
        watch.notice(view.tables.iter().map(|(id, rows)| (*id, rows.as_ref())), clock::now());
        if !self.replica.is_leader() {
            return;
        }
        for (&table, rows) in &view.tables {
            if watch.waits(table) || !due(rows, watch.age(table), &self.options) {
                continue;
            }
            match Box::pin(self.seal_while_due(table)).await {
                Ok(()) => watch.succeeded(table),
                Err(error) => watch.failed(table, &error),
            }
        }
    }

    /// Seals once, and again while there is still too much.
    async fn seal_while_due(&self, table: TableId) -> Result<(), SealError> {
        loop {
            self.seal(table).await?;
            let view = self.replica.view();
            if !view.tables.get(&table).is_some_and(|rows| due(rows, None, &self.options)) {
                return Ok(());
            }
        }
    }

    /// Seals the oldest batches of the table's delta, as many as make one segment.
    async fn seal(&self, table: TableId) -> Result<Sealed, SealError> {
        if !self.replica.is_leader() {
            return Err(SealError::NotLeader);
        }
        let start = clock::now();
        let term = self.replica.term();
        let view = self.replica.view();
        let def = view.catalog.tables.get(&table).ok_or(SealError::Gone(table))?.clone();
        let rows = view.tables.get(&table).ok_or(SealError::Gone(table))?;
        let chosen = choose(rows.delta.iter().copied());
        let (Some(oldest), Some(newest)) = (chosen.first().copied(), chosen.last().copied()) else {
            return Ok(Sealed::default());
        };
        let (first, end) = (oldest.first, RowId(newest.first.0 + newest.rows));
        let rows::Encoded { segments, dropped } = self.encode(&def, chosen, rows.deleted.clone(), term).await?;
        let sealed = Sealed { rows: segments.iter().map(|(meta, _)| meta.rows).sum(), segments: segments.len() as u64 };
        let metas = put::all(&self.objects, segments, "seal").await?;
        let left_out = dropped.len();
        let seal = Seal { table, version: def.version, first, end, segments: metas.clone(), dropped };
        let outcome = self.replica.propose(LogEntry::Seal(seal)).await?;
        tracing::debug!(
            table = table.0,
            first = first.0,
            end = end.0,
            rows = sealed.rows,
            left_out,
            segments = sealed.segments,
            bytes = metas.iter().map(|m| m.bytes).sum::<u64>(),
            elapsed_ms = start.elapsed().as_millis() as u64,
            ?outcome,
            "sealed"
        );
        match outcome {
            Outcome::Committed(_) => {
                metrics::counter!("quire_storage_sealed_rows_total").increment(sealed.rows);
                metrics::counter!("quire_storage_sealed_segments_total").increment(sealed.segments);
                metrics::histogram!("quire_storage_seal_seconds").record(start.elapsed().as_secs_f64());
                Ok(sealed)
            }
            Outcome::Stale => {
                put::remove(&self.objects, &metas).await;
                Err(SealError::Gone(table))
            }
            other => {
                put::remove(&self.objects, &metas).await;
                Err(SealError::Refused(format!("{other:?}")))
            }
        }
    }

    /// Reads, sorts and encodes delta batches, off the runtime's threads.
    async fn encode(&self, def: &Arc<TableDef>, chosen: Vec<DeltaMeta>, deleted: RowSet, term: Term) -> Result<rows::Encoded, SealError> {
        let (replica, def) = (self.replica.clone(), def.clone());
        task::blocking(move || {
            let encoded = replica.deltas(def.id, &chosen)?.ok_or(SealError::Gone(def.id))?;
            let batches: Vec<(DeltaMeta, Bytes)> = chosen.into_iter().zip(encoded).collect();
            rows::encode(&def, &batches, &deleted, term, random::u64)
        })
        .await
    }
}

/// True when the delta shall be sealed.
fn due(rows: &TableView, age: Option<Duration>, options: &SealOptions) -> bool {
    !rows.delta.is_empty()
        && (rows.delta_rows() >= options.rows_max
            || rows.delta.len() >= options.batches_max
            || rows.delta_bytes() >= options.bytes_max
            || age.is_some_and(|age| age >= options.age_max))
}

/// The oldest batches, at least one, that make about one segment.
fn choose(delta: impl Iterator<Item = DeltaMeta>) -> Vec<DeltaMeta> {
    let (mut rows, mut bytes) = (0, 0);
    let mut chosen = Vec::new();
    for batch in delta {
        rows += batch.rows;
        bytes += batch.bytes;
        if !chosen.is_empty() && (rows > SEGMENT_ROWS as u64 || bytes > SEAL_BYTES_MAX) {
            break;
        }
        chosen.push(batch);
    }
    chosen
}

/// What a sealer remembers from one look to the next.
#[derive(Default)]
struct Watch {
    tables: HashMap<TableId, Seen>,
    /// Batches of columns that cannot be sealed, said once.
    complained: HashSet<(TableId, u64)>,
}

/// When rows of one table were first seen, and when to try again after a failure.
#[derive(Default)]
struct Seen {
    /// At this time all rows below this id had been seen. Ascending.
    marks: Vec<(RowId, Instant)>,
    /// The age of the oldest row that is still in the delta began then.
    since: Option<Instant>,
    retry: Option<(Instant, Backoff)>,
    now: Option<Instant>,
}

/// Marks of one table: one a tick as long as rows come, until they are sealed.
const MARKS_MAX: usize = 4096;

impl Watch {
    /// Takes note of what is in the deltas.
    fn notice<'a>(&mut self, tables: impl Iterator<Item = (TableId, &'a TableView)>, now: Instant) {
        let mut before = std::mem::take(&mut self.tables);
        for (table, rows) in tables {
            let mut seen = before.remove(&table).unwrap_or_default();
            seen.now = Some(now);
            match rows.delta.first() {
                Some(oldest) => {
                    seen.marks.retain(|(end, _)| *end > oldest.first);
                    if seen.marks.last().is_none_or(|(end, _)| *end < rows.next_row_id) && seen.marks.len() < MARKS_MAX {
                        seen.marks.push((rows.next_row_id, now));
                    }
                    seen.since = seen.marks.first().map(|(_, at)| *at);
                }
                None => {
                    seen.marks.clear();
                    seen.since = None;
                }
            }
            self.tables.insert(table, seen);
        }
        self.complained.retain(|(table, _)| self.tables.contains_key(table));
    }

    /// How long ago, as of the last look, the oldest delta row of the table was first seen.
    fn age(&self, table: TableId) -> Option<Duration> {
        let seen = self.tables.get(&table)?;
        Some(seen.now?.saturating_duration_since(seen.since?))
    }

    /// True while the table waits after a failure.
    fn waits(&self, table: TableId) -> bool {
        self.tables.get(&table).is_some_and(|seen| match (&seen.retry, seen.now) {
            (Some((at, _)), Some(now)) => now < *at,
            _ => false,
        })
    }

    fn succeeded(&mut self, table: TableId) {
        if let Some(seen) = self.tables.get_mut(&table) {
            seen.retry = None;
        }
    }

    fn failed(&mut self, table: TableId, error: &SealError) {
        match error {
            // another leads, or was first: nothing went wrong
            SealError::NotLeader | SealError::Gone(_) | SealError::Propose(_) => {
                tracing::debug!(table = table.0, %error, "not sealed");
            }
            SealError::Columns { version, .. } => {
                if self.complained.insert((table, *version)) {
                    tracing::warn!(table = table.0, %error, "not sealed, the rows stay in the delta");
                }
            }
            _ => tracing::warn!(table = table.0, %error, "not sealed, trying again later"),
        }
        metrics::counter!("quire_storage_seals_failed_total").increment(1);
        if let Some(seen) = self.tables.get_mut(&table) {
            let mut backoff = match seen.retry.take() {
                Some((_, backoff)) => backoff,
                None => Backoff::new(BACKOFF_FIRST, BACKOFF_MAX),
            };
            seen.retry = Some((clock::now() + backoff.next_delay(), backoff));
        }
    }
}

#[cfg(test)]
mod tests;
