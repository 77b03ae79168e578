//! The nouns of Quire: positions, identifiers, catalog, manifests, commits, views.
//!
//! Every other crate speaks these words; none of them is defined twice. This crate does no IO, knows
//! no clock and holds no policy: what a commit *means* is decided in `quire-log`, how bytes look on the
//! wire and on disk in `quire-proto`, how rows become Parquet in `quire-segment`.
//!
//! Data goes through it in one direction: the storage service applies a [`Commit`] to its [`View`] and
//! says what happened as [`Change`]s; a compute node applies the same changes to its own [`View`] and so
//! sees exactly what the log says at one [`Lsn`].
#![forbid(unsafe_code)]

mod ids;
pub use ids::{ColumnId, Lsn, NodeId, PageId, ROW_ID_COLUMN, ROW_ID_FIELD, RowId, SchemaId, SegmentId, TableId, Term, TxnId};

mod datum;
pub use datum::Datum;

mod sql_type;
pub use sql_type::{FIELD_COLUMN_ID, FIELD_SQL_TYPE, SqlType};

mod catalog;
pub use catalog::{
    Catalog, CatalogChange, ColumnDef, ConstraintDef, ConstraintKind, DEFAULT_SCHEMA, Deferrable, Generated, MadeSchemas,
    ReferentialAction, SchemaDef, TableDef, ViewDef, ViewRead,
};

mod comment;
pub use comment::CommentTarget;

mod sequence;
pub use sequence::{SequenceDef, SequencePosition};

mod manifest;
pub use manifest::{ColumnStats, PageMeta, RowGroupMeta, RowIds, SegmentMeta};

mod commit;
pub use commit::{Commit, Compact, Isolation, KeyAssert, LogEntry, Outcome, Seal, TableRead, TableWrite};

mod row_set;
pub use row_set::RowSet;

mod delta;
pub use delta::{Delta, DeltaMeta};

mod view;
pub use view::{Change, TableView, View};

mod page_source;
pub use page_source::{PageError, PageRead, PageSource};

/// Page bytes in one reply: 13 ms of a 10 Gbit/s link, so a small scan never waits long behind a big one.
pub const READ_BYTES_MAX: usize = 16 << 20;
/// The encoder closes a row group early to keep every page below this.
pub const PAGE_BYTES_MAX: usize = 8 << 20;
const _: () = assert!(PAGE_BYTES_MAX <= READ_BYTES_MAX, "one page always fits in one reply");
/// Rows of a full row group: the unit of pruning and of work sharing.
pub const ROW_GROUP_ROWS: usize = 131_072;
/// Row groups of a full segment.
pub const SEGMENT_ROW_GROUPS: usize = 8;
/// Rows of a full segment: large enough that an object store's request cost disappears.
pub const SEGMENT_ROWS: usize = ROW_GROUP_ROWS * SEGMENT_ROW_GROUPS;

/// The checksum of a page's encoded bytes, as kept in the manifest: XXH3-64.
pub fn page_checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}
