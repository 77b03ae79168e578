//! UPDATE and DELETE: a query finds the rows and computes the new ones, the transaction takes note of both.
//!
//! The planner never sees the statement, only a SELECT over the target with its row ids: every shape of WHERE, FROM and sub-query that a query
//! may have works by construction, and no filter can be lost on the way.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    Delete, Expr, FromTable, Ident, ObjectName, Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableFactor, TableWithJoins,
    Update, UpdateTableFromKind, WildcardAdditionalOptions, With, visit_expressions_mut,
};
use futures::{Stream, StreamExt, stream};
use quire_types::{ROW_ID_FIELD, TableDef};

use crate::assign::{apart, assigned};
use crate::catalog::{DATABASE, RETURNING_ROWS, RETURNING_SCHEMA, WITH_ROW_IDS};
use crate::direct::RowsByKey;
use crate::errors::datafusion_error;
use crate::generated::{StoredColumns, stored_positions};
use crate::insert::has_subquery;
use crate::joined::relations;
use crate::names::{Resolver, fold};
use crate::txn::Transaction;
use crate::values::Home;
use crate::written::{Returning, Written};
use crate::{OutputColumn, Session, SqlError, WireType, bind, parse, query, values};

/// A statement that deletes rows of one table and, for an UPDATE, puts others in their place.
pub(crate) struct RowChange {
    table: Arc<TableDef>,
    /// What the statement calls the table.
    alias: Ident,
    /// Row id, the table's columns, then values for `set`: one for each, or a row for several.
    query: Statement,
    /// What the query would find, when that is rows by a key, and the values of `set`.
    row: Option<(RowsByKey, Vec<Expr>)>,
    /// Positions of the columns that an UPDATE sets; `None` for a DELETE.
    set: Option<Vec<usize>>,
    returning: Option<Vec<SelectItem>>,
    /// Where the query has the columns of FROM's or USING's relations, when RETURNING may name them.
    joined_at: Option<usize>,
}

impl RowChange {
    /// Deletes the rows that a query over the target and `others` finds, or sets columns of them.
    pub(crate) fn of_rows(
        target: Target,
        others: Vec<TableWithJoins>,
        selection: Option<Expr>,
        set: Option<Vec<usize>>,
        values: Vec<Expr>,
    ) -> Result<RowChange, SqlError> {
        let query = target.query(others, selection, values)?;
        Ok(RowChange { table: target.def, alias: target.alias, query, row: None, set, returning: None, joined_at: None })
    }

    /// The table that changes.
    pub(crate) fn table(&self) -> &Arc<TableDef> {
        &self.table
    }

    /// The query, for parameters' types and EXPLAIN.
    pub(crate) fn into_query(self) -> Statement {
        self.query
    }

    /// With queries that the statement reads by name.
    pub(crate) fn with(mut self, with: Option<With>) -> Result<RowChange, SqlError> {
        if with.is_some() {
            self.row = None;
            query_of(&mut self.query)?.with = with;
        }
        Ok(self)
    }
}

impl Session {
    /// What an UPDATE does, at the current scope.
    pub(crate) fn plan_update(&self, update: Update) -> Result<RowChange, SqlError> {
        let Update { table, assignments, from, selection, returning, output, or, order_by, limit, .. } = update;
        if output.is_some() || or.is_some() || !order_by.is_empty() || limit.is_some() {
            return Err(SqlError::syntax("UPDATE has a clause that Postgres has not"));
        }
        let others = match from {
            None => vec![],
            Some(UpdateTableFromKind::AfterSet(tables)) => tables,
            Some(UpdateTableFromKind::BeforeSet(_)) => return Err(SqlError::syntax("syntax error at or near \"FROM\"")),
        };
        let target = self.target(table)?;
        let (set, values) = assigned(&target.def, assignments)?;
        let row = target.row(&others, selection.as_ref(), &values);
        let joins = returning.is_some() && !others.is_empty();
        let mut query = target.query(others, selection, values)?;
        let joined_at = if joins { Some(with_joined(&mut query, &target.def)?) } else { None };
        Ok(RowChange { table: target.def, alias: target.alias, query, row, set: Some(set), returning, joined_at })
    }

    /// What a DELETE does, at the current scope.
    pub(crate) fn plan_delete(&self, delete: Delete) -> Result<RowChange, SqlError> {
        let Delete { tables, from, using, selection, returning, output, order_by, limit, .. } = delete;
        if !tables.is_empty() || output.is_some() || !order_by.is_empty() || limit.is_some() {
            return Err(SqlError::syntax("DELETE has a clause that Postgres has not"));
        }
        let (FromTable::WithFromKeyword(mut from) | FromTable::WithoutKeyword(mut from)) = from;
        let (Some(table), true) = (from.pop(), from.is_empty()) else { return Err(SqlError::syntax("DELETE is from one table")) };
        let target = self.target(table)?;
        let others = using.unwrap_or_default();
        let row = target.row(&others, selection.as_ref(), &[]);
        let joins = returning.is_some() && !others.is_empty();
        let mut query = target.query(others, selection, vec![])?;
        let joined_at = if joins { Some(with_joined(&mut query, &target.def)?) } else { None };
        Ok(RowChange { table: target.def, alias: target.alias, query, row, set: None, returning, joined_at })
    }

    pub(crate) fn target(&self, table: TableWithJoins) -> Result<Target, SqlError> {
        let TableWithJoins { relation: TableFactor::Table { name, alias, .. }, joins } = table else {
            return Err(SqlError::syntax("a table's name is expected"));
        };
        if !joins.is_empty() {
            return Err(SqlError::syntax("a join cannot be changed; use FROM or USING"));
        }
        let path = self.search_path();
        let catalog = self.cell.get().catalog;
        let def = Resolver { catalog: &catalog, search_path: &path }.table(&name)?;
        Ok(self.target_of(def, alias.map(|a| a.name)))
    }

    /// A table as what a statement changes.
    pub(crate) fn target_of(&self, def: Arc<TableDef>, alias: Option<Ident>) -> Target {
        let schema = self.cell.get().catalog.schemas.get(&def.schema).map(|s| s.name.clone()).unwrap_or_default();
        let alias = alias.unwrap_or_else(|| Ident::with_quote('"', &def.name));
        Target { def, schema, alias }
    }

    /// Finds the rows, and records what becomes of them.
    pub(crate) async fn change_rows(&mut self, change: RowChange, transaction: &mut Transaction) -> Result<Written, SqlError> {
        let RowChange { table, alias, query, row, set, returning, joined_at } = change;
        // What does not plan here is told so by the planner, with its place in the text.
        let certified = self.cell.get().reads.is_some();
        let row = row.filter(|_| !certified).and_then(|(row, values)| Some((row, self.over_table(&table, &values).ok()?)));
        let mut joined = vec![];
        let found = match row {
            Some((row, values)) => {
                let found = self.found_rows(&table, &row, &values).await?;
                stream::iter(found.into_iter().map(Ok)).boxed()
            }
            None => {
                let planned = query::plan(&self.context, query).await?;
                if let Some(first) = joined_at {
                    joined = relations(planned.plan.schema(), first);
                }
                let (plan, found) = query::start(&self.context, &planned).await?;
                self.work.plan = Some(plan);
                found.boxed()
            }
        };
        let returning = returning.map(|items| Returning { table: table.clone(), alias, items, joined });
        self.change_found(&table, set.as_deref(), found, returning, transaction).await
    }

    /// Deletes the rows that were found (row ids, the table's columns, values), or sets these columns of them to the values.
    pub(crate) async fn change_found(
        &mut self,
        table: &Arc<TableDef>,
        set: Option<&[usize]>,
        mut found: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Unpin,
        returning: Option<Returning>,
        transaction: &mut Transaction,
    ) -> Result<Written, SqlError> {
        let what = if set.is_some() { "UPDATE" } else { "DELETE" };
        let touched: Vec<usize> = match set {
            Some(set) => set.iter().copied().chain(stored_positions(table)).collect(),
            None => vec![],
        };
        let mut writer = self.writer(table, what, transaction)?.replacing(&touched);
        let changed = match set {
            Some(set) => Some(self.changed_columns(table, set)?),
            None => None,
        };
        let schema = table.arrow_schema_nullable();
        let (mut count, mut shown) = (0, vec![]);
        while let Some(batch) = found.next().await {
            let batch = batch.map_err(datafusion_error)?;
            // A join may find a row several times: as in Postgres, one of the matches counts.
            let ids = batch.column(0).as_primitive::<Int64Type>();
            let first: BooleanArray = ids.values().iter().map(|id| Some(writer.delete([*id as u64]) == 1)).collect();
            let batch = filter_record_batch(&batch, &first).map_err(|e| SqlError::internal(e.to_string()))?;
            if batch.num_rows() == 0 {
                continue;
            }
            count += batch.num_rows() as u64;
            let before = table_rows(&schema, batch.columns()[1..=table.columns.len()].to_vec())?;
            let rows = match &changed {
                Some(changed) => {
                    let after = changed.replaced(&batch)?;
                    writer.effects.changed(&before, Some(&after))?;
                    after
                }
                None => {
                    writer.effects.changed(&before, None)?;
                    before
                }
            };
            if let Some(returning) = &returning {
                shown.push(returning.shown(&rows, &batch)?);
            }
            if changed.is_some() {
                writer.push(rows).await?;
            }
        }
        self.finish_write(table, writer, what, transaction).await?;
        Ok(Written { what, count, returning: returning.map(|returning| (returning, shown)) })
    }

    /// RETURNING of a statement that changes rows, before it has run.
    pub(crate) async fn change_returning(&self, change: RowChange, parameters: &[WireType]) -> Result<Option<Returning>, SqlError> {
        let RowChange { table, alias, query, returning, joined_at, .. } = change;
        let Some(items) = returning else { return Ok(None) };
        let joined = match joined_at {
            Some(first) => relations(query::plan(&self.context, bind::with_nulls(query, parameters)).await?.plan.schema(), first),
            None => vec![],
        };
        Ok(Some(Returning { table, alias, items, joined }))
    }

    /// The columns of a statement that changes rows; `None` without RETURNING.
    pub(crate) async fn change_columns(
        &self,
        change: RowChange,
        parameters: &[WireType],
    ) -> Result<Option<Arc<Vec<OutputColumn>>>, SqlError> {
        match self.change_returning(change, parameters).await? {
            Some(returning) => self.returning_columns(returning).await.map(Some),
            None => Ok(None),
        }
    }

    /// How an UPDATE that sets these columns makes a row's new version.
    pub(crate) fn changed_columns(&self, table: &Arc<TableDef>, set: &[usize]) -> Result<ChangedColumns, SqlError> {
        let schema = table.arrow_schema_nullable();
        Ok(ChangedColumns {
            table: table.clone(),
            schema,
            set: set.to_vec(),
            stored: self.stored_columns(table)?,
            home: self.statement_home(),
        })
    }
}

/// New versions of rows.
pub(crate) struct ChangedColumns {
    table: Arc<TableDef>,
    schema: SchemaRef,
    /// Positions of the columns that are set.
    set: Vec<usize>,
    /// Columns that are computed from the others.
    stored: StoredColumns,
    home: Home<'static>,
}

impl ChangedColumns {
    /// The table's rows with new values in the columns that are set. `found` is what [`Target::query`] gave.
    pub(crate) fn replaced(&self, found: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let table = &self.table;
        let found = apart(found)?;
        let mut columns: Vec<ArrayRef> = found.columns()[1..=table.columns.len()].to_vec();
        let schema = found.schema();
        for (i, &position) in self.set.iter().enumerate() {
            let at = 1 + table.columns.len() + i;
            let (value, column) = (found.column(at).clone(), &table.columns[position]);
            columns[position] = values::coerce(value, schema.field(at), column, &table.name, &self.home)?;
        }
        self.stored.fill(table_rows(&self.schema, columns)?)
    }
}

/// The table that a statement changes.
pub(crate) struct Target {
    pub(crate) def: Arc<TableDef>,
    schema: String,
    pub(crate) alias: Ident,
}

impl Target {
    /// The rows by a key that a statement is about, if it says so, with the new values.
    fn row(&self, others: &[TableWithJoins], selection: Option<&Expr>, values: &[Expr]) -> Option<(RowsByKey, Vec<Expr>)> {
        if !others.is_empty() || values.iter().any(has_subquery) {
            return None;
        }
        let row = RowsByKey::named_by(selection?, &self.def, &self.alias)?;
        let values = values.iter().map(|value| self.unqualified(value)).collect();
        Some((row, values))
    }

    /// An expression over the table alone: its columns by their names.
    fn unqualified(&self, expr: &Expr) -> Expr {
        let mut expr = expr.clone();
        let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |e| {
            if let Expr::CompoundIdentifier(parts) = e
                && let [relation, name] = parts.as_slice()
                && fold(relation) == fold(&self.alias)
            {
                *e = Expr::Identifier(name.clone());
            }
            ControlFlow::Continue(())
        });
        expr
    }

    /// The query that finds the rows: row id, columns, then `more`.
    fn query(&self, others: Vec<TableWithJoins>, selection: Option<Expr>, more: Vec<Expr>) -> Result<Statement, SqlError> {
        self.query_before(vec![], others, selection, more)
    }

    /// A column of it, as an expression.
    pub(crate) fn column(&self, name: &str) -> Expr {
        Expr::CompoundIdentifier(vec![self.alias.clone(), Ident::with_quote('"', name)])
    }

    /// Likewise, with other columns in front.
    pub(crate) fn query_before(
        &self,
        before: Vec<Expr>,
        others: Vec<TableWithJoins>,
        selection: Option<Expr>,
        more: Vec<Expr>,
    ) -> Result<Statement, SqlError> {
        let mut statement = skeleton("1")?;
        let select = select_of(&mut statement)?;
        let own = std::iter::once(ROW_ID_FIELD).chain(self.def.columns.iter().map(|c| c.name.as_str())).map(|name| self.column(name));
        let labelled = |(i, expr)| SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', format!("quire:{i}")) };
        select.projection = before.into_iter().chain(own).chain(more).enumerate().map(labelled).collect();
        let schema = format!("{WITH_ROW_IDS}{}", self.schema);
        let name = [DATABASE, &schema, &self.def.name].map(|part| Ident::with_quote('"', part));
        select.from = vec![named(ObjectName::from(name.to_vec()), self.alias.clone())?];
        select.from.extend(others);
        select.selection = selection;
        Ok(statement)
    }
}

/// The query of a change gives every column of its relations as well: the target's, then those of FROM or USING. Where the latter begin.
fn with_joined(query: &mut Statement, target: &TableDef) -> Result<usize, SqlError> {
    let select = select_of(query)?;
    let given = select.projection.len();
    select.projection.push(SelectItem::Wildcard(WildcardAdditionalOptions::default()));
    // Row id and columns.
    Ok(given + 1 + target.columns.len())
}

/// `SELECT what FROM t`, to be filled in.
pub(crate) fn skeleton(what: &str) -> Result<Statement, SqlError> {
    let parsed = parse::parse(&format!("SELECT {what} FROM t"))?.pop();
    parsed.map(|p| p.statement).ok_or_else(|| SqlError::internal("a select did not parse"))
}

pub(crate) fn select_of(statement: &mut Statement) -> Result<&mut Select, SqlError> {
    match query_of(statement)?.body.as_mut() {
        SetExpr::Select(select) => Ok(select),
        _ => Err(SqlError::internal("a select is not one")),
    }
}

pub(crate) fn query_of(statement: &mut Statement) -> Result<&mut Query, SqlError> {
    match statement {
        Statement::Query(query) => Ok(query),
        _ => Err(SqlError::internal("a query is not one")),
    }
}

/// The rows that the session has set aside for the planner ([`crate::catalog::ScopeCell::set_returning`]), under a name.
pub(crate) fn staged_rows(alias: Ident) -> Result<TableWithJoins, SqlError> {
    staged_part(RETURNING_ROWS, alias)
}

/// Rows that were set aside under a name ([`crate::catalog::ScopeCell::add_part`]).
pub(crate) fn staged_part(part: &str, alias: Ident) -> Result<TableWithJoins, SqlError> {
    let name = [DATABASE, RETURNING_SCHEMA, part].map(|part| Ident::with_quote('"', part));
    named(ObjectName::from(name.to_vec()), alias)
}

/// A table under a name.
pub(crate) fn named(name: ObjectName, alias: Ident) -> Result<TableWithJoins, SqlError> {
    let mut statement = skeleton("1")?;
    let mut table = select_of(&mut statement)?.from.pop().ok_or_else(|| SqlError::internal("a select has no table"))?;
    if let TableFactor::Table { name: old, alias: old_alias, .. } = &mut table.relation {
        *old = name;
        *old_alias = Some(TableAlias { explicit: true, name: alias, columns: vec![], at: None });
    }
    Ok(table)
}

/// Rows of a table, under its nullable schema.
pub(crate) fn table_rows(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, SqlError> {
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| SqlError::internal(e.to_string()))
}
