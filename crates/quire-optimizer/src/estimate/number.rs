use datafusion::common::ScalarValue;

/// A value's place on a line, for interpolation: numbers as they are, points in time in seconds, strings by their first bytes.
///
/// Values of different types that SQL can compare are on the same line (a date and a timestamp, a decimal and an integer).
pub(super) fn number(value: &ScalarValue) -> Option<f64> {
    let number = match value {
        ScalarValue::Boolean(v) => f64::from(u8::from((*v)?)),
        ScalarValue::Int8(v) => f64::from((*v)?),
        ScalarValue::Int16(v) => f64::from((*v)?),
        ScalarValue::Int32(v) => f64::from((*v)?),
        ScalarValue::Int64(v) => (*v)? as f64,
        ScalarValue::UInt8(v) => f64::from((*v)?),
        ScalarValue::UInt16(v) => f64::from((*v)?),
        ScalarValue::UInt32(v) => f64::from((*v)?),
        ScalarValue::UInt64(v) => (*v)? as f64,
        ScalarValue::Float32(v) => f64::from((*v)?),
        ScalarValue::Float64(v) => (*v)?,
        ScalarValue::Decimal32(v, _, scale) => f64::from((*v)?) / 10f64.powi(i32::from(*scale)),
        ScalarValue::Decimal64(v, _, scale) => (*v)? as f64 / 10f64.powi(i32::from(*scale)),
        ScalarValue::Decimal128(v, _, scale) => (*v)? as f64 / 10f64.powi(i32::from(*scale)),
        ScalarValue::Decimal256(v, _, scale) => (*v)?.to_string().parse::<f64>().ok()? / 10f64.powi(i32::from(*scale)),
        ScalarValue::Date32(v) => f64::from((*v)?) * 86_400.0,
        ScalarValue::Date64(v) => (*v)? as f64 / 1e3,
        ScalarValue::TimestampSecond(v, _) => (*v)? as f64,
        ScalarValue::TimestampMillisecond(v, _) => (*v)? as f64 / 1e3,
        ScalarValue::TimestampMicrosecond(v, _) => (*v)? as f64 / 1e6,
        ScalarValue::TimestampNanosecond(v, _) => (*v)? as f64 / 1e9,
        ScalarValue::Time32Second(v) => f64::from((*v)?),
        ScalarValue::Time32Millisecond(v) => f64::from((*v)?) / 1e3,
        ScalarValue::Time64Microsecond(v) => (*v)? as f64 / 1e6,
        ScalarValue::Time64Nanosecond(v) => (*v)? as f64 / 1e9,
        ScalarValue::Utf8(v) | ScalarValue::Utf8View(v) | ScalarValue::LargeUtf8(v) => first_bytes(v.as_ref()?.as_bytes()),
        ScalarValue::Dictionary(_, v) => return self::number(v),
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// The first six bytes as a number: as many as a double holds exactly.
fn first_bytes(bytes: &[u8]) -> f64 {
    (0..6).fold(0.0, |number, index| number * 256.0 + f64::from(bytes.get(index).copied().unwrap_or(0)))
}
