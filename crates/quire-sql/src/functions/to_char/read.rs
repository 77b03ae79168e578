//! Dates and times read by a pattern.

use super::moment::{DAYS, MONTHS, ROMAN_MONTHS};
use super::pattern::{Node, parse};
use crate::SqlError;
use crate::functions::calendar::{Civil, DAY, HOUR, JULIAN_EPOCH, SECOND, days_in_month};
use crate::values::datetime::days_from_civil;

/// What was read: a local moment, and the seconds east of UTC when the text had them.
pub(super) struct Read {
    pub(super) civil: Civil,
    pub(super) offset: Option<i64>,
}

/// The fields as they are found; what the text does not have stays empty.
#[derive(Default)]
struct Fields {
    hour: i64,
    half: Option<bool>,
    twelve: bool,
    minute: i64,
    second: i64,
    micros: i64,
    since_midnight: Option<i64>,
    year: Option<i64>,
    short_year: usize,
    before_christ: bool,
    century: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    week: Option<i64>,
    week_of_month: Option<i64>,
    julian: Option<i64>,
    iso: bool,
    iso_day: Option<i64>,
    offset_sign: i64,
    offset_hours: Option<i64>,
    offset_minutes: i64,
}

struct Reader<'a> {
    rest: &'a str,
    nodes: Vec<Node>,
    at: usize,
}

fn invalid(text: &str, field: &str, detail: &str) -> SqlError {
    SqlError::new("22007", format!("invalid value \"{text}\" for \"{field}\"")).with_detail(detail)
}

impl Reader<'_> {
    fn skip_blanks(&mut self) -> i64 {
        let before = self.rest.chars().count();
        self.rest = self.rest.trim_start();
        (before - self.rest.chars().count()) as i64
    }

    /// True when what follows in the pattern cannot be taken for digits of this field.
    fn ends_field(&self) -> bool {
        match self.nodes.get(self.at + 1) {
            None => true,
            Some(Node::Field { name, .. }) => {
                matches!(*name, "MONTH" | "MON" | "DAY" | "DY" | "AM" | "PM" | "A.M." | "P.M." | "AD" | "BC" | "RM" | "TZ")
            }
            Some(Node::Text(c) | Node::Separator(c)) => !c.is_ascii_digit(),
            Some(Node::Space) => true,
        }
    }

    /// An integer of so many digits, or of as many as there are where nothing else can follow; and how many there were.
    fn integer(&mut self, field: &str, width: usize, fill: bool) -> Result<(i64, usize), SqlError> {
        self.rest = self.rest.trim_start();
        let signed = usize::from(self.rest.starts_with(['-', '+']));
        let digits = self.rest[signed..].bytes().take_while(u8::is_ascii_digit).count();
        let word = || self.rest.chars().take(width).collect::<String>();
        let open = fill || self.ends_field();
        if !open && self.rest.chars().count() < width {
            let left = self.rest.chars().count();
            let error = SqlError::new("22007", format!("source string too short for \"{field}\" formatting field"));
            let error = error.with_detail(format!("Field requires {width} characters, but only {left} remain."));
            return Err(error.with_hint("If your source string is not fixed-width, try using the \"FM\" modifier."));
        }
        let taken = if open { digits } else { digits.min(width - signed.min(width)) };
        if taken == 0 {
            return Err(invalid(&word(), field, "Value must be an integer."));
        }
        if !open && taken + signed < width {
            let detail = format!("Field requires {width} characters, but only {} could be parsed.", taken + signed);
            return Err(
                invalid(&word(), field, &detail).with_hint("If your source string is not fixed-width, try using the \"FM\" modifier.")
            );
        }
        let text = &self.rest[..signed + taken];
        let value: i64 = text.trim_start_matches('+').parse().ok().filter(|v: &i64| i32::try_from(*v).is_ok()).ok_or_else(|| {
            let error = SqlError::new("22008", format!("value for \"{field}\" in source string is out of range"));
            error.with_detail(format!("Value must be in the range {} to {}.", i32::MIN, i32::MAX))
        })?;
        self.rest = &self.rest[signed + taken..];
        Ok((value, taken))
    }

    /// Which of the names comes next, be it in any case.
    fn one_of(&mut self, names: &[&str], length: Option<usize>, field: &str) -> Result<i64, SqlError> {
        // A longer name is tried before one that it begins with (VIII, VII, VI, V).
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(names[*i].len()));
        for i in order {
            let name = &names[i][..length.unwrap_or(names[i].len()).min(names[i].len())];
            if self.rest.get(..name.len()).is_some_and(|r| r.eq_ignore_ascii_case(name)) {
                self.rest = &self.rest[name.len()..];
                return Ok(i as i64);
            }
        }
        let word: String = self.rest.chars().take_while(|c| !c.is_whitespace()).collect();
        Err(invalid(&word, field, "The given value did not match any of the allowed values for this field."))
    }
}

/// A moment by a pattern. 22007 where the text does not follow it, 22008 where the calendar has no such day.
pub(super) fn moment(text: &str, pattern: &str) -> Result<Read, SqlError> {
    let (nodes, exact) = parse(pattern);
    let mut reader = Reader { rest: text, nodes, at: 0 };
    let mut fields = Fields { offset_sign: 1, ..Fields::default() };
    let mut skipped = 0i64;
    while reader.at < reader.nodes.len() && !reader.rest.is_empty() {
        let node = reader.nodes[reader.at].clone();
        if !exact && !matches!(node, Node::Text(_)) {
            skipped += reader.skip_blanks();
        }
        let next = reader.rest.chars().next();
        let step = |reader: &mut Reader| reader.rest = &reader.rest[next.map_or(0, char::len_utf8)..];
        match node {
            Node::Space | Node::Separator(_) if exact => step(&mut reader),
            Node::Space | Node::Separator(_) => {
                skipped -= 1;
                if next.is_some_and(|c| c.is_whitespace() || c.is_ascii_graphic() && !c.is_ascii_alphanumeric()) && !signs_offset(&reader) {
                    step(&mut reader);
                    skipped += 1;
                }
            }
            Node::Text(_) if !exact && skipped > 0 => skipped -= 1,
            Node::Text(_) => step(&mut reader),
            Node::Field { name, fill, ordinal, .. } => {
                field(&mut reader, &mut fields, name, fill)?;
                if ordinal.is_some() {
                    reader.rest = reader.rest.get(2..).unwrap_or("");
                }
                if !exact {
                    skipped = reader.skip_blanks();
                }
            }
        }
        reader.at += 1;
    }
    assemble(&fields, text)
}

/// True where a sign before digits belongs to the zone's hours that come next.
fn signs_offset(reader: &Reader) -> bool {
    matches!(reader.nodes.get(reader.at + 1), Some(Node::Field { name: "TZH", .. })) && reader.rest.starts_with(['-', '+'])
}

fn field(reader: &mut Reader, fields: &mut Fields, name: &'static str, fill: bool) -> Result<(), SqlError> {
    match name {
        "HH24" => fields.hour = reader.integer(name, 2, fill)?.0,
        "HH" | "HH12" => {
            fields.hour = reader.integer(name, 2, fill)?.0;
            fields.twelve = true;
        }
        "MI" => fields.minute = reader.integer(name, 2, fill)?.0,
        "SS" => fields.second = reader.integer(name, 2, fill)?.0,
        "SSSS" | "SSSSS" => fields.since_midnight = Some(reader.integer(name, 5, fill)?.0),
        "MS" | "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
            let width = match name {
                "MS" => 3,
                "US" => 6,
                other => usize::from(other.as_bytes()[2] - b'0'),
            };
            // .5 is five tenths, whatever the field's width.
            let (value, digits) = reader.integer(name, width, fill)?;
            let power = 6i32 - digits.min(18) as i32;
            fields.micros += if power >= 0 { value * 10i64.pow(power as u32) } else { value / 10i64.pow(power.unsigned_abs()) };
        }
        "AM" | "PM" => {
            fields.half = Some(reader.one_of(&["AM", "PM"], None, name)? == 1);
            fields.twelve = true;
        }
        "A.M." | "P.M." => {
            fields.half = Some(reader.one_of(&["A.M.", "P.M."], None, name)? == 1);
            fields.twelve = true;
        }
        "AD" | "BC" => fields.before_christ = reader.one_of(&["AD", "BC"], None, name)? == 1,
        "A.D." | "B.C." => fields.before_christ = reader.one_of(&["A.D.", "B.C."], None, name)? == 1,
        "YYYY" | "IYYY" => fields.year = Some(reader.integer(name, 4, fill)?.0),
        "YYY" | "YY" | "Y" | "IYY" | "IY" | "I" => {
            let width = name.bytes().filter(|b| *b == b'Y').count() + usize::from(name.starts_with('I'));
            let (value, digits) = reader.integer(name, width, fill)?;
            fields.short_year = if digits < 4 { width } else { 0 };
            // The year nearest to 2020.
            fields.year = Some(match digits.max(width) {
                _ if digits >= 4 => value,
                1 => value + 2000,
                2 => value + if value < 70 { 2000 } else { 1900 },
                _ => {
                    value
                        + if value < 100 {
                            if value < 70 { 2000 } else { 1900 }
                        } else if value < 520 {
                            2000
                        } else {
                            1000
                        }
                }
            });
        }
        "Y,YYY" => {
            let (thousands, _) = reader.integer(name, 1, true)?;
            let rest = reader.rest.strip_prefix(',').filter(|r| r.len() >= 3 && r.as_bytes()[..3].iter().all(u8::is_ascii_digit));
            let rest = rest.ok_or_else(|| SqlError::new("22007", "invalid input string for \"Y,YYY\""))?;
            fields.year = Some(thousands * 1000 + rest[..3].parse::<i64>().unwrap_or_default());
            reader.rest = &rest[3..];
        }
        "CC" => fields.century = Some(reader.integer(name, 2, fill)?.0),
        "MONTH" => fields.month = Some(reader.one_of(&MONTHS, None, name)? + 1),
        "MON" => fields.month = Some(reader.one_of(&MONTHS, Some(3), name)? + 1),
        "RM" => fields.month = Some(reader.one_of(&ROMAN_MONTHS, None, name)? + 1),
        "MM" => fields.month = Some(reader.integer(name, 2, fill)?.0),
        "DAY" => {
            reader.one_of(&DAYS, None, name)?;
        }
        "DY" => {
            reader.one_of(&DAYS, Some(3), name)?;
        }
        "DD" => fields.day = Some(reader.integer(name, 2, fill)?.0),
        "DDD" => fields.day_of_year = Some(reader.integer(name, 3, fill)?.0),
        "IDDD" => fields.day_of_year = Some(reader.integer(name, 3, fill)?.0),
        "D" => {
            reader.integer(name, 1, fill)?;
        }
        "ID" => fields.iso_day = Some(reader.integer(name, 1, fill)?.0),
        "WW" => fields.week = Some(reader.integer(name, 2, fill)?.0),
        "IW" => fields.week = Some(reader.integer(name, 2, fill)?.0),
        "W" => fields.week_of_month = Some(reader.integer(name, 1, fill)?.0),
        "J" => fields.julian = Some(reader.integer(name, 7, fill)?.0),
        // It does not say which month.
        "Q" => {
            reader.integer(name, 1, fill)?;
        }
        "TZH" => {
            reader.rest = reader.rest.trim_start();
            if let Some(sign) = reader.rest.chars().next().filter(|c| matches!(c, '+' | '-')) {
                fields.offset_sign = if sign == '-' { -1 } else { 1 };
                reader.rest = &reader.rest[1..];
            }
            fields.offset_hours = Some(reader.integer(name, 2, fill)?.0);
        }
        "TZM" => {
            fields.offset_hours.get_or_insert(0);
            fields.offset_minutes = reader.integer(name, 2, fill)?.0;
        }
        _ => return Err(SqlError::new("0A000", format!("formatting field \"{name}\" is only supported in to_char"))),
    }
    if name.starts_with('I') {
        fields.iso = true;
    }
    Ok(())
}

fn assemble(fields: &Fields, text: &str) -> Result<Read, SqlError> {
    let range = || SqlError::new("22008", format!("date/time field value out of range: \"{text}\""));
    let mut hour = fields.hour;
    if fields.twelve {
        if !(1..=12).contains(&hour) {
            let error = SqlError::new("22007", format!("hour \"{hour}\" is invalid for the 12-hour clock"));
            return Err(error.with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
        }
        hour = match fields.half {
            Some(true) if hour < 12 => hour + 12,
            Some(false) if hour == 12 => 0,
            _ => hour,
        };
    }
    let clock = match fields.since_midnight {
        Some(seconds) if !(0..86_400).contains(&seconds) => return Err(range()),
        Some(seconds) => seconds * SECOND,
        None => {
            if !(0..24).contains(&hour) || !(0..60).contains(&fields.minute) || !(0..60).contains(&fields.second) {
                return Err(range());
            }
            hour * HOUR + fields.minute * 60 * SECOND + fields.second * SECOND
        }
    };
    let time = clock + fields.micros;
    let mut year = match (fields.year, fields.century) {
        // The century says which of the years that end so.
        (Some(year), Some(century)) if fields.short_year > 0 && fields.short_year <= 2 => (century - 1) * 100 + year.rem_euclid(100),
        (Some(year), _) => year,
        (None, Some(century)) => (century - 1) * 100 + 1,
        (None, None) => 0,
    };
    if fields.before_christ && year > 0 {
        year = 1 - year;
    } else if year < 0 {
        year += 1;
    }
    // Without a year it is 1 BC, the year 0.
    let days = if let Some(julian) = fields.julian {
        julian - JULIAN_EPOCH
    } else if fields.iso {
        let fourth = days_from_civil(year, 1, 4);
        let first_monday = fourth - (fourth + 3).rem_euclid(7);
        match (fields.week, fields.day_of_year) {
            (Some(week), _) => first_monday + (week - 1) * 7 + fields.iso_day.map_or(0, |d| d - 1),
            (None, Some(day)) => first_monday + day - 1,
            (None, None) => first_monday,
        }
    } else if let (Some(day), None) = (fields.day_of_year, fields.month) {
        let length = days_from_civil(year + 1, 1, 1) - days_from_civil(year, 1, 1);
        if !(1..=length).contains(&day) {
            return Err(range());
        }
        days_from_civil(year, 1, 1) + day - 1
    } else if let (Some(week), None) = (fields.week, fields.month) {
        days_from_civil(year, 1, 1) + (week - 1) * 7
    } else {
        let month = fields.month.unwrap_or(1);
        let day = fields.day.or(fields.week_of_month.map(|w| (w - 1) * 7 + 1)).unwrap_or(1);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return Err(range());
        }
        Civil { year, month, day, time: 0 }.days()
    };
    let micros = days.checked_mul(DAY).and_then(|d| d.checked_add(time)).ok_or_else(range)?;
    let offset = fields.offset_hours.map(|hours| fields.offset_sign * (hours * 3600 + fields.offset_minutes * 60));
    Ok(Read { civil: Civil::of(micros), offset })
}
