//! A measurement as JSON: what `load` and `run` write and `report` reads. `benches/peers.py` writes the same.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// One measurement of one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What the report calls this server.
    pub(crate) name: String,
    /// When it was made: seconds since 1970, UTC.
    pub(crate) at_unix_seconds: u64,
    /// Where the bench ran.
    pub(crate) machine: Machine,
    /// What the server says it is: `select version()`.
    pub(crate) server: String,
    /// The bench's own version.
    pub(crate) bench: String,
    /// The scale factor.
    pub(crate) scale: f64,
    /// The load, if this was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) load: Option<LoadRecord>,
    /// The queries, if this was a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<RunRecord>,
}

impl Record {
    pub(crate) fn new(name: String, server: String, scale: f64) -> Record {
        Record {
            name,
            at_unix_seconds: quire_kit::clock::wall().as_secs(),
            machine: Machine::this(),
            server,
            bench: format!("quire-bench {}", env!("CARGO_PKG_VERSION")),
            scale,
            load: None,
            run: None,
        }
    }

    /// Writes the record to a file.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The records in a file: one, or an array of them.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Record>> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum File {
            One(Box<Record>),
            Many(Vec<Record>),
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = serde_json::from_str(&text).with_context(|| format!("{} is not a report of this bench", path.display()))?;
        Ok(match file {
            File::One(record) => vec![*record],
            File::Many(records) => records,
        })
    }
}

/// How the load went.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LoadRecord {
    /// From the first row of the first table to the last acknowledgement.
    pub(crate) seconds: f64,
    /// ANALYZE of all tables, afterwards.
    pub(crate) analyze_seconds: f64,
    /// The data as it was sent.
    pub(crate) bytes: u64,
    /// All rows.
    pub(crate) rows: u64,
    /// Where the rows came from.
    pub(crate) source: String,
    /// Connections that loaded at once.
    pub(crate) connections: usize,
    /// In the order of loading.
    pub(crate) tables: Vec<TableRecord>,
}

/// How the load of one table went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TableRecord {
    pub(crate) table: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
}

/// How the queries went.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// Runs of each query that do not count, and that do.
    pub(crate) warmup: usize,
    pub(crate) repeats: usize,
    /// Sum of the medians of the queries that succeeded.
    pub(crate) sum_ms: f64,
    /// Geometric mean of the same.
    pub(crate) geomean_ms: f64,
    pub(crate) queries: Vec<QueryRecord>,
}

impl RunRecord {
    /// What the first executions moved in all; `None` when that was not asked for.
    pub(crate) fn first_moved(&self) -> Option<MovedRecord> {
        self.queries.iter().filter_map(|query| query.first_moved).reduce(MovedRecord::plus)
    }

    /// The same of all that followed them.
    pub(crate) fn later_moved(&self) -> Option<MovedRecord> {
        self.queries.iter().filter_map(|query| query.later_moved).reduce(MovedRecord::plus)
    }
}

/// How one query went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QueryRecord {
    pub(crate) query: u8,
    /// The very first execution, warm-up or not.
    pub(crate) first_ms: Option<f64>,
    /// Of the executions that count.
    pub(crate) median_ms: Option<f64>,
    /// The executions that count, in order.
    pub(crate) times_ms: Vec<f64>,
    /// Rows of the answer.
    pub(crate) rows: u64,
    /// What the very first execution moved, and all that followed it together; only where the server's metrics were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_moved: Option<MovedRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) later_moved: Option<MovedRecord>,
    pub(crate) answer: AnswerRecord,
    /// Why it failed, or what is wrong with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

/// What was moved for a query, by the counters of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MovedRecord {
    /// Encoded bytes of pages from storage nodes to compute nodes.
    pub(crate) storage_bytes: u64,
    /// Those pages.
    pub(crate) storage_pages: u64,
    /// Bytes from the object store to storage nodes, as far as their metrics were read.
    pub(crate) object_bytes: u64,
}

impl MovedRecord {
    fn plus(self, other: MovedRecord) -> MovedRecord {
        MovedRecord {
            storage_bytes: self.storage_bytes + other.storage_bytes,
            storage_pages: self.storage_pages + other.storage_pages,
            object_bytes: self.object_bytes + other.object_bytes,
        }
    }
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AnswerRecord {
    /// It equals the reference.
    Right,
    /// It differs from the reference.
    Wrong,
    /// There is no reference at this scale.
    Unchecked,
    /// The query failed or took too long.
    Failed,
}

impl AnswerRecord {
    pub(crate) fn word(self) -> &'static str {
        match self {
            AnswerRecord::Right => "right",
            AnswerRecord::Wrong => "wrong",
            AnswerRecord::Unchecked => "unchecked",
            AnswerRecord::Failed => "failed",
        }
    }
}

/// The middle one, or the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(times: &[f64]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
