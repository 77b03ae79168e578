//! WITH whose queries change rows, or whose statement does: `WITH gone AS (DELETE … RETURNING *) INSERT … SELECT … FROM gone`.
//!
//! As in Postgres, the parts all see the tables as they were before the statement; what one has written, the others know by its
//! RETURNING alone. The parts run one after the other, each to its end, and what they return is kept in memory for the rest.

use std::sync::Arc;

use datafusion::catalog::MemTable;
use datafusion::sql::sqlparser::ast::{Cte, Ident, ObjectName, Query, SelectItem, SetExpr, Statement, WildcardAdditionalOptions, With};
use quire_types::{TableDef, TableId};

use crate::catalog::{DATABASE, RETURNING_SCHEMA};
use crate::dml::{named, query_of, select_of, skeleton};
use crate::names::fold;
use crate::txn::Transaction;
use crate::written::{Returning, Written};
use crate::{OutputColumn, Response, Session, SqlError, query};

/// The change that a query's body is, if it is one.
fn change_of(query: &Query) -> Option<&Statement> {
    match query.body.as_ref() {
        SetExpr::Insert(change) | SetExpr::Update(change) | SetExpr::Delete(change) | SetExpr::Merge(change) => Some(change),
        _ => None,
    }
}

/// Whether a query of a WITH changes rows without RETURNING.
pub(crate) fn returns_nothing(query: &Query) -> bool {
    match change_of(query) {
        Some(Statement::Insert(insert)) => insert.returning.is_none(),
        Some(Statement::Update(update)) => update.returning.is_none(),
        Some(Statement::Delete(delete)) => delete.returning.is_none(),
        Some(_) => true,
        None => false,
    }
}

/// The statements within a query that change rows: those of its WITH, then its own.
pub(crate) fn changes_within(query: &Query) -> Vec<&Statement> {
    let parts = query.with.iter().flat_map(|with| &with.cte_tables).filter_map(|part| change_of(&part.query));
    parts.chain(change_of(query)).collect()
}

/// A part of a statement that changes rows, and the queries that it reads by name.
pub(crate) struct Change {
    pub(crate) statement: Statement,
    pub(crate) with: Option<With>,
}

/// The parts of a statement in the order in which they run.
pub(crate) struct Outline {
    pub(crate) changes: Vec<Change>,
    /// What comes after them, when the statement is a query.
    pub(crate) main: Option<Statement>,
}

impl Session {
    /// Runs a query of which [`changes_within`] knows some.
    pub(crate) async fn change_within(&mut self, query: Query, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let scope = self.cell.get();
        let mut changed: Vec<TableId> = vec![];
        let mut rest = query;
        let mut with = rest.with.take();
        let mut plain: Vec<Cte> = vec![];
        let parts = with.as_mut().map(|with| std::mem::take(&mut with.cte_tables)).unwrap_or_default();
        for mut part in parts {
            if let Some(change) = change_of(&part.query).cloned() {
                self.note_changed(&change, &scope.own, &mut changed)?;
                let before = with_of(with.as_ref(), &plain);
                let written = self.change(change, before, transaction).await?;
                // The other parts see what was there before.
                self.cell.set(scope.clone());
                // Without RETURNING there is nothing that others could read.
                let Some((returning, rows)) = written.returning else { continue };
                let rows = self.returned(returning, rows).await?;
                *part.query = self.reads_part(&part.alias.name, rows)?;
            }
            plain.push(part);
        }
        let before = with_of(with.as_ref(), &plain);
        let response = match change_of(&rest).cloned() {
            Some(change) => {
                self.note_changed(&change, &scope.own, &mut changed)?;
                let written = self.change(change, before, transaction).await?;
                self.written(written).await
            }
            None => {
                rest.with = before;
                let planned = query::plan(&self.context, Statement::Query(Box::new(rest))).await?;
                let (plan, stream) = query::start(&self.context, &planned).await?;
                self.work.plan = Some(plan);
                Ok(Response::Rows(self.rows(planned.columns, stream, "SELECT", true)))
            }
        };
        self.cell.forget_parts();
        response
    }

    /// Such a query before it runs: what its parts return has no rows yet. Once it is planned, the parts are to be forgotten.
    pub(crate) async fn outline(&self, mut query: Query) -> Result<Outline, SqlError> {
        let mut with = query.with.take();
        let mut plain: Vec<Cte> = vec![];
        let mut changes = vec![];
        let parts = with.as_mut().map(|with| std::mem::take(&mut with.cte_tables)).unwrap_or_default();
        for mut part in parts {
            if let Some(change) = change_of(&part.query).cloned() {
                let before = with_of(with.as_ref(), &plain);
                changes.push(Change { statement: change.clone(), with: before.clone() });
                let Some(returning) = Box::pin(self.returning_of(change, before)).await? else { continue };
                let rows = self.returned(returning, vec![]).await?;
                *part.query = self.reads_part(&part.alias.name, rows)?;
            }
            plain.push(part);
        }
        let before = with_of(with.as_ref(), &plain);
        let main = match change_of(&query).cloned() {
            Some(change) => {
                changes.push(Change { statement: change, with: before });
                None
            }
            None => {
                query.with = before;
                Some(Statement::Query(Box::new(query)))
            }
        };
        Ok(Outline { changes, main })
    }

    /// The columns of such a query's result.
    pub(crate) async fn columns_within(&self, query: &Query) -> Result<Option<Arc<Vec<OutputColumn>>>, SqlError> {
        let outline = Box::pin(self.outline(query.clone())).await?;
        let columns = match (outline.main, outline.changes.into_iter().last()) {
            (Some(main), _) => Some(query::plan(&self.context, main).await?.columns),
            (None, Some(change)) => match Box::pin(self.returning_of(change.statement, change.with)).await? {
                Some(returning) => Some(self.returning_columns(returning).await?),
                None => None,
            },
            (None, None) => None,
        };
        self.cell.forget_parts();
        Ok(columns)
    }

    /// Makes a change. `with` are queries that it reads by name.
    pub(crate) async fn change(
        &mut self,
        change: Statement,
        with: Option<With>,
        transaction: &mut Transaction,
    ) -> Result<Written, SqlError> {
        match change {
            Statement::Insert(insert) => Box::pin(self.insert(insert, with, transaction)).await,
            Statement::Update(update) => {
                let change = self.plan_update(update)?.with(with)?;
                Box::pin(self.change_rows(change, transaction)).await
            }
            Statement::Delete(delete) => {
                let change = self.plan_delete(delete)?.with(with)?;
                Box::pin(self.change_rows(change, transaction)).await
            }
            Statement::Merge(merge) => {
                let plan = self.plan_merge(merge, with)?;
                Box::pin(self.merge(plan, transaction)).await
            }
            other => Err(SqlError::internal(format!("no change: {other}"))),
        }
    }

    async fn returning_of(&self, change: Statement, with: Option<With>) -> Result<Option<Returning>, SqlError> {
        match change {
            Statement::Insert(insert) => self.insert_returning(&insert),
            Statement::Update(update) => self.change_returning(self.plan_update(update)?.with(with)?, &[]).await,
            Statement::Delete(delete) => self.change_returning(self.plan_delete(delete)?.with(with)?, &[]).await,
            _ => Ok(None),
        }
    }

    /// The table that a change is of.
    pub(crate) fn changed_table(&self, change: &Statement) -> Result<Arc<TableDef>, SqlError> {
        match change {
            Statement::Insert(insert) => self.insert_table(insert),
            Statement::Update(update) => Ok(self.target(update.table.clone())?.def),
            Statement::Delete(delete) => Ok(self.plan_delete(delete.clone())?.table().clone()),
            Statement::Merge(merge) => Ok(self.plan_merge(merge.clone(), None)?.table().clone()),
            other => Err(SqlError::internal(format!("no change: {other}"))),
        }
    }

    /// Two parts may not change rows that the transaction itself has written before: the first one's changes move the others' rows.
    fn note_changed(
        &self,
        change: &Statement,
        own: &std::collections::BTreeMap<TableId, quire_scan::OwnRows>,
        changed: &mut Vec<TableId>,
    ) -> Result<(), SqlError> {
        let table = self.changed_table(change)?;
        if changed.contains(&table.id) && own.get(&table.id).is_some_and(|rows| !rows.batches.is_empty()) {
            return Err(SqlError::unsupported(format!(
                "a statement that changes table \"{}\" in two of its parts, in a transaction that has written to it before",
                table.name
            )));
        }
        changed.push(table.id);
        Ok(())
    }

    /// The query that stands for a part that has run: its name gives what it returned.
    fn reads_part(&self, name: &Ident, rows: MemTable) -> Result<Query, SqlError> {
        let part = format!("part:{}", fold(name));
        self.cell.add_part(part.clone(), Arc::new(rows));
        let table = [DATABASE, RETURNING_SCHEMA, &part].map(|part| Ident::with_quote('"', part));
        let mut statement = skeleton("1")?;
        let select = select_of(&mut statement)?;
        select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        select.from = vec![named(ObjectName::from(table.to_vec()), Ident::with_quote('"', "part"))?];
        query_of(&mut statement).cloned()
    }
}

/// The WITH clause as far as it has come; `None` when there is nothing in it.
fn with_of(with: Option<&With>, parts: &[Cte]) -> Option<With> {
    let with = with.filter(|_| !parts.is_empty())?;
    Some(With { cte_tables: parts.to_vec(), ..with.clone() })
}
