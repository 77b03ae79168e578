//! INSERT … ON CONFLICT: new rows that meet a row with their key leave it alone, or change it.
//!
//! What they meet is found by a query that joins them, as the table `excluded`, with the target. A row that another transaction inserts
//! meanwhile is met at commit, by certification: the statement is then run again and finds it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::MemTable;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ConflictTarget, DoUpdate, Expr, Ident, OnConflict, OnConflictAction, Statement, Value,
};
use futures::StreamExt;
use quire_types::{Deferrable, TableDef};
use roaring::RoaringTreemap;

use crate::assign::assigned;
use crate::dml::{self, ChangedColumns, Target};
use crate::errors::datafusion_error;
use crate::keys::UniqueKey;
use crate::names::fold;
use crate::txn::Transaction;
use crate::write::TableWriter;
use crate::{Session, SqlError, query};

/// Number of a new row within its statement.
const POSITION: &str = "quire:position";
/// What the statement calls the new rows.
const EXCLUDED: &str = "excluded";

impl Session {
    /// Inserts rows, or does what the clause says about those that conflict. The rows that were inserted or changed, as they are now.
    pub(crate) async fn insert_on_conflict(
        &mut self,
        target: Target,
        rows: Vec<RecordBatch>,
        on: OnConflict,
        transaction: &mut Transaction,
    ) -> Result<Vec<RecordBatch>, SqlError> {
        let table = target.def.clone();
        let rows = concat_batches(&table.arrow_schema_nullable(), &rows).map_err(|e| SqlError::internal(e.to_string()))?;
        let keys = arbiters(&table, on.conflict_target.as_ref(), matches!(on.action, OnConflictAction::DoUpdate(_)))?;
        let mut writer = self.writer(&table, "INSERT", transaction)?.deferring();
        let mut met = RoaringTreemap::new();
        let mut changed = vec![];
        match on.action {
            OnConflictAction::DoNothing => {
                for key in &keys {
                    let found = self.meet(&target, &rows, key, vec![]).await?;
                    met.extend(found.iter().flat_map(|batch| numbers(batch, 0)));
                    met.extend(key.repeated(&rows)?.into_iter().map(|position| position as u64));
                }
            }
            OnConflictAction::DoUpdate(update) => {
                let key = keys.first().ok_or_else(|| SqlError::internal("ON CONFLICT DO UPDATE has no key"))?;
                if !key.repeated(&rows)?.is_empty() {
                    return Err(twice());
                }
                let (set, more) = actions(&target, update)?;
                let columns = self.changed_columns(&table, &set)?;
                for batch in self.meet(&target, &rows, key, more).await? {
                    met.extend(numbers(&batch, 0));
                    if let Some(new) = change_met(&columns, &table, &batch, &mut writer)? {
                        changed.push(new);
                    }
                }
            }
        }
        let fresh: BooleanArray = (0..rows.num_rows() as u64).map(|position| Some(!met.contains(position))).collect();
        changed.push(filter_record_batch(&rows, &fresh).map_err(|e| SqlError::internal(e.to_string()))?);
        for batch in &changed {
            writer.push(batch.clone()).await?;
        }
        self.finish_write(&table, writer, "INSERT", transaction).await?;
        Ok(changed)
    }

    /// The target's rows that have a new row's key: new row's number, row id, the target's columns, `more`.
    async fn meet(&mut self, target: &Target, rows: &RecordBatch, key: &UniqueKey, more: Vec<Expr>) -> Result<Vec<RecordBatch>, SqlError> {
        let numbered = numbered(rows)?;
        let provider = MemTable::try_new(numbered.schema(), vec![vec![numbered]]).map_err(datafusion_error)?;
        let columns = key.positions.iter().map(|&p| target.def.columns[p].name.as_str());
        let same = |name: &str| Expr::BinaryOp {
            left: Box::new(target.column(name)),
            op: BinaryOperator::Eq,
            right: Box::new(excluded_column(name)),
        };
        let all = |left: Expr, right: Expr| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) };
        let selection = columns.map(same).reduce(all);
        let position = vec![excluded_column(POSITION)];
        let excluded = dml::staged_rows(Ident::new(EXCLUDED))?;
        let statement: Statement = target.query_before(position, vec![excluded], selection, more)?;
        self.cell.set_returning(Some(Arc::new(provider)));
        let planned = query::plan(&self.context, statement).await;
        let started = match planned {
            Ok(planned) => query::start(&self.context, &planned).await,
            Err(error) => Err(error),
        };
        self.cell.set_returning(None);
        let (_, mut stream) = started?;
        let mut found = vec![];
        while let Some(batch) = stream.next().await {
            found.push(batch.map_err(datafusion_error)?);
        }
        Ok(found)
    }
}

fn excluded_column(name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::new(EXCLUDED), Ident::with_quote('"', name)])
}

/// The unique keys that decide what conflicts.
fn arbiters(table: &TableDef, target: Option<&ConflictTarget>, needs_one: bool) -> Result<Vec<UniqueKey>, SqlError> {
    let keys = UniqueKey::of(table)?;
    let Some(target) = target else {
        if needs_one {
            return Err(SqlError::new("42601", "ON CONFLICT DO UPDATE requires inference specification or constraint name")
                .with_hint("For example, ON CONFLICT (column_name)."));
        }
        keys.iter().try_for_each(|key| check_arbiter(table, key))?;
        return Ok(keys);
    };
    let (chosen, missing) = match target {
        ConflictTarget::Columns(columns) => {
            let mut positions = vec![];
            for name in columns.iter().map(fold) {
                let found = table.column_index(&name);
                positions.push(found.ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" does not exist")))?);
            }
            positions.sort_unstable();
            positions.dedup();
            let same = |key: &UniqueKey| {
                let mut own = key.positions.clone();
                own.sort_unstable();
                own == positions
            };
            let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification".to_string();
            (keys.into_iter().find(same), SqlError::new("42P10", message))
        }
        ConflictTarget::OnConstraint(name) => {
            let name = name.0.last().and_then(|p| p.as_ident()).map(fold).unwrap_or_default();
            let message = format!("constraint \"{name}\" for table \"{}\" does not exist", table.name);
            // A unique index is no constraint.
            let named = |key: &UniqueKey| key.name == name && table.constraints[key.ordinal as usize].is_constraint();
            (keys.into_iter().find(named), SqlError::new("42704", message))
        }
    };
    let chosen = chosen.ok_or(missing)?;
    check_arbiter(table, &chosen)?;
    Ok(vec![chosen])
}

/// 55000: what conflicts has to be known when the row comes.
fn check_arbiter(table: &TableDef, key: &UniqueKey) -> Result<(), SqlError> {
    if table.constraints[key.ordinal as usize].deferrable == Deferrable::Not {
        return Ok(());
    }
    let message = "ON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters";
    Err(SqlError::new("55000", message).on_table(&table.name).on_constraint(&key.name))
}

/// DO UPDATE: the columns that are set, and what the query computes: whether the row is to be changed, then the values.
fn actions(target: &Target, update: DoUpdate) -> Result<(Vec<usize>, Vec<Expr>), SqlError> {
    let (set, values) = assigned(&target.def, update.assignments)?;
    let condition = update.selection.unwrap_or_else(|| Expr::Value(Value::Boolean(true).into()));
    let mut more = vec![condition];
    more.extend(values);
    Ok((set, more))
}

/// Changes the rows that a batch of [`Session::meet`] found; the new ones.
fn change_met(
    columns: &ChangedColumns,
    table: &TableDef,
    found: &RecordBatch,
    writer: &mut TableWriter,
) -> Result<Option<RecordBatch>, SqlError> {
    let width = table.columns.len();
    let wanted = found.column(2 + width);
    let wanted = wanted.as_boolean_opt().ok_or_else(|| SqlError::new("42804", "argument of WHERE must be type boolean"))?;
    let wanted: BooleanArray = wanted.iter().map(|w| Some(w == Some(true))).collect();
    let found = filter_record_batch(found, &wanted).map_err(|e| SqlError::internal(e.to_string()))?;
    if found.num_rows() == 0 {
        return Ok(None);
    }
    for id in numbers(&found, 1) {
        if writer.delete([id]) == 0 {
            return Err(twice());
        }
    }
    // As an UPDATE's query gives it: row id, columns, values.
    let keep: Vec<usize> = (1..2 + width).chain(3 + width..found.num_columns()).collect();
    let found = found.project(&keep).map_err(|e| SqlError::internal(e.to_string()))?;
    let before = dml::table_rows(&table.arrow_schema_nullable(), found.columns()[1..=width].to_vec())?;
    let after = columns.replaced(&found)?;
    writer.effects.changed(&before, Some(&after))?;
    Ok(Some(after))
}

fn twice() -> SqlError {
    SqlError::new("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time")
        .with_hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
}

fn numbers(batch: &RecordBatch, column: usize) -> Vec<u64> {
    batch.column(column).as_primitive::<Int64Type>().values().iter().map(|n| *n as u64).collect()
}

fn numbered(rows: &RecordBatch) -> Result<RecordBatch, SqlError> {
    let mut fields: Vec<Field> = rows.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new(POSITION, DataType::Int64, false));
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(0..rows.num_rows() as i64)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| SqlError::internal(e.to_string()))
}
