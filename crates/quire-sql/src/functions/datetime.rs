//! Functions that make, move and compare dates, times and intervals.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::logical_expr::{ScalarUDF, Volatility};
use quire_types::SqlType;

use super::calendar::{
    Civil, DAY, add_interval, add_interval_in, at_zone, days_in_month, is_infinite, is_infinite_date, out_of_range, to_local, to_utc,
};
use super::extract::age;
use super::forms::{Function, Gives, Kind, Row, bools, dates, each1, each2, each3, form, intervals, times, timestamps, timestamptzs};
use super::native::Call;
use crate::SqlError;

use Kind::{Date, Float8, Int4, Interval, Text, Time, Timestamp, Timestamptz};

/// What `timestamp - timestamp` is planned as.
pub(crate) const SUBTRACT: &str = "quire_timestamp_subtract";

pub(super) fn udfs() -> Vec<ScalarUDF> {
    [ages(), makers(), zones(), predicates(), overlaps()].into_iter().flatten().collect()
}

/// What `timestamp - timestamp` and `date + time` are planned as.
pub(super) fn operators() -> [ScalarUDF; 2] {
    let subtract = Function::udf(
        SUBTRACT,
        vec![
            form(&[Timestamp, Timestamp], Gives::Is(Interval), |call| intervals(each2(call.micros(0), call.micros(1), between))),
            form(&[Timestamptz, Timestamptz], Gives::Is(Interval), |call| intervals(each2(call.micros(0), call.micros(1), between))),
        ],
    );
    let at_time = Function::udf(
        "quire_at_time",
        vec![form(&[Date, Time], Gives::Is(Timestamp), |call| {
            timestamps(each2(call.date(0), call.time(1), |days, time| {
                let at = i64::from(days).checked_mul(DAY).and_then(|d| d.checked_add(time));
                at.map(Some).ok_or_else(|| out_of_range(SqlType::Timestamp))
            }))
        })],
    );
    [subtract, at_time]
}

fn between(later: i64, earlier: i64) -> Row<IntervalMonthDayNano> {
    if is_infinite(later) || is_infinite(earlier) {
        return Err(SqlError::new("22008", "cannot subtract infinite timestamps"));
    }
    let micros = later.checked_sub(earlier).ok_or_else(|| SqlError::new("22008", "interval out of range"))?;
    Ok(Some(days_and_time(micros)))
}

fn days_and_time(micros: i64) -> IntervalMonthDayNano {
    // Of any difference of two timestamps the days fit, and so do the nanoseconds of less than a day.
    IntervalMonthDayNano::new(0, (micros / DAY) as i32, micros % DAY * 1000)
}

/// Midnight of the transaction's day, in the session's zone.
fn today(call: &Call) -> i64 {
    call.home.today() * DAY
}

fn counted(later: i64, earlier: i64) -> Row<IntervalMonthDayNano> {
    if is_infinite(later) || is_infinite(earlier) {
        return Err(SqlError::new("22008", "timestamp out of range"));
    }
    age(later, earlier).map(Some).ok_or_else(|| SqlError::new("22008", "interval out of range"))
}

fn ages() -> Vec<ScalarUDF> {
    vec![
        Function::of(
            "age",
            Volatility::Stable,
            vec![
                form(&[Timestamp, Timestamp], Gives::Is(Interval), |call| intervals(each2(call.micros(0), call.micros(1), counted))),
                form(&[Timestamptz, Timestamptz], Gives::Is(Interval), |call| {
                    let local = |a, b| counted(to_local(a, call.zone)?, to_local(b, call.zone)?);
                    intervals(each2(call.micros(0), call.micros(1), local))
                }),
                form(&[Timestamp], Gives::Is(Interval), |call| intervals(each1(call.micros(0), |at| counted(today(call), at)))),
                form(&[Timestamptz], Gives::Is(Interval), |call| {
                    intervals(each1(call.micros(0), |at| counted(today(call), to_local(at, call.zone)?)))
                }),
            ],
        ),
        Function::udf("justify_days", vec![form(&[Interval], Gives::Is(Interval), |call| justified(call, justify_days))]),
        Function::udf("justify_hours", vec![form(&[Interval], Gives::Is(Interval), |call| justified(call, justify_hours))]),
        Function::udf("justify_interval", vec![form(&[Interval], Gives::Is(Interval), |call| justified(call, justify_interval))]),
        Function::udf(
            "date_bin",
            vec![
                form(&[Interval, Timestamp, Timestamp], Gives::Is(Timestamp), |call| {
                    timestamps(each3(call.interval(0), call.micros(1), call.micros(2), bin))
                }),
                form(&[Interval, Timestamptz, Timestamptz], Gives::Is(Timestamptz), |call| {
                    timestamptzs(each3(call.interval(0), call.micros(1), call.micros(2), bin))
                }),
            ],
        ),
    ]
}

type Justify = fn(i128, i128, i128) -> (i128, i128, i128);

fn justified(call: &Call, by: Justify) -> Result<ArrayRef> {
    intervals(each1(call.interval(0), |span| {
        let (months, days, micros) = by(span.months.into(), span.days.into(), i128::from(span.nanoseconds) / 1000);
        let range = || SqlError::new("22008", "interval out of range");
        let fit = |v: i128| i32::try_from(v).map_err(|_| range());
        Ok(Some(IntervalMonthDayNano::new(fit(months)?, fit(days)?, i64::try_from(micros * 1000).map_err(|_| range())?)))
    }))
}

/// Moves full units of `low` to `high`, and then gives both one sign.
fn carry(high: i128, low: i128, size: i128) -> (i128, i128) {
    let (mut high, mut low) = (high + low / size, low % size);
    if high > 0 && low < 0 {
        (high, low) = (high - 1, low + size);
    } else if high < 0 && low > 0 {
        (high, low) = (high + 1, low - size);
    }
    (high, low)
}

fn justify_days(months: i128, days: i128, micros: i128) -> (i128, i128, i128) {
    let (months, days) = carry(months, days, 30);
    (months, days, micros)
}

fn justify_hours(months: i128, days: i128, micros: i128) -> (i128, i128, i128) {
    let (days, micros) = carry(days, micros, DAY.into());
    (months, days, micros)
}

fn justify_interval(months: i128, days: i128, micros: i128) -> (i128, i128, i128) {
    let day = i128::from(DAY);
    let (mut days, mut micros) = (days + micros / day, micros % day);
    let mut months = months + days / 30;
    days %= 30;
    if months > 0 && (days < 0 || days == 0 && micros < 0) {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && (days > 0 || days == 0 && micros > 0) {
        (months, days) = (months + 1, days - 30);
    }
    if days > 0 && micros < 0 {
        (days, micros) = (days - 1, micros + day);
    } else if days < 0 && micros > 0 {
        (days, micros) = (days + 1, micros - day);
    }
    (months, days, micros)
}

fn bin(stride: IntervalMonthDayNano, source: i64, origin: i64) -> Row<i64> {
    if is_infinite(source) {
        return Ok(Some(source));
    }
    if is_infinite(origin) {
        return Err(SqlError::new("22008", "origin out of range"));
    }
    if stride.months != 0 {
        return Err(SqlError::new("0A000", "timestamps cannot be binned into intervals containing months or years"));
    }
    let size = i64::from(stride.days).checked_mul(DAY).and_then(|d| d.checked_add(stride.nanoseconds / 1000));
    let size = size.ok_or_else(|| SqlError::new("22008", "interval out of range"))?;
    if size <= 0 {
        return Err(SqlError::new("22008", "stride must be greater than zero"));
    }
    let since = source.checked_sub(origin).ok_or_else(|| SqlError::new("22008", "interval out of range"))?;
    Ok(Some(source - since.rem_euclid(size)))
}

fn date_of(year: i32, month: i32, day: i32) -> std::result::Result<Civil, SqlError> {
    // -1 is 1 BC, which the calendar counts as 0.
    let counted = i64::from(if year < 0 { year + 1 } else { year });
    let (month_, day_) = (i64::from(month), i64::from(day));
    let valid = year != 0 && (1..=12).contains(&month_) && day_ >= 1 && day_ <= days_in_month(counted, month_);
    if !valid || !(-4712..=5_874_897).contains(&counted) {
        return Err(SqlError::new("22008", format!("date field value out of range: {year}-{month:02}-{day:02}")));
    }
    Ok(Civil { year: counted, month: month_, day: day_, time: 0 })
}

fn time_of(hour: i32, minute: i32, second: f64) -> std::result::Result<i64, SqlError> {
    let micros = (second * 1e6).round_ties_even();
    let valid = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60e6).contains(&micros);
    let total = (i64::from(hour) * 60 + i64::from(minute)) * 60_000_000 + micros as i64;
    if !valid || total > DAY {
        let shown = if second.fract() == 0.0 { format!("{second:02}") } else { second.to_string() };
        return Err(SqlError::new("22008", format!("time field value out of range: {hour}:{minute:02}:{shown}")));
    }
    Ok(total)
}

/// The local moments of the first six arguments.
fn moments<'a>(call: &'a Call<'a>) -> impl Iterator<Item = Row<i64>> + 'a {
    (0..call.rows).map(|row| {
        if call.arrays.iter().any(|a| a.is_null(row)) {
            return Ok(None);
        }
        let int = |i: usize| call.int4(i).value(row);
        let mut civil = date_of(int(0), int(1), int(2))?;
        civil.time = time_of(int(3), int(4), call.float8(5).value(row))?;
        civil.micros().map(Some).ok_or_else(|| out_of_range(SqlType::Timestamp))
    })
}

fn makers() -> Vec<ScalarUDF> {
    vec![
        Function::udf(
            "make_date",
            vec![form(&[Int4, Int4, Int4], Gives::Is(Date), |call| {
                dates(each3(call.int4(0), call.int4(1), call.int4(2), |y, m, d| Ok(Some(date_of(y, m, d)?.days() as i32))))
            })],
        ),
        Function::udf(
            "make_time",
            vec![form(&[Int4, Int4, Float8], Gives::Is(Time), |call| {
                times(each3(call.int4(0), call.int4(1), call.float8(2), |h, m, s| time_of(h, m, s).map(Some)))
            })],
        ),
        Function::udf(
            "make_timestamp",
            vec![form(&[Int4, Int4, Int4, Int4, Int4, Float8], Gives::Is(Timestamp), |call| timestamps(moments(call)))],
        ),
        Function::of(
            "make_timestamptz",
            Volatility::Stable,
            vec![
                form(&[Int4, Int4, Int4, Int4, Int4, Float8], Gives::Is(Timestamptz), |call| {
                    timestamptzs(moments(call).map(|row| row?.map(|local| to_utc(local, call.zone)).transpose()))
                }),
                form(&[Int4, Int4, Int4, Int4, Int4, Float8, Text], Gives::Is(Timestamptz), |call| {
                    let zoned = moments(call).zip(call.text(6));
                    timestamptzs(zoned.map(|(row, zone)| row?.zip(zone).map(|(local, zone)| to_utc(local, zone)).transpose()))
                }),
            ],
        ),
        Function::udf(
            "make_interval",
            vec![
                form(&[], Gives::Is(Interval), make_interval),
                form(&[Int4], Gives::Is(Interval), make_interval),
                form(&[Int4, Int4], Gives::Is(Interval), make_interval),
                form(&[Int4, Int4, Int4], Gives::Is(Interval), make_interval),
                form(&[Int4, Int4, Int4, Int4], Gives::Is(Interval), make_interval),
                form(&[Int4, Int4, Int4, Int4, Int4], Gives::Is(Interval), make_interval),
                form(&[Int4, Int4, Int4, Int4, Int4, Int4], Gives::Is(Interval), make_interval),
                form(&[Int4, Int4, Int4, Int4, Int4, Int4, Float8], Gives::Is(Interval), make_interval),
            ],
        ),
    ]
}

/// Years, months, weeks, days, hours, minutes, seconds.
fn make_interval(call: &Call) -> Result<ArrayRef> {
    intervals((0..call.rows).map(|row| {
        if call.arrays.iter().any(|a| a.is_null(row)) {
            return Ok(None);
        }
        let range = || SqlError::new("22008", "interval out of range");
        let int = |i: usize| if i < call.arrays.len() { i64::from(call.int4(i).value(row)) } else { 0 };
        let seconds = if call.arrays.len() > 6 { call.float8(6).value(row) } else { 0.0 };
        let nanos = (seconds * 1e6).round_ties_even() * 1e3;
        if !nanos.is_finite() || nanos.abs() > 9e18 {
            return Err(range());
        }
        let clock = (int(4) * 3600 + int(5) * 60).checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanos as i64));
        let fit = |v: i64| i32::try_from(v).map_err(|_| range());
        Ok(Some(IntervalMonthDayNano::new(fit(int(0) * 12 + int(1))?, fit(int(2) * 7 + int(3))?, clock.ok_or_else(range)?)))
    }))
}

/// An interval as an offset east of UTC.
fn span_zone(span: IntervalMonthDayNano) -> std::result::Result<i64, SqlError> {
    if span.months != 0 || span.days != 0 {
        return Err(SqlError::new("22023", "interval time zone must not include months or days"));
    }
    Ok(span.nanoseconds / 1000)
}

fn zones() -> Vec<ScalarUDF> {
    vec![Function::udf(
        "timezone",
        vec![
            form(&[Text, Timestamptz], Gives::Is(Timestamp), |call| {
                timestamps(each2(call.text(0), call.micros(1), |zone, at| {
                    to_local(at, &at_zone(zone)).map(Some).map_err(|e| named(e, zone))
                }))
            }),
            form(&[Text, Timestamp], Gives::Is(Timestamptz), |call| {
                timestamptzs(each2(call.text(0), call.micros(1), |zone, at| {
                    to_utc(at, &at_zone(zone)).map(Some).map_err(|e| named(e, zone))
                }))
            }),
            form(&[Interval, Timestamptz], Gives::Is(Timestamp), |call| {
                timestamps(each2(call.interval(0), call.micros(1), |span, at| {
                    let moved = at.checked_add(span_zone(span)?);
                    moved.map(Some).ok_or_else(|| out_of_range(SqlType::Timestamp))
                }))
            }),
            form(&[Interval, Timestamp], Gives::Is(Timestamptz), |call| {
                timestamptzs(each2(call.interval(0), call.micros(1), |span, at| {
                    let moved = at.checked_sub(span_zone(span)?);
                    moved.map(Some).ok_or_else(|| out_of_range(SqlType::Timestamp))
                }))
            }),
        ],
    )]
}

/// The error with the zone as it was written.
fn named(error: SqlError, zone: &str) -> SqlError {
    if error.code == "22023" { super::calendar::unknown_zone(zone) } else { error }
}

fn predicates() -> Vec<ScalarUDF> {
    vec![
        Function::udf(
            "isfinite",
            vec![
                form(&[Date], Gives::Is(Kind::Bool), |call| bools(each1(call.date(0), |days| Ok(Some(!is_infinite_date(days)))))),
                form(&[Timestamptz], Gives::Is(Kind::Bool), |call| bools(each1(call.micros(0), |at| Ok(Some(!is_infinite(at)))))),
                form(&[Timestamp], Gives::Is(Kind::Bool), |call| bools(each1(call.micros(0), |at| Ok(Some(!is_infinite(at)))))),
                form(&[Interval], Gives::Is(Kind::Bool), |call| bools(each1(call.interval(0), |_| Ok(Some(true))))),
            ],
        ),
        // timestamp(digits)
        Function::udf(
            "quire_precision",
            vec![
                form(&[Timestamp, Int4], Gives::Is(Timestamp), |call| timestamps(each2(call.micros(0), call.int4(1), rounded))),
                form(&[Timestamptz, Int4], Gives::Is(Timestamptz), |call| timestamptzs(each2(call.micros(0), call.int4(1), rounded))),
                form(&[Time, Int4], Gives::Is(Time), |call| times(each2(call.time(0), call.int4(1), rounded))),
            ],
        ),
    ]
}

/// Microseconds with so many digits of a second, half away from zero.
fn rounded(micros: i64, digits: i32) -> Row<i64> {
    let size = 10i64.pow(6 - digits.clamp(0, 6).unsigned_abs());
    if is_infinite(micros) {
        return Ok(Some(micros));
    }
    let over = micros.rem_euclid(size);
    Ok(Some(if over * 2 >= size { micros - over + size } else { micros - over }))
}

/// The moment a number of seconds after 1970.
pub(super) fn from_epoch(call: &Call) -> Result<ArrayRef> {
    timestamptzs(each1(call.float8(0), |seconds| {
        if seconds.is_infinite() {
            return Ok(Some(if seconds > 0.0 { i64::MAX } else { i64::MIN }));
        }
        let micros = (seconds * 1e6).round_ties_even();
        if micros.is_nan() {
            return Err(SqlError::new("22008", "timestamp cannot be NaN"));
        }
        if micros.abs() > 9.2e18 {
            return Err(SqlError::new("22008", format!("timestamp out of range: \"{seconds}\"")));
        }
        Ok(Some(micros as i64))
    }))
}

/// `(a, b) OVERLAPS (c, d)`, where an end may be given as a length.
fn overlaps() -> Vec<ScalarUDF> {
    macro_rules! all {
        ($kind:ident, $run:ident) => {
            [
                form(&[$kind, $kind, $kind, $kind], Gives::Is(Kind::Bool), $run),
                form(&[$kind, Interval, $kind, Interval], Gives::Is(Kind::Bool), $run),
                form(&[$kind, $kind, $kind, Interval], Gives::Is(Kind::Bool), $run),
                form(&[$kind, Interval, $kind, $kind], Gives::Is(Kind::Bool), $run),
            ]
        };
    }
    let moments = all!(Timestamp, moments_overlap).into_iter().chain(all!(Timestamptz, moments_overlap));
    let times = [form(&[Time, Time, Time, Time], Gives::Is(Kind::Bool), |call| {
        let at = |i: usize, row: usize| call.time(i).is_valid(row).then(|| call.time(i).value(row));
        bools((0..call.rows).map(|row| Ok(overlap((at(0, row), at(1, row)), (at(2, row), at(3, row))))))
    })];
    vec![Function::udf("overlaps", moments.chain(times).collect())]
}

fn moments_overlap(call: &Call) -> Result<ArrayRef> {
    let zoned = matches!(call.arrays[0].data_type(), DataType::Timestamp(_, Some(_)));
    let start = |i: usize, row: usize| {
        let array = call.arrays[i].as_primitive::<TimestampMicrosecondType>();
        array.is_valid(row).then(|| array.value(row))
    };
    let end = |i: usize, row: usize| -> Row<i64> {
        let Some(spans) = call.arrays[i].as_primitive_opt::<IntervalMonthDayNanoType>() else { return Ok(start(i, row)) };
        let Some(from) = start(i - 1, row).filter(|_| spans.is_valid(row)) else { return Ok(None) };
        let span = spans.value(row);
        if zoned {
            return add_interval_in(from, span, call.zone).map(Some);
        }
        add_interval(from, span).map(Some).ok_or_else(|| out_of_range(SqlType::Timestamp))
    };
    bools((0..call.rows).map(|row| Ok(overlap((start(0, row), end(1, row)?), (start(2, row), end(3, row)?)))))
}

type Period = (Option<i64>, Option<i64>);

/// Whether two periods share a moment; ends may come in either order, and a missing end matters only where it decides.
fn overlap(one: Period, other: Period) -> Option<bool> {
    let ordered = |(a, b): Period| match (a, b) {
        (None, None) => None,
        (None, Some(only)) | (Some(only), None) => Some((only, None)),
        (Some(a), Some(b)) => Some((a.min(b), Some(a.max(b)))),
    };
    let ((start_1, end_1), (start_2, end_2)) = (ordered(one)?, ordered(other)?);
    // The later start must come before the earlier period's end.
    let before = |end: Option<i64>, start: i64, other_end: Option<i64>| match end {
        Some(end) if start < end => Some(true),
        // A period without an end may reach on.
        Some(_) => other_end.map(|_| false),
        None => None,
    };
    match start_1.cmp(&start_2) {
        std::cmp::Ordering::Greater => before(end_2, start_1, end_1),
        std::cmp::Ordering::Less => before(end_1, start_2, end_2),
        std::cmp::Ordering::Equal => end_1.and(end_2).map(|_| true),
    }
}
