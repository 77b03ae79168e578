//! Functions of numbers, for integers, floats and numerics. What needs more digits than a float has is in `precise`.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, i256};
use datafusion::common::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::forms::{
    Function, Gives, Kind, Row, argument_scale, constant_int, each1, each2, float8s, form, int4s, int8s, numeric_field, numerics,
    result_scale, variadic,
};
use super::native::Call;
use crate::SqlError;

use Kind::{Float8, Int4, Int8, Numeric};

pub(super) fn udfs() -> Vec<ScalarUDF> {
    [signs(), rounding(), floats(), divisions(), digits(), buckets(), counts()].into_iter().flatten().collect()
}

/// The operators `&`, `|` and `#`.
pub(super) fn operators() -> [ScalarUDF; 3] {
    [
        Function::udf(
            "quire_and_bits",
            vec![
                form(&[Int4, Int4], Gives::Is(Int4), |call| int4s(each2(call.int4(0), call.int4(1), |a, b| Ok(Some(a & b))))),
                form(&[Int8, Int8], Gives::Is(Int8), |call| int8s(each2(call.int8(0), call.int8(1), |a, b| Ok(Some(a & b))))),
            ],
        ),
        Function::udf(
            "quire_or_bits",
            vec![
                form(&[Int4, Int4], Gives::Is(Int4), |call| int4s(each2(call.int4(0), call.int4(1), |a, b| Ok(Some(a | b))))),
                form(&[Int8, Int8], Gives::Is(Int8), |call| int8s(each2(call.int8(0), call.int8(1), |a, b| Ok(Some(a | b))))),
            ],
        ),
        Function::udf(
            "quire_xor_bits",
            vec![
                form(&[Int4, Int4], Gives::Is(Int4), |call| int4s(each2(call.int4(0), call.int4(1), |a, b| Ok(Some(a ^ b))))),
                form(&[Int8, Int8], Gives::Is(Int8), |call| int8s(each2(call.int8(0), call.int8(1), |a, b| Ok(Some(a ^ b))))),
            ],
        ),
    ]
}

fn range(ty: &str) -> SqlError {
    SqlError::new("22003", format!("{ty} out of range"))
}

fn overflow() -> SqlError {
    SqlError::new("22003", "value overflows numeric format")
}

fn division_by_zero() -> SqlError {
    SqlError::new("22012", "division by zero")
}

fn same_scale(args: &ReturnFieldArgs) -> Result<Field> {
    numeric_field(argument_scale(args, 0).into())
}

fn whole(_: &ReturnFieldArgs) -> Result<Field> {
    numeric_field(0)
}

/// Of two numerics, the longer fraction.
fn longer_scale(args: &ReturnFieldArgs) -> Result<Field> {
    numeric_field(argument_scale(args, 0).max(argument_scale(args, 1)).into())
}

/// 10 to a power. `None` beyond what an `i128` holds.
pub(super) fn ten(power: u32) -> Option<i128> {
    10i128.checked_pow(power)
}

/// An unscaled value with another number of digits after its point, by a rule for those that are cut.
fn rescaled(value: i128, from: i8, to: i64, cut: fn(i128, i128) -> i128) -> Option<i128> {
    let by = to - i64::from(from);
    if by >= 0 {
        return value.checked_mul(ten(u32::try_from(by).ok()?)?);
    }
    match ten(u32::try_from(-by).ok()?) {
        Some(size) => Some(cut(value, size)),
        None => Some(0),
    }
}

/// Half away from zero.
pub(super) fn round_half(value: i128, size: i128) -> i128 {
    let (quotient, rest) = (value / size, value % size);
    if rest.unsigned_abs() * 2 >= size.unsigned_abs() { quotient + value.signum() } else { quotient }
}

fn truncated(value: i128, size: i128) -> i128 {
    value / size
}

fn signs() -> Vec<ScalarUDF> {
    vec![
        Function::udf(
            "abs",
            vec![
                form(&[Int4], Gives::Is(Int4), |call| {
                    int4s(each1(call.int4(0), |v| v.checked_abs().map(Some).ok_or_else(|| range("integer"))))
                }),
                form(&[Int8], Gives::Is(Int8), |call| {
                    int8s(each1(call.int8(0), |v| v.checked_abs().map(Some).ok_or_else(|| range("bigint"))))
                }),
                form(&[Numeric], Gives::By(same_scale), |call| numerics(call, each1(call.numeric(0), |v| Ok(Some(v.abs()))))),
                form(&[Float8], Gives::Is(Float8), |call| float8s(each1(call.float8(0), |v| Ok(Some(v.abs()))))),
            ],
        ),
        Function::udf(
            "sign",
            vec![
                form(&[Float8], Gives::Is(Float8), |call| {
                    float8s(each1(call.float8(0), |v| {
                        Ok(Some(if v > 0.0 {
                            1.0
                        } else if v < 0.0 {
                            -1.0
                        } else {
                            v * 0.0
                        }))
                    }))
                }),
                form(&[Numeric], Gives::By(whole), |call| numerics(call, each1(call.numeric(0), |v| Ok(Some(v.signum()))))),
            ],
        ),
        // The operator ~.
        Function::udf(
            "quire_not_bits",
            vec![
                form(&[Int4], Gives::Is(Int4), |call| int4s(each1(call.int4(0), |v| Ok(Some(!v))))),
                form(&[Int8], Gives::Is(Int8), |call| int8s(each1(call.int8(0), |v| Ok(Some(!v))))),
            ],
        ),
    ]
}

fn rounding() -> Vec<ScalarUDF> {
    let ceiling = |name| {
        Function::udf(
            name,
            vec![
                form(&[Float8], Gives::Is(Float8), |call| float8s(each1(call.float8(0), |v| Ok(Some(v.ceil()))))),
                form(&[Numeric], Gives::By(whole), |call| to_whole(call, |v, size| -(-v).div_euclid(size))),
            ],
        )
    };
    vec![
        ceiling("ceil"),
        ceiling("ceiling"),
        Function::udf(
            "floor",
            vec![
                form(&[Float8], Gives::Is(Float8), |call| float8s(each1(call.float8(0), |v| Ok(Some(v.floor()))))),
                form(&[Numeric], Gives::By(whole), |call| to_whole(call, i128::div_euclid)),
            ],
        ),
        Function::udf(
            "round",
            vec![
                form(&[Float8], Gives::Is(Float8), |call| float8s(each1(call.float8(0), |v| Ok(Some(v.round_ties_even()))))),
                form(&[Numeric], Gives::By(whole), |call| to_whole(call, round_half)),
                form(&[Numeric, Int4], Gives::By(wanted_scale), |call| to_digits(call, round_half)),
            ],
        ),
        Function::udf(
            "trunc",
            vec![
                form(&[Float8], Gives::Is(Float8), |call| float8s(each1(call.float8(0), |v| Ok(Some(v.trunc()))))),
                form(&[Numeric], Gives::By(whole), |call| to_whole(call, truncated)),
                form(&[Numeric, Int4], Gives::By(wanted_scale), |call| to_digits(call, truncated)),
            ],
        ),
    ]
}

fn to_whole(call: &Call, cut: fn(i128, i128) -> i128) -> Result<ArrayRef> {
    let scale = call.numeric(0).scale();
    numerics(call, each1(call.numeric(0), |v| rescaled(v, scale, 0, cut).map(Some).ok_or_else(overflow)))
}

/// The digits that are asked for, when that is known while planning; else those that there are.
fn wanted_scale(args: &ReturnFieldArgs) -> Result<Field> {
    numeric_field(constant_int(args, 1).unwrap_or_else(|| argument_scale(args, 0).into()))
}

fn to_digits(call: &Call, cut: fn(i128, i128) -> i128) -> Result<ArrayRef> {
    let (from, to) = (call.numeric(0).scale(), result_scale(call));
    let rows = each2(call.numeric(0), call.int4(1), |value, digits| {
        let digits = i64::from(digits).clamp(-38, 38);
        // What is asked for may be more than the value has, or than the result can show.
        let kept = digits.min(i64::from(from.max(to)));
        let rounded = rescaled(value, from, kept, cut).ok_or_else(overflow)?;
        let shown = if kept < 0 {
            ten(kept.unsigned_abs() as u32).and_then(|size| rounded.checked_mul(size)).and_then(|v| rescaled(v, 0, to.into(), cut))
        } else {
            rescaled(rounded, kept as i8, to.into(), cut)
        };
        shown.map(Some).ok_or_else(overflow)
    });
    numerics(call, rows)
}

/// An inverse trigonometric or hyperbolic function, defined where `inside` says.
fn defined(call: &Call, inside: fn(f64) -> bool, f: fn(f64) -> f64) -> Result<ArrayRef> {
    float8s(each1(call.float8(0), |v| {
        if v.is_nan() || inside(v) { Ok(Some(f(v))) } else { Err(SqlError::new("22003", "input is out of range")) }
    }))
}

fn floats() -> Vec<ScalarUDF> {
    vec![
        Function::udf("cbrt", vec![form(&[Float8], Gives::Is(Float8), |call| float8s(each1(call.float8(0), |v| Ok(Some(v.cbrt())))))]),
        Function::udf("asin", vec![form(&[Float8], Gives::Is(Float8), |call| defined(call, |v| v.abs() <= 1.0, f64::asin))]),
        Function::udf("acos", vec![form(&[Float8], Gives::Is(Float8), |call| defined(call, |v| v.abs() <= 1.0, f64::acos))]),
        Function::udf("acosh", vec![form(&[Float8], Gives::Is(Float8), |call| defined(call, |v| v >= 1.0, f64::acosh))]),
        Function::udf("atanh", vec![form(&[Float8], Gives::Is(Float8), |call| defined(call, |v| v.abs() <= 1.0, f64::atanh))]),
    ]
}

macro_rules! integers {
    ($int4:expr, $int8:expr) => {
        [
            form(&[Int4, Int4], Gives::Is(Int4), |call| int4s(each2(call.int4(0), call.int4(1), $int4))),
            form(&[Int8, Int8], Gives::Is(Int8), |call| int8s(each2(call.int8(0), call.int8(1), $int8))),
        ]
    };
}

/// Two numerics at the longer of their scales.
fn aligned(call: &Call, f: impl Fn(i128, i128) -> Row<i128>) -> Result<ArrayRef> {
    let (left, right) = (call.numeric(0).scale(), call.numeric(1).scale());
    let scale = i64::from(left.max(right));
    let rows = each2(call.numeric(0), call.numeric(1), |a, b| {
        let (a, b) = (rescaled(a, left, scale, truncated), rescaled(b, right, scale, truncated));
        let (a, b) = a.zip(b).ok_or_else(overflow)?;
        f(a, b)
    });
    numerics(call, rows)
}

fn greatest_divisor(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

fn divisions() -> Vec<ScalarUDF> {
    let modulo = integers!(
        |a: i32, b: i32| if b == 0 { Err(division_by_zero()) } else { Ok(Some(a.wrapping_rem(b))) },
        |a: i64, b: i64| if b == 0 { Err(division_by_zero()) } else { Ok(Some(a.wrapping_rem(b))) }
    );
    let divisor = integers!(
        |a: i32, b: i32| {
            let divisor = greatest_divisor(a.unsigned_abs().into(), b.unsigned_abs().into());
            i32::try_from(divisor).map(Some).map_err(|_| range("integer"))
        },
        |a: i64, b: i64| {
            let divisor = greatest_divisor(a.unsigned_abs().into(), b.unsigned_abs().into());
            i64::try_from(divisor).map(Some).map_err(|_| range("bigint"))
        }
    );
    let multiple = integers!(
        |a: i32, b: i32| i32::try_from(least_multiple(a.into(), b.into()).ok_or_else(|| range("integer"))?)
            .map(Some)
            .map_err(|_| range("integer")),
        |a: i64, b: i64| i64::try_from(least_multiple(a.into(), b.into()).ok_or_else(|| range("bigint"))?)
            .map(Some)
            .map_err(|_| range("bigint"))
    );
    let numeric_divisor = form(&[Numeric, Numeric], Gives::By(longer_scale), |call| {
        aligned(call, |a, b| Ok(Some(greatest_divisor(a.unsigned_abs(), b.unsigned_abs()) as i128)))
    });
    let numeric_multiple = form(&[Numeric, Numeric], Gives::By(longer_scale), |call| {
        aligned(call, |a, b| least_multiple(a, b).map(Some).ok_or_else(overflow))
    });
    let numeric_modulo = form(&[Numeric, Numeric], Gives::By(longer_scale), |call| {
        aligned(call, |a, b| if b == 0 { Err(division_by_zero()) } else { Ok(Some(a % b)) })
    });
    let numeric_quotient = form(&[Numeric, Numeric], Gives::By(whole), |call| {
        aligned(call, |a, b| if b == 0 { Err(division_by_zero()) } else { Ok(Some(a / b)) })
    });
    vec![
        Function::udf("mod", modulo.into_iter().chain([numeric_modulo]).collect()),
        Function::udf("gcd", divisor.into_iter().chain([numeric_divisor]).collect()),
        Function::udf("lcm", multiple.into_iter().chain([numeric_multiple]).collect()),
        Function::udf("div", vec![numeric_quotient]),
    ]
}

fn least_multiple(a: i128, b: i128) -> Option<i128> {
    if a == 0 || b == 0 {
        return Some(0);
    }
    let divisor = greatest_divisor(a.unsigned_abs(), b.unsigned_abs()) as i128;
    (a / divisor).checked_mul(b)?.checked_abs()
}

/// Digits after the point that are not trailing zeros.
fn needed_scale(value: i128, scale: i8) -> i8 {
    let (mut value, mut scale) = (value, scale);
    while scale > 0 && value % 10 == 0 {
        (value, scale) = (value / 10, scale - 1);
    }
    scale
}

fn trimmed_field(args: &ReturnFieldArgs) -> Result<Field> {
    let constant = args.scalar_arguments[0].and_then(|v| match v {
        datafusion::common::ScalarValue::Decimal128(Some(value), _, scale) => Some(needed_scale(*value, *scale)),
        _ => None,
    });
    numeric_field(constant.unwrap_or_else(|| argument_scale(args, 0)).into())
}

fn digits() -> Vec<ScalarUDF> {
    vec![
        Function::udf(
            "factorial",
            vec![form(&[Int8], Gives::By(whole), |call| {
                numerics(
                    call,
                    each1(call.int8(0), |n| {
                        if n < 0 {
                            return Err(SqlError::new("22003", "factorial of a negative number is undefined"));
                        }
                        (1..=i128::from(n)).try_fold(1i128, |product, k| product.checked_mul(k)).map(Some).ok_or_else(overflow)
                    }),
                )
            })],
        ),
        Function::udf(
            "scale",
            vec![form(&[Numeric], Gives::Is(Int4), |call| {
                let scale = i32::from(call.numeric(0).scale());
                int4s(each1(call.numeric(0), |_| Ok(Some(scale))))
            })],
        ),
        Function::udf(
            "min_scale",
            vec![form(&[Numeric], Gives::Is(Int4), |call| {
                let scale = call.numeric(0).scale();
                int4s(each1(call.numeric(0), |v| Ok(Some(needed_scale(v, scale).into()))))
            })],
        ),
        Function::udf(
            "trim_scale",
            vec![form(&[Numeric], Gives::By(trimmed_field), |call| {
                let (from, to) = (call.numeric(0).scale(), result_scale(call));
                numerics(call, each1(call.numeric(0), |v| rescaled(v, from, to.into(), truncated).map(Some).ok_or_else(overflow)))
            })],
        ),
    ]
}

fn buckets() -> Vec<ScalarUDF> {
    vec![Function::udf(
        "width_bucket",
        vec![
            form(&[Float8, Float8, Float8, Int4], Gives::Is(Int4), |call| {
                bucket_rows(call, |row, count| {
                    let [value, low, high] = [0, 1, 2].map(|i| call.float8(i).value(row));
                    if value.is_nan() || low.is_nan() || high.is_nan() {
                        return Err(SqlError::new("2201G", "operand, lower bound, and upper bound cannot be NaN"));
                    }
                    if low.is_infinite() || high.is_infinite() {
                        return Err(SqlError::new("2201G", "lower and upper bounds must be finite"));
                    }
                    let sides = if low < high { (value < low, value >= high) } else { (value > low, value <= high) };
                    place(low == high, sides, count, || (f64::from(count) * ((value - low) / (high - low))) as i64)
                })
            }),
            form(&[Numeric, Numeric, Numeric, Int4], Gives::Is(Int4), |call| {
                let scales = [0, 1, 2].map(|i| call.numeric(i).scale());
                let scale = i64::from(scales[0].max(scales[1]).max(scales[2]));
                bucket_rows(call, |row, count| {
                    let at = |i: usize| rescaled(call.numeric(i).value(row), scales[i], scale, truncated).ok_or_else(overflow);
                    let (value, low, high) = (at(0)?, at(1)?, at(2)?);
                    let sides = if low < high { (value < low, value >= high) } else { (value > low, value <= high) };
                    place(low == high, sides, count, || {
                        let product = i256::from_i128(value - low).wrapping_mul(i256::from_i128(count.into()));
                        product.checked_div(i256::from_i128(high - low)).and_then(i256::to_i128).unwrap_or_default() as i64
                    })
                })
            }),
        ],
    )]
}

fn bucket_rows(call: &Call, of: impl Fn(usize, i32) -> std::result::Result<i32, SqlError>) -> Result<ArrayRef> {
    int4s((0..call.rows).map(|row| {
        if call.arrays.iter().any(|a| a.is_null(row)) {
            return Ok(None);
        }
        let count = call.int4(3).value(row);
        if count <= 0 {
            return Err(SqlError::new("2201G", "count must be greater than zero"));
        }
        of(row, count).map(Some)
    }))
}

/// The bucket: 0 before the first, `count + 1` after the last.
fn place(empty: bool, (before, after): (bool, bool), count: i32, inner: impl Fn() -> i64) -> std::result::Result<i32, SqlError> {
    if empty {
        return Err(SqlError::new("2201G", "lower bound cannot equal upper bound"));
    }
    if before {
        return Ok(0);
    }
    if after {
        return count.checked_add(1).ok_or_else(|| range("integer"));
    }
    i32::try_from(inner().min(i64::from(count) - 1) + 1).map_err(|_| range("integer"))
}

fn counts() -> Vec<ScalarUDF> {
    // NULL by itself is of a type that knows no other value.
    fn is_null(array: &ArrayRef, row: usize) -> bool {
        *array.data_type() == DataType::Null || array.is_null(row)
    }
    fn nulls(call: &Call, wanted: bool) -> Result<ArrayRef> {
        int4s((0..call.rows).map(|row| Ok(Some(call.arrays.iter().filter(|a| is_null(a, row) == wanted).count() as i32))))
    }
    vec![
        Function::udf("num_nulls", vec![variadic(&[Kind::Any], Gives::Is(Int4), |call| nulls(call, true))]),
        Function::udf("num_nonnulls", vec![variadic(&[Kind::Any], Gives::Is(Int4), |call| nulls(call, false))]),
    ]
}
