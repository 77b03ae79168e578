use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use quire_types::{
    CatalogChange, Change, Commit, DeltaMeta, LogEntry, Lsn, Outcome, RowId, RowIds, Seal, SegmentMeta, TableId, TableWrite, TxnId, View,
};

use crate::record::{Record, TableLsns};
use crate::window::{Window, claim, read_claim};

/// Outcomes remembered: a client asks again for 30 seconds at most, and one log does not commit 25,000 times a second for that long.
const OUTCOMES_MAX: usize = 750_000;

/// Everything that decisions depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    view: View,
    lsns: BTreeMap<TableId, TableLsns>,
    pub(crate) window: Window,
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
    /// Rows for the delta: table, first row id, Arrow IPC stream.
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
        let mut keys = Vec::new();
        let mut outcomes = BTreeMap::new();
        let mut floor = Lsn(0);
        for record in records {
            match record {
                Record::Position { lsn: at, next_outcome, window_floor } => {
                    lsn = at;
                    state.next_outcome = next_outcome;
                    floor = window_floor;
                }
                Record::Outcome { number, txn_id, outcome } => {
                    outcomes.insert(number, (txn_id, outcome));
                }
                Record::Keys { lsn, keys: claimed } => keys.push((lsn, claimed)),
                Record::Table { table, lsns } => {
                    state.lsns.insert(table, lsns);
                }
                Record::OutcomesTrimmed { .. } | Record::KeysTrimmed { .. } | Record::TableGone(_) => {}
            }
        }
        state.view.apply(lsn, changes);
        state.window = Window::with_floor(floor);
        keys.sort_by_key(|(lsn, _)| *lsn);
        for (lsn, claimed) in keys {
            let forgotten = state.window.claim(lsn, claimed);
            assert!(forgotten.is_none(), "what was written down fits the window");
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

    /// Everything but the view, as records for [`State::load`].
    pub fn dump_records(&self) -> Vec<Record> {
        let first = self.next_outcome - self.outcome_order.len() as u64;
        let outcomes = self.outcome_order.iter().enumerate().filter_map(|(i, txn_id)| {
            let outcome = self.outcomes.get(txn_id)?.clone();
            Some(Record::Outcome { number: first + i as u64, txn_id: *txn_id, outcome })
        });
        let keys = self.window.claims().map(|(lsn, keys)| Record::Keys { lsn, keys: keys.to_vec() });
        let tables = self.lsns.iter().map(|(table, lsns)| Record::Table { table: *table, lsns: *lsns });
        std::iter::once(self.position()).chain(outcomes).chain(keys).chain(tables).collect()
    }

    fn position(&self) -> Record {
        Record::Position { lsn: self.view.lsn, next_outcome: self.next_outcome, window_floor: self.window.floor() }
    }

    /// Decides what the next entry does, and does it.
    pub fn apply(&mut self, entry: LogEntry) -> Applied {
        match entry {
            LogEntry::Commit(commit) => self.apply_commit(commit),
            LogEntry::Seal(seal) => self.apply_seal(seal),
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
        out
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

    fn apply_seal(&mut self, seal: Seal) -> Applied {
        if !self.can_seal(&seal) {
            return Applied { outcome: Outcome::Stale, changes: vec![], records: vec![], delta: vec![] };
        }
        let lsn = Lsn(self.view.lsn.0 + 1);
        let mut changes = vec![Change::DeltaSealed { table: seal.table, first: seal.first, end: seal.end }];
        changes.extend(seal.segments.into_iter().map(|s| Change::SegmentAdded(Arc::new(s))));
        self.view.apply(lsn, &changes);
        Applied { outcome: Outcome::Committed(lsn), changes, records: vec![self.position()], delta: vec![] }
    }

    /// The range must be whole delta batches without a gap, and the segments must hold just their rows.
    fn can_seal(&self, seal: &Seal) -> bool {
        let Some(rows) = self.view.tables.get(&seal.table) else { return false };
        let mut next = seal.first;
        for batch in rows.delta.iter().filter(|d| d.first >= seal.first && d.first < seal.end) {
            if batch.first < next {
                return false;
            }
            next = RowId(batch.first.0 + batch.rows);
        }
        let starts = rows.delta.iter().any(|d| d.first == seal.first);
        let inside = |s: &SegmentMeta| {
            s.table == seal.table && s.row_ids == RowIds::Column && (s.rows == 0 || s.row_id_min >= seal.first && s.row_id_max < seal.end)
        };
        starts && next == seal.end && seal.segments.iter().all(inside)
    }
}
