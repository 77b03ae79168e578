//! What ALTER TABLE does with rows: looks at all of them for a new constraint, or writes them again.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{Expr, Statement};
use futures::StreamExt;
use quire_types::{ColumnDef, ColumnId, ConstraintDef, ConstraintKind, TableDef, ViewDef};

use crate::alter::planner_name;
use crate::alteration::{Alteration, assignable};
use crate::errors::datafusion_error;
use crate::txn::{PendingWrite, Transaction};
use crate::write::{TableWriter, WriteTarget};
use crate::{Session, SqlError, WireType, depend, parse, query, values};

/// A definition and what is to be done for it.
pub(crate) struct NewDefinition {
    pub(crate) old: Arc<TableDef>,
    pub(crate) def: TableDef,
    /// For each constraint, which one of the old definition it was.
    pub(crate) origins: Vec<Option<u32>>,
    /// Columns in which no row may have NULL.
    pub(crate) not_null: Vec<ColumnId>,
    /// Columns whose values become others.
    pub(crate) conversions: Vec<(ColumnId, Option<Expr>)>,
}

impl NewDefinition {
    /// Constraints that ask something of the rows.
    fn new_constraints(&self) -> impl Iterator<Item = &ConstraintDef> {
        let asks = |c: &ConstraintDef| !matches!(c.kind, ConstraintKind::Index { unique: false, .. });
        self.def.constraints.iter().zip(&self.origins).filter(move |(c, origin)| origin.is_none() && asks(c)).map(|(c, _)| c)
    }
}

impl Session {
    /// A new column's value in rows that are there: its default, computed once; or the rows are written again.
    pub(crate) async fn fill_added(&mut self, alteration: &mut Alteration<'_>, id: ColumnId) -> Result<(), SqlError> {
        let Some(column) = alteration.def().column(id).cloned() else { return Ok(()) };
        if column.generated.is_some() || crate::alteration::takes_from_sequence(&column) {
            alteration.rewrite = true;
            return Ok(());
        }
        let one_value = match &column.default {
            None => true,
            Some(default) => !self.is_volatile(default)?,
        };
        let mut missing = None;
        if one_value && column.default.is_some() {
            let value = self.default_values(alteration.def(), &column, 1).await?;
            missing = quire_segment::missing_datum(&value);
            alteration.rewrite |= missing.is_none() && value.null_count() == 0;
        }
        alteration.rewrite |= !one_value;
        let has_value = missing.is_some();
        alteration.builder.column_mut(id)?.missing = missing;
        if !column.nullable && !has_value && !alteration.rewrite {
            alteration.forbid_null(id)?;
        }
        Ok(())
    }

    /// Views that do not mean anything without the column.
    pub(crate) async fn views_using(
        &self,
        alteration: &Alteration<'_>,
        column: ColumnId,
        transaction: &Transaction,
    ) -> Result<Vec<Arc<ViewDef>>, SqlError> {
        let table = &alteration.old;
        let views = depend::direct_views(transaction.catalog(), table.id);
        if views.is_empty() || table.column(column).is_none() {
            return Ok(vec![]);
        }
        let mut without = table.as_ref().clone();
        without.columns.retain(|c| c.id != column);
        let known = |ids: &[ColumnId]| !ids.contains(&column);
        without.constraints.retain(|constraint| constraint.kind.unique_columns().is_some_and(known));
        let before = self.cell.get();
        self.cell.set(transaction.scope_with(&without)?);
        let mut using = vec![];
        for view in views {
            if self.cell.plan_view(&view).await.is_err() {
                using.push(view);
            }
        }
        self.cell.set(before);
        Ok(using)
    }

    /// Looks at the rows for what the new definition asks of them, and records it.
    pub(crate) async fn check_rows(&mut self, mut new: NewDefinition, transaction: &mut Transaction) -> Result<(), SqlError> {
        let checked = !new.not_null.is_empty() || new.new_constraints().next().is_some();
        let mut parents = vec![];
        if checked {
            // What is to be found out must not be taken for granted by the planner.
            let mut relaxed = new.def.clone();
            relaxed.columns.iter_mut().for_each(|c| c.nullable = true);
            let unique: Vec<bool> = new
                .def
                .constraints
                .iter()
                .zip(&new.origins)
                .map(|(c, origin)| origin.is_none() && c.kind.unique_columns().is_some())
                .collect();
            let mut added = unique.iter();
            relaxed.constraints.retain(|_| !added.next().copied().unwrap_or(false));
            self.cell.set(transaction.scope_with(&relaxed)?);
            for id in &new.not_null {
                self.check_no_nulls(&new.def, *id, transaction).await?;
            }
            for constraint in new.new_constraints() {
                parents.extend(self.check_constraint(&new.def, constraint, transaction).await?);
            }
        }
        for id in std::mem::take(&mut new.not_null) {
            if let Some(column) = new.def.columns.iter_mut().find(|c| c.id == id) {
                column.had_nulls = true;
            }
        }
        let (id, version) = (new.def.id, new.def.version);
        transaction.redefine("ALTER TABLE", new.def, &new.origins)?;
        if checked {
            transaction.write("ALTER TABLE", id, version)?.unwritten = true;
        }
        for parent in parents.into_iter().filter(|p| p.id != id) {
            transaction.write("ALTER TABLE", parent.id, parent.version)?.unwritten = true;
        }
        self.cell.set(transaction.scope());
        Ok(())
    }

    async fn check_no_nulls(&mut self, def: &TableDef, id: ColumnId, transaction: &Transaction) -> Result<(), SqlError> {
        let Some(column) = def.column(id) else { return Ok(()) };
        let name = quoted(&column.name);
        let sql = format!("SELECT 1 FROM {} WHERE {name} IS NULL LIMIT 1", source(transaction, def));
        match self.first_row(&sql).await? {
            Some(_) => Err(contains_nulls(def, column)),
            None => Ok(()),
        }
    }

    /// 23514, 23505, 23503. Gives the table that a foreign key references.
    async fn check_constraint(
        &mut self,
        def: &TableDef,
        constraint: &ConstraintDef,
        transaction: &Transaction,
    ) -> Result<Option<Arc<TableDef>>, SqlError> {
        let from = source(transaction, def);
        match &constraint.kind {
            ConstraintKind::Check(sql) => {
                let violating = format!("SELECT 1 FROM {from} WHERE NOT ({sql}) LIMIT 1");
                if self.first_row(&violating).await?.is_some() {
                    return Err(check_violated(def, &constraint.name));
                }
            }
            ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) | ConstraintKind::Index { columns, unique: true } => {
                let list = names(def, columns).join(", ");
                let present = names(def, columns).iter().map(|n| format!("{n} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
                let sql = format!("SELECT {list} FROM {from} WHERE {present} GROUP BY {list} HAVING count(*) > 1 LIMIT 1");
                if let Some(row) = self.first_row(&sql).await? {
                    let detail = format!("{} is duplicated.", key_text(def, columns, &row)?);
                    return Err(not_unique(def, &constraint.name, detail));
                }
            }
            ConstraintKind::ForeignKey { columns, references, referenced, .. } => {
                let own = || Arc::new(def.clone());
                let found = if *references == def.id { Some(own()) } else { transaction.catalog().tables.get(references).cloned() };
                let parent = found.ok_or_else(|| SqlError::internal("the referenced table is gone"))?;
                let (child_names, parent_names) = (names(def, columns), names(&parent, referenced));
                let list = child_names.iter().map(|n| format!("c.{n}")).collect::<Vec<_>>().join(", ");
                let present = child_names.iter().map(|n| format!("c.{n} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
                let equal: Vec<String> = child_names.iter().zip(&parent_names).map(|(c, p)| format!("p.{p} = c.{c}")).collect();
                let sql = format!(
                    "SELECT {list} FROM {from} AS c WHERE {present} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {}) LIMIT 1",
                    source(transaction, &parent),
                    equal.join(" AND ")
                );
                if let Some(row) = self.first_row(&sql).await? {
                    let detail = format!("{} is not present in table \"{}\".", key_text(def, columns, &row)?, parent.name);
                    let message =
                        format!("insert or update on table \"{}\" violates foreign key constraint \"{}\"", def.name, constraint.name);
                    return Err(SqlError::new("23503", message).with_detail(detail).on_table(&def.name).on_constraint(&constraint.name));
                }
                return Ok(Some(parent));
            }
            ConstraintKind::Index { unique: false, .. } => {}
        }
        Ok(None)
    }

    /// The first row of a query over the current scope.
    pub(crate) async fn first_row(&mut self, sql: &str) -> Result<Option<RecordBatch>, SqlError> {
        let planned = query::plan(&self.context, one_statement(sql)?).await?;
        let (_, mut rows) = query::start(&self.context, &planned).await?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(datafusion_error)?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch.slice(0, 1)));
            }
        }
        Ok(None)
    }

    /// Writes every row again, under the new definition.
    pub(crate) async fn rewrite_rows(&mut self, new: NewDefinition, transaction: &mut Transaction) -> Result<(), SqlError> {
        let NewDefinition { old, mut def, origins, conversions, .. } = new;
        // Nothing that was stored before stays.
        def.columns.iter_mut().for_each(|c| {
            c.missing = None;
            c.had_nulls = false;
        });
        self.cell.set(transaction.scope());
        let kept: Vec<&ColumnDef> = def.columns.iter().filter(|c| old.column(c.id).is_some() && !is_stored(c)).collect();
        let mut items = vec![];
        let mut targets = vec![];
        for column in &kept {
            let using = conversions.iter().find(|(id, _)| *id == column.id).and_then(|(_, using)| using.clone());
            let own = old.column(column.id).map(|c| quoted(&c.name)).unwrap_or_default();
            items.push(using.map_or(own, |expr| expr.to_string()));
            targets.extend(def.columns.iter().position(|c| c.id == column.id));
        }
        let shown: Vec<String> = items.iter().enumerate().map(|(i, item)| format!("{item} AS \"quire:{i}\"")).collect();
        let from = source(transaction, &old);
        let select = match shown.is_empty() {
            true => format!("SELECT 1 AS \"quire:0\" FROM {from}"),
            false => format!("SELECT {} FROM {from}", shown.join(", ")),
        };
        let planned = query::plan(&self.context, one_statement(&select)?).await?;
        for ((column, output), _) in kept.iter().zip(planned.columns.iter()).zip(&targets) {
            let given = conversions.iter().any(|(id, using)| *id == column.id && using.is_some());
            if given
                && let WireType::Scalar(ty) = output.ty
                && !assignable(ty, column.ty)
            {
                let message = format!(
                    "result of USING clause for column \"{}\" cannot be cast automatically to type {}",
                    column.name,
                    column.ty.name()
                );
                return Err(SqlError::new("42804", message).with_hint("You might need to add an explicit cast."));
            }
        }
        let (_, mut rows) = query::start(&self.context, &planned).await?;
        transaction.redefine("ALTER TABLE", def.clone(), &origins)?;
        self.cell.set(transaction.scope());
        let def = Arc::new(def);
        let fresh = PendingWrite { version: def.version, truncate: true, ..PendingWrite::default() };
        let target = WriteTarget {
            table: def.clone(),
            checks: self.compile_checks(&def)?,
            committed: Arc::default(),
            lsn: transaction.view().lsn,
            client: self.engine.client.clone(),
            source: self.engine.source.clone(),
            reads: None,
        };
        let mut writer = TableWriter::new(Arc::new(target), fresh)?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(datafusion_error)?;
            if batch.num_rows() > 0 {
                let rows = self.complete(&def, &targets, &batch).await?;
                writer.push(rows).await.map_err(|e| as_alteration(e, &def))?;
            }
        }
        let finished = writer.finish().await.map_err(|e| as_alteration(e, &def))?;
        *transaction.write("ALTER TABLE", def.id, def.version)? = finished.write;
        self.cell.set(transaction.scope());
        let foreign: Vec<ConstraintDef> = def
            .constraints
            .iter()
            .zip(&origins)
            .filter(|(c, origin)| origin.is_none() && matches!(c.kind, ConstraintKind::ForeignKey { .. }))
            .map(|(c, _)| c.clone())
            .collect();
        for constraint in &foreign {
            if let Some(parent) = self.check_constraint(&def, constraint, transaction).await?
                && parent.id != def.id
            {
                transaction.write("ALTER TABLE", parent.id, parent.version)?.unwritten = true;
            }
        }
        Ok(())
    }
}

fn is_stored(column: &ColumnDef) -> bool {
    matches!(column.generated, Some(quire_types::Generated::Stored(_)))
}

/// What a statement that writes rows finds, in the words of one that alters their table.
fn as_alteration(error: SqlError, def: &TableDef) -> SqlError {
    let constraint = error.object.constraint.clone().unwrap_or_default();
    let column = error.object.column.as_ref().and_then(|name| def.columns.iter().find(|c| c.name == *name));
    match (error.code, column) {
        ("23502", Some(column)) => contains_nulls(def, column),
        ("23514", _) => check_violated(def, &constraint),
        ("23505", _) => {
            let detail = error.detail.unwrap_or_default().replace(" already exists.", " is duplicated.");
            not_unique(def, &constraint, detail)
        }
        _ => error,
    }
}

fn contains_nulls(def: &TableDef, column: &ColumnDef) -> SqlError {
    SqlError::new("23502", format!("column \"{}\" of relation \"{}\" contains null values", column.name, def.name))
        .on_table(&def.name)
        .on_column(&column.name)
}

fn check_violated(def: &TableDef, constraint: &str) -> SqlError {
    SqlError::new("23514", format!("check constraint \"{constraint}\" of relation \"{}\" is violated by some row", def.name))
        .on_table(&def.name)
        .on_constraint(constraint)
}

fn not_unique(def: &TableDef, constraint: &str, detail: String) -> SqlError {
    SqlError::new("23505", format!("could not create unique index \"{constraint}\""))
        .with_detail(detail)
        .on_table(&def.name)
        .on_constraint(constraint)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn names(def: &TableDef, columns: &[ColumnId]) -> Vec<String> {
    columns.iter().filter_map(|id| def.column(*id)).map(|c| quoted(&c.name)).collect()
}

/// The table in FROM, by the name that the scope has for it.
fn source(transaction: &Transaction, def: &TableDef) -> String {
    let schema = transaction.catalog().schemas.get(&def.schema).map(|s| s.name.clone()).unwrap_or_default();
    planner_name(&schema, &def.name)
}

/// `Key (a, b)=(1, x)`
pub(crate) fn key_text(def: &TableDef, columns: &[ColumnId], row: &RecordBatch) -> Result<String, SqlError> {
    let columns: Vec<&ColumnDef> = columns.iter().filter_map(|id| def.column(*id)).collect();
    let mut shown = vec![];
    for (column, array) in columns.iter().zip(row.columns()) {
        let array = arrow::compute::cast(array, &column.ty.arrow()).map_err(|e| SqlError::internal(e.to_string()))?;
        let mut text = Vec::new();
        values::write_text(&array, 0, column.ty, &mut text);
        shown.push(String::from_utf8_lossy(&text).into_owned());
    }
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    Ok(format!("Key ({})=({})", names.join(", "), shown.join(", ")))
}

fn one_statement(sql: &str) -> Result<Statement, SqlError> {
    let parsed = parse::parse(sql)?.pop();
    parsed.map(|p| p.statement).ok_or_else(|| SqlError::internal("a query did not parse"))
}
