//! Parts of dates, times and intervals: `extract`, `date_part` and `date_trunc`.

use arrow::array::{ArrayRef, StringViewArray};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use datafusion::common::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::calendar::{
    Civil, DAY, HOUR, JULIAN_EPOCH, SECOND, Unit, at_zone, days_in_month, is_infinite, is_infinite_date, out_of_range, to_local, to_utc,
    unit_not_supported,
};
use super::forms::{
    Function, Gives, Kind, Row, constant_text, each2, each3, float8s, form, intervals, numeric_field, numerics, result_scale, timestamps,
    timestamptzs,
};
use super::native::Call;
use crate::SqlError;
use quire_types::SqlType;

const DATE: &str = "date";
const TIME: &str = "time without time zone";
const TIMESTAMP: &str = "timestamp without time zone";
const TIMESTAMPTZ: &str = "timestamp with time zone";
const INTERVAL: &str = "interval";

/// The forms of `extract` and `date_part`, which differ in what they give.
macro_rules! part_forms {
    ($gives:expr, $leave:ident) => {
        vec![
            form(&[Kind::Text, Kind::Date], $gives, |call| {
                let days = call.date(1);
                $leave(call, &mut each2(units(call.text(0), DATE), days, |unit, days| of_date(unit?, days)))
            }),
            form(&[Kind::Text, Kind::Timestamp], $gives, |call| {
                $leave(call, &mut each2(units(call.text(0), TIMESTAMP), call.micros(1), |unit, at| of_timestamp(unit?, at, None)))
            }),
            form(&[Kind::Text, Kind::Timestamptz], $gives, |call| {
                let units = units(call.text(0), TIMESTAMPTZ);
                $leave(call, &mut each2(units, call.micros(1), |unit, at| of_timestamp(unit?, at, Some(call.zone))))
            }),
            form(&[Kind::Text, Kind::Time], $gives, |call| {
                $leave(call, &mut each2(units(call.text(0), TIME), call.time(1), |unit, at| of_time(unit?, at)))
            }),
            form(&[Kind::Text, Kind::Interval], $gives, |call| {
                $leave(call, &mut each2(units(call.text(0), INTERVAL), call.interval(1), |unit, span| of_interval(unit?, span)))
            }),
        ]
    };
}

pub(super) fn udfs() -> Vec<ScalarUDF> {
    vec![
        Function::udf("extract", part_forms!(Gives::By(numeric_part), numeric)),
        Function::udf("date_part", part_forms!(Gives::Is(Kind::Float8), float)),
        Function::udf(
            "date_trunc",
            vec![
                form(&[Kind::Text, Kind::Timestamp], Gives::Is(Kind::Timestamp), |call| {
                    timestamps(each2(units(call.text(0), TIMESTAMP), call.micros(1), |unit, at| truncate(unit?, at, TIMESTAMP).map(Some)))
                }),
                form(&[Kind::Text, Kind::Timestamptz], Gives::Is(Kind::Timestamptz), |call| {
                    let units = units(call.text(0), TIMESTAMPTZ);
                    timestamptzs(each2(units, call.micros(1), |unit, at| truncate_in(unit?, at, call.zone).map(Some)))
                }),
                form(&[Kind::Text, Kind::Timestamptz, Kind::Text], Gives::Is(Kind::Timestamptz), |call| {
                    let units = units(call.text(0), TIMESTAMPTZ);
                    let zoned =
                        each3(units, call.micros(1), call.text(2), |unit, at, zone| truncate_in(unit?, at, &at_zone(zone)).map(Some));
                    timestamptzs(zoned)
                }),
                form(&[Kind::Text, Kind::Interval], Gives::Is(Kind::Interval), |call| {
                    intervals(each2(units(call.text(0), INTERVAL), call.interval(1), |unit, span| truncate_span(unit?, span).map(Some)))
                }),
            ],
        ),
    ]
}

/// Parts are computed in millionths.
fn numeric(call: &Call, parts: &mut dyn Iterator<Item = Row<i128>>) -> Result<ArrayRef> {
    let scale = result_scale(call);
    numerics(call, parts.map(|row| row.map(|v| v.map(|v| if scale >= 6 { v } else { v / 10i128.pow((6 - scale) as u32) }))))
}

fn float(_: &Call, parts: &mut dyn Iterator<Item = Row<i128>>) -> Result<ArrayRef> {
    float8s(parts.map(|row| row.map(|v| v.map(|v| v as f64 / 1e6))))
}

/// The digits that Postgres shows: those of a second.
fn numeric_part(args: &ReturnFieldArgs) -> Result<Field> {
    let date = matches!(args.arg_fields[1].data_type(), DataType::Date32 | DataType::Date64);
    numeric_field(match constant_text(args, 0).map(Unit::parse) {
        Some(Some(Unit::Second)) | None => 6,
        Some(Some(Unit::Epoch)) if !date => 6,
        Some(Some(Unit::Julian)) if !date => 6,
        Some(Some(Unit::Milliseconds)) => 3,
        Some(_) => 0,
    })
}

/// A unit with the name it was given, for messages.
#[derive(Clone, Copy)]
struct Named<'a> {
    unit: Unit,
    text: &'a str,
}

/// The units of a column of names, which nearly always are one and the same.
fn units<'a>(names: &'a StringViewArray, ty: &'static str) -> impl Iterator<Item = Option<std::result::Result<Named<'a>, SqlError>>> {
    let mut last: Option<Named<'a>> = None;
    names.iter().map(move |name| {
        let text = name?;
        if let Some(known) = last.filter(|last| last.text == text) {
            return Some(Ok(known));
        }
        let unit = Unit::named(text, ty).map(|unit| Named { unit, text });
        last = unit.as_ref().ok().copied();
        Some(unit)
    })
}

fn whole(value: i64) -> Row<i128> {
    Ok(Some(i128::from(value) * 1_000_000))
}

/// What the calendar says of a day.
fn of_day(unit: Unit, civil: Civil) -> Option<i64> {
    let year = civil.year;
    Some(match unit {
        Unit::Day => civil.day,
        Unit::Month => civil.month,
        Unit::Quarter => (civil.month - 1) / 3 + 1,
        Unit::Week => civil.iso_week().1,
        // There is no year 0: before 1 comes 1 BC.
        Unit::Year => shown_year(year),
        Unit::Decade => year.div_euclid(10),
        Unit::Century => {
            if year > 0 {
                (year + 99) / 100
            } else {
                -((99 - (year - 1)) / 100)
            }
        }
        Unit::Millennium => {
            if year > 0 {
                (year + 999) / 1000
            } else {
                -((999 - (year - 1)) / 1000)
            }
        }
        Unit::Isoyear => shown_year(civil.iso_week().0),
        Unit::Dow => civil.day_of_week(),
        Unit::Isodow => (civil.day_of_week() + 6) % 7 + 1,
        Unit::Doy => civil.day_of_year(),
        Unit::Julian => civil.days() + JULIAN_EPOCH,
        _ => return None,
    })
}

fn shown_year(year: i64) -> i64 {
    if year > 0 { year } else { year - 1 }
}

/// What the clock says, in millionths.
fn of_clock(unit: Unit, time: i64) -> Option<i128> {
    Some(match unit {
        Unit::Microseconds => i128::from(time % (60 * SECOND)) * 1_000_000,
        Unit::Milliseconds => i128::from(time % (60 * SECOND)) * 1000,
        Unit::Second => i128::from(time % (60 * SECOND)),
        Unit::Minute => i128::from(time / (60 * SECOND) % 60) * 1_000_000,
        Unit::Hour => i128::from(time / HOUR) * 1_000_000,
        _ => return None,
    })
}

/// Of an infinite moment: NULL where the value swings, and infinity, which a numeric of ours cannot be, where it grows.
fn of_infinity(unit: Unit) -> Row<i128> {
    match unit {
        Unit::Year | Unit::Decade | Unit::Century | Unit::Millennium | Unit::Isoyear | Unit::Julian | Unit::Epoch => {
            Err(SqlError::unsupported("an infinite numeric"))
        }
        _ => Ok(None),
    }
}

fn of_date(named: Named, days: i32) -> Row<i128> {
    if named.unit != Unit::Epoch && of_day(named.unit, Civil::default()).is_none() {
        return Err(unit_not_supported(named.text, DATE));
    }
    if is_infinite_date(days) {
        return of_infinity(named.unit);
    }
    match of_day(named.unit, Civil::of(i64::from(days) * DAY)) {
        Some(value) => whole(value),
        None => whole(i64::from(days) * 86_400),
    }
}

fn of_timestamp(named: Named, micros: i64, zone: Option<&str>) -> Row<i128> {
    if is_infinite(micros) {
        return of_infinity(named.unit);
    }
    let local = zone.map_or(Ok(micros), |zone| to_local(micros, zone))?;
    let civil = Civil::of(local);
    let offset = (local - micros) / SECOND;
    match named.unit {
        Unit::Epoch => Ok(Some(i128::from(micros))),
        Unit::Julian => {
            Ok(Some(i128::from(civil.days() + JULIAN_EPOCH) * 1_000_000 + i128::from(civil.time) * 1_000_000 / i128::from(DAY)))
        }
        Unit::Timezone if zone.is_some() => whole(offset),
        Unit::TimezoneHour if zone.is_some() => whole(offset / 3600),
        Unit::TimezoneMinute if zone.is_some() => whole(offset / 60 % 60),
        unit => match of_clock(unit, civil.time) {
            Some(value) => Ok(Some(value)),
            None => {
                let ty = if zone.is_some() { TIMESTAMPTZ } else { TIMESTAMP };
                of_day(unit, civil).map_or_else(|| Err(unit_not_supported(named.text, ty)), whole)
            }
        },
    }
}

fn of_time(named: Named, time: i64) -> Row<i128> {
    match named.unit {
        Unit::Epoch => Ok(Some(i128::from(time))),
        unit => of_clock(unit, time).map(Some).ok_or_else(|| unit_not_supported(named.text, TIME)),
    }
}

fn of_interval(named: Named, span: IntervalMonthDayNano) -> Row<i128> {
    let (months, days, time) = (i64::from(span.months), i64::from(span.days), span.nanoseconds / 1000);
    let years = months / 12;
    match named.unit {
        Unit::Day => whole(days),
        Unit::Month => whole(months % 12),
        Unit::Quarter => whole(months % 12 / 3 + 1),
        Unit::Year => whole(years),
        Unit::Decade => whole(years / 10),
        Unit::Century => whole(years / 100),
        Unit::Millennium => whole(years / 1000),
        // A year of 365.25 days, a month of 30.
        Unit::Epoch => {
            let quarters = i128::from(years) * 1461 + i128::from(months % 12) * 120 + i128::from(days) * 4;
            Ok(Some(quarters * 21_600 * 1_000_000 + i128::from(time)))
        }
        unit => of_clock(unit, time).map(Some).ok_or_else(|| unit_not_supported(named.text, INTERVAL)),
    }
}

fn truncate(named: Named, micros: i64, ty: &str) -> std::result::Result<i64, SqlError> {
    let mut civil = Civil::of(micros);
    let unit = named.unit;
    if let Some(size) = clock_size(unit) {
        return Ok(if is_infinite(micros) { micros } else { micros - micros.rem_euclid(size) });
    }
    // Where the years of a span begin: 2001 began the century, 2000 the decade.
    let year = match unit {
        Unit::Millennium => {
            if civil.year > 0 {
                (civil.year + 999) / 1000 * 1000 - 999
            } else {
                -((999 - (civil.year - 1)) / 1000) * 1000 + 1
            }
        }
        Unit::Century => {
            if civil.year > 0 {
                (civil.year + 99) / 100 * 100 - 99
            } else {
                -((99 - (civil.year - 1)) / 100) * 100 + 1
            }
        }
        Unit::Decade => civil.year.div_euclid(10) * 10,
        _ => civil.year,
    };
    match unit {
        Unit::Millennium | Unit::Century | Unit::Decade | Unit::Year => civil = Civil { year, month: 1, day: 1, time: 0 },
        Unit::Quarter => civil = Civil { month: (civil.month - 1) / 3 * 3 + 1, day: 1, time: 0, ..civil },
        Unit::Month => civil = Civil { day: 1, time: 0, ..civil },
        Unit::Week => {
            let monday = civil.days() - (civil.day_of_week() + 6) % 7;
            civil = Civil::of(monday * DAY);
        }
        Unit::Day => civil.time = 0,
        _ => return Err(unit_not_supported(named.text, ty)),
    }
    if is_infinite(micros) {
        return Ok(micros);
    }
    civil.micros().ok_or_else(|| out_of_range(SqlType::Timestamp))
}

/// Units that divide a day evenly.
fn clock_size(unit: Unit) -> Option<i64> {
    Some(match unit {
        Unit::Microseconds => 1,
        Unit::Milliseconds => 1000,
        Unit::Second => SECOND,
        Unit::Minute => 60 * SECOND,
        Unit::Hour => HOUR,
        _ => return None,
    })
}

fn truncate_in(named: Named, micros: i64, zone: &str) -> std::result::Result<i64, SqlError> {
    let local = to_local(micros, zone)?;
    let cut = truncate(named, local, TIMESTAMPTZ)?;
    // Within a day the offset stays, also in the hour that comes twice.
    if clock_size(named.unit).is_some() { Ok(micros - (local - cut)) } else { to_utc(cut, zone) }
}

fn truncate_span(named: Named, span: IntervalMonthDayNano) -> std::result::Result<IntervalMonthDayNano, SqlError> {
    let months = |size: i32| IntervalMonthDayNano::new(span.months / size * size, 0, 0);
    Ok(match named.unit {
        Unit::Millennium => months(12_000),
        Unit::Century => months(1200),
        Unit::Decade => months(120),
        Unit::Year => months(12),
        Unit::Quarter => months(3),
        Unit::Month => months(1),
        Unit::Day => IntervalMonthDayNano::new(span.months, span.days, 0),
        Unit::Week => {
            return Err(unit_not_supported(named.text, INTERVAL).with_detail("Months usually have fractional weeks."));
        }
        unit => match clock_size(unit) {
            Some(size) => IntervalMonthDayNano::new(span.months, span.days, span.nanoseconds / (size * 1000) * (size * 1000)),
            None => return Err(unit_not_supported(named.text, INTERVAL)),
        },
    })
}

/// The months and days between two local moments as people count them: `age`.
pub(super) fn age(later: i64, earlier: i64) -> Option<IntervalMonthDayNano> {
    let (a, b) = (Civil::of(later), Civil::of(earlier));
    let negative = later < earlier;
    let (mut years, mut months, mut days, mut time) = (a.year - b.year, a.month - b.month, a.day - b.day, a.time - b.time);
    if negative {
        (years, months, days, time) = (-years, -months, -days, -time);
    }
    if time < 0 {
        time += DAY;
        days -= 1;
    }
    while days < 0 {
        // The month that is borrowed is that of the earlier moment.
        let month = if negative { a } else { b };
        days += days_in_month(month.year, month.month);
        months -= 1;
    }
    while months < 0 {
        months += 12;
        years -= 1;
    }
    let sign = if negative { -1 } else { 1 };
    let months = i32::try_from(sign * (years * 12 + months)).ok()?;
    Some(IntervalMonthDayNano::new(months, (sign * days) as i32, (sign * time).checked_mul(1000)?))
}
