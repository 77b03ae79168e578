//! Functions of json. A value is kept as the text that was given, so a part of it is a part of that text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use datafusion::logical_expr::{ScalarUDF, Volatility};
use quire_types::SqlType;

use super::forms::{Function, Gives, Kind, Row, each1, each2, form, int4s, text_lists, texts, variadic};
use super::native::{Call, sql_error};
use super::text::outputs;
use crate::{SqlError, values};

use Kind::{Any, Int4, Json, Text};

/// How deep a value may be nested, as Postgres' parser would run out of stack.
const DEPTH_MAX: usize = 512;

pub(super) fn udfs() -> Vec<ScalarUDF> {
    let list = Gives::List(Text);
    vec![
        Function::of(
            "to_json",
            Volatility::Stable,
            vec![form(&[Any], Gives::Is(Json), |call| texts(column(call, 0)?.into_iter().map(Ok)))],
        ),
        Function::of(
            "row_to_json",
            Volatility::Stable,
            vec![form(&[Any], Gives::Is(Json), |call| texts(column(call, 0)?.into_iter().map(Ok)))],
        ),
        Function::of(
            "array_to_json",
            Volatility::Stable,
            vec![form(&[Kind::Array], Gives::Is(Json), |call| texts(column(call, 0)?.into_iter().map(Ok)))],
        ),
        Function::of(
            "json_build_array",
            Volatility::Stable,
            vec![form(&[], Gives::Is(Json), build_array), variadic(&[Any], Gives::Is(Json), build_array)],
        ),
        Function::of(
            "json_build_object",
            Volatility::Stable,
            vec![form(&[], Gives::Is(Json), build_object), variadic(&[Any], Gives::Is(Json), build_object)],
        ),
        // What json_agg and json_object_agg make of the values that were gathered.
        Function::udf("quire_json_list", vec![form(&[Kind::Array], Gives::Is(Json), gathered_list)]),
        Function::udf("quire_json_object", vec![form(&[Kind::Array, Kind::Array], Gives::Is(Json), gathered_object)]),
        Function::udf(
            "json_array_length",
            vec![form(&[Json], Gives::Is(Int4), |call| {
                int4s(each1(call.text(0), |json| match Value::of(json)? {
                    Value::Array(items) => Ok(Some(items.len() as i32)),
                    Value::Object(_) => Err(SqlError::new("22023", "cannot get array length of a non-array")),
                    Value::Scalar(_) => Err(SqlError::new("22023", "cannot get array length of a scalar")),
                }))
            })],
        ),
        Function::udf(
            "json_typeof",
            vec![form(&[Json], Gives::Is(Text), |call| texts(each1(call.text(0), |json| type_of(json).map(Some))))],
        ),
        Function::udf(
            "json_strip_nulls",
            vec![form(&[Json], Gives::Is(Json), |call| texts(each1(call.text(0), |json| without_nulls(json.trim()).map(Some))))],
        ),
        Function::udf("json_extract_path", vec![variadic(&[Json, Text], Gives::Is(Json), |c| by_arguments(c, false))]),
        Function::udf("json_extract_path_text", vec![variadic(&[Json, Text], Gives::Is(Text), |c| by_arguments(c, true))]),
        Function::udf("quire_rows_of_json_array_elements", vec![form(&[Json], list, |c| elements(c, false))]),
        Function::udf("quire_rows_of_json_array_elements_text", vec![form(&[Json], list, |c| elements(c, true))]),
        Function::udf("quire_rows_of_json_object_keys", vec![form(&[Json], list, keys)]),
    ]
}

/// What -> ->> #> #>> are planned as.
pub(super) fn operators() -> Vec<ScalarUDF> {
    vec![
        Function::udf(
            "quire_json_get",
            vec![form(&[Json, Text], Gives::Is(Json), |c| by_key(c, false)), form(&[Json, Int4], Gives::Is(Json), |c| by_index(c, false))],
        ),
        Function::udf(
            "quire_json_get_text",
            vec![form(&[Json, Text], Gives::Is(Text), |c| by_key(c, true)), form(&[Json, Int4], Gives::Is(Text), |c| by_index(c, true))],
        ),
        Function::udf(
            "quire_json_path",
            vec![
                form(&[Json, Text], Gives::Is(Json), |c| by_path_text(c, false)),
                form(&[Json, Kind::Array], Gives::Is(Json), |c| by_path(c, false)),
            ],
        ),
        Function::udf(
            "quire_json_path_text",
            vec![
                form(&[Json, Text], Gives::Is(Text), |c| by_path_text(c, true)),
                form(&[Json, Kind::Array], Gives::Is(Text), |c| by_path(c, true)),
            ],
        ),
    ]
}

/// A value's outermost level, with the texts of what is in it.
enum Value<'a> {
    Array(Vec<&'a str>),
    /// Keys are unescaped.
    Object(Vec<(String, &'a str)>),
    Scalar(&'a str),
}

fn invalid() -> SqlError {
    SqlError::new("22P02", "invalid input syntax for type json")
}

/// Goes through valid JSON text by position.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn next(&mut self) -> Option<u8> {
        self.blanks();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.next() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// The text of the next value.
    fn value(&mut self, depth: usize) -> std::result::Result<&'a str, SqlError> {
        if depth > DEPTH_MAX {
            return Err(SqlError::new("54001", "json is nested too deeply"));
        }
        let first = self.next().ok_or_else(invalid)?;
        let start = self.at;
        match first {
            b'"' => self.string()?,
            b'{' | b'[' => {
                let close = if first == b'{' { b'}' } else { b']' };
                self.at += 1;
                if !self.take(close) {
                    loop {
                        if first == b'{' {
                            self.blanks();
                            self.string()?;
                            if !self.take(b':') {
                                return Err(invalid());
                            }
                        }
                        self.value(depth + 1)?;
                        if self.take(close) {
                            break;
                        }
                        if !self.take(b',') {
                            return Err(invalid());
                        }
                    }
                }
            }
            _ => {
                let rest = &self.text[self.at..];
                let length = rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                if length == 0 {
                    return Err(invalid());
                }
                self.at += length;
            }
        }
        Ok(&self.text[start..self.at])
    }

    fn string(&mut self) -> std::result::Result<(), SqlError> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) != Some(&b'"') {
            return Err(invalid());
        }
        let mut at = self.at + 1;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    self.at = at + 1;
                    return Ok(());
                }
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        Err(invalid())
    }
}

impl<'a> Value<'a> {
    fn of(text: &'a str) -> std::result::Result<Value<'a>, SqlError> {
        let mut scanner = Scanner { text, at: 0 };
        match scanner.next() {
            Some(b'[') => {
                scanner.at += 1;
                let mut items = vec![];
                if !scanner.take(b']') {
                    loop {
                        items.push(scanner.value(1)?);
                        if !scanner.take(b',') {
                            break;
                        }
                    }
                }
                Ok(Value::Array(items))
            }
            Some(b'{') => {
                scanner.at += 1;
                let mut members = vec![];
                if !scanner.take(b'}') {
                    loop {
                        scanner.blanks();
                        let start = scanner.at;
                        scanner.string()?;
                        let key = serde_json::from_str(&text[start..scanner.at]).map_err(|_| invalid())?;
                        if !scanner.take(b':') {
                            return Err(invalid());
                        }
                        members.push((key, scanner.value(1)?));
                        if !scanner.take(b',') {
                            break;
                        }
                    }
                }
                Ok(Value::Object(members))
            }
            _ => Ok(Value::Scalar(scanner.value(0)?)),
        }
    }

    /// The member of that name; of several the last.
    fn member(&self, key: &str) -> Option<&'a str> {
        match self {
            Value::Object(members) => members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value),
            _ => None,
        }
    }

    /// The item at a place, counted from the end when negative.
    fn item(&self, at: i64) -> Option<&'a str> {
        match self {
            Value::Array(items) => {
                let at = if at < 0 { items.len() as i64 + at } else { at };
                usize::try_from(at).ok().and_then(|at| items.get(at)).copied()
            }
            _ => None,
        }
    }
}

fn type_of(json: &str) -> std::result::Result<String, SqlError> {
    Ok(match Value::of(json)? {
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Scalar(text) => match text.as_bytes()[0] {
            b'"' => "string",
            b't' | b'f' => "boolean",
            b'n' => "null",
            _ => "number",
        },
    }
    .to_string())
}

/// A part as text: a string without its quotes, NULL for null.
fn plain(json: &str) -> Row<String> {
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).map(Some).map_err(|_| invalid()),
        Some(b'n') if json == "null" => Ok(None),
        _ => Ok(Some(json.to_string())),
    }
}

fn leave(part: Option<&str>, as_text: bool) -> Row<String> {
    match part {
        Some(part) if as_text => plain(part),
        Some(part) => Ok(Some(part.to_string())),
        None => Ok(None),
    }
}

fn by_key(call: &Call, as_text: bool) -> Result<ArrayRef> {
    texts(each2(call.text(0), call.text(1), |json, key| leave(Value::of(json)?.member(key), as_text)))
}

fn by_index(call: &Call, as_text: bool) -> Result<ArrayRef> {
    texts(each2(call.text(0), call.int4(1), |json, at| leave(Value::of(json)?.item(at.into()), as_text)))
}

fn walk<'a>(json: &'a str, steps: &[Option<String>]) -> std::result::Result<Option<&'a str>, SqlError> {
    let mut at = json.trim();
    for step in steps {
        let Some(step) = step else { return Ok(None) };
        let value = Value::of(at)?;
        let found = match &value {
            Value::Array(_) => step.parse().ok().and_then(|place| value.item(place)),
            _ => value.member(step),
        };
        let Some(found) = found else { return Ok(None) };
        at = found;
    }
    Ok(Some(at))
}

/// The path is a constant in quotes: `{a,0,b}`.
fn by_path_text(call: &Call, as_text: bool) -> Result<ArrayRef> {
    texts(each2(call.text(0), call.text(1), |json, path| leave(walk(json, &super::cast::array_items(path)?)?, as_text)))
}

fn by_path(call: &Call, as_text: bool) -> Result<ArrayRef> {
    let lists = list_of_texts(&call.arrays[1])?;
    texts(each2(call.text(0), lists, |json, path| leave(walk(json, &path)?, as_text)))
}

fn by_arguments(call: &Call, as_text: bool) -> Result<ArrayRef> {
    texts((0..call.rows).map(|row| {
        if call.arrays.iter().any(|a| a.is_null(row)) {
            return Ok(None);
        }
        let steps: Vec<_> = (1..call.arrays.len()).map(|i| Some(call.text(i).value(row).to_string())).collect();
        leave(walk(call.text(0).value(row), &steps)?, as_text)
    }))
}

/// The rows of an array of texts.
fn list_of_texts(array: &ArrayRef) -> Result<Vec<Option<Vec<Option<String>>>>> {
    let lists = arrow::compute::cast(array, &DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true))))?;
    let lists = lists.as_list::<i32>();
    Ok(lists.iter().map(|l| l.map(|l| l.as_string_view().iter().map(|v| v.map(str::to_string)).collect())).collect())
}

fn elements(call: &Call, as_text: bool) -> Result<ArrayRef> {
    text_lists(each1(call.text(0), |json| match Value::of(json)? {
        Value::Array(items) => {
            items.into_iter().map(|item| leave(Some(item), as_text)).collect::<std::result::Result<Vec<_>, _>>().map(Some)
        }
        Value::Object(_) => Err(SqlError::new("22023", "cannot call json_array_elements on a non-array")),
        Value::Scalar(_) => Err(SqlError::new("22023", "cannot call json_array_elements on a scalar")),
    }))
}

fn keys(call: &Call) -> Result<ArrayRef> {
    text_lists(each1(call.text(0), |json| match Value::of(json)? {
        Value::Object(members) => Ok(Some(members.into_iter().map(|(key, _)| Some(key)).collect())),
        Value::Array(_) => Err(SqlError::new("22023", "cannot call json_object_keys on an array")),
        Value::Scalar(_) => Err(SqlError::new("22023", "cannot call json_object_keys on a scalar")),
    }))
}

fn without_nulls(json: &str) -> std::result::Result<String, SqlError> {
    Ok(match Value::of(json)? {
        Value::Scalar(text) => text.to_string(),
        Value::Array(items) => {
            let items = items.into_iter().map(without_nulls).collect::<std::result::Result<Vec<_>, _>>()?;
            format!("[{}]", items.join(","))
        }
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| *value != "null");
            let members = kept.map(|(key, value)| Ok(format!("{}:{}", quoted(&key), without_nulls(value)?)));
            format!("{{{}}}", members.collect::<std::result::Result<Vec<_>, SqlError>>()?.join(","))
        }
    })
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A column's values as json; SQL's NULL stays NULL.
fn column(call: &Call, i: usize) -> Result<Vec<Option<String>>> {
    as_json(&call.arrays[i], &call.fields[i], call.zone)
}

fn as_json(array: &ArrayRef, field: &Field, zone: &str) -> Result<Vec<Option<String>>> {
    let with_null = |values: Vec<Option<String>>| values.into_iter().map(|v| v.unwrap_or_else(|| "null".into())).collect::<Vec<_>>();
    match array.data_type() {
        DataType::Null => return Ok(vec![None; array.len()]),
        DataType::List(item) => {
            let lists = array.as_list::<i32>();
            let rows =
                lists.iter().map(|row| row.map(|row| Ok(format!("[{}]", with_null(as_json(&row, item, zone)?).join(",")))).transpose());
            return rows.collect();
        }
        DataType::Struct(fields) => {
            let parts = array.as_struct();
            let columns = parts.columns().iter().zip(fields).map(|(column, field)| as_json(column, field, zone).map(with_null));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            return Ok((0..array.len())
                .map(|row| {
                    let names = fields.iter().enumerate().map(|(i, f)| match f.name().strip_prefix('c') {
                        Some(digits) if digits.parse() == Ok(i) => format!("f{}", i + 1),
                        _ => f.name().clone(),
                    });
                    let members: Vec<String> = names.zip(&columns).map(|(name, c)| format!("{}:{}", quoted(&name), c[row])).collect();
                    array.is_valid(row).then(|| format!("{{{}}}", members.join(",")))
                })
                .collect());
        }
        _ => {}
    }
    let ty = SqlType::of_field(field).unwrap_or(SqlType::Text);
    let shown: StringViewArray = match ty {
        SqlType::Bool => values::text_of(array, ty, zone).map_err(|e| sql_error(SqlError::from(e)))?.as_string_view().clone(),
        _ => outputs(array, field, zone)?,
    };
    let one = |text: &str| match ty {
        SqlType::Json | SqlType::Bool => text.to_string(),
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Numeric { .. } => text.to_string(),
        SqlType::Float4 | SqlType::Float8 if text.ends_with(|c: char| c.is_ascii_digit()) => text.to_string(),
        SqlType::Timestamp => quoted(&text.replacen(' ', "T", 1)),
        // ISO 8601 has minutes in an offset.
        SqlType::Timestamptz => {
            let iso = text.replacen(' ', "T", 1);
            let hours_only = iso.len() > 3 && matches!(iso.as_bytes()[iso.len() - 3], b'+' | b'-');
            quoted(&if hours_only { format!("{iso}:00") } else { iso })
        }
        _ => quoted(text),
    };
    Ok(shown.iter().map(|v| v.map(one)).collect())
}

fn build_array(call: &Call) -> Result<ArrayRef> {
    let columns = (0..call.arrays.len()).map(|i| column(call, i)).collect::<Result<Vec<_>>>()?;
    texts((0..call.rows).map(|row| {
        let items: Vec<&str> = columns.iter().map(|c| c[row].as_deref().unwrap_or("null")).collect();
        Ok(Some(format!("[{}]", items.join(", "))))
    }))
}

fn build_object(call: &Call) -> Result<ArrayRef> {
    if !call.arrays.len().is_multiple_of(2) {
        let error = SqlError::new("22023", "argument list must have even number of elements");
        return Err(sql_error(error.with_hint("The arguments of json_build_object() must consist of alternating keys and values.")));
    }
    let mut members = vec![];
    for i in (0..call.arrays.len()).step_by(2) {
        members.push((outputs(&call.arrays[i], &call.fields[i], call.zone)?, column(call, i + 1)?));
    }
    texts((0..call.rows).map(|row| {
        let mut shown = vec![];
        for (i, (keys, values)) in members.iter().enumerate() {
            if keys.is_null(row) {
                let error = SqlError::new("22023", format!("argument {} cannot be null", i * 2 + 1));
                return Err(error.with_hint("Object keys should be text."));
            }
            shown.push(format!("{} : {}", quoted(keys.value(row)), values[row].as_deref().unwrap_or("null")));
        }
        Ok(Some(format!("{{{}}}", shown.join(", "))))
    }))
}

fn gathered_list(call: &Call) -> Result<ArrayRef> {
    let lists = list_of_texts(&call.arrays[0])?;
    texts(each1(lists, |items| {
        let items: Vec<String> = items.into_iter().map(|v| v.unwrap_or_else(|| "null".into())).collect();
        Ok(Some(format!("[{}]", items.join(", "))))
    }))
}

fn gathered_object(call: &Call) -> Result<ArrayRef> {
    let (keys, values) = (list_of_texts(&call.arrays[0])?, list_of_texts(&call.arrays[1])?);
    texts(each2(keys, values, |keys, values| {
        let members = keys.into_iter().zip(values).map(|(key, value)| {
            let key = key.ok_or_else(|| SqlError::new("22023", "field name must not be null"))?;
            Ok(format!("{} : {}", quoted(&key), value.unwrap_or_else(|| "null".into())))
        });
        Ok(Some(format!("{{ {} }}", members.collect::<std::result::Result<Vec<_>, SqlError>>()?.join(", "))))
    }))
}
