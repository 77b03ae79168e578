//! Seals and compactions: the same rows under the same ids, stored elsewhere. Readers of any later view see what they would have seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use quire_types::{Change, Compact, Lsn, Outcome, RowId, RowIds, RowSet, Seal, SegmentMeta, TableId, TableView};

use crate::record::Record;
use crate::state::{Applied, State};

impl State {
    pub(crate) fn apply_seal(&mut self, seal: Seal) -> Applied {
        match self.view.tables.get(&seal.table) {
            Some(rows) if can_seal(rows, &seal) => {}
            _ => return stale(),
        }
        let first = Change::DeltaSealed { table: seal.table, first: seal.first, end: seal.end };
        self.rewrite(seal.table, vec![first], seal.segments, seal.dropped)
    }

    pub(crate) fn apply_compact(&mut self, compact: Compact) -> Applied {
        match self.view.tables.get(&compact.table) {
            Some(rows) if can_compact(rows, &compact) => {}
            _ => return stale(),
        }
        let table = compact.table;
        let removed = compact.inputs.into_iter().map(|segment| Change::SegmentRemoved { table, segment }).collect();
        self.rewrite(table, removed, compact.outputs, compact.dropped)
    }

    fn rewrite(&mut self, table: TableId, mut changes: Vec<Change>, segments: Vec<SegmentMeta>, dropped: RowSet) -> Applied {
        let lsn = Lsn(self.view.lsn.0 + 1);
        changes.extend(segments.into_iter().map(|s| Change::SegmentAdded(Arc::new(s))));
        let mut records = vec![];
        if !dropped.is_empty() {
            changes.push(Change::RowsPurged { table, rows: dropped.clone() });
            let forgotten = self.purged.remember(lsn, table, dropped.clone());
            if forgotten.iter().all(|(at, _)| *at != lsn) {
                records.push(Record::Purged { lsn, table, rows: dropped });
            }
            if let Some((through, _)) = forgotten.last() {
                records.push(Record::PurgedTrimmed { through: *through });
            }
            records.extend(forgotten.into_iter().filter_map(|(at, table)| self.forget_purged(table, at)));
        }
        self.view.apply(lsn, &changes);
        records.push(self.position());
        Applied { outcome: Outcome::Committed(lsn), changes, records, delta: vec![] }
    }
}

fn stale() -> Applied {
    Applied { outcome: Outcome::Stale, changes: vec![], records: vec![], delta: vec![] }
}

/// The range must be whole delta batches, and the segments must hold just their rows but the dropped ones, which must have been deleted.
fn can_seal(rows: &TableView, seal: &Seal) -> bool {
    let (mut next, mut stored) = (seal.first, 0);
    let mut starts = false;
    for batch in rows.delta.within(seal.first, seal.end) {
        starts |= batch.first == seal.first;
        next = RowId(batch.first.0 + batch.rows);
        stored += batch.rows;
    }
    let inside = |first: RowId, last: RowId| first >= seal.first && last < seal.end;
    starts
        && next == seal.end
        && are_outputs(seal.table, &seal.segments)
        && seal.segments.iter().all(|s| inside(s.row_id_min, s.row_id_max))
        && accounts_for(stored, &seal.segments, &seal.dropped)
        && rows.deleted.is_superset(&seal.dropped)
        && seal.dropped.len() == seal.dropped.iter_from(seal.first).take_while(|row| *row < seal.end).count() as u64
}

/// The inputs must be there, and the outputs must hold just their rows but the dropped ones, which must have been deleted.
fn can_compact(rows: &TableView, compact: &Compact) -> bool {
    let inputs: BTreeSet<_> = compact.inputs.iter().copied().collect();
    let found: Vec<&Arc<SegmentMeta>> = rows.segments.iter().filter(|s| inputs.contains(&s.id)).collect();
    let stored = found.iter().map(|s| s.rows).sum();
    let within = |first: RowId, last: RowId| found.iter().any(|s| s.row_id_min <= first) && found.iter().any(|s| last <= s.row_id_max);
    !inputs.is_empty()
        && inputs.len() == compact.inputs.len()
        && found.len() == inputs.len()
        && are_outputs(compact.table, &compact.outputs)
        && compact.outputs.iter().all(|s| within(s.row_id_min, s.row_id_max))
        && accounts_for(stored, &compact.outputs, &compact.dropped)
        && rows.deleted.is_superset(&compact.dropped)
}

/// Segments that a rewrite may bring: rows of this table, with their ids in the hidden column.
fn are_outputs(table: TableId, segments: &[SegmentMeta]) -> bool {
    segments.iter().all(|s| s.table == table && s.row_ids == RowIds::Column && s.rows > 0)
}

fn accounts_for(stored: u64, segments: &[SegmentMeta], dropped: &RowSet) -> bool {
    segments.iter().try_fold(dropped.len(), |sum, s| sum.checked_add(s.rows)) == Some(stored)
}
