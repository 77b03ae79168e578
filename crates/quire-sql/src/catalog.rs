//! Names to tables, for the planner: schemas, tables and views as the current statement sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use parking_lot::{Mutex, RwLock};
use quire_scan::OwnRows;
use quire_types::{Catalog, ROW_ID_FIELD, SchemaDef, TableDef, TableId, TxnId, View, ViewDef};

use crate::SqlError;
use crate::lock::{self, Locks};
use crate::reads::{Reads, ReadsOf};
use crate::sequences::{OwnSequences, Sequences};
use crate::settings::SharedSettings;
use crate::source::{PageColumns, widen};
use crate::table::QuireTable;
use crate::view_reads::{self, ViewReads};

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
    /// The transaction.
    pub(crate) txn_id: TxnId,
    /// When it began, in microseconds since 1970.
    pub(crate) began: i64,
    /// Where to say what is read, when that is certified.
    pub(crate) reads: Option<Arc<Reads>>,
}

impl Scope {
    /// Where to say what is read of a table; `None` also for one that the transaction made itself.
    pub(crate) fn reads_of(&self, table: TableId) -> Option<ReadsOf> {
        let version = self.view.catalog.tables.get(&table)?.version;
        Some(ReadsOf::new(self.reads.clone()?, table, version))
    }
}

/// Where a session keeps its current scope; the providers below look here.
pub(crate) struct ScopeCell {
    scope: RwLock<Scope>,
    /// When the statement under way began, in microseconds since 1970.
    statement_began: AtomicI64,
    /// Likewise its transaction, for who has no scope.
    began: Arc<AtomicI64>,
    /// How often text was read that depends on when: `now`, `today`.
    moments_asked: Arc<AtomicU64>,
    source: Arc<PageColumns>,
    state: RwLock<Weak<RwLock<SessionState>>>,
    returning: RwLock<Option<Arc<dyn TableProvider>>>,
    /// What parts of the statement have returned, for its other parts; by name.
    parts: RwLock<BTreeMap<String, Arc<dyn TableProvider>>>,
    /// The locking clauses of the transaction's statements, by number.
    pub(crate) locks: Mutex<Locks>,
    /// The session's, for functions that ask for them.
    settings: SharedSettings,
    user: String,
    backend_pid: i32,
    /// The node's; the template that sessions are cloned from has none.
    sequences: Option<Arc<Sequences>>,
    own_sequences: Mutex<OwnSequences>,
}

impl ScopeCell {
    pub(crate) fn new(source: Arc<PageColumns>) -> ScopeCell {
        let view = Arc::new(View::default());
        let scope = Scope { catalog: view.catalog.clone(), view, own: Arc::default(), txn_id: TxnId(0), began: now(), reads: None };
        ScopeCell {
            statement_began: AtomicI64::new(scope.began),
            began: Arc::new(AtomicI64::new(scope.began)),
            moments_asked: Arc::default(),
            scope: RwLock::new(scope),
            source,
            state: RwLock::default(),
            returning: RwLock::default(),
            parts: RwLock::default(),
            locks: Mutex::default(),
            settings: SharedSettings::default(),
            user: String::new(),
            backend_pid: 0,
            sequences: None,
            own_sequences: Mutex::default(),
        }
    }

    /// With where values of sequences come from.
    pub(crate) fn with_sequences(self, sequences: Arc<Sequences>) -> ScopeCell {
        ScopeCell { sequences: Some(sequences), ..self }
    }

    pub(crate) fn sequences(&self) -> Result<&Arc<Sequences>, SqlError> {
        self.sequences.as_ref().ok_or_else(|| SqlError::internal("sequences are a session's"))
    }

    pub(crate) fn own_sequences(&self) -> &Mutex<OwnSequences> {
        &self.own_sequences
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
        self.began.store(scope.began, Ordering::Relaxed);
        *self.scope.write() = scope;
    }

    pub(crate) fn get(&self) -> Scope {
        self.scope.read().clone()
    }

    /// A statement begins.
    pub(crate) fn begin_statement(&self) {
        self.statement_began.store(now(), Ordering::Relaxed);
    }

    pub(crate) fn statement_began(&self) -> i64 {
        self.statement_began.load(Ordering::Relaxed)
    }

    pub(crate) fn transaction_began(&self) -> i64 {
        self.scope.read().began
    }

    /// Where to see when the transaction under way began.
    pub(crate) fn began(&self) -> Arc<AtomicI64> {
        self.began.clone()
    }

    pub(crate) fn moments_asked(&self) -> &Arc<AtomicU64> {
        &self.moments_asked
    }

    /// Views are planned with the session's own state.
    pub(crate) fn set_state(&self, state: Weak<RwLock<SessionState>>) {
        *self.state.write() = state;
    }

    pub(crate) fn table(&self, id: TableId) -> Option<Arc<QuireTable>> {
        self.new_table(id).map(Arc::new)
    }

    /// What RETURNING reads while it is planned.
    pub(crate) fn set_returning(&self, rows: Option<Arc<dyn TableProvider>>) {
        *self.returning.write() = rows;
    }

    /// Rows that a part of the statement returned, under a name of [`RETURNING_SCHEMA`].
    pub(crate) fn add_part(&self, name: String, rows: Arc<dyn TableProvider>) {
        self.parts.write().insert(name, rows);
    }

    /// Those under one name are not needed any more.
    pub(crate) fn forget_part(&self, name: &str) {
        self.parts.write().remove(name);
    }

    /// The statement is planned.
    pub(crate) fn forget_parts(&self) {
        self.parts.write().clear();
    }

    fn new_table(&self, id: TableId) -> Option<QuireTable> {
        let scope = self.get();
        let def = scope.catalog.tables.get(&id)?.clone();
        let rows = scope.view.tables.get(&id).cloned().unwrap_or_default();
        let own = scope.own.get(&id).cloned().unwrap_or_default();
        let reads = scope.reads_of(id);
        Some(QuireTable::new(def, rows, scope.view.lsn, own, self.source.clone()).certified(reads))
    }

    /// A table's rows under another definition of it.
    pub(crate) fn table_as(&self, def: TableDef) -> Result<Option<QuireTable>> {
        let scope = self.get();
        let rows = scope.view.tables.get(&def.id).cloned().unwrap_or_default();
        let mut own = scope.own.get(&def.id).cloned().unwrap_or_default();
        for batch in &mut own.batches {
            *batch = widen(&def, batch.clone()).map_err(|e| DataFusionError::External(Box::new(e)))?;
        }
        let reads = scope.reads_of(def.id);
        Ok(Some(QuireTable::new(Arc::new(def), rows, scope.view.lsn, own, self.source.clone()).certified(reads)))
    }

    /// A view's query, as a relation.
    pub(crate) async fn plan_view(&self, view: &ViewDef) -> Result<Arc<dyn TableProvider>> {
        let gone = || DataFusionError::Internal("the session of this view is gone".into());
        let state = self.state.read().upgrade().ok_or_else(gone)?.read().clone();
        let mut statement = state.sql_to_statement(&view.sql, &datafusion::config::Dialect::PostgreSQL)?;
        if let datafusion::sql::parser::Statement::Statement(inner) = &mut statement {
            view_reads::pin(inner, view);
            crate::rewrite::rewrite(inner, true).map_err(crate::functions::sql_error)?;
        }
        let plan = Box::pin(state.statement_to_plan(statement)).await?;
        Ok(Arc::new(ViewTable::new(plan, Some(view.sql.clone()))))
    }
}

fn now() -> i64 {
    quire_kit::clock::wall().as_micros() as i64
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
        if let Some(name) = name.strip_prefix(WITH_ROW_IDS) {
            let schema = scope.catalog.schema_by_name(name)?.clone();
            return Some(Arc::new(RowIdSchema { schema, column: ROW_ID_FIELD.to_string(), cell: self.cell.clone() }));
        }
        if let Some((column, name)) = lock::schema_of(name) {
            let schema = scope.catalog.schema_by_name(name)?.clone();
            return Some(Arc::new(RowIdSchema { schema, column, cell: self.cell.clone() }));
        }
        if name == RETURNING_SCHEMA {
            return Some(Arc::new(ReturningSchema { cell: self.cell.clone() }));
        }
        if let Some(view) = ViewReads::of_schema(name, &scope.catalog) {
            return Some(Arc::new(ViewReads { view, cell: self.cell.clone() }));
        }
        let schema = scope.catalog.schema_by_name(name)?.clone();
        Some(Arc::new(UserSchema { schema, cell: self.cell.clone() }))
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        Ok(self.system.write().insert(name.to_string(), schema))
    }
}

/// Before a schema's name: its tables with their row ids. No user's schema can be called so in a statement that a user writes, since the
/// names of such statements never reach the planner with it (see `names::split`).
pub(crate) const WITH_ROW_IDS: &str = "quire:row_ids:";
/// The schema with the table that RETURNING reads, and what parts of a statement have returned.
pub(crate) const RETURNING_SCHEMA: &str = "quire:returning";
/// The one that RETURNING reads.
pub(crate) const RETURNING_ROWS: &str = "rows";

/// Tables of one schema with their row ids.
#[derive(Debug)]
struct RowIdSchema {
    schema: Arc<SchemaDef>,
    /// What the row id is called.
    column: String,
    cell: Arc<ScopeCell>,
}

#[async_trait]
impl SchemaProvider for RowIdSchema {
    fn table_names(&self) -> Vec<String> {
        vec![]
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let catalog = self.cell.get().catalog;
        let Some(def) = catalog.table_by_name(self.schema.id, name) else { return Ok(None) };
        Ok(self.cell.new_table(def.id).map(|table| Arc::new(table.with_row_ids(&self.column)) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.cell.get().catalog.table_by_name(self.schema.id, name).is_some()
    }
}

/// Rows that a statement wrote, for its RETURNING.
#[derive(Debug)]
struct ReturningSchema {
    cell: Arc<ScopeCell>,
}

#[async_trait]
impl SchemaProvider for ReturningSchema {
    fn table_names(&self) -> Vec<String> {
        vec![]
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match name {
            RETURNING_ROWS => Ok(self.cell.returning.read().clone()),
            part => Ok(self.cell.parts.read().get(part).cloned()),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        match name {
            RETURNING_ROWS => self.cell.returning.read().is_some(),
            part => self.cell.parts.read().contains_key(part),
        }
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
        let sequences = catalog.sequences.values().filter(|s| s.schema == self.schema.id).map(|s| s.name.clone());
        tables.chain(views).chain(sequences).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let catalog = self.cell.get().catalog;
        if let Some(def) = catalog.table_by_name(self.schema.id, name) {
            return Ok(self.cell.table(def.id).map(|t| t as _));
        }
        match catalog.view_by_name(self.schema.id, name) {
            Some(view) => Ok(Some(self.cell.plan_view(view).await?)),
            None => match catalog.sequence_by_name(self.schema.id, name) {
                Some(sequence) => crate::system::sequence_relation(&self.cell, sequence).map(Some),
                None => Ok(None),
            },
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.cell.get().catalog.has_relation(self.schema.id, name)
    }
}
