use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::types::UInt16Type;
use arrow::array::{Array, ArrayRef, AsArray, NullBufferBuilder};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Encoding, EncodingMask, Type as PhysicalType};
use parquet::column::page::{Page as ParquetPage, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{DataType as ParquetType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use quire_types::{ColumnId, SegmentMeta, SqlType};

use crate::packed::{NarrowNumbers, PART_ROWS, of_dictionary, pack, repeat_enough};
use crate::{SegmentError, interval};

/// A segment's parsed footer: parsed once, used for every page.
#[derive(Clone, Debug)]
pub struct Footer {
    reader: ArrowReaderMetadata,
    /// For columns whose texts all are in a dictionary.
    dictionaries: ArrowReaderMetadata,
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
            if plain.schema().fields().len() != columns || segment.row_groups.iter().any(|group| group.pages.len() != columns) {
                return Err(SegmentError::Inconsistent(format!("footer and manifest of segment {} disagree", segment.id)));
            }
            let reader = |field: &dyn Fn(&Field) -> Field| {
                let fields: Vec<Field> = plain.schema().fields().iter().map(|f| field(f)).collect();
                ArrowReaderMetadata::try_new(metadata.clone(), ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields))))
            };
            let (reader, dictionaries) = (reader(&in_memory)?, reader(&by_number)?);
            Ok(Footer { reader, dictionaries, sorted_by: sorted_by(&metadata, segment) })
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

/// Texts as numbers of the entries of the file's dictionary.
fn by_number(field: &Field) -> Field {
    match field.data_type() {
        DataType::Utf8 => {
            let texts = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
            Field::new(field.name(), texts, field.is_nullable()).with_metadata(field.metadata().clone())
        }
        _ => in_memory(field),
    }
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
    Chunk::of(footer, segment, row_group, column, bytes)?.decode(ty)
}

/// Decodes one page as it is kept in memory, in as few bits as its values need; [`crate::unpack`] gives what [`decode`] does. Numerics and texts
/// that repeat never have their full width on the way: to write that takes longer than to decode.
pub fn decode_packed(
    footer: &Footer,
    segment: &SegmentMeta,
    row_group: usize,
    column: ColumnId,
    ty: SqlType,
    bytes: Bytes,
) -> Result<ArrayRef, SegmentError> {
    Chunk::of(footer, segment, row_group, column, bytes)?.decode_packed(ty)
}

/// A page: in the file, a column chunk.
struct Chunk<'a> {
    footer: &'a Footer,
    metadata: &'a ColumnChunkMetaData,
    row_group: usize,
    ordinal: usize,
    rows: usize,
    page: Page,
}

impl Chunk<'_> {
    fn of<'a>(
        footer: &'a Footer,
        segment: &SegmentMeta,
        row_group: usize,
        column: ColumnId,
        bytes: Bytes,
    ) -> Result<Chunk<'a>, SegmentError> {
        let missing = || SegmentError::Inconsistent(format!("segment {} has no column {column} in row group {row_group}", segment.id));
        let ordinal = segment.column_ordinal(column).ok_or_else(missing)?;
        let group = segment.row_groups.get(row_group).ok_or_else(missing)?;
        let page = Page { offset: group.pages[ordinal].offset, bytes };
        let metadata = footer.reader.metadata().row_group(row_group).column(ordinal);
        Ok(Chunk { footer, metadata, row_group, ordinal, rows: group.rows as usize, page })
    }

    fn decode(&self, ty: SqlType) -> Result<ArrayRef, SegmentError> {
        let array = guarded("page", || self.read(&self.footer.reader))?;
        if array.len() != self.rows {
            return Err(self.wrong_rows(array.len()));
        }
        if ty == SqlType::Interval {
            return interval::from_bytes(&array);
        }
        let array = if *array.data_type() == ty.arrow() { array } else { cast(&array, &ty.arrow())? };
        Ok(compact(array))
    }

    fn decode_packed(&self, ty: SqlType) -> Result<ArrayRef, SegmentError> {
        let in_file = self.footer.reader.schema().field(self.ordinal).data_type();
        match (ty, self.metadata.column_type()) {
            // else the column had another type when the segment was written
            (SqlType::Numeric { scale, .. }, physical) if matches!(in_file, DataType::Decimal128(_, as_written) if *as_written == scale) => {
                match physical {
                    PhysicalType::INT32 => guarded("page", || self.numbers::<Int32Type>()),
                    PhysicalType::INT64 => guarded("page", || self.numbers::<Int64Type>()),
                    _ => Ok(pack(self.decode(ty)?)),
                }
            }
            (ty, PhysicalType::BYTE_ARRAY) if ty.arrow() == DataType::Utf8View && self.repeats()? => {
                match guarded("page", || self.read(&self.footer.dictionaries))?.as_dictionary_opt::<UInt16Type>() {
                    Some(texts) if texts.len() == self.rows => Ok(of_dictionary(texts)?),
                    _ => self.decode(ty),
                }
            }
            _ => Ok(pack(self.decode(ty)?)),
        }
    }

    /// True if the file has each value by its number in a dictionary, and so few entries that the page is kept like that.
    fn repeats(&self) -> Result<bool, SegmentError> {
        let only = |mask: &EncodingMask| mask.is_only(Encoding::RLE_DICTIONARY) || mask.is_only(Encoding::PLAIN_DICTIONARY);
        if self.metadata.dictionary_page_offset().is_none() || !self.metadata.page_encoding_stats_mask().is_some_and(only) {
            return Ok(false);
        }
        let first = guarded("page", || Ok(self.pages()?.get_next_page()?))?;
        Ok(matches!(first, Some(ParquetPage::DictionaryPage { num_values, .. }) if repeat_enough(num_values as usize, self.rows)))
    }

    fn pages(&self) -> Result<SerializedPageReader<Page>, ParquetError> {
        SerializedPageReader::new(Arc::new(self.page.clone()), self.metadata, self.rows, None)
    }

    fn read(&self, reader: &ArrowReaderMetadata) -> Result<ArrayRef, SegmentError> {
        let mask = ProjectionMask::leaves(reader.parquet_schema(), [self.ordinal]);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.page.clone(), reader.clone())
            .with_row_groups(vec![self.row_group])
            .with_projection(mask)
            .with_batch_size(self.rows.max(1))
            .build()?;
        let mut parts = Vec::with_capacity(1);
        for batch in reader {
            parts.push(batch?.column(0).clone());
        }
        Ok(match parts.len() {
            1 => parts.swap_remove(0),
            _ => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        })
    }

    /// Numerics that the file has as whole numbers.
    fn numbers<T: ParquetType>(&self) -> Result<ArrayRef, SegmentError>
    where
        T::T: Copy + Default + Into<i64>,
    {
        let mut reader = ColumnReaderImpl::<T>::new(self.metadata.column_descr_ptr(), Box::new(self.pages()?));
        let defined = self.metadata.column_descr().max_def_level();
        let (mut numbers, mut valid) = (NarrowNumbers::new(self.rows), NullBufferBuilder::new(self.rows));
        let (mut values, mut levels) = (Vec::with_capacity(PART_ROWS), Vec::with_capacity(PART_ROWS));
        while numbers.len() < self.rows {
            values.clear();
            levels.clear();
            let part = PART_ROWS.min(self.rows - numbers.len());
            let (rows, present, _) = reader.read_records(part, Some(&mut levels), None, &mut values)?;
            if rows == 0 {
                return Err(self.wrong_rows(numbers.len()));
            }
            if present == rows {
                valid.append_n_non_nulls(rows);
            } else {
                let mut present = values.iter().copied();
                let value = |level: &i16| if *level == defined { present.next().unwrap_or_default() } else { T::T::default() };
                let spread: Vec<T::T> = levels.iter().map(value).collect();
                levels.iter().for_each(|level| valid.append(*level == defined));
                values = spread;
            }
            numbers.extend(&values);
        }
        if reader.read_records(1, Some(&mut levels), None, &mut values)?.0 != 0 {
            return Err(self.wrong_rows(self.rows + 1));
        }
        Ok(numbers.finish(valid.finish()))
    }

    fn wrong_rows(&self, found: usize) -> SegmentError {
        SegmentError::Inconsistent(format!("a page of {} rows decodes to {found}", self.rows))
    }
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
#[derive(Clone)]
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
