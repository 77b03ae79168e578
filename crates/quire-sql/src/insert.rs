//! INSERT: a query's rows, brought to the table's columns and written.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, new_null_array};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::DFSchema;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Insert, ObjectName, OnInsert, SelectItem, SetExpr, Statement, TableObject, UnaryOperator, Value, Values, With,
    visit_expressions,
};
use futures::StreamExt;
use quire_types::{ColumnDef, ConstraintKind, Generated, SqlType, TableDef};

use crate::catalog::DATABASE;
use crate::errors::datafusion_error;
use crate::foreign_keys::KeyEffects;
use crate::generated::{check_insert, take_overriding};
use crate::names::{Resolver, fold};
use crate::query::Query;
use crate::rewrite::typed_cast;
use crate::sequences::{default_sequence, sequence_default};
use crate::txn::{PendingWrite, Transaction};
use crate::write::{Check, Finished, TableWriter, WriteTarget};
use crate::written::{Returning, Written};
use crate::{Session, SqlError, bind, query, values};

impl Session {
    /// The table that an INSERT names, at the current scope.
    pub(crate) fn insert_table(&self, insert: &Insert) -> Result<Arc<TableDef>, SqlError> {
        let TableObject::TableName(name) = &insert.table else { return Err(SqlError::unsupported("INSERT INTO a function or query")) };
        let path = self.search_path();
        let catalog = self.cell.get().catalog;
        Resolver { catalog: &catalog, search_path: &path }.table(name)
    }

    /// What an INSERT does. `with` are queries that it reads by name.
    pub(crate) async fn insert(
        &mut self,
        mut insert: Insert,
        with: Option<With>,
        transaction: &mut Transaction,
    ) -> Result<Written, SqlError> {
        let overriding = take_overriding(&mut insert);
        for (given, what) in [
            (matches!(insert.on, Some(OnInsert::DuplicateKeyUpdate(_))), "ON DUPLICATE KEY UPDATE"),
            (insert.overwrite || insert.replace_into || insert.ignore || insert.or.is_some(), "this form of INSERT"),
        ] {
            if given {
                return Err(SqlError::unsupported(what));
            }
        }
        let table = self.insert_table(&insert)?;
        let mut targets = named_columns(&table, &insert.columns)?;
        let Some(mut source) = insert.source else {
            let empty = self.default_row(&table).await?;
            let put = Put { table, alias: insert.table_alias.map(|a| a.alias), on: insert.on, returning: insert.returning };
            return self.put(put, vec![empty], transaction).await;
        };
        if let Some(mut with) = with {
            with.cte_tables.extend(source.with.take().into_iter().flat_map(|own| own.cte_tables));
            source.with = Some(with);
        }
        let mut ignored = vec![];
        if let SetExpr::Values(rows) = source.body.as_mut() {
            let given = rows.rows.first().map_or(0, |row| row.len()).min(targets.len());
            ignored = check_insert(&table, &targets[..given], Some(rows), overriding)?;
            for row in &mut rows.rows {
                if row.len() > targets.len() {
                    return Err(SqlError::syntax("INSERT has more expressions than target columns"));
                }
                if row.len() < targets.len() && !insert.columns.is_empty() {
                    return Err(SqlError::syntax("INSERT has more target columns than expressions"));
                }
                for (expr, &target) in row.iter_mut().zip(&targets) {
                    fill_default(expr, &table.columns[target])?;
                }
            }
            for (position, &target) in targets.iter().enumerate() {
                values_of_column(rows, position, table.columns[target].ty);
            }
        }
        let by_query = !matches!(source.body.as_ref(), SetExpr::Values(_));
        if let SetExpr::Values(rows) = source.body.as_ref()
            && rows.rows.iter().any(|row| row.iter().any(has_subquery))
        {
            *source.body = rows_as_selects(rows);
        }
        if insert.on.is_none()
            && insert.returning.is_none()
            && ignored.is_empty()
            && let Some(rows) = self.constant_rows(&source, &table, &targets)?
        {
            targets.truncate(rows.num_columns());
            let rows = self.complete(&table, &targets, &rows).await?;
            let count = self.insert_batches(&table, vec![rows], "INSERT", transaction).await?;
            return Ok(Written::rows("INSERT", count));
        }
        let query = query::plan_source(&self.context, Statement::Query(source)).await?;
        let given = query.columns.len();
        if given > targets.len() {
            return Err(SqlError::syntax("INSERT has more expressions than target columns"));
        }
        if given < targets.len() {
            if !insert.columns.is_empty() {
                return Err(SqlError::syntax("INSERT has more target columns than expressions"));
            }
            targets.truncate(given);
        }
        if by_query {
            ignored = check_insert(&table, &targets, None, overriding)?;
        }
        // A position that no column has: the value is computed and left aside.
        for position in ignored {
            if let Some(target) = targets.get_mut(position) {
                *target = usize::MAX;
            }
        }
        if insert.on.is_none() && insert.returning.is_none() {
            let rows = self.insert_query(&table, targets, query, "INSERT", transaction).await?;
            return Ok(Written::rows("INSERT", rows));
        }
        let (plan, mut stream) = query::start(&self.context, &query).await?;
        self.work.plan = Some(plan);
        let mut rows = vec![];
        while let Some(batch) = stream.next().await {
            rows.push(self.complete(&table, &targets, &batch.map_err(datafusion_error)?).await?);
        }
        let put = Put { table, alias: insert.table_alias.map(|a| a.alias), on: insert.on, returning: insert.returning };
        self.put(put, rows, transaction).await
    }

    /// Rows that are complete, into the table, with what the statement says beside.
    async fn put(&mut self, put: Put, rows: Vec<RecordBatch>, transaction: &mut Transaction) -> Result<Written, SqlError> {
        let Put { table, alias, on, returning } = put;
        let shown_as = alias.clone().unwrap_or_else(|| Ident::with_quote('"', &table.name));
        let written = match on {
            Some(OnInsert::OnConflict(on)) => {
                let target = self.target_of(table.clone(), alias);
                self.insert_on_conflict(target, rows, on, transaction).await?
            }
            _ => {
                self.insert_batches(&table, rows.clone(), "INSERT", transaction).await?;
                rows
            }
        };
        let count = written.iter().map(|batch| batch.num_rows() as u64).sum();
        let returning = returning.map(|items| (Returning { table, alias: shown_as, items, joined: vec![] }, written));
        Ok(Written { what: "INSERT", count, returning })
    }

    /// RETURNING of an INSERT.
    pub(crate) fn insert_returning(&self, insert: &Insert) -> Result<Option<Returning>, SqlError> {
        let Some(items) = &insert.returning else { return Ok(None) };
        let table = self.insert_table(insert)?;
        let own_name = || Ident::with_quote('"', &table.name);
        let alias = insert.table_alias.as_ref().map_or_else(own_name, |a| a.alias.clone());
        Ok(Some(Returning { table, alias, items: items.clone(), joined: vec![] }))
    }

    /// Writes a query's rows; `targets` are the table positions of the query's columns.
    pub(crate) async fn insert_query(
        &mut self,
        table: &Arc<TableDef>,
        targets: Vec<usize>,
        query: Query,
        what: &str,
        transaction: &mut Transaction,
    ) -> Result<u64, SqlError> {
        let mut writer = self.writer(table, what, transaction)?;
        let (plan, mut stream) = query::start(&self.context, &query).await?;
        self.work.plan = Some(plan);
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(datafusion_error)?;
            if batch.num_rows() > 0 {
                let rows = self.complete(table, &targets, &batch).await?;
                writer.push(rows).await?;
            }
        }
        self.finish_write(table, writer, what, transaction).await
    }

    pub(crate) async fn insert_batches(
        &mut self,
        table: &Arc<TableDef>,
        batches: Vec<RecordBatch>,
        what: &str,
        transaction: &mut Transaction,
    ) -> Result<u64, SqlError> {
        let mut writer = self.writer(table, what, transaction)?;
        for batch in batches {
            writer.push(batch).await?;
        }
        self.finish_write(table, writer, what, transaction).await
    }

    /// A writer that begins with what the transaction has already written to the table.
    pub(crate) fn writer(&self, table: &Arc<TableDef>, what: &str, transaction: &mut Transaction) -> Result<TableWriter, SqlError> {
        let committed = transaction.view().tables.get(&table.id).cloned().unwrap_or_default();
        let target = WriteTarget {
            table: table.clone(),
            checks: self.compile_checks(table)?,
            committed,
            lsn: transaction.view().lsn,
            client: self.engine.client.clone(),
            source: self.engine.source.clone(),
            reads: self.cell.get().reads_of(table.id),
        };
        let write: PendingWrite = transaction.write(what, table.id, table.version)?.clone();
        let effects = KeyEffects::of(table, transaction.catalog());
        let writer = TableWriter::new(Arc::new(target), write)?.with_effects(effects);
        Ok(writer.leaving(|constraint| transaction.deferred.is_deferred(table.id, constraint)))
    }

    /// Gives the transaction what a writer wrote, and does what foreign keys ask for.
    pub(crate) async fn finish_write(
        &mut self,
        table: &Arc<TableDef>,
        writer: TableWriter,
        what: &str,
        transaction: &mut Transaction,
    ) -> Result<u64, SqlError> {
        let Finished { write, rows, effects, waiting } = writer.finish().await?;
        *transaction.write(what, table.id, table.version)? = write;
        for (key, keys) in waiting {
            transaction.deferred.added(table.id, &key, keys);
        }
        if !effects.is_empty() {
            Box::pin(self.enforce_foreign_keys(table, effects, what, transaction)).await?;
        }
        Ok(rows)
    }

    /// A query's batch as rows of the table: coerced, and the columns that it does not give filled with their defaults.
    pub(crate) async fn complete(&self, table: &TableDef, targets: &[usize], batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let rows = batch.num_rows();
        let home = self.statement_home();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(table.columns.len());
        for (position, column) in table.columns.iter().enumerate() {
            columns.push(match targets.iter().position(|t| *t == position) {
                Some(source) => {
                    let schema = batch.schema();
                    values::coerce(batch.column(source).clone(), schema.field(source), column, &table.name, &home)?
                }
                None => self.default_values(table, column, rows).await?,
            });
        }
        let rows = RecordBatch::try_new(table.arrow_schema_nullable(), columns).map_err(|e| SqlError::internal(e.to_string()))?;
        self.stored_columns(table)?.fill(rows)
    }

    /// A column's default for so many new rows.
    pub(crate) async fn default_values(&self, table: &TableDef, column: &ColumnDef, rows: usize) -> Result<ArrayRef, SqlError> {
        let sequence = match &column.generated {
            Some(Generated::Identity { sequence, .. }) => Some(*sequence),
            _ => column.default.as_deref().and_then(default_sequence),
        };
        if let Some(sequence) = sequence {
            let values: ArrayRef = Arc::new(Int64Array::from(self.cell.next_values(sequence, rows).await?));
            let field = Field::new(&column.name, values.data_type().clone(), true);
            return Ok(values::coerce(values, &field, column, &table.name, &self.statement_home())?);
        }
        let Some(default) = &column.default else { return Ok(new_null_array(&column.ty.arrow(), rows)) };
        let physical = self.physical(bind::parse_sql_expression(default)?, &DFSchema::empty())?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)
            .map_err(|e| SqlError::internal(e.to_string()))?;
        let array = physical.evaluate(&empty).and_then(|v| v.into_array(rows)).map_err(datafusion_error)?;
        let field = Field::new(&column.name, array.data_type().clone(), true);
        Ok(values::coerce(array, &field, column, &table.name, &self.statement_home())?)
    }

    /// A DEFAULT as the planner has it.
    fn default_expression(&self, default: &str) -> Result<datafusion::logical_expr::Expr, SqlError> {
        let expr = bind::prepare_sql_expression(default)?;
        self.context.state().create_logical_expr(&expr.to_string(), &DFSchema::empty()).map_err(datafusion_error)
    }

    /// Whether a DEFAULT has another value for each row.
    pub(crate) fn is_volatile(&self, default: &str) -> Result<bool, SqlError> {
        Ok(self.default_expression(default)?.is_volatile())
    }

    async fn default_row(&self, table: &TableDef) -> Result<RecordBatch, SqlError> {
        let mut columns = vec![];
        for column in &table.columns {
            columns.push(self.default_values(table, column, 1).await?);
        }
        let row = RecordBatch::try_new(table.arrow_schema_nullable(), columns).map_err(|e| SqlError::internal(e.to_string()))?;
        self.stored_columns(table)?.fill(row)
    }

    /// The table's CHECK constraints, ready to evaluate.
    pub(crate) fn compile_checks(&self, table: &TableDef) -> Result<Vec<Check>, SqlError> {
        let mut checks = vec![];
        if !table.constraints.iter().any(|constraint| matches!(constraint.kind, ConstraintKind::Check(_))) {
            return Ok(checks);
        }
        let state = self.context.state();
        let schema = DFSchema::try_from(table.arrow_schema().as_ref().clone()).map_err(datafusion_error)?;
        for constraint in &table.constraints {
            if let ConstraintKind::Check(sql) = &constraint.kind {
                let expr = bind::prepare_sql_expression(sql)?;
                let logical = state.create_logical_expr(&expr.to_string(), &schema).map_err(datafusion_error)?;
                let expr = state.create_physical_expr(logical, &schema).map_err(datafusion_error)?;
                let ty = expr.data_type(schema.as_arrow()).map_err(datafusion_error)?;
                if ty != arrow::datatypes::DataType::Boolean {
                    return Err(SqlError::new("42804", "argument of CHECK must be type boolean"));
                }
                checks.push(Check { name: constraint.name.clone(), expr });
            }
        }
        Ok(checks)
    }

    /// `INSERT INTO t SELECT * FROM t` and the like read this.
    pub(crate) fn select_all(table: &TableDef, schema: &str, columns: &[usize]) -> Statement {
        let items = columns.iter().map(|&c| SelectItem::UnnamedExpr(Expr::Identifier(Ident::with_quote('"', &table.columns[c].name))));
        let items: Vec<String> = items.map(|i| i.to_string()).collect();
        let name =
            ObjectName::from(vec![Ident::with_quote('"', DATABASE), Ident::with_quote('"', schema), Ident::with_quote('"', &table.name)]);
        let sql = format!("SELECT {} FROM {name}", items.join(", "));
        let mut parsed = crate::parse::parse(&sql).unwrap_or_default();
        parsed.pop().map_or_else(|| unreachable!("a quoted select always parses"), |p| p.statement)
    }
}

/// What an INSERT says beside its rows.
struct Put {
    table: Arc<TableDef>,
    alias: Option<Ident>,
    on: Option<OnInsert>,
    returning: Option<Vec<SelectItem>>,
}

/// The table positions of a column list; all columns when there is none.
pub(crate) fn named_columns(table: &TableDef, names: &[ObjectName]) -> Result<Vec<usize>, SqlError> {
    let idents: Vec<&Ident> = names.iter().filter_map(|n| n.0.last().and_then(|p| p.as_ident())).collect();
    let folded: Vec<String> = idents.iter().map(|ident| fold(ident)).collect();
    let unknown = folded.iter().position(|name| table.column_index(name).is_none());
    column_positions(table, &folded).map_err(|error| match unknown {
        Some(position) => error.at_span(idents[position].span),
        None => error,
    })
}

/// Likewise, for plain names. 42703, 42701.
pub(crate) fn column_positions(table: &TableDef, names: &[String]) -> Result<Vec<usize>, SqlError> {
    if names.is_empty() {
        return Ok((0..table.columns.len()).collect());
    }
    let mut positions = vec![];
    for name in names {
        let found = table.column_index(name);
        let position =
            found.ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" of relation \"{}\" does not exist", table.name)))?;
        if positions.contains(&position) {
            return Err(SqlError::new("42701", format!("column \"{name}\" specified more than once")));
        }
        positions.push(position);
    }
    Ok(positions)
}

/// One column of VALUES whose rows do not agree on a type: literals become text where they can, which the column's type reads, and
/// else are cast to it. Rows that agree are left alone; they are assigned as any query's rows are.
fn values_of_column(rows: &mut Values, position: usize, ty: SqlType) {
    let literal = |expr: &Expr| match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_) => Some(Literal::Text),
            Value::Number(..) => Some(Literal::Number),
            Value::Boolean(_) => Some(Literal::Bool),
            Value::Null => Some(Literal::Null),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } if matches!(expr.as_ref(), Expr::Value(v) if matches!(v.value, Value::Number(..))) => {
            Some(Literal::Number)
        }
        _ => None,
    };
    let kinds: Vec<Option<Literal>> = rows.rows.iter().filter_map(|row| row.get(position)).map(literal).collect();
    let has = |kind: Literal| kinds.contains(&Some(kind));
    let is_float = matches!(ty, SqlType::Float4 | SqlType::Float8);
    let mixed = has(Literal::Text) && (has(Literal::Number) || has(Literal::Bool) || kinds.contains(&None));
    if !(mixed || is_float && has(Literal::Number)) {
        return;
    }
    let all_literals = !kinds.contains(&None);
    let exact = !matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8);
    for expr in rows.rows.iter_mut().filter_map(|row| row.get_mut(position)) {
        match literal(expr) {
            Some(Literal::Number) if all_literals && ty != SqlType::Bool && (exact || !expr.to_string().contains(['.', 'e', 'E'])) => {
                *expr = Expr::Value(Value::SingleQuotedString(expr.to_string()).into());
            }
            Some(Literal::Bool) if all_literals && ty == SqlType::Bool => {
                *expr = Expr::Value(Value::SingleQuotedString(expr.to_string()).into());
            }
            Some(Literal::Text) if !all_literals && !matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_)) => {
                let text = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                *expr = typed_cast(text, ty);
            }
            _ => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Literal {
    Text,
    Number,
    Bool,
    Null,
}

pub(crate) fn has_subquery(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |e| match e {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Rows with subqueries, which a list of constants cannot have: one SELECT for each.
fn rows_as_selects(rows: &Values) -> SetExpr {
    let selects: Vec<String> = rows
        .rows
        .iter()
        .map(|row| {
            let items: Vec<String> = row.iter().enumerate().map(|(i, e)| format!("{e} AS \"column{}\"", i + 1)).collect();
            format!("SELECT {}", items.join(", "))
        })
        .collect();
    let mut parsed = crate::parse::parse(&selects.join(" UNION ALL ")).unwrap_or_default();
    match parsed.pop().map(|p| p.statement) {
        Some(Statement::Query(query)) => *query.body,
        _ => unreachable!("expressions that were parsed parse again when they are printed"),
    }
}

/// Whether an expression is the word DEFAULT.
pub(crate) fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// `DEFAULT` among VALUES stands for the column's default.
pub(crate) fn fill_default(expr: &mut Expr, column: &ColumnDef) -> Result<(), SqlError> {
    if is_default(expr) {
        *expr = match (&column.default, &column.generated) {
            (_, Some(Generated::Identity { sequence, .. })) => bind::prepare_sql_expression(&sequence_default(*sequence))?,
            (Some(sql), _) => bind::prepare_sql_expression(sql)?,
            (None, _) => Expr::Value(Value::Null.into()),
        };
    }
    Ok(())
}
