//! Delta rows as bytes: what one commit inserted into one table.
//!
//! An Arrow IPC stream begins with its schema, for one row as for a million. Here columns are named by their ids and SQL types, and the
//! rows follow as one IPC message. docs/formats.md has it byte by byte.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow::ipc::{MetadataVersion, reader, root_as_message};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use quire_types::{FIELD_COLUMN_ID, SqlType};

use crate::SegmentError;

/// The first byte.
const FORMAT: u8 = 1;
const ALIGNMENT: usize = 8;
/// Schemas remembered; a table has one, and one more for each time its columns changed while rows were in the delta.
const SCHEMAS_MAX: usize = 1024;

/// Encodes rows of a table, in its schema (`TableDef::arrow_schema`). An error for fields without a column id, or of a type that no column has.
pub fn encode_rows(rows: &RecordBatch) -> Result<Bytes, SegmentError> {
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
    let mut dictionaries = DictionaryTracker::new(true);
    let (_, encoded) = IpcDataGenerator {}.encode(rows, &mut dictionaries, &options, &mut Default::default())?;
    let columns = rows.num_columns();
    let mut out = BytesMut::with_capacity(24 + columns * 32 + encoded.ipc_message.len() + encoded.arrow_data.len());
    out.put_u8(FORMAT);
    out.put_u16_le(u16::try_from(columns).map_err(|_| inconsistent("too many columns"))?);
    for field in rows.schema_ref().fields() {
        let id: Option<u32> = field.metadata().get(FIELD_COLUMN_ID).and_then(|id| id.parse().ok());
        let ty = SqlType::of_field(field).filter(|ty| ty.arrow() == *field.data_type());
        let (Some(id), Some(ty)) = (id, ty) else { return Err(inconsistent("a field that is no column of a table")) };
        let name = ty.name();
        out.put_u32_le(id);
        out.put_u8(name.len() as u8);
        out.put_slice(name.as_bytes());
    }
    out.put_u32_le(encoded.ipc_message.len() as u32);
    out.put_bytes(0, out.len().next_multiple_of(ALIGNMENT) - out.len());
    out.put_slice(&encoded.ipc_message);
    out.put_bytes(0, out.len().next_multiple_of(ALIGNMENT) - out.len());
    out.put_slice(&encoded.arrow_data);
    Ok(out.freeze())
}

/// Decodes rows; remembers schemas, which are the same for most.
#[derive(Debug, Default)]
pub struct RowDecoder {
    schemas: Mutex<HashMap<Bytes, SchemaRef>>,
}

impl RowDecoder {
    /// The inverse of [`encode_rows`]: fields carry column ids and SQL types, and no names. Shares the bytes where they are aligned, and
    /// believes no length in them.
    pub fn decode(&self, bytes: &Bytes) -> Result<RecordBatch, SegmentError> {
        let (header, length) = header(bytes)?;
        let schema = self.schema(bytes.slice(..header))?;
        let start = (header + 4).next_multiple_of(ALIGNMENT);
        let end = start.checked_add(length).filter(|end| *end <= bytes.len()).ok_or_else(|| inconsistent("it ends too early"))?;
        let message = root_as_message(&bytes[start..end]).map_err(|e| inconsistent(&e.to_string()))?;
        let batch = message.header_as_record_batch().ok_or_else(|| inconsistent("no rows"))?;
        let body = Buffer::from(bytes.slice(end.next_multiple_of(ALIGNMENT).min(bytes.len())..));
        let read = || reader::read_record_batch(&body, batch, schema, &HashMap::new(), None, &message.version());
        // It panics on some malformed messages.
        let rows = catch_unwind(AssertUnwindSafe(read)).map_err(|_| inconsistent("the decoder panicked"))?;
        Ok(rows?)
    }

    fn schema(&self, header: Bytes) -> Result<SchemaRef, SegmentError> {
        let mut schemas = self.schemas.lock();
        if let Some(schema) = schemas.get(&header) {
            return Ok(schema.clone());
        }
        let schema = Arc::new(schema_of(header.clone())?);
        if schemas.len() >= SCHEMAS_MAX {
            schemas.clear();
        }
        // A copy: the key must not keep the rows behind it.
        schemas.insert(Bytes::copy_from_slice(&header), schema.clone());
        Ok(schema)
    }
}

/// Where the columns end, and the length of the message behind them.
fn header(bytes: &Bytes) -> Result<(usize, usize), SegmentError> {
    let short = || inconsistent("it ends too early");
    let mut rest = bytes.as_ref();
    if rest.try_get_u8().map_err(|_| short())? != FORMAT {
        return Err(inconsistent("they are of another format"));
    }
    let columns = rest.try_get_u16_le().map_err(|_| short())?;
    for _ in 0..columns {
        rest.try_get_u32_le().map_err(|_| short())?;
        let name = usize::from(rest.try_get_u8().map_err(|_| short())?);
        rest = rest.get(name..).ok_or_else(short)?;
    }
    let header = bytes.len() - rest.len();
    Ok((header, rest.try_get_u32_le().map_err(|_| short())? as usize))
}

/// The schema that a header, which was walked through before, tells of.
fn schema_of(mut header: Bytes) -> Result<Schema, SegmentError> {
    header.advance(1);
    let columns = header.get_u16_le();
    let field = |_: u16| -> Result<Field, SegmentError> {
        let id = header.get_u32_le();
        let length = usize::from(header.get_u8());
        let name = header.split_to(length);
        let ty = std::str::from_utf8(&name).ok().and_then(SqlType::parse_name).ok_or_else(|| inconsistent("a type that is none"))?;
        let field = ty.field("", true);
        let mut metadata = field.metadata().clone();
        metadata.insert(FIELD_COLUMN_ID.to_string(), id.to_string());
        Ok(field.with_metadata(metadata))
    };
    Ok(Schema::new((0..columns).map(field).collect::<Result<Vec<_>, SegmentError>>()?))
}

fn inconsistent(reason: &str) -> SegmentError {
    SegmentError::Inconsistent(format!("delta rows: {reason}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{ArrayRef, BinaryViewArray, BooleanArray, Decimal128Array, Int32Array, StringViewArray};
    use proptest::prelude::*;

    use super::*;

    fn rows(count: usize) -> RecordBatch {
        let types =
            [SqlType::Int4, SqlType::Varchar(Some(20)), SqlType::Numeric { precision: 15, scale: 2 }, SqlType::Bool, SqlType::Bytea];
        let field = |(i, ty): (usize, &SqlType)| {
            let field = ty.field("c", true);
            let mut metadata = field.metadata().clone();
            metadata.insert(FIELD_COLUMN_ID.to_string(), (i + 7).to_string());
            field.with_metadata(metadata)
        };
        let schema = Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>());
        let null = |i: usize| i % 5 != 3;
        let columns: Vec<ArrayRef> = vec![
            Arc::new((0..count).map(|i| null(i).then_some(i as i32)).collect::<Int32Array>()),
            Arc::new((0..count).map(|i| null(i).then(|| format!("the value of number {i}"))).collect::<StringViewArray>()),
            Arc::new((0..count).map(|i| Some(i as i128)).collect::<Decimal128Array>().with_precision_and_scale(15, 2).unwrap()),
            Arc::new((0..count).map(|i| null(i).then_some(i % 2 == 0)).collect::<BooleanArray>()),
            Arc::new((0..count).map(|i| Some(vec![i as u8; i % 30])).collect::<BinaryViewArray>()),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    #[test]
    fn rows_come_back_and_one_is_small() {
        let decoder = RowDecoder::default();
        for count in [1, 2, 100, 5000] {
            let (rows, bytes) = (rows(count), encode_rows(&rows(count)).unwrap());
            let decoded = decoder.decode(&bytes).unwrap();
            assert_eq!(decoded.columns(), rows.columns());
            let ids = |batch: &RecordBatch| batch.schema().fields().iter().map(|f| f.metadata().clone()).collect::<Vec<_>>();
            assert_eq!(ids(&decoded), ids(&rows));
        }
        assert_eq!(decoder.schemas.lock().len(), 1);
        assert!(encode_rows(&rows(1)).unwrap().len() < 900, "{}", encode_rows(&rows(1)).unwrap().len());
    }

    #[test]
    fn fields_that_are_no_columns_are_refused() {
        let schema = Schema::new(vec![SqlType::Int4.field("a", true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int32Array::from(vec![1]))]).unwrap();
        assert!(encode_rows(&batch).is_err());
    }

    proptest! {
        /// Whatever the bytes, decoding ends: with rows or an error.
        #[test]
        fn damaged_bytes_are_an_error_or_rows(flips in prop::collection::vec((0usize..2000, any::<u8>()), 1..8), cut in 0usize..2000) {
            let mut bytes = encode_rows(&rows(9)).unwrap().to_vec();
            for (at, with) in flips {
                let at = at % bytes.len();
                bytes[at] ^= with;
            }
            bytes.truncate(cut);
            let _either = RowDecoder::default().decode(&Bytes::from(bytes));
        }
    }
}
