//! For tests: TPC-H's tables at scale 1, as statistics without rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::optimizer::Optimizer;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::{OptimizerOptions, TableStatistics, optimizer_rules};

/// Statistics of tables, which are known by the names of their first columns.
#[derive(Debug, Default)]
pub(crate) struct Known(pub(crate) HashMap<String, Arc<Statistics>>);

impl TableStatistics for Known {
    fn of(&self, table: &dyn TableSource) -> Option<Arc<Statistics>> {
        self.0.get(table.schema().field(0).name()).cloned()
    }
}

/// A session with our rules behind DataFusion's.
pub(crate) fn context(tables: Arc<dyn TableStatistics>, join_reordering: bool) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().optimizer.max_passes = 1;
    config.options_mut().extensions.insert(OptimizerOptions { join_reordering, ..OptimizerOptions::default() });
    let rules = optimizer_rules(Optimizer::new().rules, tables);
    let state = SessionStateBuilder::new().with_config(config).with_default_features().with_optimizer_rules(rules).build();
    SessionContext::new_with_state(state)
}

/// A column: name, type, different values, least and greatest.
type Column = (&'static str, DataType, usize, Option<(i64, i64)>);

fn money() -> DataType {
    DataType::Decimal128(15, 2)
}

fn tables() -> Vec<(&'static str, usize, Vec<Column>)> {
    let key = |name, distinct: usize| (name, DataType::Int64, distinct, Some((1, distinct as i64)));
    let text = |name, distinct| (name, DataType::Utf8, distinct, None);
    let date = |name| (name, DataType::Date32, 2500, Some((8035, 10560)));
    vec![
        ("region", 5, vec![key("r_regionkey", 5), text("r_name", 5)]),
        ("nation", 25, vec![key("n_nationkey", 25), text("n_name", 25), key("n_regionkey", 5)]),
        ("supplier", 10_000, vec![key("s_suppkey", 10_000), text("s_name", 10_000), key("s_nationkey", 25)]),
        ("customer", 150_000, vec![key("c_custkey", 150_000), text("c_name", 150_000), key("c_nationkey", 25), text("c_mktsegment", 5)]),
        (
            "orders",
            1_500_000,
            vec![
                key("o_orderkey", 1_500_000),
                key("o_custkey", 100_000),
                text("o_orderstatus", 3),
                ("o_totalprice", money(), 1_400_000, Some((850, 555_000))),
                date("o_orderdate"),
            ],
        ),
        (
            "lineitem",
            6_001_215,
            vec![
                key("l_orderkey", 1_500_000),
                key("l_partkey", 200_000),
                key("l_suppkey", 10_000),
                ("l_quantity", money(), 50, Some((1, 50))),
                ("l_extendedprice", money(), 900_000, Some((900, 105_000))),
                date("l_shipdate"),
                date("l_commitdate"),
                date("l_receiptdate"),
            ],
        ),
        ("part", 200_000, vec![key("p_partkey", 200_000), text("p_name", 200_000), text("p_type", 150)]),
        (
            "partsupp",
            800_000,
            vec![key("ps_partkey", 200_000), key("ps_suppkey", 10_000), ("ps_supplycost", money(), 100_000, Some((1, 1000)))],
        ),
    ]
}

fn scalar(data_type: &DataType, value: i64) -> ScalarValue {
    match data_type {
        DataType::Date32 => ScalarValue::Date32(Some(value as i32)),
        DataType::Decimal128(precision, scale) => ScalarValue::Decimal128(Some(i128::from(value) * 100), *precision, *scale),
        _ => ScalarValue::Int64(Some(value)),
    }
}

pub(crate) fn tpch_statistics() -> Arc<Known> {
    let mut known = Known::default();
    for (_, rows, columns) in tables() {
        let first = columns[0].0.to_owned();
        let column = |(_, data_type, distinct, bounds): Column| {
            let mut statistics =
                ColumnStatistics::new_unknown().with_null_count(Precision::Exact(0)).with_distinct_count(Precision::Inexact(distinct));
            if let Some((min, max)) = bounds {
                statistics.min_value = Precision::Inexact(scalar(&data_type, min));
                statistics.max_value = Precision::Inexact(scalar(&data_type, max));
            }
            statistics
        };
        let column_statistics = columns.into_iter().map(column).collect();
        let statistics = Statistics { num_rows: Precision::Exact(rows), total_byte_size: Precision::Absent, column_statistics };
        known.0.insert(first, Arc::new(statistics));
    }
    Arc::new(known)
}

/// A session that knows TPC-H's tables.
pub(crate) fn tpch(join_reordering: bool) -> SessionContext {
    let context = context(tpch_statistics(), join_reordering);
    for (name, _, columns) in tables() {
        let fields: Vec<Field> = columns.into_iter().map(|(name, data_type, _, _)| Field::new(name, data_type, true)).collect();
        let table = MemTable::try_new(Arc::new(Schema::new(fields)), vec![vec![]]).expect("a schema");
        context.register_table(name, Arc::new(table)).expect("a new name");
    }
    context
}

/// A query's optimized plan.
pub(crate) async fn optimized(context: &SessionContext, sql: &str) -> LogicalPlan {
    let frame = Box::pin(context.sql(sql)).await.expect("a valid query");
    frame.into_optimized_plan().expect("a plan")
}
