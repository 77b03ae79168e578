use quire_types as t;

use super::{Malformed, Result, required};
use crate::v1 as p;
use crate::v1::comment_target::{Column, Named, Target};

impl From<&t::CommentTarget> for p::CommentTarget {
    fn from(target: &t::CommentTarget) -> Self {
        let target = match target {
            t::CommentTarget::Database => Target::Database(true),
            t::CommentTarget::Schema(id) => Target::Schema(id.0),
            t::CommentTarget::Relation(id) => Target::Relation(id.0),
            t::CommentTarget::Column(id, column) => Target::Column(Column { relation: id.0, column: column.0 }),
            t::CommentTarget::Constraint(id, name) => Target::Constraint(Named { table: id.0, name: name.clone() }),
            t::CommentTarget::Index(id, name) => Target::Index(Named { table: id.0, name: name.clone() }),
        };
        p::CommentTarget { target: Some(target) }
    }
}

impl TryFrom<p::CommentTarget> for t::CommentTarget {
    type Error = Malformed;

    fn try_from(target: p::CommentTarget) -> Result<Self> {
        Ok(match required(target.target, "comment_target.target")? {
            Target::Database(_) => t::CommentTarget::Database,
            Target::Schema(id) => t::CommentTarget::Schema(t::SchemaId(id)),
            Target::Relation(id) => t::CommentTarget::Relation(t::TableId(id)),
            Target::Column(column) => t::CommentTarget::Column(t::TableId(column.relation), t::ColumnId(column.column)),
            Target::Constraint(named) => t::CommentTarget::Constraint(t::TableId(named.table), named.name),
            Target::Index(named) => t::CommentTarget::Index(t::TableId(named.table), named.name),
        })
    }
}
