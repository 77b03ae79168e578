//! Delta rows in memory: what commits wrote one by one, put together.
//!
//! A table that applications write to has thousands of delta batches of a row or two. A scan of so many would spend its time on
//! batches, not on rows, and a key would have to be looked for in each. So decoded batches are merged into runs of consecutive rows, as in a
//! log-structured merge tree (O'Neil et al., 1996): a new run is merged with its neighbour while that one is at most twice its size. Each
//! row is copied O(log n) times, and there are O(log n) runs. A run has an index of a unique key once somebody looks for one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use parking_lot::Mutex;
use quire_scan::compact;
use quire_types::{ColumnDef, DeltaMeta, RowId, TableDef, TableId, TableView};

use crate::SqlError;
use crate::keys::UniqueKey;

/// Decoded delta bytes kept. The sealer keeps deltas below this in steady state.
const BYTES_MAX: usize = 256 << 20;
/// Rows from which a run grows no more: it will be sealed soon.
const RUN_ROWS_MAX: usize = 131_072;

/// Consecutive delta rows.
pub(crate) struct Run {
    /// The id of the first row; the others follow without gap.
    pub(crate) first: RowId,
    /// The rows, in the schema of the definition that they are held for.
    pub(crate) rows: RecordBatch,
    /// What they take in memory.
    bytes: usize,
    /// The first row id of each delta batch in it.
    starts: Vec<u64>,
    /// By positions of the key's columns: (hash of the key, position), ascending.
    indexes: Mutex<HashMap<Vec<usize>, Arc<Vec<(u64, u32)>>>>,
}

impl Run {
    fn new(first: RowId, rows: RecordBatch, starts: Vec<u64>) -> Run {
        Run { first, bytes: rows.get_array_memory_size(), rows, starts, indexes: Mutex::default() }
    }

    fn end(&self) -> u64 {
        self.first.0 + self.rows.num_rows() as u64
    }

    /// The batches `from..to` of it, as a run.
    fn part(&self, from: usize, to: usize) -> Run {
        let first = self.starts[from];
        let end = self.starts.get(to).copied().unwrap_or_else(|| self.end());
        let rows = self.rows.slice((first - self.first.0) as usize, (end - first) as usize);
        Run::new(RowId(first), rows, self.starts[from..to].to_vec())
    }

    /// The positions of rows with this key, deleted ones among them.
    pub(crate) fn find(&self, key: &UniqueKey, wanted: &RecordBatch, hash: u64) -> Result<Vec<usize>, SqlError> {
        let index = self.index(key)?;
        let from = index.partition_point(|(h, _)| *h < hash);
        let candidates = index[from..].iter().take_while(|(h, _)| *h == hash).map(|(_, position)| *position as usize);
        let mut found = vec![];
        for position in candidates {
            if key.equals(wanted, &self.rows, position)? {
                found.push(position);
            }
        }
        Ok(found)
    }

    fn index(&self, key: &UniqueKey) -> Result<Arc<Vec<(u64, u32)>>, SqlError> {
        if let Some(index) = self.indexes.lock().get(&key.positions) {
            return Ok(index.clone());
        }
        let hashes = key.hashes(&key.project(&self.rows)?)?;
        let mut index: Vec<(u64, u32)> = hashes.into_iter().zip(0..).collect();
        index.sort_unstable();
        let index = Arc::new(index);
        self.indexes.lock().insert(key.positions.clone(), index.clone());
        Ok(index)
    }
}

/// The runs of all tables.
#[derive(Default)]
pub(crate) struct DeltaRuns {
    /// By definition, the one used last in front: while a table is altered, old and new snapshots read it, and views read the columns
    /// that were there when they were made.
    tables: Mutex<HashMap<TableId, Vec<TableRuns>>>,
}

/// Ascending by row id, all in the schema of one definition of the table.
struct TableRuns {
    def: Arc<TableDef>,
    runs: Vec<Arc<Run>>,
}

/// Definitions of one table that rows are held for.
const DEFINITIONS_MAX: usize = 4;

/// Whether rows look alike under two definitions. Versions do not tell: two transactions may both be making the next one.
fn same_columns(a: &TableDef, b: &TableDef) -> bool {
    let alike = |a: &ColumnDef, b: &ColumnDef| {
        a.id == b.id && a.ty == b.ty && a.name == b.name && (a.nullable, a.had_nulls) == (b.nullable, b.had_nulls) && a.missing == b.missing
    };
    a.columns.len() == b.columns.len() && a.columns.iter().zip(&b.columns).all(|(a, b)| alike(a, b))
}

/// The runs for a definition, in front of the others.
fn held_for<'a>(held: &'a mut [TableRuns], table: &Arc<TableDef>) -> Option<&'a mut TableRuns> {
    let at = held.iter().position(|runs| Arc::ptr_eq(&runs.def, table) || same_columns(&runs.def, table))?;
    held[..=at].rotate_right(1);
    held.first_mut()
}

impl DeltaRuns {
    /// The runs that make up a view's delta, and the batches that are not here.
    pub(crate) fn cover(&self, table: &Arc<TableDef>, view: &TableView) -> (Vec<Arc<Run>>, Vec<DeltaMeta>) {
        let deltas = &view.delta;
        let mut tables = self.tables.lock();
        let Some(held) = tables.get_mut(&table.id).and_then(|held| held_for(held, table)) else {
            return (vec![], deltas.iter().copied().collect());
        };
        let runs = &mut held.runs;
        let (mut found, mut missing) = (vec![], vec![]);
        let mut next = 0;
        while let Some(delta) = deltas.get(next) {
            let at = runs.partition_point(|run| run.first.0 <= delta.first.0).checked_sub(1);
            let held = at.and_then(|at| runs[at].starts.binary_search(&delta.first.0).ok().map(|from| (at, from)));
            let Some((at, from)) = held else {
                missing.push(*delta);
                next += 1;
                continue;
            };
            let run = &runs[at];
            let starts = &run.starts[from..];
            let whole = deltas.get(next + starts.len() - 1).is_some_and(|last| Some(&last.first.0) == starts.last());
            let taken = match whole {
                true => starts.len(),
                // A part of it was sealed.
                false => starts.iter().enumerate().take_while(|(i, s)| deltas.get(next + i).is_some_and(|d| d.first.0 == **s)).count(),
            };
            if taken < run.starts.len() {
                runs[at] = Arc::new(run.part(from, from + taken));
            }
            found.push(runs[at].clone());
            next += taken;
        }
        (found, missing)
    }

    /// Keeps decoded batches, ascending, in the schema of the definition.
    pub(crate) fn insert(&self, table: &Arc<TableDef>, batches: Vec<(DeltaMeta, RecordBatch)>) -> Result<(), SqlError> {
        let mut tables = self.tables.lock();
        if tables.values().flatten().map(TableRuns::bytes).sum::<usize>() > BYTES_MAX {
            tables.clear();
        }
        let definitions = tables.entry(table.id).or_default();
        if held_for(definitions, table).is_none() {
            definitions.insert(0, TableRuns { def: table.clone(), runs: vec![] });
            definitions.truncate(DEFINITIONS_MAX);
        }
        let Some(held) = definitions.first_mut() else { return Ok(()) };
        let mut group: Vec<(DeltaMeta, RecordBatch)> = vec![];
        for (delta, rows) in batches {
            if group.last().is_some_and(|(last, _)| last.first.0 + last.rows != delta.first.0) {
                held.add(std::mem::take(&mut group))?;
            }
            if !held.holds(delta.first) {
                group.push((delta, rows));
            }
        }
        held.add(group)
    }
}

impl TableRuns {
    fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes).sum()
    }

    fn holds(&self, first: RowId) -> bool {
        let at = self.runs.partition_point(|run| run.first <= first).checked_sub(1);
        at.is_some_and(|at| self.runs[at].end() > first.0)
    }

    /// Consecutive batches as one run, merged with its neighbours.
    fn add(&mut self, group: Vec<(DeltaMeta, RecordBatch)>) -> Result<(), SqlError> {
        let Some((first, rows)) = group.first() else { return Ok(()) };
        let (first, schema) = (first.first, rows.schema());
        let starts = group.iter().map(|(delta, _)| delta.first.0).collect();
        let rows = concatenated(&schema, group.iter().map(|(_, rows)| rows))?;
        let mut at = self.runs.partition_point(|run| run.first < first);
        self.runs.insert(at, Arc::new(Run::new(first, rows, starts)));
        let small = |a: &Run, b: &Run| {
            a.end() == b.first.0 && a.rows.num_rows() <= 2 * b.rows.num_rows() && a.rows.num_rows() + b.rows.num_rows() <= RUN_ROWS_MAX
        };
        while at > 0 && small(&self.runs[at - 1], &self.runs[at]) {
            let (left, right) = (&self.runs[at - 1], &self.runs[at]);
            let rows = concatenated(&schema, [&left.rows, &right.rows])?;
            let starts = left.starts.iter().chain(&right.starts).copied().collect();
            self.runs[at - 1] = Arc::new(Run::new(left.first, rows, starts));
            self.runs.remove(at);
            at -= 1;
        }
        Ok(())
    }
}

fn concatenated<'a>(
    schema: &arrow::datatypes::SchemaRef,
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<RecordBatch, SqlError> {
    let rows = arrow::compute::concat_batches(schema, batches).and_then(|rows| compact(&rows));
    rows.map_err(|e| SqlError::internal(format!("cannot put delta rows together: {e}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use quire_types::{ColumnId, ConstraintDef, ConstraintKind, Lsn, SchemaId, SqlType};

    use super::*;

    fn table() -> Arc<TableDef> {
        Arc::new(TableDef {
            id: TableId(1),
            schema: SchemaId(1),
            name: "t".into(),
            version: 1,
            columns: vec![ColumnDef { nullable: false, ..ColumnDef::new(ColumnId(1), "a", SqlType::Int8) }],
            next_column_id: ColumnId(2),
            constraints: vec![ConstraintDef::new("t_pkey", ConstraintKind::PrimaryKey(vec![ColumnId(1)]))],
            clustering: vec![ColumnId(1)],
            arrow: Default::default(),
        })
    }

    /// A batch whose rows have their ids as values.
    fn batch(table: &TableDef, first: u64, rows: u64) -> (DeltaMeta, RecordBatch) {
        let meta = DeltaMeta { first: RowId(first), rows, bytes: 8, version: 1, lsn: Lsn(1) };
        let values = arrow::array::Int64Array::from_iter_values(first as i64..(first + rows) as i64);
        (meta, RecordBatch::try_new(table.arrow_schema(), vec![Arc::new(values)]).unwrap())
    }

    fn ids(runs: &[Arc<Run>]) -> Vec<u64> {
        runs.iter().flat_map(|run| (0..run.rows.num_rows() as u64).map(|i| run.first.0 + i)).collect()
    }

    proptest! {
        /// Whatever was inserted, sealed and asked for before, a view gets exactly its rows, and finds each by its key.
        #[test]
        fn a_view_gets_its_rows(steps in prop::collection::vec((1u64..4, 0u64..3, 0usize..12), 1..60)) {
            let table = table();
            let runs = DeltaRuns::default();
            let key = UniqueKey::of(&table).unwrap().remove(0);
            let (mut view, mut all, mut next) = (TableView::default(), vec![], 1u64);
            for (rows, gap, sealed) in steps {
                let (meta, rows) = batch(&table, next + gap, rows);
                next = meta.first.0 + meta.rows;
                all.push((meta, rows));
                view.delta = all[sealed.min(all.len())..].iter().map(|(meta, _)| *meta).collect();
                let (_, missing) = runs.cover(&table, &view);
                let read = missing.iter().map(|m| all.iter().find(|(meta, _)| meta.first == m.first).unwrap().clone()).collect();
                runs.insert(&table, read).unwrap();
                let (found, missing) = runs.cover(&table, &view);
                prop_assert!(missing.is_empty());
                let expected: Vec<u64> = view.delta.iter().flat_map(|d| d.first.0..d.first.0 + d.rows).collect();
                prop_assert_eq!(ids(&found), expected.clone());
                if let Some(id) = expected.last() {
                    let wanted = batch(&table, *id, 1).1;
                    let hash = key.hashes(&wanted).unwrap()[0];
                    let hits = found.iter().map(|run| run.find(&key, &wanted, hash).unwrap().len()).sum::<usize>();
                    prop_assert_eq!(hits, 1);
                }
            }
        }
    }
}
