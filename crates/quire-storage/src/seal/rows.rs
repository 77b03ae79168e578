//! Delta batches into encoded segments: no clock, no IO.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use quire_segment::RowDecoder;
use quire_types::{ColumnDef, DeltaMeta, FIELD_COLUMN_ID, RowSet, SegmentMeta, TableDef, Term};

use super::SealError;
use crate::rewrite;

/// What one seal writes.
pub(crate) struct Encoded {
    /// Segments with their objects.
    pub(crate) segments: Vec<(SegmentMeta, Bytes)>,
    /// Deleted rows, which are in none of them.
    pub(crate) dropped: RowSet,
}

/// Sorts the rows of all batches together by the clustering key and encodes them, a full segment at a time.
/// Each row keeps its id, in the hidden column; deleted ones are left out.
pub(crate) fn encode(
    def: &TableDef,
    batches: &[(DeltaMeta, Bytes)],
    deleted: &RowSet,
    term: Term,
    segment_id: impl FnMut() -> u64,
) -> Result<Encoded, SealError> {
    let failed = |reason: String| SealError::Encode { table: def.id, reason };
    let schema = rewrite::with_row_ids(&def.arrow_schema());
    let decoder = RowDecoder::default();
    let decoded = batches.iter().map(|(delta, bytes)| decode(&decoder, def, delta, bytes).map(|rows| (*delta, rows)));
    let decoded = decoded.collect::<Result<Vec<_>, SealError>>()?;
    let (mut rows, mut dropped) = (Vec::new(), RowSet::default());
    // Most batches are a row or two, and nearly all have the same columns: those are put together first.
    for alike in decoded.chunk_by(|(_, a), (_, b)| Arc::ptr_eq(a.schema_ref(), b.schema_ref())) {
        let together = with_row_ids(def, &schema, alike)?;
        rows.push(rewrite::without_deleted(together, deleted, &mut dropped).map_err(|e| failed(e.to_string()))?);
    }
    drop(decoded);
    let rows = concat_batches(&schema, &rows).map_err(|e| failed(e.to_string()))?;
    let segments = rewrite::encode(def, rows, term, segment_id).map_err(|e| failed(e.to_string()))?;
    Ok(Encoded { segments, dropped })
}

fn decode(decoder: &RowDecoder, def: &TableDef, delta: &DeltaMeta, bytes: &Bytes) -> Result<RecordBatch, SealError> {
    let failed = |reason: String| SealError::Decode { table: def.id, first: delta.first, reason };
    let batch = decoder.decode(bytes).map_err(|e| failed(e.to_string()))?;
    match batch.num_rows() as u64 {
        rows if rows == delta.rows => Ok(batch),
        rows => Err(failed(format!("{} rows announced, {rows} there", delta.rows))),
    }
}

/// The rows of delta batches that have the same columns, with the table's present columns and their ids.
fn with_row_ids(def: &TableDef, schema: &SchemaRef, alike: &[(DeltaMeta, RecordBatch)]) -> Result<RecordBatch, SealError> {
    let Some((delta, first)) = alike.first() else { return Ok(RecordBatch::new_empty(schema.clone())) };
    let failed = |reason: String| SealError::Decode { table: def.id, first: delta.first, reason };
    let order = columns(def, first.schema_ref());
    let order = order.ok_or(SealError::Columns { table: def.id, first: delta.first, version: delta.version })?;
    let rows = concat_batches(first.schema_ref(), alike.iter().map(|(_, rows)| rows)).map_err(|e| failed(e.to_string()))?;
    let column = |(at, def): (&Option<usize>, &ColumnDef)| match at {
        Some(at) => Ok(rows.column(*at).clone()),
        None => quire_segment::missing_values(def, rows.num_rows()).map_err(|e| failed(e.to_string())),
    };
    let mut arrays: Vec<ArrayRef> = order.iter().zip(&def.columns).map(column).collect::<Result<_, _>>()?;
    let ids = alike.iter().flat_map(|(delta, _)| delta.first.0..delta.first.0 + delta.rows);
    arrays.push(Arc::new(Int64Array::from_iter_values(ids.map(|id| id as i64))));
    RecordBatch::try_new(schema.clone(), arrays).map_err(|e| failed(e.to_string()))
}

/// For each column of the table its position in a batch of this schema, when the batch has it; `None` when a type differs, or nothing
/// tells which column is which.
fn columns(def: &TableDef, schema: &Schema) -> Option<Vec<Option<usize>>> {
    let by_id: HashMap<u32, usize> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| Some((field.metadata().get(FIELD_COLUMN_ID)?.parse().ok()?, i)))
        .collect::<Option<_>>()?;
    if by_id.len() != schema.fields().len() {
        return None;
    }
    def.columns
        .iter()
        .map(|column| match by_id.get(&column.id.0) {
            Some(&i) if *schema.field(i).data_type() == column.ty.arrow() => Some(Some(i)),
            Some(_) => None,
            None => Some(None),
        })
        .collect()
}
