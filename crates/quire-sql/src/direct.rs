//! Statements that name rows by a key of an index, or by their values, run without a plan: `SELECT columns FROM t WHERE key = 1`,
//! UPDATE and DELETE with such a WHERE, `INSERT … VALUES`. Applications send little else, and planning one costs many times what running it does.
//!
//! Whatever is not exactly of these shapes is planned; so is a value that its column's type cannot read, for the planner's word on it.

use std::sync::{Arc, LazyLock};

use crate::dialect::PgDialect;
use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, ObjectName, Query, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor,
    UnaryOperator, Value, Values,
};
use datafusion::sql::sqlparser::parser::Parser;
use futures::stream;
use quire_scan::{OwnRows, row_id_field};
use quire_types::{ColumnId, SqlType, TableDef};

use crate::ddl::sql_type;
use crate::errors::datafusion_error;
use crate::keys::{UniqueKey, arrow_error};
use crate::lookup::{Found, Lookup, equal_rows};
use crate::names::{Resolver, fold, name_columns};
use crate::rewrite::rewrite;
use crate::values::{ColumnBuilder, Home, is_relative};
use crate::{Response, Session, SqlError, query};

/// `INSERT … VALUES` of more rows is worth a plan.
const ROWS_MAX: usize = 64;

/// Rows of a table, by a key of one of its indexes.
pub(crate) struct RowsByKey {
    pub(crate) key: Arc<UniqueKey>,
    pub(crate) unique: bool,
    /// One row: the key's columns.
    pub(crate) wanted: RecordBatch,
    /// What else the rows' columns equal: positions, and one row of them.
    pub(crate) rest: Option<(Vec<usize>, RecordBatch)>,
}

impl RowsByKey {
    /// The rows that a WHERE names by constants.
    pub(crate) fn named_by(selection: &Expr, table: &TableDef, alias: &Ident) -> Option<RowsByKey> {
        let named = NamedKey::of(selection, table, alias)?;
        let values = |positions: &[usize], values: &[&Expr]| -> Option<RecordBatch> {
            let columns = positions.iter().zip(values).map(|(position, value)| compared(value, table.columns[*position].ty));
            let columns: Vec<ArrayRef> = columns.collect::<Option<_>>()?;
            RecordBatch::try_new(Arc::new(table.arrow_schema().project(positions).ok()?), columns).ok()
        };
        let wanted = values(&named.key.positions, &named.values)?;
        let (positions, others): (Vec<usize>, Vec<&Expr>) = named.rest.iter().copied().unzip();
        let rest = match positions.is_empty() {
            true => None,
            false => {
                let others = values(&positions, &others)?;
                Some((positions, others))
            }
        };
        Some(RowsByKey { key: Arc::new(named.key), unique: named.unique, wanted, rest })
    }
}

/// A key of an index, and what a WHERE says that its columns equal.
pub(crate) struct NamedKey<'a> {
    pub(crate) key: UniqueKey,
    pub(crate) unique: bool,
    /// In the order of the key's columns.
    pub(crate) values: Vec<&'a Expr>,
    /// Other columns of which the WHERE says so.
    pub(crate) rest: Vec<(usize, &'a Expr)>,
}

impl<'a> NamedKey<'a> {
    /// `None` when the WHERE does not say of each column of a key what it equals, or says anything but what columns equal.
    pub(crate) fn of(selection: &'a Expr, table: &TableDef, alias: &Ident) -> Option<NamedKey<'a>> {
        let mut equals = vec![];
        conjuncts(selection, table, alias, &mut equals)?;
        if !equals.iter().all(|(position, _)| can_be_looked_up(table.columns[*position].ty)) {
            return None;
        }
        let position = |id: &ColumnId| table.columns.iter().position(|c| c.id == *id);
        let given = |columns: &[ColumnId]| columns.iter().all(|id| position(id).is_some_and(|p| equals.iter().any(|(e, _)| *e == p)));
        let unique = table.certain_keys().find(|(_, _, columns)| given(columns)).map(|key| (key, true));
        let other = || table.indexes().filter(|(_, _, columns)| given(columns)).max_by_key(|(_, _, columns)| columns.len());
        let ((ordinal, name, columns), unique) = unique.or_else(|| other().map(|key| (key, false)))?;
        let key = UniqueKey::over(table, ordinal, name, columns).ok()?;
        let value = |position: &usize| equals.iter().find(|(p, _)| p == position).map(|(_, value)| *value);
        let values = key.positions.iter().map(value).collect::<Option<_>>()?;
        let rest = equals.iter().filter(|(p, _)| !key.positions.contains(p)).copied().collect();
        Some(NamedKey { key, unique, values, rest })
    }
}

impl Session {
    /// A SELECT of plain columns of rows by a key; `None` when the statement is anything else.
    pub(crate) async fn select_row(&mut self, statement: &Statement) -> Result<Option<Response>, SqlError> {
        let Statement::Query(query) = statement else { return Ok(None) };
        let Some(parts) = plain_select(query) else { return Ok(None) };
        let path = self.search_path();
        let scope = self.cell.get();
        if scope.reads.is_some() {
            // What a plan reads is certified.
            return Ok(None);
        }
        let Ok(Some(table)) = (Resolver { catalog: &scope.catalog, search_path: &path }).find_table(&parts.table) else { return Ok(None) };
        let alias = parts.alias.unwrap_or_else(|| Ident::with_quote('"', &table.name));
        let Some(columns) = plain_columns(&parts.items, &table, &alias) else { return Ok(None) };
        let Some(wanted) = RowsByKey::named_by(&parts.selection, &table, &alias) else { return Ok(None) };
        let found = self.find_rows(&table, &wanted, &columns).await?;
        let schema = Arc::new(table.arrow_schema().project(&columns).map_err(arrow_error)?);
        let names = name_columns(&mut statement.clone());
        let output = Arc::new(query::output_columns(&schema, &names));
        let batches: Vec<_> = found.into_iter().map(|found| Ok(found.rows)).collect();
        let stream = Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(batches)));
        Ok(Some(Response::Rows(self.rows(output, stream, "SELECT", true))))
    }

    pub(crate) async fn find_rows(&self, table: &Arc<TableDef>, wanted: &RowsByKey, columns: &[usize]) -> Result<Vec<Found>, SqlError> {
        let scope = self.cell.get();
        let view = scope.view.tables.get(&table.id).cloned().unwrap_or_default();
        let none = OwnRows::default();
        let own = scope.own.get(&table.id).unwrap_or(&none);
        // What else the columns equal is looked at behind those that are asked for.
        let all: Vec<usize> = columns.iter().chain(wanted.rest.iter().flat_map(|(positions, _)| positions)).copied().collect();
        let lookup = Lookup { source: &self.engine.source, table, view: &view, lsn: scope.view.lsn, own, columns: &all };
        let found = lookup.find(&wanted.key, wanted.unique, &wanted.wanted).await?;
        let Some((_, values)) = &wanted.rest else { return Ok(found) };
        let shown: Vec<usize> = (0..columns.len()).collect();
        let others: Vec<usize> = (columns.len()..all.len()).collect();
        let mut kept = vec![];
        for Found { ids, rows } in found {
            let equal = equal_rows(&rows.project(&others).map_err(arrow_error)?, values)?;
            let positions = UInt32Array::from_iter_values(equal.iter().map(|&position| position as u32));
            let rows = take_record_batch(&rows.project(&shown).map_err(arrow_error)?, &positions).map_err(arrow_error)?;
            if !equal.is_empty() {
                kept.push(Found { ids: equal.into_iter().map(|position| ids[position]).collect(), rows });
            }
        }
        Ok(kept)
    }

    /// What the query of an UPDATE or DELETE would find: row ids, the table's columns, then the value of each expression.
    pub(crate) async fn found_rows(
        &self,
        table: &Arc<TableDef>,
        wanted: &RowsByKey,
        values: &[Arc<dyn PhysicalExpr>],
    ) -> Result<Vec<RecordBatch>, SqlError> {
        let all: Vec<usize> = (0..table.columns.len()).collect();
        let schema = table.arrow_schema_nullable();
        let mut batches = vec![];
        for Found { ids, rows } in self.find_rows(table, wanted, &all).await? {
            let rows = RecordBatch::try_new(schema.clone(), rows.columns().to_vec()).map_err(arrow_error)?;
            let mut fields: Vec<Field> = [row_id_field()].into_iter().chain(schema.fields().iter().map(|f| f.as_ref().clone())).collect();
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(ids.into_iter().map(|id| id as i64)))];
            columns.extend(rows.columns().iter().cloned());
            for (i, expr) in values.iter().enumerate() {
                let field = expr.return_field(&schema).map_err(datafusion_error)?;
                fields.push(field.as_ref().clone().with_name(format!("quire:set:{i}")).with_nullable(true));
                columns.push(expr.evaluate(&rows).and_then(|v| v.into_array(rows.num_rows())).map_err(datafusion_error)?);
            }
            batches.push(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(arrow_error)?);
        }
        Ok(batches)
    }

    /// Expressions over a table's columns, ready to evaluate.
    pub(crate) fn over_table(&self, table: &TableDef, values: &[Expr]) -> Result<Vec<Arc<dyn PhysicalExpr>>, SqlError> {
        if values.is_empty() {
            return Ok(vec![]);
        }
        let schema = DFSchema::try_from(table.arrow_schema_nullable().as_ref().clone()).map_err(datafusion_error)?;
        values.iter().map(|value| self.physical(value.clone(), &schema)).collect()
    }

    /// The rows of VALUES, each value in the type of its column (or, where it is no constant, in its own); `None` when it takes a plan.
    pub(crate) fn constant_rows(&self, source: &Query, table: &TableDef, targets: &[usize]) -> Result<Option<RecordBatch>, SqlError> {
        let Some(values) = plain_values(source) else { return Ok(None) };
        let width = values.rows.first().map_or(0, |row| row.len());
        if width == 0 || width > targets.len() || values.rows.len() > ROWS_MAX || values.rows.iter().any(|row| row.len() != width) {
            return Ok(None);
        }
        let (mut fields, mut columns) = (vec![], vec![]);
        for (i, &target) in targets.iter().take(width).enumerate() {
            let column = &table.columns[target];
            let literals: Option<Vec<Literal>> = values.rows.iter().map(|row| Literal::of(&row[i], column.ty)).collect();
            if let Some(array) = literals.and_then(|literals| array_of(&literals, column.ty)) {
                fields.push(column.ty.field(&column.name, true));
                columns.push(array);
                continue;
            }
            // A call, say; one that looks into a table does not get here.
            let [row] = values.rows.as_slice() else { return Ok(None) };
            if !matches!(row[i], Expr::Function(_)) {
                return Ok(None);
            }
            let Ok(expr) = self.physical(row[i].clone(), &DFSchema::empty()) else { return Ok(None) };
            let one = RecordBatch::try_from_iter([("", Arc::new(Int64Array::from(vec![0])) as ArrayRef)]).map_err(arrow_error)?;
            let Ok(field) = expr.return_field(&Schema::empty()) else { return Ok(None) };
            fields.push(field.as_ref().clone().with_name(&column.name).with_nullable(true));
            columns.push(expr.evaluate(&one).and_then(|v| v.into_array(1)).map_err(datafusion_error)?);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map(Some).map_err(arrow_error)
    }

    /// An expression over some columns, ready to evaluate.
    pub(crate) fn physical(&self, mut expr: Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
        rewrite(&mut expr, true)?;
        let state = self.context.state_ref();
        let state = state.read();
        let logical = state.create_logical_expr(&expr.to_string(), schema).map_err(datafusion_error)?;
        // now() and its like exist only until they are replaced by their value.
        let simplify = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(state.config_options().clone())
            .with_query_execution_start_time(state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(simplify);
        let logical = simplifier.coerce(logical, schema).and_then(|e| simplifier.simplify(e)).map_err(datafusion_error)?;
        state.create_physical_expr(logical, schema).map_err(datafusion_error)
    }
}

/// The types of which two values are equal exactly when the same row encoding is: not floats, whose zero has two signs, and not intervals.
fn can_be_looked_up(ty: SqlType) -> bool {
    !matches!(ty, SqlType::Float4 | SqlType::Float8 | SqlType::Interval | SqlType::Json)
}

/// A constant, as text that its column's type reads.
enum Literal {
    Null,
    Text(String),
}

impl Literal {
    fn of(expr: &Expr, ty: SqlType) -> Option<Literal> {
        match expr {
            Expr::Nested(inner) => Literal::of(inner, ty),
            Expr::Cast { expr, data_type, .. } if sql_type(data_type).is_ok_and(|cast| cast == ty) => Literal::of(expr, ty),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match Literal::of(expr, ty)? {
                Literal::Text(digits) if is_number(ty) && !digits.starts_with('-') => Some(Literal::Text(format!("-{digits}"))),
                _ => None,
            },
            Expr::Value(value) => match &value.value {
                Value::Null => Some(Literal::Null),
                Value::Number(digits, _) if is_number(ty) => Some(Literal::Text(digits.clone())),
                Value::SingleQuotedString(text) => match ty {
                    // Too long is an error, or in a comparison no match: not for here.
                    SqlType::Varchar(Some(n)) | SqlType::Char(n) if text.chars().count() > n as usize => None,
                    // Read in the session's time zone, or at its time.
                    SqlType::Timestamptz => None,
                    SqlType::Timestamp | SqlType::Date | SqlType::Time if is_relative(text) => None,
                    _ => Some(Literal::Text(text.clone())),
                },
                Value::Boolean(value) if ty == SqlType::Bool => Some(Literal::Text(value.to_string())),
                _ => None,
            },
            _ => None,
        }
    }
}

fn is_number(ty: SqlType) -> bool {
    matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Numeric { .. } | SqlType::Float4 | SqlType::Float8)
}

fn array_of(literals: &[Literal], ty: SqlType) -> Option<ArrayRef> {
    let mut builder = ColumnBuilder::for_rows(ty, literals.len());
    for literal in literals {
        match literal {
            Literal::Null => builder.append_null(),
            Literal::Text(text) => builder.append_text(text, &Home::unknown()).ok()?,
        }
    }
    Some(builder.finish())
}

/// A constant that is not NULL, as one row of the column's type.
pub(crate) fn literal(expr: &Expr, ty: SqlType) -> Option<ArrayRef> {
    match Literal::of(expr, ty)? {
        Literal::Null => None,
        text => array_of(&[text], ty),
    }
}

/// A constant as a parameter's value; `None` when it takes a plan to know it in that type.
pub(crate) fn parameter(expr: &Expr, ty: SqlType) -> Option<ArrayRef> {
    match (Literal::of(expr, ty)?, ty) {
        (Literal::Text(digits), SqlType::Numeric { scale, .. }) if !has_scale(&digits, scale) => None,
        (literal, _) => array_of(&[literal], ty),
    }
}

/// A constant that is not NULL, as one row of the type of a column that it is compared with; `None` when it may be no value of the type.
pub(crate) fn compared(expr: &Expr, ty: SqlType) -> Option<ArrayRef> {
    match (Literal::of(expr, ty)?, ty) {
        // A column is not equal to what would be rounded for it.
        (Literal::Text(digits), SqlType::Numeric { scale, .. }) if !has_scale(&digits, scale) => None,
        (Literal::Null, _) => None,
        (text, _) => array_of(&[text], ty),
    }
}

/// Whether a number has no more digits after its point than these, trailing zeros aside.
fn has_scale(number: &str, scale: i8) -> bool {
    let fraction = number.trim().split_once('.').map_or("", |(_, fraction)| fraction);
    !number.contains(['e', 'E']) && fraction.trim_end_matches('0').len() <= scale.max(0) as usize
}

/// The columns that a conjunction sets equal to something without columns; `None` when it says anything else.
fn conjuncts<'a>(expr: &'a Expr, table: &TableDef, alias: &Ident, out: &mut Vec<(usize, &'a Expr)>) -> Option<()> {
    match expr {
        Expr::Nested(inner) => conjuncts(inner, table, alias, out),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, table, alias, out)?;
            conjuncts(right, table, alias, out)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let (position, value) = match (column(left, table, alias), column(right, table, alias)) {
                (Some(position), None) => (position, right.as_ref()),
                (None, Some(position)) => (position, left.as_ref()),
                _ => return None,
            };
            if out.iter().any(|(p, _)| *p == position) {
                return None;
            }
            out.push((position, value));
            Some(())
        }
        _ => None,
    }
}

/// The position of a plain column of the table.
fn column(expr: &Expr, table: &TableDef, alias: &Ident) -> Option<usize> {
    match expr {
        Expr::Identifier(name) => table.column_index(&fold(name)),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, name] if fold(relation) == fold(alias) => table.column_index(&fold(name)),
            _ => None,
        },
        _ => None,
    }
}

pub(crate) fn plain_columns(items: &[SelectItem], table: &TableDef, alias: &Ident) -> Option<Vec<usize>> {
    let mut columns = vec![];
    for item in items {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => columns.push(column(expr, table, alias)?),
            SelectItem::Wildcard(options) if *options == Default::default() => columns.extend(0..table.columns.len()),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) if *options == Default::default() => {
                let relation = name.0.last()?.as_ident()?;
                if name.0.len() != 1 || fold(relation) != fold(alias) {
                    return None;
                }
                columns.extend(0..table.columns.len());
            }
            _ => return None,
        }
    }
    Some(columns)
}

/// The parts of a SELECT that may differ from `SELECT 1 FROM t WHERE true`.
pub(crate) struct PlainSelect {
    pub(crate) items: Vec<SelectItem>,
    pub(crate) table: ObjectName,
    pub(crate) alias: Option<Ident>,
    pub(crate) selection: Expr,
}

/// A query without anything but its parts put in place is this one.
static PLAIN_SELECT: LazyLock<Option<Box<Query>>> = LazyLock::new(|| parsed_query("SELECT 1 FROM t WHERE true"));
static PLAIN_VALUES: LazyLock<Option<Box<Query>>> = LazyLock::new(|| parsed_query("VALUES (1)"));

fn parsed_query(sql: &str) -> Option<Box<Query>> {
    Parser::new(&PgDialect).try_with_sql(sql).and_then(|mut p| p.parse_query()).ok()
}

pub(crate) fn plain_select(query: &Query) -> Option<PlainSelect> {
    let plain = PLAIN_SELECT.as_ref()?;
    let SetExpr::Select(plain_select) = plain.body.as_ref() else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [from] = select.from.as_slice() else { return None };
    let TableFactor::Table { name, alias, .. } = &from.relation else { return None };
    if alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
        return None;
    }
    let selection = select.selection.clone()?;
    let mut rest = query.clone();
    let SetExpr::Select(select_rest) = rest.body.as_mut() else { return None };
    let items = std::mem::replace(&mut select_rest.projection, plain_select.projection.clone());
    select_rest.selection = plain_select.selection.clone();
    if let (Some(TableFactor::Table { name, alias, .. }), Some(TableFactor::Table { name: plain_name, alias: plain_alias, .. })) =
        (select_rest.from.first_mut().map(|f| &mut f.relation), plain_select.from.first().map(|f| &f.relation))
    {
        *name = plain_name.clone();
        *alias = plain_alias.clone();
    }
    (rest == **plain).then(|| PlainSelect { items, table: name.clone(), alias: alias.as_ref().map(|a| a.name.clone()), selection })
}

pub(crate) fn plain_values(query: &Query) -> Option<&Values> {
    let plain = PLAIN_VALUES.as_ref()?;
    let SetExpr::Values(values) = query.body.as_ref() else { return None };
    let SetExpr::Values(plain_values) = plain.body.as_ref() else { return None };
    if values.rows.len() > ROWS_MAX {
        return None;
    }
    let mut rest = query.clone();
    let SetExpr::Values(values_rest) = rest.body.as_mut() else { return None };
    values_rest.rows = plain_values.rows.clone();
    (rest == **plain).then_some(values)
}
