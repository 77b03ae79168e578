//! Whether two parts of a physical plan compute the same.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::Volatility;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;

use super::SameLeaf;

/// Whether both give the same rows. In doubt, no: an operator that is not known here is like no other.
pub(super) fn same(a: &Arc<dyn ExecutionPlan>, b: &Arc<dyn ExecutionPlan>, same_leaf: &SameLeaf) -> bool {
    let (inputs_of_a, inputs_of_b) = (a.children(), b.children());
    let partitions = |plan: &Arc<dyn ExecutionPlan>| plan.properties().partitioning.partition_count();
    if a.name() != b.name()
        || inputs_of_a.len() != inputs_of_b.len()
        || partitions(a) != partitions(b)
        || a.fetch() != b.fetch()
        || a.schema() != b.schema()
    {
        return false;
    }
    if inputs_of_a.is_empty() {
        return same_leaf(a.as_ref(), b.as_ref());
    }
    same_operator(a.as_ref(), b.as_ref())
        && expressions(a).is_some_and(|of_a| expressions(b).is_some_and(|of_b| of_a == of_b))
        && inputs_of_a.into_iter().zip(inputs_of_b).all(|(a, b)| same(a, b, same_leaf))
}

/// Whether a plan would give the same if it ran again: no `random()`, no `nextval()`.
pub(super) fn repeatable(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let volatile_aggregate = |aggregate: &AggregateExec| {
        aggregate.aggr_expr().iter().any(|function| matches!(function.fun().signature().volatility, Volatility::Volatile))
    };
    !plan.downcast_ref::<AggregateExec>().is_some_and(volatile_aggregate)
        && expressions(plan).is_some_and(|expressions| !expressions.iter().any(is_volatile))
        && plan.children().into_iter().all(repeatable)
}

/// What an operator evaluates, but for the dynamic filter that it makes itself: that follows from the rest.
fn expressions(plan: &Arc<dyn ExecutionPlan>) -> Option<Vec<Arc<dyn PhysicalExpr>>> {
    let made = plan.dynamic_expressions_produced();
    let mut found: Vec<Arc<dyn PhysicalExpr>> = vec![];
    let visited = plan.apply_expressions(&mut |expression| {
        if !made.iter().any(|own| Arc::ptr_eq(own, expression)) {
            found.push(expression.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.ok().map(|_| found)
}

fn both<'a, T: ExecutionPlan>(a: &'a dyn ExecutionPlan, b: &'a dyn ExecutionPlan) -> Option<(&'a T, &'a T)> {
    Some((a.downcast_ref::<T>()?, b.downcast_ref::<T>()?))
}

/// Two operators without their inputs; that their expressions are the same is known or checked elsewhere, and so is `fetch`.
fn same_operator(a: &dyn ExecutionPlan, b: &dyn ExecutionPlan) -> bool {
    if let Some((a, b)) = both::<AggregateExec>(a, b) {
        return a.mode() == b.mode()
            && a.group_expr() == b.group_expr()
            && a.filter_expr() == b.filter_expr()
            && a.limit_options() == b.limit_options()
            && a.aggr_expr().len() == b.aggr_expr().len()
            && a.aggr_expr().iter().zip(b.aggr_expr()).all(|(a, b)| same_function(a, b));
    }
    if let Some((a, b)) = both::<HashJoinExec>(a, b) {
        return a.join_type() == b.join_type()
            && a.partition_mode() == b.partition_mode()
            && a.null_equality() == b.null_equality()
            && a.null_aware == b.null_aware
            && a.projection == b.projection
            && a.on() == b.on()
            && a.filter().map(|f| f.column_indices()) == b.filter().map(|f| f.column_indices());
    }
    if let Some((a, b)) = both::<FilterExec>(a, b) {
        return a.projection() == b.projection();
    }
    if let Some((a, b)) = both::<ProjectionExec>(a, b) {
        return a.expr() == b.expr();
    }
    if let Some((a, b)) = both::<RepartitionExec>(a, b) {
        return a.partitioning() == b.partitioning() && a.preserve_order() == b.preserve_order();
    }
    if let Some((a, b)) = both::<SortExec>(a, b) {
        return a.expr() == b.expr() && a.preserve_partitioning() == b.preserve_partitioning();
    }
    if let Some((a, b)) = both::<SortPreservingMergeExec>(a, b) {
        return a.expr() == b.expr();
    }
    if let Some((a, b)) = both::<GlobalLimitExec>(a, b) {
        return a.skip() == b.skip() && a.fetch() == b.fetch();
    }
    if let Some((a, b)) = both::<LocalLimitExec>(a, b) {
        return a.fetch() == b.fetch();
    }
    both::<CoalescePartitionsExec>(a, b).is_some() || both::<CrossJoinExec>(a, b).is_some() || both::<UnionExec>(a, b).is_some()
}

fn same_function(a: &AggregateFunctionExpr, b: &AggregateFunctionExpr) -> bool {
    a == b
        && a.is_distinct() == b.is_distinct()
        && a.ignore_nulls() == b.ignore_nulls()
        && a.is_reversed() == b.is_reversed()
        && a.order_bys() == b.order_bys()
}
