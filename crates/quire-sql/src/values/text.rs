//! Output functions.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use quire_types::SqlType;

use super::datetime::{write_date, write_interval, write_time, write_timestamp, write_timestamp_in};
use super::numeric::{write_decimal, write_float};

/// Appends a value (not NULL) as Postgres prints it. The array has the type's Arrow type; that of a `timestamptz` says in which zone it is shown.
pub fn write_text(array: &ArrayRef, row: usize, ty: SqlType, out: &mut Vec<u8>) {
    debug_assert!(array.is_valid(row), "NULL has no text");
    match ty {
        SqlType::Bool => out.push(if array.as_boolean().value(row) { b't' } else { b'f' }),
        SqlType::Int2 => write_int(i64::from(array.as_primitive::<Int16Type>().value(row)), out),
        SqlType::Int4 => write_int(i64::from(array.as_primitive::<Int32Type>().value(row)), out),
        SqlType::Int8 => write_int(array.as_primitive::<Int64Type>().value(row), out),
        SqlType::Float4 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            write_float(f64::from(value), format!("{value:e}"), 6, out);
        }
        SqlType::Float8 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            write_float(value, format!("{value:e}"), 15, out);
        }
        SqlType::Numeric { scale, .. } => write_decimal(array.as_primitive::<Decimal128Type>().value(row), scale, out),
        SqlType::Text | SqlType::Varchar(_) | SqlType::Uuid | SqlType::Json => {
            out.extend_from_slice(array.as_string_view().value(row).as_bytes())
        }
        SqlType::Char(n) => {
            let text = array.as_string_view().value(row);
            out.extend_from_slice(text.as_bytes());
            let padding = (n as usize).saturating_sub(text.chars().count());
            out.resize(out.len() + padding, b' ');
        }
        SqlType::Bytea => {
            out.extend_from_slice(b"\\x");
            for byte in array.as_binary_view().value(row) {
                for digit in [byte >> 4, byte & 15] {
                    out.push(b"0123456789abcdef"[digit as usize]);
                }
            }
        }
        SqlType::Date => write_date(array.as_primitive::<Date32Type>().value(row), out),
        SqlType::Time => write_time(array.as_primitive::<Time64MicrosecondType>().value(row), out),
        SqlType::Timestamp => write_timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row), false, out),
        SqlType::Timestamptz => {
            let value = array.as_primitive::<TimestampMicrosecondType>().value(row);
            match array.data_type() {
                DataType::Timestamp(_, Some(zone)) if **zone != *"UTC" => write_timestamp_in(value, zone, out),
                _ => write_timestamp(value, true, out),
            }
        }
        SqlType::Interval => write_interval(array.as_primitive::<IntervalMonthDayNanoType>().value(row), out),
    }
}

fn write_int(value: i64, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("writing to a vector does not fail");
}
