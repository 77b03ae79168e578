//! Running a query: plan, execute, convert to the types that go over the wire.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::Session as PlannerSession;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::Statement;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use quire_kit::clock;
use quire_types::{FIELD_COLUMN_ID, FIELD_SQL_TYPE, SqlType};

use crate::apply::State;
use crate::derived::TrueRelations;
use crate::errors::datafusion_error;
use crate::named_columns::NamedColumns;
use crate::names::{name_columns, shown};
use crate::scan_exec::begin_scans;
use crate::{OutputColumn, SqlError, WireType, bind};

/// Of the memory that queries hold, while some of it is to become free; without a change over so many looks nothing more will.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const STEADY_LOOKS: usize = 50;
/// Others may come and go all the time.
const LOOKS_MAX: usize = 200;

/// A planned query.
pub(crate) struct Query {
    pub(crate) plan: LogicalPlan,
    /// Whether the optimizer's rules have been applied to it; its types are resolved in any case.
    pub(crate) is_optimized: bool,
    pub(crate) columns: Arc<Vec<OutputColumn>>,
}

impl Query {
    /// The columns but for the last few.
    pub(crate) fn columns_before(&self, last: usize) -> Arc<Vec<OutputColumn>> {
        match last {
            0 => self.columns.clone(),
            _ => Arc::new(self.columns[..self.columns.len() - last].to_vec()),
        }
    }
}

/// Plans a query as the client wrote it.
///
/// In a box: a statement that may plan, and mostly need not, is not to carry the room that it takes.
pub(crate) fn plan(context: &SessionContext, mut statement: Statement) -> BoxFuture<'_, Result<Query, SqlError>> {
    Box::pin(async move {
        let mut state = context.state();
        let names = name_columns(&mut statement);
        prepared(&mut state, &context.state_weak_ref(), bind::prepare_expressions(statement)?, &names).await
    })
}

/// Plans what an INSERT writes: a list of VALUES has the types of the table's columns.
pub(crate) fn plan_source(context: &SessionContext, mut statement: Statement) -> BoxFuture<'_, Result<Query, SqlError>> {
    Box::pin(async move {
        let mut state = context.state();
        let names = name_columns(&mut statement);
        prepared(&mut state, &context.state_weak_ref(), bind::prepare_source(statement)?, &names).await
    })
}

async fn prepared(state: &mut SessionState, session: &State, statement: Statement, names: &[Option<String>]) -> Result<Query, SqlError> {
    let plan = logical_plan(state, session, statement).await?;
    // Only then do set operations, VALUES and CASE have the types that they will run with.
    let plan = crate::apply::analyzed(state, plan, session).map_err(datafusion_error)?;
    let columns = output_columns(plan.schema().as_arrow(), names);
    Ok(Query { plan, is_optimized: false, columns: Arc::new(columns) })
}

/// Plans a statement with prepared expressions, and refuses what would bypass the session (DDL and DML that the planner would run itself).
async fn logical_plan(state: &mut SessionState, session: &State, statement: Statement) -> Result<LogicalPlan, SqlError> {
    let plan = as_written(state, statement).await?;
    let plan = crate::apply::apply(plan, session)
        .and_then(crate::apart::apply)
        .and_then(crate::truth_values::apply)
        .and_then(crate::only_row::apply)
        .map_err(datafusion_error)?;
    match &plan {
        LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) => {
            Err(SqlError::unsupported("this statement"))
        }
        _ => Ok(plan),
    }
}

/// What the planner makes of a statement with prepared expressions, with all its subqueries and parameters where they were written. `state` is
/// a copy of the session's, for this statement.
pub(crate) async fn as_written(state: &mut SessionState, statement: Statement) -> Result<LogicalPlan, SqlError> {
    Box::pin(with_named_columns(state, statement)).await.map_err(datafusion_error)
}

/// What the planner makes of a statement; see [`NamedColumns`] and [`TrueRelations`].
async fn with_named_columns(state: &mut SessionState, statement: Statement) -> Result<LogicalPlan, DataFusionError> {
    let planned = |statement| PlannerStatement::Statement(Box::new(statement));
    state.register_relation_planner(Arc::new(TrueRelations::default()))?;
    let Some(named) = NamedColumns::of(&statement) else { return Box::pin(state.statement_to_plan(planned(statement))).await };
    let named = Arc::new(named);
    state.register_relation_planner(named.clone())?;
    match Box::pin(state.statement_to_plan(planned(statement.clone()))).await {
        Err(_) => {
            named.turn_off();
            Box::pin(state.statement_to_plan(planned(statement))).await
        }
        plan => plan,
    }
}

/// Optimizes and starts a plan.
pub(crate) async fn start(
    context: &SessionContext,
    query: &Query,
) -> Result<(Arc<dyn ExecutionPlan>, SendableRecordBatchStream), SqlError> {
    let (physical, _) = physical_plan(&context.state(), &context.state_weak_ref(), &query.plan).await?;
    let stream = run(context, query, physical.clone())?;
    Ok((physical, stream))
}

/// A query with all that was made of it.
pub(crate) struct Planned {
    pub(crate) query: Query,
    pub(crate) physical: Arc<dyn ExecutionPlan>,
    /// The optimized plan, where `physical` was made of it.
    pub(crate) optimized: Option<LogicalPlan>,
}

impl Planned {
    pub(crate) fn into_parts(self) -> (Query, Arc<dyn ExecutionPlan>) {
        (self.query, self.physical)
    }
}

/// Plans a query as the client wrote it, up to how it will run.
pub(crate) async fn plan_and_optimize(context: &SessionContext, mut statement: Statement) -> Result<Planned, SqlError> {
    // A copy of the state has all functions in it: one for all that is made of the statement.
    let (mut state, session) = (context.state(), context.state_weak_ref());
    let names = name_columns(&mut statement);
    let query = Box::pin(prepared(&mut state, &session, bind::prepare_expressions(statement)?, &names)).await?;
    let (physical, optimized) = physical_plan(&state, &session, &query.plan).await?;
    Ok(Planned { query, physical, optimized })
}

/// Optimizes a plan: how it will run, and the optimized plan of which that was made, if it was.
async fn physical_plan(
    state: &SessionState,
    session: &State,
    plan: &LogicalPlan,
) -> Result<(Arc<dyn ExecutionPlan>, Option<LogicalPlan>), SqlError> {
    Box::pin(crate::apply::physical_plan(state, plan, session)).await.map_err(datafusion_error)
}

/// How an optimized plan will run.
pub(crate) async fn physical_plan_of_optimized(context: &SessionContext, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    let state = context.state();
    Box::pin(crate::apply::of_optimized(&state, plan)).await.map_err(datafusion_error)
}

/// What operators run with: settings and the node's memory. Functions are in the plan by then.
pub(crate) fn task_context(state: &dyn PlannerSession) -> Arc<TaskContext> {
    let (config, runtime) = (state.config().clone(), state.runtime_env().clone());
    let functions = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
    let context =
        TaskContext::new(None, state.session_id().to_owned(), config, functions.0, functions.1, functions.2, functions.3, runtime);
    Arc::new(context)
}

/// Starts what was made of a plan.
pub(crate) fn run(
    context: &SessionContext,
    query: &Query,
    physical: Arc<dyn ExecutionPlan>,
) -> Result<SendableRecordBatchStream, SqlError> {
    let merges = has_hash_join(physical.as_ref());
    let running = task_context(&*context.state_ref().read());
    let stream = execute_stream(physical.clone(), running).map_err(datafusion_error)?;
    begin_scans(&physical).map_err(datafusion_error)?;
    Ok(if merges { or_merged(context.clone(), query.plan.clone(), query.is_optimized, stream) } else { stream })
}

fn has_hash_join(plan: &dyn ExecutionPlan) -> bool {
    plan.downcast_ref::<HashJoinExec>().is_some() || plan.children().into_iter().any(|child| has_hash_join(child.as_ref()))
}

/// Waits until what a dropped stream held is free, which the next attempt wants: its tasks end a moment after it.
async fn released(pool: &dyn MemoryPool) {
    let (mut held, mut steady) = (pool.reserved(), 0);
    for _ in 0..LOOKS_MAX {
        if held == 0 || steady == STEADY_LOOKS {
            break;
        }
        clock::sleep(LOOK_EVERY).await;
        let now = pool.reserved();
        steady = if now < held { 0 } else { steady + 1 };
        held = now;
    }
}

/// What `stream` gives. A hash join keeps one side in memory: when that has no room for it, and nothing was given yet, the query begins
/// again with joins that sort, which spill.
fn or_merged(
    context: SessionContext,
    plan: LogicalPlan,
    is_optimized: bool,
    stream: SendableRecordBatchStream,
) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let first = async move {
        let mut stream = stream;
        match stream.next().await {
            Some(Err(error)) if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) => {
                drop(stream);
                let mut state = context.state();
                released(state.runtime_env().memory_pool.as_ref()).await;
                tracing::info!(%error, "a hash join does not fit in memory: the query runs again with joins that sort");
                metrics::counter!("quire_sql_merged_joins_total").increment(1);
                let options = state.config_mut().options_mut();
                options.optimizer.prefer_hash_join = false;
                // In a single partition the planner knows no other joins.
                options.execution.target_partitions = options.execution.target_partitions.max(2);
                let physical = match is_optimized {
                    true => crate::apply::of_optimized(&state, &plan).await?,
                    false => crate::apply::physical_plan(&state, &plan, &context.state_weak_ref()).await?.0,
                };
                execute_stream(physical, task_context(&state)).map(StreamExt::boxed)
            }
            Some(first) => Ok(stream::iter([first]).chain(stream).boxed()),
            None => Ok(stream::empty().boxed()),
        }
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(first).try_flatten()))
}

/// What the client is told about a result's columns. `names` are by select item; see [`name_columns`].
pub(crate) fn output_columns(schema: &Schema, names: &[Option<String>]) -> Vec<OutputColumn> {
    // Items before a wildcard count from the left, items after it from the right.
    let wildcards = names.iter().filter(|n| n.is_none()).count();
    let first_wildcard = names.iter().position(Option::is_none).unwrap_or(names.len());
    let total = schema.fields().len();
    let name_of = |i: usize| -> Option<&String> {
        if wildcards == 0 {
            return (names.len() == total).then(|| names[i].as_ref())?;
        }
        if i < first_wildcard {
            return names[i].as_ref();
        }
        let from_right = total - i;
        if wildcards == 1 && from_right <= names.len().saturating_sub(first_wildcard + 1) {
            return names[names.len() - from_right].as_ref();
        }
        None
    };
    schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let name = name_of(i).cloned().unwrap_or_else(|| shown(field.name()).to_string());
            let column_number = field.metadata().get(FIELD_COLUMN_ID).and_then(|id| id.parse().ok()).unwrap_or(0);
            OutputColumn { name, ty: wire_type(field), table_oid: 0, column_number }
        })
        .collect()
}

/// The wire's type for a field of a plan.
pub(crate) fn wire_type(field: &Field) -> WireType {
    let catalog_type = field.metadata().get(crate::system::FIELD_CATALOG_TYPE).map(String::as_str);
    match (catalog_type, field.data_type()) {
        (Some("oid"), DataType::Int64) => return WireType::Oid,
        (Some("name"), DataType::Utf8 | DataType::Utf8View) => return WireType::Name,
        (Some("char"), DataType::Utf8 | DataType::Utf8View) => return WireType::QuotedChar,
        (Some("int2vector"), DataType::List(_)) => return WireType::Vector(SqlType::Int2),
        (Some("oidvector"), DataType::List(_)) => return WireType::Vector(SqlType::Int8),
        _ => {}
    }
    match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::ListView(item) => {
            WireType::Array(SqlType::of_field(item).unwrap_or(SqlType::Text))
        }
        // Counts are never negative and never near the end of a bigint.
        DataType::UInt64 => WireType::Scalar(SqlType::Int8),
        // A computed numeric has no precision of its own to announce.
        DataType::Decimal128(_, scale) if *scale >= 0 && !field.metadata().contains_key(FIELD_SQL_TYPE) => {
            WireType::Scalar(SqlType::Numeric { precision: 38, scale: *scale })
        }
        _ => WireType::Scalar(SqlType::of_field(field).unwrap_or(SqlType::Text)),
    }
}

/// The Arrow type that the wire's type documents.
pub(crate) fn wire_arrow(ty: WireType) -> DataType {
    match ty {
        WireType::Scalar(ty) => ty.arrow(),
        WireType::Array(ty) | WireType::Vector(ty) => DataType::List(Arc::new(Field::new("item", ty.arrow(), true))),
        WireType::Oid => DataType::Int64,
        WireType::Name | WireType::QuotedChar | WireType::Unknown => DataType::Utf8View,
    }
}

/// Converts a batch of a plan's output to the documented Arrow types; a `timestamptz` carries the zone that it is to be shown in.
pub(crate) fn to_wire(batch: &RecordBatch, columns: &[OutputColumn], zone: &Arc<str>) -> Result<RecordBatch, SqlError> {
    let arrays = batch.columns().iter().zip(columns).map(|(array, column)| {
        let array = to_wire_array(array, &wire_arrow(column.ty))?;
        Ok(match column.ty {
            WireType::Scalar(SqlType::Timestamptz) => {
                Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone(zone.clone()))
            }
            _ => array,
        })
    });
    let arrays = arrays.collect::<Result<Vec<ArrayRef>, SqlError>>()?;
    let fields: Vec<Field> = columns.iter().zip(&arrays).map(|(c, a)| Field::new(&c.name, a.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).map_err(|e| SqlError::internal(e.to_string()))
}

fn to_wire_array(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, SqlError> {
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    match array.data_type() {
        DataType::Struct(_) | DataType::Map(_, _) | DataType::Union(_, _) | DataType::RunEndEncoded(_, _) => as_text(array),
        DataType::Duration(_) => {
            cast(array, wanted).or_else(|_| as_text(array).map_err(|e| arrow::error::ArrowError::CastError(e.message))).map_err(cast_error)
        }
        _ => cast(array, wanted).map_err(cast_error),
    }
}

fn cast_error(error: arrow::error::ArrowError) -> SqlError {
    SqlError::new("22003", format!("a result cannot be shown: {error}"))
}

fn as_text(array: &ArrayRef) -> Result<ArrayRef, SqlError> {
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default()).map_err(cast_error)?;
    let mut out = StringViewBuilder::with_capacity(array.len());
    for i in 0..array.len() {
        if array.is_null(i) { out.append_null() } else { out.append_value(formatter.value(i).to_string()) }
    }
    Ok(Arc::new(out.finish()))
}
