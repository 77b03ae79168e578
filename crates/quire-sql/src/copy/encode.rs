//! Columns to bytes of CopyData.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use quire_types::{ColumnDef, ColumnId, SqlType};

use super::decode::{SIGNATURE, types};
use super::{CopyError, CopyFormat, CopyOptions, Dialect, Header, positions};
use crate::SqlError;
use crate::values::{write_binary, write_text};

/// Encodes batches of one schema.
pub(crate) struct CopyEncoder {
    format: CopyFormat,
    dialect: Dialect,
    header: bool,
    names: Vec<String>,
    types: Vec<SqlType>,
    force_quote: Vec<bool>,
}

impl CopyEncoder {
    pub(crate) fn new(options: CopyOptions, schema: &Schema) -> Result<CopyEncoder, SqlError> {
        let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        let types = types(schema);
        let columns: Vec<ColumnDef> = names.iter().zip(&types).map(|(name, ty)| ColumnDef::new(ColumnId(0), name, *ty)).collect();
        Ok(CopyEncoder {
            format: options.format,
            dialect: Dialect::new(&options)?,
            header: options.header != Header::Absent,
            force_quote: positions(&options.force_quote, &columns)?,
            names,
            types,
        })
    }

    /// What comes first: column names if asked for, the binary signature.
    pub(crate) fn header(&mut self) -> Bytes {
        let mut out = vec![];
        match self.format {
            CopyFormat::Binary => {
                out.extend_from_slice(SIGNATURE);
                out.extend_from_slice(&[0; 8]);
            }
            CopyFormat::Text | CopyFormat::Csv if self.header => {
                for (i, name) in self.names.iter().enumerate() {
                    if i > 0 {
                        out.push(self.dialect.delimiter);
                    }
                    self.field(name.as_bytes(), false, &mut out);
                }
                out.push(b'\n');
            }
            CopyFormat::Text | CopyFormat::Csv => {}
        }
        out.into()
    }

    /// A batch's rows.
    pub(crate) fn encode(&mut self, batch: &RecordBatch) -> Result<Bytes, CopyError> {
        let mut out = Vec::with_capacity(batch.num_rows() * batch.num_columns() * 10);
        let mut value = Vec::new();
        for row in 0..batch.num_rows() {
            if self.format == CopyFormat::Binary {
                out.extend_from_slice(&(batch.num_columns() as i16).to_be_bytes());
            }
            for (i, array) in batch.columns().iter().enumerate() {
                match self.format {
                    CopyFormat::Binary => binary_field(array, row, self.types[i], &mut out),
                    CopyFormat::Text | CopyFormat::Csv => {
                        if i > 0 {
                            out.push(self.dialect.delimiter);
                        }
                        if array.is_null(row) {
                            out.extend_from_slice(&self.dialect.null);
                            continue;
                        }
                        value.clear();
                        write_text(array, row, self.types[i], &mut value);
                        self.field(&value, self.force_quote[i], &mut out);
                    }
                }
            }
            if self.format != CopyFormat::Binary {
                out.push(b'\n');
            }
        }
        Ok(out.into())
    }

    /// What comes last.
    pub(crate) fn finish(&mut self) -> Bytes {
        match self.format {
            CopyFormat::Binary => Bytes::from_static(&[0xff, 0xff]),
            CopyFormat::Text | CopyFormat::Csv => Bytes::new(),
        }
    }

    fn field(&self, value: &[u8], force_quote: bool, out: &mut Vec<u8>) {
        let dialect = &self.dialect;
        if dialect.csv {
            let special = |b: &u8| *b == dialect.delimiter || *b == dialect.quote || *b == b'\n' || *b == b'\r';
            let alone = self.names.len() == 1 && value == b"\\.";
            if !force_quote && !alone && value != dialect.null && !value.iter().any(special) {
                out.extend_from_slice(value);
                return;
            }
            out.push(dialect.quote);
            for byte in value {
                if *byte == dialect.quote || *byte == dialect.escape {
                    out.push(dialect.escape);
                }
                out.push(*byte);
            }
            out.push(dialect.quote);
            return;
        }
        for byte in value {
            match byte {
                b'\\' => out.extend_from_slice(b"\\\\"),
                8 => out.extend_from_slice(b"\\b"),
                12 => out.extend_from_slice(b"\\f"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                11 => out.extend_from_slice(b"\\v"),
                byte if *byte == dialect.delimiter => out.extend_from_slice(&[b'\\', *byte]),
                byte => out.push(*byte),
            }
        }
    }
}

fn binary_field(array: &ArrayRef, row: usize, ty: SqlType, out: &mut Vec<u8>) {
    if array.is_null(row) {
        out.extend_from_slice(&(-1i32).to_be_bytes());
        return;
    }
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write_binary(array, row, ty, out);
    let length = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}
