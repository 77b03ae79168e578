//! COMMENT ON.

use datafusion::sql::sqlparser::ast::{CommentObject, Ident, ObjectName, ObjectNamePart};
use quire_types::{CatalogChange, ColumnId, CommentTarget, DEFAULT_SCHEMA};

use crate::catalog::DATABASE;
use crate::names::{Relation, Resolver, fold, not_a, split};
use crate::syntax_define::CONSTRAINT;
use crate::txn::Transaction;
use crate::{Response, Session, SqlError};

impl Session {
    pub(crate) fn comment_on(
        &mut self,
        object: CommentObject,
        name: &ObjectName,
        text: Option<String>,
        transaction: &mut Transaction,
    ) -> Result<Response, SqlError> {
        let done = Response::Complete("COMMENT".into());
        let path = self.search_path();
        let target = match object {
            CommentObject::Database => {
                let database = split(name)?.1;
                if database != DATABASE {
                    self.notice("WARNING", "3D000", format!("database \"{database}\" does not exist"));
                    return Ok(done);
                }
                CommentTarget::Database
            }
            other => target(&other, name, &self.resolver(transaction, &path))?,
        };
        // An empty text is none.
        let text = text.filter(|text| !text.is_empty());
        let text = match &target {
            // There is one from the beginning, which this one hides.
            CommentTarget::Schema(id) if *id == DEFAULT_SCHEMA.0 => Some(text.unwrap_or_default()),
            _ => text,
        };
        transaction.change("COMMENT", CatalogChange::SetComment { target, text: text.map(Into::into) })?;
        Ok(done)
    }
}

/// What is meant, and is there.
fn target(object: &CommentObject, name: &ObjectName, resolver: &Resolver<'_>) -> Result<CommentTarget, SqlError> {
    let relation = || -> Result<Relation, SqlError> { resolver.find_relation(name)?.ok_or_else(|| resolver.missing(name)) };
    match object {
        CommentObject::Table => match relation()? {
            Relation::Table(table) => Ok(CommentTarget::Relation(table.id)),
            _ => Err(not_a("a table", name)),
        },
        CommentObject::View => match relation()? {
            Relation::View(view) => Ok(CommentTarget::Relation(view.id)),
            _ => Err(not_a("a view", name)),
        },
        CommentObject::Sequence => match relation()? {
            Relation::Sequence(sequence) => Ok(CommentTarget::Relation(sequence.id)),
            _ => Err(not_a("a sequence", name)),
        },
        CommentObject::Index => match relation()? {
            Relation::Index(table, ordinal) => Ok(CommentTarget::Index(table.id, table.constraints[ordinal as usize].name.clone())),
            _ => Err(not_a("an index", name)),
        },
        CommentObject::Schema => {
            let schema = split(name)?.1;
            Ok(CommentTarget::Schema(resolver.target_schema(Some(schema.as_str()))?.id))
        }
        CommentObject::Column => {
            let parts = parts(name)?;
            match parts.as_slice() {
                [marker, table @ .., constraint] if marker == CONSTRAINT && !table.is_empty() => {
                    constraint_of(&named(table), constraint, resolver)
                }
                [relation @ .., column] if !relation.is_empty() => column_of(&named(relation), column, resolver),
                _ => Err(SqlError::syntax("column name must be qualified")),
            }
        }
        other => Err(SqlError::unsupported(format!("COMMENT ON {other}"))),
    }
}

fn parts(name: &ObjectName) -> Result<Vec<String>, SqlError> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Ok(fold(ident)),
        ObjectNamePart::Function(f) => Err(SqlError::syntax(format!("syntax error at or near \"{f}\""))),
    };
    name.0.iter().map(part).collect()
}

/// The name of these parts, which are folded.
fn named(parts: &[String]) -> ObjectName {
    ObjectName::from(parts.iter().map(|part| Ident::with_quote('"', part)).collect::<Vec<_>>())
}

fn column_of(relation: &ObjectName, column: &str, resolver: &Resolver<'_>) -> Result<CommentTarget, SqlError> {
    let shown = split(relation)?.1;
    let missing = || SqlError::new("42703", format!("column \"{column}\" of relation \"{shown}\" does not exist"));
    match resolver.find_relation(relation)?.ok_or_else(|| resolver.missing(relation))? {
        Relation::Table(table) => {
            let found = table.columns.iter().find(|c| c.name == column).ok_or_else(missing)?;
            Ok(CommentTarget::Column(table.id, found.id))
        }
        Relation::View(view) => {
            let position = view.columns.iter().position(|(name, _)| name == column).ok_or_else(missing)?;
            Ok(CommentTarget::Column(view.id, ColumnId(position as u32 + 1)))
        }
        other => Err(SqlError::new("42809", format!("cannot set comment on relation \"{shown}\""))
            .with_detail(format!("This operation is not supported for {}.", other.kind().1))),
    }
}

fn constraint_of(table: &ObjectName, constraint: &str, resolver: &Resolver<'_>) -> Result<CommentTarget, SqlError> {
    let table = resolver.table(table)?;
    if !table.constraints.iter().any(|c| c.is_constraint() && c.name == constraint) {
        return Err(SqlError::new("42704", format!("constraint \"{constraint}\" for table \"{}\" does not exist", table.name)));
    }
    Ok(CommentTarget::Constraint(table.id, constraint.to_string()))
}
