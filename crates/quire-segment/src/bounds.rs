//! Lower and upper bounds of a page's values.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{max, max_boolean, max_string_view, min, min_boolean, min_string_view};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use quire_types::{Datum, SqlType};

/// Text bounds are cut to this many bytes: enough to tell pages apart, small enough for every page to carry two.
const TEXT_BYTES_MAX: usize = 32;

/// Bounds of the non-null values; `None` where there is no value or the type keeps none.
pub fn bounds(array: &ArrayRef, ty: SqlType) -> (Option<Datum>, Option<Datum>) {
    if !ty.has_bounds() {
        return (None, None);
    }
    macro_rules! ints {
        ($t:ty) => {{
            let values = array.as_primitive::<$t>();
            (min(values).map(|v| Datum::Int(i64::from(v))), max(values).map(|v| Datum::Int(i64::from(v))))
        }};
    }
    match array.data_type() {
        DataType::Boolean => (min_boolean(array.as_boolean()).map(Datum::Bool), max_boolean(array.as_boolean()).map(Datum::Bool)),
        DataType::Int16 => ints!(Int16Type),
        DataType::Int32 => ints!(Int32Type),
        DataType::Int64 => ints!(Int64Type),
        DataType::Date32 => ints!(Date32Type),
        DataType::Time64(_) => ints!(Time64MicrosecondType),
        DataType::Timestamp(_, _) => ints!(TimestampMicrosecondType),
        DataType::Decimal128(_, _) => {
            let values = array.as_primitive::<Decimal128Type>();
            (min(values).map(Datum::Decimal), max(values).map(Datum::Decimal))
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            float_bounds(values.iter().flatten().map(f64::from))
        }
        DataType::Float64 => float_bounds(array.as_primitive::<Float64Type>().iter().flatten()),
        DataType::Utf8View => {
            let values = array.as_string_view();
            (
                min_string_view(values).map(|v| Datum::Text(prefix(v).to_string())),
                max_string_view(values).and_then(rounded_up).map(Datum::Text),
            )
        }
        _ => (None, None),
    }
}

/// NaN sorts above everything in Postgres and is no bound: a page with one keeps none. -0 and 0 are equal there.
fn float_bounds(values: impl Iterator<Item = f64>) -> (Option<Datum>, Option<Datum>) {
    let mut bounds: Option<(f64, f64)> = None;
    for value in values {
        if value.is_nan() {
            return (None, None);
        }
        let (low, high) = bounds.unwrap_or((value, value));
        bounds = Some((low.min(value), high.max(value)));
    }
    let unsigned = |v: f64, zero: f64| if v == 0.0 { zero } else { v };
    (bounds.map(|(low, _)| Datum::Float(unsigned(low, -0.0))), bounds.map(|(_, high)| Datum::Float(unsigned(high, 0.0))))
}

fn prefix(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// The text itself when it is short, else its prefix with the last character raised; `None` when none can be raised.
fn rounded_up(text: &str) -> Option<String> {
    let cut = prefix(text);
    if cut.len() == text.len() {
        return Some(text.to_string());
    }
    let mut characters: Vec<char> = cut.chars().collect();
    while let Some(last) = characters.pop() {
        if let Some(next) = successor(last) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

/// The next character in code point (and so in UTF-8 byte) order.
fn successor(c: char) -> Option<char> {
    match c {
        '\u{D7FF}' => Some('\u{E000}'),
        char::MAX => None,
        c => char::from_u32(c as u32 + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::{prefix, rounded_up};

    #[test]
    fn long_text_is_bounded_from_both_sides() {
        let long = "é".repeat(40);
        assert!(prefix(&long) <= long.as_str() && prefix(&long).len() <= 32);
        assert!(rounded_up(&long).is_some_and(|up| up > long));
        assert_eq!(rounded_up("short"), Some("short".into()));
        assert_eq!(rounded_up(&"\u{10FFFF}".repeat(20)), None);
    }
}
