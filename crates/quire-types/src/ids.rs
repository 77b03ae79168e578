use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name(pub $inner);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// A position in the log: the commit order, handed out as entries are applied. 0 is "before everything".
    Lsn, u64
);
id!(
    /// A transaction's name, chosen at random by the compute node that runs it; the key of idempotency.
    TxnId, u128
);
id!(
    /// A storage node's number in its Raft group.
    NodeId, u64
);
id!(
    /// A Raft term. Object names carry the term that wrote them (fencing).
    Term, u64
);
id!(
    /// A schema (namespace). Shown to clients as its oid.
    SchemaId, u32
);
id!(
    /// A table or view, for ever: names change, ids do not. Shown to clients as its oid.
    TableId, u32
);
id!(
    /// A column within its table, never reused, outliving renames; the Parquet field id.
    ColumnId, u32
);
id!(
    /// A row within its table: handed out in commit order when the log entry is applied, never reused.
    RowId, u64
);
id!(
    /// A segment object, chosen at random by the node that wrote it.
    SegmentId, u64
);

/// The hidden column of a segment whose rows were reordered after they got their row ids.
pub const ROW_ID_COLUMN: ColumnId = ColumnId(u32::MAX);
/// Its name, in segments and wherever row ids are a column.
pub const ROW_ID_FIELD: &str = "_quire_row_id";

/// One column of one row group of a segment: the unit of transfer, checksum, caching and pruning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct PageId {
    /// The segment that holds the page.
    pub segment: SegmentId,
    /// The row group's ordinal within the segment.
    pub row_group: u32,
    /// The column.
    pub column: ColumnId,
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}/{}", self.segment.0, self.row_group, self.column.0)
    }
}
