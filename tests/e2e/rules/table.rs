//! Answers as they are compared.

use quire_tests::pg::Answer;

/// OIDs of the types whose values may be written in more than one way.
const FLOATS: [u32; 2] = [700, 701];
const NUMERIC: u32 = 1700;

/// Allowed in a sum of floating-point numbers, which depends on their order.
const FLOAT_RELATIVE: f64 = 1e-9;

/// Differing values are shown up to here.
const SHOWN_CHARS: usize = 300;

/// The rows of an answer. They are sorted unless the query says their order.
#[derive(Clone, Debug)]
pub(super) struct Table {
    types: Vec<u32>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn of(answer: &Answer, ordered: bool) -> Table {
        let types = answer.columns.iter().flatten().map(|column| column.oid).collect();
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_string());
        Table::new(types, answer.rows.iter().map(|row| row.iter().map(text).collect()).collect(), ordered)
    }

    /// Rows from elsewhere, as an answer with columns of the same types.
    pub(super) fn like(&self, rows: &[Vec<String>], ordered: bool) -> Table {
        Table::new(self.types.clone(), rows.to_vec(), ordered)
    }

    fn new(types: Vec<u32>, mut rows: Vec<Vec<String>>, ordered: bool) -> Table {
        for row in &mut rows {
            for (value, of) in row.iter_mut().zip(&types) {
                // How many digits a quotient has is the server's affair, and so are zeros at its end.
                if *of == NUMERIC && value.contains('.') {
                    value.truncate(value.trim_end_matches('0').trim_end_matches('.').len());
                }
            }
        }
        if !ordered {
            rows.sort();
        }
        Table { types, rows }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How another answer differs from this one.
    pub(super) fn difference(&self, other: &Table) -> Option<String> {
        if self.types != other.types {
            return Some(format!("columns of types {:?}, not {:?}", other.types, self.types));
        }
        for (number, (expected, found)) in self.rows.iter().zip(&other.rows).enumerate() {
            if !self.same(expected, found) {
                return Some(format!("row {} is\n    {}\nand not\n    {}", number + 1, shown(found), shown(expected)));
            }
        }
        let (expected, found) = (self.rows.len(), other.rows.len());
        (expected != found).then(|| format!("{found} rows, not {expected}"))
    }

    fn same(&self, expected: &[String], found: &[String]) -> bool {
        let close = |(value, (expected, found)): (&u32, (&String, &String))| {
            expected == found || FLOATS.contains(value) && about_equal(expected, found)
        };
        expected.len() == found.len() && self.types.iter().zip(expected.iter().zip(found)).all(close)
    }
}

fn about_equal(expected: &str, found: &str) -> bool {
    match (expected.parse::<f64>(), found.parse::<f64>()) {
        (Ok(expected), Ok(found)) => (expected - found).abs() <= FLOAT_RELATIVE * expected.abs(),
        _ => false,
    }
}

fn shown(row: &[String]) -> String {
    row.join(" | ").chars().take(SHOWN_CHARS).collect()
}
