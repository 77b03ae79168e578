//! Segments into one sorted run of segments: no clock, no IO.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use bytes::Bytes;
use quire_segment::{Footer, SegmentError, decode};
use quire_types::{ColumnId, PageRead, ROW_ID_COLUMN, RowId, RowIds, RowSet, SegmentMeta, SqlType, TableDef, Term, page_checksum};

use crate::rewrite;

/// Why segments do not merge.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    /// A page is not what the manifest says.
    #[error("page {page} of {object} has a wrong checksum")]
    Damaged {
        /// The page.
        page: quire_types::PageId,
        /// Its object.
        object: String,
    },
    /// Rows do not decode or encode.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// An Arrow kernel failed.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// What a merge makes.
pub(crate) struct Merged {
    /// Segments with their objects.
    pub(crate) segments: Vec<(SegmentMeta, Bytes)>,
    /// Deleted rows, which are in none of them.
    pub(crate) dropped: RowSet,
}

/// Columns of the table that the segment has. A column that was added to the table later is not written: what older rows have in it
/// is decided where they are read.
pub(crate) fn columns_of(def: &TableDef, segment: &SegmentMeta) -> Vec<ColumnId> {
    def.columns.iter().map(|c| c.id).filter(|id| segment.column_ordinal(*id).is_some()).collect()
}

/// Reads whole objects, all of which have the same columns, leaves out deleted rows, and sorts and encodes the others. Rows keep their ids.
pub(crate) fn merge(
    def: &TableDef,
    inputs: &[(Arc<SegmentMeta>, Bytes)],
    deleted: &RowSet,
    term: Term,
    segment_id: impl FnMut() -> u64,
) -> Result<Merged, MergeError> {
    let kept = inputs.first().map(|(segment, _)| columns_of(def, segment)).unwrap_or_default();
    let mut narrow = def.clone();
    narrow.columns.retain(|c| kept.contains(&c.id));
    let schema = rewrite::with_row_ids(&narrow.arrow_schema_nullable());
    let (mut batches, mut dropped) = (Vec::new(), RowSet::default());
    for (segment, object) in inputs {
        let footer = Footer::parse(segment)?;
        let mut first_row = 0;
        for (row_group, meta) in segment.row_groups.iter().enumerate() {
            let page = |column, ty| page(&footer, segment, row_group, column, ty, object);
            let mut arrays = narrow.columns.iter().map(|c| page(c.id, c.ty)).collect::<Result<Vec<_>, _>>()?;
            arrays.push(match segment.row_ids {
                RowIds::Base(base) => {
                    let first = base.0 + first_row;
                    Arc::new(Int64Array::from_iter_values((first..first + u64::from(meta.rows)).map(|id| id as i64)))
                }
                RowIds::Column => page(ROW_ID_COLUMN, SqlType::Int8)?,
            });
            first_row += u64::from(meta.rows);
            let rows = RecordBatch::try_new(schema.clone(), arrays)?;
            batches.push(rewrite::without_deleted(rows, deleted, &mut dropped)?);
        }
    }
    let rows = concat_batches(&schema, &batches)?;
    drop(batches);
    Ok(Merged { segments: rewrite::encode(&narrow, rows, term, segment_id)?, dropped })
}

fn page(
    footer: &Footer,
    segment: &SegmentMeta,
    row_group: usize,
    column: ColumnId,
    ty: SqlType,
    object: &Bytes,
) -> Result<ArrayRef, MergeError> {
    let missing = || SegmentError::Inconsistent(format!("segment {} has no column {column}", segment.id));
    let read = segment.page_read(row_group, column).ok_or_else(missing)?;
    let end = read.offset.saturating_add(u64::from(read.length));
    if end > object.len() as u64 {
        return Err(damaged(segment, &read));
    }
    let bytes = object.slice(read.offset as usize..end as usize);
    decode_page(footer, segment, &read, ty, bytes)
}

fn decode_page(footer: &Footer, segment: &SegmentMeta, read: &PageRead, ty: SqlType, bytes: Bytes) -> Result<ArrayRef, MergeError> {
    if page_checksum(&bytes) != read.checksum {
        return Err(damaged(segment, read));
    }
    Ok(decode(footer, segment, read.page.row_group as usize, read.page.column, ty, bytes)?)
}

fn damaged(segment: &SegmentMeta, read: &PageRead) -> MergeError {
    MergeError::Damaged { page: read.page, object: SegmentMeta::object_key(segment.table, segment.id, segment.term) }
}

/// The reads of a segment's row id pages, one a row group; none when ids are implicit.
pub(crate) fn row_id_reads(segment: &SegmentMeta) -> Vec<PageRead> {
    (0..segment.row_groups.len()).filter_map(|row_group| segment.page_read(row_group, ROW_ID_COLUMN)).collect()
}

/// Which rows of a segment are deleted, by its row id pages in the order of [`row_id_reads`].
pub(crate) fn deleted_of(segment: &SegmentMeta, pages: Vec<Bytes>, deleted: &RowSet) -> Result<RowSet, MergeError> {
    if let RowIds::Base(_) = segment.row_ids {
        return Ok(deleted.iter_from(segment.row_id_min).take_while(|row| *row <= segment.row_id_max).collect());
    }
    let footer = Footer::parse(segment)?;
    let mut found = RowSet::default();
    for (read, bytes) in row_id_reads(segment).iter().zip(pages) {
        let ids = decode_page(&footer, segment, read, SqlType::Int8, bytes)?;
        let ids = ids.as_primitive::<Int64Type>().values().iter().map(|id| RowId(*id as u64));
        found.extend(ids.filter(|row| deleted.contains(*row)));
    }
    Ok(found)
}
