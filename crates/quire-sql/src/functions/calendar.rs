//! The calendar that functions of dates and times share: a moment taken apart, units by name, and moments moved by intervals.

use arrow::datatypes::IntervalMonthDayNano;
use quire_types::SqlType;

use crate::SqlError;
use crate::values::datetime::{civil_from_days, days_from_civil, local_to_utc, utc_to_local};

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const HOUR: i64 = 3600 * SECOND;
pub(super) const DAY: i64 = 24 * HOUR;
/// The Julian day of 1970-01-01.
pub(super) const JULIAN_EPOCH: i64 = 2_440_588;

/// A unit of time, as EXTRACT and date_trunc name them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Dow,
    Isodow,
    Doy,
    Isoyear,
    Julian,
    Epoch,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

impl Unit {
    pub(super) fn parse(text: &str) -> Option<Unit> {
        Some(match text.trim().to_ascii_lowercase().as_str() {
            "microseconds" | "microsecond" | "us" | "usec" | "usecs" | "useconds" | "usecond" | "microsecon" => Unit::Microseconds,
            "milliseconds" | "millisecond" | "ms" | "msec" | "msecs" | "mseconds" | "msecond" => Unit::Milliseconds,
            "second" | "seconds" | "s" | "sec" | "secs" => Unit::Second,
            "minute" | "minutes" | "m" | "min" | "mins" => Unit::Minute,
            "hour" | "hours" | "h" | "hr" | "hrs" => Unit::Hour,
            "day" | "days" | "d" => Unit::Day,
            "week" | "weeks" | "w" => Unit::Week,
            "month" | "months" | "mon" | "mons" => Unit::Month,
            "quarter" | "qtr" => Unit::Quarter,
            "year" | "years" | "y" | "yr" | "yrs" => Unit::Year,
            "decade" | "decades" | "dec" | "decs" => Unit::Decade,
            "century" | "centuries" | "c" | "cent" => Unit::Century,
            "millennium" | "millennia" | "mil" | "mils" => Unit::Millennium,
            "dow" => Unit::Dow,
            "isodow" => Unit::Isodow,
            "doy" => Unit::Doy,
            "isoyear" => Unit::Isoyear,
            "julian" | "jd" | "j" => Unit::Julian,
            "epoch" => Unit::Epoch,
            "timezone" => Unit::Timezone,
            "timezone_hour" | "timezone_h" => Unit::TimezoneHour,
            "timezone_minute" | "timezone_m" => Unit::TimezoneMinute,
            _ => return None,
        })
    }

    /// A unit by name, for a value of this type: 22023 when there is none.
    pub(super) fn named(text: &str, ty: &str) -> Result<Unit, SqlError> {
        Unit::parse(text).ok_or_else(|| SqlError::new("22023", format!("unit \"{}\" not recognized for type {ty}", text.to_lowercase())))
    }
}

/// 0A000.
pub(super) fn unit_not_supported(text: &str, ty: &str) -> SqlError {
    SqlError::new("0A000", format!("unit \"{}\" not supported for type {ty}", text.to_lowercase()))
}

/// A local moment taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    /// Microseconds since midnight.
    pub(super) time: i64,
}

impl Civil {
    pub(super) fn of(micros: i64) -> Civil {
        let (year, month, day) = civil_from_days(micros.div_euclid(DAY));
        Civil { year, month: month.into(), day: day.into(), time: micros.rem_euclid(DAY) }
    }

    pub(super) fn days(self) -> i64 {
        days_from_civil(self.year, self.month as u32, self.day as u32)
    }

    /// `None` beyond the range of timestamps.
    pub(super) fn micros(self) -> Option<i64> {
        self.days().checked_mul(DAY)?.checked_add(self.time)
    }

    /// 0 for Sunday.
    pub(super) fn day_of_week(self) -> i64 {
        (self.days() + 4).rem_euclid(7)
    }

    pub(super) fn day_of_year(self) -> i64 {
        self.days() - days_from_civil(self.year, 1, 1) + 1
    }

    /// ISO 8601's year and week.
    pub(super) fn iso_week(self) -> (i64, i64) {
        // A week belongs to the year of its Thursday.
        let thursday = self.days() - (self.day_of_week() + 6) % 7 + 3;
        let (year, _, _) = civil_from_days(thursday);
        (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
    }
}

pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_from_civil(next_year, next as u32, 1) - days_from_civil(year, month as u32, 1)
}

pub(super) fn is_infinite(micros: i64) -> bool {
    micros == i64::MAX || micros == i64::MIN
}

pub(super) fn is_infinite_date(days: i32) -> bool {
    days == i32::MAX || days == i32::MIN
}

/// 22008.
pub(super) fn out_of_range(ty: SqlType) -> SqlError {
    let name = if matches!(ty, SqlType::Timestamp | SqlType::Timestamptz) { "timestamp".to_string() } else { ty.name() };
    SqlError::new("22008", format!("{name} out of range"))
}

/// 22023.
pub(super) fn unknown_zone(zone: &str) -> SqlError {
    SqlError::new("22023", format!("time zone \"{zone}\" not recognized"))
}

/// Abbreviations that are no names of zones, in hours east of UTC.
const ABBREVIATIONS: &[(&str, i64)] = &[
    ("PST", -8),
    ("PDT", -7),
    ("MST", -7),
    ("MDT", -6),
    ("CST", -6),
    ("CDT", -5),
    ("EST", -5),
    ("EDT", -4),
    ("AST", -4),
    ("ADT", -3),
    ("BST", 1),
    ("CEST", 2),
    ("EEST", 3),
    ("MSK", 3),
    ("JST", 9),
    ("KST", 9),
    ("AEST", 10),
    ("AEDT", 11),
];

/// A zone as AT TIME ZONE takes it, in a form that conversions understand: a bare offset counts west of Greenwich, by POSIX.
pub(super) fn at_zone(zone: &str) -> String {
    let zone = zone.trim();
    if let Some((_, hours)) = ABBREVIATIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(zone)) {
        return format!("{hours:+03}");
    }
    match (zone.strip_prefix('+'), zone.strip_prefix('-')) {
        (Some(digits), _) => format!("-{digits}"),
        (_, Some(digits)) => format!("+{digits}"),
        _ if zone.starts_with(|c: char| c.is_ascii_digit()) => format!("-{zone}"),
        _ => zone.to_string(),
    }
}

/// The local time in a zone.
pub(super) fn to_local(micros: i64, zone: &str) -> Result<i64, SqlError> {
    utc_to_local(micros, zone).ok_or_else(|| unknown_zone(zone))
}

/// The moment of a local time in a zone.
pub(super) fn to_utc(micros: i64, zone: &str) -> Result<i64, SqlError> {
    local_to_utc(micros, zone).ok_or_else(|| unknown_zone(zone))
}

/// A local time moved by an interval: months first, where a day past the month's end becomes its last, then days, then time.
pub(super) fn add_interval(micros: i64, span: IntervalMonthDayNano) -> Option<i64> {
    if is_infinite(micros) {
        return Some(micros);
    }
    let mut civil = Civil::of(micros);
    if span.months != 0 {
        let months = civil.year.checked_mul(12)?.checked_add(civil.month - 1)?.checked_add(span.months.into())?;
        (civil.year, civil.month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        civil.day = civil.day.min(days_in_month(civil.year, civil.month));
    }
    let day = civil.days().checked_add(span.days.into())?;
    day.checked_mul(DAY)?.checked_add(civil.time)?.checked_add(span.nanoseconds / 1000)
}

/// A moment moved by an interval, where months and days are those of a zone.
pub(super) fn add_interval_in(micros: i64, span: IntervalMonthDayNano, zone: &str) -> Result<i64, SqlError> {
    let range = || out_of_range(SqlType::Timestamptz);
    let mut moment = micros;
    if span.months != 0 || span.days != 0 {
        let days = IntervalMonthDayNano::new(span.months, span.days, 0);
        moment = to_utc(add_interval(to_local(moment, zone)?, days).ok_or_else(range)?, zone)?;
    }
    if is_infinite(moment) { Ok(moment) } else { moment.checked_add(span.nanoseconds / 1000).ok_or_else(range) }
}
