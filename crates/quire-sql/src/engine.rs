use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session as PlannerSession};
use datafusion::common::DataFusionError;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::TrackConsumersPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};
use parking_lot::RwLock;
use quire_cache::{CacheOptions, PageCache};
use quire_client::StorageClient;
use quire_optimizer::OptimizerOptions;
use tokio::sync::Semaphore;

use crate::budget::Budget;
use crate::catalog::{DATABASE, Database, Databases, ScopeCell};
use crate::errors::{client_error, datafusion_error};
use crate::functions::Own;
use crate::join_keys::JoinKeys;
use crate::operators::PgOperators;
use crate::plans::KEPT_BY_ALL_MAX;
use crate::scan_exec::{same_scan, scan_in_order};
use crate::sequences::Sequences;
use crate::source::PageColumns;
use crate::table::Manifests;
use crate::turns::Turns;
use crate::{EngineOptions, Session, SessionOptions, SqlError};

/// The first superuser.
pub(crate) const SUPERUSER: &str = "quire";

/// A compute node's SQL engine: shared by all its sessions.
pub struct Engine {
    pub(crate) client: StorageClient,
    pub(crate) source: Arc<PageColumns>,
    pub(crate) sequences: Arc<Sequences>,
    pub(crate) turns: Arc<Turns>,
    /// For plans that sessions keep.
    pub(crate) plan_room: Arc<Semaphore>,
    /// In how many partitions queries run, unless a session sets it.
    pub(crate) target_partitions: usize,
    runtime: Arc<RuntimeEnv>,
    /// What every session's state begins as: configuration, functions, rules.
    template: SessionState,
    functions: Own,
    /// System schemas that do not depend on the session.
    system: BTreeMap<String, Arc<dyn SchemaProvider>>,
}

impl Engine {
    /// Opens the caches and prepares to talk to storage (which need not be reachable yet).
    pub async fn start(options: EngineOptions) -> Result<Arc<Engine>, SqlError> {
        let client = StorageClient::new(options.storage.clone());
        let cache = CacheOptions {
            dir: options.cache_dir.clone(),
            memory_bytes: options.cache_memory_bytes,
            disk_bytes: options.cache_disk_bytes,
            name: "compute",
        };
        let cache = PageCache::open(cache, Arc::new(client.clone())).await;
        let cache = cache.map_err(|e| SqlError::new("58030", format!("cannot open the page cache: {e}")))?;
        let source = Arc::new(PageColumns::new(cache.clone(), client.clone()));
        let budget = Budget::new(options.memory_limit_bytes as usize, options.cache_memory_bytes as usize, cache);
        let consumers_shown = std::num::NonZeroUsize::new(5).expect("five is not zero");
        let pool = TrackConsumersPool::new(budget, consumers_shown);
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc().map_err(datafusion_error)?;
        let functions = Own::new();
        let (template, system) = template(&options, &runtime, &source, &functions)?;
        let sequences = Arc::new(Sequences::new(client.clone()));
        let target_partitions = options.target_partitions.max(1);
        let plan_room = Arc::new(Semaphore::new(KEPT_BY_ALL_MAX));
        let turns = Arc::default();
        Ok(Arc::new(Engine { client, source, sequences, turns, plan_room, target_partitions, runtime, template, functions, system }))
    }

    /// Opens a session. 3D000 for an unknown database, 28000 for an unknown role.
    pub fn session(self: &Arc<Self>, options: SessionOptions) -> Result<Session, SqlError> {
        if options.user != SUPERUSER {
            return Err(SqlError::new("28000", format!("role \"{}\" does not exist", options.user)));
        }
        if options.database != DATABASE {
            return Err(SqlError::new("3D000", format!("database \"{}\" does not exist", options.database)));
        }
        Session::open(self.clone(), options)
    }

    /// True when storage answers a snapshot request now: readiness.
    pub async fn ready(&self) -> Result<(), SqlError> {
        self.client.snapshot().await.map(|_| ()).map_err(client_error)
    }

    /// Whether `pg_catalog` has a relation of that name.
    pub(crate) fn is_system_table(&self, name: &str) -> bool {
        crate::system::in_pg_catalog(name)
    }

    /// Writes what is on its way to the disk cache. For after the last session has ended.
    pub async fn close(&self) {
        self.source.cache().close().await;
    }

    /// A planner for one session, reading names from `cell`.
    pub(crate) fn planner(&self, cell: &Arc<ScopeCell>) -> datafusion::common::Result<SessionContext> {
        let database = Arc::new(Database { cell: cell.clone(), system: RwLock::new(self.system.clone()) });
        let state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_session_id(format!("{:016x}", quire_kit::random::u64()))
            .with_runtime_env(self.runtime.clone())
            .with_catalog_list(Arc::new(Databases(database.clone())))
            .build();
        let context = SessionContext::new_with_state(state);
        self.functions.register(&context);
        cell.set_state(context.state_weak_ref());
        crate::system::register(&database, cell, &context)?;
        crate::txn_functions::register(&context, cell, &self.client);
        crate::functions::register_moments(&context, cell);
        Ok(context)
    }
}

fn config(options: &EngineOptions) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(DATABASE, "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_target_partitions(options.target_partitions.max(1));
    let inner = config.options_mut();
    inner.sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    // Errors say where in the text the planner found them.
    inner.sql_parser.collect_spans = true;
    // 0.05 is numeric in Postgres, not double precision.
    inner.sql_parser.parse_float_as_decimal = true;
    // A filter pushed from a join to a scan is evaluated there, on every row.
    inner.execution.parquet.pushdown_filters = true;
    // The rules are those of two passes: see `quire_optimizer::optimizer_rules`.
    inner.optimizer.max_passes = 1;
    // Of what a UNION gives, plans and operators have the metadata of different inputs.
    inner.execution.skip_physical_aggregate_schema_check = true;
    // See `Planner`.
    inner.optimizer.join_reordering = false;
    inner.extensions.insert(OptimizerOptions::default());
    config
}

/// Makes the last keys of joins, and decides by our estimates which side is kept in memory; all else is DataFusion's.
#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn PlannerSession,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let plan = quire_optimizer::with_null_keys(plan.clone())?;
        let plan = quire_optimizer::with_build_sides(&plan, Arc::new(Manifests), session.config_options())?;
        DefaultPhysicalPlanner::default().create_physical_plan(&plan, session).await
    }
}

/// DataFusion's rules and ours.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = quire_optimizer::physical_rules(Arc::new(same_scan), Arc::new(scan_in_order));
    rules.push(Arc::new(JoinKeys));
    rules
}

/// The state that sessions are cloned from, and the system schemas they share.
#[allow(clippy::type_complexity)]
fn template(
    options: &EngineOptions,
    runtime: &Arc<RuntimeEnv>,
    source: &Arc<PageColumns>,
    functions: &Own,
) -> Result<(SessionState, BTreeMap<String, Arc<dyn SchemaProvider>>), SqlError> {
    let cell = Arc::new(ScopeCell::new(source.clone()));
    let database = Arc::new(Database { cell, system: RwLock::default() });
    let mut state = SessionStateBuilder::new()
        .with_config(config(options))
        .with_runtime_env(runtime.clone())
        .with_default_features()
        .with_optimizer_rules(quire_optimizer::optimizer_rules(Optimizer::new().rules, Arc::new(Manifests)))
        .with_physical_optimizer_rules(physical_rules())
        .with_query_planner(Arc::new(Planner))
        .with_catalog_list(Arc::new(Databases(database.clone())));
    // Ours are asked first.
    state.expr_planners().get_or_insert_default().insert(0, Arc::new(PgOperators::default()));
    state.expr_planners().get_or_insert_default().insert(0, Arc::new(crate::system::CatalogValues));
    let state = state.build();
    let context = SessionContext::new_with_state(state);
    datafusion_pg_catalog::setup_pg_catalog(&context, DATABASE, datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider)
        .map_err(|e| datafusion_error(*e))?;
    functions.register(&context);
    let system = database.system.read().clone();
    Ok((context.state(), system))
}
