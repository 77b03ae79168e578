//! ALTER TABLE, one action after the other on a copy of the definition. What the rows must satisfy and what becomes of them is collected
//! on the way and carried out at the end (`alter.rs`).

use std::sync::Arc;

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{self, DataType, Expr, Ident, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::{ColumnDef, ColumnId, ConstraintDef, ConstraintKind, Generated, SqlType, TableDef};

use crate::SqlError;
use crate::ddl::sql_type;
use crate::errors::parser_error;
use crate::names::{Resolver, fold, relation_exists};
use crate::sequences::{default_sequence, sequences_of};
use crate::table_builder::{TableBuilder, constraint_exists, default_text};

/// A definition on its way from the old one to the new one.
pub(crate) struct Alteration<'a> {
    pub(crate) old: Arc<TableDef>,
    pub(crate) builder: TableBuilder<'a>,
    /// For each constraint of the new definition, which one of the old it was.
    pub(crate) origins: Vec<Option<u32>>,
    /// Columns in which no row may have NULL.
    pub(crate) not_null: Vec<ColumnId>,
    /// Columns whose values become others: by this expression over the old columns, or by assignment.
    pub(crate) conversions: Vec<(ColumnId, Option<Expr>)>,
    /// Columns that the old definition has not.
    pub(crate) added: Vec<ColumnId>,
    /// The rows have to be written again.
    pub(crate) rewrite: bool,
}

impl<'a> Alteration<'a> {
    pub(crate) fn new(old: Arc<TableDef>, resolver: &'a Resolver<'a>) -> Alteration<'a> {
        Alteration {
            origins: (0..old.constraints.len() as u32).map(Some).collect(),
            builder: TableBuilder::of(old.as_ref().clone(), resolver),
            old,
            not_null: vec![],
            conversions: vec![],
            added: vec![],
            rewrite: false,
        }
    }

    pub(crate) fn def(&self) -> &TableDef {
        &self.builder.def
    }

    fn table(&self) -> &str {
        &self.builder.def.name
    }

    /// 42703.
    pub(crate) fn column(&self, ident: &Ident) -> Result<&ColumnDef, SqlError> {
        let name = fold(ident);
        let missing = || SqlError::new("42703", format!("column \"{name}\" of relation \"{}\" does not exist", self.table()));
        self.def().columns.iter().find(|c| c.name == name).ok_or_else(missing)
    }

    /// Constraints that were added since.
    pub(crate) fn note_constraints(&mut self) {
        self.origins.resize(self.builder.def.constraints.len(), None);
    }

    pub(crate) fn rename_column(&mut self, from: &Ident, to: &Ident) -> Result<(), SqlError> {
        let (old, new) = (fold(from), fold(to));
        let Some(position) = self.def().column_index(&old) else {
            return Err(SqlError::new("42703", format!("column \"{old}\" does not exist")));
        };
        if self.def().column_index(&new).is_some() {
            return Err(column_exists(&new, self.table()));
        }
        let def = &mut self.builder.def;
        def.columns[position].name = new.clone();
        for constraint in &mut def.constraints {
            if let ConstraintKind::Check(sql) = &mut constraint.kind {
                *sql = renamed(sql, &old, &new)?;
            }
        }
        for column in &mut def.columns {
            if let Some(Generated::Stored(sql)) = &mut column.generated {
                *sql = renamed(sql, &old, &new)?;
            }
        }
        Ok(())
    }

    pub(crate) fn rename_constraint(&mut self, from: &Ident, to: &Ident) -> Result<(), SqlError> {
        let (old, new) = (fold(from), fold(to));
        let table = self.table().to_string();
        let def = &mut self.builder.def;
        let Some(position) = def.constraints.iter().position(|c| c.is_constraint() && c.name == old) else {
            return Err(SqlError::new("42704", format!("constraint \"{old}\" for table \"{table}\" does not exist")));
        };
        let has_index = |constraint: &ConstraintDef| constraint.kind.index_columns().is_some();
        if let Some(other) = def.constraints.iter().find(|c| c.name == new) {
            let both = has_index(other) && has_index(&def.constraints[position]);
            return Err(if both { relation_exists(&new) } else { constraint_exists(&new, &table) });
        }
        def.constraints[position].name = new;
        Ok(())
    }

    /// ADD COLUMN; the new column's id.
    pub(crate) fn add_column(&mut self, column: &ast::ColumnDef) -> Result<ColumnId, SqlError> {
        let name = fold(&column.name);
        if self.def().column_index(&name).is_some() {
            return Err(column_exists(&name, self.table()));
        }
        let id = self.builder.column(column)?;
        self.note_constraints();
        self.added.push(id);
        Ok(id)
    }

    /// Takes a column out, and the constraints and indexes that it is in.
    pub(crate) fn drop_column(&mut self, id: ColumnId) -> Result<(), SqlError> {
        let def = &mut self.builder.def;
        let Some(position) = def.columns.iter().position(|c| c.id == id) else { return Ok(()) };
        if def.columns.len() == 1 {
            return Err(SqlError::unsupported("a table without columns"));
        }
        let name = def.columns[position].name.clone();
        if let Some(user) = def.columns.iter().find(|c| matches!(&c.generated, Some(Generated::Stored(sql)) if mentions(sql, &name))) {
            let (table, user) = (def.name.clone(), user.name.clone());
            return Err(SqlError::new("2BP01", format!("cannot drop column {name} of table {table} because other objects depend on it"))
                .with_detail(format!("column {user} of table {table} depends on column {name} of table {table}"))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        let concerned = |kind: &ConstraintKind| match kind {
            ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) | ConstraintKind::Index { columns, .. } => {
                columns.contains(&id)
            }
            ConstraintKind::ForeignKey { columns, references, referenced, .. } => {
                columns.contains(&id) || *references == def.id && referenced.contains(&id)
            }
            ConstraintKind::Check(sql) => mentions(sql, &name),
        };
        let concerned: Vec<bool> = def.constraints.iter().map(|c| concerned(&c.kind)).collect();
        self.builder.def.columns.remove(position);
        self.conversions.retain(|(column, _)| *column != id);
        self.drop_constraints(&concerned);
        Ok(())
    }

    /// Takes out the constraints that are marked.
    pub(crate) fn drop_constraints(&mut self, marked: &[bool]) {
        let mut marks = marked.iter();
        self.builder.def.constraints.retain(|_| !marks.next().copied().unwrap_or(false));
        let mut marks = marked.iter();
        self.origins.retain(|_| !marks.next().copied().unwrap_or(false));
    }

    pub(crate) fn set_default(&mut self, column: &Ident, value: Option<&Expr>) -> Result<(), SqlError> {
        let found = self.column(column)?.clone();
        if let Some(generated) = &found.generated {
            let what = match generated {
                Generated::Identity { .. } => "is an identity column",
                Generated::Stored(_) => "is a generated column",
            };
            return Err(SqlError::syntax(format!("column \"{}\" of relation \"{}\" {what}", found.name, self.table())));
        }
        let default = value.map(|expr| default_text(expr, self.builder.resolver)).transpose()?.flatten();
        self.builder.column_mut(found.id)?.default = default;
        Ok(())
    }

    pub(crate) fn set_not_null(&mut self, column: &Ident) -> Result<(), SqlError> {
        let column = self.column(column)?.clone();
        if column.nullable {
            self.forbid_null(column.id)?;
        }
        Ok(())
    }

    /// No row may have NULL in the column, and no later one may.
    pub(crate) fn forbid_null(&mut self, id: ColumnId) -> Result<(), SqlError> {
        let column = self.builder.column_mut(id)?;
        column.nullable = false;
        if !self.not_null.contains(&id) {
            self.not_null.push(id);
        }
        Ok(())
    }

    pub(crate) fn drop_not_null(&mut self, column: &Ident) -> Result<(), SqlError> {
        let column = self.column(column)?.clone();
        if self.def().primary_key().is_some_and(|key| key.contains(&column.id)) {
            return Err(SqlError::new("42P16", format!("column \"{}\" is in a primary key", column.name)));
        }
        if matches!(column.generated, Some(Generated::Identity { .. })) {
            let message = format!("column \"{}\" of relation \"{}\" is an identity column", column.name, self.table());
            return Err(SqlError::syntax(message));
        }
        let column = self.builder.column_mut(column.id)?;
        column.nullable = true;
        column.had_nulls = false;
        self.not_null.retain(|id| *id != column.id);
        Ok(())
    }

    pub(crate) fn set_type(&mut self, column: &Ident, data_type: &DataType, using: Option<Expr>) -> Result<(), SqlError> {
        let ty = sql_type(data_type)?;
        let column = self.column(column)?.clone();
        if using.is_none() && !assignable(column.ty, ty) {
            let (name, to) = (&column.name, ty.name());
            return Err(SqlError::new("42804", format!("column \"{name}\" cannot be cast automatically to type {to}"))
                .with_hint(format!("You might need to specify \"USING {name}::{to}\".")));
        }
        if let Some(default) = &column.default
            && default_sequence(default).is_none()
            && !assignable(column.ty, ty)
        {
            let message = format!("default for column \"{}\" cannot be cast automatically to type {}", column.name, ty.name());
            return Err(SqlError::new("42804", message));
        }
        self.builder.column_mut(column.id)?.ty = ty;
        if using.is_some() || !holds_all(column.ty, ty) {
            self.conversions.retain(|(id, _)| *id != column.id);
            self.conversions.push((column.id, using));
            self.rewrite = true;
        }
        Ok(())
    }
}

/// 42701.
pub(crate) fn column_exists(name: &str, table: &str) -> SqlError {
    SqlError::new("42701", format!("column \"{name}\" of relation \"{table}\" already exists"))
}

/// Whether a column's default must be computed for each row.
pub(crate) fn takes_from_sequence(column: &ColumnDef) -> bool {
    matches!(column.generated, Some(Generated::Identity { .. })) || column.default.as_deref().is_some_and(|d| !sequences_of(d).is_empty())
}

fn parse_expression(sql: &str) -> Result<Expr, SqlError> {
    let parsed = Parser::new(&PgDialect).try_with_sql(sql).and_then(|mut p| p.parse_expr());
    parsed.map_err(|e| parser_error(&e, sql))
}

/// Whether an expression's text mentions a column of that name. What does not parse mentions everything.
pub(crate) fn mentions(sql: &str, column: &str) -> bool {
    parse_expression(sql).map_or(true, |expr| crate::ddl::mentioned_columns(&expr).iter().any(|name| name == column))
}

/// An expression's text after a column was renamed.
fn renamed(sql: &str, from: &str, to: &str) -> Result<String, SqlError> {
    struct Rename<'a>(&'a str, &'a str);
    impl VisitorMut for Rename<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> std::ops::ControlFlow<()> {
            let ident = match expr {
                Expr::Identifier(ident) => Some(ident),
                Expr::CompoundIdentifier(parts) => parts.last_mut(),
                _ => None,
            };
            if let Some(ident) = ident.filter(|i| fold(i) == self.0) {
                let shown = crate::system::quoted(self.1);
                *ident = if shown == self.1 { Ident::new(self.1) } else { Ident::with_quote('"', self.1) };
            }
            std::ops::ControlFlow::Continue(())
        }
    }
    let mut expr = parse_expression(sql)?;
    let _: std::ops::ControlFlow<()> = expr.visit(&mut Rename(from, to));
    Ok(expr.to_string())
}

/// Whether every value of the one type is, as it is stored, a value of the other.
fn holds_all(from: SqlType, to: SqlType) -> bool {
    use SqlType::{Char, Text, Varchar};
    match (from, to) {
        _ if from == to => true,
        (Varchar(_) | Char(_) | Text, Text | Varchar(None)) => true,
        (Varchar(Some(old)) | Char(old), Varchar(Some(new))) => new >= old,
        (Char(old), Char(new)) => new >= old,
        _ => false,
    }
}

/// Whether Postgres casts the one type to the other in assignments.
pub(crate) fn assignable(from: SqlType, to: SqlType) -> bool {
    use SqlType::*;
    let number = |ty| matches!(ty, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric { .. });
    let text = |ty| matches!(ty, Text | Varchar(_) | Char(_));
    std::mem::discriminant(&from) == std::mem::discriminant(&to)
        || text(to)
        || number(from) && number(to)
        || matches!(
            (from, to),
            (Date, Timestamp | Timestamptz)
                | (Timestamp, Date | Time | Timestamptz)
                | (Timestamptz, Date | Time | Timestamp)
                | (Time, Interval)
                | (Interval, Time)
        )
}
