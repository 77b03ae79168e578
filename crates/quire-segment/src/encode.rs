use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use quire_types::{
    ColumnStats, PAGE_BYTES_MAX, PageMeta, ROW_GROUP_ROWS, ROW_ID_COLUMN, ROW_ID_FIELD, RowGroupMeta, RowId, RowIds, SegmentId,
    SegmentMeta, SqlType, TableDef, Term, page_checksum,
};

use crate::bounds::bounds;
use crate::sketch::{distinct_estimate, sketch};
use crate::sort::sorted_by;
use crate::{SegmentError, interval};

/// A dictionary pays below this share of distinct values: it makes pages smaller and lets predicates look at few values.
const DICTIONARY_SHARE_MAX: f64 = 0.05;
/// Rows of a Parquet data page: the unit that its readers skip by.
const DATA_PAGE_ROWS: usize = 16_384;

/// How to encode.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncodeOptions {
    /// The rows' last column is [`ROW_ID_FIELD`] (Int64, the bits of the row id): rows that got their ids before they were sorted.
    pub row_ids: bool,
}

/// A segment, ready to upload.
#[derive(Clone, Debug)]
pub struct EncodedSegment {
    /// The Parquet file.
    pub bytes: Bytes,
    /// Its manifest entry; the term (and the row id base) are filled in by those who know them.
    pub meta: SegmentMeta,
}

/// Encodes rows, which have the table's schema and are sorted by its clustering key. The file says by how much of the key they really are.
pub fn encode(table: &TableDef, rows: &RecordBatch, id: SegmentId, options: EncodeOptions) -> Result<EncodedSegment, SegmentError> {
    let columns = file_columns(table, options);
    if columns.len() != rows.num_columns() {
        return Err(SegmentError::Inconsistent(format!("{} columns given for {} of the table", rows.num_columns(), columns.len())));
    }
    let sketches: Vec<Bytes> =
        rows.columns().iter().zip(&columns).map(|(a, c)| if c.id == ROW_ID_COLUMN { Bytes::new() } else { sketch(a) }).collect();
    let schema = Arc::new(Schema::new(columns.iter().map(FileColumn::field).collect::<Vec<_>>()));
    let sorting = sorting_columns(sorted_by(table, rows)?);
    let properties = properties(&columns, &sketches, rows.num_rows(), sorting);
    let writer_options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut out = Vec::with_capacity(rows.get_array_memory_size() / 3);
    let mut writer = ArrowWriter::try_new_with_options(&mut out, schema.clone(), writer_options)?;
    let group_rows = row_group_rows(rows);
    let mut groups = Vec::new();
    for start in (0..rows.num_rows()).step_by(group_rows) {
        let slice = rows.slice(start, group_rows.min(rows.num_rows() - start));
        let arrays = slice.columns().iter().map(to_file).collect::<Result<Vec<_>, _>>()?;
        writer.write(&RecordBatch::try_new(schema.clone(), arrays)?)?;
        writer.flush()?;
        groups.push(slice);
    }
    let metadata = writer.close()?;
    let bytes = Bytes::from(out);
    let mut row_groups = Vec::with_capacity(groups.len());
    for (group, slice) in metadata.row_groups().iter().zip(&groups) {
        let pages = group.columns().iter().zip(slice.columns()).zip(&columns).map(|((chunk, array), column)| {
            let (offset, length) = chunk.byte_range();
            let (min, max) = bounds(array, column.ty);
            let checksum = page_checksum(&bytes[offset as usize..(offset + length) as usize]);
            PageMeta { offset, length: length as u32, checksum, nulls: array.null_count() as u32, min, max }
        });
        row_groups.push(RowGroupMeta { rows: slice.num_rows() as u32, pages: pages.collect() });
    }
    let (row_ids, row_id_min, row_id_max) = row_ids(rows, options);
    let columns = columns.iter().zip(sketches).map(|(c, sketch)| ColumnStats { column: c.id, sketch });
    let meta = SegmentMeta {
        id,
        table: table.id,
        term: Term(0),
        rows: rows.num_rows() as u64,
        bytes: bytes.len() as u64,
        row_ids,
        row_id_min,
        row_id_max,
        footer: footer(&bytes)?,
        columns: columns.collect(),
        row_groups,
    };
    Ok(EncodedSegment { bytes, meta })
}

struct FileColumn {
    id: quire_types::ColumnId,
    name: String,
    ty: SqlType,
}

impl FileColumn {
    fn field(&self) -> Field {
        let data_type = match self.ty {
            SqlType::Interval => DataType::FixedSizeBinary(interval::BYTES),
            ty => ty.arrow(),
        };
        // Field ids are signed in Parquet; the hidden column's is -1.
        let id = self.id.0 as i32;
        Field::new(&self.name, data_type, true)
            .with_metadata([(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string())].into_iter().collect())
    }
}

fn file_columns(table: &TableDef, options: EncodeOptions) -> Vec<FileColumn> {
    let columns = table.columns.iter().map(|c| FileColumn { id: c.id, name: c.name.clone(), ty: c.ty });
    let hidden = options.row_ids.then(|| FileColumn { id: ROW_ID_COLUMN, name: ROW_ID_FIELD.to_string(), ty: SqlType::Int8 });
    columns.chain(hidden).collect()
}

fn to_file(array: &ArrayRef) -> Result<ArrayRef, SegmentError> {
    match array.data_type() {
        DataType::Interval(_) => interval::to_bytes(array),
        _ => Ok(array.clone()),
    }
}

/// Ascending, NULLs last, as rows are sorted here; `None` for rows in no order.
fn sorting_columns(positions: Vec<usize>) -> Option<Vec<SortingColumn>> {
    let column = |position: usize| SortingColumn { column_idx: position as i32, descending: false, nulls_first: false };
    (!positions.is_empty()).then(|| positions.into_iter().map(column).collect())
}

fn properties(columns: &[FileColumn], sketches: &[Bytes], rows: usize, sorting: Option<Vec<SortingColumn>>) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("quire ", env!("CARGO_PKG_VERSION")).to_string())
        .set_compression(Compression::LZ4_RAW)
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(DATA_PAGE_ROWS)
        .set_write_batch_size(DATA_PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_sorting_columns(sorting)
        .set_dictionary_enabled(false);
    for (column, sketch) in columns.iter().zip(sketches) {
        let distinct = distinct_estimate(std::iter::once(sketch.as_ref()).filter(|s| !s.is_empty()));
        if distinct.is_some_and(|d| d < rows as f64 * DICTIONARY_SHARE_MAX) {
            builder = builder.set_column_dictionary_enabled(ColumnPath::from(column.name.as_str()), true);
        }
    }
    builder.build()
}

/// Rows of a row group: a full one's, unless the widest column would then make too large a page.
fn row_group_rows(rows: &RecordBatch) -> usize {
    let widest = rows.columns().iter().map(logical_bytes).max().unwrap_or(0);
    let per_row = widest.div_ceil(rows.num_rows().max(1)).max(1);
    (PAGE_BYTES_MAX / per_row).clamp(1, ROW_GROUP_ROWS)
}

/// Bytes of the values themselves, whatever buffers hold them.
fn logical_bytes(array: &ArrayRef) -> usize {
    use arrow::array::AsArray;
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().iter().flatten().map(|v| v.len() + 4).sum(),
        DataType::BinaryView => array.as_binary_view().iter().flatten().map(|v| v.len() + 4).sum(),
        other => other.primitive_width().unwrap_or(16) * array.len(),
    }
}

fn row_ids(rows: &RecordBatch, options: EncodeOptions) -> (RowIds, RowId, RowId) {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    if !options.row_ids {
        return (RowIds::Base(RowId(0)), RowId(0), RowId(0));
    }
    let ids = rows.column(rows.num_columns() - 1).as_primitive::<Int64Type>();
    let ids = || ids.values().iter().map(|id| *id as u64);
    (RowIds::Column, RowId(ids().min().unwrap_or(0)), RowId(ids().max().unwrap_or(0)))
}

/// The thrift `FileMetaData` at the end of a Parquet file, without its length and the magic.
fn footer(file: &Bytes) -> Result<Bytes, SegmentError> {
    let broken = || SegmentError::Inconsistent("the encoded file has no footer".into());
    let tail = file.len().checked_sub(8).ok_or_else(broken)?;
    let length = <[u8; 4]>::try_from(&file[tail..tail + 4]).map(u32::from_le_bytes).map_err(|_| broken())? as usize;
    // A copy: a slice would keep the whole file in memory for as long as the manifest.
    Ok(Bytes::copy_from_slice(&file[tail.checked_sub(length).ok_or_else(broken)?..tail]))
}
