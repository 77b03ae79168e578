//! Numbers from and to text.

use quire_types::SqlType;

use super::ValueError;

/// An integer in decimal, with a sign and surrounding blanks allowed. `None` for anything else; `Err` when it does not fit in 64 bits.
pub(crate) fn parse_int(text: &[u8]) -> Result<Option<i64>, ()> {
    let text = text.trim_ascii();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Ok(None);
    }
    // Negative numbers reach one further, so count downwards.
    let mut value = 0i64;
    for digit in digits {
        value = value.checked_mul(10).and_then(|v| v.checked_sub(i64::from(digit - b'0'))).ok_or(())?;
    }
    if negative { Ok(Some(value)) } else { value.checked_neg().map(Some).ok_or(()) }
}

/// A number rounded half away from zero to `scale` digits, unscaled. Exponents allowed, NaN and infinities not.
pub(crate) fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Result<i128, ValueError> {
    let ty = SqlType::Numeric { precision, scale };
    let shown = || String::from_utf8_lossy(text).into_owned();
    let invalid = || ValueError::invalid(ty, &shown());
    let trimmed = text.trim_ascii();
    let (negative, unsigned) = match trimmed {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if unsigned.eq_ignore_ascii_case(b"nan") || unsigned.eq_ignore_ascii_case(b"infinity") || unsigned.eq_ignore_ascii_case(b"inf") {
        return Err(ValueError::new("0A000", format!("numeric value \"{}\" is not supported", shown())));
    }
    let (mantissa, exponent) = match unsigned.iter().position(|b| matches!(b, b'e' | b'E')) {
        None => (unsigned, 0i64),
        Some(at) => {
            let exponent = parse_int(&unsigned[at + 1..]).ok().flatten().filter(|e| e.abs() <= 100_000 && !unsigned[at + 1..].is_empty());
            (&unsigned[..at], exponent.ok_or_else(invalid)?)
        }
    };
    let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
        None => (mantissa, &[][..]),
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
    };
    if whole.is_empty() && fraction.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let overflow = || ValueError::numeric_overflow(precision, scale);
    // Digits that end up before the point of the unscaled value, and then one more that rounds.
    let kept = whole.len() as i64 + exponent + i64::from(scale);
    let mut value = 0i128;
    let mut position = 0i64;
    let mut round_up = false;
    for digit in whole.iter().chain(fraction) {
        let digit = i128::from(digit - b'0');
        if position < kept {
            value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or_else(overflow)?;
        } else if position == kept {
            round_up = digit >= 5;
            break;
        }
        position += 1;
    }
    if value != 0 {
        for _ in position..kept {
            value = value.checked_mul(10).ok_or_else(overflow)?;
        }
    }
    value += i128::from(round_up && kept >= 0);
    if value >= 10i128.pow(u32::from(precision)) {
        return Err(overflow());
    }
    Ok(if negative { -value } else { value })
}

/// An unscaled value with its point put in.
pub(crate) fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 48];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    let scale = scale.max(0) as usize;
    let mut written = 0;
    while rest > 0 || written <= scale {
        if written == scale && scale > 0 {
            at -= 1;
            digits[at] = b'.';
        }
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        written += 1;
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// Postgres' float output: the shortest digits that read back the same, with an exponent outside `1e-4 .. 10^digits`.
pub(crate) fn write_float(value: f64, shortest: String, digits: i32, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
        return;
    }
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
        return;
    }
    // `shortest` is in scientific form: d.ddde-5
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..digits).contains(&exponent) {
        let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
        let plain: String = mantissa.chars().filter(|c| *c != '.').collect();
        out.extend_from_slice(sign.as_bytes());
        if exponent < 0 {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
            out.extend_from_slice(plain.as_bytes());
        } else {
            let whole = exponent as usize + 1;
            if plain.len() <= whole {
                out.extend_from_slice(plain.as_bytes());
                out.extend(std::iter::repeat_n(b'0', whole - plain.len()));
            } else {
                out.extend_from_slice(&plain.as_bytes()[..whole]);
                out.push(b'.');
                out.extend_from_slice(&plain.as_bytes()[whole..]);
            }
        }
        return;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    out.extend_from_slice(format!("{mantissa}e{sign}{:02}", exponent.abs()).as_bytes());
}
