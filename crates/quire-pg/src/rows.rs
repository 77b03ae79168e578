//! Rows as DataRow messages, encoded straight into the output buffer.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::record_batch::RecordBatch;
use pgwire::messages::data::{FieldDescription, RowDescription};
use quire_sql::{OutputColumn, SqlError, WireType, values};
use quire_types::SqlType;

use crate::types::description;

/// Columns of a result: the protocol counts them in 16 bits.
const COLUMNS_MAX: usize = i16::MAX as usize;

/// Text or binary, for each column.
#[derive(Clone, Debug)]
pub(crate) struct Formats(Vec<bool>);

impl Formats {
    /// From Bind's format codes: none, one for all, or one each.
    pub(crate) fn new(codes: &[i16], columns: usize) -> Result<Formats, SqlError> {
        let binary = |code: i16| match code {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(SqlError::new("22023", format!("unsupported format code: {other}"))),
        };
        Ok(Formats(match codes {
            [] => vec![false; columns],
            [one] => vec![binary(*one)?; columns],
            codes if codes.len() == columns => codes.iter().map(|c| binary(*c)).collect::<Result<_, _>>()?,
            codes => {
                return Err(SqlError::new(
                    "08P01",
                    format!("bind message has {} result formats but query has {columns} columns", codes.len()),
                ));
            }
        }))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn text(columns: usize) -> Formats {
        Formats(vec![false; columns])
    }
}

pub(crate) fn row_description(columns: &[OutputColumn], formats: Option<&Formats>) -> Result<RowDescription, SqlError> {
    if columns.len() > COLUMNS_MAX {
        return Err(SqlError::new("54011", format!("a result has at most {COLUMNS_MAX} columns")));
    }
    let fields = columns.iter().enumerate().map(|(i, column)| {
        let (type_id, type_size, type_modifier) = description(column.ty);
        let format = formats.is_some_and(|f| f.0[i]).into();
        FieldDescription::new(column.name.clone(), column.table_oid as i32, column.column_number, type_id, type_size, type_modifier, format)
    });
    Ok(RowDescription::new(fields.collect()))
}

/// Whether a batch is of the types that the columns promise: encoding relies on it.
pub(crate) fn check(batch: &RecordBatch, columns: &[OutputColumn], formats: &Formats) -> Result<(), SqlError> {
    if batch.num_columns() != columns.len() || formats.len() != columns.len() {
        return Err(SqlError::internal(format!("a batch of {} columns came for a result of {}", batch.num_columns(), columns.len())));
    }
    for (array, column) in batch.columns().iter().zip(columns) {
        let fits = match (column.ty, array.data_type()) {
            // Its zone is the one that it is shown in.
            (WireType::Scalar(SqlType::Timestamptz), found) => matches!(found, DataType::Timestamp(TimeUnit::Microsecond, Some(_))),
            (WireType::Scalar(ty), found) => *found == ty.arrow(),
            (WireType::Array(item) | WireType::Vector(item), DataType::List(field)) => *field.data_type() == item.arrow(),
            (WireType::Oid, found) => *found == DataType::Int64,
            (WireType::Name | WireType::QuotedChar | WireType::Unknown, found) => *found == DataType::Utf8View,
            (WireType::Array(_) | WireType::Vector(_), _) => false,
        };
        if !fits {
            return Err(SqlError::internal(format!("column \"{}\" of {:?} came as {}", column.name, column.ty, array.data_type())));
        }
    }
    Ok(())
}

/// Appends one row of a batch.
pub(crate) fn data_row(
    batch: &RecordBatch,
    row: usize,
    columns: &[OutputColumn],
    formats: &Formats,
    out: &mut Vec<u8>,
) -> Result<(), SqlError> {
    let start = out.len();
    out.extend_from_slice(b"D\0\0\0\0");
    out.extend_from_slice(&(batch.num_columns() as i16).to_be_bytes());
    for (i, (array, column)) in batch.columns().iter().zip(columns).enumerate() {
        if array.is_null(row) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            continue;
        }
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        value(array, row, column.ty, formats.0[i], out);
        let length = out.len() - at - 4;
        out[at..at + 4].copy_from_slice(&(length as i32).to_be_bytes());
    }
    let Ok(length) = i32::try_from(out.len() - start - 1) else {
        // Half a message must not go out.
        out.truncate(start);
        return Err(SqlError::new("54000", "a row is larger than a message may be"));
    };
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn value(array: &ArrayRef, row: usize, ty: WireType, binary: bool, out: &mut Vec<u8>) {
    match (ty, binary) {
        (WireType::Scalar(ty), false) => values::write_text(array, row, ty, out),
        (WireType::Scalar(ty), true) => values::write_binary(array, row, ty, out),
        (WireType::Array(item), false) => array_text(&array.as_list::<i32>().value(row), item, out),
        (WireType::Array(item), true) => array_binary(&array.as_list::<i32>().value(row), item, out),
        (WireType::Vector(item), false) => vector_text(&array.as_list::<i32>().value(row), item, out),
        (WireType::Vector(item), true) => vector_binary(&array.as_list::<i32>().value(row), item, out),
        (WireType::Oid, false) => values::write_text(array, row, SqlType::Int8, out),
        (WireType::Oid, true) => out.extend_from_slice(&(array.as_primitive::<Int64Type>().value(row) as u32).to_be_bytes()),
        (WireType::Name | WireType::QuotedChar | WireType::Unknown, _) => values::write_text(array, row, SqlType::Text, out),
    }
}

/// `1 2`
fn vector_text(items: &ArrayRef, ty: SqlType, out: &mut Vec<u8>) {
    for i in 0..items.len() {
        if i > 0 {
            out.push(b' ');
        }
        values::write_text(items, i, ty, out);
    }
}

/// An array of `int2` or `oid` whose first item is number 0.
fn vector_binary(items: &ArrayRef, ty: SqlType, out: &mut Vec<u8>) {
    let item_oid = if ty == SqlType::Int2 { values::oid_of(ty) } else { 26 };
    for word in [1, 0, item_oid as i32, items.len() as i32, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for i in 0..items.len() {
        if ty == SqlType::Int2 {
            out.extend_from_slice(&2i32.to_be_bytes());
            values::write_binary(items, i, ty, out);
        } else {
            out.extend_from_slice(&4i32.to_be_bytes());
            out.extend_from_slice(&(items.as_primitive::<Int64Type>().value(i) as u32).to_be_bytes());
        }
    }
}

/// `{1,NULL,"a b"}`
fn array_text(items: &ArrayRef, ty: SqlType, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut item = Vec::new();
    for i in 0..items.len() {
        if i > 0 {
            out.push(b',');
        }
        if items.is_null(i) {
            out.extend_from_slice(b"NULL");
            continue;
        }
        item.clear();
        values::write_text(items, i, ty, &mut item);
        let plain = !item.is_empty()
            && !item.eq_ignore_ascii_case(b"null")
            && item.iter().all(|b| !matches!(b, b'{' | b'}' | b',' | b'"' | b'\\') && !b.is_ascii_whitespace());
        if plain {
            out.extend_from_slice(&item);
            continue;
        }
        out.push(b'"');
        for byte in &item {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    out.push(b'}');
}

/// Dimensions, null flag, element oid, then (length, lower bound) and the elements.
fn array_binary(items: &ArrayRef, ty: SqlType, out: &mut Vec<u8>) {
    let dimensions = i32::from(!items.is_empty());
    out.extend_from_slice(&dimensions.to_be_bytes());
    out.extend_from_slice(&i32::from(items.null_count() > 0).to_be_bytes());
    out.extend_from_slice(&values::oid_of(ty).to_be_bytes());
    if items.is_empty() {
        return;
    }
    out.extend_from_slice(&(items.len() as i32).to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    for i in 0..items.len() {
        if items.is_null(i) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            continue;
        }
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        values::write_binary(items, i, ty, out);
        let length = out.len() - at - 4;
        out[at..at + 4].copy_from_slice(&(length as i32).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringViewArray};
    use quire_types::SqlType;

    use super::array_text;

    #[test]
    fn array_elements_are_quoted_where_they_must_be() {
        let items: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None, Some("a b"), Some(""), Some("null"), Some("q\"\\")]));
        let mut out = vec![];
        array_text(&items, SqlType::Text, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), r#"{a,NULL,"a b","","null","q\"\\"}"#);
    }
}
