//! Bytes of CopyData to columns.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::{Buf, BytesMut};
use quire_types::{ColumnDef, SqlType};

use super::split::{Field, fields, line_end};
use super::{CopyError, CopyFormat, CopyOptions, Dialect, Header, positions};
use crate::SqlError;
use crate::values::{ColumnBuilder, Home, ValueError};

/// Begins every binary COPY.
pub(super) const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// A line longer than this is taken for a mistake (a quote that is never closed).
const LINE_BYTES_MAX: usize = 256 << 20;
/// Characters of a bad value in an error's context, as in Postgres.
const SHOWN_CHARACTERS: usize = 100;

/// Decodes a COPY's data as it comes, however it is cut.
pub(crate) struct CopyDecoder {
    table: String,
    columns: Vec<ColumnDef>,
    /// Where and when its dates and times are.
    home: Home<'static>,
    schema: SchemaRef,
    builders: Vec<ColumnBuilder>,
    rows: usize,
    /// Lines (or binary tuples) begun, for messages.
    line: u64,
    input: BytesMut,
    format: Format,
    force_not_null: Vec<bool>,
    force_null: Vec<bool>,
    fields: Vec<Field>,
    scratch: Vec<u8>,
    /// The end was marked in the data; what follows is ignored.
    ended: bool,
}

enum Format {
    Lines { dialect: Dialect, header: Header },
    Binary { header_read: bool },
}

impl CopyDecoder {
    /// Of that data, which is read at `home`.
    pub(crate) fn new(options: CopyOptions, table: String, columns: Vec<ColumnDef>, home: Home<'static>) -> Result<CopyDecoder, SqlError> {
        let dialect = Dialect::new(&options)?;
        let format = match options.format {
            CopyFormat::Binary => Format::Binary { header_read: false },
            CopyFormat::Text | CopyFormat::Csv => Format::Lines { dialect, header: options.header },
        };
        let schema = Schema::new(columns.iter().map(|c| c.ty.field(&c.name, true)).collect::<Vec<_>>());
        Ok(CopyDecoder {
            force_not_null: positions(&options.force_not_null, &columns)?,
            force_null: positions(&options.force_null, &columns)?,
            builders: columns.iter().map(|c| ColumnBuilder::new(c.ty)).collect(),
            schema: Arc::new(schema),
            table,
            columns,
            home,
            rows: 0,
            line: 0,
            input: BytesMut::new(),
            format,
            fields: vec![],
            scratch: vec![],
            ended: false,
        })
    }

    /// Rows decoded and not taken.
    pub(crate) fn buffered_rows(&self) -> usize {
        self.rows
    }

    /// About how many bytes they are.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.builders.iter().map(ColumnBuilder::long_bytes).sum::<usize>() + self.rows * self.builders.len() * 8
    }

    /// Takes the rows decoded so far.
    pub(crate) fn take(&mut self) -> RecordBatch {
        let columns: Vec<ArrayRef> = self.builders.iter_mut().map(ColumnBuilder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).expect("builders make the types of the schema")
    }

    /// Takes a piece of the data.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), CopyError> {
        if self.ended {
            return Ok(());
        }
        match &mut self.format {
            Format::Binary { .. } => {
                self.input.extend_from_slice(data);
                self.binary()
            }
            Format::Lines { .. } => {
                // Whole lines are decoded where they are; only what is cut off is kept.
                if self.input.is_empty() {
                    let used = self.lines(data)?;
                    self.input.extend_from_slice(&data[used..]);
                } else {
                    let mut input = std::mem::take(&mut self.input);
                    input.extend_from_slice(data);
                    let used = self.lines(&input)?;
                    input.advance(used);
                    self.input = input;
                }
                if self.input.len() > LINE_BYTES_MAX {
                    self.line += 1;
                    let error = ValueError::new("54000", format!("a line is longer than {LINE_BYTES_MAX} bytes"));
                    return Err(self.at_line(error, None));
                }
                Ok(())
            }
        }
    }

    /// The data has ended: what is left is the last line, or is missing something.
    pub(crate) fn finish(&mut self) -> Result<(), CopyError> {
        if self.ended {
            return Ok(());
        }
        match self.format {
            Format::Lines { .. } => {
                if self.input.is_empty() {
                    return Ok(());
                }
                let mut rest = self.input.split().to_vec();
                rest.push(b'\n');
                let used = self.lines(&rest)?;
                if used < rest.len() && !self.ended {
                    self.line += 1;
                    let csv = matches!(&self.format, Format::Lines { dialect, .. } if dialect.csv);
                    let message = if csv { "unterminated CSV quoted field" } else { "unexpected end of data" };
                    return Err(self.at_line(ValueError::new("22P04", message), None));
                }
                Ok(())
            }
            Format::Binary { .. } => Err(self.at_line(ValueError::new("22P04", "unexpected EOF in COPY data"), None)),
        }
    }

    /// Decodes the whole lines of `data`; the bytes used.
    fn lines(&mut self, data: &[u8]) -> Result<usize, CopyError> {
        let mut used = 0;
        while used < data.len() && !self.ended {
            let Format::Lines { dialect, .. } = &self.format else { break };
            let (length, next) = match line_end(&data[used..], dialect) {
                Ok(Some(end)) => end,
                Ok(None) => break,
                Err(message) => {
                    self.line += 1;
                    return Err(self.at_line(ValueError::new("22P04", message), None));
                }
            };
            let line = &data[used..used + length];
            used += next;
            self.line += 1;
            self.line(line)?;
        }
        Ok(if self.ended { data.len() } else { used })
    }

    /// HEADER MATCH.
    fn check_header(&mut self, line: &[u8], dialect: &Dialect) -> Result<(), CopyError> {
        let parsed = fields(line, dialect, &mut self.fields, &mut self.scratch);
        let message = match parsed {
            Err(message) => Some(message.to_string()),
            Ok(()) if self.fields.len() != self.columns.len() => {
                Some(format!("wrong number of fields in header line: got {}, expected {}", self.fields.len(), self.columns.len()))
            }
            Ok(()) => self.fields.iter().zip(&self.columns).enumerate().find_map(|(i, (field, column))| {
                let got = match field {
                    Field::Null => format!("null value (\"{}\")", String::from_utf8_lossy(&dialect.null)),
                    Field::Plain(range) if line[range.clone()] == *column.name.as_bytes() => return None,
                    Field::Decoded(range) if self.scratch[range.clone()] == *column.name.as_bytes() => return None,
                    Field::Plain(range) => format!("\"{}\"", String::from_utf8_lossy(&line[range.clone()])),
                    Field::Decoded(range) => format!("\"{}\"", String::from_utf8_lossy(&self.scratch[range.clone()])),
                };
                Some(format!("column name mismatch in header line field {}: got {got}, expected \"{}\"", i + 1, column.name))
            }),
        };
        message.map_or(Ok(()), |message| Err(self.at_line(ValueError::new("22P04", message), Some(line))))
    }

    fn line(&mut self, line: &[u8]) -> Result<(), CopyError> {
        let Format::Lines { dialect, header } = &mut self.format else { return Ok(()) };
        match std::mem::replace(header, Header::Absent) {
            Header::Absent => {}
            Header::Present => return Ok(()),
            Header::Match => {
                let dialect = dialect.clone();
                return self.check_header(line, &dialect);
            }
        }
        if line == b"\\." {
            self.ended = true;
            return Ok(());
        }
        let dialect = dialect.clone();
        if let Err(message) = fields(line, &dialect, &mut self.fields, &mut self.scratch) {
            return Err(self.at_line(ValueError::new("22P04", message), Some(line)));
        }
        if line.is_empty() && self.columns.is_empty() {
            self.rows += 1;
            return Ok(());
        }
        if self.fields.len() > self.columns.len() {
            return Err(self.at_line(ValueError::new("22P04", "extra data after last expected column"), Some(line)));
        }
        if self.fields.len() < self.columns.len() {
            let name = &self.columns[self.fields.len()].name;
            return Err(self.at_line(ValueError::new("22P04", format!("missing data for column \"{name}\"")), Some(line)));
        }
        for i in 0..self.columns.len() {
            let value = match &self.fields[i] {
                Field::Null if self.force_not_null[i] => Some(&dialect.null[..]),
                Field::Null => None,
                Field::Plain(range) => Some(&line[range.clone()]),
                Field::Decoded(range) if self.force_null[i] && self.scratch[range.clone()] == dialect.null[..] => None,
                Field::Decoded(range) => Some(&self.scratch[range.clone()]),
            };
            let result = match value {
                None => {
                    self.builders[i].append_null();
                    Ok(())
                }
                Some(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => self.builders[i].append_text(text, &self.home).map_err(|e| (e, Some(text.to_string()))),
                    Err(error) => {
                        let bad = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
                        Err((ValueError::new("22021", format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}")), None))
                    }
                },
            };
            if let Err((error, text)) = result {
                return Err(self.at_column(error, i, text.as_deref()));
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn binary(&mut self) -> Result<(), CopyError> {
        let Format::Binary { header_read } = &mut self.format else { return Ok(()) };
        if !*header_read {
            let Some(mut rest) = self.input.get(SIGNATURE.len() + 4..) else { return Ok(()) };
            if !self.input.starts_with(SIGNATURE) {
                return Err(self.at_line(ValueError::new("22P04", "COPY file signature not recognized"), None));
            }
            if rest.len() < 4 {
                return Ok(());
            }
            let extension = rest.get_u32() as usize;
            if rest.len() < extension {
                return Ok(());
            }
            *header_read = true;
            self.input.advance(SIGNATURE.len() + 8 + extension);
        }
        while !self.ended {
            let Some(length) = self.tuple_length()? else { return Ok(()) };
            let tuple = self.input.split_to(length).freeze();
            self.line += 1;
            self.tuple(&tuple)?;
        }
        Ok(())
    }

    /// The bytes of the next tuple, once all of them are here.
    fn tuple_length(&mut self) -> Result<Option<usize>, CopyError> {
        let Some(mut count) = self.input.get(..2) else { return Ok(None) };
        let count = count.get_i16();
        if count == -1 {
            self.ended = true;
            return Ok(None);
        }
        if usize::try_from(count) != Ok(self.columns.len()) {
            self.line += 1;
            let message = format!("row field count is {count}, expected {}", self.columns.len());
            return Err(self.at_line(ValueError::new("22P04", message), None));
        }
        let mut at = 2;
        for _ in 0..count {
            let Some(mut length) = self.input.get(at..at + 4) else { return Ok(None) };
            let length = length.get_i32();
            if length < -1 || length as i64 > LINE_BYTES_MAX as i64 {
                self.line += 1;
                return Err(self.at_line(ValueError::new("22P04", "invalid field size"), None));
            }
            at += 4 + length.max(0) as usize;
        }
        Ok((self.input.len() >= at).then_some(at))
    }

    fn tuple(&mut self, tuple: &[u8]) -> Result<(), CopyError> {
        let mut rest = &tuple[2..];
        for i in 0..self.columns.len() {
            let length = rest.get_i32();
            if length < 0 {
                self.builders[i].append_null();
                continue;
            }
            let (value, next) = rest.split_at(length as usize);
            rest = next;
            if let Err(error) = self.builders[i].append_binary(value) {
                return Err(self.at_column(error, i, None));
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn at_line(&self, error: ValueError, line: Option<&[u8]>) -> CopyError {
        let shown = line.map(|l| format!(": \"{}\"", shorten(&String::from_utf8_lossy(l)))).unwrap_or_default();
        CopyError { error, context: format!("COPY {}, line {}{shown}", self.table, self.line.max(1)) }
    }

    fn at_column(&self, error: ValueError, column: usize, value: Option<&str>) -> CopyError {
        let shown = value.map(|v| format!(": \"{}\"", shorten(v))).unwrap_or_default();
        let name = &self.columns[column].name;
        CopyError { error, context: format!("COPY {}, line {}, column {name}{shown}", self.table, self.line) }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_string(),
    }
}

/// Types of COPY columns, for the encoder.
pub(super) fn types(schema: &Schema) -> Vec<SqlType> {
    schema.fields().iter().map(|f| SqlType::of_field(f).unwrap_or(SqlType::Text)).collect()
}
