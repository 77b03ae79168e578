//! What a scan reads, as the log can certify it: rows by primary key where the filters say which, else the table.
//!
//! A key that a row has is certified by that row: who changes or deletes it deletes its row id. A key that no row has is certified by its
//! hash: who inserts it claims it. So no writer has to say more than it says anyway.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::utils::split_conjunction as split_physical;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use quire_scan::{OwnRows, ScanSpec, row_id_field};
use quire_types::{ColumnDef, RowId, SqlType};

use crate::keys::UniqueKey;
use crate::query::task_context;
use crate::reads::ReadsOf;
use crate::scan_exec::{Expected, ScanExec};
use crate::table::{QuireTable, tabulated};

/// Keys of one scan that are looked up before it.
const KEYS_MAX: usize = 1000;

impl QuireTable {
    /// Says what a scan with these filters reads. `delta` is what is in no segment yet.
    pub(crate) async fn note_reads(
        &self,
        reads: &ReadsOf,
        state: &dyn Session,
        filters: &[Expr],
        delta: &[(RowId, RecordBatch)],
    ) -> Result<()> {
        if reads.is_whole() {
            return Ok(());
        }
        // A definition that the transaction has changed may have another key.
        let keys = if self.def.version == reads.version() { self.keys_of(filters)? } else { None };
        match keys {
            Some((key, wanted, filter)) => self.note_keys(reads, state, &key, wanted, filter, delta).await,
            None => {
                reads.note_whole();
                Ok(())
            }
        }
    }

    /// The primary key, its values that the filters name, and the filter on it; `None` when they do not name them.
    fn keys_of(&self, filters: &[Expr]) -> Result<Option<(UniqueKey, RecordBatch, Expr)>> {
        let Some(primary) = self.def.primary_key() else { return Ok(None) };
        let Some((ordinal, ..)) = self.def.unique_keys().find(|(_, _, columns)| *columns == primary) else { return Ok(None) };
        let keys = UniqueKey::of(&self.def).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let Some(key) = keys.into_iter().find(|key| key.ordinal == ordinal) else { return Ok(None) };
        let conjuncts: Vec<&Expr> = filters.iter().flat_map(split_conjunction).collect();
        let columns: Vec<&ColumnDef> = key.positions.iter().map(|&p| &self.def.columns[p]).collect();
        let mut named: Vec<(Vec<ScalarValue>, Expr)> = vec![];
        for column in &columns {
            let found = conjuncts.iter().find_map(|expr| Some((values_of(column, expr, columns.len() == 1)?, (*expr).clone())));
            match found {
                Some(found) => named.push(found),
                None => return Ok(None),
            }
        }
        let arrays: Vec<ArrayRef> =
            named.iter().map(|(values, _)| ScalarValue::iter_to_array(values.iter().cloned())).collect::<Result<_>>()?;
        let fields: Vec<_> = columns.iter().map(|column| column.ty.field(&column.name, false)).collect();
        let wanted = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let filter = conjunction(named.into_iter().map(|(_, expr)| expr));
        Ok(filter.map(|filter| (key, wanted, filter)))
    }

    /// Looks committed rows up by their keys, and says which there are and which keys have none.
    async fn note_keys(
        &self,
        reads: &ReadsOf,
        state: &dyn Session,
        key: &UniqueKey,
        wanted: RecordBatch,
        filter: Expr,
        delta: &[(RowId, RecordBatch)],
    ) -> Result<()> {
        let table = self.def.arrow_schema();
        let fields = table.fields().iter().map(|f| f.as_ref().clone()).chain([row_id_field()]);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let physical = state.create_physical_expr(filter, &DFSchema::try_from(schema.clone())?)?;
        let filters = split_physical(&physical).into_iter().cloned().collect();
        let spec = ScanSpec {
            table: self.def.clone(),
            projection: key.positions.iter().copied().chain([self.def.columns.len()]).collect(),
            schema,
            view: self.view.clone(),
            delta: delta.to_vec(),
            // What the transaction wrote itself is certified with its writes.
            own: OwnRows::default(),
            predicates: vec![],
            batch_rows: state.config().batch_size(),
            limit: None,
            tabulated: tabulated(state),
            ordered: None,
        };
        let table = self.source.statistics.of(&spec.table, &spec.schema, &spec.view, &spec.own, || None);
        let expected = Expected { table: Arc::new(table), selectivity: 1.0 };
        let scan = ScanExec::try_new(spec, filters, self.source.clone(), 1, expected)?;
        let found: Vec<RecordBatch> = scan.execute(0, task_context(state))?.try_collect().await?;
        let asserts = |keys: &RecordBatch| key.asserts(keys).map_err(|e| DataFusionError::External(Box::new(e)));
        let (mut rows, mut present) = (vec![], vec![]);
        for batch in &found {
            let ids = batch.column(key.positions.len()).as_primitive::<Int64Type>();
            rows.extend(ids.values().iter().map(|id| *id as u64));
            let columns: Vec<usize> = (0..key.positions.len()).collect();
            present.extend(asserts(&batch.project(&columns)?)?);
        }
        let absent = asserts(&wanted)?.into_iter().filter(|key| !present.contains(key));
        reads.note_keys(rows, absent);
        Ok(())
    }
}

/// The values that a filter leaves a column: those it is equal to.
fn values_of(column: &ColumnDef, filter: &Expr, may_be_many: bool) -> Option<Vec<ScalarValue>> {
    // Equal values of these types have equal bytes, which is what keys are hashed by.
    let exact = matches!(
        column.ty,
        SqlType::Int2
            | SqlType::Int4
            | SqlType::Int8
            | SqlType::Numeric { .. }
            | SqlType::Text
            | SqlType::Varchar(_)
            | SqlType::Uuid
            | SqlType::Date
            | SqlType::Timestamp
            | SqlType::Timestamptz
    );
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(c) if c.name == column.name);
    let value = |expr: &Expr| match expr {
        Expr::Literal(value, _) if !value.is_null() => exact_value(value, column),
        _ => None,
    };
    match filter {
        _ if !exact => None,
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(left) => Some(vec![value(right)?]),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(right) => Some(vec![value(left)?]),
        // What the planner makes of a short IN.
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) if may_be_many => {
            let mut values = values_of(column, left, true)?;
            values.extend(values_of(column, right, true)?);
            (values.len() <= KEYS_MAX).then_some(values)
        }
        Expr::InList(list) if may_be_many && !list.negated && is_column(&list.expr) && list.list.len() <= KEYS_MAX => {
            list.list.iter().map(value).collect()
        }
        _ => None,
    }
}

/// A literal as a value of the column, when it is one already but for the way that text is kept.
fn exact_value(value: &ScalarValue, column: &ColumnDef) -> Option<ScalarValue> {
    let wanted = column.ty.arrow();
    if value.data_type() == wanted {
        return Some(value.clone());
    }
    let text = matches!(column.ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Uuid);
    let text_literal = matches!(value, ScalarValue::Utf8(_) | ScalarValue::LargeUtf8(_) | ScalarValue::Utf8View(_));
    if text && text_literal { value.cast_to(&wanted).ok() } else { None }
}
