//! Queries and answers in files, and FROM lists in another order.

use anyhow::{Context, Result, ensure};
use quire_tests::Random;

/// A query and what it is called.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) name: String,
    pub(super) sql: String,
}

impl Query {
    /// Whether it says the order of all rows. An ORDER BY that leaves ties is in small letters, as in the texts of TPC-H.
    pub(super) fn is_ordered(&self) -> bool {
        self.sql.lines().any(|line| line.starts_with("ORDER BY "))
    }
}

/// A file's parts, each below a line `-- name_of_the_part`. Other comments have several words and stand above the first.
fn parts(text: &str) -> Result<Vec<(String, Vec<&str>)>> {
    let mut parts: Vec<(String, Vec<&str>)> = vec![];
    for line in text.lines() {
        let name = line.strip_prefix("-- ").filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        if let Some(name) = name {
            parts.push((name.to_string(), vec![]));
        } else if let Some((_, lines)) = parts.last_mut() {
            lines.push(line);
        } else {
            ensure!(line.is_empty() || line.starts_with("-- "), "before the first name: {line}");
        }
    }
    Ok(parts)
}

/// The queries of a file, each with a `;` at its end.
pub(super) fn queries(text: &str) -> Result<Vec<Query>> {
    let query = |(name, lines): (String, Vec<&str>)| {
        let text = lines.join("\n");
        let sql = text.trim().strip_suffix(';').with_context(|| format!("{name} does not end with ;"))?.to_string();
        ensure!(!sql.contains(';'), "{name} is more than one statement");
        Ok(Query { name, sql })
    };
    parts(text)?.into_iter().map(query).collect()
}

/// Each query's rows, as `psql -A -t -F ' | ' -P null=NULL` prints them.
pub(super) fn golden(text: &str) -> Result<Vec<(String, Vec<Vec<String>>)>> {
    let row = |line: &str| line.split(" | ").map(str::to_string).collect();
    Ok(parts(text)?.into_iter().map(|(name, lines)| (name, lines.into_iter().map(row).collect())).collect())
}

/// The statements of a script.
pub(super) fn statements(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
    lines.join("\n").split(';').map(|statement| statement.trim().to_string()).filter(|statement| !statement.is_empty()).collect()
}

/// The query with the items of each FROM list in another order.
pub(super) fn shuffled(sql: &str, random: &mut Random) -> String {
    let mut sql = sql.to_string();
    let count = marks(&sql).iter().filter(|mark| mark.is("from")).count();
    // The last first: lists within an item are in order before it moves.
    for number in (0..count).rev() {
        let (start, mut items) = list(&sql, number);
        let end = start + items.iter().map(|item| item.len() + 1).sum::<usize>() - 1;
        // The blanks around the list stay where they are.
        let blanks = |text: &str| (text.len() - text.trim_start().len(), text.len() - text.trim_end().len());
        let (before, after) = blanks(&sql[start..end]);
        let (start, end) = (start + before, end - after);
        for i in (1..items.len()).rev() {
            items.swap(i, random.between(0, i as u64) as usize);
        }
        let items: Vec<&str> = items.iter().map(|item| item.trim()).collect();
        if items.len() > 1 {
            sql.replace_range(start..end, &items.join(", "));
        }
    }
    sql
}

/// A word, a comma or a closing parenthesis outside of quotes, and how many parentheses are open around it.
#[derive(Debug)]
struct Mark {
    at: usize,
    depth: usize,
    text: String,
}

impl Mark {
    fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }
}

fn is_part_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn marks(sql: &str) -> Vec<Mark> {
    let bytes = sql.as_bytes();
    let (mut marks, mut depth, mut quoted, mut at) = (vec![], 0_usize, false, 0);
    while at < bytes.len() {
        let mut length = 1;
        match bytes[at] {
            b'\'' => quoted = !quoted,
            _ if quoted => {}
            b'(' => depth += 1,
            b')' => {
                depth = depth.saturating_sub(1);
                marks.push(Mark { at, depth, text: ")".to_string() });
            }
            b',' => marks.push(Mark { at, depth, text: ",".to_string() }),
            _ => {
                length = bytes[at..].iter().take_while(|byte| is_part_of_word(**byte)).count().max(1);
                if length > 1 {
                    marks.push(Mark { at, depth, text: sql[at..at + length].to_string() });
                }
            }
        }
        at += length;
    }
    marks
}

/// Where the list of a FROM begins, and its items with the blanks around them. What follows FROM in `extract` is a list of one.
fn list(sql: &str, number: usize) -> (usize, Vec<String>) {
    let marks = marks(sql);
    let (place, from) =
        marks.iter().enumerate().filter(|(_, mark)| mark.is("from")).nth(number).expect("there are as many as were counted");
    let start = from.at + from.text.len();
    let ends = ["where", "group", "order", "having", "limit", "union", "intersect", "except"];
    let (mut items, mut begin, mut end) = (vec![], start, sql.len());
    for mark in &marks[place + 1..] {
        if mark.depth < from.depth || (mark.depth == from.depth && ends.iter().any(|word| mark.is(word))) {
            end = mark.at;
            break;
        }
        if mark.depth == from.depth && mark.is(",") {
            items.push(sql[begin..mark.at].to_string());
            begin = mark.at + 1;
        }
    }
    items.push(sql[begin..end].to_string());
    (start, items)
}

#[test]
fn lists_are_shuffled_within_themselves() {
    let sql =
        "SELECT extract(year FROM d), ',from' FROM a, (SELECT x FROM b b1, c WHERE y IN (1, 2)) AS s, e LEFT JOIN f ON (g = h)\nWHERE i, j";
    let letters = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    let mut random = Random::new(1, 0);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let other = shuffled(sql, &mut random);
        assert!(other.starts_with("SELECT extract(year FROM d), ',from' FROM ") && other.ends_with("\nWHERE i, j"), "{other}");
        assert!(other.contains("e LEFT JOIN f ON (g = h)") && other.contains(" WHERE y IN (1, 2)) AS s"), "{other}");
        assert_eq!(letters(&other), letters(sql), "{other}");
        seen.insert(other);
    }
    // three items, and two within one of them
    assert_eq!(seen.len(), 12);
}
