//! Roots, powers, exponentials and logarithms: of floats as the machine has them, of numerics to all the digits that Postgres
//! shows.

use std::str::FromStr;

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use dashu_float::DBig;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::forms::{Function, Gives, Kind, Row, argument_scale, each1, each2, float8s, form, numeric_field, numerics, result_scale};
use super::math::ten;
use super::native::Call;
use crate::SqlError;
use crate::values::numeric::{parse_decimal, write_decimal};

use Kind::{Float8, Numeric};

/// Significant digits of what is computed on the way: those of a numeric, and some that rounding may use up.
const DIGITS: usize = 60;
/// Significant digits that Postgres shows at least.
const SHOWN: i64 = 16;

pub(super) fn udfs() -> Vec<ScalarUDF> {
    vec![
        Function::udf(
            "sqrt",
            vec![
                form(&[Float8], Gives::Is(Float8), |call| {
                    float8s(each1(call.float8(0), |v| if v < 0.0 { Err(no_root()) } else { Ok(Some(v.sqrt())) }))
                }),
                form(&[Numeric], Gives::By(root_scale), |call| of_one(call, |v, big| if v < 0 { Err(no_root()) } else { Ok(big.sqrt()) })),
            ],
        ),
        Function::udf(
            "exp",
            vec![
                form(&[Float8], Gives::Is(Float8), |call| float8s(each1(call.float8(0), |v| ranged(v.exp(), v.is_finite(), true)))),
                form(&[Numeric], Gives::By(exp_scale), |call| {
                    let scale = call.numeric(0).scale();
                    of_one(call, |v, big| if float(v, scale) > 88.0 { Err(overflow()) } else { Ok(big.exp()) })
                }),
            ],
        ),
        Function::udf(
            "ln",
            vec![
                form(&[Float8], Gives::Is(Float8), |call| float8s(each1(call.float8(0), |v| logarithm(v, f64::ln)))),
                form(&[Numeric], Gives::By(ln_scale), |call| {
                    of_one(call, |v, big| {
                        positive(v as f64)?;
                        Ok(big.ln())
                    })
                }),
            ],
        ),
        log("log"),
        log("log10"),
        Function::udf("power", power_forms()),
        Function::udf("pow", power_forms()),
    ]
}

/// To the base of ten, or of another numeric.
fn log(name: &'static str) -> ScalarUDF {
    let mut forms = vec![
        form(&[Float8], Gives::Is(Float8), |call| float8s(each1(call.float8(0), |v| logarithm(v, f64::log10)))),
        form(&[Numeric], Gives::By(log10_scale), |call| {
            of_one(call, |v, big| {
                positive(v as f64)?;
                Ok(big.ln() / precise("10").ln())
            })
        }),
    ];
    if name == "log" {
        forms.push(form(&[Numeric, Numeric], Gives::By(log_scale), |call| {
            of_two(call, |(b, base), (v, value)| {
                positive(b as f64)?;
                positive(v as f64)?;
                let base = base.ln();
                if base == DBig::ZERO {
                    return Err(SqlError::new("22012", "division by zero"));
                }
                Ok(value.ln() / base)
            })
        }));
    }
    Function::udf(name, forms)
}

fn power_forms() -> Vec<super::forms::Form> {
    vec![
        form(&[Float8, Float8], Gives::Is(Float8), |call| float8s(each2(call.float8(0), call.float8(1), power))),
        form(&[Numeric, Numeric], Gives::By(power_scale), |call| {
            let (base_scale, exponent_scale) = (call.numeric(0).scale(), call.numeric(1).scale());
            of_two(call, |(b, base), (e, exponent)| {
                let whole = ten(exponent_scale as u32).filter(|size| e % size == 0).map(|size| e / size);
                check_power(b == 0, b < 0, e < 0, whole.is_some())?;
                if b == 0 {
                    return Ok(if e == 0 { DBig::ONE } else { DBig::ZERO });
                }
                let digits = float(e, exponent_scale) * float(b, base_scale).abs().log10();
                if digits > 38.0 {
                    return Err(overflow());
                }
                if digits < -1000.0 {
                    return Ok(DBig::ZERO);
                }
                match whole {
                    Some(n) => Ok(base.powi(n.into())),
                    None => Ok(base.powf(&exponent)),
                }
            })
        }),
    ]
}

fn no_root() -> SqlError {
    SqlError::new("2201F", "cannot take square root of a negative number")
}

fn overflow() -> SqlError {
    SqlError::new("22003", "value overflows numeric format")
}

fn positive(value: f64) -> std::result::Result<(), SqlError> {
    if value == 0.0 {
        return Err(SqlError::new("2201E", "cannot take logarithm of zero"));
    }
    if value < 0.0 { Err(SqlError::new("2201E", "cannot take logarithm of a negative number")) } else { Ok(()) }
}

fn logarithm(value: f64, of: fn(f64) -> f64) -> Row<f64> {
    positive(value)?;
    Ok(Some(of(value)))
}

/// A float result that is infinite, or nothing, where the arguments are not.
fn ranged(out: f64, finite: bool, vanishes: bool) -> Row<f64> {
    if out.is_infinite() && finite {
        return Err(SqlError::new("22003", "value out of range: overflow"));
    }
    if out == 0.0 && finite && vanishes {
        return Err(SqlError::new("22003", "value out of range: underflow"));
    }
    Ok(Some(out))
}

fn check_power(zero: bool, negative: bool, negative_exponent: bool, whole: bool) -> std::result::Result<(), SqlError> {
    if zero && negative_exponent {
        return Err(SqlError::new("2201F", "zero raised to a negative power is undefined"));
    }
    if negative && !whole {
        return Err(SqlError::new("2201F", "a negative number raised to a non-integer power yields a complex result"));
    }
    Ok(())
}

fn power(base: f64, exponent: f64) -> Row<f64> {
    check_power(base == 0.0, base < 0.0 && base.is_finite(), exponent < 0.0, exponent.fract() == 0.0 || !exponent.is_finite())?;
    ranged(base.powf(exponent), base.is_finite() && exponent.is_finite(), base != 0.0)
}

fn float(value: i128, scale: i8) -> f64 {
    value as f64 / 10f64.powi(scale.into())
}

fn precise(digits: &str) -> DBig {
    DBig::from_str(digits).unwrap_or(DBig::ZERO).with_precision(DIGITS).value()
}

fn big(value: i128, scale: i8) -> DBig {
    let mut digits = Vec::new();
    write_decimal(value, scale, &mut digits);
    precise(&String::from_utf8_lossy(&digits))
}

fn unscaled(value: &DBig, scale: i8) -> Row<i128> {
    parse_decimal(value.to_string().as_bytes(), 38, scale).map(Some).map_err(|_| overflow())
}

fn of_one(call: &Call, f: impl Fn(i128, DBig) -> std::result::Result<DBig, SqlError>) -> Result<ArrayRef> {
    let (from, to) = (call.numeric(0).scale(), result_scale(call));
    numerics(call, each1(call.numeric(0), |v| unscaled(&f(v, big(v, from))?, to)))
}

fn of_two(call: &Call, f: impl Fn((i128, DBig), (i128, DBig)) -> std::result::Result<DBig, SqlError>) -> Result<ArrayRef> {
    let (left, right, to) = (call.numeric(0).scale(), call.numeric(1).scale(), result_scale(call));
    numerics(call, each2(call.numeric(0), call.numeric(1), |a, b| unscaled(&f((a, big(a, left)), (b, big(b, right)))?, to)))
}

/// A constant numeric argument.
fn constant(args: &ReturnFieldArgs, position: usize) -> Option<f64> {
    match args.scalar_arguments.get(position).copied().flatten()? {
        ScalarValue::Decimal128(Some(value), _, scale) => Some(float(*value, *scale)),
        ScalarValue::Int16(Some(value)) => Some((*value).into()),
        ScalarValue::Int32(Some(value)) => Some((*value).into()),
        ScalarValue::Int64(Some(value)) => Some(*value as f64),
        _ => None,
    }
}

/// The digits of a result whose size is known, as Postgres chooses them: sixteen significant ones, and not fewer than the arguments have.
/// Where the argument is a column there is one scale for all rows.
fn shown(args: &ReturnFieldArgs, size: Option<f64>) -> Result<Field> {
    let given = (0..args.arg_fields.len()).map(|i| i64::from(argument_scale(args, i))).max().unwrap_or(0);
    let size = size.filter(|s| s.is_finite()).unwrap_or(0.0) as i64;
    numeric_field((SHOWN - size).max(given).clamp(0, 37 - size.clamp(0, 37)))
}

fn root_scale(args: &ReturnFieldArgs) -> Result<Field> {
    // By groups of four digits.
    let weight = |v: f64| if v == 0.0 { 0.0 } else { (v.abs().log10() / 4.0).floor() };
    let size = constant(args, 0).map(|v| (((weight(v) + 1.0) * 4.0) / 2.0).trunc() - 1.0);
    shown(args, size)
}

fn exp_scale(args: &ReturnFieldArgs) -> Result<Field> {
    shown(args, constant(args, 0).map(|v| v * std::f64::consts::LOG10_E))
}

/// The decimal place of the first digit of a logarithm.
fn ln_place(value: f64) -> f64 {
    if (0.9..=1.1).contains(&value) {
        let rest = (value - 1.0).abs();
        return if rest == 0.0 { 0.0 } else { rest.log10().floor() };
    }
    value.abs().ln().abs().log10().trunc()
}

fn ln_scale(args: &ReturnFieldArgs) -> Result<Field> {
    shown(args, constant(args, 0).map(ln_place))
}

fn log10_scale(args: &ReturnFieldArgs) -> Result<Field> {
    shown(args, constant(args, 0).map(|v| ln_place(v) - ln_place(10.0)))
}

fn log_scale(args: &ReturnFieldArgs) -> Result<Field> {
    shown(args, constant(args, 0).zip(constant(args, 1)).map(|(base, value)| ln_place(value) - ln_place(base)))
}

fn power_scale(args: &ReturnFieldArgs) -> Result<Field> {
    shown(args, constant(args, 0).zip(constant(args, 1)).map(|(base, exponent)| exponent * base.abs().log10()))
}
