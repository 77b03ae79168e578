//! `to_char`, `to_date`, `to_timestamp` and `to_number`: Postgres' patterns for dates, times and numbers.

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use datafusion::common::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF, Volatility};

use super::calendar::{to_local, to_utc};
use super::forms::{
    Function, Gives, Kind, Row, constant_text, dates, each2, form, numeric_field, numerics, result_scale, texts, timestamptzs,
};
use super::native::Call;
use crate::SqlError;

mod pattern;

mod moment;

mod read;

mod number;

use Kind::{Date, Float8, Int4, Int8, Interval, Numeric, Text, Timestamp, Timestamptz};

pub(super) fn udfs() -> Vec<ScalarUDF> {
    let text = Gives::Is(Text);
    vec![
        Function::of(
            "to_char",
            Volatility::Stable,
            vec![
                form(&[Timestamp, Text], text, |call| {
                    texts(each2(call.micros(0), call.text(1), |at, pattern| moment::shown(moment::Moment::local(at), pattern)))
                }),
                form(&[Timestamptz, Text], text, |call| {
                    let shown = |at, pattern: &str| {
                        let local = to_local(at, call.zone)?;
                        moment::shown(moment::Moment::zoned(at, local, call.zone), pattern)
                    };
                    texts(each2(call.micros(0), call.text(1), shown))
                }),
                form(&[Interval, Text], text, |call| {
                    texts(each2(call.interval(0), call.text(1), |span, pattern| moment::shown(moment::Moment::span(span), pattern)))
                }),
                form(&[Int4, Text], text, |call| {
                    texts(each2(call.int4(0), call.text(1), |v, p| number::of_integer(v.into(), p).map(Some)))
                }),
                form(&[Int8, Text], text, |call| texts(each2(call.int8(0), call.text(1), |v, p| number::of_integer(v, p).map(Some)))),
                form(&[Numeric, Text], text, |call| {
                    let scale = call.numeric(0).scale();
                    texts(each2(call.numeric(0), call.text(1), |v, p| number::of_numeric(v, scale, p).map(Some)))
                }),
                form(&[Float8, Text], text, |call| texts(each2(call.float8(0), call.text(1), |v, p| number::of_float(v, p).map(Some)))),
            ],
        ),
        Function::udf(
            "to_date",
            vec![form(&[Text, Text], Gives::Is(Date), |call| {
                dates(each2(call.text(0), call.text(1), |text, pattern| {
                    let read = read::moment(text, pattern)?;
                    i32::try_from(read.civil.days()).map(Some).map_err(|_| SqlError::new("22008", "date out of range"))
                }))
            })],
        ),
        Function::of(
            "to_timestamp",
            Volatility::Stable,
            vec![
                form(&[Text, Text], Gives::Is(Timestamptz), |call| {
                    timestamptzs(each2(call.text(0), call.text(1), |text, pattern| timestamp(text, pattern, call.zone)))
                }),
                form(&[Float8], Gives::Is(Timestamptz), super::datetime::from_epoch),
            ],
        ),
        Function::udf("to_number", vec![form(&[Text, Text], Gives::By(number_field), to_number)]),
    ]
}

fn timestamp(text: &str, pattern: &str, zone: &str) -> Row<i64> {
    let read = read::moment(text, pattern)?;
    let local = read.civil.micros().ok_or_else(|| SqlError::new("22008", "timestamp out of range"))?;
    match read.offset {
        Some(seconds) => Ok(Some(local - seconds * super::calendar::SECOND)),
        None => to_utc(local, zone).map(Some),
    }
}

/// As many digits after the point as the pattern has; when it is not known while planning, as many as a bare numeric.
fn number_field(args: &ReturnFieldArgs) -> Result<Field> {
    let digits = constant_text(args, 1).and_then(|pattern| number::digits_after_point(pattern).ok());
    numeric_field(digits.unwrap_or(9))
}

fn to_number(call: &Call) -> Result<ArrayRef> {
    let scale = result_scale(call);
    numerics(call, each2(call.text(0), call.text(1), |text, pattern| number::read(text, pattern, scale)))
}
