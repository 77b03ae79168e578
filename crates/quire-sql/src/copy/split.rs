//! Lines to fields. The common case — no quote, no backslash — is two vectorized searches a line and copies nothing.

use memchr::{memchr, memchr2, memchr3};

use super::Dialect;

/// One field of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// NULL.
    Null,
    /// As it stands in the line.
    Plain(std::ops::Range<usize>),
    /// Without its quotes or escapes, in the scratch buffer.
    Decoded(std::ops::Range<usize>),
}

/// Where the line that begins at `data[0]` ends: (its length, the length with its newline). `None` when more data is needed.
pub(crate) fn line_end(data: &[u8], dialect: &Dialect) -> Result<Option<(usize, usize)>, &'static str> {
    if dialect.csv { csv_line_end(data, dialect) } else { text_line_end(data) }
}

fn text_line_end(data: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let mut at = 0;
    while let Some(found) = memchr2(b'\n', b'\\', &data[at..]) {
        at += found;
        if data[at] == b'\\' {
            // Whatever follows a backslash, a newline included, belongs to the field.
            at += 2;
            if at > data.len() {
                return Ok(None);
            }
            continue;
        }
        return Ok(Some(trimmed(data, at)));
    }
    Ok(None)
}

fn csv_line_end(data: &[u8], dialect: &Dialect) -> Result<Option<(usize, usize)>, &'static str> {
    let mut at = 0;
    loop {
        let Some(found) = memchr2(b'\n', dialect.quote, &data[at..]) else { return Ok(None) };
        at += found;
        if data[at] == b'\n' {
            return Ok(Some(trimmed(data, at)));
        }
        // A quoted part: to its closing quote.
        at += 1;
        loop {
            let next = if dialect.escape == dialect.quote {
                memchr(dialect.quote, &data[at..])
            } else {
                memchr2(dialect.quote, dialect.escape, &data[at..])
            };
            let Some(found) = next else { return Ok(None) };
            at += found;
            if dialect.escape != dialect.quote && data[at] == dialect.escape {
                at += 2;
                if at > data.len() {
                    return Ok(None);
                }
                continue;
            }
            at += 1;
            break;
        }
    }
}

fn trimmed(data: &[u8], newline: usize) -> (usize, usize) {
    let end = if newline > 0 && data[newline - 1] == b'\r' { newline - 1 } else { newline };
    (end, newline + 1)
}

/// Splits a line. Decoded fields are appended to `scratch`.
pub(crate) fn fields(line: &[u8], dialect: &Dialect, out: &mut Vec<Field>, scratch: &mut Vec<u8>) -> Result<(), &'static str> {
    out.clear();
    scratch.clear();
    if dialect.csv { csv_fields(line, dialect, out, scratch) } else { text_fields(line, dialect, out, scratch) }
}

fn plain(line: &[u8], range: std::ops::Range<usize>, dialect: &Dialect) -> Field {
    if line[range.clone()] == dialect.null[..] { Field::Null } else { Field::Plain(range) }
}

fn text_fields(line: &[u8], dialect: &Dialect, out: &mut Vec<Field>, scratch: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut start = 0;
    loop {
        let mut at = start;
        let mut escaped = false;
        let end = loop {
            match memchr2(dialect.delimiter, b'\\', &line[at..]) {
                None => break line.len(),
                Some(found) if line[at + found] == b'\\' => {
                    escaped = true;
                    at = (at + found + 2).min(line.len());
                }
                Some(found) => break at + found,
            }
        };
        if memchr(b'\r', &line[start..end]).is_some() {
            return Err("literal carriage return found in data");
        }
        if !escaped || line[start..end] == dialect.null[..] {
            out.push(plain(line, start..end, dialect));
        } else {
            let from = scratch.len();
            unescape(&line[start..end], scratch);
            out.push(Field::Decoded(from..scratch.len()));
        }
        if end == line.len() {
            return Ok(());
        }
        start = end + 1;
    }
}

/// Backslash sequences of the text format.
fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr(b'\\', text) {
        out.extend_from_slice(&text[..at]);
        let Some(&c) = text.get(at + 1) else { return };
        text = &text[at + 2..];
        let digits = |text: &[u8], radix: u32, max: usize| text.iter().take(max).take_while(|b| (**b as char).is_digit(radix)).count();
        match c {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'x' if digits(text, 16, 2) > 0 => {
                let n = digits(text, 16, 2);
                out.push(text[..n].iter().fold(0u32, |v, b| v * 16 + (*b as char).to_digit(16).unwrap_or(0)) as u8);
                text = &text[n..];
            }
            b'0'..=b'7' => {
                let n = digits(text, 8, 2);
                let first = u32::from(c - b'0');
                out.push(text[..n].iter().fold(first, |v, b| v * 8 + u32::from(b - b'0')) as u8);
                text = &text[n..];
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(text);
}

fn csv_fields(line: &[u8], dialect: &Dialect, out: &mut Vec<Field>, scratch: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut start = 0;
    loop {
        let end = memchr2(dialect.delimiter, dialect.quote, &line[start..]).map_or(line.len(), |f| start + f);
        if end == line.len() || line[end] == dialect.delimiter {
            if memchr(b'\r', &line[start..end]).is_some() {
                return Err("unquoted carriage return found in data");
            }
            out.push(plain(line, start..end, dialect));
            if end == line.len() {
                return Ok(());
            }
            start = end + 1;
            continue;
        }
        match quoted_field(line, start, dialect, out, scratch)? {
            None => return Ok(()),
            Some(next) => start = next,
        }
    }
}

/// A field with a quote somewhere in it; where the next one begins.
fn quoted_field(
    line: &[u8],
    start: usize,
    dialect: &Dialect,
    out: &mut Vec<Field>,
    scratch: &mut Vec<u8>,
) -> Result<Option<usize>, &'static str> {
    let from = scratch.len();
    let mut at = start;
    let mut quoted = false;
    while at < line.len() {
        let byte = line[at];
        if quoted {
            if byte == dialect.escape && line.get(at + 1).is_some_and(|n| *n == dialect.quote || *n == dialect.escape) {
                scratch.push(line[at + 1]);
                at += 2;
            } else if byte == dialect.quote {
                quoted = false;
                at += 1;
            } else {
                let run = memchr2(dialect.quote, dialect.escape, &line[at + 1..]).map_or(line.len(), |f| at + 1 + f);
                scratch.extend_from_slice(&line[at..run]);
                at = run;
            }
        } else if byte == dialect.quote {
            quoted = true;
            at += 1;
        } else if byte == dialect.delimiter {
            out.push(Field::Decoded(from..scratch.len()));
            return Ok(Some(at + 1));
        } else {
            let run = memchr3(dialect.quote, dialect.delimiter, b'\r', &line[at + 1..]).map_or(line.len(), |f| at + 1 + f);
            scratch.extend_from_slice(&line[at..run]);
            at = run;
        }
    }
    if quoted {
        return Err("unterminated CSV quoted field");
    }
    out.push(Field::Decoded(from..scratch.len()));
    Ok(None)
}
