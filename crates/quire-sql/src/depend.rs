//! What depends on what: views on the relations that they read.

use std::collections::BTreeSet;
use std::sync::Arc;

use quire_types::{Catalog, CatalogChange, SchemaId, TableId, ViewDef};

use crate::txn::Transaction;
use crate::{Session, SqlError};

/// Views that read the relation themselves.
pub(crate) fn direct_views(catalog: &Catalog, of: TableId) -> Vec<Arc<ViewDef>> {
    catalog.views.values().filter(|v| v.reads.iter().any(|r| r.id == of)).cloned().collect()
}

/// Views that read any of the relations, directly or by way of other views, in the order they are found; none of the relations themselves.
pub(crate) fn dependent_views(catalog: &Catalog, of: &BTreeSet<TableId>) -> Vec<(Arc<ViewDef>, TableId)> {
    let mut reached = of.clone();
    let mut found = vec![];
    loop {
        let next = catalog.views.values().filter(|v| !reached.contains(&v.id)).find_map(|view| {
            let on = view.reads.iter().map(|r| r.id).find(|id| reached.contains(id))?;
            Some((view.clone(), on))
        });
        let Some((view, on)) = next else { return found };
        reached.insert(view.id);
        found.push((view, on));
    }
}

/// `table item`, `view shop.names`: as messages name it, with the schema when it is not searched.
pub(crate) fn described(catalog: &Catalog, path: &[String], id: TableId) -> String {
    let named = |kind: &str, schema: SchemaId, name: &str| {
        let schema = catalog.schemas.get(&schema).map(|s| s.name.clone()).unwrap_or_default();
        if path.contains(&schema) { format!("{kind} {name}") } else { format!("{kind} {schema}.{name}") }
    };
    match (catalog.tables.get(&id), catalog.views.get(&id)) {
        (Some(table), _) => named("table", table.schema, &table.name),
        (_, Some(view)) => named("view", view.schema, &view.name),
        _ => match catalog.sequences.get(&id) {
            Some(sequence) => named("sequence", sequence.schema, &sequence.name),
            None => "a relation".to_string(),
        },
    }
}

impl Session {
    /// Views on relations about to be dropped: 2BP01, or with CASCADE they go too. Gives what else was dropped, described.
    pub(crate) fn drop_dependent_views(
        &mut self,
        of: &BTreeSet<TableId>,
        what: &str,
        cascade: bool,
        transaction: &mut Transaction,
    ) -> Result<Vec<String>, SqlError> {
        let catalog = transaction.catalog().clone();
        let path = self.search_path();
        let views = dependent_views(&catalog, of);
        if views.is_empty() {
            return Ok(vec![]);
        }
        let name = |id: TableId| described(&catalog, &path, id);
        if !cascade {
            let lines: Vec<String> = views.iter().map(|(view, on)| format!("{} depends on {}", name(view.id), name(*on))).collect();
            return Err(SqlError::new("2BP01", format!("cannot drop {what} because other objects depend on it"))
                .with_detail(lines.join("\n"))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        let mut dropped = vec![];
        for (view, _) in &views {
            dropped.push(name(view.id));
            transaction.change("DROP VIEW", CatalogChange::DropView(view.id))?;
        }
        Ok(dropped)
    }

    /// The notice of a CASCADE.
    pub(crate) fn notice_cascade(&mut self, dropped: &[String]) {
        match dropped {
            [] => {}
            [one] => self.notice("NOTICE", "00000", format!("drop cascades to {one}")),
            several => {
                let lines: Vec<String> = several.iter().map(|d| format!("drop cascades to {d}")).collect();
                self.notice_with_detail("NOTICE", "00000", format!("drop cascades to {} other objects", several.len()), lines.join("\n"));
            }
        }
    }
}
