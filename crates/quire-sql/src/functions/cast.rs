//! `quire_cast(value, 'type')`: a cast by Postgres' rules, which the planner's own casts do not know.
//!
//! Where Arrow's cast does the same, the function gives way to it while a plan is simplified, so that the optimizer sees
//! through it; a cast of a constant is evaluated while planning.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StringViewBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use quire_types::SqlType;

use super::call_name::call_name;
use super::clock::home_of;
use super::native::{is_decimal, is_float, is_int, is_text, sql_error};
use crate::values::Home;
use crate::{SqlError, values};

/// The function's name in rewritten statements.
pub(crate) const CAST: &str = "quire_cast";

pub(crate) fn udf() -> ScalarUDF {
    ScalarUDF::from(PgCast { signature: Signature::any(2, Volatility::Stable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PgCast {
    signature: Signature,
}

#[derive(Clone, Copy)]
struct Target {
    ty: SqlType,
    array: bool,
}

impl Target {
    fn parse(name: &str) -> Result<Target> {
        let (base, array) = name.strip_suffix("[]").map_or((name, false), |b| (b, true));
        let ty = SqlType::parse_name(base).ok_or_else(|| DataFusionError::Internal(format!("no type is called {name}")))?;
        Ok(Target { ty, array })
    }

    fn of(name: Option<&ScalarValue>) -> Result<Target> {
        match name.and_then(|n| n.try_as_str().flatten()) {
            Some(name) => Target::parse(name),
            None => Err(DataFusionError::Internal("a cast's type is a constant".into())),
        }
    }

    /// A bare `numeric` keeps the digits that its argument has.
    fn resolve(self, from: &Field, value: Option<&ScalarValue>) -> Target {
        if self.ty != SqlType::NUMERIC_DEFAULT || self.array {
            return self;
        }
        let scale = match from.data_type() {
            DataType::Decimal128(_, scale) => *scale,
            ty if is_int(ty) => 0,
            ty if is_text(ty) => match value.and_then(|v| v.try_as_str().flatten()).and_then(written_scale) {
                Some(scale) => scale,
                None => return self,
            },
            _ => return self,
        };
        Target { ty: SqlType::Numeric { precision: 38, scale }, array: false }
    }

    fn field(self, name: &str, nullable: bool) -> Field {
        if self.array {
            return Field::new(name, DataType::List(Arc::new(Field::new("item", self.ty.arrow(), true))), nullable);
        }
        // Only what Arrow's type does not say is noted, so that fields of one type are alike wherever they come from.
        match self.ty {
            SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid | SqlType::Json => self.ty.field(name, nullable),
            SqlType::Numeric { precision, .. } if precision < 38 => self.ty.field(name, nullable),
            _ => Field::new(name, self.ty.arrow(), nullable),
        }
    }
}

/// Digits after the point of a number in text.
pub(crate) fn written_scale(text: &str) -> Option<i8> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let fraction = mantissa.split_once('.').map_or(0, |(_, f)| f.len() as i64);
    let scale = (fraction - exponent).max(0);
    (scale <= 30).then_some(scale as i8)
}

/// True when Arrow's cast and Postgres' are the same.
fn is_plain(from: &DataType, to: SqlType) -> bool {
    match to {
        SqlType::Int4 => matches!(from, DataType::Int16),
        SqlType::Int8 => matches!(from, DataType::Int16 | DataType::Int32),
        SqlType::Float8 => is_int(from) || is_float(from),
        SqlType::Numeric { .. } => is_int(from) || is_decimal(from),
        SqlType::Timestamp => matches!(from, DataType::Date32),
        _ => false,
    }
}

/// Casts a constant now. An error is the user's: it is what the statement says.
pub(crate) fn cast_scalar(value: &ScalarValue, ty: SqlType, home: &Home<'_>) -> Result<ScalarValue> {
    let array = value.to_array()?;
    let field = Field::new("", array.data_type().clone(), true);
    let out = values::cast_to(&array, &field, ty, home).map_err(|e| sql_error(SqlError::from(e)))?;
    ScalarValue::try_from_array(&out, 0)
}

impl ScalarUDFImpl for PgCast {
    fn name(&self) -> &str {
        CAST
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        call_name(CAST, args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(DataFusionError::Internal("a cast is planned by its fields".into()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let from = &args.arg_fields[0];
        let target = Target::of(args.scalar_arguments[1])?;
        let target = target.resolve(from, args.scalar_arguments[0]);
        let possible = match from.data_type() {
            DataType::Null => true,
            DataType::List(_) | DataType::LargeList(_) => target.array || matches!(target.ty, SqlType::Text | SqlType::Varchar(_)),
            _ if target.array => is_text(from.data_type()),
            // Structs and the like can be shown, and nothing else.
            _ => match SqlType::of_field(from) {
                Some(ty) => values::can_cast(ty, target.ty),
                None => matches!(target.ty, SqlType::Text | SqlType::Varchar(_)),
            },
        };
        if !possible {
            let given = SqlType::of_field(from).map_or_else(|| super::native::shown_type(from.data_type()), SqlType::name);
            let shown = format!("{}{}", target.ty.name(), if target.array { "[]" } else { "" });
            return Err(sql_error(SqlError::new("42846", format!("cannot cast type {given} to {shown}"))));
        }
        Ok(Arc::new(target.field(self.name(), from.is_nullable())))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let (Some(Expr::Literal(name, _)), Ok(from)) = (args.get(1), info.get_data_type(&args[0])) else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let target = Target::of(Some(name))?.resolve(&Field::new("", from.clone(), true), None);
        if !target.array && is_plain(&from, target.ty) {
            let value = args.into_iter().next().ok_or_else(|| DataFusionError::Internal("a cast has an argument".into()))?;
            return Ok(ExprSimplifyResult::Simplified(Expr::Cast(Cast::new(Box::new(value), target.ty.arrow()))));
        }
        // The session's time decides some casts; of constants it is known now.
        if let Expr::Literal(value, _) = &args[0]
            && !target.array
        {
            let target = Target::of(Some(name))?.resolve(&Field::new("", from, true), Some(value));
            if matches!(target.ty, SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid | SqlType::Json) {
                return Ok(ExprSimplifyResult::Original(args));
            }
            let value = cast_scalar(value, target.ty, &home_of(info.config_options()))?;
            return Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)));
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ColumnarValue::Scalar(name) = &args.args[1] else {
            return Err(DataFusionError::Internal("a cast's type is a constant".into()));
        };
        let home = home_of(&args.config_options);
        let mut target = Target::of(Some(name))?;
        if let DataType::Decimal128(precision, scale) = args.return_field.data_type() {
            target.ty = SqlType::Numeric { precision: *precision, scale: *scale };
        }
        let convert = |array: &ArrayRef| convert(array, &args.arg_fields[0], target, &home);
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(convert(array)?)),
            ColumnarValue::Scalar(value) => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&convert(&value.to_array()?)?, 0)?)),
        }
    }
}

fn convert(array: &ArrayRef, from: &Field, target: Target, home: &Home<'_>) -> Result<ArrayRef> {
    let failed = |e: values::ValueError| sql_error(SqlError::from(e));
    match (array.data_type(), target.array) {
        (DataType::Null, _) => Ok(arrow::array::new_null_array(target.field("", true).data_type(), array.len())),
        (DataType::List(_) | DataType::LargeList(_), true) => {
            let lists = arrow::compute::cast(array, &DataType::List(Arc::new(Field::new("item", item_type(array), true))))?;
            let lists = arrow::array::AsArray::as_list::<i32>(&lists);
            let items = values::cast_to(lists.values(), &Field::new("item", item_type(array), true), target.ty, home).map_err(failed)?;
            let field = Arc::new(Field::new("item", target.ty.arrow(), true));
            Ok(Arc::new(ListArray::try_new(field, lists.offsets().clone(), items, lists.nulls().cloned())?))
        }
        (DataType::List(_) | DataType::LargeList(_) | DataType::Struct(_), false) => shown(array),
        (_, true) => arrays_from_text(array, target.ty, home),
        (_, false) => values::cast_to(array, from, target.ty, home).map_err(failed),
    }
}

fn item_type(array: &ArrayRef) -> DataType {
    match array.data_type() {
        DataType::List(item) | DataType::LargeList(item) => item.data_type().clone(),
        other => other.clone(),
    }
}

/// An array as text: `{1,2,NULL}`.
pub(super) fn shown(array: &ArrayRef) -> Result<ArrayRef> {
    let ty = SqlType::of_arrow(&item_type(array)).unwrap_or(SqlType::Text);
    let mut out = StringViewBuilder::with_capacity(array.len());
    let lists = match array.data_type() {
        DataType::List(_) => array.clone(),
        DataType::LargeList(_) => arrow::compute::cast(array, &DataType::List(Arc::new(Field::new("item", item_type(array), true))))?,
        _ => {
            let format = arrow::util::display::FormatOptions::default();
            let shown = arrow::util::display::ArrayFormatter::try_new(array, &format)?;
            for row in 0..array.len() {
                if array.is_null(row) { out.append_null() } else { out.append_value(shown.value(row).to_string()) }
            }
            return Ok(Arc::new(out.finish()));
        }
    };
    let lists = arrow::array::AsArray::as_list::<i32>(&lists);
    for row in 0..lists.len() {
        if lists.is_null(row) {
            out.append_null();
            continue;
        }
        let items = arrow::compute::cast(&lists.value(row), &ty.arrow())?;
        let texts: Vec<String> = (0..items.len())
            .map(|i| {
                if items.is_null(i) {
                    return "NULL".to_string();
                }
                let mut text = Vec::new();
                values::write_text(&items, i, ty, &mut text);
                quoted_item(&String::from_utf8_lossy(&text))
            })
            .collect();
        out.append_value(format!("{{{}}}", texts.join(",")));
    }
    Ok(Arc::new(out.finish()))
}

fn quoted_item(text: &str) -> String {
    let plain = !text.is_empty()
        && !text.eq_ignore_ascii_case("null")
        && !text.contains(|c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace());
    if plain { text.to_string() } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

pub(super) fn arrays_from_text(array: &ArrayRef, ty: SqlType, home: &Home<'_>) -> Result<ArrayRef> {
    let text = arrow::compute::cast(array, &DataType::Utf8View)?;
    let text = arrow::array::AsArray::as_string_view(&text);
    let mut items = StringViewBuilder::new();
    let mut lengths = vec![];
    let mut valid = vec![];
    for value in text {
        let parsed = value.map(array_items).transpose().map_err(sql_error)?;
        valid.push(parsed.is_some());
        let parsed = parsed.unwrap_or_default();
        lengths.push(parsed.len());
        for item in parsed {
            items.append_option(item);
        }
    }
    let items: ArrayRef = Arc::new(items.finish());
    let items =
        values::cast_to(&items, &Field::new("item", DataType::Utf8View, true), ty, home).map_err(|e| sql_error(SqlError::from(e)))?;
    let field = Arc::new(Field::new("item", ty.arrow(), true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items, Some(NullBuffer::from(valid)))?))
}

/// The items of `{a,"b c",NULL}`.
pub(super) fn array_items(text: &str) -> std::result::Result<Vec<Option<String>>, SqlError> {
    let malformed = || SqlError::new("22P02", format!("malformed array literal: \"{text}\""));
    let inner = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(malformed)?;
    let mut items = vec![];
    let mut chars = inner.chars().peekable();
    if inner.trim().is_empty() {
        return Ok(items);
    }
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut item = String::new();
        let mut quoted = false;
        if chars.next_if_eq(&'"').is_some() {
            quoted = true;
            loop {
                match chars.next().ok_or_else(malformed)? {
                    '"' => break,
                    '\\' => item.push(chars.next().ok_or_else(malformed)?),
                    c => item.push(c),
                }
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                match c {
                    '{' | '}' | '"' => return Err(malformed()),
                    '\\' => item.push(chars.next().ok_or_else(malformed)?),
                    c => item.push(c),
                }
            }
            item.truncate(item.trim_end().len());
            if item.is_empty() {
                return Err(malformed());
            }
        }
        items.push(if !quoted && item.eq_ignore_ascii_case("null") { None } else { Some(item) });
        match chars.next() {
            None => return Ok(items),
            Some(',') => {}
            Some(_) => return Err(malformed()),
        }
    }
}
