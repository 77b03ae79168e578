use quire_types as t;

use super::{Malformed, Result, required};
use crate::v1 as p;

impl From<t::SequencePosition> for p::SequencePosition {
    fn from(position: t::SequencePosition) -> Self {
        p::SequencePosition { last: position.last, called: position.called }
    }
}

impl From<p::SequencePosition> for t::SequencePosition {
    fn from(position: p::SequencePosition) -> Self {
        t::SequencePosition { last: position.last, called: position.called }
    }
}

impl From<&t::SequenceDef> for p::SequenceDef {
    fn from(sequence: &t::SequenceDef) -> Self {
        let (owner_table, owner_column) = sequence.owner.map_or((0, 0), |(table, column)| (table.0, column.0));
        p::SequenceDef {
            id: sequence.id.0,
            schema: sequence.schema.0,
            name: sequence.name.clone(),
            r#type: Some(sequence.ty.into()),
            start: sequence.start,
            increment: sequence.increment,
            min: sequence.min,
            max: sequence.max,
            cache: sequence.cache,
            cycle: sequence.cycle,
            owner_table,
            owner_column,
            position: Some(sequence.position.into()),
            epoch: sequence.epoch,
        }
    }
}

impl TryFrom<p::SequenceDef> for t::SequenceDef {
    type Error = Malformed;

    fn try_from(sequence: p::SequenceDef) -> Result<Self> {
        if sequence.increment == 0 || sequence.min > sequence.max {
            return Err(Malformed("sequence"));
        }
        let owner = (sequence.owner_table != 0).then_some((t::TableId(sequence.owner_table), t::ColumnId(sequence.owner_column)));
        Ok(t::SequenceDef {
            id: t::TableId(sequence.id),
            schema: t::SchemaId(sequence.schema),
            name: sequence.name,
            ty: required(sequence.r#type, "sequence.type")?.try_into()?,
            start: sequence.start,
            increment: sequence.increment,
            min: sequence.min,
            max: sequence.max,
            cache: sequence.cache,
            cycle: sequence.cycle,
            owner,
            position: required(sequence.position, "sequence.position")?.into(),
            epoch: sequence.epoch,
        })
    }
}
