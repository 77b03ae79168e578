//! A table's definition under construction: CREATE TABLE begins with an empty one, ALTER TABLE with the table's.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    self, ColumnOption, CreateTable, Expr, GeneratedAs, GeneratedExpressionMode, IndexColumn, NullsDistinctOption, TableConstraint,
};
use quire_types::{
    ColumnDef, ColumnId, CommentTarget, ConstraintDef, ConstraintKind, Deferrable, Generated, ReferentialAction, SchemaId, SequenceDef,
    SqlType, TableDef, TableId,
};

use crate::SqlError;
use crate::ddl::{COLUMNS_MAX, duplicate_column, mentioned_columns, new_oid, sql_type};
use crate::like;
use crate::names::{Resolver, fold, relation_exists, split};
use crate::sequence_options::{SequenceOptions, serial_type};
use crate::sequences::{resolve_defaults, sequence_default};

/// Bytes of a name that is made here, as in Postgres.
const NAME_BYTES_MAX: usize = 63;

/// A new table's definition, and the sequences that its columns own.
pub(crate) struct NewTable {
    pub(crate) def: TableDef,
    pub(crate) sequences: Vec<SequenceDef>,
    /// On its columns and constraints, when they are like another table's.
    pub(crate) comments: Vec<(CommentTarget, Arc<str>)>,
}

/// CREATE TABLE (name, columns, constraints); not CREATE TABLE AS.
pub(crate) fn create_table(create: &CreateTable, schema: SchemaId, name: String, resolver: &Resolver<'_>) -> Result<NewTable, SqlError> {
    for (given, what) in [
        (create.like.is_some(), "this form of LIKE"),
        (create.partition_by.is_some() || create.partition_of.is_some(), "partitioning"),
        (create.inherits.is_some(), "inheritance"),
    ] {
        if given {
            return Err(SqlError::unsupported(what));
        }
    }
    let mut builder = TableBuilder::new(schema, name, resolver);
    for column in &create.columns {
        match like::source_of(column) {
            Some((source, included)) => builder.like(source, &included)?,
            None => drop(builder.column(column)?),
        }
    }
    for constraint in &create.constraints {
        builder.constraint(constraint)?;
    }
    builder.finish()
}

/// The definition so far.
pub(crate) struct TableBuilder<'a> {
    pub(crate) resolver: &'a Resolver<'a>,
    pub(crate) def: TableDef,
    /// Foreign keys may point at the table itself, so they are resolved last: (name, columns, declaration).
    foreign_keys: Vec<(Option<String>, Vec<ColumnId>, ast::ForeignKeyConstraint)>,
    /// Sequences that new columns own.
    sequences: Vec<SequenceDef>,
    /// See [`NewTable::comments`].
    pub(crate) comments: Vec<(CommentTarget, Arc<str>)>,
}

impl<'a> TableBuilder<'a> {
    fn new(schema: SchemaId, name: String, resolver: &'a Resolver<'a>) -> TableBuilder<'a> {
        let def = TableDef {
            id: TableId(new_oid()),
            schema,
            name,
            version: 1,
            columns: vec![],
            next_column_id: ColumnId(1),
            constraints: vec![],
            clustering: vec![],
            arrow: Default::default(),
        };
        TableBuilder::of(def, resolver)
    }

    /// Begins with a table that exists.
    pub(crate) fn of(def: TableDef, resolver: &'a Resolver<'a>) -> TableBuilder<'a> {
        TableBuilder { resolver, def, foreign_keys: vec![], sequences: vec![], comments: vec![] }
    }

    /// A column of which nothing else is said.
    pub(crate) fn new_column(&mut self, name: String, ty: SqlType) -> Result<ColumnId, SqlError> {
        if self.def.column_index(&name).is_some() {
            return Err(duplicate_column(&name));
        }
        if self.def.columns.len() == COLUMNS_MAX {
            return Err(SqlError::new("54011", format!("tables can have at most {COLUMNS_MAX} columns")));
        }
        let id = self.def.next_column_id;
        self.def.next_column_id = ColumnId(id.0 + 1);
        self.def.columns.push(ColumnDef::new(id, name, ty));
        Ok(id)
    }

    pub(crate) fn column(&mut self, column: &ast::ColumnDef) -> Result<ColumnId, SqlError> {
        let name = fold(&column.name);
        if self.def.column_index(&name).is_some() {
            return Err(duplicate_column(&name));
        }
        let serial = serial_type(&column.data_type);
        let ty = serial.map_or_else(|| sql_type(&column.data_type), Ok)?;
        let id = self.new_column(name.clone(), ty)?;
        if serial.is_some() {
            let sequence = self.own_sequence(id, &name, ty, SequenceOptions::default())?;
            let column = self.column_mut(id)?;
            column.default = Some(sequence_default(sequence));
            column.nullable = false;
        }
        for option in &column.options {
            let declared = option.name.as_ref().map(fold);
            match &option.option {
                ColumnOption::Null | ColumnOption::Collation(_) => {}
                ColumnOption::NotNull => self.column_mut(id)?.nullable = false,
                ColumnOption::Default(expr) => {
                    if self.column_mut(id)?.default.is_some() {
                        let message = format!("multiple default values specified for column \"{name}\" of table \"{}\"", self.def.name);
                        return Err(SqlError::syntax(message));
                    }
                    self.column_mut(id)?.default = default_text(expr, self.resolver)?;
                }
                ColumnOption::PrimaryKey(key) => {
                    self.primary_key(declared, vec![id], deferrable(key.characteristics.as_ref())?)?;
                }
                ColumnOption::Unique(key) if key.nulls_distinct == NullsDistinctOption::NotDistinct => {
                    return Err(SqlError::unsupported("UNIQUE NULLS NOT DISTINCT"));
                }
                ColumnOption::Unique(key) => {
                    self.unique(declared, vec![id], deferrable(key.characteristics.as_ref())?);
                }
                ColumnOption::Check(check) => self.check(declared.or(check.name.as_ref().map(fold)), &check.expr),
                ColumnOption::ForeignKey(key) => self.foreign_keys.push((declared.or(key.name.as_ref().map(fold)), vec![id], key.clone())),
                ColumnOption::Generated { generation_expr: Some(expr), generation_expr_mode, .. } => {
                    if !matches!(generation_expr_mode, Some(GeneratedExpressionMode::Stored)) {
                        return Err(SqlError::unsupported("a generated column that is not STORED"));
                    }
                    let column = self.column_mut(id)?;
                    if column.default.is_some() {
                        let message = format!("both default and generation expression specified for column \"{name}\" of table");
                        return Err(SqlError::syntax(format!("{message} \"{}\"", self.def.name)));
                    }
                    column.generated = Some(Generated::Stored(expr.to_string()));
                }
                ColumnOption::Generated { generated_as, sequence_options, generation_expr: None, .. } => {
                    let options = SequenceOptions::of_ast(sequence_options.as_deref().unwrap_or_default())?;
                    self.identity(id, matches!(generated_as, GeneratedAs::Always), options)?;
                }
                other => return Err(SqlError::unsupported(format!("column \"{name}\": {other}"))),
            }
        }
        Ok(id)
    }

    /// GENERATED … AS IDENTITY.
    pub(crate) fn identity(&mut self, id: ColumnId, always: bool, options: SequenceOptions) -> Result<(), SqlError> {
        let column = self.column_mut(id)?;
        let (name, ty) = (column.name.clone(), column.ty);
        if !matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8) {
            return Err(SqlError::new("22023", "identity column type must be smallint, integer, or bigint"));
        }
        if column.default.is_some() {
            let message = format!("both default and identity specified for column \"{name}\" of table \"{}\"", self.def.name);
            return Err(SqlError::syntax(message));
        }
        let sequence = self.own_sequence(id, &name, ty, options)?;
        let column = self.column_mut(id)?;
        column.generated = Some(Generated::Identity { sequence, always });
        column.nullable = false;
        Ok(())
    }

    /// A sequence that goes with the column.
    fn own_sequence(&mut self, id: ColumnId, column: &str, ty: SqlType, options: SequenceOptions) -> Result<TableId, SqlError> {
        let taken = |name: &str| self.resolver.catalog.name_taken(self.def.schema, name) || self.sequences.iter().any(|s| s.name == name);
        let name = free_name(&self.def.name, column, "seq", taken);
        let mut sequence = options.create(self.def.schema, name, ty)?;
        sequence.owner = Some((self.def.id, id));
        let id = sequence.id;
        self.sequences.push(sequence);
        Ok(id)
    }

    pub(crate) fn constraint(&mut self, constraint: &TableConstraint) -> Result<(), SqlError> {
        match constraint {
            TableConstraint::PrimaryKey(key) => {
                let columns = self.index_columns(&key.columns)?;
                self.primary_key(key.name.as_ref().map(fold), columns, deferrable(key.characteristics.as_ref())?)
            }
            TableConstraint::Unique(key) => {
                if key.nulls_distinct == NullsDistinctOption::NotDistinct {
                    return Err(SqlError::unsupported("UNIQUE NULLS NOT DISTINCT"));
                }
                let columns = self.index_columns(&key.columns)?;
                self.unique(key.name.as_ref().map(fold), columns, deferrable(key.characteristics.as_ref())?);
                Ok(())
            }
            TableConstraint::Check(check) => {
                self.check(check.name.as_ref().map(fold), &check.expr);
                Ok(())
            }
            TableConstraint::ForeignKey(key) => {
                let find = |name: String| {
                    let missing = || format!("column \"{name}\" referenced in foreign key constraint does not exist");
                    let found = self.def.columns.iter().find(|c| c.name == name).map(|c| c.id);
                    found.ok_or_else(|| SqlError::new("42703", missing()))
                };
                let columns = key.columns.iter().map(|c| find(fold(c))).collect::<Result<_, _>>()?;
                self.foreign_keys.push((key.name.as_ref().map(fold), columns, key.clone()));
                Ok(())
            }
            other => Err(SqlError::unsupported(format!("constraint {other}"))),
        }
    }

    fn index_columns(&self, columns: &[IndexColumn]) -> Result<Vec<ColumnId>, SqlError> {
        let ids = columns.iter().map(|c| match &c.column.expr {
            Expr::Identifier(ident) => self.key_column(&fold(ident)),
            other => Err(SqlError::syntax(format!("syntax error at or near \"{other}\""))),
        });
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        for (i, id) in ids.iter().enumerate() {
            if ids[..i].contains(id) {
                let name = self.def.column(*id).map_or("", |c| &c.name);
                return Err(SqlError::new("42701", format!("column \"{name}\" appears twice in a key constraint")));
            }
        }
        Ok(ids)
    }

    fn key_column(&self, name: &str) -> Result<ColumnId, SqlError> {
        let found = self.def.columns.iter().find(|c| c.name == name).map(|c| c.id);
        found.ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" named in key does not exist")))
    }

    pub(crate) fn column_mut(&mut self, id: ColumnId) -> Result<&mut ColumnDef, SqlError> {
        let found = self.def.columns.iter_mut().find(|c| c.id == id);
        found.ok_or_else(|| SqlError::internal(format!("column {id} is not in the table")))
    }

    pub(crate) fn primary_key(&mut self, name: Option<String>, columns: Vec<ColumnId>, deferrable: Deferrable) -> Result<(), SqlError> {
        if self.def.primary_key().is_some() {
            return Err(SqlError::new("42P16", format!("multiple primary keys for table \"{}\" are not allowed", self.def.name)));
        }
        for column in self.def.columns.iter_mut().filter(|c| columns.contains(&c.id)) {
            column.nullable = false;
        }
        let name = name.unwrap_or_else(|| self.index_name(&[], "pkey"));
        self.def.constraints.push(ConstraintDef { name, kind: ConstraintKind::PrimaryKey(columns), deferrable });
        Ok(())
    }

    pub(crate) fn unique(&mut self, name: Option<String>, columns: Vec<ColumnId>, deferrable: Deferrable) {
        let name = name.unwrap_or_else(|| self.index_name(&columns, "key"));
        self.def.constraints.push(ConstraintDef { name, kind: ConstraintKind::Unique(columns), deferrable });
    }

    /// CREATE INDEX. `named_by`: the columns that make its name when it is given none.
    pub(crate) fn index(&mut self, name: Option<String>, columns: Vec<ColumnId>, named_by: &[ColumnId], unique: bool) {
        let name = name.unwrap_or_else(|| self.index_name(named_by, "idx"));
        self.def.constraints.push(ConstraintDef::new(name, ConstraintKind::Index { columns, unique }));
    }

    fn check(&mut self, name: Option<String>, expr: &Expr) {
        let name = name.unwrap_or_else(|| {
            let mentioned: Vec<ColumnId> = mentioned_columns(expr).iter().filter_map(|n| self.key_column(n).ok()).collect();
            self.constraint_name(if mentioned.len() == 1 { &mentioned } else { &[] }, "check")
        });
        self.def.constraints.push(ConstraintDef::new(name, ConstraintKind::Check(expr.to_string())));
    }

    /// `table_column_suffix`, numbered when taken, as Postgres names what the user did not.
    fn constraint_name(&self, columns: &[ColumnId], suffix: &str) -> String {
        free_name(&self.def.name, &self.column_names(columns), suffix, |name| self.has_constraint(name))
    }

    /// The same for what has an index, whose name is that of a relation.
    fn index_name(&self, columns: &[ColumnId], suffix: &str) -> String {
        free_name(&self.def.name, &self.column_names(columns), suffix, |name| self.has_constraint(name) || self.is_relation(name))
    }

    fn column_names(&self, columns: &[ColumnId]) -> String {
        let names: Vec<&str> = columns.iter().filter_map(|id| self.def.column(*id)).map(|c| c.name.as_str()).collect();
        names.join("_")
    }

    fn has_constraint(&self, name: &str) -> bool {
        self.def.constraints.iter().any(|c| c.name == name)
    }

    /// Whether a relation has the name, other than an index of the table.
    fn is_relation(&self, name: &str) -> bool {
        name == self.def.name || self.resolver.catalog.name_taken_beside(self.def.id, self.def.schema, name)
    }

    /// The table with its foreign keys resolved and its names found to be different.
    pub(crate) fn finish(mut self) -> Result<NewTable, SqlError> {
        for (name, columns, key) in std::mem::take(&mut self.foreign_keys) {
            let name = name.unwrap_or_else(|| self.constraint_name(&columns, "fkey"));
            let kind = self.foreign_key(&name, columns, &key)?;
            let deferrable = deferrable(key.characteristics.as_ref())?;
            self.def.constraints.push(ConstraintDef { name, kind, deferrable });
        }
        let mut indexes = BTreeSet::new();
        for (_, name, _) in self.def.indexes() {
            if self.is_relation(name) || !indexes.insert(name) {
                return Err(relation_exists(name));
            }
        }
        let mut names = BTreeSet::new();
        for constraint in &self.def.constraints {
            if !names.insert(constraint.name.clone()) {
                return Err(constraint_exists(&constraint.name, &self.def.name));
            }
        }
        self.def.clustering = self.def.primary_key().map(<[_]>::to_vec).unwrap_or_default();
        Ok(NewTable { def: self.def, sequences: self.sequences, comments: self.comments })
    }

    fn foreign_key(&self, name: &str, columns: Vec<ColumnId>, key: &ast::ForeignKeyConstraint) -> Result<ConstraintKind, SqlError> {
        if key.match_kind.is_some_and(|kind| !matches!(kind, ast::ConstraintReferenceMatchKind::Simple)) {
            return Err(SqlError::unsupported("a foreign key with MATCH FULL or PARTIAL"));
        }
        let found = self.resolver.find_table(&key.foreign_table)?;
        let to_self = match &found {
            Some(parent) => parent.id == self.def.id,
            None => split(&key.foreign_table)?.1 == self.def.name,
        };
        let parent = match found {
            _ if to_self => self.def.clone(),
            _ => self.resolver.table(&key.foreign_table)?.as_ref().clone(),
        };
        let referenced = if key.referred_columns.is_empty() {
            let primary = parent.primary_key().map(<[_]>::to_vec);
            primary.ok_or_else(|| SqlError::new("42704", format!("there is no primary key for referenced table \"{}\"", parent.name)))?
        } else {
            let find = |name: String| {
                let found = parent.columns.iter().find(|c| c.name == name).map(|c| c.id);
                found
                    .ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" referenced in foreign key constraint does not exist")))
            };
            key.referred_columns.iter().map(|c| find(fold(c))).collect::<Result<Vec<_>, _>>()?
        };
        if referenced.len() != columns.len() {
            return Err(SqlError::new("42830", "number of referencing and referenced columns for foreign key disagree"));
        }
        if parent.key_over(&referenced).is_none() {
            let same = |key: &[ColumnId]| key.len() == referenced.len() && key.iter().all(|id| referenced.contains(id));
            if parent.unique_keys().any(|(_, _, key)| same(key)) {
                let key = if key.referred_columns.is_empty() { "primary key" } else { "unique constraint" };
                let message = format!("cannot use a deferrable {key} for referenced table \"{}\"", parent.name);
                return Err(SqlError::new("55000", message));
            }
            return Err(SqlError::new(
                "42830",
                format!("there is no unique constraint matching given keys for referenced table \"{}\"", parent.name),
            ));
        }
        for (from, to) in columns.iter().zip(&referenced) {
            if let (Some(from), Some(to)) = (self.def.column(*from), parent.column(*to))
                && comparable(from.ty) != comparable(to.ty)
            {
                let detail = format!(
                    "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                    from.name,
                    to.name,
                    from.ty.name(),
                    to.ty.name()
                );
                return Err(SqlError::new("42804", format!("foreign key constraint \"{name}\" cannot be implemented")).with_detail(detail));
            }
        }
        Ok(ConstraintKind::ForeignKey {
            columns,
            references: parent.id,
            referenced,
            on_delete: referential_action(key.on_delete.as_ref()),
            on_update: referential_action(key.on_update.as_ref()),
        })
    }
}

fn deferrable(characteristics: Option<&ast::ConstraintCharacteristics>) -> Result<Deferrable, SqlError> {
    let Some(characteristics) = characteristics else { return Ok(Deferrable::Not) };
    let deferred = characteristics.initially == Some(ast::DeferrableInitial::Deferred);
    match (characteristics.deferrable, deferred) {
        (Some(false), true) => Err(SqlError::syntax("constraint declared INITIALLY DEFERRED must be DEFERRABLE")),
        (_, true) => Ok(Deferrable::InitiallyDeferred),
        (Some(true), false) => Ok(Deferrable::InitiallyImmediate),
        (_, false) => Ok(Deferrable::Not),
    }
}

fn referential_action(action: Option<&ast::ReferentialAction>) -> ReferentialAction {
    match action {
        None | Some(ast::ReferentialAction::NoAction) => ReferentialAction::NoAction,
        Some(ast::ReferentialAction::Restrict) => ReferentialAction::Restrict,
        Some(ast::ReferentialAction::Cascade) => ReferentialAction::Cascade,
        Some(ast::ReferentialAction::SetNull) => ReferentialAction::SetNull,
        Some(ast::ReferentialAction::SetDefault) => ReferentialAction::SetDefault,
    }
}

/// Types whose values a foreign key may compare have the same number.
fn comparable(ty: SqlType) -> u8 {
    match ty {
        SqlType::Bool => 0,
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Float4 | SqlType::Float8 | SqlType::Numeric { .. } => 1,
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) => 2,
        SqlType::Bytea => 3,
        SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz => 4,
        SqlType::Time => 5,
        SqlType::Interval => 6,
        SqlType::Uuid => 7,
        SqlType::Json => 8,
    }
}

/// 42710.
pub(crate) fn constraint_exists(name: &str, table: &str) -> SqlError {
    SqlError::new("42710", format!("constraint \"{name}\" for relation \"{table}\" already exists"))
}

/// `table_columns_suffix`, or with the first number that makes it free.
fn free_name(table: &str, columns: &str, suffix: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut number = 0;
    loop {
        let suffix = if number == 0 { suffix.to_string() } else { format!("{suffix}{number}") };
        let name = made_name(table, columns, &suffix);
        if !taken(&name) {
            return name;
        }
        number += 1;
    }
}

/// What does not fit is taken from the end of the table's name or the columns', whichever is longer, as Postgres does.
fn made_name(table: &str, columns: &str, suffix: &str) -> String {
    let (mut first, mut second) = (table.len(), columns.len());
    let rest = suffix.len() + if columns.is_empty() { 1 } else { 2 };
    while first + second > NAME_BYTES_MAX.saturating_sub(rest) {
        if first > second { first -= 1 } else { second -= 1 }
    }
    let cut = |name: &str, bytes: usize| -> String {
        let whole = name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= bytes).last();
        name[..whole.unwrap_or_default()].to_string()
    };
    match columns.is_empty() {
        true => format!("{}_{suffix}", cut(table, first)),
        false => format!("{}_{}_{suffix}", cut(table, first), cut(columns, second)),
    }
}

/// A DEFAULT as it is kept: its sequences by oid, and NULL as none.
pub(crate) fn default_text(expr: &Expr, resolver: &Resolver<'_>) -> Result<Option<String>, SqlError> {
    if !mentioned_columns(expr).iter().all(|name| name.starts_with("current_") || name.starts_with("local")) {
        return Err(SqlError::new("0A000", "cannot use column reference in DEFAULT expression"));
    }
    let mut expr = expr.clone();
    resolve_defaults(&mut expr, resolver)?;
    let text = expr.to_string();
    Ok((!text.eq_ignore_ascii_case("NULL")).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::free_name;

    #[test]
    fn names_that_are_made_are_short_and_free() {
        let check = |table: &str, columns: &str, taken: &[&str], expected: &str| {
            assert_eq!(free_name(table, columns, "idx", |name| taken.contains(&name)), expected);
        };
        let (long, longer) = ("a".repeat(40), "b".repeat(50));
        check("t", "a_b", &[], "t_a_b_idx");
        check("t", "", &[], "t_idx");
        check("t", "a", &["t_a_idx", "t_a_idx1"], "t_a_idx2");
        check(&long, &longer, &[], &format!("{}_{}_idx", &long[..29], &longer[..29]));
        check("t", &longer.repeat(2), &[], &format!("t_{}_idx", &longer.repeat(2)[..57]));
        check(&"é".repeat(40), "", &[], &format!("{}_idx", "é".repeat(29)));
    }
}
