use bytes::Bytes;

use crate::{ColumnId, Datum, PageId, RowId, SegmentId, TableId, Term, page_source::PageRead};

/// How the rows of a segment got their row ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowIds {
    /// Row `i` of the segment is `base + i`. Bulk loads: the base is filled in when the commit is applied.
    Base(RowId),
    /// In the hidden column [`crate::ROW_ID_COLUMN`]: sealed or compacted rows, reordered by the clustering key.
    Column,
}

/// A segment's entry in the manifest: enough to prune it, fetch any page of it and decode that page
/// without another read.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentMeta {
    /// The segment.
    pub id: SegmentId,
    /// The table whose rows it holds.
    pub table: TableId,
    /// The Raft term known to the writer, part of the object's name.
    pub term: Term,
    /// Rows in all row groups.
    pub rows: u64,
    /// Length of the object in bytes.
    pub bytes: u64,
    /// Where row ids come from.
    pub row_ids: RowIds,
    /// Smallest and largest row id (inclusive) when known by the log; meaningless while `rows == 0`.
    pub row_id_min: RowId,
    /// See `row_id_min`.
    pub row_id_max: RowId,
    /// The Parquet footer (thrift `FileMetaData`, without length and magic), for decoding.
    pub footer: Bytes,
    /// Columns in file order, [`crate::ROW_ID_COLUMN`] last when present.
    pub columns: Vec<ColumnStats>,
    /// Row groups in file order.
    pub row_groups: Vec<RowGroupMeta>,
}

/// Whole-segment facts about one column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnStats {
    /// The column.
    pub column: ColumnId,
    /// A serialized HyperLogLog sketch of its values (Apache DataSketches format); empty when not kept.
    pub sketch: Bytes,
}

/// One row group.
#[derive(Clone, Debug, PartialEq)]
pub struct RowGroupMeta {
    /// Rows in it.
    pub rows: u32,
    /// One page a column, in the order of [`SegmentMeta::columns`].
    pub pages: Vec<PageMeta>,
}

/// One page: where its bytes are and what they hold.
#[derive(Clone, Debug, PartialEq)]
pub struct PageMeta {
    /// First byte within the object.
    pub offset: u64,
    /// Encoded length in bytes.
    pub length: u32,
    /// XXH3-64 of the encoded bytes.
    pub checksum: u64,
    /// NULLs among the row group's rows.
    pub nulls: u32,
    /// Lower bound of the non-null values, when the type has one and a value exists.
    pub min: Option<Datum>,
    /// Upper bound, likewise.
    pub max: Option<Datum>,
}

impl SegmentMeta {
    /// The key of the segment's object: the table, the segment, and the term that wrote it.
    pub fn object_key(table: TableId, segment: SegmentId, term: Term) -> String {
        format!("segments/{}/{:016x}-{}.parquet", table.0, segment.0, term.0)
    }

    /// The ordinal of `column` in this segment; `None` when the column was added after the segment was written.
    pub fn column_ordinal(&self, column: ColumnId) -> Option<usize> {
        self.columns.iter().position(|c| c.column == column)
    }

    /// The request for one page, or `None` when this segment has no such column.
    pub fn page_read(&self, row_group: usize, column: ColumnId) -> Option<PageRead> {
        let ordinal = self.column_ordinal(column)?;
        let page = self.row_groups.get(row_group)?.pages.get(ordinal)?;
        Some(PageRead {
            page: PageId { segment: self.id, row_group: row_group as u32, column },
            table: self.table,
            term: self.term,
            offset: page.offset,
            length: page.length,
            checksum: page.checksum,
        })
    }
}
