//! Functions of text and bytes.

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use datafusion::logical_expr::{ScalarUDF, Volatility};
use quire_types::SqlType;

use super::forms::{Function, Gives, Kind, Row, blobs, each1, form, int4s, texts, variadic};
use super::native::{Call, sql_error};
use super::regexp::substring_by_pattern;
use crate::{SqlError, values};

use Kind::{Any, Bytea, Int4, Text};

pub(super) fn udfs() -> Vec<ScalarUDF> {
    [lengths(), substrings(), quotes(), joins()].into_iter().flatten().chain([uuid()]).collect()
}

fn too_long() -> SqlError {
    SqlError::new("22003", "integer out of range")
}

fn length(value: usize) -> Row<i32> {
    i32::try_from(value).map(Some).map_err(|_| too_long())
}

/// Bytes of a text as it is stored in Postgres: `char(n)` has its blanks.
fn octets(call: &Call, times: usize) -> Result<ArrayRef> {
    let padded = match SqlType::of_field(&call.fields[0]) {
        Some(SqlType::Char(n)) => n as usize,
        _ => 0,
    };
    int4s(each1(call.text(0), |text| {
        length((text.len() + padded.saturating_sub(if padded == 0 { 0 } else { text.chars().count() })) * times)
    }))
}

fn lengths() -> Vec<ScalarUDF> {
    let characters = |call: &Call| int4s(each1(call.text(0), |text| length(text.chars().count())));
    let forms = || {
        vec![
            form(&[Text], Gives::Is(Int4), characters),
            form(&[Bytea], Gives::Is(Int4), |call| int4s(each1(call.bytes(0), |bytes| length(bytes.len())))),
        ]
    };
    vec![
        Function::udf("length", forms()),
        Function::udf(
            "octet_length",
            vec![
                form(&[Text], Gives::Is(Int4), |call| octets(call, 1)),
                form(&[Bytea], Gives::Is(Int4), |call| int4s(each1(call.bytes(0), |bytes| length(bytes.len())))),
            ],
        ),
        Function::udf(
            "bit_length",
            vec![
                form(&[Text], Gives::Is(Int4), |call| octets(call, 8)),
                form(&[Bytea], Gives::Is(Int4), |call| int4s(each1(call.bytes(0), |bytes| length(bytes.len() * 8)))),
            ],
        ),
    ]
}

/// The part from a position (from 1, and perhaps before it) of so many: where it begins, from 0, and how many there are to take.
fn part(start: i32, count: Option<i32>) -> std::result::Result<(usize, usize), SqlError> {
    let start = i64::from(start);
    let Some(count) = count else { return Ok(((start - 1).max(0) as usize, usize::MAX)) };
    if count < 0 {
        return Err(SqlError::new("22011", "negative substring length not allowed"));
    }
    let end = (start + i64::from(count)).max(1);
    let start = start.max(1);
    Ok(((start - 1) as usize, (end - start).max(0) as usize))
}

fn cut(text: &str, (skip, take): (usize, usize)) -> &str {
    if text.is_ascii() {
        let from = skip.min(text.len());
        return &text[from..from.saturating_add(take).min(text.len())];
    }
    let from = text.char_indices().nth(skip).map_or(text.len(), |(at, _)| at);
    let rest = &text[from..];
    &rest[..rest.char_indices().nth(take).map_or(rest.len(), |(at, _)| at)]
}

fn substring(call: &Call) -> Result<ArrayRef> {
    let counts = (call.arrays.len() > 2).then(|| call.int4(2));
    let texts = call.text(0);
    let starts = call.int4(1);
    let mut out = arrow::array::StringViewBuilder::with_capacity(call.rows);
    for row in 0..call.rows {
        if call.arrays.iter().any(|a| a.is_null(row)) {
            out.append_null();
            continue;
        }
        let part = part(starts.value(row), counts.map(|c| c.value(row))).map_err(sql_error)?;
        out.append_value(cut(texts.value(row), part));
    }
    Ok(std::sync::Arc::new(out.finish()))
}

fn bytes_part(call: &Call) -> Result<ArrayRef> {
    let counts = (call.arrays.len() > 2).then(|| call.int4(2));
    blobs((0..call.rows).map(|row| {
        if call.arrays.iter().any(|a| a.is_null(row)) {
            return Ok(None);
        }
        let (skip, take) = part(call.int4(1).value(row), counts.map(|c| c.value(row)))?;
        let bytes = call.bytes(0).value(row);
        let from = skip.min(bytes.len());
        Ok(Some(bytes[from..from.saturating_add(take).min(bytes.len())].to_vec()))
    }))
}

fn substrings() -> Vec<ScalarUDF> {
    let forms = || {
        vec![
            form(&[Text, Int4], Gives::Is(Text), substring),
            form(&[Text, Int4, Int4], Gives::Is(Text), substring),
            form(&[Bytea, Int4], Gives::Is(Bytea), bytes_part),
            form(&[Bytea, Int4, Int4], Gives::Is(Bytea), bytes_part),
        ]
    };
    let mut with_patterns = forms();
    with_patterns.push(form(&[Text, Text], Gives::Is(Text), substring_by_pattern));
    vec![Function::udf("substring", with_patterns), Function::udf("substr", forms())]
}

/// A name in double quotes where it needs them.
pub(super) fn quoted_ident(name: &str) -> String {
    if crate::resolve::is_reserved(name) { format!("\"{name}\"") } else { crate::system::quoted(name) }
}

/// A string constant.
pub(super) fn quoted_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Values as their types' output functions print them.
pub(super) fn outputs(array: &ArrayRef, field: &Field, zone: &str) -> Result<StringViewArray> {
    if let Some(truths) = array.as_boolean_opt() {
        return Ok(truths.iter().map(|v| v.map(|v| if v { "t" } else { "f" })).collect());
    }
    if *array.data_type() == DataType::Null {
        return Ok(StringViewArray::from_iter(vec![None::<&str>; array.len()]));
    }
    let texts = match SqlType::of_field(field) {
        Some(ty) => values::text_of(array, ty, zone).map_err(|e| sql_error(SqlError::from(e)))?,
        None => super::cast::shown(array)?,
    };
    let texts = arrow::compute::cast(&texts, &DataType::Utf8View)?;
    Ok(texts.as_string_view().clone())
}

fn quotes() -> Vec<ScalarUDF> {
    let literal = |call: &Call| {
        let texts_ = outputs(&call.arrays[0], &call.fields[0], call.zone)?;
        texts(each1(&texts_, |text| Ok(Some(quoted_literal(text)))))
    };
    let nullable = |call: &Call| {
        let texts_ = outputs(&call.arrays[0], &call.fields[0], call.zone)?;
        texts(texts_.iter().map(|text| Ok(Some(text.map_or_else(|| "NULL".to_string(), quoted_literal)))))
    };
    vec![
        Function::udf(
            "quote_ident",
            vec![form(&[Text], Gives::Is(Text), |call| texts(each1(call.text(0), |t| Ok(Some(quoted_ident(t))))))],
        ),
        Function::udf("quote_literal", vec![form(&[Any], Gives::Is(Text), literal)]),
        Function::udf("quote_nullable", vec![form(&[Any], Gives::Is(Text), nullable)]),
        Function::of(
            "format",
            Volatility::Stable,
            vec![form(&[Text], Gives::Is(Text), format_rows), variadic(&[Text, Any], Gives::Is(Text), format_rows)],
        ),
    ]
}

fn format_rows(call: &Call) -> Result<ArrayRef> {
    let columns = call.arrays[1..].iter().zip(&call.fields[1..]).map(|(array, field)| outputs(array, field, call.zone));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    texts(call.text(0).iter().enumerate().map(|(row, template)| {
        let values: Vec<Option<&str>> = columns.iter().map(|c| c.is_valid(row).then(|| c.value(row))).collect();
        template.map(|t| formatted(t, &values)).transpose()
    }))
}

/// The argument that a specifier names or that comes next.
fn argument<'v>(values: &[Option<&'v str>], at: usize) -> std::result::Result<Option<&'v str>, SqlError> {
    values.get(at).copied().ok_or_else(|| SqlError::new("22023", "too few arguments for format()"))
}

/// `%[position$][-][width]type`
fn formatted(template: &str, values: &[Option<&str>]) -> std::result::Result<String, SqlError> {
    let unterminated = || SqlError::new("22023", "unterminated format() type specifier").with_hint("For a single \"%\" use \"%%\".");
    let mut out = String::new();
    let mut chars = template.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars>| {
            let mut value = None::<usize>;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize - '0' as usize));
            }
            value
        };
        let mut position = None;
        let mut width = None;
        // Digits are a position when a dollar follows, and else a width.
        if let Some(value) = number(&mut chars) {
            if chars.next_if_eq(&'$').is_some() {
                if value == 0 {
                    return Err(SqlError::new("22023", "format specifies argument 0, but arguments are numbered from 1"));
                }
                position = Some(value - 1);
            } else {
                width = Some(value as i64);
            }
        }
        let mut left = false;
        while width.is_none() && chars.next_if_eq(&'-').is_some() {
            left = true;
        }
        if width.is_none() && chars.next_if_eq(&'*').is_some() {
            let at = match number(&mut chars) {
                Some(value) if chars.next_if_eq(&'$').is_some() => value.saturating_sub(1),
                Some(_) => return Err(unterminated()),
                None => {
                    next += 1;
                    next - 1
                }
            };
            let given = argument(values, at)?.unwrap_or("0");
            let given: i64 =
                given.parse().map_err(|_| SqlError::new("22P02", format!("invalid input syntax for type integer: \"{given}\"")))?;
            left |= given < 0;
            width = Some(given.abs());
        } else if width.is_none() {
            width = number(&mut chars).map(|w| w as i64);
        }
        let kind = chars.next().ok_or_else(unterminated)?;
        if !matches!(kind, 's' | 'I' | 'L') {
            let error = SqlError::new("22023", format!("unrecognized format() type specifier \"{kind}\""));
            return Err(error.with_hint("For a single \"%\" use \"%%\"."));
        }
        let at = position.unwrap_or(next);
        next = at + 1;
        let shown = match (kind, argument(values, at)?) {
            ('I', None) => return Err(SqlError::new("22004", "null values cannot be formatted as an SQL identifier")),
            ('I', Some(name)) => quoted_ident(name),
            ('L', value) => value.map_or_else(|| "NULL".to_string(), quoted_literal),
            (_, value) => value.unwrap_or("").to_string(),
        };
        let width = usize::try_from(width.unwrap_or(0)).unwrap_or(0).min(1 << 20);
        out.push_str(&if left { format!("{shown:<width$}") } else { format!("{shown:>width$}") });
    }
    Ok(out)
}

fn joins() -> Vec<ScalarUDF> {
    vec![
        Function::of("concat", Volatility::Stable, vec![variadic(&[Any], Gives::Is(Text), |call| joined(call, None))]),
        Function::of(
            "concat_ws",
            Volatility::Stable,
            vec![variadic(&[Text, Any], Gives::Is(Text), |call| joined(call, Some(call.text(0))))],
        ),
        Function::udf("unistr", vec![form(&[Text], Gives::Is(Text), |call| texts(each1(call.text(0), |text| unescaped(text).map(Some))))]),
        Function::udf(
            "quire_rows_of_string_to_table",
            vec![
                form(&[Text, Text], Gives::List(Text), |call| {
                    super::forms::text_lists(
                        call.text(0).iter().zip(call.text(1)).map(|(text, separator)| Ok(text.map(|t| pieces(t, separator)))),
                    )
                }),
                form(&[Text, Text, Text], Gives::List(Text), |call| {
                    let rows = call.text(0).iter().zip(call.text(1)).zip(call.text(2));
                    super::forms::text_lists(rows.map(|((text, separator), null)| {
                        let but_null = |piece: Option<String>| piece.filter(|piece| Some(piece.as_str()) != null);
                        Ok(text.map(|t| pieces(t, separator).into_iter().map(but_null).collect()))
                    }))
                }),
            ],
        ),
    ]
}

/// A text at its separators; at every character without one.
fn pieces(text: &str, separator: Option<&str>) -> Vec<Option<String>> {
    match separator {
        _ if text.is_empty() => vec![],
        None => text.chars().map(|c| Some(c.to_string())).collect(),
        Some("") => vec![Some(text.to_string())],
        Some(separator) => text.split(separator).map(|p| Some(p.to_string())).collect(),
    }
}

/// All values that are there, one after the other, perhaps with a separator between them.
fn joined(call: &Call, separators: Option<&StringViewArray>) -> Result<ArrayRef> {
    let from = usize::from(separators.is_some());
    let columns = call.arrays[from..].iter().zip(&call.fields[from..]).map(|(array, field)| outputs(array, field, call.zone));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    texts((0..call.rows).map(|row| {
        if separators.is_some_and(|s| s.is_null(row)) {
            return Ok(None);
        }
        let values: Vec<&str> = columns.iter().filter(|c| c.is_valid(row)).map(|c| c.value(row)).collect();
        Ok(Some(values.join(separators.map_or("", |s| s.value(row)))))
    }))
}

/// `\0061`, `\+000061`, `\u0061` and `\U00000061` to the characters that they are.
fn unescaped(text: &str) -> std::result::Result<String, SqlError> {
    let invalid =
        || SqlError::syntax("invalid Unicode escape").with_hint("Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX.");
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('\\') {
            out.push('\\');
            rest = after;
            continue;
        }
        let (prefix, digits) = match rest.chars().next() {
            Some('+') => (1, 6),
            Some('u') => (1, 4),
            Some('U') => (1, 8),
            _ => (0, 4),
        };
        let code = rest.get(prefix..prefix + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).ok_or_else(invalid)?;
        out.push(char::from_u32(code).ok_or_else(|| SqlError::syntax("invalid Unicode surrogate pair"))?);
        rest = &rest[prefix + digits..];
    }
    out.push_str(rest);
    Ok(out)
}

fn uuid() -> ScalarUDF {
    Function::of(
        "gen_random_uuid",
        Volatility::Volatile,
        vec![form(&[], Gives::Is(Kind::Uuid), |call| {
            let random = || uuid::Builder::from_random_bytes(quire_kit::random::u128().to_be_bytes()).into_uuid();
            texts((0..call.rows).map(|_| Ok(Some(random().hyphenated().to_string()))))
        })],
    )
}
