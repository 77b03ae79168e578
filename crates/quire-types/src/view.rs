use std::sync::Arc;

use imbl::OrdMap;

use crate::{Catalog, CatalogChange, Delta, DeltaMeta, Lsn, RowId, RowSet, SegmentId, SegmentMeta, TableId};

/// What a log entry did, in the order it did it: the unit that a state machine persists and that a compute
/// node is told. Applying the same changes to the same [`View`] gives the same view everywhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The catalog changed. A created table begins empty; a dropped one takes its rows along.
    Catalog(CatalogChange),
    /// All rows of the table went; ids go on from where they were.
    Truncated(TableId),
    /// Committed rows that are in no segment yet.
    DeltaAdded {
        /// The table.
        table: TableId,
        /// The batch.
        delta: DeltaMeta,
    },
    /// Delta batches with `first <= row id < end` are now in segments (whole batches only).
    DeltaSealed {
        /// The table.
        table: TableId,
        /// First row id.
        first: RowId,
        /// One past the last.
        end: RowId,
    },
    /// A segment joined the manifest.
    SegmentAdded(Arc<SegmentMeta>),
    /// A segment left it.
    SegmentRemoved {
        /// The table.
        table: TableId,
        /// The segment.
        segment: SegmentId,
    },
    /// Rows were deleted.
    RowsDeleted {
        /// The table.
        table: TableId,
        /// Their ids, ascending.
        rows: Vec<RowId>,
    },
    /// Deleted rows that are in no segment and no delta batch any more: a seal or a compaction left them out.
    RowsPurged {
        /// The table.
        table: TableId,
        /// Their ids.
        rows: RowSet,
    },
    /// The next row id that the table will hand out: every visible row is below it.
    RowLimit {
        /// The table.
        table: TableId,
        /// One past the last row id handed out.
        next: RowId,
    },
}

/// Everything a reader may see at one LSN. Immutable and cheap to clone; an old view stays readable.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The LSN: every commit up to and including it is here, no other.
    pub lsn: Lsn,
    /// Definitions.
    pub catalog: Arc<Catalog>,
    /// Rows, for each table of the catalog.
    pub tables: OrdMap<TableId, Arc<TableView>>,
}

/// One table's rows: segments and delta, less the deleted ones. Cheap to clone, and cheap to change after that: each commit makes a
/// new one while readers keep the old.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableView {
    /// One past the last row id handed out.
    pub next_row_id: RowId,
    /// The manifest, in the order segments joined.
    pub segments: Arc<Vec<Arc<SegmentMeta>>>,
    /// Delta batches by ascending row id.
    pub delta: Delta,
    /// Deleted rows that are still in segments or delta.
    pub deleted: RowSet,
}

impl Default for View {
    fn default() -> Self {
        View { lsn: Lsn(0), catalog: Arc::new(Catalog::initial()), tables: OrdMap::new() }
    }
}

impl TableView {
    /// Rows visible: those in segments and delta less the deleted ones.
    pub fn row_count(&self) -> u64 {
        let stored = self.segments.iter().map(|s| s.rows).sum::<u64>() + self.delta_rows();
        stored.saturating_sub(self.deleted.len())
    }

    /// Rows in the delta.
    pub fn delta_rows(&self) -> u64 {
        self.delta.rows()
    }

    /// Bytes of encoded rows in the delta.
    pub fn delta_bytes(&self) -> u64 {
        self.delta.bytes()
    }
}

impl View {
    /// Applies what one or more log entries did, and moves to their LSN.
    pub fn apply(&mut self, lsn: Lsn, changes: &[Change]) {
        for change in changes {
            self.apply_one(change);
        }
        self.lsn = lsn;
    }

    fn apply_one(&mut self, change: &Change) {
        match change {
            Change::Catalog(change) => {
                Arc::make_mut(&mut self.catalog).apply(change);
                match change {
                    CatalogChange::CreateTable(def) => {
                        self.tables.insert(def.id, Arc::default());
                    }
                    CatalogChange::DropTable { id, .. } => {
                        self.tables.remove(id);
                    }
                    _ => {}
                }
            }
            Change::Truncated(table) => {
                let table = self.table_mut(*table);
                *table = TableView { next_row_id: table.next_row_id, ..TableView::default() };
            }
            Change::DeltaAdded { table, delta } => self.table_mut(*table).delta.push(*delta),
            Change::DeltaSealed { table, first, end } => self.table_mut(*table).delta.remove(*first, *end),
            Change::SegmentAdded(segment) => Arc::make_mut(&mut self.table_mut(segment.table).segments).push(segment.clone()),
            Change::SegmentRemoved { table, segment } => {
                Arc::make_mut(&mut self.table_mut(*table).segments).retain(|s| s.id != *segment);
            }
            Change::RowsDeleted { table, rows } => self.table_mut(*table).deleted.extend(rows.iter().copied()),
            Change::RowsPurged { table, rows } => self.table_mut(*table).deleted.remove(rows),
            Change::RowLimit { table, next } => self.table_mut(*table).next_row_id = *next,
        }
    }

    fn table_mut(&mut self, id: TableId) -> &mut TableView {
        Arc::make_mut(self.tables.entry(id).or_default())
    }

    /// The changes that make this view out of [`View::default`]; what a node that knows nothing is told.
    pub fn dump(&self) -> Vec<Change> {
        let initial = Catalog::initial();
        let mut changes = Vec::new();
        let mut catalog = |change| changes.push(Change::Catalog(change));
        initial.schemas.keys().filter(|id| !self.catalog.schemas.contains_key(id)).for_each(|id| catalog(CatalogChange::DropSchema(*id)));
        self.catalog
            .schemas
            .values()
            .filter(|s| !initial.schemas.contains_key(&s.id))
            .for_each(|s| catalog(CatalogChange::CreateSchema(s.as_ref().clone())));
        self.catalog.tables.values().for_each(|t| catalog(CatalogChange::CreateTable(t.as_ref().clone())));
        self.catalog.views.values().for_each(|v| catalog(CatalogChange::CreateView { view: v.as_ref().clone(), replace: false }));
        self.catalog.sequences.values().for_each(|s| catalog(CatalogChange::CreateSequence(s.as_ref().clone())));
        self.catalog
            .comments
            .iter()
            .for_each(|(target, text)| catalog(CatalogChange::SetComment { target: target.clone(), text: Some(text.clone()) }));
        for (&table, rows) in &self.tables {
            changes.push(Change::RowLimit { table, next: rows.next_row_id });
            changes.extend(rows.segments.iter().cloned().map(Change::SegmentAdded));
            changes.extend(rows.delta.iter().map(|&delta| Change::DeltaAdded { table, delta }));
            if !rows.deleted.is_empty() {
                changes.push(Change::RowsDeleted { table, rows: rows.deleted.iter().collect() });
            }
        }
        changes
    }
}
