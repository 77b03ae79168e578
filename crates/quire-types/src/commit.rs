use bytes::Bytes;

use crate::{CatalogChange, Lsn, RowId, RowSet, SegmentId, SegmentMeta, TableId, TxnId};

/// What Postgres promises under the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A fresh snapshot for each statement.
    #[default]
    ReadCommitted,
    /// One snapshot for the transaction.
    RepeatableRead,
    /// One snapshot, and reads are certified.
    Serializable,
}

/// One entry of the log, as the Raft group orders it.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEntry {
    /// A transaction to certify.
    Commit(Commit),
    /// Delta rows became segments.
    Seal(Seal),
    /// Segments became other segments.
    Compact(Compact),
}

/// A whole transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Its name: a second commit with the same id gets the first one's outcome.
    pub txn_id: TxnId,
    /// The LSN that its reads and checks were made at.
    pub snapshot: Lsn,
    /// Isolation level.
    pub isolation: Isolation,
    /// Catalog changes, in order; applied before the writes.
    pub catalog: Vec<CatalogChange>,
    /// Writes, one entry a table.
    pub writes: Vec<TableWrite>,
    /// What the transaction read and needs unchanged, one entry a table: what SERIALIZABLE read, and the rows that it locked.
    pub reads: Vec<TableRead>,
}

/// What a transaction asserts of a table that it read: none of this may have changed between the snapshot and the commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableRead {
    /// The table.
    pub table: TableId,
    /// The definition's version at the snapshot.
    pub version: u64,
    /// Every row and every absence of one.
    pub whole: bool,
    /// Rows that must still be there, ascending.
    pub rows: Vec<RowId>,
    /// Unique keys that no row had, and still none may have been inserted with.
    pub absent: Vec<KeyAssert>,
    /// Rows locked against everyone (FOR UPDATE), ascending: still there, and not locked by another commit since.
    pub locked: Vec<RowId>,
    /// Rows locked against change (FOR SHARE), ascending: still there, and not locked against everyone since.
    pub shared: Vec<RowId>,
}

/// What a transaction does to one table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableWrite {
    /// The table.
    pub table: TableId,
    /// The definition's version that the rows were made for.
    pub version: u64,
    /// TRUNCATE before the other writes: every row visible at the snapshot goes. Conflicts with any write since the snapshot.
    pub truncate: bool,
    /// Inserted rows, encoded by `quire_segment::encode_rows`, in the schema of that version; empty when there are none.
    pub rows: Bytes,
    /// Rows in `rows`.
    pub row_count: u64,
    /// Bulk-loaded segments, already in the object store; `row_ids` is `Base` and its value is filled in by apply, in order, after `rows`.
    pub segments: Vec<SegmentMeta>,
    /// Deleted rows, ascending. First committer wins.
    pub deletes: Vec<RowId>,
    /// Rows of `segments` that the same transaction deleted again, by position within all of them, ascending.
    pub segment_deletes: Vec<u64>,
    /// Keys that must not have been written by others since the snapshot, and that this transaction writes.
    pub keys: Vec<KeyAssert>,
    /// Too many keys to name (bulk loads of tables with unique keys): nothing may have been inserted into the table
    /// since the snapshot, and those who began before this commit and insert keys conflict with it.
    pub all_keys: bool,
    /// Keys of the table that foreign keys of other rows point at: nobody may have written them since the snapshot.
    pub key_reads: Vec<KeyAssert>,
    /// Too many of them to name: no row of the table may have been written since the snapshot.
    pub all_key_reads: bool,
    /// Every row was looked at, for a new constraint: none may have been written since the snapshot.
    pub unwritten: bool,
}

/// A claim on one unique key value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyAssert {
    /// Ordinal of the unique constraint among the table's constraints.
    pub constraint: u32,
    /// XXH3-64 of the key's row encoding. A false match costs a retry, never a wrong answer.
    pub hash: u64,
}

/// Delta rows `[first, end)` of a table were written as segments.
#[derive(Clone, Debug, PartialEq)]
pub struct Seal {
    /// The table.
    pub table: TableId,
    /// Column ids and types are those of this version or an older one.
    pub version: u64,
    /// First delta row id that was sealed.
    pub first: RowId,
    /// One past the last.
    pub end: RowId,
    /// The segments that hold those rows but the dropped ones.
    pub segments: Vec<SegmentMeta>,
    /// Rows that were deleted already and are in no segment.
    pub dropped: RowSet,
}

/// Segments of a table were written anew, with the same row ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Compact {
    /// The table.
    pub table: TableId,
    /// The segments that leave.
    pub inputs: Vec<SegmentId>,
    /// The segments that hold their rows but the dropped ones.
    pub outputs: Vec<SegmentMeta>,
    /// Rows that were deleted when the inputs were read and are in no output. What was deleted since is in an output and stays deleted.
    pub dropped: RowSet,
}

/// What became of an entry: the same on every replica, for ever.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    /// It happened, at this LSN.
    Committed(Lsn),
    /// A row it deletes was deleted by an earlier commit. SQLSTATE 40001.
    RowConflict {
        /// The table.
        table: TableId,
        /// The row.
        row: RowId,
    },
    /// A key it claims was written since its snapshot. SQLSTATE 40001; retrying finds the key and reports 23505.
    KeyConflict {
        /// The table.
        table: TableId,
        /// Ordinal of the constraint; `None` when a bulk load wrote too many keys to name.
        constraint: Option<u32>,
    },
    /// Something that it read and asserts was written since its snapshot. SQLSTATE 40001.
    ReadConflict {
        /// The table.
        table: TableId,
    },
    /// The table's definition changed, or it is gone. SQLSTATE 40001.
    SchemaConflict {
        /// The table.
        table: TableId,
    },
    /// A catalog change lost to an earlier one (name taken, object gone). SQLSTATE 40001; retrying reports the plain error.
    CatalogConflict(String),
    /// The snapshot is older than what the log remembers of keys or locks. SQLSTATE 40001.
    SnapshotTooOld,
    /// The snapshot is not in this log's past. A bug or a foreign client.
    FutureSnapshot,
    /// The entry contradicts itself or the state; nothing happened.
    Refused(String),
    /// A seal or a compaction that came too late (table gone, truncated, rows already sealed, segments compacted): its objects are orphans.
    Stale,
}

impl Outcome {
    /// The LSN when it committed.
    pub fn committed(&self) -> Option<Lsn> {
        match self {
            Outcome::Committed(lsn) => Some(*lsn),
            _ => None,
        }
    }

    /// True for outcomes where beginning again on a fresh snapshot may succeed.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Outcome::RowConflict { .. }
                | Outcome::KeyConflict { .. }
                | Outcome::ReadConflict { .. }
                | Outcome::SchemaConflict { .. }
                | Outcome::CatalogConflict(_)
                | Outcome::SnapshotTooOld
        )
    }
}

impl TableRead {
    /// True when it asserts nothing.
    pub fn is_empty(&self) -> bool {
        !self.whole && self.rows.is_empty() && self.absent.is_empty() && self.locked.is_empty() && self.shared.is_empty()
    }
}

/// Segment ids of a write, for messages and garbage collection.
impl TableWrite {
    /// The ids of the segments this write brings.
    pub fn segment_ids(&self) -> impl Iterator<Item = SegmentId> {
        self.segments.iter().map(|s| s.id)
    }
}
