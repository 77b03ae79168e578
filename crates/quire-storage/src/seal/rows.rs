//! Delta batches into encoded segments: no clock, no IO.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;
use quire_segment::EncodeOptions;
use quire_types::{ColumnDef, DeltaMeta, FIELD_COLUMN_ID, ROW_ID_FIELD, SEGMENT_ROWS, SegmentId, SegmentMeta, TableDef, Term};

use super::SealError;

/// Sorts the rows of all batches together by the clustering key and encodes them, a full segment at a time.
/// Each row keeps its id, in the hidden column.
pub(super) fn encode(
    def: &TableDef,
    batches: &[(DeltaMeta, Bytes)],
    term: Term,
    mut segment_id: impl FnMut() -> u64,
) -> Result<Vec<(SegmentMeta, Bytes)>, SealError> {
    let failed = |error: &dyn std::fmt::Display| SealError::Encode { table: def.id, reason: error.to_string() };
    let schema = with_row_ids(&def.arrow_schema());
    let mut decoded = Vec::new();
    for (delta, bytes) in batches {
        decode(def, &schema, delta, bytes, &mut decoded)?;
    }
    let rows = concat_batches(&schema, &decoded).map_err(|e| failed(&e))?;
    drop(decoded);
    let (rows, _) = quire_segment::sort_by_clustering(def, rows).map_err(|e| failed(&e))?;
    let mut segments = Vec::new();
    for start in (0..rows.num_rows()).step_by(SEGMENT_ROWS) {
        let part = rows.slice(start, SEGMENT_ROWS.min(rows.num_rows() - start));
        let encoded =
            quire_segment::encode(def, &part, SegmentId(segment_id()), EncodeOptions { row_ids: true }).map_err(|e| failed(&e))?;
        segments.push((SegmentMeta { term, ..encoded.meta }, encoded.bytes));
    }
    Ok(segments)
}

fn with_row_ids(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ROW_ID_FIELD, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

/// Appends the rows of one delta batch to `out`, with the table's present columns and their ids.
fn decode(def: &TableDef, schema: &SchemaRef, delta: &DeltaMeta, bytes: &Bytes, out: &mut Vec<RecordBatch>) -> Result<(), SealError> {
    let failed = |reason: String| SealError::Decode { table: def.id, first: delta.first, reason };
    // the decoder panics on some malformed streams, and one bad batch must not end the sealing of all tables
    let read = catch_unwind(AssertUnwindSafe(|| read_stream(bytes)));
    let (batch_schema, batches) = read.map_err(|_| failed("the decoder panicked".to_string()))?.map_err(|e| failed(e.to_string()))?;
    let order = columns(def, &batch_schema).ok_or(SealError::Columns { table: def.id, first: delta.first, version: delta.version })?;
    let mut next = delta.first.0;
    for batch in batches {
        let column = |(at, def): (&Option<usize>, &ColumnDef)| match at {
            Some(at) => Ok(batch.column(*at).clone()),
            None => quire_segment::missing_values(def, batch.num_rows()).map_err(|e| failed(e.to_string())),
        };
        let mut arrays: Vec<ArrayRef> = order.iter().zip(&def.columns).map(column).collect::<Result<_, _>>()?;
        let end = next + batch.num_rows() as u64;
        arrays.push(Arc::new(Int64Array::from_iter_values((next..end).map(|id| id as i64))));
        next = end;
        out.push(RecordBatch::try_new(schema.clone(), arrays).map_err(|e| failed(e.to_string()))?);
    }
    if next != delta.first.0 + delta.rows {
        return Err(failed(format!("{} rows announced, {} there", delta.rows, next - delta.first.0)));
    }
    Ok(())
}

/// The schema and batches of an Arrow IPC stream. Shares its bytes, and never believes a length that it announces.
fn read_stream(bytes: &Bytes) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let mut buffer = Buffer::from(bytes.clone());
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut buffer)? {
        batches.push(batch);
    }
    decoder.finish()?;
    let schema = decoder.schema().ok_or_else(|| ArrowError::IpcError("a stream without a schema".to_string()))?;
    Ok((schema, batches))
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
