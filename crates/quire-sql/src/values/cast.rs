//! Explicit casts: what `CAST(x AS type)` makes of a value. Assignment, which refuses more, is in `coerce`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int32Array, StringViewBuilder, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use quire_types::SqlType;

use super::coerce::{strict, to_int};
use super::datetime::{Home, local_to_utc, utc_to_local, write_timestamp_in};
use super::numeric::parse_decimal;
use super::{ColumnBuilder, ValueError, write_text};

/// Types that convert among themselves alike.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    Bool,
    Number,
    Text,
    Date,
    Time,
    Timestamp,
    Interval,
    Bytea,
    Uuid,
    Json,
}

fn family(ty: SqlType) -> Family {
    match ty {
        SqlType::Bool => Family::Bool,
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Float4 | SqlType::Float8 | SqlType::Numeric { .. } => Family::Number,
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) => Family::Text,
        SqlType::Date => Family::Date,
        SqlType::Time => Family::Time,
        SqlType::Timestamp | SqlType::Timestamptz => Family::Timestamp,
        SqlType::Interval => Family::Interval,
        SqlType::Bytea => Family::Bytea,
        SqlType::Uuid => Family::Uuid,
        SqlType::Json => Family::Json,
    }
}

/// True when Postgres has a cast from one type to the other.
pub(crate) fn can_cast(from: SqlType, to: SqlType) -> bool {
    let (a, b) = (family(from), family(to));
    a == b
        || a == Family::Text
        || b == Family::Text
        || matches!(
            (a, b),
            (Family::Date, Family::Timestamp)
                | (Family::Timestamp, Family::Date | Family::Time)
                | (Family::Time, Family::Interval)
                | (Family::Interval, Family::Time)
        )
        || matches!((from, to), (SqlType::Bool, SqlType::Int4) | (SqlType::Int4, SqlType::Bool))
}

/// Casts an array; `home` is the session's, for dates and times.
pub(crate) fn cast_to(array: &ArrayRef, from: &Field, to: SqlType, home: &Home<'_>) -> Result<ArrayRef, ValueError> {
    let zone = home.zone();
    let wanted = to.arrow();
    let mismatch = || {
        let given = SqlType::of_field(from).map_or_else(|| from.data_type().to_string(), SqlType::name);
        ValueError::new("42846", format!("cannot cast type {given} to {}", to.name()))
    };
    if *array.data_type() == DataType::Null {
        return Ok(new_null_array(&wanted, array.len()));
    }
    let ty = SqlType::of_field(from).ok_or_else(mismatch)?;
    if !can_cast(ty, to) {
        return Err(mismatch());
    }
    let unknown_zone = || ValueError::new("22023", format!("time zone \"{zone}\" not recognized"));
    let range = || ValueError::number_out_of_range(to);
    match (family(ty), family(to)) {
        (Family::Text, _) => {
            let text = cast(array, &DataType::Utf8View).map_err(|_| mismatch())?;
            from_text(&text, to, home)
        }
        (_, Family::Text) => limit_text(text_of(array, ty, zone)?, to),
        _ if *array.data_type() == wanted => Ok(array.clone()),
        (Family::Bool, _) => {
            let numbers: Int32Array = array.as_boolean().iter().map(|v| v.map(i32::from)).collect();
            Ok(Arc::new(numbers))
        }
        (_, Family::Bool) => {
            let truths: BooleanArray = array.as_primitive::<Int32Type>().iter().map(|v| v.map(|v| v != 0)).collect();
            Ok(Arc::new(truths))
        }
        (Family::Number, Family::Number) => number(array, to, &mismatch),
        (Family::Date, Family::Timestamp) => {
            let local = strict(array, &SqlType::Timestamp.arrow()).map_err(|_| range())?;
            if to == SqlType::Timestamp { Ok(local) } else { shift(&local, to, |v| local_to_utc(v, zone)).ok_or_else(unknown_zone) }
        }
        (Family::Timestamp, Family::Timestamp) if to == SqlType::Timestamptz => {
            shift(array, to, |v| local_to_utc(v, zone)).ok_or_else(unknown_zone)
        }
        (Family::Timestamp, _) => {
            let local = match ty {
                SqlType::Timestamptz => shift(array, SqlType::Timestamp, |v| utc_to_local(v, zone)).ok_or_else(unknown_zone)?,
                _ => array.clone(),
            };
            strict(&local, &wanted).map_err(|_| range())
        }
        (Family::Time, Family::Interval) => {
            let times = array.as_primitive::<Time64MicrosecondType>();
            let out = times.unary::<_, IntervalMonthDayNanoType>(|micros| IntervalMonthDayNano::new(0, 0, micros * 1000));
            Ok(Arc::new(out))
        }
        (Family::Interval, Family::Time) => {
            let spans = array.as_primitive::<IntervalMonthDayNanoType>();
            let day = 86_400_000_000;
            Ok(Arc::new(spans.unary::<_, Time64MicrosecondType>(|span| (span.nanoseconds / 1000).rem_euclid(day))))
        }
        _ => strict(array, &wanted).map_err(|_| mismatch()),
    }
}

/// Every value moved by a function of it. `None` when the function fails.
fn shift(array: &ArrayRef, to: SqlType, by: impl Fn(i64) -> Option<i64>) -> Option<ArrayRef> {
    let moved = array.as_primitive::<TimestampMicrosecondType>().try_unary::<_, TimestampMicrosecondType, ()>(|v| by(v).ok_or(())).ok()?;
    Some(Arc::new(moved.with_data_type(to.arrow())))
}

fn from_text(text: &ArrayRef, to: SqlType, home: &Home<'_>) -> Result<ArrayRef, ValueError> {
    match to {
        SqlType::Text | SqlType::Varchar(None) => return Ok(text.clone()),
        SqlType::Varchar(_) | SqlType::Char(_) => return limit_text(text.clone(), to),
        _ => {}
    }
    let mut builder = ColumnBuilder::for_rows(to, text.len());
    for value in text.as_string_view() {
        match value {
            Some(value) => builder.append_text(value, home)?,
            None => builder.append_null(),
        }
    }
    Ok(builder.finish())
}

/// The values' text forms, as a cast to text gives them: `true`, where the output function says `t`.
pub(crate) fn text_of(array: &ArrayRef, ty: SqlType, zone: &str) -> Result<ArrayRef, ValueError> {
    let array = cast(array, &ty.arrow()).map_err(|e| ValueError::new("42846", e.to_string()))?;
    if matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Json | SqlType::Uuid) {
        return Ok(array);
    }
    let mut text = StringViewBuilder::with_capacity(array.len());
    let mut value = Vec::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            text.append_null();
            continue;
        }
        value.clear();
        match ty {
            SqlType::Bool => value.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" }),
            SqlType::Timestamptz => write_timestamp_in(array.as_primitive::<TimestampMicrosecondType>().value(row), zone, &mut value),
            _ => write_text(&array, row, ty, &mut value),
        }
        text.append_value(String::from_utf8_lossy(&value));
    }
    Ok(Arc::new(text.finish()))
}

/// An explicit cast cuts what is too long, where an assignment refuses it.
fn limit_text(text: ArrayRef, to: SqlType) -> Result<ArrayRef, ValueError> {
    let (length, blanks) = match to {
        SqlType::Varchar(Some(n)) => (n as usize, true),
        SqlType::Char(n) => (n as usize, false),
        _ => return Ok(text),
    };
    let mut out = StringViewBuilder::with_capacity(text.len());
    for value in text.as_string_view() {
        let Some(value) = value else {
            out.append_null();
            continue;
        };
        let end = value.char_indices().nth(length).map_or(value.len(), |(at, _)| at);
        let kept = &value[..end];
        out.append_value(if blanks { kept } else { kept.trim_end_matches(' ') });
    }
    Ok(Arc::new(out.finish()))
}

fn number(array: &ArrayRef, to: SqlType, mismatch: &dyn Fn() -> ValueError) -> Result<ArrayRef, ValueError> {
    let wanted = to.arrow();
    match to {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => to_int(array.clone(), to, mismatch),
        SqlType::Numeric { precision, scale } => match array.data_type() {
            // A float has 15 or 6 digits that mean something; the rest is noise of its binary form.
            DataType::Float64 => {
                decimals(array.as_primitive::<Float64Type>().iter().map(|v| v.map(|v| format!("{v:.14e}"))), precision, scale)
            }
            DataType::Float32 => {
                decimals(array.as_primitive::<Float32Type>().iter().map(|v| v.map(|v| format!("{v:.5e}"))), precision, scale)
            }
            _ => strict(array, &wanted).map_err(|_| ValueError::numeric_overflow(precision, scale)),
        },
        SqlType::Float4 => {
            let out = strict(array, &wanted).map_err(|_| ValueError::number_out_of_range(to))?;
            let wide = cast(array, &DataType::Float64).map_err(|_| mismatch())?;
            let overflow = out.as_primitive::<Float32Type>().iter().zip(wide.as_primitive::<Float64Type>());
            if overflow.flat_map(|(out, wide)| out.zip(wide)).any(|(out, wide)| out.is_infinite() && wide.is_finite()) {
                return Err(ValueError::new("22003", "value out of range: overflow"));
            }
            Ok(out)
        }
        _ => strict(array, &wanted).map_err(|_| ValueError::number_out_of_range(to)),
    }
}

fn decimals(texts: impl Iterator<Item = Option<String>>, precision: u8, scale: i8) -> Result<ArrayRef, ValueError> {
    let values = texts.map(|t| t.map(|t| parse_decimal(t.as_bytes(), precision, scale)).transpose());
    let values: Decimal128Array = values.collect::<Result<Vec<_>, _>>()?.into();
    let ty = SqlType::Numeric { precision, scale };
    Ok(Arc::new(values.with_data_type(ty.arrow())))
}
