#![allow(clippy::unwrap_used)]

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream;

use crate::{OptimizerOptions, physical_rules};

const PARTITIONS: usize = 3;
const ROWS: usize = 300;
const ROWS_OF_A_KEY: usize = 3;
const BATCH_ROWS: usize = 16;
/// What scans say of their rows; half as many keys.
const MANY: usize = 10_000_000;

/// A table `t (k, v, w)` that can be read in the order of `k`.
#[derive(Clone, Copy, Debug)]
struct Keyed {
    /// Rows that it is said to have.
    rows: usize,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["k", "v", "w"].map(|name| Field::new(name, DataType::Int64, false)).to_vec()))
}

fn row(number: usize) -> [usize; 3] {
    [number / ROWS_OF_A_KEY, number * 7919 % 11, number % 5]
}

#[async_trait]
impl TableProvider for Keyed {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(&self, _: &dyn Session, projection: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| vec![0, 1, 2]);
        Ok(Arc::new(KeyedScan::new(*self, projection, false)))
    }
}

#[derive(Debug)]
struct KeyedScan {
    table: Keyed,
    projection: Vec<usize>,
    in_order: bool,
    properties: Arc<PlanProperties>,
}

impl KeyedScan {
    fn new(table: Keyed, projection: Vec<usize>, in_order: bool) -> KeyedScan {
        let schema = Arc::new(schema().project(&projection).unwrap());
        let mut equivalences = EquivalenceProperties::new(schema);
        if let Some(column) = projection.iter().position(|&index| index == 0).filter(|_| in_order) {
            let ascending = SortOptions { descending: false, nulls_first: false };
            equivalences.add_ordering([PhysicalSortExpr::new(Arc::new(Column::new("k", column)), ascending)]);
        }
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(PARTITIONS),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        KeyedScan { table, projection, in_order, properties: Arc::new(properties) }
    }

    fn batch(&self, rows: &[[usize; 3]]) -> Result<RecordBatch> {
        let column = |&index: &usize| Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row[index] as i64))) as ArrayRef;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(self.schema(), self.projection.iter().map(column).collect(), &options)?)
    }
}

impl DisplayAs for KeyedScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedScan: in_order={}", self.in_order)
    }
}

impl ExecutionPlan for KeyedScan {
    fn name(&self) -> &str {
        "KeyedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let keys = ColumnStatistics::new_unknown().with_distinct_count(Precision::Inexact(self.table.rows / 2));
        let others = ColumnStatistics::new_unknown().with_distinct_count(Precision::Inexact(11));
        let column = |&index: &usize| if index == 0 { keys.clone() } else { others.clone() };
        Ok(Arc::new(Statistics {
            num_rows: Precision::Inexact(self.table.rows),
            total_byte_size: Precision::Absent,
            column_statistics: self.projection.iter().map(column).collect(),
        }))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let place = |number: usize| if self.in_order { row(number)[0] * PARTITIONS * ROWS_OF_A_KEY / ROWS } else { number % PARTITIONS };
        let rows: Vec<[usize; 3]> = (0..ROWS).filter(|&number| place(number) == partition).map(row).collect();
        let batches: Vec<Result<RecordBatch>> = rows.chunks(BATCH_ROWS).map(|rows| self.batch(rows)).collect();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter(batches))))
    }
}

fn same(a: &dyn ExecutionPlan, b: &dyn ExecutionPlan) -> bool {
    let (Some(a), Some(b)) = (a.downcast_ref::<KeyedScan>(), b.downcast_ref::<KeyedScan>()) else { return false };
    a.projection == b.projection && a.in_order == b.in_order
}

fn in_order(plan: &dyn ExecutionPlan, column: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(scan) = plan.downcast_ref::<KeyedScan>() else { return Ok(None) };
    let is_key = scan.projection.get(column) == Some(&0);
    Ok(is_key.then(|| Arc::new(KeyedScan::new(scan.table, scan.projection.clone(), true)) as Arc<dyn ExecutionPlan>))
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
    context.register_table("t", Arc::new(Keyed { rows })).unwrap();
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
    assert!(lines[filter + 1].starts_with("AggregateExec: mode=SinglePartitioned"), "{shown}");
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
