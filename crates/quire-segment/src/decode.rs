use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use quire_types::{ColumnId, SegmentMeta, SqlType};

use crate::{SegmentError, interval};

/// A segment's parsed footer: parsed once, used for every page.
#[derive(Clone, Debug)]
pub struct Footer {
    reader: ArrowReaderMetadata,
    sorted_by: Vec<ColumnId>,
}

impl Footer {
    /// Parses the footer that the manifest carries.
    pub fn parse(segment: &SegmentMeta) -> Result<Footer, SegmentError> {
        let parse = || -> Result<Footer, SegmentError> {
            let metadata = Arc::new(ParquetMetaDataReader::decode_metadata(&segment.footer)?);
            let columns = metadata.file_metadata().schema_descr().num_columns();
            if metadata.num_row_groups() != segment.row_groups.len() || columns != segment.columns.len() {
                return Err(SegmentError::Inconsistent(format!("footer and manifest of segment {} disagree", segment.id)));
            }
            let plain = ArrowReaderMetadata::try_new(metadata.clone(), ArrowReaderOptions::new().with_skip_arrow_metadata(true))?;
            let fields: Vec<Field> = plain.schema().fields().iter().map(|f| in_memory(f)).collect();
            let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
            let sorted_by = sorted_by(&metadata, segment);
            Ok(Footer { reader: ArrowReaderMetadata::try_new(metadata, options)?, sorted_by })
        };
        guarded("footer", parse)
    }

    /// The columns that the rows of each row group ascend by, NULLs last, the first one first. None where the file does not say: segments
    /// were written before files did.
    pub fn sorted_by(&self) -> &[ColumnId] {
        &self.sorted_by
    }
}

fn sorted_by(metadata: &ParquetMetaData, segment: &SegmentMeta) -> Vec<ColumnId> {
    let sorting = |group: &RowGroupMetaData| group.sorting_columns().cloned().unwrap_or_default();
    let first = metadata.row_groups().first().map(sorting).unwrap_or_default();
    if metadata.row_groups().iter().any(|group| sorting(group) != first) {
        return vec![];
    }
    let ascending = first.iter().take_while(|column| !column.descending && !column.nulls_first);
    ascending.map_while(|column| Some(segment.columns.get(usize::try_from(column.column_idx).ok()?)?.column)).collect()
}

/// Text and bytes are decoded as views; nothing else differs from the file.
fn in_memory(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => other.clone(),
    };
    Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone())
}

/// Decodes one page to one array of the type's Arrow type. The bytes' checksum has been verified; whatever is wrong with them still
/// gives an error, never a panic.
pub fn decode(
    footer: &Footer,
    segment: &SegmentMeta,
    row_group: usize,
    column: ColumnId,
    ty: SqlType,
    bytes: Bytes,
) -> Result<ArrayRef, SegmentError> {
    let missing = || SegmentError::Inconsistent(format!("segment {} has no column {column} in row group {row_group}", segment.id));
    let ordinal = segment.column_ordinal(column).ok_or_else(missing)?;
    let group = segment.row_groups.get(row_group).ok_or_else(missing)?;
    let page = Page { offset: group.pages[ordinal].offset, bytes };
    let rows = group.rows as usize;
    let array = guarded("page", || {
        let mask = ProjectionMask::leaves(footer.reader.parquet_schema(), [ordinal]);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(page, footer.reader.clone())
            .with_row_groups(vec![row_group])
            .with_projection(mask)
            .with_batch_size(rows.max(1))
            .build()?;
        let mut parts = Vec::with_capacity(1);
        for batch in reader {
            parts.push(batch?.column(0).clone());
        }
        Ok(match parts.len() {
            1 => parts.swap_remove(0),
            _ => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        })
    })?;
    if array.len() != rows {
        return Err(SegmentError::Inconsistent(format!("a page of {rows} rows decodes to {}", array.len())));
    }
    if ty == SqlType::Interval {
        return interval::from_bytes(&array);
    }
    let array = if *array.data_type() == ty.arrow() { array } else { cast(&array, &ty.arrow())? };
    Ok(compact(array))
}

/// Views of short values are inline: the decompressed pages behind them need not be kept.
fn compact(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => {
            let view = array.as_string_view();
            let kept: usize = view.data_buffers().iter().map(|b| b.len()).sum();
            if kept > 2 * view.total_buffer_bytes_used() + 4096 { Arc::new(view.gc()) } else { array }
        }
        DataType::BinaryView => {
            let view = array.as_binary_view();
            let kept: usize = view.data_buffers().iter().map(|b| b.len()).sum();
            if kept > 2 * view.total_buffer_bytes_used() + 4096 { Arc::new(view.gc()) } else { array }
        }
        _ => array,
    }
}

/// The decoder indexes into its input in places; a panic there is an error here.
fn guarded<T>(what: &str, work: impl FnOnce() -> Result<T, SegmentError>) -> Result<T, SegmentError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(SegmentError::Inconsistent(format!("the decoder gave up on a malformed {what}"))))
}

/// One page's bytes, at the place in the file where the footer expects them.
struct Page {
    offset: u64,
    bytes: Bytes,
}

impl Page {
    fn range(&self, start: u64, length: Option<usize>) -> Result<Bytes, ParquetError> {
        let outside = || ParquetError::EOF(format!("offset {start} is outside the page"));
        let start = usize::try_from(start.checked_sub(self.offset).ok_or_else(outside)?).map_err(|_| outside())?;
        let end = length.map_or(Some(self.bytes.len()), |l| start.checked_add(l)).filter(|e| *e <= self.bytes.len());
        let end = end.filter(|e| start <= *e).ok_or_else(outside)?;
        Ok(self.bytes.slice(start..end))
    }
}

impl Length for Page {
    fn len(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl ChunkReader for Page {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(Cursor::new(self.range(start, None)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.range(start, Some(length))
    }
}
