//! Assignment: what a query's value becomes in a column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringViewBuilder, new_null_array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Float64Type};
use quire_types::{ColumnDef, SqlType};

use super::{ColumnBuilder, Home, ValueError, can_cast, cast_to, write_text};

/// Brings an array to a column's type as Postgres' assignment casts do; text is read by the type's input function, at `home`.
pub fn coerce(array: ArrayRef, from: &Field, to: &ColumnDef, table: &str, home: &Home<'_>) -> Result<ArrayRef, ValueError> {
    let wanted = to.ty.arrow();
    if *array.data_type() == DataType::Null {
        return Ok(new_null_array(&wanted, array.len()));
    }
    let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _));
    if is_text {
        // Text that came from a column of the very type needs no check.
        if SqlType::of_field(from) == Some(to.ty) && *array.data_type() == wanted && to.ty != SqlType::Json && to.ty != SqlType::Uuid
            || to.ty == SqlType::Text
            || to.ty == SqlType::Varchar(None)
        {
            return cast(&array, &wanted).map_err(|_| mismatch(from, to, table));
        }
        return from_text(&array, to, from, table, home);
    }
    if *array.data_type() == wanted && !matches!(to.ty, SqlType::Varchar(_) | SqlType::Char(_)) {
        return Ok(array);
    }
    match to.ty {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => to_int(array, to.ty, &|| mismatch(from, to, table)),
        SqlType::Float4 | SqlType::Float8 if is_number(array.data_type()) => {
            strict(&array, &wanted).map_err(|_| ValueError::number_out_of_range(to.ty))
        }
        SqlType::Numeric { precision, scale } if is_number(array.data_type()) => {
            strict(&array, &wanted).map_err(|_| ValueError::numeric_overflow(precision, scale))
        }
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) => to_text(array, from, to, table, home),
        SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz if array.data_type().is_temporal() => {
            match SqlType::of_field(from).filter(|given| given.arrow() == *array.data_type() && can_cast(*given, to.ty)) {
                // The session's zone is between the clock on the wall and a moment.
                Some(_) => cast_to(&array, from, to.ty, home),
                None => strict(&array, &wanted).map_err(|_| ValueError::number_out_of_range(to.ty)),
            }
        }
        SqlType::Interval => strict(&array, &wanted).map_err(|_| mismatch(from, to, table)),
        SqlType::Bytea
            if matches!(
                array.data_type(),
                DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
            ) =>
        {
            strict(&array, &wanted).map_err(|_| mismatch(from, to, table))
        }
        _ => Err(mismatch(from, to, table)),
    }
}

pub(super) fn strict(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// 42804.
fn mismatch(from: &Field, to: &ColumnDef, _table: &str) -> ValueError {
    let given = SqlType::of_field(from).map_or_else(|| from.data_type().to_string(), SqlType::name);
    let mut error =
        ValueError::new("42804", format!("column \"{}\" is of type {} but expression is of type {given}", to.name, to.ty.name()));
    error.hint = Some("You will need to rewrite or cast the expression.".into());
    error
}

fn from_text(array: &ArrayRef, to: &ColumnDef, from: &Field, table: &str, home: &Home<'_>) -> Result<ArrayRef, ValueError> {
    let text = cast(array, &DataType::Utf8View).map_err(|_| mismatch(from, to, table))?;
    let mut builder = ColumnBuilder::for_rows(to.ty, array.len());
    for value in text.as_string_view() {
        match value {
            Some(value) => builder.append_text(value, home)?,
            None => builder.append_null(),
        }
    }
    Ok(builder.finish())
}

/// Fractions are rounded: half to even from floats, half away from zero from numerics.
pub(super) fn to_int(array: ArrayRef, ty: SqlType, mismatch: &dyn Fn() -> ValueError) -> Result<ArrayRef, ValueError> {
    let whole: ArrayRef = match array.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let floats = cast(&array, &DataType::Float64).map_err(|_| mismatch())?;
            let rounded: Float64Array = floats.as_primitive::<Float64Type>().unary(f64::round_ties_even);
            // Casts saturate; the bounds are powers of two, which floats hold exactly.
            let bound = match ty {
                SqlType::Int2 => 32_768.0,
                SqlType::Int4 => 2_147_483_648.0,
                _ => 9_223_372_036_854_775_808.0,
            };
            if rounded.iter().flatten().any(|v| v.is_nan() || v >= bound || v < -bound) {
                return Err(ValueError::number_out_of_range(ty));
            }
            Arc::new(rounded)
        }
        DataType::Decimal32(_, _) | DataType::Decimal64(_, _) | DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => {
            strict(&array, &DataType::Decimal128(38, 0)).map_err(|_| ValueError::number_out_of_range(ty))?
        }
        data_type if data_type.is_integer() => array,
        _ => return Err(mismatch()),
    };
    strict(&whole, &ty.arrow()).map_err(|_| ValueError::number_out_of_range(ty))
}

/// Anything can be assigned to text.
fn to_text(array: ArrayRef, from: &Field, to: &ColumnDef, table: &str, home: &Home<'_>) -> Result<ArrayRef, ValueError> {
    let ty = SqlType::of_field(from).ok_or_else(|| mismatch(from, to, table))?;
    let array = cast(&array, &ty.arrow()).map_err(|_| mismatch(from, to, table))?;
    let mut text = StringViewBuilder::with_capacity(array.len());
    let mut value = Vec::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            text.append_null();
            continue;
        }
        value.clear();
        match ty {
            // The cast to text says true, where the output function says t.
            SqlType::Bool => text.append_value(if array.as_boolean().value(row) { "true" } else { "false" }),
            _ => {
                write_text(&array, row, ty, &mut value);
                text.append_value(String::from_utf8_lossy(&value));
            }
        }
    }
    let text: ArrayRef = Arc::new(text.finish());
    from_text(&text, to, from, table, home)
}
