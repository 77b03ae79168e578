//! Send functions.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use quire_types::SqlType;

use super::builder::{EPOCH_DAYS, EPOCH_MICROS};
use super::write_text;

/// Appends a value (not NULL) in Postgres' binary form. The array has the type's Arrow type.
pub fn write_binary(array: &ArrayRef, row: usize, ty: SqlType, out: &mut Vec<u8>) {
    debug_assert!(array.is_valid(row), "NULL has no bytes");
    match ty {
        SqlType::Bool => out.push(array.as_boolean().value(row).into()),
        SqlType::Int2 => out.extend_from_slice(&array.as_primitive::<Int16Type>().value(row).to_be_bytes()),
        SqlType::Int4 => out.extend_from_slice(&array.as_primitive::<Int32Type>().value(row).to_be_bytes()),
        SqlType::Int8 => out.extend_from_slice(&array.as_primitive::<Int64Type>().value(row).to_be_bytes()),
        SqlType::Float4 => out.extend_from_slice(&array.as_primitive::<Float32Type>().value(row).to_be_bytes()),
        SqlType::Float8 => out.extend_from_slice(&array.as_primitive::<Float64Type>().value(row).to_be_bytes()),
        SqlType::Numeric { scale, .. } => write_numeric(array.as_primitive::<Decimal128Type>().value(row), scale, out),
        SqlType::Uuid => {
            let parsed = uuid::Uuid::try_parse(array.as_string_view().value(row)).unwrap_or_default();
            out.extend_from_slice(parsed.as_bytes());
        }
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Json => write_text(array, row, ty, out),
        SqlType::Bytea => out.extend_from_slice(array.as_binary_view().value(row)),
        SqlType::Date => out.extend_from_slice(&array.as_primitive::<Date32Type>().value(row).wrapping_sub(EPOCH_DAYS).to_be_bytes()),
        SqlType::Time => out.extend_from_slice(&array.as_primitive::<Time64MicrosecondType>().value(row).to_be_bytes()),
        SqlType::Timestamp | SqlType::Timestamptz => {
            out.extend_from_slice(&array.as_primitive::<TimestampMicrosecondType>().value(row).wrapping_sub(EPOCH_MICROS).to_be_bytes());
        }
        SqlType::Interval => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            out.extend_from_slice(&(value.nanoseconds / 1000).to_be_bytes());
            out.extend_from_slice(&value.days.to_be_bytes());
            out.extend_from_slice(&value.months.to_be_bytes());
        }
    }
}

/// Digit groups of 10000: count, weight of the first, sign, digits after the point, groups.
fn write_numeric(value: i128, scale: i8, out: &mut Vec<u8>) {
    let scale = scale.max(0) as u32;
    // Align the point with a group boundary.
    let padding = (4 - scale % 4) % 4;
    let mut groups: Vec<u16> = vec![];
    let mut rest = value.unsigned_abs();
    // The lowest group takes the padding, so that nothing overflows.
    let first = 10u128.pow(4 - padding);
    groups.push(((rest % first) * 10u128.pow(padding)) as u16);
    rest /= first;
    while rest > 0 {
        groups.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    let fraction_groups = scale.div_ceil(4) as i16;
    let mut weight = groups.len() as i16 - fraction_groups - 1;
    groups.reverse();
    let leading = groups.iter().take_while(|g| **g == 0).count();
    groups.drain(..leading);
    weight -= leading as i16;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    out.extend_from_slice(&(groups.len() as i16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&(if value < 0 { 0x4000u16 } else { 0 }).to_be_bytes());
    out.extend_from_slice(&(scale as i16).to_be_bytes());
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
}
