//! What the planner is told of a table: rows, and of each column distinct values, NULLs and bounds.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use parking_lot::Mutex;
use quire_scan::{OwnRows, datum_scalar};
use quire_types::{ColumnDef, ColumnId, Datum, PageMeta, SegmentMeta, SqlType, TableDef, TableId, TableView};

/// Tables of which summaries are kept; one is some kilobytes.
const TABLES_MAX: usize = 10_000;
/// A column of which this share of the segments' rows is distinct is taken for one whose new rows bring new values.
const LIKE_A_KEY: f64 = 0.5;

/// Summaries of manifests, kept until a manifest changes: adding up thousands of pages and sketches takes longer than planning.
#[derive(Default)]
pub(crate) struct ManifestStatistics {
    tables: Mutex<HashMap<TableId, Held>>,
}

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
    /// their rows is deleted.
    pub(crate) fn of(&self, table: &TableDef, schema: &SchemaRef, view: &TableView, own: &OwnRows) -> Statistics {
        let segment_rows = if own.truncated { 0 } else { view.segments.iter().map(|s| s.rows).sum::<u64>() };
        let committed = if own.truncated { 0 } else { view.row_count() };
        let added = own.batches.iter().map(|b| b.num_rows() as u64).sum::<u64>() + own.segments.iter().map(|s| s.rows).sum::<u64>();
        let rows = (committed + added).saturating_sub(own.deleted.len()) as usize;
        // What the transaction deleted, another may have deleted too: then it is counted twice.
        let num_rows = if own.deleted.is_empty() { Precision::Exact(rows) } else { Precision::Inexact(rows) };
        let segments_only = view.delta.is_empty() && view.deleted.is_empty() && added == 0 && own.deleted.is_empty();
        let summaries = if segment_rows > 0 { Some(self.summaries(table, view)) } else { None };
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
                Some(distinct) if distinct >= segment_rows as f64 * LIKE_A_KEY => {
                    Precision::Inexact((distinct * rows as f64 / segment_rows as f64) as usize)
                }
                Some(distinct) => Precision::Inexact((distinct as usize).min(rows)),
                None => Precision::Absent,
            };
            if let Some(summary) = summary {
                let share = summary.nulls as f64 / segment_rows as f64;
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
