//! COPY's three formats: text, CSV and binary, decoded to columns and encoded from them.

use quire_types::ColumnDef;

use crate::SqlError;
use crate::values::ValueError;

mod decode;
pub(crate) use decode::CopyDecoder;

mod split;

mod encode;
pub(crate) use encode::CopyEncoder;

#[cfg(test)]
mod tests;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyFormat {
    /// Tab-separated, backslash escapes.
    Text,
    /// Comma-separated, quotes.
    Csv,
    /// Postgres' own.
    Binary,
}

/// What becomes of a first line with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// There is none.
    Absent,
    /// Written, or skipped.
    Present,
    /// Its names must be those of the columns.
    Match,
}

/// What a COPY statement said; `None` where it said nothing.
#[derive(Clone, Debug)]
pub(crate) struct CopyOptions {
    pub(crate) format: CopyFormat,
    pub(crate) delimiter: Option<char>,
    pub(crate) null: Option<String>,
    pub(crate) header: Header,
    pub(crate) quote: Option<char>,
    pub(crate) escape: Option<char>,
    pub(crate) force_quote: Vec<String>,
    pub(crate) force_not_null: Vec<String>,
    pub(crate) force_null: Vec<String>,
    pub(crate) encoding: Option<String>,
}

impl CopyOptions {
    pub(crate) fn new(format: CopyFormat) -> CopyOptions {
        CopyOptions {
            format,
            delimiter: None,
            null: None,
            header: Header::Absent,
            quote: None,
            escape: None,
            force_quote: vec![],
            force_not_null: vec![],
            force_null: vec![],
            encoding: None,
        }
    }
}

/// The bytes that matter, checked.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    pub(crate) csv: bool,
    pub(crate) delimiter: u8,
    pub(crate) null: Vec<u8>,
    pub(crate) quote: u8,
    pub(crate) escape: u8,
}

impl Dialect {
    fn new(options: &CopyOptions) -> Result<Dialect, SqlError> {
        let csv = options.format == CopyFormat::Csv;
        let byte = |given: Option<char>, default: u8, what: &str| match given {
            None => Ok(default),
            Some(c) if c.is_ascii() && c != '\n' && c != '\r' => Ok(c as u8),
            Some(_) => Err(SqlError::new("0A000", format!("COPY {what} must be a single one-byte character"))),
        };
        let only_csv = |given: bool, what: &str| {
            if given && !csv { Err(SqlError::new("0A000", format!("COPY {what} available only in CSV mode"))) } else { Ok(()) }
        };
        if options.format == CopyFormat::Binary
            && (options.delimiter.is_some() || options.null.is_some() || options.header != Header::Absent)
        {
            return Err(SqlError::syntax("cannot specify DELIMITER, NULL or HEADER in BINARY mode"));
        }
        only_csv(options.quote.is_some(), "quote")?;
        only_csv(options.escape.is_some(), "escape")?;
        only_csv(!options.force_quote.is_empty(), "force quote")?;
        only_csv(!options.force_not_null.is_empty(), "force not null")?;
        only_csv(!options.force_null.is_empty(), "force null")?;
        if let Some(encoding) = &options.encoding
            && !matches!(encoding.to_lowercase().replace(['-', '_'], "").as_str(), "utf8" | "unicode" | "sqlascii")
        {
            return Err(SqlError::new("22023", format!("argument to option \"encoding\" must be a valid encoding name: \"{encoding}\"")));
        }
        let delimiter = byte(options.delimiter, if csv { b',' } else { b'\t' }, "delimiter")?;
        let quote = byte(options.quote, b'"', "quote")?;
        let escape = byte(options.escape, quote, "escape")?;
        if csv && delimiter == quote {
            return Err(SqlError::new("22023", "COPY delimiter and quote must be different"));
        }
        if !csv && b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(&delimiter) {
            return Err(SqlError::new("22023", format!("COPY delimiter cannot be \"{}\"", delimiter as char)));
        }
        let null = options.null.clone().unwrap_or_else(|| if csv { String::new() } else { "\\N".into() }).into_bytes();
        if null.contains(&b'\n') || null.contains(&b'\r') {
            return Err(SqlError::new("22023", "COPY null representation cannot use newline or carriage return"));
        }
        if null.contains(&delimiter) {
            return Err(SqlError::new("0A000", "COPY delimiter must not appear in the NULL specification"));
        }
        Ok(Dialect { csv, delimiter, null, quote, escape })
    }
}

/// A line that cannot be read, with where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyError {
    pub(crate) error: ValueError,
    /// `COPY t, line 3, column b: "x"`
    pub(crate) context: String,
}

impl From<CopyError> for SqlError {
    fn from(error: CopyError) -> SqlError {
        SqlError::from(error.error).with_context(error.context)
    }
}

/// Positions of named columns among those copied; 42703 for one that is not there.
fn positions(names: &[String], columns: &[ColumnDef]) -> Result<Vec<bool>, SqlError> {
    for name in names.iter().filter(|n| *n != "*") {
        if !columns.iter().any(|c| c.name == *name) {
            return Err(SqlError::new("42703", format!("column \"{name}\" does not exist")));
        }
    }
    Ok(columns.iter().map(|c| names.iter().any(|n| *n == c.name || n == "*")).collect())
}
