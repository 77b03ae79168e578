//! What a view's text names, as it was when the view was made: a table that was renamed, moved or given other columns since means the
//! same to the view.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectName, Statement, TableAlias, TableFactor, VisitMut, VisitorMut, visit_relations};
use quire_types::{Catalog, ConstraintKind, TableDef, TableId, ViewDef, ViewRead};

use crate::catalog::{DATABASE, ScopeCell};
use crate::names::split;

/// Before a view's id: the schema with what the view reads. No statement of a user can name it.
const SCHEMA_OF_VIEW: &str = "quire:view:";

/// The relations that a view's query, whose names are resolved, reads.
pub(crate) fn reads(query: &Statement, catalog: &Catalog) -> Vec<ViewRead> {
    let mut reads: Vec<ViewRead> = vec![];
    let _: ControlFlow<()> = visit_relations(query, |name| {
        if let Ok((Some(schema), name)) = split(name)
            && let Some(in_schema) = catalog.schema_by_name(&schema)
            && !reads.iter().any(|r| r.schema == schema && r.name == name)
        {
            if let Some(table) = catalog.table_by_name(in_schema.id, &name) {
                let columns = table.columns.iter().map(|c| (c.id, c.name.clone())).collect();
                reads.push(ViewRead { id: table.id, schema, name, columns });
            } else if let Some(view) = catalog.view_by_name(in_schema.id, &name) {
                reads.push(ViewRead { id: view.id, schema, name, columns: vec![] });
            }
        }
        ControlFlow::Continue(())
    });
    reads
}

/// Lets a view's text read what it names, whatever that is called now.
pub(crate) fn pin(statement: &mut Statement, view: &ViewDef) {
    let _: ControlFlow<()> = statement.visit(&mut Pin { view });
}

struct Pin<'a> {
    view: &'a ViewDef,
}

impl Pin<'_> {
    fn read(&self, name: &ObjectName) -> Option<(usize, &ViewRead)> {
        let (Some(schema), name) = split(name).ok()? else { return None };
        self.view.reads.iter().enumerate().find(|(_, r)| r.schema == schema && r.name == name)
    }
}

impl VisitorMut for Pin<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, args: None, .. } = factor
            && let Some((position, read)) = self.read(name)
        {
            let bare = Ident::with_quote('"', &read.name);
            alias.get_or_insert_with(|| TableAlias { explicit: true, name: bare, columns: vec![], at: None });
            let parts = [DATABASE.to_string(), format!("{SCHEMA_OF_VIEW}{}", self.view.id), position.to_string()];
            *name = ObjectName::from(parts.map(|part| Ident::with_quote('"', part)).to_vec());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        // schema.table.column: the table is known by its alias now.
        if let Expr::CompoundIdentifier(parts) = expr
            && let [schema, table, _] = parts.as_slice()
            && self.read(&ObjectName::from(vec![schema.clone(), table.clone()])).is_some()
        {
            parts.remove(0);
        }
        ControlFlow::Continue(())
    }
}

/// What one view reads, by position.
pub(crate) struct ViewReads {
    pub(crate) view: Arc<ViewDef>,
    pub(crate) cell: Arc<ScopeCell>,
}

impl ViewReads {
    /// The view whose schema this is.
    pub(crate) fn of_schema(name: &str, catalog: &Catalog) -> Option<Arc<ViewDef>> {
        let id = name.strip_prefix(SCHEMA_OF_VIEW)?.parse().ok()?;
        catalog.views.get(&TableId(id)).cloned()
    }

    fn read(&self, position: &str) -> Option<&ViewRead> {
        self.view.reads.get(position.parse::<usize>().ok()?)
    }
}

impl fmt::Debug for ViewReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ViewReads")
    }
}

#[async_trait]
impl SchemaProvider for ViewReads {
    fn table_names(&self) -> Vec<String> {
        vec![]
    }

    async fn table(&self, position: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(read) = self.read(position) else { return Ok(None) };
        let catalog = self.cell.get().catalog;
        if let Some(table) = catalog.tables.get(&read.id) {
            return Ok(self.cell.table_as(as_read(table, read))?.map(|table| Arc::new(table) as _));
        }
        match catalog.views.get(&read.id) {
            Some(view) => Ok(Some(self.cell.plan_view(view).await?)),
            None => Ok(None),
        }
    }

    fn table_exist(&self, position: &str) -> bool {
        let catalog = self.cell.get().catalog;
        self.read(position).is_some_and(|read| catalog.tables.contains_key(&read.id) || catalog.views.contains_key(&read.id))
    }
}

/// The table with just the columns that were there when the view was made, under the names they had.
fn as_read(table: &TableDef, read: &ViewRead) -> TableDef {
    let mut def = table.clone();
    def.columns = read
        .columns
        .iter()
        .filter_map(|(id, name)| table.column(*id).map(|c| quire_types::ColumnDef { name: name.clone(), ..c.clone() }))
        .collect();
    let columns = std::mem::take(&mut def.columns);
    let known = |ids: &[quire_types::ColumnId]| ids.iter().all(|id| columns.iter().any(|c| c.id == *id));
    for constraint in &mut def.constraints {
        let stays = constraint.kind.index_columns().is_some_and(known);
        // Keys are certified by the ordinals of their constraints, which stay as they are.
        if !stays {
            constraint.kind = ConstraintKind::Check("true".into());
        }
    }
    def.columns = columns;
    def
}
