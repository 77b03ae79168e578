use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use quire_types::{
    CatalogChange, Change, Commit, DeltaMeta, LogEntry, Lsn, Outcome, RowId, RowIds, SegmentMeta, TableId, TableRead, TableWrite, TxnId,
    View,
};

use crate::purged::Purged;
use crate::record::{Record, TableLsns};
use crate::window::{Key, Lock, Window, claim, read_claim};

/// Outcomes remembered: a client asks again for 30 seconds at most, and one log does not commit 25,000 times a second for that long.
const OUTCOMES_MAX: usize = 750_000;

/// Everything that decisions depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub(crate) view: View,
    lsns: BTreeMap<TableId, TableLsns>,
    pub(crate) window: Window<Key>,
    pub(crate) locks: Window<Lock>,
    pub(crate) purged: Purged,
    outcomes: HashMap<TxnId, Outcome>,
    /// Transactions by age, oldest first; the first has number `next_outcome - len`.
    outcome_order: VecDeque<TxnId>,
    next_outcome: u64,
}

/// What applying an entry did: to be written down all together or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// What the proposer is told.
    pub outcome: Outcome,
    /// What happened to the view, at the outcome's LSN. Empty unless something was committed.
    pub changes: Vec<Change>,
    /// What else must survive a restart.
    pub records: Vec<Record>,
    /// Rows for the delta: table, first row id, encoded rows.
    pub delta: Vec<(TableId, RowId, Bytes)>,
}

impl State {
    /// The state before the first entry.
    pub fn new() -> State {
        State::default()
    }

    /// The state that wrote `changes` (a view's dump) and `records`.
    pub fn load(changes: &[Change], records: impl IntoIterator<Item = Record>) -> State {
        let mut state = State::default();
        let mut lsn = Lsn(0);
        let (mut keys, mut locks) = (Vec::new(), Vec::new());
        let mut purged = BTreeMap::new();
        let mut outcomes = BTreeMap::new();
        let mut floors = (Lsn(0), Lsn(0));
        for record in records {
            match record {
                Record::Position { lsn: at, next_outcome, window_floor, locks_floor } => {
                    lsn = at;
                    state.next_outcome = next_outcome;
                    floors = (window_floor, locks_floor);
                }
                Record::Outcome { number, txn_id, outcome } => {
                    outcomes.insert(number, (txn_id, outcome));
                }
                Record::Keys { lsn, keys: claimed } => keys.push((lsn, claimed)),
                Record::Locks { lsn, locks: locked } => locks.push((lsn, locked)),
                Record::Purged { lsn, table, rows } => {
                    purged.insert(lsn, (table, rows));
                }
                Record::Table { table, lsns } => {
                    state.lsns.insert(table, lsns);
                }
                Record::OutcomesTrimmed { .. }
                | Record::KeysTrimmed { .. }
                | Record::LocksTrimmed { .. }
                | Record::PurgedTrimmed { .. }
                | Record::TableGone(_) => {}
            }
        }
        state.view.apply(lsn, changes);
        state.window = loaded(floors.0, keys);
        state.locks = loaded(floors.1, locks);
        for (lsn, (table, rows)) in purged {
            let forgotten = state.purged.remember(lsn, table, rows);
            assert!(forgotten.is_empty(), "what was written down is remembered");
        }
        for (txn_id, outcome) in outcomes.into_values() {
            state.outcome_order.push_back(txn_id);
            state.outcomes.insert(txn_id, outcome);
        }
        state
    }

    /// What readers see.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The outcome of a transaction, while it is remembered.
    pub fn outcome(&self, txn_id: TxnId) -> Option<&Outcome> {
        self.outcomes.get(&txn_id)
    }

    pub(crate) fn table_lsns(&self, table: TableId) -> TableLsns {
        self.lsns.get(&table).copied().unwrap_or_default()
    }

    /// Rows of the table that were purged at or before `lsn` are forgotten now.
    pub(crate) fn forget_purged(&mut self, table: TableId, lsn: Lsn) -> Option<Record> {
        // A table that is gone asks for nothing.
        self.view.tables.get(&table)?;
        let lsns = self.lsns.entry(table).or_default();
        lsns.purged = lsn;
        Some(Record::Table { table, lsns: *lsns })
    }

    /// Everything but the view, as records for [`State::load`].
    pub fn dump_records(&self) -> Vec<Record> {
        let first = self.next_outcome - self.outcome_order.len() as u64;
        let outcomes = self.outcome_order.iter().enumerate().filter_map(|(i, txn_id)| {
            let outcome = self.outcomes.get(txn_id)?.clone();
            Some(Record::Outcome { number: first + i as u64, txn_id: *txn_id, outcome })
        });
        let keys = self.window.claims().map(|(lsn, keys)| Record::Keys { lsn, keys: keys.to_vec() });
        let locks = self.locks.claims().map(|(lsn, locks)| Record::Locks { lsn, locks: locks.to_vec() });
        let tables = self.lsns.iter().map(|(table, lsns)| Record::Table { table: *table, lsns: *lsns });
        let purged = self.purged.iter().map(|(lsn, table, rows)| Record::Purged { lsn: *lsn, table: *table, rows: rows.clone() });
        std::iter::once(self.position()).chain(outcomes).chain(keys).chain(locks).chain(tables).chain(purged).collect()
    }

    pub(crate) fn position(&self) -> Record {
        Record::Position {
            lsn: self.view.lsn,
            next_outcome: self.next_outcome,
            window_floor: self.window.floor(),
            locks_floor: self.locks.floor(),
        }
    }

    /// Decides what the next entry does, and does it.
    pub fn apply(&mut self, entry: LogEntry) -> Applied {
        match entry {
            LogEntry::Commit(commit) => self.apply_commit(commit),
            LogEntry::Seal(seal) => self.apply_seal(seal),
            LogEntry::Compact(compact) => self.apply_compact(compact),
        }
    }

    fn apply_commit(&mut self, commit: Commit) -> Applied {
        if let Some(first) = self.outcomes.get(&commit.txn_id) {
            // A retry gets the first answer, never a second effect.
            return Applied { outcome: first.clone(), changes: vec![], records: vec![], delta: vec![] };
        }
        let txn_id = commit.txn_id;
        let mut applied = match self.objection(&commit) {
            Some(outcome) => Applied { outcome, changes: vec![], records: vec![], delta: vec![] },
            None => self.commit(commit),
        };
        self.remember(txn_id, &applied.outcome, &mut applied.records);
        applied.records.push(self.position());
        applied
    }

    fn commit(&mut self, commit: Commit) -> Applied {
        let lsn = Lsn(self.view.lsn.0 + 1);
        let mut out = Applied { outcome: Outcome::Committed(lsn), changes: vec![], records: vec![], delta: vec![] };
        for change in &commit.catalog {
            out.changes.push(Change::Catalog(change.clone()));
            if let CatalogChange::DropTable { id, .. } = change
                && self.lsns.remove(id).is_some()
            {
                out.records.push(Record::TableGone(*id));
            }
        }
        // Row ids and versions below are those after the catalog changes.
        self.view.apply(lsn, &out.changes);
        let mut claimed = vec![];
        for write in commit.writes {
            claimed.extend(write.keys.iter().map(|key| claim(write.table, key)));
            claimed.extend(write.key_reads.iter().map(|key| read_claim(write.table, key)));
            let first_new = out.changes.len();
            self.write(lsn, write, &mut out);
            self.view.apply(lsn, &out.changes[first_new..]);
        }
        if !claimed.is_empty() {
            if let Some(through) = self.window.claim(lsn, claimed.clone()) {
                out.records.push(Record::KeysTrimmed { through });
            }
            out.records.push(Record::Keys { lsn, keys: claimed });
        }
        self.lock(lsn, &commit.reads, &mut out);
        out
    }

    /// Remembers the rows that the commit had locked.
    fn lock(&mut self, lsn: Lsn, reads: &[TableRead], out: &mut Applied) {
        let mut locks = vec![];
        for read in reads.iter().filter(|read| !read.locked.is_empty() || !read.shared.is_empty()) {
            locks.extend(read.locked.iter().map(|row| (read.table, *row, false)));
            locks.extend(read.shared.iter().map(|row| (read.table, *row, true)));
            // The commit may have dropped the table.
            if self.view.tables.contains_key(&read.table) {
                let lsns = self.lsns.entry(read.table).or_default();
                lsns.locks = lsn;
                out.records.push(Record::Table { table: read.table, lsns: *lsns });
            }
        }
        if locks.is_empty() {
            return;
        }
        if let Some(through) = self.locks.claim(lsn, locks.clone()) {
            out.records.push(Record::LocksTrimmed { through });
        }
        out.records.push(Record::Locks { lsn, locks });
    }

    fn write(&mut self, lsn: Lsn, write: TableWrite, out: &mut Applied) {
        let table = write.table;
        let rows = self.view.tables.get(&table).cloned().unwrap_or_default();
        let mut next = rows.next_row_id;
        let inserts = write.row_count > 0 || !write.segments.is_empty();
        if write.truncate {
            out.changes.push(Change::Truncated(table));
            if let Some(def) = self.view.catalog.tables.get(&table) {
                // Whoever planned a write before the truncation must plan it again.
                let mut def = def.as_ref().clone();
                def.version += 1;
                out.changes.push(Change::Catalog(CatalogChange::ReplaceTable(def)));
            }
        }
        if write.row_count > 0 {
            let delta = DeltaMeta { first: next, rows: write.row_count, bytes: write.rows.len() as u64, version: write.version, lsn };
            out.changes.push(Change::DeltaAdded { table, delta });
            out.delta.push((table, next, write.rows));
            next = RowId(next.0 + write.row_count);
        }
        let first_of_segments = next;
        for segment in write.segments {
            let segment = SegmentMeta {
                row_ids: RowIds::Base(next),
                row_id_min: next,
                row_id_max: RowId(next.0 + segment.rows.saturating_sub(1)),
                ..segment
            };
            next = RowId(next.0 + segment.rows);
            out.changes.push(Change::SegmentAdded(Arc::new(segment)));
        }
        if next != rows.next_row_id {
            out.changes.push(Change::RowLimit { table, next });
        }
        let mut deleted = write.deletes;
        // Older rows have smaller ids: the list stays ascending.
        deleted.extend(write.segment_deletes.into_iter().map(|position| RowId(first_of_segments.0 + position)));
        let deletes = !deleted.is_empty();
        if deletes {
            out.changes.push(Change::RowsDeleted { table, rows: deleted });
        }
        let changes_rows = write.truncate || inserts || deletes;
        let lsns = self.lsns.entry(table).or_default();
        if changes_rows {
            lsns.write = lsn;
        }
        if write.all_key_reads {
            lsns.all_key_reads = lsn;
        }
        if write.all_key_reads || !write.key_reads.is_empty() {
            lsns.key_read = lsn;
        }
        if inserts {
            lsns.insert = lsn;
        }
        if write.all_keys {
            lsns.all_keys = lsn;
        }
        out.records.push(Record::Table { table, lsns: *lsns });
    }

    fn remember(&mut self, txn_id: TxnId, outcome: &Outcome, records: &mut Vec<Record>) {
        records.push(Record::Outcome { number: self.next_outcome, txn_id, outcome: outcome.clone() });
        self.next_outcome += 1;
        self.outcomes.insert(txn_id, outcome.clone());
        self.outcome_order.push_back(txn_id);
        if self.outcome_order.len() > OUTCOMES_MAX {
            // In blocks, so that forgetting is one range deletion for many commits.
            for txn_id in self.outcome_order.drain(..OUTCOMES_MAX / 10) {
                self.outcomes.remove(&txn_id);
            }
            records.push(Record::OutcomesTrimmed { below: self.next_outcome - self.outcome_order.len() as u64 });
        }
    }
}

/// A window as it was written down.
fn loaded<K: Copy + Eq + std::hash::Hash>(floor: Lsn, mut claims: Vec<(Lsn, Vec<K>)>) -> Window<K> {
    let mut window = Window::with_floor(floor);
    claims.sort_by_key(|(lsn, _)| *lsn);
    for (lsn, claimed) in claims {
        let forgotten = window.claim(lsn, claimed);
        assert!(forgotten.is_none(), "what was written down fits the window");
    }
    window
}
