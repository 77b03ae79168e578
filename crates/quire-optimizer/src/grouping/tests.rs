#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::config::ConfigOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{AggregateUDF, Operator};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{BinaryExpr, col, lit};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;

use super::{Grouping, GroupingExec, Kind};

type Row = (Option<i64>, Option<String>, Option<i64>);

/// Rows sorted by some of their columns, grouped by some.
fn grouped(rows: &[Row], order: &[&str], keys: &[&str]) -> Arc<dyn ExecutionPlan> {
    let fields = [("k", DataType::Int64), ("s", DataType::Utf8View), ("t", DataType::Utf8View), ("v", DataType::Int64)];
    let schema = Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringViewArray>()),
        Arc::new(rows.iter().map(|row| row.2.map(|v| if v > 1 { "some" } else { "others" })).collect::<StringViewArray>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let input = MemorySourceConfig::try_new_exec(&[vec![batch]], schema.clone(), None).unwrap();
    let column = |name: &str| col(name, &schema).unwrap();
    let order = order.iter().map(|name| PhysicalSortExpr::new(column(name), SortOptions::default()));
    let input = Arc::new(SortExec::new(LexOrdering::new(order).unwrap(), input));
    let function = |udaf: Arc<AggregateUDF>| {
        let function = AggregateExprBuilder::new(udaf.clone(), vec![column("v")]).schema(schema.clone()).alias(udaf.name());
        Arc::new(function.build().unwrap())
    };
    let functions = vec![function(sum_udaf()), function(count_udaf()), function(max_udaf())];
    let few: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(column("v"), Operator::Lt, lit(2_i64)));
    let keys = keys.iter().map(|name| (column(name), name.to_string())).collect();
    let keys = PhysicalGroupBy::new_single(keys);
    let aggregate = AggregateExec::try_new(AggregateMode::Single, keys, functions, vec![None, Some(few), None], input, schema.clone());
    Arc::new(aggregate.unwrap())
}

fn answer(plan: Arc<dyn ExecutionPlan>, batch_rows: usize) -> Vec<String> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_batch_size(batch_rows));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(collect(plan, context.task_ctx())).unwrap();
    assert!(batches.iter().all(|batch| batch.num_rows() > 0));
    let mut lines: Vec<String> = pretty_format_batches(&batches).unwrap().to_string().lines().map(str::to_string).collect();
    lines.sort();
    lines
}

/// The plan with its grouping done by the rule.
fn by_rule(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Grouping.optimize(plan.clone(), &ConfigOptions::new()).unwrap()
}

#[test]
fn only_groups_in_order_are_runs() {
    let is_by_runs = |order: &[&str], keys: &[&str]| by_rule(&grouped(&[], order, keys)).is::<GroupingExec>();
    assert!(is_by_runs(&["k"], &["k"]));
    assert!(is_by_runs(&["v", "k"], &["k", "v"]));
    assert!(is_by_runs(&["v", "k"], &["v"]));
    assert!(!is_by_runs(&["v", "k"], &["k"]));
    assert!(!is_by_runs(&["k"], &["k", "v"]));
    // Their texts would have to be kept.
    assert!(!is_by_runs(&["s"], &["s"]));
}

/// A step that gives states, whose keys are short strings, and the step that ends it.
fn in_two_steps(rows: &[Row], keys: &[&str], by_few: bool) -> Arc<dyn ExecutionPlan> {
    let single = grouped(rows, &["v"], keys);
    let single = single.downcast_ref::<AggregateExec>().unwrap();
    let step = |mode, group_by: PhysicalGroupBy, filters: Vec<Option<Arc<dyn PhysicalExpr>>>, input| {
        Arc::new(AggregateExec::try_new(mode, group_by, single.aggr_expr().to_vec(), filters, input, single.input_schema()).unwrap())
    };
    let partial = step(AggregateMode::Partial, single.group_expr().clone(), single.filter_expr().to_vec(), single.input().clone());
    let group_by = partial.group_expr().as_final();
    let partial: Arc<dyn ExecutionPlan> = if by_few { Arc::new(GroupingExec::new(Kind::Few, partial)) } else { partial };
    step(AggregateMode::Final, group_by, vec![None; 3], partial)
}

#[test]
fn more_groups_than_a_batch_has_rows_are_given_in_parts() {
    let rows: Vec<Row> = (0..90).map(|row| (None, Some(format!("{:b}", row * 7 % 30)), Some(row % 4))).collect();
    for keys in [&["s"][..], &["s", "t"]] {
        assert_eq!(answer(in_two_steps(&rows, keys, true), 5), answer(in_two_steps(&rows, keys, false), 5));
    }
}

proptest! {
    #[test]
    fn runs_are_the_groups_of_a_hash_table(
        rows in prop::collection::vec((prop::option::weighted(0.9, 0..8_i64), prop::option::weighted(0.9, "[ab]{0,2}"), prop::option::of(0..4_i64)), 0..60),
        batch_rows in 1..9_usize,
    ) {
        for (order, keys) in [(&["k"][..], &["k"][..]), (&["v", "k"], &["k", "v"]), (&["v"], &["v"])] {
            let plain = grouped(&rows, order, keys);
            let runs = by_rule(&plain);
            prop_assert!(runs.is::<GroupingExec>());
            prop_assert_eq!(answer(runs, batch_rows), answer(plain, batch_rows));
        }
    }

    /// Long strings, NULLs and more groups than are remembered among them.
    #[test]
    fn few_groups_are_those_of_a_hash_table(
        rows in prop::collection::vec((Just(None), prop::option::weighted(0.97, "[ab]{0,2}|[ab]{12,13}|[a-z]"), prop::option::of(0..4_i64)), 0..120),
        batch_rows in 1..30_usize,
    ) {
        for keys in [&["s"][..], &["s", "t"]] {
            prop_assert_eq!(answer(in_two_steps(&rows, keys, true), batch_rows), answer(in_two_steps(&rows, keys, false), batch_rows));
        }
    }
}
