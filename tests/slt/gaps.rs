//! What Quire is known to do otherwise than PostgreSQL, record by record, in `known_gaps.txt`.
//!
//! The .slt files say what PostgreSQL answers. A record that differs and is not in the list fails the test, and so does one that is in the
//! list and differs no more: the list can only become shorter by being right. A line is `file:line` for both protocols or
//! `file:line simple`; one that begins with `?` may differ or not (its rows come in no order, or its message lists names in none).
//! `QUIRE_SLT_GAPS=FILE` appends what differs to a file instead, to begin a new list.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// The differences that are not known, and the known ones that are gone. `lines` and `differences` belong together.
pub(super) fn compare(
    directory: &Path,
    name: &str,
    protocol: &str,
    lines: &[u32],
    differences: Vec<String>,
) -> Result<(Vec<String>, Vec<String>)> {
    if let Some(path) = std::env::var_os("QUIRE_SLT_GAPS") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        for line in lines {
            writeln!(file, "{name}:{line} {protocol}")?;
        }
        return Ok((vec![], vec![]));
    }
    let path = directory.join("known_gaps.txt");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut known: BTreeMap<u32, bool> = BTreeMap::new();
    for entry in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (optional, entry) = entry.strip_prefix('?').map_or((false, entry), |e| (true, e));
        let (place, only) = entry.split_once(' ').map_or((entry, None), |(place, only)| (place, Some(only)));
        let (file, line) = place.split_once(':').with_context(|| format!("{entry:?} is not file:line"))?;
        if file == name && only.is_none_or(|only| only == protocol) {
            known.insert(line.parse()?, optional);
        }
    }
    let healed = known.iter().filter(|(line, optional)| !**optional && !lines.contains(line)).map(|(line, _)| format!("{name}:{line}"));
    let healed = healed.collect();
    // The last difference may say that the connection was lost: that is never known.
    let unknown = differences.into_iter().enumerate().filter(|(i, _)| lines.get(*i).is_none_or(|line| !known.contains_key(line)));
    Ok((unknown.map(|(_, difference)| difference).collect(), healed))
}
