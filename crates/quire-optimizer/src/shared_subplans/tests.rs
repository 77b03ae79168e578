#![allow(clippy::unwrap_used)]

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::exec::{Shared, SharedExec};
use crate::OptimizerOptions;
use crate::physical_rules;
use crate::stub::{StubScan, StubTable, same};

/// Partitions of the test's scans.
const PARTITIONS: usize = 2;
const BATCHES: usize = 10;
const BATCH_ROWS: usize = 100;

/// What a scan gives after its batches.
#[derive(Clone, Copy)]
enum After {
    End,
    Error,
    /// Neither batches nor an end.
    Silence,
}

/// A table `t (k, v)` that counts the partitions read.
struct Counted {
    table: StubTable,
    read: Arc<AtomicUsize>,
}

impl Counted {
    fn new(batches: usize, after: After) -> Counted {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = read.clone();
        let counted = move |partition: usize, _: bool| -> BoxStream<'static, Result<RecordBatch>> {
            counter.fetch_add(1, Ordering::Relaxed);
            let made = move |number| -> Result<RecordBatch> { Ok(batch(partition, number)) };
            let batches = (0..batches).map(made);
            let error = || -> Result<RecordBatch> { Err(DataFusionError::Execution("the scan failed".into())) };
            match after {
                After::End => stream::iter(batches).boxed(),
                After::Error => stream::iter(batches.chain(iter::once_with(error))).boxed(),
                After::Silence => stream::iter(batches).chain(stream::pending()).boxed(),
            }
        };
        let statistics = Statistics::new_unknown(&schema());
        Counted { table: StubTable { schema: schema(), partitions: PARTITIONS, statistics, read: Arc::new(counted) }, read }
    }

    fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, false), Field::new("v", DataType::Int64, false)]))
}

fn batch(partition: usize, number: usize) -> RecordBatch {
    let first = ((partition * BATCHES + number) * BATCH_ROWS) as i64;
    let values = first..first + BATCH_ROWS as i64;
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(values.clone().map(|v| v % 7)));
    RecordBatch::try_new(schema(), vec![keys, Arc::new(Int64Array::from_iter_values(values))]).unwrap()
}

fn in_no_order(_: &dyn ExecutionPlan, _: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    Ok(None)
}

fn context(table: &Counted, shared_subplans: bool) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(PARTITIONS);
    config.options_mut().extensions.insert(OptimizerOptions { shared_subplans, ..OptimizerOptions::default() });
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_physical_optimizer_rules(physical_rules(Arc::new(same), Arc::new(in_no_order)))
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_table("t", Arc::new(table.table.clone())).unwrap();
    context
}

/// The answer, and how many partitions were read for it.
async fn answer(query: &str, table: &Counted, shared_subplans: bool) -> (String, usize) {
    let before = table.read();
    let batches = context(table, shared_subplans).sql(query).await.unwrap().collect().await.unwrap();
    (pretty_format_batches(&batches).unwrap().to_string(), table.read() - before)
}

/// The query reads the table `times` times less when its parts are shared, and answers the same.
async fn reads(query: &str, shared: usize, alone: usize) {
    let table = Counted::new(BATCHES, After::End);
    let (with, read_with) = answer(query, &table, true).await;
    let (without, read_without) = answer(query, &table, false).await;
    assert_eq!(with, without, "{query}");
    assert_eq!((read_with, read_without), (shared * PARTITIONS, alone * PARTITIONS), "{query}");
}

const SUMS: &str = "WITH r AS (SELECT k, sum(v) AS total FROM t GROUP BY k) ";

#[tokio::test]
async fn a_part_in_from_and_in_a_scalar_sub_query_runs_once() {
    reads(&format!("{SUMS} SELECT k, total FROM r WHERE total = (SELECT max(total) FROM r)"), 1, 2).await;
}

#[tokio::test]
async fn a_part_joined_with_itself_runs_once() {
    reads(&format!("{SUMS} SELECT a.k, a.total, b.total FROM r a JOIN r b ON a.k = b.k ORDER BY 1"), 1, 2).await;
}

#[tokio::test]
async fn parts_within_parts_run_once() {
    let nested = ", s AS (SELECT total, count(*) AS c FROM r GROUP BY total)
        SELECT (SELECT max(c) FROM s), (SELECT min(c) FROM s), (SELECT max(total) FROM r)";
    reads(&format!("{SUMS} {nested}"), 1, 3).await;
}

#[tokio::test]
async fn what_differs_is_not_shared() {
    reads("SELECT (SELECT sum(v) FROM t WHERE k = 1) AS a, (SELECT sum(v) FROM t WHERE k = 2) AS b", 2, 2).await;
    reads("SELECT (SELECT sum(v) FROM t) AS a, (SELECT max(v) FROM t) AS b", 2, 2).await;
}

#[tokio::test]
async fn what_is_random_is_not_shared() {
    let table = Counted::new(BATCHES, After::End);
    let query = "WITH r AS (SELECT k, max(random()) AS m FROM t GROUP BY k) SELECT count(*) FROM r a JOIN r b ON a.m = b.m";
    assert_eq!(answer(query, &table, true).await.1, 2 * PARTITIONS);
}

#[tokio::test]
async fn nothing_to_read() {
    let table = Counted::new(0, After::End);
    let query = format!("{SUMS} SELECT k, total FROM r WHERE total = (SELECT max(total) FROM r)");
    let (with, read) = answer(&query, &table, true).await;
    assert_eq!(with, answer(&query, &table, false).await.0);
    assert_eq!(read, PARTITIONS);
}

#[tokio::test]
async fn explain_says_what_is_shared() {
    let table = Counted::new(BATCHES, After::End);
    let query = format!("{SUMS} SELECT k, total FROM r WHERE total = (SELECT max(total) FROM r)");
    let plan = context(&table, true).sql(&query).await.unwrap().create_physical_plan().await.unwrap();
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    assert_eq!(shown.matches("SharedExec: id=1").count(), 2, "{shown}");
}

#[tokio::test]
async fn an_error_fails_the_query() {
    let table = Counted::new(BATCHES, After::Error);
    let query = format!("{SUMS} SELECT a.k, a.total, b.total FROM r a JOIN r b ON a.k = b.k");
    let error = context(&table, true).sql(&query).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("the scan failed"), "{error}");
}

/// The operator itself, in so many places.
fn places(table: &Counted, count: usize) -> Vec<Arc<dyn ExecutionPlan>> {
    let input: Arc<dyn ExecutionPlan> = Arc::new(StubScan::new(table.table.clone(), vec![0, 1], false));
    let shared = Arc::new(Shared::new(1));
    (0..count).map(|_| Arc::new(SharedExec::new(shared.clone(), input.clone())) as Arc<dyn ExecutionPlan>).collect()
}

async fn values(stream: SendableRecordBatchStream) -> Result<Vec<i64>> {
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    let all = concat_batches(&schema(), &batches)?;
    Ok(all.column(1).as_primitive::<Int64Type>().values().to_vec())
}

fn expected(partition: usize) -> Vec<i64> {
    let first = (partition * BATCHES * BATCH_ROWS) as i64;
    (first..first + (BATCHES * BATCH_ROWS) as i64).collect()
}

#[tokio::test]
async fn readers_read_the_same_one_after_the_other_and_together() {
    let table = Counted::new(BATCHES, After::End);
    let places = places(&table, 3);
    let context = SessionContext::new().task_ctx();
    for partition in 0..PARTITIONS {
        assert_eq!(values(places[0].execute(partition, context.clone()).unwrap()).await.unwrap(), expected(partition));
    }
    for partition in 0..PARTITIONS {
        let [one, other] = [1, 2].map(|place| places[place].execute(partition, context.clone()).unwrap());
        let (one, other) = futures::join!(values(one), values(other));
        assert_eq!((one.unwrap(), other.unwrap()), (expected(partition), expected(partition)));
    }
    assert_eq!(table.read(), PARTITIONS);
    let reused: Vec<usize> = places.iter().map(|p| p.metrics().unwrap().sum_by_name("reused").unwrap().as_usize()).collect();
    assert_eq!(reused, [0, PARTITIONS, PARTITIONS]);
}

#[tokio::test]
async fn a_plan_that_runs_again_reads_again() {
    let table = Counted::new(BATCHES, After::End);
    let places = places(&table, 2);
    let context = SessionContext::new().task_ctx();
    for runs in 1..3 {
        for place in &places {
            assert_eq!(values(place.execute(1, context.clone()).unwrap()).await.unwrap(), expected(1));
        }
        assert_eq!(table.read(), runs * PARTITIONS);
    }
}

#[tokio::test]
async fn what_memory_cannot_hold_is_in_files() {
    let table = Counted::new(BATCHES, After::End);
    let places = places(&table, 2);
    // Three batches of 100 rows of two bigints.
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(3 * BATCH_ROWS * 16, 1.0).build_arc().unwrap();
    let context = SessionContext::new_with_config_rt(SessionConfig::new(), runtime.clone()).task_ctx();
    for place in &places {
        for partition in 0..PARTITIONS {
            assert_eq!(values(place.execute(partition, context.clone()).unwrap()).await.unwrap(), expected(partition));
        }
    }
    assert_eq!(table.read(), PARTITIONS);
    assert!(places[0].metrics().unwrap().spill_count().unwrap() > 0);
    assert_eq!(runtime.memory_pool.reserved(), 0, "all have read all");
}

#[tokio::test]
async fn an_error_reaches_every_reader() {
    let table = Counted::new(BATCHES, After::Error);
    let places = places(&table, 2);
    let context = SessionContext::new().task_ctx();
    for place in &places {
        let error = values(place.execute(0, context.clone()).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("the scan failed"), "{error}");
    }
    assert_eq!(table.read(), PARTITIONS);
}

#[tokio::test]
async fn a_reader_that_leaves_stops_nobody_and_waits_for_nobody() {
    let table = Counted::new(BATCHES, After::Silence);
    let places = places(&table, 2);
    let context = SessionContext::new().task_ctx();
    let mut leaves = places[0].execute(0, context.clone()).unwrap();
    leaves.next().await.unwrap().unwrap();
    drop(leaves);
    let mut stays = places[1].execute(0, context.clone()).unwrap();
    for _ in 0..BATCHES {
        stays.next().await.unwrap().unwrap();
    }
    // The next batch never comes: who waits for it can be dropped all the same.
    assert!(futures::poll!(stays.next()).is_pending());
    drop(stays);
    drop(places);
}

#[tokio::test]
async fn what_is_not_read_is_not_run() {
    let table = Counted::new(BATCHES, After::End);
    let places = places(&table, 2);
    let streams: Vec<_> = places.iter().map(|place| place.execute(0, SessionContext::new().task_ctx()).unwrap()).collect();
    drop(streams);
    assert_eq!(table.read(), 0);
}
