//! Is what a transaction read, or locked, still as it was?

use std::collections::BTreeSet;

use quire_types::{Catalog, Commit, Lsn, Outcome, RowId, TableId, TableRead};

use crate::State;

impl State {
    /// What stands against the reads and locks of a commit.
    pub(crate) fn reads_objection(&self, commit: &Commit, catalog: &Catalog) -> Option<Outcome> {
        let mut seen = BTreeSet::new();
        commit.reads.iter().find_map(|read| {
            if !seen.insert(read.table) {
                return Some(Outcome::Refused(format!("table {} is read twice", read.table)));
            }
            malformed(read).or_else(|| self.read_objection(commit.snapshot, read, catalog))
        })
    }

    fn read_objection(&self, snapshot: Lsn, read: &TableRead, catalog: &Catalog) -> Option<Outcome> {
        let table = read.table;
        let Some(rows) = self.view().tables.get(&table) else {
            // A table that this commit creates has no past; any other was dropped.
            return (!catalog.tables.contains_key(&table)).then_some(Outcome::SchemaConflict { table });
        };
        match self.view().catalog.tables.get(&table) {
            Some(def) if def.version == read.version => {}
            _ => return Some(Outcome::SchemaConflict { table }),
        }
        if read.whole && self.table_lsns(table).write > snapshot {
            return Some(Outcome::ReadConflict { table });
        }
        let named = || read.rows.iter().chain(&read.locked).chain(&read.shared);
        if let Some(row) = named().find(|row| **row >= rows.next_row_id) {
            return Some(Outcome::Refused(format!("row {row} of table {table} does not exist")));
        }
        if read.rows.iter().any(|row| self.is_gone(table, rows, *row)) {
            return Some(Outcome::ReadConflict { table });
        }
        if let Some(row) = read.locked.iter().chain(&read.shared).find(|row| self.is_gone(table, rows, **row)) {
            return Some(Outcome::RowConflict { table, row: *row });
        }
        if named().next().is_some() && snapshot < self.table_lsns(table).purged {
            return Some(Outcome::SnapshotTooOld);
        }
        self.absence_objection(snapshot, read)
            .or_else(|| self.lock_objection(snapshot, table, &read.locked, true))
            .or_else(|| self.lock_objection(snapshot, table, &read.shared, false))
    }

    /// Keys that were not there must not have been inserted since.
    fn absence_objection(&self, snapshot: Lsn, read: &TableRead) -> Option<Outcome> {
        let table = read.table;
        let lsns = self.table_lsns(table);
        if read.absent.is_empty() || lsns.insert <= snapshot {
            return None;
        }
        if lsns.all_keys > snapshot {
            return Some(Outcome::ReadConflict { table });
        }
        if snapshot < self.window.floor() {
            return Some(Outcome::SnapshotTooOld);
        }
        let inserted =
            |key: &quire_types::KeyAssert| self.window.claimed_at(&(table, key.constraint, key.hash)).is_some_and(|lsn| lsn > snapshot);
        read.absent.iter().any(inserted).then_some(Outcome::ReadConflict { table })
    }

    /// Rows that another commit has locked since: by anyone when `against_shared`, else FOR UPDATE.
    pub(crate) fn lock_objection(&self, snapshot: Lsn, table: TableId, rows: &[RowId], against_shared: bool) -> Option<Outcome> {
        if rows.is_empty() || self.table_lsns(table).locks <= snapshot {
            return None;
        }
        if snapshot < self.locks.floor() {
            return Some(Outcome::SnapshotTooOld);
        }
        let since = |row: RowId, shared: bool| self.locks.claimed_at(&(table, row, shared)).is_some_and(|lsn| lsn > snapshot);
        let row = rows.iter().find(|row| since(**row, false) || against_shared && since(**row, true))?;
        Some(Outcome::RowConflict { table, row: *row })
    }
}

/// What makes a read contradict itself.
fn malformed(read: &TableRead) -> Option<Outcome> {
    let ascending = [&read.rows, &read.locked, &read.shared].iter().all(|rows| rows.is_sorted_by(|a, b| a < b));
    (!ascending).then(|| Outcome::Refused(format!("table {}: rows that were read are not ascending", read.table)))
}
