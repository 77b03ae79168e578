//! Intervals: Postgres' spellings of them, and their arithmetic.

use arrow::datatypes::IntervalMonthDayNano;
use quire_types::SqlType;

use super::ValueError;

const SECOND: i128 = 1_000_000;
const DAY: i128 = 86_400 * SECOND;
/// Comparisons and fractions take a month for 30 days, as Postgres does.
const DAYS_PER_MONTH: i128 = 30;

/// What a number counts.
#[derive(Clone, Copy)]
enum Unit {
    Months(i128),
    Days(i128),
    Micros(i128),
}

fn unit(word: &str) -> Option<Unit> {
    Some(match word {
        "microsecond" | "microseconds" | "us" | "usec" | "usecs" | "usecond" | "useconds" => Unit::Micros(1),
        "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" | "msecond" | "mseconds" => Unit::Micros(1000),
        "second" | "seconds" | "s" | "sec" | "secs" => Unit::Micros(SECOND),
        "minute" | "minutes" | "m" | "min" | "mins" => Unit::Micros(60 * SECOND),
        "hour" | "hours" | "h" | "hr" | "hrs" => Unit::Micros(3600 * SECOND),
        "day" | "days" | "d" => Unit::Days(1),
        "week" | "weeks" | "w" => Unit::Days(7),
        "month" | "months" | "mon" | "mons" => Unit::Months(1),
        "year" | "years" | "y" | "yr" | "yrs" => Unit::Months(12),
        "decade" | "decades" | "dec" | "decs" => Unit::Months(120),
        "century" | "centuries" | "c" | "cent" => Unit::Months(1200),
        "millennium" | "millennia" | "mil" | "mils" => Unit::Months(12_000),
        _ => return None,
    })
}

/// The three parts while they are being added up, wide enough that only the end needs a check.
#[derive(Clone, Copy, Default)]
struct Parts {
    months: i128,
    days: i128,
    micros: i128,
}

impl Parts {
    /// Adds `count` units, where the count has `decimals` digits after its point. What is left of a month goes to days, of a day to time.
    fn add(&mut self, count: i128, decimals: u32, unit: Unit) -> Option<()> {
        let divisor = 10i128.checked_pow(decimals)?;
        let scaled = |size: i128| count.checked_mul(size);
        match unit {
            Unit::Micros(size) => self.micros += round_div(scaled(size)?, divisor),
            Unit::Days(size) => {
                let days = scaled(size)?;
                self.days += days / divisor;
                self.micros += round_div((days % divisor).checked_mul(DAY)?, divisor);
            }
            // Fractions of years are rounded to whole months.
            Unit::Months(size) if size > 1 => self.months += round_div(scaled(size)?, divisor),
            Unit::Months(_) => {
                self.months += count / divisor;
                let days = (count % divisor).checked_mul(DAYS_PER_MONTH)?;
                self.days += days / divisor;
                self.micros += round_div((days % divisor).checked_mul(DAY)?, divisor);
            }
        }
        Some(())
    }

    fn negated(self) -> Parts {
        Parts { months: -self.months, days: -self.days, micros: -self.micros }
    }

    fn finish(self) -> Option<IntervalMonthDayNano> {
        let nanos = i64::try_from(self.micros.checked_mul(1000)?).ok()?;
        Some(IntervalMonthDayNano::new(i32::try_from(self.months).ok()?, i32::try_from(self.days).ok()?, nanos))
    }
}

fn round_div(value: i128, divisor: i128) -> i128 {
    let half = divisor / 2;
    if value >= 0 { (value + half) / divisor } else { (value - half) / divisor }
}

/// A decimal number: its digits as an integer, and how many of them stand after the point.
fn decimal(text: &str) -> Option<(i128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // Digits beyond the ninth of a fraction are below a microsecond in any unit that is used with fractions.
    let fraction = &fraction[..fraction.len().min(9)];
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    if digits.len() > 20 {
        return None;
    }
    Some((digits.parse().ok()?, fraction.len() as u32))
}

/// `hh:mm`, `hh:mm:ss.ffffff`: microseconds.
fn clock(text: &str) -> Option<i128> {
    let mut fields = text.split(':');
    let hours: i128 = fields.next()?.parse().ok()?;
    let minutes: i128 = fields.next()?.parse().ok()?;
    let (seconds, decimals) = fields.next().map_or(Some((0, 0)), decimal)?;
    let micros = round_div(seconds * SECOND, 10i128.pow(decimals));
    if fields.next().is_some() || minutes > 59 || micros > 60 * SECOND {
        return None;
    }
    Some((hours * 60 + minutes) * 60 * SECOND + micros)
}

/// `1 year 2 mons 3 days 04:05:06.789`, `-1 day`, `1-2`, `3 hours ago`, `P1Y2M3DT4H5M6S`.
pub(crate) fn parse_interval(text: &str) -> Result<IntervalMonthDayNano, ValueError> {
    let invalid = || ValueError::invalid(SqlType::Interval, text);
    let trimmed = text.trim();
    let parts = match trimmed.strip_prefix(['P', 'p']) {
        Some(iso) => iso_parts(iso).ok_or_else(invalid)?,
        None => verbose_parts(&trimmed.to_ascii_lowercase()).ok_or_else(invalid)?,
    };
    parts.finish().ok_or_else(|| ValueError::new("22015", format!("interval field value out of range: \"{text}\"")))
}

fn verbose_parts(text: &str) -> Option<Parts> {
    let text = text.strip_prefix('@').unwrap_or(text).trim_start();
    let (text, ago) = text.strip_suffix("ago").map_or((text, false), |t| (t.trim_end(), true));
    let mut rest = text;
    let mut parts = Parts::default();
    let mut any = false;
    while !rest.is_empty() {
        let (sign, unsigned) = match rest.as_bytes()[0] {
            b'-' => (-1, rest[1..].trim_start()),
            b'+' => (1, rest[1..].trim_start()),
            _ => (1, rest),
        };
        let end = unsigned.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':' | '-'))).unwrap_or(unsigned.len());
        let (number, after) = unsigned.split_at(end);
        let after = after.trim_start();
        if number.contains(':') {
            parts.micros += sign * clock(number)?;
            rest = after;
        } else if let Some((years, months)) = number.split_once('-') {
            let (years, months): (i128, i128) = (years.parse().ok()?, months.parse().ok()?);
            parts.months += sign * (years * 12 + months);
            rest = after;
        } else {
            let (count, decimals) = decimal(number)?;
            let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (word, after) = after.split_at(end);
            // A number alone counts seconds, and only at the end.
            let unit = if word.is_empty() && after.is_empty() { Unit::Micros(SECOND) } else { unit(word)? };
            parts.add(sign * count, decimals, unit)?;
            rest = after.trim_start();
        }
        any = true;
    }
    any.then(|| if ago { parts.negated() } else { parts })
}

fn iso_parts(text: &str) -> Option<Parts> {
    let mut parts = Parts::default();
    let mut in_time = false;
    let mut number = String::new();
    for c in text.chars() {
        let unit = match (c, in_time) {
            ('T', false) if number.is_empty() => {
                in_time = true;
                continue;
            }
            ('0'..='9' | '-' | '+' | '.', _) => {
                number.push(c);
                continue;
            }
            ('Y', false) => Unit::Months(12),
            ('M', false) => Unit::Months(1),
            ('W', false) => Unit::Days(7),
            ('D', false) => Unit::Days(1),
            ('H', true) => Unit::Micros(3600 * SECOND),
            ('M', true) => Unit::Micros(60 * SECOND),
            ('S', true) => Unit::Micros(SECOND),
            _ => return None,
        };
        let (sign, digits) = match number.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, number.strip_prefix('+').unwrap_or(&number)),
        };
        let (count, decimals) = decimal(digits)?;
        parts.add(sign * count, decimals, unit)?;
        number.clear();
    }
    (number.is_empty() && !text.is_empty()).then_some(parts)
}

/// Microseconds with months of 30 days and days of 24 hours: what comparisons go by.
pub(crate) fn comparison_key(value: IntervalMonthDayNano) -> i128 {
    (i128::from(value.months) * DAYS_PER_MONTH + i128::from(value.days)) * DAY + i128::from(value.nanoseconds / 1000)
}

/// The interval times a number: what is left of months becomes days, what is left of days becomes time. `None` when out of range.
pub(crate) fn scale(value: IntervalMonthDayNano, factor: f64) -> Option<IntervalMonthDayNano> {
    let whole = |v: f64| (v.is_finite() && v.abs() < 2_147_483_648.0).then(|| v.trunc() as i32);
    // Months that come out whole but for the last bits of a float are whole.
    let settled = |v: f64| (v * 1e6).round() / 1e6;
    let months = f64::from(value.months) * factor;
    let days = f64::from(value.days) * factor;
    let (whole_months, whole_days) = (whole(months)?, whole(days)?);
    let month_days = settled((months - f64::from(whole_months)) * 30.0);
    let spilled = whole(month_days)?;
    let day_rest = settled(days - f64::from(whole_days) + month_days - f64::from(spilled));
    let carried = whole(day_rest)?;
    let micros = (value.nanoseconds / 1000) as f64 * factor + (day_rest - f64::from(carried)) * DAY as f64;
    let micros = micros.round_ties_even();
    if !micros.is_finite() || micros.abs() > 9.2e15 {
        return None;
    }
    let total_days = whole_days.checked_add(spilled)?.checked_add(carried)?;
    Some(IntervalMonthDayNano::new(whole_months, total_days, micros as i64 * 1000))
}
