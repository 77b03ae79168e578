//! What depends on what: views on the relations that they read.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::visit_relations;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::{Catalog, CatalogChange, SchemaId, TableId, ViewDef};

use crate::names::split;
use crate::txn::Transaction;
use crate::{Session, SqlError};

/// The relations that a view's text names. The text has their schemas.
fn relations(catalog: &Catalog, view: &ViewDef) -> BTreeSet<TableId> {
    let mut found = BTreeSet::new();
    let statements = match Parser::parse_sql(&PostgreSqlDialect {}, &view.sql) {
        Ok(statements) => statements,
        Err(error) => {
            tracing::warn!(view = view.name, %error, "a view's text does not parse");
            return found;
        }
    };
    let _: ControlFlow<()> = visit_relations(&statements, |name| {
        if let Ok((Some(schema), relation)) = split(name)
            && let Some(schema) = catalog.schema_by_name(&schema)
        {
            found.extend(catalog.table_by_name(schema.id, &relation).map(|t| t.id));
            found.extend(catalog.view_by_name(schema.id, &relation).map(|v| v.id));
        }
        ControlFlow::Continue(())
    });
    found
}

/// Views that read any of the relations, directly or by way of other views, in the order they are found; none of the relations themselves.
pub(crate) fn dependent_views(catalog: &Catalog, of: &BTreeSet<TableId>) -> Vec<(std::sync::Arc<ViewDef>, TableId)> {
    let mut reached = of.clone();
    let mut found = vec![];
    loop {
        let next = catalog.views.values().filter(|v| !reached.contains(&v.id)).find_map(|view| {
            let on = relations(catalog, view).into_iter().find(|id| reached.contains(id))?;
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
        _ => "a relation".to_string(),
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
