//! What the planner is told of a table: rows, and of each column distinct values, NULLs and bounds.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use parking_lot::Mutex;
use quire_scan::{OwnRows, datum_scalar};
use quire_types::{ColumnDef, ColumnId, Datum, PageMeta, RowId, SegmentMeta, SqlType, TableDef, TableId, TableView};

/// Tables of which summaries are kept; one is some kilobytes.
const TABLES_MAX: usize = 10_000;
/// A column of which this share of the segments' rows is distinct is taken for one whose new rows bring new values.
const LIKE_A_KEY: f64 = 0.5;

/// Summaries of manifests, kept until a manifest changes: adding up thousands of pages and sketches takes longer than planning.
#[derive(Default)]
pub(crate) struct ManifestStatistics {
    tables: Mutex<HashMap<TableId, Held>>,
    /// Of tables that are all delta, with their first and next row id at the time.
    small: Mutex<HashMap<TableId, ((RowId, RowId), Arc<Vec<Summary>>)>>,
}

/// A table without segments is looked at itself while it has no more rows than this: a millisecond's work.
const SMALL_ROWS_MAX: u64 = 10_000;

struct Held {
    segments: Arc<Vec<Arc<SegmentMeta>>>,
    columns: Vec<(ColumnId, SqlType)>,
    summaries: Arc<Vec<Summary>>,
}

/// A column in all segments.
#[derive(Default)]
struct Summary {
    distinct: Option<f64>,
    nulls: u64,
    /// Every segment has the column: none is older than it.
    complete: bool,
    min: Option<ScalarValue>,
    max: Option<ScalarValue>,
}

impl ManifestStatistics {
    /// A table's statistics as one transaction sees it, a column for each field of `schema`: the table's columns, and it may be the row
    /// id. The row count is exact unless the transaction deleted rows; NULLs and bounds are while segments are all there is, and none of
    /// their rows is deleted. `delta` gives the delta's rows if they are at hand.
    pub(crate) fn of(
        &self,
        table: &TableDef,
        schema: &SchemaRef,
        view: &TableView,
        own: &OwnRows,
        delta: impl FnOnce() -> Option<Vec<RecordBatch>>,
    ) -> Statistics {
        let segment_rows = if own.truncated { 0 } else { view.segments.iter().map(|s| s.rows).sum::<u64>() };
        let committed = if own.truncated { 0 } else { view.row_count() };
        let added = own.batches.iter().map(|b| b.num_rows() as u64).sum::<u64>() + own.segments.iter().map(|s| s.rows).sum::<u64>();
        let rows = (committed + added).saturating_sub(own.deleted.len()) as usize;
        // What the transaction deleted, another may have deleted too: then it is counted twice.
        let num_rows = if own.deleted.is_empty() { Precision::Exact(rows) } else { Precision::Inexact(rows) };
        let segments_only = view.delta.is_empty() && view.deleted.is_empty() && added == 0 && own.deleted.is_empty();
        let (summaries, known_rows) = match segment_rows {
            0 if committed > 0 && view.delta_rows() <= SMALL_ROWS_MAX => (self.summaries_of_small(table, view, delta), view.delta_rows()),
            0 => (None, 1),
            rows => (Some(self.summaries(table, view)), rows),
        };
        let columns = schema.fields().iter().enumerate().map(|(i, _)| {
            let mut statistics = ColumnStatistics::new_unknown();
            // The row id has none.
            let Some(column) = table.columns.get(i) else { return statistics };
            let unique = table.unique_keys().any(|(_, _, key)| *key == [column.id]);
            let summary = summaries.as_ref().and_then(|all| all.get(i));
            let distinct = summary.and_then(|s| s.distinct);
            statistics.distinct_count = match distinct {
                _ if unique => Precision::Inexact(rows),
                // The rows that are in no segment have as many new values as those that are.
                Some(distinct) if distinct >= known_rows as f64 * LIKE_A_KEY => {
                    Precision::Inexact((distinct * rows as f64 / known_rows as f64) as usize)
                }
                Some(distinct) => Precision::Inexact((distinct as usize).min(rows)),
                None => Precision::Absent,
            };
            if let Some(summary) = summary {
                let share = summary.nulls as f64 / known_rows as f64;
                // Bounds of long texts are cut, and a NaN is in no bounds.
                let exact = segments_only && summary.complete && has_exact_bounds(column.ty);
                let bound = |bound: &Option<ScalarValue>| match bound {
                    Some(bound) if exact => Precision::Exact(bound.clone()),
                    Some(bound) => Precision::Inexact(bound.clone()),
                    None => Precision::Absent,
                };
                (statistics.min_value, statistics.max_value) = (bound(&summary.min), bound(&summary.max));
                statistics.null_count = match segments_only && summary.complete {
                    true => Precision::Exact(summary.nulls as usize),
                    false => Precision::Inexact((share * rows as f64) as usize),
                };
            }
            statistics
        });
        Statistics { num_rows, total_byte_size: Precision::Absent, column_statistics: columns.collect() }
    }

    /// `None` when the rows are not at hand.
    fn summaries_of_small(
        &self,
        table: &TableDef,
        view: &TableView,
        delta: impl FnOnce() -> Option<Vec<RecordBatch>>,
    ) -> Option<Arc<Vec<Summary>>> {
        let rows = (view.delta.first()?.first, view.next_row_id);
        if let Some((_, summaries)) = self.small.lock().get(&table.id).filter(|(of, held)| *of == rows && held.len() == table.columns.len())
        {
            return Some(summaries.clone());
        }
        let batches = delta()?;
        let of_column =
            |(i, column): (usize, &ColumnDef)| Summary::of_rows(column, batches.iter().filter_map(|batch| batch.columns().get(i)));
        let summaries = Arc::new(table.columns.iter().enumerate().map(of_column).collect::<Vec<_>>());
        let mut small = self.small.lock();
        if small.len() >= TABLES_MAX {
            small.clear();
        }
        small.insert(table.id, (rows, summaries.clone()));
        Some(summaries)
    }

    fn summaries(&self, table: &TableDef, view: &TableView) -> Arc<Vec<Summary>> {
        let same = |held: &Held| {
            let columns = held.columns.iter().zip(&table.columns).all(|(held, now)| *held == (now.id, now.ty));
            Arc::ptr_eq(&held.segments, &view.segments) && held.columns.len() == table.columns.len() && columns
        };
        if let Some(held) = self.tables.lock().get(&table.id).filter(|held| same(held)) {
            return held.summaries.clone();
        }
        let summaries = Arc::new(table.columns.iter().map(|column| Summary::of(column, &view.segments)).collect::<Vec<_>>());
        let columns = table.columns.iter().map(|c| (c.id, c.ty)).collect();
        let mut tables = self.tables.lock();
        if tables.len() >= TABLES_MAX {
            tables.clear();
        }
        tables.insert(table.id, Held { segments: view.segments.clone(), columns, summaries: summaries.clone() });
        summaries
    }
}

fn has_exact_bounds(ty: SqlType) -> bool {
    matches!(
        ty,
        SqlType::Int2
            | SqlType::Int4
            | SqlType::Int8
            | SqlType::Numeric { .. }
            | SqlType::Date
            | SqlType::Time
            | SqlType::Timestamp
            | SqlType::Timestamptz
    )
}

impl Summary {
    fn of_rows<'a>(column: &ColumnDef, parts: impl Iterator<Item = &'a ArrayRef>) -> Summary {
        let mut summary = Summary::default();
        let mut sketches = vec![];
        for part in parts {
            sketches.push(quire_segment::sketch(part));
            summary.nulls += part.null_count() as u64;
            let (min, max) = quire_segment::bounds(part, column.ty);
            let better = |held: &mut Option<ScalarValue>, new: Option<Datum>, keep: std::cmp::Ordering| {
                let Some(new) = new.as_ref().and_then(|new| datum_scalar(Some(new), &column.ty.arrow())) else { return };
                if held.as_ref().is_none_or(|held| new.partial_cmp(held) == Some(keep)) {
                    *held = Some(new);
                }
            };
            better(&mut summary.min, min, std::cmp::Ordering::Less);
            better(&mut summary.max, max, std::cmp::Ordering::Greater);
        }
        summary.distinct = quire_segment::distinct_estimate(sketches.iter().map(|sketch| sketch.as_ref()));
        summary
    }

    fn of(column: &ColumnDef, segments: &[Arc<SegmentMeta>]) -> Summary {
        let sketches = segments.iter().filter_map(|s| s.column_ordinal(column.id).map(|o| s.columns[o].sketch.as_ref()));
        let pages = || segments.iter().flat_map(|s| s.row_groups.iter().filter_map(|g| g.pages.get(s.column_ordinal(column.id)?)));
        // Where a page does not tell, nothing is known of the whole.
        let bound = |pick: fn(&PageMeta) -> Option<&Datum>, keep: std::cmp::Ordering| {
            let mut best: Option<ScalarValue> = None;
            for page in pages().filter(|page| pick(page).is_some() || page.min.is_some() != page.max.is_some()) {
                let value = datum_scalar(Some(pick(page)?), &column.ty.arrow())?;
                best = match best {
                    Some(current) if current.partial_cmp(&value)? != keep.reverse() => Some(current),
                    _ => Some(value),
                };
            }
            best
        };
        Summary {
            distinct: quire_segment::distinct_estimate(sketches),
            complete: segments.iter().all(|s| s.column_ordinal(column.id).is_some()),
            nulls: pages().map(|page| u64::from(page.nulls)).sum(),
            min: bound(|page| page.min.as_ref(), std::cmp::Ordering::Less),
            max: bound(|page| page.max.as_ref(), std::cmp::Ordering::Greater),
        }
    }
}
