//! Rows that were deleted and have left their segments since.
//!
//! A delete set names only rows that are still stored, so it cannot tell a transaction with an older snapshot that the row it
//! deletes is gone. The latest purged rows are remembered for that.

use std::collections::{BTreeMap, VecDeque};

use quire_types::{Lsn, RowSet, TableId};

/// Purged rows remembered, of all tables together: of a thousand updates a second those of an hour. In a bitmap they take 8 bytes each at worst.
pub(crate) const PURGED_MAX: u64 = 4_000_000;

/// Which rows were purged lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Purged {
    rows: BTreeMap<TableId, RowSet>,
    /// The same in log order, for forgetting.
    order: VecDeque<(Lsn, TableId, RowSet)>,
    count: u64,
}

impl Purged {
    /// True when the row was purged and that is remembered.
    pub(crate) fn contains(&self, table: TableId, row: quire_types::RowId) -> bool {
        self.rows.get(&table).is_some_and(|rows| rows.contains(row))
    }

    /// What is remembered, in log order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Lsn, TableId, RowSet)> {
        self.order.iter()
    }

    /// Remembers rows; those that are forgotten for it: when and of which table.
    pub(crate) fn remember(&mut self, lsn: Lsn, table: TableId, rows: RowSet) -> Vec<(Lsn, TableId)> {
        assert!(self.order.back().is_none_or(|(last, ..)| *last < lsn), "rows are purged in log order");
        self.count += rows.len();
        self.rows.entry(table).or_default().add(&rows);
        self.order.push_back((lsn, table, rows));
        let mut forgotten = vec![];
        while self.count > PURGED_MAX {
            let Some((lsn, table, rows)) = self.order.pop_front() else { break };
            self.count -= rows.len();
            if let Some(kept) = self.rows.get_mut(&table) {
                kept.remove(&rows);
                if kept.is_empty() {
                    self.rows.remove(&table);
                }
            }
            forgotten.push((lsn, table));
        }
        forgotten
    }
}
