//! `json_build_object`, by which tools ask for several columns at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use quire_types::SqlType;

use crate::SqlError;
use crate::functions::sql_error;

/// Pairs of keys and values as an object. Numbers and truths are written as they are, all else as strings.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct JsonObject {
    signature: Signature,
}

impl Default for JsonObject {
    fn default() -> JsonObject {
        JsonObject { signature: Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Stable) }
    }
}

impl ScalarUDFImpl for JsonObject {
    fn name(&self) -> &str {
        "json_build_object"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(SqlType::Json.arrow())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(SqlType::Json.field(self.name(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if !args.args.len().is_multiple_of(2) {
            let error = SqlError::new("22023", "argument list must have even number of elements");
            return Err(sql_error(error.with_hint("The arguments of json_build_object() must consist of alternating keys and values.")));
        }
        let arrays = args.args.iter().map(|a| a.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let texts = arrays.iter().map(|a| Ok(cast(a, &DataType::Utf8)?)).collect::<Result<Vec<ArrayRef>>>()?;
        let mut out = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let mut pairs = vec![];
            for (pair, given) in texts.chunks(2).zip(args.arg_fields.chunks(2)) {
                if pair[0].is_null(row) {
                    return Err(sql_error(SqlError::new("22023", "argument 1 cannot be null").with_hint("Object keys should be text.")));
                }
                let key = string(pair[0].as_string::<i32>().value(row));
                let value = match pair[1].is_null(row) {
                    true => "null".to_string(),
                    false => value(&given[1], pair[1].as_string::<i32>().value(row)),
                };
                pairs.push(format!("{key} : {value}"));
            }
            out.push(format!("{{{}}}", pairs.join(", ")));
        }
        Ok(ColumnarValue::Array(cast(&StringArray::from(out), &SqlType::Json.arrow())?))
    }
}

fn value(field: &Field, text: &str) -> String {
    let plain = field.data_type().is_numeric() || *field.data_type() == DataType::Boolean;
    if plain || SqlType::of_field(field) == Some(SqlType::Json) { text.to_string() } else { string(text) }
}

fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
