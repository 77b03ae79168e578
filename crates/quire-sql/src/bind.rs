//! Parameters, and the rewrites that bring a syntax tree from Postgres' types to the planner's.
//!
//! A bound statement is a statement like any other: values take the places of `$n` in the syntax tree, as typed literals, so
//! that there is one path through planning whatever protocol a statement came by.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::dialect::PgDialect;
use arrow::array::{Array, AsArray};
use datafusion::sql::sqlparser::ast::{self, CastKind, DataType, Expr, LimitClause, Query, SetExpr, Statement, UnaryOperator, Value};
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::SqlType;

use crate::changes_within::changes_within;
use crate::ddl::sql_type;
use crate::errors::parser_error;
use crate::names::{fold, name_columns};
use crate::rewrite::rewrite;
use crate::{ParamValue, Session, SqlError, WireType, query, values};

/// Parameters a statement may have (the protocol counts them in 16 bits).
const PARAMETERS_MAX: usize = 65_535;

/// The types of a statement's parameters: what the client said, else what the place they stand in says, else text.
pub(crate) async fn parameter_types(
    session: &Session,
    statement: &Statement,
    given: &[Option<WireType>],
) -> Result<Vec<WireType>, SqlError> {
    let count = highest_parameter(statement)?.max(given.len());
    if count == 0 {
        return Ok(vec![]);
    }
    let mut found: BTreeMap<usize, WireType> = BTreeMap::new();
    for (i, ty) in given.iter().enumerate() {
        if let Some(ty) = ty.filter(|t| *t != WireType::Unknown) {
            found.insert(i + 1, ty);
        }
    }
    from_casts(statement, &mut found);
    from_limits(statement, &mut found);
    let parts = match statement {
        Statement::Query(query) => changes_within(query),
        _ => vec![],
    };
    for part in parts.iter().copied().chain([statement]) {
        from_insert(session, part, &mut found);
        from_update(session, part, &mut found);
    }
    if found.len() < count {
        // The query behind a statement that changes rows says what its parameters are, too.
        for part in parts.into_iter().chain([statement]) {
            if let Some(query) = query_behind(session, part) {
                from_planner(session, &query, &mut found).await;
            }
        }
    }
    Ok((1..=count).map(|n| found.get(&n).copied().unwrap_or(WireType::Scalar(SqlType::Text))).collect())
}

fn query_behind(session: &Session, statement: &Statement) -> Option<Statement> {
    match statement {
        Statement::Query(query) if changes_within(query).is_empty() => Some(statement.clone()),
        Statement::Update(update) => session.plan_update(update.clone()).ok().map(|change| change.into_query()),
        Statement::Delete(delete) => session.plan_delete(delete.clone()).ok().map(|change| change.into_query()),
        Statement::Merge(merge) => session.plan_merge(merge.clone(), None).ok().map(|plan| plan.into_query()),
        Statement::Insert(insert) => insert.source.clone().map(Statement::Query),
        _ => None,
    }
}

fn parameter_number(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) => parameter_number(inner),
        _ => None,
    }
}

fn highest_parameter(statement: &Statement) -> Result<usize, SqlError> {
    let mut highest = 0;
    let mut bad = None;
    let _: ControlFlow<()> = ast::visit_expressions(statement, |expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
        {
            match name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) {
                Some(n @ 1..=PARAMETERS_MAX) => highest = highest.max(n),
                _ => bad = Some(name.clone()),
            }
        }
        ControlFlow::Continue(())
    });
    match bad {
        Some(name) => Err(SqlError::new("42P02", format!("there is no parameter {name}"))),
        None => Ok(highest),
    }
}

fn from_casts(statement: &Statement, found: &mut BTreeMap<usize, WireType>) {
    let _: ControlFlow<()> = ast::visit_expressions(statement, |expr| {
        if let Expr::Cast { expr, data_type, .. } = expr
            && let Some(n) = parameter_number(expr)
        {
            let ty = match data_type {
                DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, _)) => sql_type(item).ok().map(WireType::Array),
                other => sql_type(other).ok().map(WireType::Scalar),
            };
            if let Some(ty) = ty {
                found.entry(n).or_insert(ty);
            }
        }
        ControlFlow::Continue(())
    });
}

fn from_limits(statement: &Statement, found: &mut BTreeMap<usize, WireType>) {
    let Statement::Query(query) = statement else { return };
    if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
        for expr in limit.iter().chain(offset.iter().map(|o| &o.value)) {
            if let Some(n) = parameter_number(expr) {
                found.entry(n).or_insert(WireType::Scalar(SqlType::Int8));
            }
        }
    }
}

/// `UPDATE … SET column = $1`: the column's type.
fn from_update(session: &Session, statement: &Statement, found: &mut BTreeMap<usize, WireType>) {
    let Statement::Update(update) = statement else { return };
    let ast::TableFactor::Table { name, .. } = &update.table.relation else { return };
    let path = session.search_path();
    let catalog = session.cell.get().catalog;
    let resolver = crate::names::Resolver { catalog: &catalog, search_path: &path };
    let Ok(Some(table)) = resolver.find_table(name) else { return };
    for (name, ty) in crate::assign::assigned_parameters(&table, &update.assignments) {
        if let Some(n) = name.strip_prefix('$').and_then(|n| n.parse().ok()) {
            found.entry(n).or_insert(WireType::Scalar(ty));
        }
    }
}

/// `INSERT … VALUES ($1, …)`: the columns' types.
fn from_insert(session: &Session, statement: &Statement, found: &mut BTreeMap<usize, WireType>) {
    let Statement::Insert(insert) = statement else { return };
    let Some(SetExpr::Values(rows)) = insert.source.as_ref().map(|s| s.body.as_ref()) else { return };
    let Ok(table) = session.insert_table(insert) else { return };
    let columns: Vec<SqlType> = if insert.columns.is_empty() {
        table.columns.iter().map(|c| c.ty).collect()
    } else {
        let names = insert.columns.iter().filter_map(|c| c.0.last().and_then(|p| p.as_ident()).map(fold));
        names.filter_map(|n| table.column_index(&n).map(|i| table.columns[i].ty)).collect()
    };
    for row in &rows.rows {
        for (expr, ty) in row.iter().zip(&columns) {
            if let Some(n) = parameter_number(expr) {
                found.entry(n).or_insert(WireType::Scalar(*ty));
            }
        }
    }
}

/// What the planner infers from comparisons and the like; it may fail to plan without types, and then the rest is text.
async fn from_planner(session: &Session, statement: &Statement, found: &mut BTreeMap<usize, WireType>) {
    let Ok(statement) = prepare_expressions(statement.clone()) else { return };
    let mut state = Box::new(session.context.state());
    match Box::pin(query::as_written(&mut state, statement)).await.map(|plan| plan.get_parameter_fields()) {
        Ok(Ok(fields)) => {
            for (name, field) in fields {
                if let (Some(n), Some(field)) = (name.strip_prefix('$').and_then(|n| n.parse().ok()), field) {
                    found.entry(n).or_insert_with(|| query::wire_type(&field));
                }
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, "parameter types were not inferred"),
        Err(error) => tracing::debug!(%error, "parameter types were not inferred"),
    }
}

/// The statement with typed NULLs for parameters: to learn the shape of its result.
pub(crate) fn with_nulls(mut statement: Statement, types: &[WireType]) -> Statement {
    if !types.is_empty() {
        name_columns(&mut statement);
    }
    replace(&mut statement, |n| {
        let null = Expr::Value(Value::Null.into());
        match types.get(n - 1) {
            Some(WireType::Scalar(ty)) => cast_to(null, *ty),
            Some(WireType::Array(item)) => null_array(*item),
            _ => null,
        }
    });
    statement
}

/// The statement with literals for parameters.
pub(crate) fn with_values(mut statement: Statement, types: &[WireType], given: &[ParamValue]) -> Result<Statement, SqlError> {
    if given.len() != types.len() {
        let message = format!("bind message supplies {} parameters, but prepared statement requires {}", given.len(), types.len());
        return Err(SqlError::new("08P01", message));
    }
    if !given.is_empty() {
        // A parameter has no name; the cast that takes its place would have one.
        name_columns(&mut statement);
        let literals = given.iter().zip(types).map(|(v, t)| literal(v, *t)).collect::<Result<Vec<_>, _>>()?;
        replace(&mut statement, |n| literals[n - 1].clone());
    }
    Ok(statement)
}

fn replace(statement: &mut Statement, with: impl Fn(usize) -> Expr) {
    let _: ControlFlow<()> = ast::visit_expressions_mut(statement, |expr| {
        if let Expr::Value(_) = expr
            && let Some(n) = parameter_number(expr)
        {
            *expr = with(n);
        }
        ControlFlow::Continue(())
    });
}

fn literal(value: &ParamValue, ty: WireType) -> Result<Expr, SqlError> {
    let scalar = match ty {
        WireType::Scalar(ty) => ty,
        WireType::Oid => SqlType::Int8,
        WireType::Name | WireType::QuotedChar | WireType::Unknown => SqlType::Text,
        WireType::Array(item) | WireType::Vector(item) => {
            if value.is_null(0) {
                return Ok(null_array(item));
            }
            let items = value.as_list_opt::<i32>().map(|l| l.value(0));
            let items = items.ok_or_else(|| SqlError::internal("an array parameter is no array"))?;
            let elements = (0..items.len()).map(|i| parameter_literal(&items, i, item)).collect();
            return Ok(Expr::Array(ast::Array { elem: elements, named: true }));
        }
    };
    Ok(parameter_literal(value, 0, scalar))
}

/// A parameter's value. Digits by themselves would be an int4, whatever the parameter is, unless they are more than that can have.
fn parameter_literal(array: &arrow::array::ArrayRef, row: usize, ty: SqlType) -> Expr {
    let literal = scalar_literal(array, row, ty);
    if array.is_valid(row) && matches!(ty, SqlType::Int2 | SqlType::Int8) { cast_to(literal, ty) } else { literal }
}

/// A value as a literal of its type.
pub(crate) fn scalar_literal(array: &arrow::array::ArrayRef, row: usize, ty: SqlType) -> Expr {
    if array.is_null(row) {
        return cast_to(Expr::Value(Value::Null.into()), ty);
    }
    let mut text = Vec::new();
    values::write_text(array, row, ty, &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    match ty {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => integer(&text),
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) => Expr::Value(Value::SingleQuotedString(text).into()),
        SqlType::Bytea => Expr::Value(Value::HexStringLiteral(text.trim_start_matches("\\x").to_string()).into()),
        SqlType::Bool => Expr::Value(Value::Boolean(text == "t").into()),
        _ => cast_to(Expr::Value(Value::SingleQuotedString(text).into()), ty),
    }
}

fn integer(text: &str) -> Expr {
    let number = |digits: &str| Expr::Value(Value::Number(digits.to_string(), false).into());
    match text.strip_prefix('-') {
        Some(digits) => Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number(digits)) })),
        None => number(text),
    }
}

pub(crate) fn cast_to(expr: Expr, ty: SqlType) -> Expr {
    cast(expr, ast_type(ty))
}

fn null_array(item: SqlType) -> Expr {
    let item = ast::ArrayElemTypeDef::SquareBracket(Box::new(ast_type(item)), None);
    cast(Expr::Value(Value::Null.into()), DataType::Array(item))
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn ast_type(ty: SqlType) -> DataType {
    use ast::{ExactNumberInfo, TimezoneInfo};
    match ty {
        SqlType::Bool => DataType::Boolean,
        SqlType::Int2 => DataType::SmallInt(None),
        SqlType::Int4 => DataType::Int(None),
        SqlType::Int8 => DataType::BigInt(None),
        SqlType::Float4 => DataType::Real,
        SqlType::Float8 => DataType::DoublePrecision,
        SqlType::Numeric { precision, scale } => {
            DataType::Numeric(ExactNumberInfo::PrecisionAndScale(u64::from(precision), i64::from(scale)))
        }
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) => DataType::Text,
        SqlType::Bytea => DataType::Bytea,
        SqlType::Date => DataType::Date,
        SqlType::Time => DataType::Time(None, TimezoneInfo::None),
        SqlType::Timestamp => DataType::Timestamp(None, TimezoneInfo::None),
        SqlType::Timestamptz => DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
        SqlType::Interval => DataType::Interval { fields: None, precision: None },
        SqlType::Uuid => DataType::Uuid,
        SqlType::Json => DataType::JSON,
    }
}

/// Brings types and operators that the planner does not know to ones that it does.
pub(crate) fn prepare_expressions(mut statement: Statement) -> Result<Statement, SqlError> {
    rewrite(&mut statement, true)?;
    refuse_locking(&statement)?;
    Ok(statement)
}

/// Likewise, for what an INSERT writes: a list of VALUES has the types of the table's columns.
pub(crate) fn prepare_source(mut statement: Statement) -> Result<Statement, SqlError> {
    rewrite(&mut statement, false)?;
    refuse_locking(&statement)?;
    Ok(statement)
}

/// The planner would accept FOR UPDATE and do nothing.
fn refuse_locking(statement: &Statement) -> Result<(), SqlError> {
    let Statement::Query(query) = statement else { return Ok(()) };
    let Query { locks, .. } = query.as_ref();
    match locks.first() {
        Some(lock) => Err(SqlError::unsupported(format!("SELECT {lock}"))),
        None => Ok(()),
    }
}

/// The expression of a DEFAULT or CHECK.
pub(crate) fn parse_sql_expression(sql: &str) -> Result<Expr, SqlError> {
    let mut parser = Parser::new(&PgDialect).try_with_sql(sql).map_err(|e| parser_error(&e, sql))?;
    parser.parse_expr().map_err(|e| parser_error(&e, sql))
}

/// Likewise, as the planner takes it.
pub(crate) fn prepare_sql_expression(sql: &str) -> Result<Expr, SqlError> {
    let mut expr = parse_sql_expression(sql)?;
    // Places in that text are not places in the statement.
    rewrite(&mut expr, true).map_err(SqlError::without_place)?;
    Ok(expr)
}
