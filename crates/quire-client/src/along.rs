//! Delta rows that come along with snapshots: those of the latest small commits, which the reader of a snapshot wants next.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use quire_proto::v1;
use quire_types::{DeltaMeta, TableId};

/// Batches kept, the latest ones; what falls out is asked for when it is wanted.
const BATCHES_MAX: usize = 4096;

/// The rows, by table and first row id.
#[derive(Debug, Default)]
pub(crate) struct Along {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The log that they are of.
    log_id: String,
    rows: HashMap<(TableId, u64), Bytes>,
    /// Oldest first.
    order: VecDeque<(TableId, u64)>,
}

impl Along {
    /// Keeps what came with a snapshot of a log.
    pub(crate) fn keep(&self, log_id: &str, rows: Vec<v1::SnapshotRows>) {
        if rows.is_empty() {
            return;
        }
        let mut kept = self.kept.lock();
        if kept.log_id != log_id {
            *kept = Kept { log_id: log_id.to_string(), ..Kept::default() };
        }
        for batch in rows {
            let key = (TableId(batch.table), batch.first);
            if kept.rows.insert(key, batch.rows).is_none() {
                kept.order.push_back(key);
            }
        }
        while kept.order.len() > BATCHES_MAX {
            if let Some(oldest) = kept.order.pop_front() {
                kept.rows.remove(&oldest);
            }
        }
    }

    /// The rows of these batches, when all of them are here.
    pub(crate) fn all(&self, table: TableId, deltas: &[DeltaMeta]) -> Option<Vec<Bytes>> {
        let kept = self.kept.lock();
        deltas.iter().map(|delta| kept.rows.get(&(table, delta.first.0)).cloned()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use quire_types::{Lsn, RowId};

    use super::*;

    fn rows(table: u32, first: u64) -> v1::SnapshotRows {
        v1::SnapshotRows { table, first, rows: Bytes::from(first.to_be_bytes().to_vec()) }
    }

    fn delta(first: u64) -> DeltaMeta {
        DeltaMeta { first: RowId(first), rows: 1, bytes: 8, version: 1, lsn: Lsn(1) }
    }

    #[test]
    fn all_or_nothing_and_only_the_latest() {
        let along = Along::default();
        along.keep("a", vec![rows(1, 1), rows(1, 2), rows(2, 1)]);
        assert_eq!(along.all(TableId(1), &[delta(1), delta(2)]).unwrap(), [rows(1, 1).rows, rows(1, 2).rows]);
        assert_eq!(along.all(TableId(1), &[delta(1), delta(3)]), None);
        assert_eq!(along.all(TableId(3), &[delta(1)]), None);
        along.keep("a", (10..10 + BATCHES_MAX as u64).map(|first| rows(1, first)).collect());
        assert_eq!(along.all(TableId(1), &[delta(1)]), None);
        assert!(along.all(TableId(1), &[delta(10)]).is_some());
        along.keep("b", vec![rows(1, 1)]);
        assert_eq!(along.all(TableId(1), &[delta(10)]), None);
    }
}
