//! `now` and `today` in quotes: what they are is settled when a statement is analysed, as Postgres' input functions do it.
//!
//! A prepared statement, a view, a CHECK and a DEFAULT keep the moment of their analysis for ever there, and so they do here wherever the
//! text says of what type the literal is: beside a cast or a type's name, in a column's place in VALUES and SET, and as a DEFAULT. A
//! literal that takes its type from what it is compared with, or from a query's place in an INSERT, is read when the statement runs.

use std::ops::ControlFlow;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, AssignmentTarget, ColumnDef, ColumnOption, Expr, ObjectName, SetExpr, Statement,
    TableFactor, Value, visit_expressions_mut,
};
use quire_types::SqlType;

use crate::ddl::sql_type;
use crate::insert::named_columns;
use crate::names::{Resolver, fold};
use crate::values::datetime::write_timestamp_in;
use crate::values::{self, Home, is_relative};
use crate::{Session, SqlError};

impl Session {
    /// Replaces what says `now` or the like by what it is at `home`, at the current scope.
    pub(crate) fn settle(&self, statement: &mut Statement, home: &Home<'_>) -> Result<(), SqlError> {
        let casts = visit_expressions_mut(statement, |expr| match settle_cast(expr, home) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        });
        if let ControlFlow::Break(error) = casts {
            return Err(error);
        }
        match statement {
            Statement::CreateTable(create) => create.columns.iter_mut().try_for_each(|column| settle_default(column, home)),
            Statement::AlterTable(alter) => {
                let name = alter.name.clone();
                for operation in &mut alter.operations {
                    match operation {
                        AlterTableOperation::AddColumn { column_def, .. } => settle_default(column_def, home)?,
                        AlterTableOperation::AlterColumn { column_name, op: AlterColumnOperation::SetDefault { value } } => {
                            if let Some(ty) = self.column_type(&name, &fold(column_name)) {
                                settle_kept(value, ty, home)?;
                            }
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
            Statement::Insert(insert) => {
                let Ok(table) = self.insert_table(insert) else { return Ok(()) };
                let Ok(targets) = named_columns(&table, &insert.columns) else { return Ok(()) };
                let Some(SetExpr::Values(rows)) = insert.source.as_mut().map(|source| source.body.as_mut()) else { return Ok(()) };
                for row in &mut rows.rows {
                    for (expr, &target) in row.iter_mut().zip(&targets) {
                        settle_literal(expr, table.columns[target].ty, home)?;
                    }
                }
                Ok(())
            }
            Statement::Update(update) => {
                let TableFactor::Table { name, .. } = &update.table.relation else { return Ok(()) };
                for assignment in &mut update.assignments {
                    let AssignmentTarget::ColumnName(column) = &assignment.target else { continue };
                    let column = column.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
                    if let Some(ty) = self.column_type(name, &column) {
                        settle_literal(&mut assignment.value, ty, home)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn column_type(&self, table: &ObjectName, column: &str) -> Option<SqlType> {
        let path = self.search_path();
        let catalog = self.cell.get().catalog;
        let table = Resolver { catalog: &catalog, search_path: &path }.find_table(table).ok().flatten()?;
        table.column_index(column).map(|position| table.columns[position].ty)
    }
}

/// Whether a statement is kept to be run later, by whatever name.
pub(crate) fn is_kept(statement: &Statement) -> bool {
    matches!(statement, Statement::CreateTable(_) | Statement::CreateView(_) | Statement::AlterTable(_))
}

fn settle_cast(expr: &mut Expr, home: &Home<'_>) -> Result<(), SqlError> {
    match expr {
        Expr::Cast { expr, data_type, .. } => match sql_type(data_type) {
            Ok(ty) => settle_literal(expr, ty, home),
            Err(_) => Ok(()),
        },
        Expr::TypedString(typed) => {
            if let (Ok(ty), Value::SingleQuotedString(text)) = (sql_type(&typed.data_type), &mut typed.value.value)
                && is_temporal(ty)
                && is_relative(text)
            {
                *text = settled(text, ty, home)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn settle_literal(expr: &mut Expr, ty: SqlType, home: &Home<'_>) -> Result<(), SqlError> {
    match literal(expr) {
        Some(text) if is_temporal(ty) && is_relative(text) => {
            *text = settled(text, ty, home)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn settle_default(column: &mut ColumnDef, home: &Home<'_>) -> Result<(), SqlError> {
    let Ok(ty) = sql_type(&column.data_type) else { return Ok(()) };
    for option in &mut column.options {
        if let ColumnOption::Default(expr) = &mut option.option {
            settle_kept(expr, ty, home)?;
        }
    }
    Ok(())
}

/// A literal that stays: its moment is not to depend on the time zone of who uses it.
fn settle_kept(expr: &mut Expr, ty: SqlType, home: &Home<'_>) -> Result<(), SqlError> {
    match literal(expr) {
        Some(text) if ty == SqlType::Timestamptz => {
            *text = settled(text, ty, home)?;
            Ok(())
        }
        _ => settle_literal(expr, ty, home),
    }
}

fn literal(expr: &mut Expr) -> Option<&mut String> {
    match expr {
        Expr::Nested(inner) => literal(inner),
        Expr::Value(value) => match &mut value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn is_temporal(ty: SqlType) -> bool {
    matches!(ty, SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz)
}

/// A literal's value, as text that says all by itself.
fn settled(text: &str, ty: SqlType, home: &Home<'_>) -> Result<String, SqlError> {
    let value = values::parse_text(ty, text, home)?;
    let mut out = vec![];
    match ty {
        SqlType::Timestamptz => write_timestamp_in(value.as_primitive::<TimestampMicrosecondType>().value(0), home.zone(), &mut out),
        _ => values::write_text(&value, 0, ty, &mut out),
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}
