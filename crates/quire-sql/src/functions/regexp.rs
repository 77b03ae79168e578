//! Regular expressions: Postgres' functions and options over the regex crate. Where several alternatives match, the crate takes
//! the first and Postgres the longest; back references and look-around are not offered.

use arrow::array::{Array, ArrayRef, ListBuilder, StringViewBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};
use parking_lot::Mutex;
use regex::{Captures, Regex, RegexBuilder};
use std::sync::Arc;

use super::forms::{Form, Function, Gives, Kind, Row, bools, form, int4s, text_lists, texts};
use super::native::{Call, plain, sql_error};
use crate::SqlError;

use Kind::{Int4, Text};

/// Bytes that a compiled expression may take: a hostile one must not take the process.
const COMPILED_BYTES_MAX: usize = 8 << 20;

pub(super) fn udfs() -> Vec<ScalarUDF> {
    vec![
        Function::udf("regexp_like", two_or_three(Gives::Is(Kind::Bool), like)),
        Function::udf("regexp_match", two_or_three(Gives::List(Text), first_match)),
        // Sets of rows are lists here; where they stand in a statement makes rows of them.
        Function::udf("quire_rows_of_regexp_matches", two_or_three(Gives::By(lists_of_texts), all_matches)),
        Function::udf("regexp_split_to_array", two_or_three(Gives::List(Text), split)),
        Function::udf("quire_rows_of_regexp_split_to_table", two_or_three(Gives::List(Text), split)),
        Function::udf("regexp_count", starting(Gives::Is(Int4), &[], count)),
        Function::udf("regexp_substr", starting(Gives::Is(Text), &[Int4], substring)),
        Function::udf("regexp_instr", starting(Gives::Is(Int4), &[Int4, Int4], position)),
        Function::udf(
            "regexp_replace",
            vec![
                form(&[Text, Text, Text], Gives::Is(Text), replace),
                form(&[Text, Text, Text, Text], Gives::Is(Text), replace),
                form(&[Text, Text, Text, Int4], Gives::Is(Text), replace),
                form(&[Text, Text, Text, Int4, Int4], Gives::Is(Text), replace),
                form(&[Text, Text, Text, Int4, Int4, Text], Gives::Is(Text), replace),
            ],
        ),
    ]
}

type Run = fn(&Call) -> Result<ArrayRef>;

fn two_or_three(gives: Gives, run: Run) -> Vec<Form> {
    vec![form(&[Text, Text], gives, run), form(&[Text, Text, Text], gives, run)]
}

/// `(string, pattern [, start [, more …] [, flags [, subexpression]]])`
fn starting(gives: Gives, more: &[Kind], run: Run) -> Vec<Form> {
    let mut forms = vec![form(&[Text, Text], gives, run), form(&[Text, Text, Int4], gives, run)];
    match more.len() {
        0 => forms.push(form(&[Text, Text, Int4, Text], gives, run)),
        1 => forms.extend([
            form(&[Text, Text, Int4, Int4], gives, run),
            form(&[Text, Text, Int4, Int4, Text], gives, run),
            form(&[Text, Text, Int4, Int4, Text, Int4], gives, run),
        ]),
        _ => forms.extend([
            form(&[Text, Text, Int4, Int4], gives, run),
            form(&[Text, Text, Int4, Int4, Int4], gives, run),
            form(&[Text, Text, Int4, Int4, Int4, Text], gives, run),
            form(&[Text, Text, Int4, Int4, Int4, Text, Int4], gives, run),
        ]),
    }
    forms
}

fn lists_of_texts(_: &ReturnFieldArgs) -> Result<Field> {
    let texts = DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true)));
    plain(DataType::List(Arc::new(Field::new("item", texts, true))))
}

/// Options of one call.
#[derive(Default)]
struct Options {
    global: bool,
    insensitive: bool,
    /// The dot and `[^…]` stop at the end of a line.
    dot_stops: bool,
    /// `^` and `$` hold at lines.
    lines: bool,
    expanded: bool,
    literal: bool,
}

impl Options {
    fn parse(flags: &str) -> std::result::Result<Options, SqlError> {
        let mut options = Options::default();
        for flag in flags.chars() {
            match flag {
                'g' => options.global = true,
                'i' => options.insensitive = true,
                'c' => options.insensitive = false,
                'm' | 'n' => (options.dot_stops, options.lines) = (true, true),
                's' => (options.dot_stops, options.lines) = (false, false),
                'p' => (options.dot_stops, options.lines) = (true, false),
                'w' => (options.dot_stops, options.lines) = (false, true),
                'x' => options.expanded = true,
                't' => options.expanded = false,
                'q' => options.literal = true,
                'a' | 'e' | 'b' => {}
                other => return Err(SqlError::new("22023", format!("invalid regular expression option: \"{other}\""))),
            }
        }
        Ok(options)
    }
}

/// A pattern in the crate's spelling.
fn spelled(pattern: &str) -> String {
    let pattern = pattern.strip_prefix("***:").unwrap_or(pattern);
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            // Ends of words.
            Some('m') => out.push_str(r"\b{start}"),
            Some('M') => out.push_str(r"\b{end}"),
            Some('y') => out.push_str(r"\b"),
            Some('Y') => out.push_str(r"\B"),
            Some('Z') => out.push_str(r"\z"),
            // A character that needs no escape, and that the crate would not take escaped.
            Some(c) if !c.is_ascii_alphanumeric() && !regex::escape(&c.to_string()).starts_with('\\') => out.push(c),
            Some(c) => {
                out.push('\\');
                out.push(c);
            }
            None => out.push('\\'),
        }
    }
    out.replace("[[:<:]]", r"\b{start}").replace("[[:>:]]", r"\b{end}")
}

fn compile(pattern: &str, options: &Options) -> std::result::Result<Regex, SqlError> {
    let text = match (options.literal, pattern.strip_prefix("***=")) {
        (true, _) => regex::escape(pattern),
        (false, Some(literal)) => regex::escape(literal),
        (false, None) => spelled(pattern),
    };
    let mut builder = RegexBuilder::new(&text);
    builder.case_insensitive(options.insensitive).dot_matches_new_line(!options.dot_stops).multi_line(options.lines);
    builder.ignore_whitespace(options.expanded).size_limit(COMPILED_BYTES_MAX).build().map_err(|error| refused(&error))
}

/// 2201B, in Postgres' words where there are some.
fn refused(error: &regex::Error) -> SqlError {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or(&text).trim_start_matches("error: ").to_string();
    if matches!(error, regex::Error::CompiledTooBig(_)) {
        return SqlError::new("2201B", "invalid regular expression: regular expression is too complex");
    }
    if reason.contains("look-around") || reason.contains("backreferences") {
        return SqlError::unsupported(if reason.contains("look-around") {
            "look-around in a regular expression"
        } else {
            "a back reference"
        });
    }
    let words = in_words(&reason);
    SqlError::new("2201B", format!("invalid regular expression: {words}"))
}

/// What Postgres says of a pattern that does not compile, for the crate's reason.
pub(crate) fn in_words(reason: &str) -> &str {
    match reason {
        r if r.contains("unclosed group") || r.contains("unopened group") => "parentheses () not balanced",
        r if r.contains("unclosed character class") => "brackets [] not balanced",
        r if r.contains("repetition operator missing") => "quantifier operand invalid",
        r if r.contains("repetition quantifier") || r.contains("unclosed counted repetition") => "invalid repetition count(s)",
        r if r.contains("escape") => "invalid escape \\ sequence",
        r if r.contains("range") => "invalid character range",
        r => r,
    }
}

/// What the rows of one call share: nearly always they have one pattern, which is compiled once.
struct Patterns<'a> {
    call: &'a Call<'a>,
    flags: Option<usize>,
    name: &'static str,
    last: Mutex<Option<(String, String, Regex, bool)>>,
}

impl<'a> Patterns<'a> {
    fn new(call: &'a Call<'a>, flags: Option<usize>, name: &'static str) -> Patterns<'a> {
        Patterns { call, flags: flags.filter(|i| *i < call.arrays.len()), name, last: Mutex::new(None) }
    }

    /// The row's expression, and whether it is meant for all matches.
    fn of(&self, row: usize) -> std::result::Result<(Regex, bool), SqlError> {
        let pattern = self.call.text(1).value(row);
        let flags = self.flags.map_or("", |i| self.call.text(i).value(row));
        let mut last = self.last.lock();
        if let Some((_, _, regex, global)) = last.as_ref().filter(|(p, f, ..)| p == pattern && f == flags) {
            return Ok((regex.clone(), *global));
        }
        let options = Options::parse(flags)?;
        if options.global && !matches!(self.name, "regexp_matches" | "regexp_replace") {
            let error = SqlError::new("22023", format!("{}() does not support the \"global\" option", self.name));
            return Err(if self.name == "regexp_match" { error.with_hint("Use the regexp_matches function instead.") } else { error });
        }
        let regex = compile(pattern, &options)?;
        *last = Some((pattern.to_string(), flags.to_string(), regex.clone(), options.global));
        Ok((regex, options.global))
    }

    /// Row by row, NULL where an argument is.
    fn rows<R>(&self, f: impl Fn(usize, &str, &Regex, bool) -> Row<R>) -> impl Iterator<Item = Row<R>> {
        (0..self.call.rows).map(move |row| {
            if self.call.arrays.iter().any(|a| a.is_null(row)) {
                return Ok(None);
            }
            let (regex, global) = self.of(row)?;
            f(row, self.call.text(0).value(row), &regex, global)
        })
    }

    /// An integer argument that may be left out.
    fn int(&self, position: usize, row: usize, default: i32, least: i32, name: &str) -> std::result::Result<usize, SqlError> {
        let value = match self.call.arrays.get(position) {
            Some(array) if *array.data_type() == DataType::Int32 => self.call.int4(position).value(row),
            _ => default,
        };
        if value < least {
            return Err(SqlError::new("22023", format!("invalid value for parameter \"{name}\": {value}")));
        }
        Ok(value as usize)
    }
}

fn like(call: &Call) -> Result<ArrayRef> {
    bools(Patterns::new(call, Some(2), "regexp_like").rows(|_, text, regex, _| Ok(Some(regex.is_match(text)))))
}

/// The groups of a match, or the whole of it where the pattern has none.
fn groups(found: &Captures) -> Vec<Option<String>> {
    let text = |m: Option<regex::Match>| m.map(|m| m.as_str().to_string());
    if found.len() == 1 { vec![text(found.get(0))] } else { (1..found.len()).map(|i| text(found.get(i))).collect() }
}

fn first_match(call: &Call) -> Result<ArrayRef> {
    text_lists(Patterns::new(call, Some(2), "regexp_match").rows(|_, text, regex, _| Ok(regex.captures(text).map(|c| groups(&c)))))
}

fn all_matches(call: &Call) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", DataType::Utf8View, true));
    let inner = ListBuilder::new(StringViewBuilder::new()).with_field(item.clone());
    let mut lists = ListBuilder::new(inner).with_field(Arc::new(Field::new("item", DataType::List(item), true)));
    let patterns = Patterns::new(call, Some(2), "regexp_matches");
    let rows = patterns.rows(|_, text, regex, global| {
        let found: Vec<_> = regex.captures_iter(text).take(if global { usize::MAX } else { 1 }).map(|c| groups(&c)).collect();
        Ok(Some(found))
    });
    for row in rows {
        for groups in row.map_err(sql_error)?.unwrap_or_default() {
            lists.values().append_value(groups);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn split(call: &Call) -> Result<ArrayRef> {
    text_lists(Patterns::new(call, Some(2), "regexp_split_to_array").rows(|_, text, regex, _| {
        // A match of nothing at the start, at the end or right after a match does not split.
        let mut parts = vec![];
        let mut from = 0;
        for found in regex.find_iter(text) {
            if found.is_empty()
                && (found.start() == 0 || found.start() == text.len() || found.start() == from && from != 0 && parts.is_empty())
            {
                continue;
            }
            parts.push(Some(text[from..found.start()].to_string()));
            from = found.end();
        }
        parts.push(Some(text[from..].to_string()));
        Ok(Some(parts))
    }))
}

/// The byte that a character position (from 1) is at; the end for what is beyond it.
fn byte_at(text: &str, character: usize) -> usize {
    text.char_indices().nth(character.saturating_sub(1)).map_or(text.len(), |(at, _)| at)
}

fn count(call: &Call) -> Result<ArrayRef> {
    let patterns = Patterns::new(call, Some(3), "regexp_count");
    int4s(patterns.rows(|row, text, regex, _| {
        let start = patterns.int(2, row, 1, 1, "start")?;
        if start > text.chars().count() + 1 {
            return Ok(Some(0));
        }
        let mut found = 0;
        let mut at = byte_at(text, start);
        while let Some(m) = regex.find_at(text, at) {
            found += 1;
            at = next_start(text, &m);
            if at > text.len() {
                break;
            }
        }
        Ok(Some(found))
    }))
}

/// Where the search goes on after a match: past the next character when it was empty.
fn next_start(text: &str, found: &regex::Match) -> usize {
    if !found.is_empty() {
        return found.end();
    }
    text[found.end()..].chars().next().map_or(text.len() + 1, |c| found.end() + c.len_utf8())
}

/// The n-th match from a start, and the part of it that is asked for.
fn nth<'t>(regex: &Regex, text: &'t str, start: usize, n: usize, group: usize) -> Option<regex::Match<'t>> {
    if start > text.chars().count() + 1 {
        return None;
    }
    let mut at = byte_at(text, start);
    for _ in 1..n {
        at = next_start(text, &regex.find_at(text, at)?);
        if at > text.len() {
            return None;
        }
    }
    regex.captures_at(text, at)?.get(group)
}

fn substring(call: &Call) -> Result<ArrayRef> {
    let patterns = Patterns::new(call, Some(4), "regexp_substr");
    texts(patterns.rows(|row, text, regex, _| {
        let (start, n) = (patterns.int(2, row, 1, 1, "start")?, patterns.int(3, row, 1, 1, "n")?);
        let group = patterns.int(5, row, 0, 0, "subexpr")?;
        Ok(nth(regex, text, start, n, group).map(|m| m.as_str().to_string()))
    }))
}

fn position(call: &Call) -> Result<ArrayRef> {
    let patterns = Patterns::new(call, Some(5), "regexp_instr");
    int4s(patterns.rows(|row, text, regex, _| {
        let (start, n) = (patterns.int(2, row, 1, 1, "start")?, patterns.int(3, row, 1, 1, "n")?);
        let end = patterns.int(4, row, 0, 0, "endoption")?;
        if end > 1 {
            return Err(SqlError::new("22023", format!("invalid value for parameter \"endoption\": {end}")));
        }
        let group = patterns.int(6, row, 0, 0, "subexpr")?;
        let at = nth(regex, text, start, n, group).map(|m| if end == 1 { m.end() } else { m.start() });
        Ok(Some(at.map_or(0, |at| text[..at].chars().count() as i32 + 1)))
    }))
}

fn replace(call: &Call) -> Result<ArrayRef> {
    // The fourth argument is flags, or where to start.
    let numbered = call.arrays.get(3).is_some_and(|a| *a.data_type() == DataType::Int32);
    let patterns = Patterns::new(call, Some(if numbered { 5 } else { 3 }), "regexp_replace");
    texts(patterns.rows(|row, text, regex, global| {
        let (start, n) = if numbered { (patterns.int(3, row, 1, 1, "start")?, patterns.int(4, row, 1, 0, "n")?) } else { (1, 1) };
        // Which one: all of them for `g` without a number, and for 0.
        let only = if n == 0 || global && call.arrays.len() < 5 { None } else { Some(n) };
        let replacement = call.text(2).value(row);
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        let mut at = byte_at(text, start);
        let mut seen = 0;
        while let Some(found) = (at <= text.len()).then(|| regex.captures_at(text, at)).flatten() {
            let Some(whole) = found.get(0) else { break };
            seen += 1;
            if only.is_none_or(|n| n == seen) {
                out.push_str(&text[copied..whole.start()]);
                expand(replacement, &found, &mut out);
                copied = whole.end();
            }
            if only == Some(seen) {
                break;
            }
            at = next_start(text, &whole);
        }
        out.push_str(&text[copied..]);
        Ok(Some(out))
    }))
}

/// `\1` to `\9` are groups, `\&` the match.
fn expand(replacement: &str, found: &Captures, out: &mut String) {
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('&') => out.push_str(found.get(0).map_or("", |m| m.as_str())),
            Some(digit @ '1'..='9') => out.push_str(found.get(usize::from(digit as u8 - b'0')).map_or("", |m| m.as_str())),
            Some('\\') | None => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
        }
    }
}

/// `substring(text from pattern)`: the first group, or the whole match.
pub(super) fn substring_by_pattern(call: &Call) -> Result<ArrayRef> {
    texts(Patterns::new(call, None, "substring").rows(|_, text, regex, _| {
        Ok(regex.captures(text).and_then(|found| found.get(usize::from(found.len() > 1))).map(|m| m.as_str().to_string()))
    }))
}
