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
    let (mut decoded, mut dropped) = (Vec::new(), RowSet::default());
    let decoder = RowDecoder::default();
    for (delta, bytes) in batches {
        decode(&decoder, def, &schema, delta, bytes, deleted, &mut dropped, &mut decoded)?;
    }
    let rows = concat_batches(&schema, &decoded).map_err(|e| failed(e.to_string()))?;
    drop(decoded);
    let segments = rewrite::encode(def, rows, term, segment_id).map_err(|e| failed(e.to_string()))?;
    Ok(Encoded { segments, dropped })
}

/// Appends the rows of one delta batch that are not deleted to `out`, with the table's present columns and their ids.
#[allow(clippy::too_many_arguments)]
fn decode(
    decoder: &RowDecoder,
    def: &TableDef,
    schema: &SchemaRef,
    delta: &DeltaMeta,
    bytes: &Bytes,
    deleted: &RowSet,
    dropped: &mut RowSet,
    out: &mut Vec<RecordBatch>,
) -> Result<(), SealError> {
    let failed = |reason: String| SealError::Decode { table: def.id, first: delta.first, reason };
    let batch = decoder.decode(bytes).map_err(|e| failed(e.to_string()))?;
    let order = columns(def, &batch.schema()).ok_or(SealError::Columns { table: def.id, first: delta.first, version: delta.version })?;
    let column = |(at, def): (&Option<usize>, &ColumnDef)| match at {
        Some(at) => Ok(batch.column(*at).clone()),
        None => quire_segment::missing_values(def, batch.num_rows()).map_err(|e| failed(e.to_string())),
    };
    let mut arrays: Vec<ArrayRef> = order.iter().zip(&def.columns).map(column).collect::<Result<_, _>>()?;
    let (first, rows) = (delta.first.0, batch.num_rows() as u64);
    if rows != delta.rows {
        return Err(failed(format!("{} rows announced, {rows} there", delta.rows)));
    }
    arrays.push(Arc::new(Int64Array::from_iter_values((first..first + rows).map(|id| id as i64))));
    let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(|e| failed(e.to_string()))?;
    out.push(rewrite::without_deleted(batch, deleted, dropped).map_err(|e| failed(e.to_string()))?);
    Ok(())
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
