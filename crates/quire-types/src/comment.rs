use std::sync::Arc;

use crate::{Catalog, ColumnId, SchemaId, TableId};

/// What a comment is about. Constraints and indexes have no ids; who renames one says its comment again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommentTarget {
    /// The database.
    Database,
    /// A schema.
    Schema(SchemaId),
    /// A table, view or sequence.
    Relation(TableId),
    /// A column: of a table by its id, of a view by its number from 1.
    Column(TableId, ColumnId),
    /// A constraint of a table, by its name.
    Constraint(TableId, String),
    /// An index of a table, be it a constraint's or not, by its name.
    Index(TableId, String),
}

impl CommentTarget {
    /// The table, view or sequence that it is or belongs to.
    pub fn relation(&self) -> Option<TableId> {
        match self {
            CommentTarget::Database | CommentTarget::Schema(_) => None,
            CommentTarget::Relation(id) | CommentTarget::Column(id, _) | CommentTarget::Constraint(id, _) | CommentTarget::Index(id, _) => {
                Some(*id)
            }
        }
    }
}

impl Catalog {
    /// Whether there is something that a comment can be about.
    pub fn has(&self, target: &CommentTarget) -> bool {
        match target {
            CommentTarget::Database => true,
            CommentTarget::Schema(id) => self.schemas.contains_key(id),
            CommentTarget::Relation(id) => self.id_taken(*id),
            CommentTarget::Column(id, column) => match (self.tables.get(id), self.views.get(id)) {
                (Some(table), _) => table.column(*column).is_some(),
                (None, Some(view)) => (1..=view.columns.len()).contains(&(column.0 as usize)),
                (None, None) => false,
            },
            CommentTarget::Constraint(id, name) => {
                self.tables.get(id).is_some_and(|table| table.constraints.iter().any(|c| c.is_constraint() && c.name == *name))
            }
            CommentTarget::Index(id, name) => {
                self.tables.get(id).is_some_and(|table| table.indexes().any(|(_, index, _)| index == name.as_str()))
            }
        }
    }

    /// Comments on a table, view or sequence, and on what belongs to it.
    pub fn comments_on(&self, relation: TableId) -> impl Iterator<Item = (&CommentTarget, &Arc<str>)> {
        self.comments.iter().filter(move |(target, _)| target.relation() == Some(relation))
    }

    /// Drops the comments on what is gone.
    pub(crate) fn forget_comments(&mut self) {
        let mut comments = std::mem::take(&mut self.comments);
        comments.retain(|target, _| self.has(target));
        self.comments = comments;
    }
}
