//! Columns built from text and binary values.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryViewBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder, StringViewBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::IntervalMonthDayNano;
use quire_types::SqlType;

use super::ValueError;
use super::datetime::{Home, parse_date, parse_time, parse_timestamp};
use super::interval::parse_interval;
use super::numeric::{parse_decimal, parse_int};

/// Rows that there is room for at the start when it is not known how many will come.
const ROWS: usize = 1024;
/// Blocks that long text is kept in, of many rows and of fewer.
const TEXT_BLOCK_BYTES: u32 = 1 << 20;
const SHORT_TEXT_BLOCK_BYTES: u32 = 8 << 10;
/// Days from 1970-01-01 to 2000-01-01, where Postgres' binary dates begin.
pub(crate) const EPOCH_DAYS: i32 = 10_957;
pub(crate) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// One column under construction.
pub struct ColumnBuilder {
    ty: SqlType,
    inner: Inner,
    /// Bytes of text and bytea so far.
    long_bytes: usize,
}

enum Inner {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder),
    Text(StringViewBuilder),
    Bytea(BinaryViewBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
}

impl ColumnBuilder {
    /// An empty column, for rows of which there may be many.
    pub fn new(ty: SqlType) -> ColumnBuilder {
        ColumnBuilder::for_rows(ty, ROWS)
    }

    /// An empty column, for about so many rows.
    pub fn for_rows(ty: SqlType, rows: usize) -> ColumnBuilder {
        // One value gets a block of its own size.
        let block = match rows {
            0 | 1 => 1,
            rows if rows < ROWS => SHORT_TEXT_BLOCK_BYTES,
            _ => TEXT_BLOCK_BYTES,
        };
        let inner = match ty {
            SqlType::Bool => Inner::Bool(BooleanBuilder::with_capacity(rows)),
            SqlType::Int2 => Inner::Int2(Int16Builder::with_capacity(rows)),
            SqlType::Int4 => Inner::Int4(Int32Builder::with_capacity(rows)),
            SqlType::Int8 => Inner::Int8(Int64Builder::with_capacity(rows)),
            SqlType::Float4 => Inner::Float4(Float32Builder::with_capacity(rows)),
            SqlType::Float8 => Inner::Float8(Float64Builder::with_capacity(rows)),
            SqlType::Numeric { .. } => Inner::Numeric(Decimal128Builder::with_capacity(rows).with_data_type(ty.arrow())),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid | SqlType::Json => {
                Inner::Text(StringViewBuilder::with_capacity(rows).with_fixed_block_size(block))
            }
            SqlType::Bytea => Inner::Bytea(BinaryViewBuilder::with_capacity(rows).with_fixed_block_size(block)),
            SqlType::Date => Inner::Date(Date32Builder::with_capacity(rows)),
            SqlType::Time => Inner::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            SqlType::Timestamp => Inner::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows)),
            SqlType::Timestamptz => Inner::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC")),
            SqlType::Interval => Inner::Interval(IntervalMonthDayNanoBuilder::with_capacity(rows)),
        };
        ColumnBuilder { ty, inner, long_bytes: 0 }
    }

    /// Appends NULL.
    pub fn append_null(&mut self) {
        match &mut self.inner {
            Inner::Bool(b) => b.append_null(),
            Inner::Int2(b) => b.append_null(),
            Inner::Int4(b) => b.append_null(),
            Inner::Int8(b) => b.append_null(),
            Inner::Float4(b) => b.append_null(),
            Inner::Float8(b) => b.append_null(),
            Inner::Numeric(b) => b.append_null(),
            Inner::Text(b) => b.append_null(),
            Inner::Bytea(b) => b.append_null(),
            Inner::Date(b) => b.append_null(),
            Inner::Time(b) => b.append_null(),
            Inner::Timestamp(b) => b.append_null(),
            Inner::Interval(b) => b.append_null(),
        }
    }

    /// Appends what a type's input function makes of text.
    pub fn append_text(&mut self, text: &str, home: &Home<'_>) -> Result<(), ValueError> {
        let ty = self.ty;
        match &mut self.inner {
            Inner::Bool(b) => b.append_value(parse_bool(text)?),
            Inner::Int2(b) => b.append_value(int(ty, text)?.try_into().map_err(|_| ValueError::out_of_range(ty, text))?),
            Inner::Int4(b) => b.append_value(int(ty, text)?.try_into().map_err(|_| ValueError::out_of_range(ty, text))?),
            Inner::Int8(b) => b.append_value(int(ty, text)?),
            Inner::Float4(b) => {
                let value: f32 = text.trim().parse().map_err(|_| ValueError::invalid(ty, text))?;
                if value.is_infinite() && !text.to_ascii_lowercase().contains("inf") {
                    return Err(ValueError::new("22003", format!("\"{text}\" is out of range for type real")));
                }
                b.append_value(value);
            }
            Inner::Float8(b) => {
                let value: f64 = text.trim().parse().map_err(|_| ValueError::invalid(ty, text))?;
                if value.is_infinite() && !text.to_ascii_lowercase().contains("inf") {
                    return Err(ValueError::new("22003", format!("\"{text}\" is out of range for type double precision")));
                }
                b.append_value(value);
            }
            Inner::Numeric(b) => {
                let SqlType::Numeric { precision, scale } = ty else { unreachable!("the builder was made for a numeric") };
                b.append_value(parse_decimal(text.as_bytes(), precision, scale)?);
            }
            Inner::Text(b) => {
                let kept = stored_text(ty, text)?;
                self.long_bytes += kept.len();
                b.append_value(kept);
            }
            Inner::Bytea(b) => {
                let bytes = parse_bytea(text)?;
                self.long_bytes += bytes.len();
                b.append_value(bytes);
            }
            Inner::Date(b) => b.append_value(parse_date(text, home)?),
            Inner::Time(b) => b.append_value(parse_time(text, home)?),
            Inner::Timestamp(b) => b.append_value(parse_timestamp(text, ty, home)?),
            Inner::Interval(b) => b.append_value(parse_interval(text)?),
        }
        Ok(())
    }

    /// Appends what a type's receive function makes of bytes.
    pub fn append_binary(&mut self, bytes: &[u8]) -> Result<(), ValueError> {
        let ty = self.ty;
        let wrong = || ValueError::binary(ty);
        macro_rules! fixed {
            ($t:ty) => {
                <$t>::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)
            };
        }
        match &mut self.inner {
            Inner::Bool(b) => match bytes {
                [value] => b.append_value(*value != 0),
                _ => return Err(wrong()),
            },
            Inner::Int2(b) => b.append_value(fixed!(i16)),
            Inner::Int4(b) => b.append_value(fixed!(i32)),
            Inner::Int8(b) => b.append_value(fixed!(i64)),
            Inner::Float4(b) => b.append_value(fixed!(f32)),
            Inner::Float8(b) => b.append_value(fixed!(f64)),
            Inner::Numeric(b) => {
                let SqlType::Numeric { precision, scale } = ty else { unreachable!("the builder was made for a numeric") };
                let text = numeric_text(bytes).ok_or_else(wrong)?;
                b.append_value(parse_decimal(text.as_bytes(), precision, scale)?);
            }
            Inner::Text(b) if ty == SqlType::Uuid => {
                let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| wrong())?;
                b.append_value(uuid::Uuid::from_bytes(bytes).hyphenated().to_string());
            }
            Inner::Text(b) => {
                let text = std::str::from_utf8(bytes).map_err(|e| invalid_utf8(bytes, e.valid_up_to()))?;
                let kept = stored_text(ty, text)?;
                self.long_bytes += kept.len();
                b.append_value(kept);
            }
            Inner::Bytea(b) => {
                self.long_bytes += bytes.len();
                b.append_value(bytes);
            }
            Inner::Date(b) => b.append_value(fixed!(i32).checked_add(EPOCH_DAYS).ok_or_else(wrong)?),
            Inner::Time(b) => b.append_value(Some(fixed!(i64)).filter(|t| (0..=86_400_000_000).contains(t)).ok_or_else(wrong)?),
            Inner::Timestamp(b) => b.append_value(fixed!(i64).checked_add(EPOCH_MICROS).ok_or_else(wrong)?),
            Inner::Interval(b) => {
                let [micros @ .., _, _, _, _, _, _, _, _] = bytes else { return Err(wrong()) };
                let micros = i64::from_be_bytes(micros.try_into().map_err(|_| wrong())?);
                let days = i32::from_be_bytes(bytes[8..12].try_into().map_err(|_| wrong())?);
                let months = i32::from_be_bytes(bytes[12..16].try_into().map_err(|_| wrong())?);
                b.append_value(IntervalMonthDayNano::new(months, days, micros.checked_mul(1000).ok_or_else(wrong)?));
            }
        }
        Ok(())
    }

    /// Bytes of the long values so far; fixed-width ones are counted by their rows.
    pub fn long_bytes(&self) -> usize {
        self.long_bytes
    }

    /// The column; the builder begins again.
    pub fn finish(&mut self) -> ArrayRef {
        self.long_bytes = 0;
        match &mut self.inner {
            Inner::Bool(b) => Arc::new(b.finish()),
            Inner::Int2(b) => Arc::new(b.finish()),
            Inner::Int4(b) => Arc::new(b.finish()),
            Inner::Int8(b) => Arc::new(b.finish()),
            Inner::Float4(b) => Arc::new(b.finish()),
            Inner::Float8(b) => Arc::new(b.finish()),
            Inner::Numeric(b) => Arc::new(b.finish()),
            Inner::Text(b) => Arc::new(b.finish()),
            Inner::Bytea(b) => Arc::new(b.finish()),
            Inner::Date(b) => Arc::new(b.finish()),
            Inner::Time(b) => Arc::new(b.finish()),
            Inner::Timestamp(b) => ArrayBuilder::finish(b),
            Inner::Interval(b) => Arc::new(b.finish()),
        }
    }
}

/// One value from text, as a one-row array.
pub fn parse_text(ty: SqlType, text: &str, home: &Home<'_>) -> Result<ArrayRef, ValueError> {
    let mut builder = ColumnBuilder::for_rows(ty, 1);
    builder.append_text(text, home)?;
    Ok(builder.finish())
}

/// One value from its binary form, as a one-row array.
pub fn parse_binary(ty: SqlType, bytes: &[u8]) -> Result<ArrayRef, ValueError> {
    let mut builder = ColumnBuilder::for_rows(ty, 1);
    builder.append_binary(bytes)?;
    Ok(builder.finish())
}

/// Checks text for a type that is kept as text, and gives the form in which it is kept.
pub fn normalize_text(ty: SqlType, text: &str) -> Result<String, ValueError> {
    stored_text(ty, text).map(|t| t.to_string())
}

pub(crate) fn invalid_utf8(bytes: &[u8], at: usize) -> ValueError {
    let shown: Vec<String> = bytes[at..].iter().take(1).map(|b| format!("0x{b:02x}")).collect();
    ValueError::new("22021", format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")))
}

fn stored_text(ty: SqlType, text: &str) -> Result<std::borrow::Cow<'_, str>, ValueError> {
    use std::borrow::Cow;
    if text.as_bytes().contains(&0) {
        return Err(ValueError::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    match ty {
        SqlType::Varchar(Some(n)) => limited(ty, text, n).map(Cow::Borrowed),
        SqlType::Char(n) => limited(ty, text.trim_end_matches(' '), n).map(Cow::Borrowed),
        SqlType::Uuid => {
            let braced = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text.trim());
            // A hyphen may follow each four digits.
            let groups = braced.split('-').all(|group| !group.is_empty() && group.len() % 4 == 0);
            let plain: String = braced.chars().filter(|c| *c != '-').collect();
            let parsed = uuid::Uuid::try_parse(if groups { &plain } else { braced }).map_err(|_| ValueError::invalid(ty, text))?;
            Ok(Cow::Owned(parsed.hyphenated().to_string()))
        }
        SqlType::Json => {
            let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
            match checked {
                Ok(_) => Ok(Cow::Borrowed(text)),
                Err(error) => {
                    let mut invalid = ValueError::new("22P02", "invalid input syntax for type json");
                    invalid.detail = Some(format!("{error}."));
                    Err(invalid)
                }
            }
        }
        _ => Ok(Cow::Borrowed(text)),
    }
}

/// At most `n` characters; excess blanks are cut, anything else is an error.
fn limited(ty: SqlType, text: &str, n: u32) -> Result<&str, ValueError> {
    if text.len() <= n as usize {
        return Ok(text);
    }
    match text.char_indices().nth(n as usize) {
        None => Ok(text),
        Some((at, _)) if text[at..].bytes().all(|b| b == b' ') => Ok(&text[..at]),
        Some(_) => Err(ValueError::too_long(ty)),
    }
}

fn int(ty: SqlType, text: &str) -> Result<i64, ValueError> {
    match parse_int(text.as_bytes()) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(ValueError::invalid(ty, text)),
        Err(()) => Err(ValueError::out_of_range(ty, text)),
    }
}

fn parse_bool(text: &str) -> Result<bool, ValueError> {
    let word = text.trim().to_ascii_lowercase();
    let is = |full: &str, at_least: usize| word.len() >= at_least && full.starts_with(&word);
    match word.as_str() {
        "1" => Ok(true),
        "0" => Ok(false),
        "on" => Ok(true),
        _ if is("true", 1) || is("yes", 1) => Ok(true),
        _ if is("false", 1) || is("no", 1) || is("off", 2) => Ok(false),
        _ => Err(ValueError::invalid(SqlType::Bool, text)),
    }
}

fn parse_bytea(text: &str) -> Result<Vec<u8>, ValueError> {
    let invalid = |message: &str| ValueError::new("22P02", message.to_string());
    let bad_digits = |message: &str| ValueError::new("22023", message.to_string());
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let value = |b: u8| (b as char).to_digit(16).ok_or_else(|| bad_digits(&format!("invalid hexadecimal digit: \"{}\"", b as char)));
        if digits.len() % 2 == 1 {
            return Err(bad_digits("invalid hexadecimal data: odd number of digits"));
        }
        return digits.chunks(2).map(|pair| Ok((value(pair[0])? * 16 + value(pair[1])?) as u8)).collect();
    }
    let mut out = vec![];
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return Ok(out),
            [b'\\', b'\\', tail @ ..] => {
                out.push(b'\\');
                rest = tail;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = tail;
            }
            [b'\\', ..] => return Err(invalid("invalid input syntax for type bytea")),
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}

/// A binary numeric (digit groups of 10000) as text.
fn numeric_text(bytes: &[u8]) -> Option<String> {
    let word = |i: usize| Some(i16::from_be_bytes(bytes.get(i * 2..i * 2 + 2)?.try_into().ok()?));
    let (count, weight, sign, scale) = (word(0)?, word(1)?, word(2)?, word(3)?);
    if count < 0 || bytes.len() != 8 + count as usize * 2 || !(0..=1000).contains(&scale) || !(-300..=300).contains(&weight) {
        return None;
    }
    let mut text = match sign as u16 {
        0 => String::new(),
        0x4000 => "-".to_string(),
        0xC000 => return Some("NaN".into()),
        _ => return None,
    };
    let digit = |i: i16| if i >= 0 && i < count { word(4 + i as usize).filter(|d| (0..10_000).contains(d)) } else { Some(0) };
    if weight < 0 {
        text.push('0');
    }
    for i in 0..=weight {
        text.push_str(&if i == 0 { digit(i)?.to_string() } else { format!("{:04}", digit(i)?) });
    }
    if scale > 0 {
        let mut fraction = String::new();
        for i in 0..scale.div_euclid(4) + 1 {
            fraction.push_str(&format!("{:04}", digit(weight + 1 + i)?));
        }
        fraction.truncate(scale as usize);
        text.push('.');
        text.push_str(&fraction);
    }
    Some(text)
}
