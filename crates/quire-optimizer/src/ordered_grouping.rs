//! Rows are grouped as they come where a table lies in the order of what they are grouped by.
//!
//! DataFusion groups in two steps: each partition what it reads, then, divided by a hash of the keys, all of them. For millions of groups
//! that is two hash tables which no cache holds. Where a scan can give its rows in the order of a key, with all rows of one key in one
//! partition, a partition's groups are final, and a group is finished as soon as the next key comes: one step, without a table to speak of.
//!
//! What is above must not notice. The rows are the same, but they are divided among partitions otherwise: where a node above may rely on
//! the hash of the keys, rows are divided by it again, above HAVING, which mostly leaves few groups of many. Which nodes do not rely on it
//! is said here; all others may.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::config::ConfigOptions;
use datafusion::physical_expr::expressions::{Column, UnKnownColumn};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, InputOrderMode, Partitioning, replace_children_if_necessary};

use crate::OptimizerOptions;

/// A leaf of a plan (a scan) that gives the same rows, in as many partitions, ascending by an output column, all rows with one value of it
/// in one partition; `None` where it cannot. Only its maker can tell.
pub type LeafInOrder = Arc<dyn Fn(&dyn ExecutionPlan, usize) -> Result<Option<Arc<dyn ExecutionPlan>>> + Send + Sync>;

/// For fewer groups than this hash tables stay in the caches of a core, and order gains nothing.
const GROUPS_MIN: usize = 100_000;

/// The rule. It must run when plans have their final shape: it knows the operators of that.
pub(crate) struct OrderedGrouping {
    leaf_in_order: LeafInOrder,
}

impl OrderedGrouping {
    pub(crate) fn new(leaf_in_order: LeafInOrder) -> OrderedGrouping {
        OrderedGrouping { leaf_in_order }
    }
}

impl fmt::Debug for OrderedGrouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrderedGrouping")
    }
}

impl PhysicalOptimizerRule for OrderedGrouping {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.extensions.get::<OptimizerOptions>().is_some_and(|options| !options.ordered_grouping) {
            return Ok(plan);
        }
        // Whoever reads the whole plan's partitions takes them as they are.
        self.rewrite(&plan, false)
    }

    fn name(&self) -> &str {
        "OrderedGrouping"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl OrderedGrouping {
    /// The plan with groupings in order; `relied_on` when a node above may rely on which rows are in which of its partitions.
    fn rewrite(&self, plan: &Arc<dyn ExecutionPlan>, relied_on: bool) -> Result<Arc<dyn ExecutionPlan>> {
        if plan.children().is_empty() {
            return Ok(plan.clone());
        }
        let new = match self.grouped_in_order(plan)? {
            Some(grouped) => grouped,
            None => {
                let relied_on = relies_on_input(plan, relied_on);
                let inputs = plan.children().into_iter().map(|input| self.rewrite(input, relied_on));
                replace_children_if_necessary(plan.clone(), inputs.collect::<Result<Vec<_>>>()?)?
            }
        };
        let (before, after) = (plan.output_partitioning(), new.output_partitioning());
        if Arc::ptr_eq(plan, &new) || !relied_on || !is_known(before) || before == after {
            return Ok(new);
        }
        Ok(Arc::new(RepartitionExec::try_new(new, before.clone())?))
    }

    /// The same grouping in one step over a leaf in order; `None` for another node, or where it cannot be had or is not worth while.
    fn grouped_in_order(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(partial) = two_steps(plan) else { return Ok(None) };
        let expected = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
        if expected.num_rows.get_value().is_none_or(|groups| *groups < GROUPS_MIN) {
            return Ok(None);
        }
        for (key, _) in partial.group_expr().expr() {
            // An expression over the column will not do: rows with one value of it may be in two partitions.
            let Some(column) = key.downcast_ref::<Column>() else { continue };
            let Some(input) = self.in_order(partial.input(), column.index())? else { continue };
            let grouped = AggregateExec::try_new(
                AggregateMode::SinglePartitioned,
                partial.group_expr().clone(),
                partial.aggr_expr().to_vec(),
                partial.filter_expr().to_vec(),
                input,
                partial.input_schema(),
            )?;
            let partitions = |plan: &dyn ExecutionPlan| plan.properties().partitioning.partition_count();
            let as_before = grouped.schema() == plan.schema() && partitions(&grouped) == partitions(plan.as_ref());
            if as_before && *grouped.input_order_mode() != InputOrderMode::Linear {
                return Ok(Some(Arc::new(grouped)));
            }
        }
        Ok(None)
    }

    /// The same operators over a leaf that is in the order of one of their columns.
    fn in_order(&self, plan: &Arc<dyn ExecutionPlan>, column: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let children = plan.children();
        let [input] = children[..] else {
            return if children.is_empty() { (self.leaf_in_order)(plan.as_ref(), column) } else { Ok(None) };
        };
        let Some(column) = column_of_input(plan, column) else { return Ok(None) };
        let Some(input) = self.in_order(input, column)? else { return Ok(None) };
        replace_children_if_necessary(plan.clone(), vec![input]).map(Some)
    }
}

/// Whether rows are divided by a hash that a node above can name: of columns that are all still there.
fn is_known(partitioning: &Partitioning) -> bool {
    matches!(partitioning, Partitioning::Hash(keys, _) if keys.iter().all(|key| !key.is::<UnKnownColumn>()))
}

/// The first step of a grouping of which the node is the second, if one step can take the place of both.
fn two_steps(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    let last = plan.downcast_ref::<AggregateExec>().filter(|last| *last.mode() == AggregateMode::FinalPartitioned)?;
    let partial = last.input().downcast_ref::<RepartitionExec>()?.input().downcast_ref::<AggregateExec>()?;
    let (first, second) = (partial.group_expr(), last.group_expr());
    let same = *partial.mode() == AggregateMode::Partial
        && first.is_single()
        && second.is_single()
        && first.output_exprs() == second.input_exprs()
        && partial.aggr_expr() == last.aggr_expr();
    // A limit leaves out groups, and an aggregate with an order of its own depends on what comes when.
    let plain = partial.limit_options().is_none()
        && last.limit_options().is_none()
        && partial.aggr_expr().iter().all(|function| function.order_bys().is_empty());
    (same && plain).then_some(partial)
}

/// Whether an operator gives rows of its input as they come, with columns of it and others.
fn passes_on(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<FilterExec>() || plan.is::<ProjectionExec>() || plan.is::<CooperativeExec>()
}

/// Which column of its input such an operator shows as its column, unchanged.
fn column_of_input(plan: &Arc<dyn ExecutionPlan>, column: usize) -> Option<usize> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return projection.expr().get(column)?.expr.downcast_ref::<Column>().map(Column::index);
    }
    let kept = plan.downcast_ref::<FilterExec>().and_then(|filter| filter.projection().as_ref());
    match kept {
        Some(kept) => kept.get(column).copied(),
        None => passes_on(plan).then_some(column),
    }
}

/// Whether an operator, or a node above it, may rely on which rows are in which partition of its inputs.
fn relies_on_input(plan: &Arc<dyn ExecutionPlan>, relied_on: bool) -> bool {
    // They divide rows anew.
    if plan.is::<RepartitionExec>() || plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>() {
        return false;
    }
    // Rows can as well be divided above it, where they may be fewer, unless that mixes up an order.
    if passes_on(plan) && plan.output_ordering().is_none() {
        return false;
    }
    let is_partial = plan.downcast_ref::<AggregateExec>().is_some_and(|aggregate| *aggregate.mode() == AggregateMode::Partial);
    match passes_on(plan) || plan.is::<SortExec>() || is_partial {
        // These take each partition as it is.
        true => relied_on,
        false => true,
    }
}
