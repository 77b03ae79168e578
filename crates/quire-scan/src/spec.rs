use std::sync::Arc;

use arrow::array::{Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_common::Result;
use datafusion_common::cast::as_boolean_array;
use datafusion_physical_expr::expressions::{Column, lit};
use datafusion_physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion_physical_expr::{DynamicFilterTracking, PhysicalExpr};
use datafusion_physical_expr_common::physical_expr::snapshot_generation;
use quire_types::{Datum, RowId, SegmentMeta, TableDef, TableView};
use roaring::RoaringTreemap;

use crate::like::with_patterns;
use crate::{BuildKeys, KeyRanges};

/// Rows that the session's own transaction has written and not committed.
#[derive(Clone, Debug, Default)]
pub struct OwnRows {
    /// TRUNCATE: nothing of the committed rows is visible.
    pub truncated: bool,
    /// Batches in the table's schema.
    pub batches: Vec<RecordBatch>,
    /// Segments already uploaded, not yet in the manifest. Their row ids begin at [`OWN_SEGMENT_ROWS`].
    pub segments: Vec<Arc<SegmentMeta>>,
    /// Committed rows, and rows of `segments`, that the transaction has deleted.
    pub deleted: Arc<RoaringTreemap>,
}

/// Row ids of the transaction's own segments until the log hands out real ones.
pub const OWN_SEGMENT_ROWS: u64 = 1 << 61;
/// Row ids of the transaction's own batches, counted over all of them; good for one statement.
pub const OWN_BATCH_ROWS: u64 = 1 << 62;

/// The row id as a column: Int64, never NULL.
pub fn row_id_field() -> Field {
    Field::new(quire_types::ROW_ID_FIELD, DataType::Int64, false)
}

/// What to scan and how.
#[derive(Clone, Debug)]
pub struct ScanSpec {
    /// The table.
    pub table: Arc<TableDef>,
    /// Its Arrow schema, [`TableDef::arrow_schema`]; for statements that delete rows, with [`row_id_field`] after the columns.
    pub schema: SchemaRef,
    /// Its committed rows.
    pub view: Arc<TableView>,
    /// The rows of its delta, in the table's schema, each batch with the id of its first row; the others follow without gap.
    pub delta: Vec<(RowId, RecordBatch)>,
    /// The transaction's own rows.
    pub own: OwnRows,
    /// Columns wanted, as positions in the table, in output order. The position after the last column is the row id, when `schema` has it.
    pub projection: Vec<usize>,
    /// What every row given must satisfy.
    pub predicates: Vec<Predicate>,
    /// Rows in a batch, at most.
    pub batch_rows: usize,
    /// Stop after so many rows.
    pub limit: Option<usize>,
    /// Whether costly conditions on a number are answered from tables, or once for a run of equal numbers. Answers are the same.
    pub tabulated: bool,
    /// The ranges of this scan's key, when each stream is to give its rows in ascending order of it, and no two streams rows with the
    /// same.
    pub ordered: Option<Arc<KeyRanges>>,
}

/// One conjunct, evaluated on the columns it names and no others.
#[derive(Clone, Debug)]
pub struct Predicate {
    /// The expression; its columns are positions in `columns`.
    pub expr: Arc<dyn PhysicalExpr>,
    /// Positions in the table.
    pub columns: Vec<usize>,
    /// The schema of just those columns.
    pub schema: SchemaRef,
    /// What says the same, or part of it, in less time.
    keys: Option<Arc<BuildKeys>>,
    cost: u32,
    /// A join or a TopK made it, which looks at each row again: it may be left out.
    dynamic: bool,
}

impl Predicate {
    /// Takes an expression over (some order of) the table's columns, by name.
    pub fn new(expr: Arc<dyn PhysicalExpr>, table: &Schema) -> Result<Predicate> {
        let mut columns = collect_columns(&expr).iter().map(|c| table.index_of(c.name())).collect::<Result<Vec<_>, _>>()?;
        columns.sort_unstable();
        columns.dedup();
        let schema = Arc::new(table.project(&columns)?);
        let expr = reassign_expr_columns(expr, &schema)?;
        let dynamic = is_dynamic(&expr);
        let expr = if dynamic { expr } else { with_patterns(expr)? };
        let width = schema.fields().iter().map(|f| f.data_type().primitive_width().map_or(64, |w| w as u32)).sum::<u32>();
        Ok(Predicate { cost: width + if dynamic { 16 } else { 0 }, expr, columns, schema, dynamic, keys: None })
    }

    /// The keys that the other side of the join has that made it, for a condition on one column.
    pub fn with_keys(self, keys: Arc<BuildKeys>) -> Predicate {
        Predicate { keys: Some(keys), ..self }
    }

    /// That a column is one of these keys, where another predicate says so, too, and of other columns.
    pub fn of_keys(column: usize, keys: Arc<BuildKeys>, table: &Schema) -> Result<Predicate> {
        let all = Predicate::new(Arc::new(Column::new(table.field(column).name(), column)), table)?;
        Ok(Predicate { expr: lit(true), dynamic: true, keys: Some(keys), ..all })
    }

    /// The rows that keys leave, when they are known.
    pub(crate) fn rows_by_keys(&self, batch: &RecordBatch) -> Option<BooleanBuffer> {
        let column = batch.columns().first()?;
        let rows = self.keys.as_ref()?.rows(column)?;
        let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) else { return Some(rows) };
        // A filter that fails is asked instead, and says so.
        Some(if self.keeps_null(column.data_type()).ok()? { &rows | &!nulls.inner() } else { &rows & nulls.inner() })
    }

    /// Some joins want rows without a key.
    fn keeps_null(&self, data_type: &DataType) -> Result<bool> {
        let null = RecordBatch::try_new(self.schema.clone(), vec![new_null_array(data_type, 1)])?;
        let kept = self.expr.evaluate(&null)?.into_array(1)?;
        let kept = as_boolean_array(&kept)?;
        Ok(kept.is_valid(0) && kept.value(0))
    }

    /// Another when it becomes another.
    pub(crate) fn generation(&self) -> u64 {
        let complete = self.keys.as_ref().is_some_and(|keys| keys.are_complete());
        snapshot_generation(&self.expr) * 2 + u64::from(complete)
    }

    /// Whether rows may be given that do not satisfy it.
    pub(crate) fn is_optional(&self) -> bool {
        self.dynamic
    }

    /// Cheap ones first: narrow fixed-width columns before strings, static before dynamic.
    pub(crate) fn cost(&self) -> u32 {
        self.cost
    }
}

impl ScanSpec {
    /// Between which numbers segments have a column's values, and how many rows they have; `None` when nobody knows.
    pub fn bounds(&self, column: usize) -> Option<(i64, i64, u64)> {
        let column = self.table.columns.get(column)?.id;
        let (mut bounds, mut rows): (Option<(i64, i64)>, u64) = (None, 0);
        for segment in self.segments() {
            let ordinal = segment.column_ordinal(column)?;
            for group in &segment.row_groups {
                rows += u64::from(group.rows);
                let page = group.pages.get(ordinal)?;
                if page.nulls == group.rows {
                    continue;
                }
                let (Some(Datum::Int(min)), Some(Datum::Int(max))) = (&page.min, &page.max) else { return None };
                bounds = Some(bounds.map_or((*min, *max), |(low, high)| (low.min(*min), high.max(*max))));
            }
        }
        bounds.map(|(min, max)| (min, max, rows))
    }

    /// The output column that rows are in the order of.
    pub fn ordered_by(&self) -> Option<usize> {
        let key = self.ordered.as_ref()?.column();
        self.projection.iter().position(|&index| index == key)
    }

    /// The segments that are read.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Arc<SegmentMeta>> {
        let committed = self.view.segments.iter().filter(|_| !self.own.truncated);
        committed.chain(&self.own.segments)
    }

    /// The rows that are read and in no segment, each batch with the id of its first row; the others follow without gap.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (RowId, &RecordBatch)> {
        let own = self.own.batches.iter().scan(OWN_BATCH_ROWS, |next, batch| {
            let first = *next;
            *next += batch.num_rows() as u64;
            Some((RowId(first), batch))
        });
        self.delta.iter().map(|(first, rows)| (*first, rows)).chain(own)
    }

    /// The schema of the batches given.
    pub fn output_schema(&self) -> Result<SchemaRef> {
        Ok(Arc::new(self.schema.project(&self.projection)?))
    }
}

/// True when the expression sharpens while the query runs (a join's or TopK's filter).
pub(crate) fn is_dynamic(expr: &Arc<dyn PhysicalExpr>) -> bool {
    DynamicFilterTracking::classify(expr).contains_dynamic_filter()
}
