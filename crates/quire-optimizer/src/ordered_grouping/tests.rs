#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::stub::{StubTable, in_order, same};
use crate::{OptimizerOptions, physical_rules};

const PARTITIONS: usize = 3;
const ROWS: usize = 300;
const ROWS_OF_A_KEY: usize = 3;
const BATCH_ROWS: usize = 16;
/// What scans say of their rows; half as many keys.
const MANY: usize = 10_000_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["k", "v", "w"].map(|name| Field::new(name, DataType::Int64, false)).to_vec()))
}

fn row(number: usize) -> [usize; 3] {
    [number / ROWS_OF_A_KEY, number * 7919 % 11, number % 5]
}

fn batch(rows: &[[usize; 3]]) -> Result<RecordBatch> {
    let column = |index: usize| Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row[index] as i64))) as ArrayRef;
    Ok(RecordBatch::try_new(schema(), (0..3).map(column).collect())?)
}

fn read(partition: usize, in_order: bool) -> BoxStream<'static, Result<RecordBatch>> {
    let place = |number: usize| if in_order { row(number)[0] * PARTITIONS * ROWS_OF_A_KEY / ROWS } else { number % PARTITIONS };
    let rows: Vec<[usize; 3]> = (0..ROWS).filter(|&number| place(number) == partition).map(row).collect();
    let batches: Vec<Result<RecordBatch>> = rows.chunks(BATCH_ROWS).map(batch).collect();
    stream::iter(batches).boxed()
}

/// A table `t (k, v, w)` that can be read in the order of `k`, and that is said to have so many rows.
fn keyed(rows: usize) -> StubTable {
    let distinct = |count| ColumnStatistics::new_unknown().with_distinct_count(Precision::Inexact(count));
    let statistics = Statistics {
        num_rows: Precision::Inexact(rows),
        total_byte_size: Precision::Absent,
        column_statistics: vec![distinct(rows / 2), distinct(11), distinct(11)],
    };
    StubTable { schema: schema(), partitions: PARTITIONS, statistics, read: Arc::new(read) }
}

fn context(rows: usize, ordered_grouping: bool) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(PARTITIONS);
    config.options_mut().extensions.insert(OptimizerOptions { ordered_grouping, ..OptimizerOptions::default() });
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_physical_optimizer_rules(physical_rules(Arc::new(same), Arc::new(in_order)))
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_table("t", Arc::new(keyed(rows))).unwrap();
    context
}

async fn plan(context: &SessionContext, query: &str) -> String {
    let plan = context.sql(query).await.unwrap().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

/// The lines of an answer, sorted.
async fn answer(context: &SessionContext, query: &str) -> Vec<String> {
    let batches = context.sql(query).await.unwrap().collect().await.unwrap();
    let mut lines: Vec<String> = pretty_format_batches(&batches).unwrap().to_string().lines().map(str::to_string).collect();
    lines.sort();
    lines
}

/// So many groupings of a query are in order, rows are divided by a hash so often, and the answer is what it is without the rule.
async fn check(query: &str, in_order: usize, divided: usize) {
    let (with, without) = (context(MANY, true), context(MANY, false));
    let shown = plan(&with, query).await;
    let count = |what: &str| shown.matches(what).count();
    assert_eq!((count("mode=SinglePartitioned"), count("in_order=true")), (in_order, in_order), "{query}\n{shown}");
    assert_eq!(count("partitioning=Hash"), divided, "{query}\n{shown}");
    let plain = plan(&without, query).await;
    assert!(!plain.contains("in_order=true"), "{query}\n{plain}");
    assert_eq!(answer(&with, query).await, answer(&without, query).await, "{query}\n{shown}");
}

#[tokio::test]
async fn groups_in_order_are_the_same() {
    check("SELECT k, sum(v), count(*) FROM t GROUP BY k", 1, 0).await;
    check("SELECT k, sum(v) FROM t WHERE w > 1 GROUP BY k HAVING sum(v) > 9", 1, 0).await;
    check("SELECT w, k, max(v) FROM t GROUP BY w, k", 1, 0).await;
    check("SELECT DISTINCT k FROM t", 1, 0).await;
    check("SELECT x, sum(v + 1) FROM (SELECT k AS x, v FROM t) s GROUP BY x", 1, 0).await;
    check("SELECT k, sum(v) FILTER (WHERE w = 2), avg(v) FROM t GROUP BY k", 1, 0).await;
    check("SELECT k, sum(v) AS s FROM t GROUP BY k ORDER BY s DESC, k LIMIT 7", 1, 0).await;
    check("SELECT s, count(*) FROM (SELECT k, sum(v) AS s FROM t GROUP BY k) q GROUP BY s", 1, 1).await;
}

#[tokio::test]
async fn other_groupings_are_left_alone() {
    check("SELECT w, sum(v) FROM t GROUP BY w", 0, 1).await;
    check("SELECT k / 2, sum(v) FROM t GROUP BY k / 2", 0, 1).await;
    check("SELECT -k, sum(v) FROM t GROUP BY -k", 0, 1).await;
    check("SELECT k, array_agg(v ORDER BY v) FROM t GROUP BY k", 0, 1).await;
    check("SELECT k, sum(v) FROM t GROUP BY ROLLUP (k)", 0, 1).await;
    check("SELECT sum(v) FROM t", 0, 0).await;
}

#[tokio::test]
async fn few_groups_are_hashed() {
    let shown = plan(&context(1000, true), "SELECT k, sum(v) FROM t GROUP BY k").await;
    assert!(shown.contains("in_order=false"), "{shown}");
}

const SUMS: &str = "(SELECT k, sum(v) AS s FROM t GROUP BY k)";
const MOST: &str = "(SELECT k, max(v) AS m FROM t GROUP BY k)";

#[tokio::test]
async fn who_relies_on_the_hash_has_it() {
    check(&format!("SELECT a.k, s, m FROM {SUMS} a JOIN {MOST} b ON a.k = b.k"), 2, 2).await;
    check(&format!("SELECT k, row_number() OVER (PARTITION BY k ORDER BY s), s FROM {SUMS} q"), 1, 1).await;
    // What both sides of a union have in common is kept in DataFusion's plan, and so it must be in ours.
    let union = format!("SELECT k, sum(s) FROM (SELECT k, s FROM {SUMS} a UNION ALL SELECT k, m FROM {MOST} b) q GROUP BY k");
    let (with, without) = (context(MANY, true), context(MANY, false));
    assert!(plan(&with, &union).await.contains("in_order=true"));
    assert_eq!(answer(&with, &union).await, answer(&without, &union).await);
}

#[tokio::test]
async fn rows_are_divided_above_having() {
    let query = format!("SELECT a.k, s, m FROM (SELECT k, s FROM {SUMS} q WHERE s > 9) a JOIN {MOST} b ON a.k = b.k");
    check(&query, 2, 2).await;
    let shown = plan(&context(MANY, true), &query).await;
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    let filter = lines.iter().position(|line| line.starts_with("FilterExec")).unwrap();
    assert!(lines[filter + 1].starts_with("GroupingExec: by=runs, mode=SinglePartitioned"), "{shown}");
    let divided = lines[..filter].iter().rposition(|line| line.starts_with("RepartitionExec: partitioning=Hash")).unwrap();
    assert!(lines[divided + 1..filter].iter().all(|line| line.starts_with("ProjectionExec")), "{shown}");
}

#[tokio::test]
async fn what_is_shared_is_divided_alike_for_all() {
    let query = format!("WITH r AS {SUMS} SELECT a.k, a.s, b.s FROM r a JOIN r b ON a.k = b.k WHERE a.s < (SELECT max(s) FROM r)");
    let (with, without) = (context(MANY, true), context(MANY, false));
    let shown = plan(&with, &query).await;
    assert!(shown.contains("SharedExec") && shown.contains("in_order=true"), "{shown}");
    assert_eq!(answer(&with, &query).await, answer(&without, &query).await);
}
