//! Foreign keys: what a statement's new rows point at must be there, and what pointed at its old ones must go along or stand in the way.
//!
//! Both sides are certified by one claim. A commit with new references names the keys that they point at, on the referenced table; a
//! commit that takes such keys away names them as written. Whichever comes second meets the other's claim and gets 40001, on whatever
//! nodes they were planned.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::catalog::MemTable;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident, Value};
use quire_types::{Catalog, ColumnId, ConstraintDef, ConstraintKind, ReferentialAction, TableDef, TableId};

use crate::alter::planner_name;
use crate::alter_rows::key_text;
use crate::catalog::{DATABASE, RETURNING_SCHEMA};
use crate::dml::{RowChange, staged_rows};
use crate::errors::datafusion_error;
use crate::insert::fill_default;
use crate::keys::{KeyRows, UniqueKey};
use crate::referencing::among_keys;
use crate::txn::Transaction;
use crate::{Session, SqlError};

/// What statements call the keys that are gone.
const GONE: &str = "quire:gone";

/// The keys of foreign keys that one statement's rows have to do with.
#[derive(Default)]
pub(crate) struct KeyEffects {
    outgoing: Vec<Outgoing>,
    incoming: Vec<Incoming>,
}

/// A foreign key of the table, and where its new rows point.
struct Outgoing {
    constraint: usize,
    positions: Vec<usize>,
    pointed: Vec<RecordBatch>,
}

/// Columns of the table that foreign keys point at, and the keys of rows that went or changed there.
struct Incoming {
    columns: Vec<ColumnId>,
    positions: Vec<usize>,
    /// (before, after); after an UPDATE there is an after.
    changed: Vec<(RecordBatch, Option<RecordBatch>)>,
}

impl KeyEffects {
    /// Nothing yet, for a statement on the table.
    pub(crate) fn of(table: &TableDef, catalog: &Catalog) -> KeyEffects {
        let positions =
            |ids: &[ColumnId]| -> Vec<usize> { ids.iter().filter_map(|id| table.columns.iter().position(|c| c.id == *id)).collect() };
        let mut effects = KeyEffects::default();
        for (constraint, def) in table.constraints.iter().enumerate() {
            if let ConstraintKind::ForeignKey { columns, .. } = &def.kind {
                effects.outgoing.push(Outgoing { constraint, positions: positions(columns), pointed: vec![] });
            }
        }
        for (_, constraint) in references_to(table.id, catalog) {
            if let ConstraintKind::ForeignKey { referenced, .. } = constraint.kind
                && !effects.incoming.iter().any(|i| i.columns == referenced)
            {
                effects.incoming.push(Incoming { positions: positions(&referenced), columns: referenced, changed: vec![] });
            }
        }
        effects
    }

    /// True when no foreign key has to do with the statement.
    pub(crate) fn is_empty(&self) -> bool {
        self.outgoing.is_empty() && self.incoming.is_empty()
    }

    /// For an UPDATE that sets these columns: the other ones' keys stay.
    pub(crate) fn setting(&mut self, set: &[usize]) {
        let sets = |positions: &[usize]| positions.iter().any(|p| set.contains(p));
        self.outgoing.retain(|o| sets(&o.positions));
        self.incoming.retain(|i| sets(&i.positions));
    }

    /// New rows of the table.
    pub(crate) fn added(&mut self, rows: &RecordBatch) -> Result<(), SqlError> {
        for outgoing in &mut self.outgoing {
            let keys = rows.project(&outgoing.positions).map_err(arrow_error)?;
            let present: BooleanArray = (0..keys.num_rows()).map(|row| Some(keys.columns().iter().all(|c| c.is_valid(row)))).collect();
            let keys =
                if present.true_count() == keys.num_rows() { keys } else { filter_record_batch(&keys, &present).map_err(arrow_error)? };
            if keys.num_rows() > 0 {
                outgoing.pointed.push(keys);
            }
        }
        Ok(())
    }

    /// Rows of the table that went, or became others.
    pub(crate) fn changed(&mut self, before: &RecordBatch, after: Option<&RecordBatch>) -> Result<(), SqlError> {
        for incoming in &mut self.incoming {
            let old = before.project(&incoming.positions).map_err(arrow_error)?;
            let new = after.map(|rows| rows.project(&incoming.positions)).transpose().map_err(arrow_error)?;
            incoming.changed.push((old, new));
        }
        Ok(())
    }
}

fn arrow_error(error: arrow::error::ArrowError) -> SqlError {
    SqlError::internal(format!("cannot compare keys: {error}"))
}

/// Foreign keys that point at a table, each with its own.
fn references_to(table: TableId, catalog: &Catalog) -> Vec<(Arc<TableDef>, ConstraintDef)> {
    let of = |child: &Arc<TableDef>| {
        let pointing =
            child.constraints.iter().filter(|c| matches!(&c.kind, ConstraintKind::ForeignKey { references, .. } if *references == table));
        let pointing: Vec<_> = pointing.map(|c| (child.clone(), c.clone())).collect();
        pointing
    };
    catalog.tables.values().flat_map(of).collect()
}

impl Session {
    /// Does what foreign keys ask for after a statement has written to the table. The transaction has its rows already.
    pub(crate) async fn enforce_foreign_keys(
        &mut self,
        table: &Arc<TableDef>,
        effects: KeyEffects,
        what: &str,
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        let KeyEffects { outgoing, incoming } = effects;
        for incoming in incoming {
            let Some(gone) = gone_keys(&incoming)? else { continue };
            self.take_away(table, &incoming, &gone, what, transaction).await?;
        }
        for outgoing in outgoing.into_iter().filter(|o| !o.pointed.is_empty()) {
            self.point(table, outgoing, what, transaction).await?;
        }
        Ok(())
    }

    /// New rows point at keys: they must be there, and stay there until the commit.
    async fn point(
        &mut self,
        table: &Arc<TableDef>,
        outgoing: Outgoing,
        what: &str,
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        let constraint = &table.constraints[outgoing.constraint];
        let ConstraintKind::ForeignKey { references, referenced, columns, .. } = &constraint.kind else { return Ok(()) };
        if transaction.deferred.is_deferred(table.id, constraint) {
            transaction.deferred.pointed(table.id, &constraint.name, outgoing.pointed);
            return Ok(());
        }
        let parent = self.referenced_table(*references, transaction)?;
        let schema = outgoing.pointed[0].schema();
        let keys = distinct(&concat_batches(&schema, &outgoing.pointed).map_err(arrow_error)?)?;
        let (key, wanted) = parent_key(&parent, referenced, &keys)?;
        let there = self.present(&parent, &key, &wanted, transaction).await?;
        if let Some(row) = there.iter().position(|there| !there) {
            return Err(points_nowhere((table, columns, &constraint.name), &parent, &keys.slice(row, 1))?);
        }
        let write = transaction.write(what, parent.id, parent.version)?;
        write.read_keys(&key, &wanted)
    }

    pub(crate) fn referenced_table(&self, id: TableId, transaction: &Transaction) -> Result<Arc<TableDef>, SqlError> {
        let found = transaction.catalog().tables.get(&id).cloned();
        found.ok_or_else(|| SqlError::internal("the table that a foreign key references is gone"))
    }

    /// Which of the keys rows of the table have, the transaction's own included.
    pub(crate) async fn present(
        &self,
        parent: &Arc<TableDef>,
        key: &UniqueKey,
        wanted: &RecordBatch,
        transaction: &Transaction,
    ) -> Result<Vec<bool>, SqlError> {
        key.present(wanted, &KeyRows::of(parent, transaction), self.engine.source.as_ref()).await
    }

    /// Keys that foreign keys may point at are gone: what points there goes along, is changed, or stands in the way.
    async fn take_away(
        &mut self,
        table: &Arc<TableDef>,
        incoming: &Incoming,
        gone: &Gone,
        what: &str,
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        let (key, wanted) = parent_key(table, &incoming.columns, &gone.keys)?;
        transaction.write(what, table.id, table.version)?.claim_keys(&key, &wanted)?;
        let pointing = references_to(table.id, transaction.catalog());
        let pointing: Vec<_> = pointing
            .into_iter()
            .filter_map(|(child, constraint)| match &constraint.kind {
                ConstraintKind::ForeignKey { columns, referenced, on_delete, on_update, .. } if *referenced == incoming.columns => {
                    let action = if gone.updated { *on_update } else { *on_delete };
                    // Only what NO ACTION asks for can wait.
                    if action == ReferentialAction::NoAction && transaction.deferred.is_deferred(child.id, &constraint) {
                        transaction.deferred.gone(child.id, &constraint.name, gone.keys.clone());
                        return None;
                    }
                    Some((child, constraint.name.clone(), columns.clone(), action))
                }
                _ => None,
            })
            .collect();
        for (child, name, _, action) in &pointing {
            if *action == ReferentialAction::Restrict {
                self.refuse_referenced((table, &incoming.columns), &gone.keys, (child, name), transaction).await?;
            }
        }
        for (child, _, columns, action) in &pointing {
            if !matches!(action, ReferentialAction::NoAction | ReferentialAction::Restrict) {
                Box::pin(self.follow(child, columns, *action, gone, transaction)).await?;
            }
        }
        if pointing.iter().any(|(.., action)| *action == ReferentialAction::NoAction) {
            // Another row may have the key by now.
            let there = self.present(table, &key, &wanted, transaction).await?;
            let missing: BooleanArray = there.iter().map(|there| Some(!there)).collect();
            let missing = filter_record_batch(&gone.keys, &missing).map_err(arrow_error)?;
            if missing.num_rows() > 0 {
                for (child, name, _, action) in &pointing {
                    if *action == ReferentialAction::NoAction {
                        self.refuse_referenced((table, &incoming.columns), &missing, (child, name), transaction).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// 23503 when a row of the child points at one of the keys.
    pub(crate) async fn refuse_referenced(
        &mut self,
        (table, referenced): (&Arc<TableDef>, &[ColumnId]),
        keys: &RecordBatch,
        (child, name): (&Arc<TableDef>, &String),
        transaction: &Transaction,
    ) -> Result<(), SqlError> {
        // As it is now: the statement may have changed it.
        let Some(child) = transaction.catalog().tables.get(&child.id).cloned() else { return Ok(()) };
        let Some(constraint) = child.constraints.iter().find(|c| c.name == *name) else { return Ok(()) };
        let ConstraintKind::ForeignKey { columns, .. } = &constraint.kind else { return Ok(()) };
        let Some(row) = self.pointing_row(&child, columns, keys, transaction).await? else { return Ok(()) };
        let detail = format!("{} is still referenced from table \"{}\".", key_text(table, referenced, &row)?, child.name);
        let message =
            format!("update or delete on table \"{}\" violates foreign key constraint \"{name}\" on table \"{}\"", table.name, child.name);
        Err(SqlError::new("23503", message).with_detail(detail).on_table(&child.name).on_constraint(name))
    }

    /// One of the keys at which a row of the table points, as the transaction has it now.
    pub(crate) async fn pointing_row(
        &mut self,
        child: &Arc<TableDef>,
        columns: &[ColumnId],
        keys: &RecordBatch,
        transaction: &Transaction,
    ) -> Result<Option<RecordBatch>, SqlError> {
        self.cell.set(transaction.scope());
        let staged = staged(keys, None)?;
        let names: Vec<String> = (0..keys.num_columns()).map(|i| format!("s.\"{}\"", old_name(i))).collect();
        let child_names: Vec<&str> = columns.iter().filter_map(|id| child.column(*id)).map(|c| c.name.as_str()).collect();
        let equal: Vec<String> = child_names.iter().zip(&names).map(|(c, s)| format!("c.\"{}\" = {s}", c.replace('"', "\"\""))).collect();
        let positions: Vec<usize> = columns.iter().filter_map(|id| child.columns.iter().position(|c| c.id == *id)).collect();
        let column = |name: &str| Expr::CompoundIdentifier(vec![Ident::new("c"), Ident::with_quote('"', name)]);
        let among = among_keys(child, &positions, keys, column)?;
        let conditions: Vec<String> = equal.into_iter().chain(among.iter().map(ToString::to_string)).collect();
        let schema = transaction.catalog().schemas.get(&child.schema).map(|s| s.name.clone()).unwrap_or_default();
        let sql = format!(
            "SELECT {} FROM \"{DATABASE}\".\"{RETURNING_SCHEMA}\".\"rows\" AS s WHERE EXISTS (SELECT 1 FROM {} AS c WHERE {}) LIMIT 1",
            names.join(", "),
            planner_name(&schema, &child.name),
            conditions.join(" AND ")
        );
        self.cell.set_returning(Some(Arc::new(staged)));
        let found = Box::pin(self.first_row(&sql)).await;
        self.cell.set_returning(None);
        found
    }

    /// CASCADE, SET NULL, SET DEFAULT: a statement of its own on the child.
    async fn follow(
        &mut self,
        child: &Arc<TableDef>,
        columns: &[ColumnId],
        action: ReferentialAction,
        gone: &Gone,
        transaction: &mut Transaction,
    ) -> Result<(), SqlError> {
        let positions: Vec<usize> = columns.iter().filter_map(|id| child.columns.iter().position(|c| c.id == *id)).collect();
        let target = self.target_of(child.clone(), None);
        let staged_column = |name: String| Expr::CompoundIdentifier(vec![Ident::with_quote('"', GONE), Ident::with_quote('"', name)]);
        let same = positions.iter().enumerate().map(|(i, p)| Expr::BinaryOp {
            left: Box::new(target.column(&child.columns[*p].name)),
            op: BinaryOperator::Eq,
            right: Box::new(staged_column(old_name(i))),
        });
        let all = |left: Expr, right: Expr| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) };
        let among = among_keys(child, &positions, &gone.keys, |name| target.column(name))?;
        let selection = same.chain(among).reduce(all);
        let mut values = vec![];
        for (i, p) in positions.iter().enumerate() {
            values.push(match action {
                ReferentialAction::SetNull => Expr::Value(Value::Null.into()),
                ReferentialAction::SetDefault => {
                    let mut value = Expr::Identifier(Ident::new("default"));
                    fill_default(&mut value, &child.columns[*p])?;
                    value
                }
                _ => staged_column(new_name(i)),
            });
        }
        let deletes = action == ReferentialAction::Cascade && !gone.updated;
        let set = (!deletes).then_some(positions);
        let values = if deletes { vec![] } else { values };
        self.cell.set(transaction.scope());
        let change = RowChange::of_rows(target, vec![staged_rows(Ident::with_quote('"', GONE))?], selection, set, values)?;
        self.cell.set_returning(Some(Arc::new(staged(&gone.keys, gone.after.as_ref())?)));
        let changed = Box::pin(self.change_rows(change, transaction)).await;
        self.cell.set_returning(None);
        changed.map(drop)
    }
}

/// 23503 for rows of a table that point, by columns and constraint, at a key that there is not.
pub(crate) fn points_nowhere(
    (table, columns, constraint): (&TableDef, &[ColumnId], &str),
    parent: &TableDef,
    key: &RecordBatch,
) -> Result<SqlError, SqlError> {
    let detail = format!("{} is not present in table \"{}\".", key_text(table, columns, key)?, parent.name);
    let message = format!("insert or update on table \"{}\" violates foreign key constraint \"{constraint}\"", table.name);
    Ok(SqlError::new("23503", message).with_detail(detail).on_table(&table.name).on_constraint(constraint))
}

/// Keys that were there before a statement, each once.
struct Gone {
    keys: RecordBatch,
    /// What each became, after an UPDATE.
    after: Option<RecordBatch>,
    updated: bool,
}

/// The keys that rows had and have no more; `None` when there are none. Keys with a NULL are pointed at by nobody.
fn gone_keys(incoming: &Incoming) -> Result<Option<Gone>, SqlError> {
    let Some((first, after)) = incoming.changed.first() else { return Ok(None) };
    let before: Vec<&RecordBatch> = incoming.changed.iter().map(|(before, _)| before).collect();
    let keys = concat_batches(&first.schema(), before).map_err(arrow_error)?;
    let after = match after {
        None => None,
        Some(one) => {
            let after: Vec<&RecordBatch> = incoming.changed.iter().filter_map(|(_, after)| after.as_ref()).collect();
            Some(concat_batches(&one.schema(), after).map_err(arrow_error)?)
        }
    };
    let converter = converter(&keys)?;
    let old = converter.convert_columns(keys.columns()).map_err(arrow_error)?;
    let new = after.as_ref().map(|rows| converter.convert_columns(rows.columns())).transpose().map_err(arrow_error)?;
    let gone: BooleanArray = (0..keys.num_rows())
        .map(|row| {
            let complete = keys.columns().iter().all(|c| c.is_valid(row));
            Some(complete && new.as_ref().is_none_or(|new| new.row(row) != old.row(row)))
        })
        .collect();
    if gone.true_count() == 0 {
        return Ok(None);
    }
    Ok(Some(Gone {
        keys: filter_record_batch(&keys, &gone).map_err(arrow_error)?,
        updated: after.is_some(),
        after: after.map(|rows| filter_record_batch(&rows, &gone)).transpose().map_err(arrow_error)?,
    }))
}

fn converter(keys: &RecordBatch) -> Result<RowConverter, SqlError> {
    RowConverter::new(keys.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect()).map_err(arrow_error)
}

/// Each key once.
pub(crate) fn distinct(keys: &RecordBatch) -> Result<RecordBatch, SqlError> {
    let rows = converter(keys)?.convert_columns(keys.columns()).map_err(arrow_error)?;
    let mut seen = HashSet::with_capacity(rows.num_rows());
    let first: BooleanArray = rows.iter().map(|row| Some(seen.insert(row))).collect();
    filter_record_batch(keys, &first).map_err(arrow_error)
}

/// The unique key of the referenced table, and the values in its columns' order and types.
pub(crate) fn parent_key(parent: &TableDef, referenced: &[ColumnId], keys: &RecordBatch) -> Result<(UniqueKey, RecordBatch), SqlError> {
    let gone = || SqlError::internal("the key that a foreign key references is gone");
    let (ordinal, columns) = parent.key_over(referenced).ok_or_else(gone)?;
    let key = UniqueKey::of(parent)?.into_iter().find(|k| k.ordinal == ordinal).ok_or_else(gone)?;
    let mut arrays: Vec<ArrayRef> = vec![];
    let mut fields = vec![];
    for id in columns {
        let at = referenced.iter().position(|r| r == id).ok_or_else(gone)?;
        let column = parent.column(*id).ok_or_else(gone)?;
        // A value that the type has not is NULL, which no key is.
        arrays.push(cast(keys.column(at), &column.ty.arrow()).map_err(arrow_error)?);
        fields.push(Field::new(&column.name, column.ty.arrow(), true));
    }
    let wanted = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(arrow_error)?;
    Ok((key, wanted))
}

fn old_name(position: usize) -> String {
    format!("quire:old:{position}")
}

fn new_name(position: usize) -> String {
    format!("quire:new:{position}")
}

/// Keys, and what they became, as a relation.
fn staged(keys: &RecordBatch, after: Option<&RecordBatch>) -> Result<MemTable, SqlError> {
    let old = keys.columns().iter().enumerate().map(|(i, c)| (old_name(i), c.clone()));
    let new = after.into_iter().flat_map(|rows| rows.columns().iter().enumerate().map(|(i, c)| (new_name(i), c.clone())));
    let columns: Vec<(String, ArrayRef)> = old.chain(new).collect();
    let fields: Vec<Field> = columns.iter().map(|(name, c)| Field::new(name, c.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, c)| c).collect()).map_err(arrow_error)?;
    MemTable::try_new(schema, vec![vec![batch]]).map_err(datafusion_error)
}
