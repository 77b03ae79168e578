//! Parameters of Bind: bytes to one-row arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field};
use bytes::{Buf, Bytes};
use quire_sql::values::{self, Home};
use quire_sql::{ParamValue, SqlError, WireType};
use quire_types::SqlType;

/// Decodes the parameters of one Bind; dates and times are read at `home`.
pub(crate) fn decode(types: &[WireType], codes: &[i16], given: &[Option<Bytes>], home: &Home<'_>) -> Result<Vec<ParamValue>, SqlError> {
    if given.len() != types.len() {
        let message = format!("bind message supplies {} parameters, but prepared statement requires {}", given.len(), types.len());
        return Err(SqlError::new("08P01", message));
    }
    if codes.len() > 1 && codes.len() != given.len() {
        return Err(SqlError::new("08P01", format!("bind message has {} parameter formats but {} parameters", codes.len(), given.len())));
    }
    let format = |i: usize| codes.get(if codes.len() == 1 { 0 } else { i }).copied().unwrap_or(0);
    let mut out = Vec::with_capacity(given.len());
    for (i, (value, ty)) in given.iter().zip(types).enumerate() {
        let decoded = match (value, format(i)) {
            (None, _) => Ok(null(*ty)),
            (Some(bytes), 0) => text(*ty, bytes, home),
            (Some(bytes), 1) => binary(*ty, bytes),
            (Some(_), other) => Err(SqlError::new("22023", format!("unsupported format code: {other}"))),
        };
        out.push(decoded.map_err(|e: SqlError| e.with_context(format!("unnamed portal parameter ${}", i + 1)))?);
    }
    Ok(out)
}

fn scalar_of(ty: WireType) -> SqlType {
    match ty {
        WireType::Scalar(ty) | WireType::Array(ty) | WireType::Vector(ty) => ty,
        WireType::Oid => SqlType::Int8,
        WireType::Name | WireType::QuotedChar | WireType::Unknown => SqlType::Text,
    }
}

fn null(ty: WireType) -> ArrayRef {
    match ty {
        WireType::Array(item) | WireType::Vector(item) => {
            new_null_array(&DataType::List(Arc::new(Field::new("item", item.arrow(), true))), 1)
        }
        other => new_null_array(&scalar_of(other).arrow(), 1),
    }
}

fn text(ty: WireType, bytes: &[u8], home: &Home<'_>) -> Result<ArrayRef, SqlError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let bad = bytes.get(e.valid_up_to()).copied().unwrap_or_default();
        SqlError::new("22021", format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"))
    })?;
    if text.contains('\0') {
        return Err(SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    match ty {
        WireType::Array(item) => {
            list(item, array_items(text)?.iter().map(|i| i.as_deref()).map(|i| i.map(|t| values::parse_text(item, t, home))).collect())
        }
        WireType::Vector(item) => list(item, text.split_whitespace().map(|t| Some(values::parse_text(item, t, home))).collect()),
        other => Ok(values::parse_text(scalar_of(other), text, home)?),
    }
}

fn binary(ty: WireType, bytes: &[u8]) -> Result<ArrayRef, SqlError> {
    match ty {
        WireType::Array(item) | WireType::Vector(item) => binary_array(item, bytes),
        WireType::Oid => {
            let oid = <[u8; 4]>::try_from(bytes).map_err(|_| incorrect())?;
            Ok(Arc::new(Int64Array::from(vec![i64::from(u32::from_be_bytes(oid))])))
        }
        other => Ok(values::parse_binary(scalar_of(other), bytes)?),
    }
}

fn incorrect() -> SqlError {
    SqlError::new("22P03", "incorrect binary data format in bind parameter")
}

type Item = Option<Result<ArrayRef, values::ValueError>>;

fn list(item: SqlType, items: Vec<Item>) -> Result<ArrayRef, SqlError> {
    let mut parts = Vec::with_capacity(items.len());
    for value in items {
        parts.push(match value {
            Some(value) => value?,
            None => new_null_array(&item.arrow(), 1),
        });
    }
    let references: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    let flat = if references.is_empty() {
        new_null_array(&item.arrow(), 0)
    } else {
        concat(&references).map_err(|e| SqlError::internal(e.to_string()))?
    };
    let field = Arc::new(Field::new("item", item.arrow(), true));
    Ok(Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([flat.len()]), flat, None)))
}

fn binary_array(item: SqlType, bytes: &[u8]) -> Result<ArrayRef, SqlError> {
    let mut bytes = Bytes::copy_from_slice(bytes);
    if bytes.remaining() < 12 {
        return Err(incorrect());
    }
    let (dimensions, _nulls, _oid) = (bytes.get_i32(), bytes.get_i32(), bytes.get_u32());
    if dimensions == 0 {
        return list(item, vec![]);
    }
    if dimensions != 1 {
        return Err(SqlError::unsupported("a parameter that is an array of several dimensions"));
    }
    if bytes.remaining() < 8 {
        return Err(incorrect());
    }
    let (count, _lower) = (bytes.get_i32(), bytes.get_i32());
    let mut items = vec![];
    for _ in 0..count {
        if bytes.remaining() < 4 {
            return Err(incorrect());
        }
        match usize::try_from(bytes.get_i32()) {
            Err(_) => items.push(None),
            Ok(length) if bytes.remaining() >= length => items.push(Some(values::parse_binary(item, &bytes.split_to(length)))),
            Ok(_) => return Err(incorrect()),
        }
    }
    list(item, items)
}

/// The elements of `{1,NULL,"a b"}`; one dimension.
fn array_items(text: &str) -> Result<Vec<Option<String>>, SqlError> {
    let malformed = || SqlError::new("22P02", format!("malformed array literal: \"{text}\""));
    let inner = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(malformed)?;
    let mut items = vec![];
    let mut rest = inner.chars().peekable();
    if inner.trim().is_empty() {
        return Ok(items);
    }
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let mut item = String::new();
        let quoted = rest.next_if_eq(&'"').is_some();
        loop {
            match rest.peek().copied() {
                None if quoted => return Err(malformed()),
                None => break,
                Some('"') if quoted => {
                    rest.next();
                    break;
                }
                Some(',') if !quoted => break,
                Some('{' | '}' | '"') if !quoted => return Err(malformed()),
                Some('\\') => {
                    rest.next();
                    item.push(rest.next().ok_or_else(malformed)?);
                }
                Some(c) => {
                    rest.next();
                    item.push(c);
                }
            }
        }
        if !quoted {
            item.truncate(item.trim_end().len());
        }
        items.push(if !quoted && item.eq_ignore_ascii_case("null") { None } else { Some(item) });
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        match rest.next() {
            None => return Ok(items),
            Some(',') => {}
            Some(_) => return Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::array_items;

    #[test]
    fn array_literals_are_taken_apart() {
        let items = |t: &str| array_items(t).map_err(|e| e.code);
        let some = |t: &str| Some(t.to_string());
        assert_eq!(items("{}"), Ok(vec![]));
        assert_eq!(items("{1, NULL ,\"a,b\",\"null\",\"q\\\"\"}"), Ok(vec![some("1"), None, some("a,b"), some("null"), some("q\"")]));
        for bad in ["", "1,2", "{1", "{\"a}", "{{1}}", "{\"a\"b}"] {
            assert_eq!(items(bad), Err("22P02"), "{bad}");
        }
    }
}
