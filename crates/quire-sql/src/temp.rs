//! Temporary tables: the session's own, in its compute node's memory.
//!
//! To a transaction they are tables like any other, of which every row is its own. What it makes of them goes back to the session when
//! it commits; the log never hears of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::OnCommit;
use quire_types::{Catalog, CatalogChange, CommentTarget, ConstraintKind, SchemaDef, SchemaId, SequenceDef, TableDef, TableId};

use crate::SqlError;
use crate::txn::PendingWrite;

/// The schema of the session's temporary tables, in its own view of the catalog: the last id below those of users' objects.
pub(crate) const TEMP_SCHEMA: SchemaId = SchemaId(16_383);

/// What sessions may call theirs.
pub(crate) const TEMP_ALIAS: &str = "pg_temp";

/// A session's temporary tables, between transactions.
#[derive(Clone, Default)]
pub(crate) struct TempObjects {
    /// Once there has been one, until a commit leaves nothing in it.
    pub(crate) schema: Option<Arc<SchemaDef>>,
    pub(crate) tables: BTreeMap<TableId, Arc<TableDef>>,
    /// Those that columns own.
    pub(crate) sequences: BTreeMap<TableId, Arc<SequenceDef>>,
    pub(crate) rows: BTreeMap<TableId, PendingWrite>,
    pub(crate) comments: BTreeMap<CommentTarget, Arc<str>>,
    /// ON COMMIT, where it says that not all stays.
    pub(crate) on_commit: BTreeMap<TableId, OnCommit>,
}

impl TempObjects {
    /// Puts the definitions into a catalog.
    pub(crate) fn add_to(&self, catalog: &mut Catalog) {
        if let Some(schema) = &self.schema {
            catalog.schemas.insert(TEMP_SCHEMA, schema.clone());
        }
        catalog.tables.extend(self.tables.iter().map(|(id, table)| (*id, table.clone())));
        catalog.sequences.extend(self.sequences.iter().map(|(id, sequence)| (*id, sequence.clone())));
        catalog.comments.extend(self.comments.iter().map(|(target, text)| (target.clone(), text.clone())));
    }

    /// The definitions in a catalog.
    pub(crate) fn of(catalog: &Catalog) -> TempObjects {
        let Some(schema) = catalog.schemas.get(&TEMP_SCHEMA) else { return TempObjects::default() };
        let tables = catalog.tables.iter().filter(|(_, table)| table.schema == TEMP_SCHEMA);
        let sequences = catalog.sequences.iter().filter(|(_, sequence)| sequence.schema == TEMP_SCHEMA);
        let temporary = |target: &CommentTarget| {
            target.relation().and_then(|id| catalog.tables.get(&id)).is_some_and(|table| table.schema == TEMP_SCHEMA)
        };
        let comments = catalog.comments.iter().filter(|(target, _)| temporary(target));
        TempObjects {
            comments: comments.map(|(target, text)| (target.clone(), text.clone())).collect(),
            schema: Some(schema.clone()),
            tables: tables.map(|(id, table)| (*id, table.clone())).collect(),
            sequences: sequences.map(|(id, sequence)| (*id, sequence.clone())).collect(),
            ..TempObjects::default()
        }
    }

    /// The transaction has committed: ON COMMIT DELETE ROWS, ON COMMIT DROP.
    pub(crate) fn committed(mut self) -> TempObjects {
        for write in self.rows.values_mut() {
            // Nobody else writes here.
            *write = PendingWrite { version: write.version, batches: std::mem::take(&mut write.batches), ..PendingWrite::default() };
        }
        for (id, on_commit) in std::mem::take(&mut self.on_commit) {
            match on_commit {
                OnCommit::DeleteRows => {
                    self.rows.remove(&id);
                    self.on_commit.insert(id, on_commit);
                }
                OnCommit::Drop => {
                    self.rows.remove(&id);
                    self.tables.remove(&id);
                    self.sequences.retain(|_, sequence| sequence.owner.is_none_or(|(table, _)| table != id));
                }
                OnCommit::PreserveRows => {}
            }
        }
        let nothing = self.tables.is_empty() && self.sequences.is_empty();
        // Then the session's catalog is everyone's again.
        if nothing { TempObjects::default() } else { self }
    }
}

/// Whether a change is of a temporary object of this catalog.
pub(crate) fn is_temporary(change: &CatalogChange, catalog: &Catalog) -> bool {
    match change {
        CatalogChange::CreateTable(table) | CatalogChange::ReplaceTable(table) => table.schema == TEMP_SCHEMA,
        CatalogChange::CreateSequence(sequence) | CatalogChange::ReplaceSequence { sequence, .. } => sequence.schema == TEMP_SCHEMA,
        CatalogChange::DropTable { id, .. } => catalog.tables.get(id).is_some_and(|table| table.schema == TEMP_SCHEMA),
        CatalogChange::DropSequence(id) | CatalogChange::MoveSequence { id, .. } => {
            catalog.sequences.get(id).is_some_and(|sequence| sequence.schema == TEMP_SCHEMA)
        }
        CatalogChange::SetComment { target, .. } => {
            target.relation().and_then(|id| catalog.tables.get(&id)).is_some_and(|table| table.schema == TEMP_SCHEMA)
        }
        _ => false,
    }
}

/// A foreign key is between temporary tables, or between others.
pub(crate) fn check_references(def: &TableDef, catalog: &Catalog) -> Result<(), SqlError> {
    for constraint in &def.constraints {
        if let ConstraintKind::ForeignKey { references, .. } = &constraint.kind
            && *references != def.id
            && let Some(parent) = catalog.tables.get(references)
            && (parent.schema == TEMP_SCHEMA) != (def.schema == TEMP_SCHEMA)
        {
            let kind = if def.schema == TEMP_SCHEMA { "temporary" } else { "permanent" };
            return Err(SqlError::new("42P16", format!("constraints on {kind} tables may reference only {kind} tables")));
        }
    }
    Ok(())
}
