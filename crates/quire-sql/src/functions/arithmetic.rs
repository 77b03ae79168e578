//! `+ - * /` where Postgres and Arrow differ: integers and floats that overflow are an error, and so is a float divided by
//! zero; a numeric division gives at least sixteen digits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, i256};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};
use quire_types::SqlType;

use super::native::{Call, Native, is_decimal, is_float, is_int, plain, sql_error};
use crate::SqlError;

/// Digits after the point of a quotient whose operands are not known while planning. Postgres takes as many as make sixteen
/// significant ones, row by row; a column of ours has one scale.
const QUOTIENT_SCALE: i8 = 16;

pub(super) fn udfs() -> [ScalarUDF; 5] {
    [
        Native::udf("quire_add", coerce, returns, |call| checked(call, numeric::add)),
        Native::udf("quire_subtract", coerce, returns, |call| checked(call, numeric::sub)),
        Native::udf("quire_multiply", coerce, product_type, multiply),
        Native::udf("quire_divide", coerce, quotient_type, divide),
        // avg(x) is sum(x) over count(x).
        Native::udf("quire_average", average_types, quotient_type, divide),
    ]
}

/// The type that two numbers meet at.
pub(crate) fn common(left: &DataType, right: &DataType) -> Option<DataType> {
    let number = |ty: &DataType| is_int(ty) || is_decimal(ty) || is_float(ty) || *ty == DataType::Null;
    if !number(left) || !number(right) {
        return None;
    }
    if *left == DataType::Null || left == right {
        return Some(if *right == DataType::Null { DataType::Int32 } else { right.clone() });
    }
    if *right == DataType::Null {
        return Some(left.clone());
    }
    if is_float(left) || is_float(right) {
        return Some(DataType::Float64);
    }
    if is_int(left) && is_int(right) {
        return Some(if matches!((left, right), (DataType::Int16, DataType::Int32) | (DataType::Int32, DataType::Int16)) {
            DataType::Int32
        } else {
            DataType::Int64
        });
    }
    None
}

fn coerce(given: &[DataType]) -> Option<Vec<DataType>> {
    let [left, right] = given else { return None };
    if let Some(ty) = common(left, right).filter(|ty| !is_decimal(ty)) {
        return Some(vec![ty.clone(), ty]);
    }
    Some(vec![as_decimal(left)?, as_decimal(right)?])
}

fn average_types(given: &[DataType]) -> Option<Vec<DataType>> {
    let [sum, _] = given else { return None };
    match sum {
        DataType::Interval(_) => Some(vec![sum.clone(), DataType::Int64]),
        ty if is_float(ty) => Some(vec![DataType::Float64, DataType::Float64]),
        ty => Some(vec![as_decimal(ty)?, DataType::Decimal128(19, 0)]),
    }
}

fn as_decimal(ty: &DataType) -> Option<DataType> {
    match ty {
        DataType::Int8 | DataType::Int16 => Some(DataType::Decimal128(5, 0)),
        DataType::Int32 => Some(DataType::Decimal128(10, 0)),
        DataType::Null => Some(DataType::Decimal128(38, 0)),
        ty if is_int(ty) => Some(DataType::Decimal128(20, 0)),
        DataType::Decimal128(_, _) => Some(ty.clone()),
        _ => None,
    }
}

fn returns(args: &ReturnFieldArgs) -> Result<arrow::datatypes::Field> {
    plain(args.arg_fields[0].data_type().clone())
}

fn scales(args: &ReturnFieldArgs) -> Option<(i8, i8)> {
    match (args.arg_fields[0].data_type(), args.arg_fields[1].data_type()) {
        (DataType::Decimal128(_, left), DataType::Decimal128(_, right)) => Some((*left, *right)),
        _ => None,
    }
}

/// Products keep all their digits while there is room for them; long fractions, which only divisions make, are rounded.
fn product_type(args: &ReturnFieldArgs) -> Result<arrow::datatypes::Field> {
    match scales(args) {
        Some((left, right)) => plain(DataType::Decimal128(38, (left + right).min(left.max(right).max(QUOTIENT_SCALE)))),
        None => returns(args),
    }
}

fn quotient_type(args: &ReturnFieldArgs) -> Result<arrow::datatypes::Field> {
    match scales(args) {
        Some((left, right)) => {
            let known = constant(args.scalar_arguments[0]).zip(constant(args.scalar_arguments[1]));
            let scale = known.and_then(|(a, b)| quotient_scale(a, left, b, right)).unwrap_or(QUOTIENT_SCALE);
            plain(DataType::Decimal128(38, scale.max(left).max(right)))
        }
        None => returns(args),
    }
}

fn constant(value: Option<&ScalarValue>) -> Option<i128> {
    match value {
        Some(ScalarValue::Decimal128(Some(value), _, _)) => Some(*value),
        _ => None,
    }
}

/// Postgres' `select_div_scale`: by the weights and first digits, to the base of ten thousand, of the operands.
fn quotient_scale(left: i128, left_scale: i8, right: i128, right_scale: i8) -> Option<i8> {
    let (left_weight, left_digit) = leading(left, left_scale)?;
    let (right_weight, right_digit) = leading(right, right_scale)?;
    let weight = left_weight - right_weight - i32::from(left_digit <= right_digit);
    i8::try_from((16 - weight * 4).clamp(0, 30)).ok()
}

fn leading(value: i128, scale: i8) -> Option<(i32, u128)> {
    let digits = value.unsigned_abs();
    if digits == 0 {
        return Some((0, 0));
    }
    // Digits before the point, which may be negative for 0.001.
    let whole = i32::try_from(digits.ilog10()).ok()? + 1 - i32::from(scale);
    let weight = (whole - 1).div_euclid(4);
    // The first group has `whole - 4 * weight` digits.
    let shown = whole - 4 * weight;
    let length = i32::try_from(digits.ilog10()).ok()? + 1;
    let first = if length >= shown { digits / 10u128.pow((length - shown) as u32) } else { digits * 10u128.pow((shown - length) as u32) };
    Some((weight, first))
}

fn out_of_range(ty: &DataType) -> datafusion::error::DataFusionError {
    let message = match ty {
        ty if is_float(ty) => "value out of range: overflow".to_string(),
        ty if is_decimal(ty) => "value overflows numeric format".to_string(),
        ty => format!("{} out of range", SqlType::of_arrow(ty).map_or_else(String::new, SqlType::name)),
    };
    sql_error(SqlError::new("22003", message))
}

fn division_by_zero() -> datafusion::error::DataFusionError {
    sql_error(SqlError::new("22012", "division by zero"))
}

type Kernel = fn(&dyn arrow::array::Datum, &dyn arrow::array::Datum) -> std::result::Result<ArrayRef, arrow::error::ArrowError>;

fn checked(call: &Call, kernel: Kernel) -> Result<ArrayRef> {
    let (left, right) = (&call.arrays[0], &call.arrays[1]);
    let out = kernel(left, right).map_err(|_| out_of_range(left.data_type()))?;
    refuse_infinities(&out, left, right)?;
    Ok(out)
}

/// A float result may be infinite only when an operand is.
fn refuse_infinities(out: &ArrayRef, left: &ArrayRef, right: &ArrayRef) -> Result<()> {
    macro_rules! check {
        ($t:ty) => {{
            let values = |array: &ArrayRef| array.as_primitive::<$t>().values().clone();
            let (out_values, left, right) = (values(out), values(left), values(right));
            let new = |i: usize| out_values[i].is_infinite() && left[i].is_finite() && right[i].is_finite() && out.is_valid(i);
            if (0..out_values.len()).any(new) { Err(out_of_range(out.data_type())) } else { Ok(()) }
        }};
    }
    match out.data_type() {
        DataType::Float64 => check!(Float64Type),
        DataType::Float32 => check!(Float32Type),
        _ => Ok(()),
    }
}

fn multiply(call: &Call) -> Result<ArrayRef> {
    if let DataType::Decimal128(precision, scale) = call.returns.data_type() {
        let excess = |l: i8, r: i8| power_of_ten((l + r - *scale) as u32);
        return decimals(call, *precision, *scale, |l, r, ls, rs| {
            rounded(i256::from_i128(l).checked_mul(i256::from_i128(r))?, excess(ls, rs)?)
        });
    }
    checked(call, numeric::mul)
}

fn divide(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (&call.arrays[0], &call.arrays[1]);
    match call.returns.data_type() {
        DataType::Decimal128(precision, scale) => {
            let divisors = right.as_primitive::<Decimal128Type>();
            if (0..divisors.len()).any(|i| divisors.value(i) == 0 && divisors.is_valid(i) && left.is_valid(i)) {
                return Err(division_by_zero());
            }
            decimals(call, *precision, *scale, |l, r, ls, rs| {
                let up = i32::from(*scale) + i32::from(rs) - i32::from(ls);
                let (mut l, mut r) = (i256::from_i128(l), i256::from_i128(r));
                if up >= 0 {
                    l = l.checked_mul(power_of_ten(up as u32)?)?;
                } else {
                    r = r.checked_mul(power_of_ten(up.unsigned_abs())?)?;
                }
                if r == i256::ZERO { Some(0) } else { rounded(l, r) }
            })
        }
        DataType::Interval(_) => super::intervals::divide(left, &arrow::compute::cast(right, &DataType::Float64)?),
        DataType::Float64 => {
            let divisors = right.as_primitive::<Float64Type>();
            if (0..divisors.len()).any(|i| divisors.value(i) == 0.0 && divisors.is_valid(i) && left.is_valid(i)) {
                return Err(division_by_zero());
            }
            checked(call, numeric::div)
        }
        DataType::Float32 => {
            let divisors = right.as_primitive::<Float32Type>();
            if (0..divisors.len()).any(|i| divisors.value(i) == 0.0 && divisors.is_valid(i) && left.is_valid(i)) {
                return Err(division_by_zero());
            }
            checked(call, numeric::div)
        }
        ty => numeric::div(left, right).map_err(|e| match e {
            arrow::error::ArrowError::DivideByZero => division_by_zero(),
            _ => out_of_range(ty),
        }),
    }
}

fn power_of_ten(exponent: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(exponent)
}

/// The quotient, rounded half away from zero.
fn rounded(value: i256, divisor: i256) -> Option<i128> {
    let quotient = value.checked_div(divisor)?;
    let rest = value.checked_rem(divisor)?;
    let doubled = rest.checked_mul(i256::from_i128(2))?.wrapping_abs();
    let away = doubled >= divisor.wrapping_abs();
    let step = if (value < i256::ZERO) == (divisor < i256::ZERO) { 1 } else { -1 };
    quotient.to_i128()?.checked_add(if away { step } else { 0 })
}

fn decimals(call: &Call, precision: u8, scale: i8, one: impl Fn(i128, i128, i8, i8) -> Option<i128>) -> Result<ArrayRef> {
    let (left, right) = (call.arrays[0].as_primitive::<Decimal128Type>(), call.arrays[1].as_primitive::<Decimal128Type>());
    let (left_scale, right_scale) = (left.scale(), right.scale());
    let limit = 10i128.pow(u32::from(precision));
    let values = left.iter().zip(right).map(|pair| match pair {
        (Some(l), Some(r)) => {
            let value = one(l, r, left_scale, right_scale).filter(|v| v.abs() < limit);
            value.map(Some).ok_or_else(|| out_of_range(&DataType::Decimal128(precision, scale)))
        }
        _ => Ok(None),
    });
    let out: Decimal128Array = values.collect::<Result<Vec<_>>>()?.into();
    Ok(Arc::new(out.with_precision_and_scale(precision, scale)?))
}
