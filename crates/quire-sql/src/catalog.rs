//! Names to tables, for the planner: schemas, tables and views as the current statement sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use parking_lot::RwLock;
use quire_scan::OwnRows;
use quire_types::{Catalog, SchemaDef, TableId, View, ViewDef};

use crate::settings::SharedSettings;
use crate::source::PageColumns;
use crate::table::QuireTable;

/// The one database.
pub(crate) const DATABASE: &str = "quire";

/// What a statement sees: committed rows at a snapshot, and the transaction's own changes.
#[derive(Clone)]
pub(crate) struct Scope {
    /// Committed state.
    pub(crate) view: Arc<View>,
    /// Definitions, the transaction's own included.
    pub(crate) catalog: Arc<Catalog>,
    /// The transaction's own rows.
    pub(crate) own: Arc<BTreeMap<TableId, OwnRows>>,
}

/// Where a session keeps its current scope; the providers below look here.
pub(crate) struct ScopeCell {
    scope: RwLock<Scope>,
    source: Arc<PageColumns>,
    state: RwLock<Weak<RwLock<SessionState>>>,
    /// The session's, for functions that ask for them.
    settings: SharedSettings,
    user: String,
    backend_pid: i32,
}

impl ScopeCell {
    pub(crate) fn new(source: Arc<PageColumns>) -> ScopeCell {
        let view = Arc::new(View::default());
        let scope = Scope { catalog: view.catalog.clone(), view, own: Arc::default() };
        ScopeCell {
            scope: RwLock::new(scope),
            source,
            state: RwLock::default(),
            settings: SharedSettings::default(),
            user: String::new(),
            backend_pid: 0,
        }
    }

    /// With what functions may ask of the session.
    pub(crate) fn of_session(self, settings: SharedSettings, user: &str, backend_pid: i32) -> ScopeCell {
        ScopeCell { settings, user: user.to_string(), backend_pid, ..self }
    }

    pub(crate) fn settings(&self) -> &SharedSettings {
        &self.settings
    }

    pub(crate) fn user(&self) -> String {
        self.user.clone()
    }

    pub(crate) fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    pub(crate) fn set(&self, scope: Scope) {
        *self.scope.write() = scope;
    }

    pub(crate) fn get(&self) -> Scope {
        self.scope.read().clone()
    }

    /// Views are planned with the session's own state.
    pub(crate) fn set_state(&self, state: Weak<RwLock<SessionState>>) {
        *self.state.write() = state;
    }

    pub(crate) fn table(&self, id: TableId) -> Option<Arc<QuireTable>> {
        let scope = self.get();
        let def = scope.catalog.tables.get(&id)?.clone();
        let rows = scope.view.tables.get(&id).cloned().unwrap_or_default();
        let own = scope.own.get(&id).cloned().unwrap_or_default();
        Some(Arc::new(QuireTable::new(def, rows, scope.view.lsn, own, self.source.clone())))
    }

    async fn plan_view(&self, view: &ViewDef) -> Result<Arc<dyn TableProvider>> {
        let gone = || DataFusionError::Internal("the session of this view is gone".into());
        let state = self.state.read().upgrade().ok_or_else(gone)?.read().clone();
        let statement = state.sql_to_statement(&view.sql, &datafusion::config::Dialect::PostgreSQL)?;
        let plan = Box::pin(state.statement_to_plan(statement)).await?;
        Ok(Arc::new(ViewTable::new(plan, Some(view.sql.clone()))))
    }
}

impl fmt::Debug for ScopeCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeCell")
    }
}

/// The list of catalogs: just the database.
#[derive(Debug)]
pub(crate) struct Databases(pub(crate) Arc<Database>);

impl CatalogProviderList for Databases {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![DATABASE.to_string()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == DATABASE).then(|| self.0.clone() as _)
    }
}

/// The database: user schemas from the scope, and Postgres' system schemas.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) cell: Arc<ScopeCell>,
    /// `pg_catalog` and whatever else is registered beside the users' schemas.
    pub(crate) system: RwLock<BTreeMap<String, Arc<dyn SchemaProvider>>>,
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        let scope = self.cell.get();
        let system = self.system.read().keys().cloned().collect::<Vec<_>>();
        scope.catalog.schemas.values().map(|s| s.name.clone()).chain(system).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if let Some(system) = self.system.read().get(name) {
            return Some(system.clone());
        }
        let scope = self.cell.get();
        let schema = scope.catalog.schema_by_name(name)?.clone();
        Some(Arc::new(UserSchema { schema, cell: self.cell.clone() }))
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        Ok(self.system.write().insert(name.to_string(), schema))
    }
}

#[derive(Debug)]
struct UserSchema {
    schema: Arc<SchemaDef>,
    cell: Arc<ScopeCell>,
}

#[async_trait]
impl SchemaProvider for UserSchema {
    fn table_names(&self) -> Vec<String> {
        let catalog = self.cell.get().catalog;
        let tables = catalog.tables.values().filter(|t| t.schema == self.schema.id).map(|t| t.name.clone());
        let views = catalog.views.values().filter(|v| v.schema == self.schema.id).map(|v| v.name.clone());
        tables.chain(views).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let catalog = self.cell.get().catalog;
        if let Some(def) = catalog.table_by_name(self.schema.id, name) {
            return Ok(self.cell.table(def.id).map(|t| t as _));
        }
        match catalog.view_by_name(self.schema.id, name) {
            Some(view) => Ok(Some(self.cell.plan_view(view).await?)),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.cell.get().catalog.name_taken(self.schema.id, name)
    }
}
