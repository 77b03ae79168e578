//! Does a transaction commit? Decided here, from the state and the commit alone.

use std::collections::BTreeSet;

use quire_types::{Catalog, CatalogChange, Commit, KeyAssert, Outcome, RowId, RowIds, SchemaId, TableDef, TableId, TableView, TableWrite};

use crate::State;
use crate::window::{Key, claim, read_claim};

impl State {
    /// `None` when nothing stands against the commit; otherwise what does.
    pub(crate) fn objection(&self, commit: &Commit) -> Option<Outcome> {
        if commit.snapshot > self.view().lsn {
            return Some(Outcome::FutureSnapshot);
        }
        let catalog = match self.catalog_after(commit) {
            Ok(catalog) => catalog,
            Err(outcome) => return Some(outcome),
        };
        let catalog = catalog.as_ref().unwrap_or(&self.view().catalog);
        if let Some(outcome) = self.reads_objection(commit, catalog) {
            return Some(outcome);
        }
        let mut seen = BTreeSet::new();
        commit.writes.iter().find_map(|write| {
            if !seen.insert(write.table) {
                return Some(Outcome::Refused(format!("table {} is written twice", write.table)));
            }
            malformed(write).or_else(|| self.write_objection(commit, write, catalog))
        })
    }

    /// The catalog with the commit's changes; `None` when it has none.
    fn catalog_after(&self, commit: &Commit) -> Result<Option<Catalog>, Outcome> {
        if commit.catalog.is_empty() {
            return Ok(None);
        }
        let mut catalog = self.view().catalog.as_ref().clone();
        for change in &commit.catalog {
            match catalog_objection(&catalog, change) {
                Some(outcome) => return Err(outcome),
                None => catalog.apply(change),
            }
        }
        if let Some((table, key)) = catalog.broken_foreign_key() {
            let why = format!("the table or key that constraint \"{key}\" on table \"{}\" references is gone", table.name);
            return Err(Outcome::CatalogConflict(why));
        }
        Ok(Some(catalog))
    }

    fn write_objection(&self, commit: &Commit, write: &TableWrite, catalog: &Catalog) -> Option<Outcome> {
        let table = write.table;
        match catalog.tables.get(&table) {
            Some(def) if def.version == write.version => {}
            _ => return Some(Outcome::SchemaConflict { table }),
        }
        // A table that this commit creates has no past.
        let rows = self.view().tables.get(&table)?;
        let lsns = self.table_lsns(table);
        if write.truncate && lsns.write > commit.snapshot {
            return Some(Outcome::SchemaConflict { table });
        }
        if let Some(row) = write.deletes.iter().find(|row| self.is_gone(table, rows, **row)) {
            return Some(Outcome::RowConflict { table, row: *row });
        }
        if !write.deletes.is_empty() && commit.snapshot < lsns.purged {
            return Some(Outcome::SnapshotTooOld);
        }
        if let Some(row) = write.deletes.iter().find(|row| **row >= rows.next_row_id) {
            return Some(Outcome::Refused(format!("row {row} of table {table} does not exist")));
        }
        // Who had locked a row meant it to stay as it was, also with FOR SHARE.
        if let Some(outcome) = self.lock_objection(commit.snapshot, table, &write.deletes, true) {
            return Some(outcome);
        }
        if write.unwritten && lsns.write > commit.snapshot {
            return Some(Outcome::KeyConflict { table, constraint: None });
        }
        self.key_objection(commit, write).or_else(|| self.key_read_objection(commit, write))
    }

    /// True when the row was deleted, as far as is remembered: see [`crate::record::TableLsns::purged`] for the rest.
    pub(crate) fn is_gone(&self, table: TableId, rows: &TableView, row: RowId) -> bool {
        rows.deleted.contains(row) || self.purged.contains(table, row)
    }

    fn key_objection(&self, commit: &Commit, write: &TableWrite) -> Option<Outcome> {
        if write.keys.is_empty() && !write.all_keys {
            return None;
        }
        let table = write.table;
        let lsns = self.table_lsns(table);
        if commit.snapshot < self.window.floor() {
            return Some(Outcome::SnapshotTooOld);
        }
        let unnamed = lsns.all_keys.max(lsns.all_key_reads) > commit.snapshot;
        if unnamed || write.all_keys && lsns.insert.max(lsns.key_read) > commit.snapshot {
            return Some(Outcome::KeyConflict { table, constraint: None });
        }
        let since = |key: Key| self.window.claimed_at(&key).is_some_and(|lsn| lsn > commit.snapshot);
        let taken = |key: &&KeyAssert| since(claim(table, key)) || since(read_claim(table, key));
        write.keys.iter().find(taken).map(|key| Outcome::KeyConflict { table, constraint: Some(key.constraint) })
    }

    /// Keys that the commit's foreign keys point at were there at its snapshot: they must be there still.
    fn key_read_objection(&self, commit: &Commit, write: &TableWrite) -> Option<Outcome> {
        if write.key_reads.is_empty() && !write.all_key_reads {
            return None;
        }
        let table = write.table;
        let lsns = self.table_lsns(table);
        if commit.snapshot < self.window.floor() {
            return Some(Outcome::SnapshotTooOld);
        }
        if lsns.all_keys > commit.snapshot || write.all_key_reads && lsns.write > commit.snapshot {
            return Some(Outcome::KeyConflict { table, constraint: None });
        }
        let gone = |key: &&KeyAssert| self.window.claimed_at(&claim(table, key)).is_some_and(|lsn| lsn > commit.snapshot);
        write.key_reads.iter().find(gone).map(|key| Outcome::KeyConflict { table, constraint: Some(key.constraint) })
    }
}

/// What makes a write contradict itself.
fn malformed(write: &TableWrite) -> Option<Outcome> {
    let refuse = |why: String| Some(Outcome::Refused(why));
    let table = write.table;
    if write.rows.is_empty() != (write.row_count == 0) {
        return refuse(format!("table {table}: {} rows in {} bytes", write.row_count, write.rows.len()));
    }
    if let Some(segment) = write.segments.iter().find(|s| s.table != table || !matches!(s.row_ids, RowIds::Base(_))) {
        return refuse(format!("table {table}: segment {} does not belong there", segment.id));
    }
    if !write.deletes.is_sorted_by(|a, b| a < b) {
        return refuse(format!("table {table}: deleted rows are not ascending"));
    }
    let in_segments: u64 = write.segments.iter().fold(0, |sum, s| sum.saturating_add(s.rows));
    if !write.segment_deletes.is_sorted_by(|a, b| a < b) || write.segment_deletes.last().is_some_and(|last| *last >= in_segments) {
        return refuse(format!("table {table}: deleted rows are not among those of its segments"));
    }
    let rows = write.segments.iter().try_fold(write.row_count, |sum, s| sum.checked_add(s.rows));
    match rows {
        Some(rows) if rows < 1 << 48 => None,
        _ => refuse(format!("table {table}: too many rows")),
    }
}

/// What stands against a catalog change. The words are Postgres', for the client that retries and then gives up.
fn catalog_objection(catalog: &Catalog, change: &CatalogChange) -> Option<Outcome> {
    let conflict = |why: String| Some(Outcome::CatalogConflict(why));
    let id_taken = |id: &TableId| catalog.id_taken(*id);
    // A new relation, or an old one under a new name.
    let name_objection = |schema: SchemaId, name: &str| {
        if !catalog.schemas.contains_key(&schema) {
            return conflict(format!("schema {schema} does not exist"));
        }
        if catalog.name_taken(schema, name) { conflict(format!("relation \"{name}\" already exists")) } else { None }
    };
    // Indexes have names of relations, those of constraints too.
    let index_objection = |table: &TableDef| {
        let taken = |name: &str| name == table.name || catalog.name_taken_beside(table.id, table.schema, name);
        let (_, name, _) = table.indexes().find(|(_, name, _)| taken(name))?;
        conflict(format!("relation \"{name}\" already exists"))
    };
    match change {
        CatalogChange::CreateSchema(schema) => {
            if catalog.schemas.contains_key(&schema.id) || catalog.schema_by_name(&schema.name).is_some() {
                return conflict(format!("schema \"{}\" already exists", schema.name));
            }
            None
        }
        CatalogChange::DropSchema(id) => {
            if !catalog.schemas.contains_key(id) {
                return conflict(format!("schema {id} does not exist"));
            }
            let used = catalog.tables.values().any(|t| t.schema == *id)
                || catalog.views.values().any(|v| v.schema == *id)
                || catalog.sequences.values().any(|s| s.schema == *id);
            if used { conflict(format!("schema {id} is not empty")) } else { None }
        }
        CatalogChange::CreateTable(table) => {
            if !catalog.schemas.contains_key(&table.schema) {
                return conflict(format!("schema {} does not exist", table.schema));
            }
            if id_taken(&table.id) || catalog.name_taken(table.schema, &table.name) {
                return conflict(format!("relation \"{}\" already exists", table.name));
            }
            index_objection(table)
        }
        CatalogChange::ReplaceTable(table) => match catalog.tables.get(&table.id) {
            Some(old) if old.version + 1 == table.version => {
                let renamed = old.name != table.name || old.schema != table.schema;
                let objection = if renamed { name_objection(table.schema, &table.name) } else { None };
                objection.or_else(|| index_objection(table))
            }
            _ => Some(Outcome::SchemaConflict { table: table.id }),
        },
        CatalogChange::DropTable { id, version } => match catalog.tables.get(id) {
            Some(old) if old.version == *version => None,
            _ => Some(Outcome::SchemaConflict { table: *id }),
        },
        CatalogChange::CreateView { view, replace } => {
            if !catalog.schemas.contains_key(&view.schema) {
                return conflict(format!("schema {} does not exist", view.schema));
            }
            let existing = catalog.view_by_name(view.schema, &view.name);
            let replaces = *replace && existing.is_some_and(|old| old.id == view.id);
            if !replaces && (id_taken(&view.id) || catalog.name_taken(view.schema, &view.name)) {
                return conflict(format!("relation \"{}\" already exists", view.name));
            }
            None
        }
        CatalogChange::DropView(id) => {
            if catalog.views.contains_key(id) {
                None
            } else {
                conflict(format!("view {id} does not exist"))
            }
        }
        CatalogChange::CreateSequence(sequence) if id_taken(&sequence.id) => {
            conflict(format!("relation \"{}\" already exists", sequence.name))
        }
        CatalogChange::CreateSequence(sequence) => name_objection(sequence.schema, &sequence.name),
        CatalogChange::ReplaceSequence { sequence, from } => match catalog.sequences.get(&sequence.id) {
            Some(old) if old.epoch + 1 == sequence.epoch && old.position == *from => {
                let renamed = old.name != sequence.name || old.schema != sequence.schema;
                if renamed { name_objection(sequence.schema, &sequence.name) } else { None }
            }
            _ => conflict(format!("sequence \"{}\" was changed by another transaction", sequence.name)),
        },
        CatalogChange::MoveSequence { id, from, .. } => match catalog.sequences.get(id) {
            Some(old) if old.position == *from => None,
            _ => conflict(format!("sequence {id} was used by another transaction")),
        },
        CatalogChange::DropSequence(id) => {
            if catalog.sequences.contains_key(id) {
                None
            } else {
                conflict(format!("sequence {id} does not exist"))
            }
        }
        CatalogChange::SetComment { target, .. } if !catalog.has(target) => {
            conflict("what a comment is about does not exist any more".to_string())
        }
        CatalogChange::SetComment { .. } => None,
    }
}
