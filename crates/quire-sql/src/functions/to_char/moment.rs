//! Dates, times and intervals by a pattern.

use arrow::datatypes::IntervalMonthDayNano;
use chrono_tz::OffsetName;

use super::pattern::{Case, Node, parse};
use crate::SqlError;
use crate::functions::calendar::{Civil, HOUR, JULIAN_EPOCH, SECOND, is_infinite};
use crate::functions::forms::Row;

pub(super) const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
pub(super) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const ROMAN_MONTHS: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// What is shown.
pub(super) struct Moment {
    civil: Civil,
    /// Seconds east of UTC and the zone's name then; nothing for a local time.
    zone: Option<(i64, String)>,
    is_span: bool,
    infinite: bool,
}

impl Moment {
    pub(super) fn local(micros: i64) -> Moment {
        let infinite = is_infinite(micros);
        Moment { civil: if infinite { Civil::default() } else { Civil::of(micros) }, zone: None, is_span: false, infinite }
    }

    pub(super) fn zoned(utc: i64, local: i64, zone: &str) -> Moment {
        let offset = if is_infinite(utc) { 0 } else { (local - utc) / SECOND };
        let abbreviation = zone.parse::<chrono_tz::Tz>().ok().zip(chrono::DateTime::from_timestamp_micros(utc)).and_then(|(tz, at)| {
            let offset = *at.with_timezone(&tz).offset();
            offset.abbreviation().map(str::to_string)
        });
        Moment { zone: Some((offset, abbreviation.unwrap_or_else(|| zone.to_string()))), ..Moment::local(local) }
    }

    pub(super) fn span(span: IntervalMonthDayNano) -> Moment {
        let (months, days) = (i64::from(span.months), i64::from(span.days));
        let civil = Civil { year: months / 12, month: months % 12, day: days, time: span.nanoseconds / 1000 };
        Moment { civil, zone: None, is_span: true, infinite: false }
    }

    /// Years before 1 are shown without their sign: BC says it.
    fn year(&self, year: i64) -> i64 {
        if self.is_span || year > 0 { year } else { 1 - year }
    }

    fn day_of_year(&self) -> i64 {
        if self.is_span { self.civil.year * 365 + self.civil.month * 30 + self.civil.day } else { self.civil.day_of_year() }
    }
}

/// NULL for an infinite moment or an empty pattern.
pub(super) fn shown(moment: Moment, pattern: &str) -> Row<String> {
    if moment.infinite || pattern.is_empty() {
        return Ok(if pattern.is_empty() && !moment.infinite { Some(String::new()) } else { None });
    }
    let mut out = String::new();
    for node in parse(pattern).0 {
        match node {
            Node::Field { name, case, fill, ordinal } => {
                let start = out.len();
                field(&moment, name, case, fill, &mut out)?;
                if let Some(case) = ordinal
                    && out.len() > start
                    && out.ends_with(|c: char| c.is_ascii_digit())
                {
                    out.push_str(&case.apply(ordinal_of(&out[start..])));
                }
            }
            Node::Space => out.push(' '),
            Node::Separator(c) | Node::Text(c) => out.push(c),
        }
    }
    Ok(Some(out))
}

/// th, st, nd or rd.
pub(super) fn ordinal_of(digits: &str) -> &'static str {
    if digits.len() > 1 && digits.as_bytes()[digits.len() - 2] == b'1' {
        return "th";
    }
    match digits.as_bytes().last() {
        Some(b'1') => "st",
        Some(b'2') => "nd",
        Some(b'3') => "rd",
        _ => "th",
    }
}

fn number(value: i64, width: usize, fill: bool, out: &mut String) {
    let width = if fill { 0 } else { width + usize::from(value < 0) };
    out.push_str(&format!("{value:0width$}"));
}

fn name(text: String, width: usize, fill: bool, out: &mut String) {
    if fill { out.push_str(&text) } else { out.push_str(&format!("{text:<width$}")) }
}

fn field(moment: &Moment, field: &str, case: Case, fill: bool, out: &mut String) -> Result<(), SqlError> {
    let civil = moment.civil;
    let time = civil.time;
    let (hour, minute, second) = (time / HOUR, time / (60 * SECOND) % 60, time / SECOND % 60);
    let fraction = time % SECOND;
    let of_date = || {
        if moment.is_span {
            let error = SqlError::new("22007", "invalid format specification for an interval value");
            return Err(error.with_hint("Intervals are not tied to specific calendar dates."));
        }
        Ok(())
    };
    let afternoon = time.rem_euclid(24 * HOUR) >= 12 * HOUR;
    match field {
        "AM" | "PM" => out.push_str(&case.apply(if afternoon { "Pm" } else { "Am" })),
        "A.M." | "P.M." => out.push_str(&case.apply(if afternoon { "P.m." } else { "A.m." })),
        "HH" | "HH12" => number(if hour % 12 == 0 { 12 } else { hour % 12 }, 2, fill, out),
        "HH24" => number(hour, 2, fill, out),
        "MI" => number(minute, 2, fill, out),
        "SS" => number(second, 2, fill, out),
        "MS" => number(fraction / 1000, 3, false, out),
        "US" | "FF6" => number(fraction, 6, false, out),
        "FF1" | "FF2" | "FF3" | "FF4" | "FF5" => {
            let digits = usize::from(field.as_bytes()[2] - b'0');
            number(fraction / 10i64.pow(6 - digits as u32), digits, false, out);
        }
        "SSSS" | "SSSSS" => out.push_str(&(time / SECOND).to_string()),
        "TZ" => {
            of_date()?;
            if let Some((_, name)) = &moment.zone {
                out.push_str(&if case == Case::Lower { name.to_lowercase() } else { name.clone() });
            }
        }
        "TZH" | "TZM" | "OF" => {
            of_date()?;
            let offset = moment.zone.as_ref().map_or(0, |(offset, _)| *offset);
            let (sign, hours, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 3600, offset.abs() / 60 % 60);
            match field {
                "TZH" => out.push_str(&format!("{sign}{hours:02}")),
                "TZM" => out.push_str(&format!("{minutes:02}")),
                _ => {
                    out.push_str(&if fill { format!("{sign}{hours}") } else { format!("{sign}{hours:02}") });
                    if minutes != 0 {
                        out.push_str(&format!(":{minutes:02}"));
                    }
                }
            }
        }
        "AD" | "BC" => {
            of_date()?;
            out.push_str(&case.apply(if civil.year <= 0 { "Bc" } else { "Ad" }));
        }
        "A.D." | "B.C." => {
            of_date()?;
            out.push_str(&case.apply(if civil.year <= 0 { "B.c." } else { "A.d." }));
        }
        "MONTH" | "MON" | "RM" => {
            if field != "RM" {
                of_date()?;
            }
            if civil.month == 0 {
                return Ok(());
            }
            let month = if civil.month < 0 { civil.month + 12 } else { civil.month - 1 } as usize % 12;
            match field {
                "MONTH" => name(case.apply(MONTHS[month]), 9, fill, out),
                "MON" => out.push_str(&case.apply(&MONTHS[month][..3])),
                _ => name(case.apply(ROMAN_MONTHS[month]), 4, fill, out),
            }
        }
        "MM" => number(civil.month, 2, fill, out),
        "DAY" | "DY" => {
            of_date()?;
            let day = DAYS[civil.day_of_week() as usize];
            if field == "DAY" { name(case.apply(day), 9, fill, out) } else { out.push_str(&case.apply(&day[..3])) }
        }
        "DDD" => number(moment.day_of_year(), 3, fill, out),
        "IDDD" => {
            of_date()?;
            number((civil.iso_week().1 - 1) * 7 + (civil.day_of_week() + 6) % 7 + 1, 3, fill, out);
        }
        "DD" => number(civil.day, 2, fill, out),
        "D" => {
            of_date()?;
            number(civil.day_of_week() + 1, 1, fill, out);
        }
        "ID" => {
            of_date()?;
            number((civil.day_of_week() + 6) % 7 + 1, 1, fill, out);
        }
        "WW" => number((moment.day_of_year() - 1) / 7 + 1, 2, fill, out),
        "IW" => {
            of_date()?;
            number(civil.iso_week().1, 2, fill, out);
        }
        "Q" if civil.month != 0 => number((civil.month - 1) / 3 + 1, 1, true, out),
        "Q" => {}
        "CC" => {
            let century = match (moment.is_span, civil.year) {
                (true, year) => year / 100,
                (false, year) if year > 0 => (year - 1) / 100 + 1,
                (false, year) => year / 100 - 1,
            };
            let width = if fill || !(-99..=99).contains(&century) { 0 } else { 2 + usize::from(century < 0) };
            out.push_str(&format!("{century:0width$}"));
        }
        "Y,YYY" => {
            let year = moment.year(civil.year);
            out.push_str(&format!("{},{:03}", year / 1000, year % 1000));
        }
        "YYYY" => number(moment.year(civil.year), 4, fill, out),
        "YYY" => number(moment.year(civil.year) % 1000, 3, fill, out),
        "YY" => number(moment.year(civil.year) % 100, 2, fill, out),
        "Y" => number(moment.year(civil.year) % 10, 1, fill, out),
        "IYYY" | "IYY" | "IY" | "I" => {
            of_date()?;
            let digits = field.len() as u32;
            let year = moment.year(civil.iso_week().0);
            number(if digits == 4 { year } else { year % 10i64.pow(digits) }, digits as usize, fill, out);
        }
        "W" => number((civil.day - 1) / 7 + 1, 1, fill, out),
        "J" => out.push_str(
            &(if moment.is_span { civil.year * 365 + civil.month * 30 + civil.day } else { civil.days() + JULIAN_EPOCH }).to_string(),
        ),
        _ => {}
    }
    Ok(())
}
