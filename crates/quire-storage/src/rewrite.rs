//! What sealing and compaction have in common: rows with their ids, sorted and encoded. No clock, no IO.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use quire_segment::{EncodeOptions, SegmentError};
use quire_types::{ROW_ID_FIELD, RowId, RowSet, SEGMENT_ROWS, SegmentId, SegmentMeta, TableDef, Term};

/// The schema with the row id after the other columns.
pub(crate) fn with_row_ids(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ROW_ID_FIELD, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

/// Leaves out deleted rows, and notes in `dropped` which they were. The last column of `rows` is the row id.
pub(crate) fn without_deleted(rows: RecordBatch, deleted: &RowSet, dropped: &mut RowSet) -> Result<RecordBatch, ArrowError> {
    let Some(last) = rows.num_columns().checked_sub(1).filter(|_| !deleted.is_empty()) else { return Ok(rows) };
    let ids = rows.column(last).as_primitive::<Int64Type>().values();
    let live = BooleanArray::new(deleted.absent_of(ids).collect(), None);
    if live.true_count() == live.len() {
        return Ok(rows);
    }
    dropped.extend(ids.iter().zip(live.values()).filter(|(_, live)| !live).map(|(id, _)| RowId(*id as u64)));
    filter_record_batch(&rows, &live)
}

/// Sorts rows by the clustering key and encodes them, a full segment at a time; none makes no segment.
pub(crate) fn encode(
    def: &TableDef,
    rows: RecordBatch,
    term: Term,
    mut segment_id: impl FnMut() -> u64,
) -> Result<Vec<(SegmentMeta, Bytes)>, SegmentError> {
    let (rows, _) = quire_segment::sort_by_clustering(def, rows)?;
    let mut segments = Vec::new();
    for start in (0..rows.num_rows()).step_by(SEGMENT_ROWS) {
        let part = rows.slice(start, SEGMENT_ROWS.min(rows.num_rows() - start));
        let encoded = quire_segment::encode(def, &part, SegmentId(segment_id()), EncodeOptions { row_ids: true })?;
        segments.push((SegmentMeta { term, ..encoded.meta }, encoded.bytes));
    }
    Ok(segments)
}
