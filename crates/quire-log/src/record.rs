use quire_types::{Lsn, Outcome, RowId, RowSet, TableId, TxnId};

/// What a replica writes down beside the changes, so that after a restart it decides as if there had been none.
/// Each has a key of its own; a later record with the same key replaces the earlier one.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// How far the state has come. One only.
    Position {
        /// The view's LSN.
        lsn: Lsn,
        /// The number that the next outcome gets.
        next_outcome: u64,
        /// Keys claimed at or before this LSN have been forgotten.
        window_floor: Lsn,
        /// Row locks of commits at or before this LSN have been forgotten.
        locks_floor: Lsn,
    },
    /// The outcome of a transaction. Key: the number.
    Outcome {
        /// Counts outcomes in log order.
        number: u64,
        /// The transaction.
        txn_id: TxnId,
        /// What it was told.
        outcome: Outcome,
    },
    /// Outcomes with smaller numbers are forgotten: delete them.
    OutcomesTrimmed {
        /// The smallest number kept.
        below: u64,
    },
    /// Unique keys claimed by the commit at `lsn`. Key: the LSN.
    Keys {
        /// The commit.
        lsn: Lsn,
        /// (table, ordinal of the constraint, hash of the key).
        keys: Vec<(TableId, u32, u64)>,
    },
    /// Keys claimed at or before this LSN are forgotten: delete them.
    KeysTrimmed {
        /// The last LSN forgotten.
        through: Lsn,
    },
    /// Deleted rows that left the store by the entry at `lsn`. Key: the LSN.
    Purged {
        /// The seal or compaction.
        lsn: Lsn,
        /// The table.
        table: TableId,
        /// The rows.
        rows: RowSet,
    },
    /// Rows purged at or before this LSN are forgotten: delete them.
    PurgedTrimmed {
        /// The last LSN forgotten.
        through: Lsn,
    },
    /// Rows that the commit at `lsn` had locked. Key: the LSN.
    Locks {
        /// The commit.
        lsn: Lsn,
        /// (table, row, whether FOR SHARE only).
        locks: Vec<(TableId, RowId, bool)>,
    },
    /// Locks of commits at or before this LSN are forgotten: delete them.
    LocksTrimmed {
        /// The last LSN forgotten.
        through: Lsn,
    },
    /// When a table was last written. Key: the table.
    Table {
        /// The table.
        table: TableId,
        /// The LSNs.
        lsns: TableLsns,
    },
    /// The table is gone: delete its record.
    TableGone(TableId),
}

/// When a table was last written, in the ways that certification asks about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableLsns {
    /// The last commit that inserted rows.
    pub insert: Lsn,
    /// The last commit that inserted, deleted or truncated.
    pub write: Lsn,
    /// The last bulk load, which claimed keys without naming them.
    pub all_keys: Lsn,
    /// Rows purged at or before this LSN are forgotten: what a transaction with an older snapshot deletes may be gone.
    pub purged: Lsn,
    /// The last commit that had locked rows.
    pub locks: Lsn,
    /// The last commit whose foreign keys pointed at keys of the table.
    pub key_read: Lsn,
    /// The last that did so without naming them.
    pub all_key_reads: Lsn,
}
