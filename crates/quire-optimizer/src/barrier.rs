//! Keeps dynamic filters out of joins whose columns they would confuse.
//!
//! DataFusion 55 finds the column of a filter that it pushes into an operator by its name. A join of a table with itself has two columns of
//! one name, and gets filters meant for the second on the first: rows are lost. While filters are pushed down, such an operator stands behind
//! a barrier that lets none through. Barriers are gone before the plan runs.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Puts barriers up.
#[derive(Debug)]
pub(crate) struct RaiseBarriers;

/// Takes them down.
#[derive(Debug)]
pub(crate) struct RemoveBarriers;

impl PhysicalOptimizerRule for RaiseBarriers {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let raised = plan.transform_up(|node| {
            // An operator with one input has the names of a join below it, which has its barrier.
            let confusing = node.children().len() > 1 && has_namesakes(node.as_ref());
            Ok(if confusing {
                Transformed::yes(Arc::new(Barrier { input: node }) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(node)
            })
        });
        Ok(raised?.data)
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
        let removed = plan.transform_up(|node| {
            let input = node.downcast_ref::<Barrier>().map(|barrier| barrier.input.clone());
            Ok(input.map_or_else(|| Transformed::no(node), Transformed::yes))
        });
        Ok(removed?.data)
    }

    fn name(&self) -> &str {
        "RemoveBarriers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn has_namesakes(plan: &dyn ExecutionPlan) -> bool {
    let schema = plan.schema();
    let mut names = HashSet::new();
    !schema.fields().iter().all(|field| names.insert(field.name()))
}

/// An operator through which no filter goes: what a plan does unless it says otherwise.
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

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
