//! SET: which columns get which values. `SET (a, b) = (SELECT …)` gives several columns the values of one row.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, ObjectName,
    ObjectNamePart, Query, SelectItem, SetExpr, Statement, TableFactor, Value, visit_expressions,
};
use quire_types::{SqlType, TableDef};

use crate::functions::{PART, ROW, present};
use crate::generated::check_assignment;
use crate::insert::{fill_default, is_default};
use crate::names::fold;
use crate::rewrite::function;
use crate::{SqlError, parse};

/// What the row of a sub-query is called within.
const GIVEN: &str = "quire:given";

/// The columns that are set, by position, and their new values in the same order. A value that is a row is one for several columns.
pub(crate) fn assigned(table: &TableDef, assignments: Vec<Assignment>) -> Result<(Vec<usize>, Vec<Expr>), SqlError> {
    let (columns, values): (Vec<Vec<usize>>, Vec<Expr>) = by_value(table, assignments)?.into_iter().unzip();
    Ok((columns.concat(), values))
}

/// The types that an UPDATE's `SET column = $n` give to parameters.
pub(crate) fn assigned_parameters(table: &TableDef, assignments: &[Assignment]) -> Vec<(String, SqlType)> {
    let Ok(assigned) = by_value(table, assignments.to_vec()) else { return vec![] };
    let placeholder = |(positions, value): (Vec<usize>, Expr)| match value {
        Expr::Value(value) => match value.value {
            Value::Placeholder(name) => Some((name, table.columns[*positions.first()?].ty)),
            _ => None,
        },
        _ => None,
    };
    assigned.into_iter().filter_map(placeholder).collect()
}

/// Each value with the columns that it is for.
fn by_value(table: &TableDef, assignments: Vec<Assignment>) -> Result<Vec<(Vec<usize>, Expr)>, SqlError> {
    let mut out: Vec<(Vec<usize>, Expr)> = vec![];
    for Assignment { target, value } in assignments {
        match target {
            AssignmentTarget::ColumnName(name) => set_one(table, &name, value, &mut out)?,
            AssignmentTarget::Tuple(names) => match without_parentheses(value) {
                Expr::Subquery(mut query) => {
                    if given_columns(&query.body).is_some_and(|given| given != names.len()) {
                        return Err(wrong_number());
                    }
                    if let Some(values) = bare_values(&mut query) {
                        for (name, value) in names.iter().zip(values) {
                            set_one(table, name, value, &mut out)?;
                        }
                        continue;
                    }
                    let value = match names.len() {
                        1 => Expr::Subquery(query),
                        width => Expr::Subquery(as_rows(query, width)?),
                    };
                    let mut positions = vec![];
                    for name in &names {
                        let position = position_of(table, name, &out)?;
                        if positions.contains(&position) {
                            return Err(twice(&table.columns[position].name));
                        }
                        check_assignment(&table.columns[position], &value)?;
                        positions.push(position);
                    }
                    out.push((positions, value));
                }
                value => {
                    let values = row_values(value)?;
                    if values.len() != names.len() {
                        return Err(wrong_number());
                    }
                    for (name, value) in names.iter().zip(values) {
                        set_one(table, name, value, &mut out)?;
                    }
                }
            },
        }
    }
    Ok(out)
}

fn set_one(table: &TableDef, name: &ObjectName, mut value: Expr, out: &mut Vec<(Vec<usize>, Expr)>) -> Result<(), SqlError> {
    let position = position_of(table, name, out)?;
    check_assignment(&table.columns[position], &value)?;
    fill_default(&mut value, &table.columns[position])?;
    out.push((vec![position], value));
    Ok(())
}

fn position_of(table: &TableDef, name: &ObjectName, set: &[(Vec<usize>, Expr)]) -> Result<usize, SqlError> {
    let name = name.0.last().and_then(|p| p.as_ident()).map(fold).unwrap_or_default();
    let missing = || SqlError::new("42703", format!("column \"{name}\" of relation \"{}\" does not exist", table.name));
    let position = table.column_index(&name).ok_or_else(missing)?;
    if set.iter().any(|(positions, _)| positions.contains(&position)) {
        return Err(twice(&name));
    }
    Ok(position)
}

fn twice(column: &str) -> SqlError {
    SqlError::new("42601", format!("multiple assignments to same column \"{column}\""))
}

fn wrong_number() -> SqlError {
    SqlError::syntax("number of columns does not match number of values")
}

/// `((SELECT 1, 2))` is a sub-query as `(SELECT 1, 2)` is.
fn without_parentheses(value: Expr) -> Expr {
    match value {
        Expr::Nested(inner) if matches!(inner.as_ref(), Expr::Nested(_) | Expr::Subquery(_)) => without_parentheses(*inner),
        value => value,
    }
}

/// The values of `(1, 2)` or `ROW (1, 2)`. One value in parentheses is no row, as in Postgres.
fn row_values(value: Expr) -> Result<Vec<Expr>, SqlError> {
    match value {
        Expr::Tuple(values) => Ok(values),
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) if is_row(&name) => {
            let argument = |argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Ok(value),
                _ => Err(SqlError::unsupported("this form of ROW")),
            };
            list.args.into_iter().map(argument).collect()
        }
        _ => Err(SqlError::new("0A000", "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression")),
    }
}

pub(crate) fn is_row(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [ObjectNamePart::Identifier(name)] if name.quote_style.is_none() && fold(name) == "row")
}

/// How many columns a query gives, where its text tells.
fn given_columns(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Select(select) if !select.projection.iter().any(is_wildcard) => Some(select.projection.len()),
        SetExpr::Query(query) => given_columns(&query.body),
        SetExpr::SetOperation { left, .. } => given_columns(left),
        SetExpr::Values(values) => values.rows.first().map(|row| row.len()),
        _ => None,
    }
}

fn is_wildcard(item: &SelectItem) -> bool {
    !matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
}

/// The values of `SELECT a + 1, b`: of nothing but expressions over the row around it. The planner makes no join of such a query.
fn bare_values(query: &mut Query) -> Option<Vec<Expr>> {
    let nothing_else = match query.body.as_ref() {
        SetExpr::Select(select) => select.from.is_empty() && select.selection.is_none() && select.having.is_none(),
        _ => false,
    };
    if !nothing_else || query.with.is_some() {
        return None;
    }
    let items = plain_items(query)?;
    let expr = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr.clone()),
        _ => None,
    };
    // A call may be of an aggregate.
    let has_call = |expr: &Expr| {
        let found = visit_expressions(expr, |e| match e {
            Expr::Function(_) | Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        found.is_break()
    };
    let values: Vec<Expr> = items.iter().map(expr).collect::<Option<_>>()?;
    // The word DEFAULT is none here.
    (!values.iter().any(|value| has_call(value) || is_default(value))).then_some(values)
}

/// The query with one column, whose values are its rows.
fn as_rows(mut query: Box<Query>, width: usize) -> Result<Box<Query>, SqlError> {
    if let Some(items) = plain_items(&mut query) {
        let values = std::mem::take(items).into_iter().filter_map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            _ => None,
        });
        *items = vec![SelectItem::UnnamedExpr(function(ROW, values.collect()))];
        return Ok(query);
    }
    // ORDER BY and the like mean the columns as they are.
    let names: Vec<Ident> = (0..width).map(|i| Ident::with_quote('"', format!("{PART}{i}"))).collect();
    let listed: Vec<String> = names.iter().map(Ident::to_string).collect();
    let text = format!("SELECT 1 FROM (SELECT 1) AS \"{GIVEN}\" ({})", listed.join(", "));
    let parsed = parse::parse(&text)?.pop().map(|parsed| parsed.statement);
    let Some(Statement::Query(mut outer)) = parsed else { return Err(SqlError::internal("a select did not parse")) };
    let SetExpr::Select(select) = outer.body.as_mut() else { return Err(SqlError::internal("a select is not one")) };
    let column = |name| Expr::CompoundIdentifier(vec![Ident::with_quote('"', GIVEN), name]);
    select.projection = vec![SelectItem::UnnamedExpr(function(ROW, names.into_iter().map(column).collect()))];
    if let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation) {
        *subquery = query;
    }
    Ok(outer)
}

/// The select list of a query in which nothing else depends on it.
fn plain_items(query: &mut Query) -> Option<&mut Vec<SelectItem>> {
    let ordered = query.order_by.is_some() || query.limit_clause.is_some() || query.fetch.is_some();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let plain = !ordered && !grouped && select.distinct.is_none() && !select.projection.iter().any(is_wildcard);
    plain.then_some(&mut select.projection)
}

/// Columns of rows are columns again; NULL stands for a row of NULLs.
pub(crate) fn apart(batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| holds_rows(field)) {
        return Ok(batch.clone());
    }
    let internal = |e: arrow::error::ArrowError| SqlError::internal(e.to_string());
    let (mut fields, mut columns): (Vec<FieldRef>, Vec<ArrayRef>) = (vec![], vec![]);
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        match column.as_struct_opt() {
            Some(rows) if holds_rows(field) => {
                let present = present(rows);
                for (part, values) in rows.fields().iter().zip(rows.columns()) {
                    fields.push(part.clone());
                    columns.push(take(values, &present, None).map_err(internal)?);
                }
            }
            _ => {
                fields.push(field.clone());
                columns.push(column.clone());
            }
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(internal)
}

fn holds_rows(field: &Field) -> bool {
    match field.data_type() {
        DataType::Struct(parts) => parts.first().is_some_and(|part| part.name().starts_with(PART)),
        _ => false,
    }
}
