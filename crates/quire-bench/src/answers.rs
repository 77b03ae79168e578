//! Whether an answer is right: the reference answers at scales 0.01, 0.1 and 1, made by another engine from the same
//! rows (`answers/README.md` says how), and what counts as equal.
//!
//! Rows are compared as a multiset, since ORDER BY leaves ties open; then each row's sort keys with those of the next.
//! Everything is compared exactly (integers, strings, dates, sums of decimals) up to trailing zeros and the blanks that
//! pad a char(n), but for the averages and ratios, whose number of digits is the server's choice.

use std::cmp::Ordering;

use crate::queries::{Direction, Query};
use crate::server::TextRows;

/// Allowed in an average or a ratio: a server may stop its division at six digits, or do it in double precision. The
/// specification would allow 1 % (clause 2.1.3.5).
const APPROXIMATE_ABSOLUTE: f64 = 2e-6;
/// As above, for large values in double precision.
const APPROXIMATE_RELATIVE: f64 = 1e-9;

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong(String),
    /// There is no reference at this scale.
    Unchecked,
}

macro_rules! references {
    ($scale:literal) => {
        references!($scale: "01" "02" "03" "04" "05" "06" "07" "08" "09" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19" "20" "21" "22")
    };
    ($scale:literal: $($query:literal)*) => {
        [$(include_str!(concat!("../answers/sf", $scale, "/q", $query, ".csv"))),*]
    };
}

/// The reference answers by scale and query.
static REFERENCES: [(f64, [&str; 22]); 3] = [(0.01, references!("0.01")), (0.1, references!("0.1")), (1.0, references!("1"))];

/// Compares an answer with the reference.
pub(crate) fn check(query: &Query, scale: f64, rows: &TextRows) -> Verdict {
    let Some((_, answers)) = REFERENCES.iter().find(|(of, _)| *of == scale) else { return Verdict::Unchecked };
    match Reference::parse(answers[usize::from(query.number) - 1]).compare(query, rows) {
        Ok(()) => Verdict::Right,
        Err(difference) => Verdict::Wrong(difference),
    }
}

/// A reference file: the columns' names, then all rows, or for a long answer their number and hash.
#[derive(Debug)]
struct Reference {
    columns: usize,
    rows: ReferenceRows,
}

#[derive(Debug)]
enum ReferenceRows {
    All(Vec<Vec<String>>),
    Hashed { rows: usize, hash: u64 },
}

impl Reference {
    /// Fields are separated by `|`, which no value holds; NULL is `\N`. A damaged file cannot be: the tests read them all.
    fn parse(text: &str) -> Reference {
        let mut lines = text.lines();
        let columns = lines.next().map_or(0, |names| names.split('|').count());
        let rest: Vec<&str> = lines.collect();
        let hashed = |name| rest.iter().find_map(|line| line.strip_prefix(name));
        let rows = match (hashed("#rows "), hashed("#hash ")) {
            (Some(rows), Some(hash)) => ReferenceRows::Hashed {
                rows: rows.parse().expect("the tests read all references"),
                hash: u64::from_str_radix(hash, 16).expect("the tests read all references"),
            },
            _ => ReferenceRows::All(rest.iter().map(|line| line.split('|').map(str::to_owned).collect()).collect()),
        };
        Reference { columns, rows }
    }

    fn compare(&self, query: &Query, rows: &TextRows) -> Result<(), String> {
        if let Some(row) = rows.iter().find(|row| row.len() != self.columns) {
            return Err(format!("{} columns instead of {}", row.len(), self.columns));
        }
        let mut ours: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| canonical(cell.as_deref())).collect()).collect();
        in_order(query, &ours)?;
        match &self.rows {
            ReferenceRows::Hashed { rows, hash } => {
                same_count(*rows, ours.len())?;
                let our_hash = ours.iter().fold(0_u64, |sum, row| sum.wrapping_add(fnv1a(row.join("|").as_bytes())));
                if our_hash != *hash {
                    return Err(format!("the {rows} rows differ from the reference: their hash is {our_hash:016x} instead of {hash:016x}"));
                }
            }
            ReferenceRows::All(theirs) => {
                same_count(theirs.len(), ours.len())?;
                let mut theirs: Vec<&Vec<String>> = theirs.iter().collect();
                theirs.sort_by(|a, b| exact_first(query, a, b));
                ours.sort_by(|a, b| exact_first(query, a, b));
                for (our, their) in ours.iter().zip(theirs) {
                    if !(0..self.columns).all(|column| same_cell(query, column, &our[column], &their[column])) {
                        return Err(format!("{} instead of {}", our.join("|"), their.join("|")));
                    }
                }
            }
        }
        Ok(())
    }
}

fn same_count(theirs: usize, ours: usize) -> Result<(), String> {
    if theirs == ours { Ok(()) } else { Err(format!("{ours} rows instead of {theirs}")) }
}

/// A cell as it is compared: NULL is `\N`, no blanks at the end, no zeros at the end of a fraction.
fn canonical(cell: Option<&str>) -> String {
    let Some(text) = cell else { return "\\N".to_owned() };
    let text = text.trim_end_matches(' ');
    let digits = text.strip_prefix('-').unwrap_or(text);
    let Some((whole, fraction)) = digits.split_once('.') else { return text.to_owned() };
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return text.to_owned();
    }
    let number = text.trim_end_matches('0').trim_end_matches('.');
    if number == "-0" { "0".to_owned() } else { number.to_owned() }
}

/// Orders rows by the cells that must be equal, then by those that need not quite.
fn exact_first(query: &Query, a: &[String], b: &[String]) -> Ordering {
    let exact = |row: &[String]| {
        let cells = row.iter().enumerate().filter(|(column, _)| !query.approximate.contains(column));
        cells.map(|(_, cell)| cell.clone()).collect::<Vec<String>>()
    };
    let approximate = || query.approximate.iter().map(|column| compare_cells(&a[*column], &b[*column])).find(|order| order.is_ne());
    exact(a).cmp(&exact(b)).then_with(|| approximate().unwrap_or(Ordering::Equal))
}

fn same_cell(query: &Query, column: usize, our: &str, their: &str) -> bool {
    if our == their {
        return true;
    }
    if !query.approximate.contains(&column) {
        return false;
    }
    match (our.parse::<f64>(), their.parse::<f64>()) {
        (Ok(our), Ok(their)) => (our - their).abs() <= APPROXIMATE_ABSOLUTE.max(APPROXIMATE_RELATIVE * their.abs()),
        _ => false,
    }
}

/// Whether each row stands where ORDER BY allows. Strings compare by byte: the keys are words of one case.
fn in_order(query: &Query, rows: &[Vec<String>]) -> Result<(), String> {
    for (index, pair) in rows.windows(2).enumerate() {
        let order = query.sort.iter().map(|(column, direction)| {
            let order = compare_cells(&pair[0][*column], &pair[1][*column]);
            if *direction == Direction::Down { order.reverse() } else { order }
        });
        if order.into_iter().find(|order| order.is_ne()) == Some(Ordering::Greater) {
            return Err(format!("row {} comes before row {} against ORDER BY: {}", index + 1, index + 2, pair[0].join("|")));
        }
    }
    Ok(())
}

fn compare_cells(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => a.cmp(b),
    }
}

/// FNV-1a: simple enough to be the same in the script that makes the references.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
