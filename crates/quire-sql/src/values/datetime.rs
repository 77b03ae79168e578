//! Dates, times and intervals from and to text. Years before 1 and after 9999 are read and shown with four or more digits, as ISO 8601 has it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::IntervalMonthDayNano;
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone};
use quire_types::SqlType;

use super::ValueError;

const MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * MICROS;

/// Where and when text is read: the zone of times that name none, and when `now` and `today` are.
#[derive(Clone, Debug)]
pub struct Home<'a> {
    zone: Cow<'a, str>,
    /// Microseconds since 1970.
    now: i64,
    /// Counts how often somebody asked for it.
    asked: Option<&'a AtomicU64>,
}

impl<'a> Home<'a> {
    /// A time zone, and the moment that is now.
    pub fn new(zone: impl Into<Cow<'a, str>>, now: i64) -> Home<'a> {
        Home { zone: zone.into(), now, asked: None }
    }

    /// Counts in `asked` when what is read depends on when it is read.
    pub(crate) fn counting(self, asked: &'a AtomicU64) -> Home<'a> {
        Home { asked: Some(asked), ..self }
    }

    /// UTC, in 1970: for text that says all by itself.
    pub fn unknown() -> Home<'static> {
        Home { zone: Cow::Borrowed("UTC"), now: 0, asked: None }
    }

    pub(crate) fn zone(&self) -> &str {
        &self.zone
    }

    fn now(&self) -> i64 {
        if let Some(asked) = self.asked {
            asked.fetch_add(1, Ordering::Relaxed);
        }
        self.now
    }

    /// What a clock on the wall shows.
    fn local_now(&self) -> i64 {
        let now = self.now();
        utc_to_local(now, &self.zone).unwrap_or(now)
    }

    /// The day, since 1970-01-01.
    pub(crate) fn today(&self) -> i64 {
        self.local_now().div_euclid(DAY_MICROS)
    }
}

/// Words that mean something else another day, where a date or time is read.
const RELATIVE: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// Whether what text says depends on when it is read.
pub(crate) fn is_relative(text: &str) -> bool {
    let text = text.trim_start();
    RELATIVE.iter().any(|word| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

/// The day that text begins with when it begins with `today` or the like, since 1970-01-01, and what follows.
fn relative_day<'a>(text: &'a str, home: &Home<'_>) -> Option<(i64, &'a str)> {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let days = RELATIVE[1..].iter().zip([0, 1, -1]).find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, days)| days)?;
    Some((home.today() + days, rest))
}

/// Days since 1970-01-01 of a civil date (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub(crate) fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
pub(crate) fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `2024-02-30 BC` without its era, and whether it had one.
fn era(text: &str) -> (&str, bool) {
    let before_christ = text.len() > 3 && text.is_char_boundary(text.len() - 3) && text[text.len() - 3..].eq_ignore_ascii_case(" bc");
    if before_christ { (text[..text.len() - 3].trim_end(), true) } else { (text, false) }
}

/// `Some((days, bytes read))` for text that begins like YYYY-MM-DD; `Err` when the numbers are no date.
fn iso_date(text: &[u8], before_christ: bool) -> Result<Option<(i64, usize)>, ()> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(4..=7).contains(&digits) || text.get(digits) != Some(&b'-') {
        return Ok(None);
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0'));
    let two = |at: usize| -> Option<(u32, usize)> {
        let found = text[at..].iter().take(2).take_while(|b| b.is_ascii_digit()).count();
        (found > 0).then(|| (number(&text[at..at + found]), at + found))
    };
    let shown = i64::from(number(&text[..digits]));
    let year = if before_christ { 1 - shown } else { shown };
    let Some((month, at)) = two(digits + 1) else { return Ok(None) };
    if text.get(at) != Some(&b'-') {
        return Ok(None);
    }
    let Some((day, end)) = two(at + 1) else { return Ok(None) };
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) || shown == 0 {
        return Err(());
    }
    Ok(Some((days_from_civil(year, month, day), end)))
}

/// Other spellings that Postgres takes with DateStyle ISO, MDY.
const DATE_FORMATS: [&str; 9] = ["%Y%m%d", "%m/%d/%Y", "%B %d, %Y", "%B %d %Y", "%d %B %Y", "%d-%b-%Y", "%b-%d-%Y", "%Y/%m/%d", "%Y-%b-%d"];
/// How infinite dates and timestamps are kept; both ends sort where they belong.
const DATE_INFINITY: i64 = i32::MAX as i64;
const DATE_MINUS_INFINITY: i64 = i32::MIN as i64;

fn other_date(text: &str) -> Option<i64> {
    let date = DATE_FORMATS.iter().find_map(|f| NaiveDate::parse_from_str(text, f).ok())?;
    Some(date.signed_duration_since(NaiveDate::default()).num_days())
}

fn field_range(text: &str) -> ValueError {
    ValueError::new("22008", format!("date/time field value out of range: \"{text}\""))
}

/// Days since 1970-01-01.
pub(crate) fn parse_date(text: &str, home: &Home<'_>) -> Result<i32, ValueError> {
    let (trimmed, before_christ) = era(text.trim());
    let days = match iso_date(trimmed.as_bytes(), before_christ).map_err(|()| field_range(text))? {
        Some((days, end)) if end == trimmed.len() => days,
        // A timestamp's date part.
        Some(_) => parse_timestamp(text, SqlType::Date, home)?.div_euclid(DAY_MICROS),
        None => match trimmed.to_ascii_lowercase().as_str() {
            "epoch" => 0,
            "infinity" => DATE_INFINITY,
            "-infinity" => DATE_MINUS_INFINITY,
            "now" => home.today(),
            _ => match relative_day(trimmed, home) {
                Some((days, "")) => days,
                Some(_) => parse_timestamp(text, SqlType::Date, home)?.div_euclid(DAY_MICROS),
                None => other_date(trimmed).ok_or_else(|| ValueError::invalid(SqlType::Date, text))?,
            },
        },
    };
    i32::try_from(days).map_err(|_| field_range(text))
}

/// A number of one or two digits.
fn read_digits(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let digits = bytes[*at..].iter().take(2).take_while(|b| b.is_ascii_digit()).count();
    let value = bytes[*at..*at + digits].iter().fold(0, |n, b| n * 10 + i64::from(b - b'0'));
    *at += digits;
    (digits > 0).then_some(value)
}

fn skip(bytes: &[u8], at: &mut usize, byte: u8) -> bool {
    let found = bytes.get(*at) == Some(&byte);
    *at += usize::from(found);
    found
}

/// Microseconds since midnight, and what follows. `None` when it is no time.
fn time_of_day(text: &str) -> Result<Option<(i64, &str)>, ()> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let Some(hour) = read_digits(bytes, &mut at) else { return Ok(None) };
    if !skip(bytes, &mut at, b':') {
        return Ok(None);
    }
    let Some(minute) = read_digits(bytes, &mut at) else { return Ok(None) };
    let second = if skip(bytes, &mut at, b':') { read_digits(bytes, &mut at) } else { Some(0) };
    let Some(second) = second else { return Ok(None) };
    let mut micros = 0;
    if bytes.get(at) == Some(&b'.') {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut scaled = 0i64;
        for i in 0..7 {
            let digit = if i < digits { i64::from(bytes[at + 1 + i] - b'0') } else { 0 };
            scaled = scaled * 10 + digit;
        }
        micros = (scaled + 5) / 10;
        at += 1 + digits;
    }
    let mut rest = text[at..].trim_start();
    let mut hour = hour;
    for (suffix, afternoon) in [("am", false), ("pm", true)] {
        if rest.get(..2).is_some_and(|r| r.eq_ignore_ascii_case(suffix)) {
            if !(1..=12).contains(&hour) {
                return Err(());
            }
            hour = hour % 12 + if afternoon { 12 } else { 0 };
            rest = rest[2..].trim_start();
        }
    }
    if hour > 24 || minute > 59 || second > 60 || hour == 24 && (minute, second, micros) != (0, 0, 0) {
        return Err(());
    }
    Ok(Some((((hour * 60 + minute) * 60 + second) * MICROS + micros, rest)))
}

/// A zone: seconds east of UTC at that local time.
fn zone_offset(zone: &str, local: i64) -> Option<i64> {
    let zone = zone.trim();
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") || zone.eq_ignore_ascii_case("utc") || zone.eq_ignore_ascii_case("gmt") {
        return Some(0);
    }
    if let Some(sign) = zone.strip_prefix('+').map(|r| (1, r)).or(zone.strip_prefix('-').map(|r| (-1, r))) {
        let digits: String = sign.1.chars().filter(|c| *c != ':').collect();
        if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let part = |from: usize, to: usize| {
            digits.get(from..to.min(digits.len())).filter(|p| !p.is_empty()).map_or(Some(0), |p| p.parse::<i64>().ok())
        };
        let (hours, minutes, seconds) =
            if digits.len() <= 2 { (digits.parse().ok()?, 0, 0) } else { (part(0, 2)?, part(2, 4)?, part(4, 6)?) };
        return (hours <= 15 && minutes < 60).then_some(sign.0 * (hours * 3600 + minutes * 60 + seconds));
    }
    let named: chrono_tz::Tz = zone.parse().ok()?;
    let local = DateTime::from_timestamp_micros(local)?.naive_utc();
    let offset = |local: NaiveDateTime| -> Option<i64> {
        let resolved: DateTime<chrono_tz::Tz> = named.from_local_datetime(&local).latest()?;
        Some(local.signed_duration_since(resolved.naive_utc()).num_seconds())
    };
    // As PostgreSQL: of a time that there is twice, the second one; of one that clocks leave out, as if they had not been changed yet.
    offset(local).or_else(|| offset(local.checked_sub_signed(TimeDelta::hours(3))?))
}

/// Seconds east of UTC that a zone is at a moment. `None` for a zone that is not known.
fn offset_at(zone: &str, utc_micros: i64) -> Option<i64> {
    match zone.trim().parse::<chrono_tz::Tz>() {
        Ok(named) => {
            let moment = DateTime::from_timestamp_micros(utc_micros)?;
            let local = moment.with_timezone(&named).naive_local();
            Some(local.signed_duration_since(moment.naive_utc()).num_seconds())
        }
        Err(_) => zone_offset(zone, utc_micros),
    }
}

/// The local time in a zone at a moment. `None` for a zone that is not known.
pub(crate) fn utc_to_local(micros: i64, zone: &str) -> Option<i64> {
    if is_infinite(micros) {
        return Some(micros);
    }
    micros.checked_add(offset_at(zone, micros)? * MICROS)
}

/// The moment of a local time in a zone. `None` for a zone that is not known.
pub(crate) fn local_to_utc(micros: i64, zone: &str) -> Option<i64> {
    if is_infinite(micros) {
        return Some(micros);
    }
    micros.checked_sub(zone_offset(zone, micros)? * MICROS)
}

fn is_infinite(micros: i64) -> bool {
    micros == i64::MAX || micros == i64::MIN
}

/// Microseconds since 1970-01-01; UTC for timestamptz (text without a zone is of the home's), local otherwise (a zone is ignored).
pub(crate) fn parse_timestamp(text: &str, ty: SqlType, home: &Home<'_>) -> Result<i64, ValueError> {
    let invalid = || ValueError::invalid(ty, text);
    let range = || field_range(text);
    let (trimmed, before_christ) = era(text.trim());
    if trimmed.starts_with(|c: char| c.is_ascii_alphabetic() || c == '-') {
        match trimmed.to_ascii_lowercase().as_str() {
            "epoch" => return Ok(0),
            "infinity" => return Ok(i64::MAX),
            "-infinity" => return Ok(i64::MIN),
            "now" => return Ok(if ty == SqlType::Timestamptz { home.now() } else { home.local_now() }),
            _ => {}
        }
    }
    let iso = iso_date(trimmed.as_bytes(), before_christ).map_err(|()| range())?.map(|(days, end)| (days, &trimmed[end..]));
    let (days, rest) = match iso.or_else(|| relative_day(trimmed, home)) {
        Some(found) => found,
        None => {
            // Some other date, then perhaps a time.
            let split = trimmed.rfind(' ').filter(|at| trimmed[*at..].contains(':'));
            let (date, time) = split.map_or((trimmed, ""), |at| trimmed.split_at(at));
            (other_date(date.trim()).ok_or_else(invalid)?, time)
        }
    };
    let rest = rest.strip_prefix('T').unwrap_or(rest).trim_start();
    let (time, zone) = if rest.is_empty() { (0, "") } else { time_of_day(rest).map_err(|()| range())?.ok_or_else(invalid)? };
    let local = days.checked_mul(DAY_MICROS).and_then(|d| d.checked_add(time)).ok_or_else(range)?;
    if ty != SqlType::Timestamptz && zone.trim().is_empty() {
        return Ok(local);
    }
    let named = zone.trim().starts_with(|c: char| c.is_alphabetic());
    let zone = if zone.trim().is_empty() { home.zone() } else { zone };
    let unknown = || if named { ValueError::new("22023", format!("time zone \"{}\" not recognized", zone.trim())) } else { invalid() };
    let offset = zone_offset(zone, local).ok_or_else(unknown)?;
    if ty == SqlType::Timestamptz { local.checked_sub(offset * MICROS).ok_or_else(range) } else { Ok(local) }
}

/// Microseconds since midnight.
pub(crate) fn parse_time(text: &str, home: &Home<'_>) -> Result<i64, ValueError> {
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("now") {
        return Ok(home.local_now().rem_euclid(DAY_MICROS));
    }
    if trimmed.eq_ignore_ascii_case("allballs") {
        return Ok(0);
    }
    // 040506
    let compact = (trimmed.len() == 6 && trimmed.bytes().all(|b| b.is_ascii_digit()))
        .then(|| format!("{}:{}:{}", &trimmed[..2], &trimmed[2..4], &trimmed[4..]));
    let (micros, zone) = time_of_day(compact.as_deref().unwrap_or(trimmed))
        .map_err(|()| field_range(text))?
        .ok_or_else(|| ValueError::invalid(SqlType::Time, text))?;
    zone_offset(zone, 0).map(|_| micros).ok_or_else(|| ValueError::invalid(SqlType::Time, text))
}

fn two_digits(value: i64, out: &mut Vec<u8>) {
    out.push(b'0' + (value / 10 % 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

pub(crate) fn write_date(days: i32, out: &mut Vec<u8>) {
    match i64::from(days) {
        DATE_INFINITY => return out.extend_from_slice(b"infinity"),
        DATE_MINUS_INFINITY => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let (year, month, day) = civil_from_days(i64::from(days));
    let (shown, before_christ) = if year <= 0 { (1 - year, true) } else { (year, false) };
    if shown < 10_000 {
        two_digits(shown / 100, out);
        two_digits(shown % 100, out);
    } else {
        out.extend_from_slice(shown.to_string().as_bytes());
    }
    out.push(b'-');
    two_digits(month.into(), out);
    out.push(b'-');
    two_digits(day.into(), out);
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

pub(crate) fn write_time(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros / MICROS;
    if seconds >= 100 * 3600 {
        out.extend_from_slice((seconds / 3600).to_string().as_bytes());
    } else {
        two_digits(seconds / 3600, out);
    }
    out.push(b':');
    two_digits(seconds / 60 % 60, out);
    out.push(b':');
    two_digits(seconds % 60, out);
    let mut fraction = micros % MICROS;
    if fraction > 0 {
        out.push(b'.');
        let mut place = MICROS / 10;
        while fraction > 0 {
            out.push(b'0' + (fraction / place) as u8);
            fraction %= place;
            place /= 10;
        }
    }
}

/// A timestamptz, as the clock shows it in a zone.
pub(crate) fn write_timestamp_in(micros: i64, zone: &str, out: &mut Vec<u8>) {
    let offset = offset_at(zone, micros).filter(|offset| *offset != 0 && !is_infinite(micros));
    let Some(offset) = offset else { return write_timestamp(micros, true, out) };
    write_timestamp(micros.saturating_add(offset * MICROS), true, out);
    // BC comes last, the zone before it.
    let before_christ = out.ends_with(b" BC");
    out.truncate(out.len() - if before_christ { 6 } else { 3 });
    out.push(if offset < 0 { b'-' } else { b'+' });
    let seconds = offset.abs();
    two_digits(seconds / 3600, out);
    if seconds % 3600 != 0 {
        out.push(b':');
        two_digits(seconds / 60 % 60, out);
    }
    if seconds % 60 != 0 {
        out.push(b':');
        two_digits(seconds % 60, out);
    }
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

pub(crate) fn write_timestamp(micros: i64, zone: bool, out: &mut Vec<u8>) {
    if is_infinite(micros) {
        return out.extend_from_slice(if micros > 0 { b"infinity" } else { b"-infinity" });
    }
    let days = micros.div_euclid(DAY_MICROS);
    let start = out.len();
    write_date(days as i32, out);
    // BC comes last.
    let before_christ = out[start..].ends_with(b" BC");
    if before_christ {
        out.truncate(out.len() - 3);
    }
    out.push(b' ');
    write_time(micros.rem_euclid(DAY_MICROS), out);
    if zone {
        out.extend_from_slice(b"+00");
    }
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// IntervalStyle postgres.
pub(crate) fn write_interval(value: IntervalMonthDayNano, out: &mut Vec<u8>) {
    let mut negative_before = false;
    let mut any = false;
    let parts = [(value.months / 12, "year"), (value.months % 12, "mon"), (value.days, "day")];
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count != 0) {
        if any {
            out.push(b' ');
        }
        if negative_before && count > 0 {
            out.push(b'+');
        }
        out.extend_from_slice(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }).as_bytes());
        negative_before = count < 0;
        any = true;
    }
    let micros = value.nanoseconds / 1000;
    if micros != 0 || !any {
        if any {
            out.push(b' ');
        }
        if micros < 0 {
            out.push(b'-');
        } else if negative_before {
            out.push(b'+');
        }
        write_time(micros.abs(), out);
    }
}

/// For tests: the same by another way.
#[cfg(test)]
pub(crate) fn reference_date(days: i32) -> Option<String> {
    let date = NaiveDate::default().checked_add_signed(chrono::TimeDelta::days(i64::from(days)))?;
    Some(date.format("%Y-%m-%d").to_string())
}
