//! Keeps filters out of operators whose columns they would confuse, and orders out of those that skip rows.
//!
//! DataFusion 55 finds the column of a filter that it pushes into an operator by its name. A join of a table with itself has two columns of
//! one name, and gets filters meant for the second on the first: rows are lost. While filters are pushed down, such an operator stands behind
//! a barrier that lets none through.
//!
//! It also moves a sort below an OFFSET, and forgets the OFFSET when it limits a sort to what is read of it: so while it decides what is sorted,
//! there is a barrier before each OFFSET.
//!
//! Barriers are gone before the plan runs.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, JoinType, Result, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{HashJoinExec, JoinOn};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Puts barriers up.
#[derive(Debug)]
pub(crate) struct RaiseBarriers;

/// Takes them down.
#[derive(Debug)]
pub(crate) struct RemoveBarriers;

impl PhysicalOptimizerRule for RaiseBarriers {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        raised(plan, confuses_filters)
    }

    fn name(&self) -> &str {
        "RaiseBarriers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl PhysicalOptimizerRule for RemoveBarriers {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        removed(plan)
    }

    fn name(&self) -> &str {
        "RemoveBarriers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan, treated while barriers stand before its OFFSETs.
pub(crate) fn before_offsets(
    plan: Arc<dyn ExecutionPlan>,
    treat: impl FnOnce(Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let skips = |node: &Arc<dyn ExecutionPlan>| node.downcast_ref::<GlobalLimitExec>().is_some_and(|limit| limit.skip() > 0);
    if !plan.exists(|node| Ok(skips(node)))? {
        return treat(plan);
    }
    removed(treat(raised(plan, skips)?)?)
}

fn raised(plan: Arc<dyn ExecutionPlan>, is_before: impl Fn(&Arc<dyn ExecutionPlan>) -> bool) -> Result<Arc<dyn ExecutionPlan>> {
    let raised = plan.transform_up(|node| {
        Ok(match is_before(&node) {
            true => Transformed::yes(Arc::new(Barrier { input: node }) as Arc<dyn ExecutionPlan>),
            false => Transformed::no(node),
        })
    });
    Ok(raised?.data)
}

fn removed(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let removed = plan.transform_up(|node| {
        let input = node.downcast_ref::<Barrier>().map(|barrier| barrier.input.clone());
        Ok(input.map_or_else(|| Transformed::no(node), Transformed::yes))
    });
    Ok(removed?.data)
}

/// Whether a filter that is pushed into the operator, or through it, may be applied to a column of the same name.
fn confuses_filters(node: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let turned = || join.on().iter().map(|(left, right)| (right.clone(), left.clone())).collect::<JoinOn>();
        let by_key = match join.join_type() {
            JoinType::LeftSemi => confuses_keys(join.on(), join.right()),
            JoinType::RightSemi => confuses_keys(&turned(), join.left()),
            _ => false,
        };
        return by_key || has_namesakes(node.as_ref());
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let input = aggregate.input().schema();
        let is_other = |(key, name): &(Arc<dyn PhysicalExpr>, String)| input.index_of(name).is_ok_and(|found| !is_column(key, found));
        return aggregate.group_expr().expr().iter().any(is_other) || has_namesakes(node.as_ref());
    }
    let (inputs, schema) = (node.children(), node.schema());
    let is_elsewhere = |input: &&Arc<dyn ExecutionPlan>| {
        let of_input = input.schema();
        schema.fields().iter().enumerate().any(|(place, field)| of_input.index_of(field.name()).is_ok_and(|found| found != place))
    };
    if node.is::<UnionExec>() && inputs.iter().any(is_elsewhere) {
        return true;
    }
    // Others have the columns of their one input, which has its barrier.
    (inputs.len() > 1 || node.is::<ProjectionExec>()) && has_namesakes(node.as_ref())
}

/// Whether a filter on a semi join's keys would be applied to another column of the side whose rows it does not give: there, too, it is looked
/// for by the name that it has on the side whose rows it gives.
fn confuses_keys(on: &[(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)], other: &Arc<dyn ExecutionPlan>) -> bool {
    let other = other.schema();
    on.iter().filter_map(|(key, _)| key.downcast_ref::<Column>()).any(|column| {
        let is_its_key = |found| on.iter().any(|(key, other_key)| is_column(key, column.index()) && is_column(other_key, found));
        other.index_of(column.name()).is_ok_and(|found| !is_its_key(found))
    })
}

fn is_column(expr: &Arc<dyn PhysicalExpr>, index: usize) -> bool {
    expr.downcast_ref::<Column>().is_some_and(|column| column.index() == index)
}

fn has_namesakes(plan: &dyn ExecutionPlan) -> bool {
    let schema = plan.schema();
    let mut names = HashSet::new();
    !schema.fields().iter().all(|field| names.insert(field.name()))
}

/// An operator through which no filter goes, and below which no sort is moved: what a plan does unless it says otherwise.
#[derive(Debug)]
struct Barrier {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for Barrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Barrier")
    }
}

impl ExecutionPlan for Barrier {
    fn name(&self) -> &str {
        "Barrier"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return Err(DataFusionError::Internal("a barrier has one input".into())) };
        Ok(Arc::new(Barrier { input }))
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(inputs[0].clone())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
