//! Arithmetic on intervals that Arrow does not have.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, IntervalMonthDayNanoArray};
use arrow::datatypes::{DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;

use super::native::{Native, plain, sql_error};
use crate::SqlError;
use crate::values::interval::{comparison_key, scale};

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

pub(super) fn udfs() -> [ScalarUDF; 4] {
    let span_and_number = |given: &[DataType]| (given.len() == 2).then(|| vec![INTERVAL, DataType::Float64]);
    let span = |given: &[DataType]| (given.len() == 1).then(|| vec![INTERVAL]);
    [
        Native::udf("quire_interval_multiply", span_and_number, |_| plain(INTERVAL), |call| each(&call.arrays[0], &call.arrays[1], scale)),
        Native::udf("quire_interval_divide", span_and_number, |_| plain(INTERVAL), |call| divide(&call.arrays[0], &call.arrays[1])),
        // Two intervals are equal when they are as long, a month being 30 days.
        Native::udf(
            "quire_interval_length",
            span,
            |_| plain(DataType::Decimal128(38, 0)),
            |call| {
                let lengths = call.arrays[0].as_primitive::<IntervalMonthDayNanoType>().iter().map(|v| v.map(comparison_key));
                let lengths: Decimal128Array = lengths.collect();
                Ok(Arc::new(lengths.with_precision_and_scale(38, 0)?))
            },
        ),
        Native::udf(
            "quire_interval_negate",
            span,
            |_| plain(INTERVAL),
            |call| {
                let ones: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![-1.0; call.arrays[0].len()]));
                each(&call.arrays[0], &ones, scale)
            },
        ),
    ]
}

pub(super) fn divide(spans: &ArrayRef, numbers: &ArrayRef) -> Result<ArrayRef> {
    let zero = numbers.as_primitive::<Float64Type>().iter().zip(spans.as_primitive::<IntervalMonthDayNanoType>());
    if zero.flat_map(|(n, s)| n.zip(s)).any(|(n, _)| n == 0.0) {
        return Err(sql_error(SqlError::new("22012", "division by zero")));
    }
    each(spans, numbers, |span, number| scale(span, 1.0 / number))
}

fn each(spans: &ArrayRef, numbers: &ArrayRef, one: impl Fn(IntervalMonthDayNano, f64) -> Option<IntervalMonthDayNano>) -> Result<ArrayRef> {
    let pairs = spans.as_primitive::<IntervalMonthDayNanoType>().iter().zip(numbers.as_primitive::<Float64Type>());
    let out = pairs.map(|(span, number)| match span.zip(number) {
        Some((span, number)) => {
            let value = one(span, number);
            value.map(Some).ok_or_else(|| sql_error(SqlError::new("22008", "interval out of range")))
        }
        None => Ok(None),
    });
    let out: IntervalMonthDayNanoArray = out.collect::<Result<Vec<_>>>()?.into();
    Ok(Arc::new(out))
}
