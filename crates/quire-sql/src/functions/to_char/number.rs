//! Numbers by a pattern, and read by one. The steps are those of PostgreSQL's `formatting.c`, whose answers they must give.

use super::moment::ordinal_of;
use crate::SqlError;
use crate::functions::forms::Row;
use crate::values::numeric::{parse_decimal, write_decimal};

/// What a node of a number's pattern is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Nine,
    Zero,
    Point,
    Comma,
    Sign,
    Minus,
    Plus,
    SignHere,
    Bracket,
    Currency,
    Ordinal { upper: bool },
    Multiply,
    Roman { upper: bool },
    Scientific,
    Blank,
    Fill,
    Text(char),
}

const WORDS: &[(&str, Node)] = &[
    ("EEEE", Node::Scientific),
    ("FM", Node::Fill),
    ("MI", Node::Minus),
    ("PL", Node::Plus),
    ("PR", Node::Bracket),
    ("RN", Node::Roman { upper: true }),
    ("SG", Node::SignHere),
    ("TH", Node::Ordinal { upper: true }),
    ("9", Node::Nine),
    ("0", Node::Zero),
    (".", Node::Point),
    ("D", Node::Point),
    (",", Node::Comma),
    ("G", Node::Comma),
    ("S", Node::Sign),
    ("L", Node::Currency),
    ("V", Node::Multiply),
    ("B", Node::Blank),
];

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum SignPlace {
    #[default]
    None,
    Before,
    After,
}

/// A pattern taken apart, and what it says as a whole.
#[derive(Clone, Debug, Default)]
struct Format {
    nodes: Vec<Node>,
    /// Digits before and after the point, and those that V shifts.
    pre: usize,
    post: usize,
    multi: usize,
    sign: SignPlace,
    digits_before_sign: usize,
    point: bool,
    zero: bool,
    zero_start: usize,
    zero_end: usize,
    fill: bool,
    bracket: bool,
    plus: bool,
    minus: bool,
    shifts: bool,
    roman: Option<bool>,
    scientific: bool,
}

fn bad(message: &str) -> SqlError {
    SqlError::syntax(message)
}

impl Format {
    fn parse(pattern: &str) -> Result<Format, SqlError> {
        let mut format = Format::default();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            let found = WORDS.iter().find(|(word, _)| rest.get(..word.len()).is_some_and(|r| r == *word || r == word.to_ascii_lowercase()));
            if let Some((word, node)) = found {
                let lower = rest.as_bytes()[0].is_ascii_lowercase();
                rest = &rest[word.len()..];
                let node = match node {
                    Node::Ordinal { .. } => Node::Ordinal { upper: !lower },
                    Node::Roman { .. } => Node::Roman { upper: !lower },
                    other => *other,
                };
                format.add(node)?;
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '"' => {
                    let end = rest.find('"').unwrap_or(rest.len());
                    format.nodes.extend(rest[..end].chars().map(Node::Text));
                    rest = rest.get(end + 1..).unwrap_or("");
                }
                '\\' if rest.starts_with('"') => {
                    format.nodes.push(Node::Text('"'));
                    rest = &rest[1..];
                }
                c => format.nodes.push(Node::Text(c)),
            }
        }
        Ok(format)
    }

    fn add(&mut self, node: Node) -> Result<(), SqlError> {
        if self.scientific && node != Node::Scientific {
            return Err(bad("\"EEEE\" must be the last pattern used"));
        }
        match node {
            Node::Nine if self.bracket => return Err(bad("\"9\" must be ahead of \"PR\"")),
            Node::Nine if self.shifts => self.multi += 1,
            Node::Nine if self.point => self.post += 1,
            Node::Nine => self.pre += 1,
            Node::Zero => {
                if self.bracket {
                    return Err(bad("\"0\" must be ahead of \"PR\""));
                }
                if !self.zero && !self.point {
                    (self.zero, self.zero_start) = (true, self.pre + 1);
                }
                if self.point {
                    self.post += 1
                } else {
                    self.pre += 1
                }
                self.zero_end = self.pre + self.post;
            }
            Node::Point if self.point => return Err(bad("multiple decimal points")),
            Node::Point if self.shifts => return Err(bad("cannot use \"V\" and decimal point together")),
            Node::Point => self.point = true,
            Node::Fill => self.fill = true,
            Node::Sign => {
                if self.sign != SignPlace::None {
                    return Err(bad("cannot use \"S\" twice"));
                }
                if self.plus || self.minus || self.bracket {
                    return Err(bad("cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together"));
                }
                if self.point {
                    self.sign = SignPlace::After;
                } else {
                    (self.sign, self.digits_before_sign) = (SignPlace::Before, self.pre);
                }
            }
            Node::Minus | Node::Plus | Node::SignHere | Node::Bracket if self.sign != SignPlace::None => {
                let name = match node {
                    Node::Minus => "MI",
                    Node::Plus => "PL",
                    Node::SignHere => "SG",
                    _ => "PR",
                };
                return Err(bad(&format!("cannot use \"S\" and \"{name}\" together")));
            }
            Node::Minus => self.minus = true,
            Node::Plus => self.plus = true,
            Node::SignHere => (self.plus, self.minus) = (true, true),
            Node::Bracket if self.plus || self.minus => return Err(bad("cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together")),
            Node::Bracket => self.bracket = true,
            Node::Roman { upper } => self.roman = Some(upper),
            Node::Multiply if self.point => return Err(bad("cannot use \"V\" and decimal point together")),
            Node::Multiply => self.shifts = true,
            Node::Scientific => {
                if self.scientific {
                    return Err(bad("cannot use \"EEEE\" twice"));
                }
                if self.fill
                    || self.sign != SignPlace::None
                    || self.bracket
                    || self.minus
                    || self.plus
                    || self.roman.is_some()
                    || self.shifts
                {
                    let error = bad("\"EEEE\" is incompatible with other formats");
                    return Err(error.with_detail("\"EEEE\" may only be used together with digit and decimal point patterns."));
                }
                self.scientific = true;
            }
            Node::Comma | Node::Currency | Node::Ordinal { .. } | Node::Blank | Node::Text(_) => {}
        }
        self.nodes.push(node);
        Ok(())
    }
}

/// Digits after the point that a pattern has.
pub(super) fn digits_after_point(pattern: &str) -> Result<i64, SqlError> {
    Ok(Format::parse(pattern)?.post as i64)
}

pub(super) fn of_integer(value: i64, pattern: &str) -> Result<String, SqlError> {
    of_numeric(value.into(), 0, pattern)
}

pub(super) fn of_float(value: f64, pattern: &str) -> Result<String, SqlError> {
    let format = Format::parse(pattern)?;
    if value.is_nan() || value.is_infinite() {
        let shown = if value.is_nan() { "NaN" } else { "Infinity" };
        return Ok(fill_in(&format, value < 0.0, shown));
    }
    if format.scientific {
        return Ok(scientific(format!("{value:.*e}", format.post)));
    }
    // Beyond the digits that a float has there is nothing to show but noise.
    let whole = if value.abs() < 1.0 { 1 } else { value.abs().log10() as usize + 1 };
    let shifted = value * 10f64.powi(format.multi as i32);
    let mut digits = format!("{:.*}", format.post.min(15usize.saturating_sub(whole)), shifted.abs());
    if format.roman.is_some() {
        digits = format!("{:.0}", value.abs().round_ties_even());
    }
    Ok(fill_in(&format, value < 0.0, &digits))
}

pub(super) fn of_numeric(value: i128, scale: i8, pattern: &str) -> Result<String, SqlError> {
    let format = Format::parse(pattern)?;
    let mut text = Vec::new();
    write_decimal(value, scale, &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    if format.scientific {
        return Ok(scientific(scientific_digits(&text, format.post)));
    }
    let moved = format!("{text}e{}", format.multi);
    let post = if format.roman.is_some() { 0 } else { format.post };
    let rounded = parse_decimal(moved.as_bytes(), 38, i8::try_from(post).unwrap_or(38).min(38)).map_err(SqlError::from)?;
    let mut digits = Vec::new();
    write_decimal(rounded.abs(), i8::try_from(post).unwrap_or(38).min(38), &mut digits);
    Ok(fill_in(&format, rounded < 0, &String::from_utf8_lossy(&digits)))
}

/// `1.5e3` with a sign's place before it and two digits in the exponent.
fn scientific(text: String) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    let space = if mantissa.starts_with('-') { "" } else { " " };
    format!("{space}{mantissa}e{sign}{:02}", exponent.abs())
}

/// A plain number in scientific form with so many digits after the point, rounded half away from zero.
fn scientific_digits(text: &str, post: usize) -> String {
    let (sign, plain) = text.strip_prefix('-').map_or(("", text), |t| ("-", t));
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    let Some(first) = all.iter().position(|d| *d != 0) else {
        let zeros = "0".repeat(post);
        return if post == 0 { "0e0".to_string() } else { format!("0.{zeros}e0") };
    };
    let mut exponent = whole.len() as i32 - 1 - first as i32;
    let mut kept: Vec<u8> = all[first..].iter().copied().chain(std::iter::repeat(0)).take(post + 2).collect();
    let up = kept.pop().is_some_and(|d| d >= 5);
    if up {
        let mut at = kept.len();
        while at > 0 {
            at -= 1;
            kept[at] += 1;
            if kept[at] < 10 {
                break;
            }
            kept[at] = 0;
        }
        if kept[0] == 0 {
            kept.insert(0, 1);
            kept.pop();
            exponent += 1;
        }
    }
    let digits: String = kept.iter().map(|d| char::from(b'0' + d)).collect();
    let point = if post == 0 { "" } else { "." };
    format!("{sign}{}{point}{}e{exponent}", &digits[..1], &digits[1..])
}

fn roman(text: &str) -> Option<String> {
    const LETTERS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let mut rest: u32 = text.parse().ok().filter(|n| (1..4000).contains(n))?;
    let mut out = String::new();
    for (value, letters) in LETTERS {
        while rest >= value {
            out.push_str(letters);
            rest -= value;
        }
    }
    Some(out)
}

/// The state of one number on its way into a pattern.
struct Filling<'a> {
    format: &'a Format,
    /// The digits with their point; `####.##` when they do not fit.
    digits: Vec<u8>,
    at: usize,
    negative: bool,
    sign: SignPlace,
    bracket: bool,
    sign_written: bool,
    /// Digit places of the pattern that come before the number's first.
    spaces: usize,
    /// Where the last digit stands that FM keeps.
    last: Option<usize>,
    zero_start: usize,
    places: usize,
    place: usize,
    /// Whether a digit was written: commas before it are blanks.
    inside: bool,
    out: String,
}

fn fill_in(format: &Format, negative: bool, number: &str) -> String {
    if let Some(upper) = format.roman {
        let text = if negative { None } else { roman(number) }.unwrap_or_else(|| "#".repeat(15));
        let text = if upper { text } else { text.to_lowercase() };
        return if format.fill { text } else { format!("{text:>15}") };
    }
    let whole = number.find('.').unwrap_or(number.len());
    let pre = format.pre + format.multi;
    let digits = if pre < whole {
        let mut hashes = vec![b'#'; pre + format.post + 1];
        hashes[pre] = b'.';
        hashes
    } else {
        number.as_bytes().to_vec()
    };
    let spaces = pre.saturating_sub(whole);
    let mut filling = Filling {
        format,
        digits,
        at: 0,
        negative,
        sign: format.sign,
        bracket: format.bracket,
        sign_written: false,
        spaces,
        last: None,
        zero_start: format.zero_start.saturating_sub(1),
        places: (format.post + pre).saturating_sub(1),
        place: 0,
        inside: false,
        out: String::new(),
    };
    filling.prepare(pre);
    for node in &format.nodes {
        filling.node(*node, number);
    }
    filling.out
}

impl Filling<'_> {
    fn prepare(&mut self, pre: usize) {
        let format = self.format;
        if format.plus || format.minus {
            // MI and SG write the sign where they stand; with PL alone a minus is still to be written.
            self.sign_written = !format.plus || format.minus;
        } else {
            if !self.negative && self.bracket && format.fill {
                self.bracket = false;
            }
            self.sign_written = !self.negative && format.fill && format.sign == SignPlace::None;
            if self.sign == SignPlace::Before && pre == format.digits_before_sign {
                self.sign = SignPlace::After;
            }
        }
        if format.fill && format.point {
            self.last = last_relevant(&self.digits);
            if let Some(last) = self.last.filter(|_| format.zero_end > self.spaces) {
                let kept = (self.digits.len() - 1).min(format.zero_end - self.spaces);
                self.last = Some(last.max(kept));
            }
        }
        if !self.sign_written && self.spaces == 0 {
            self.places += 1;
        }
    }

    fn sign_text(&self) -> char {
        if self.negative { '-' } else { '+' }
    }

    fn node(&mut self, node: Node, number: &str) {
        let fill = self.format.fill;
        match node {
            Node::Nine | Node::Zero | Node::Point => self.digit(node),
            Node::Comma if self.inside => self.out.push(','),
            Node::Comma | Node::Currency if !(node == Node::Comma && fill) => self.out.push(' '),
            Node::Ordinal { upper } if self.digits.first() != Some(&b'#') && !self.negative && !self.format.point => {
                let suffix = ordinal_of(number);
                self.out.push_str(&if upper { suffix.to_uppercase() } else { suffix.to_string() });
            }
            Node::Ordinal { .. } => {}
            Node::Minus if self.negative => self.out.push('-'),
            Node::Plus if !self.negative => self.out.push('+'),
            Node::Minus | Node::Plus if !fill => self.out.push(' '),
            Node::SignHere => self.out.push(self.sign_text()),
            Node::Text(c) => self.out.push(c),
            _ => {}
        }
    }

    /// True where a zero before the point is not shown: 9.9 makes ` .1` of 0.1.
    fn hides_zero(&self) -> bool {
        !self.format.zero && self.at == 0 && self.digits.first() == Some(&b'0') && self.format.post != 0
    }

    fn last_is_point(&self) -> bool {
        self.last.is_some_and(|last| self.digits[last] == b'.')
    }

    fn write_sign(&mut self) {
        let due = self.place >= self.spaces || self.format.zero && self.zero_start == self.place;
        if self.sign_written || !due || self.hides_zero() && !self.last_is_point() {
            return;
        }
        match self.sign {
            SignPlace::Before => self.out.push(self.sign_text()),
            SignPlace::After => return,
            SignPlace::None if self.bracket => self.out.push(if self.negative { '<' } else { ' ' }),
            SignPlace::None if self.negative => self.out.push('-'),
            SignPlace::None if !self.format.fill => self.out.push(' '),
            SignPlace::None => {}
        }
        self.sign_written = true;
    }

    fn digit(&mut self, node: Node) {
        self.inside = false;
        self.write_sign();
        let (format, fill) = (self.format, self.format.fill);
        if self.place < self.spaces && (self.zero_start > self.place || !format.zero) {
            if !fill {
                self.out.push(' ');
            }
        } else if format.zero && self.place < self.spaces && self.zero_start <= self.place {
            self.out.push('0');
            self.inside = true;
        } else {
            self.next_character(node);
            if self.at < self.digits.len() {
                self.at += 1;
            }
        }
        let mut end = self.places + usize::from(self.spaces > 0) + usize::from(format.point);
        if self.last == Some(self.at) {
            end = self.place;
        }
        if self.place + 1 == end {
            if self.sign_written && self.bracket {
                self.out.push(if self.negative { '>' } else { ' ' });
            } else if self.sign == SignPlace::After {
                self.out.push(self.sign_text());
            }
        }
        self.place += 1;
    }

    fn next_character(&mut self, node: Node) {
        let fill = self.format.fill;
        match self.digits.get(self.at) {
            Some(b'.') => {
                if !self.last_is_point() || fill {
                    self.out.push('.');
                }
            }
            _ if self.last.is_some_and(|last| self.at > last) && node != Node::Zero => {}
            _ if self.hides_zero() => {
                if !fill {
                    self.out.push(' ');
                } else if self.last_is_point() {
                    self.out.push('0');
                }
            }
            Some(digit) => {
                self.out.push(char::from(*digit));
                self.inside = true;
            }
            None => self.inside = true,
        }
    }
}

/// The last digit after the point that is not zero, or the point.
fn last_relevant(digits: &[u8]) -> Option<usize> {
    let point = digits.iter().position(|b| *b == b'.')?;
    digits.iter().rposition(|b| *b != b'0').map(|last| last.max(point))
}

/// `to_number`: the digits, point and sign of the text that the pattern has places for.
pub(super) fn read(text: &str, pattern: &str, scale: i8) -> Row<i128> {
    let format = Format::parse(pattern)?;
    if format.roman.is_some() {
        return Err(SqlError::unsupported("\"RN\" for input"));
    }
    if format.scientific {
        return Err(SqlError::unsupported("\"EEEE\" for input"));
    }
    let mut digits = String::new();
    let mut negative = false;
    let mut rest = text.trim_start().chars().peekable();
    let mut in_fraction = false;
    for node in &format.nodes {
        match node {
            Node::Nine | Node::Zero | Node::Point => {
                while rest.next_if(|c| c.is_whitespace()).is_some() {}
                // A sign may stand before the first digit, or be a bracket.
                if digits.is_empty()
                    && let Some(sign) = rest.next_if(|c| matches!(c, '-' | '+' | '<'))
                {
                    negative |= sign != '+';
                }
                if *node == Node::Point {
                    if rest.next_if_eq(&'.').is_some() {
                        digits.push('.');
                        in_fraction = true;
                    }
                } else if let Some(digit) = rest.next_if(char::is_ascii_digit) {
                    digits.push(digit);
                } else if !in_fraction && format.point && rest.next_if_eq(&'.').is_some() {
                    // Fewer digits before the point than places for them.
                    digits.push('.');
                    in_fraction = true;
                    if let Some(digit) = rest.next_if(char::is_ascii_digit) {
                        digits.push(digit);
                    }
                }
            }
            Node::Comma => {
                rest.next_if_eq(&',');
            }
            Node::Sign | Node::Minus | Node::Plus | Node::SignHere => {
                while rest.next_if(|c| c.is_whitespace()).is_some() {}
                if let Some(sign) = rest.next_if(|c| matches!(c, '-' | '+')) {
                    negative |= sign == '-';
                }
            }
            Node::Currency | Node::Text(_) => {
                rest.next_if(|c| !c.is_ascii_digit() && !matches!(c, '.' | ',' | '-' | '+'));
            }
            _ => {}
        }
    }
    if !digits.bytes().any(|b| b.is_ascii_digit()) {
        return Err(SqlError::new(
            "22P02",
            format!("invalid input syntax for type numeric: \"{}\"", if digits.is_empty() { " " } else { &digits }),
        ));
    }
    let moved = format!("{digits}e-{}", format.multi);
    let value = parse_decimal(moved.as_bytes(), 38, scale).map_err(SqlError::from)?;
    Ok(Some(if negative { -value } else { value }))
}
