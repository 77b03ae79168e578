//! Which of the physical rules run, and in which order: DataFusion's and ours.

mod known_order;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::TreeNode;
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;

use crate::barrier::{self, RaiseBarriers, RemoveBarriers};
use crate::decimals::DecimalArithmetic;
use crate::grouping::Grouping;
use crate::ordered_grouping::{LeafInOrder, OrderedGrouping};
use crate::shared_subplans::{SameLeaf, SharedSubplans};
use known_order::KnownOrder;

/// DataFusion's physical rules with ours in their places among them.
pub fn physical_rules(same_leaf: SameLeaf, leaf_in_order: LeafInOrder) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    // Joins take up the projections above them before the requirements are enforced, which makes operators anew: so there are fewer. What
    // enforcing puts between is moved by the second one.
    let is = |name: &'static str| move |rule: &Arc<dyn PhysicalOptimizerRule + Send + Sync>| rule.name() == name;
    let from = rules.iter().position(is("ProjectionPushdown")).expect("DataFusion has this rule, twice");
    let rule = rules.remove(from);
    let to = rules.iter().position(is("EnsureRequirements")).expect("DataFusion has this rule, before projections are pushed down");
    rules.insert(to, rule);
    let place = rules.iter().position(is("EnsureRequirements")).expect("it is where it was");
    rules[place] = Arc::new(OverOffsets(rules[place].clone()));
    let place = rules.iter().position(is("FilterPushdown")).expect("DataFusion has this rule, before requirements are enforced");
    rules[place] = Arc::new(OfFilters(rules[place].clone()));
    // Plans have their shape by then, and dynamic filters are not yet in the scans: later, two parts alike would differ by what the
    // joins above them filter, and sharing one would lose rows.
    let place = rules.iter().position(is("EnsureCooperative")).expect("DataFusion has this rule, before dynamic filters");
    rules.insert(place, Arc::new(RaiseBarriers));
    rules.insert(place, Arc::new(SharedSubplans::new(same_leaf)));
    // Last: other rules know operators, not what stands for them.
    rules.push(Arc::new(RemoveBarriers));
    rules.push(Arc::new(OrderedGrouping::new(leaf_in_order)));
    rules.push(Arc::new(DecimalArithmetic));
    rules.push(Arc::new(Grouping));
    // First: others go by what is known.
    rules.insert(0, Arc::new(KnownOrder));
    rules
}

/// DataFusion's rule that pushes operators' filters down, for plans that have such an operator: logical rules leave few, and it makes anew what it
/// looks at.
#[derive(Debug)]
struct OfFilters(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for OfFilters {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !plan.exists(|node| Ok(node.is::<FilterExec>()))? {
            return Ok(plan);
        }
        // A condition above an outer join would become one of the other side's column of that name.
        let pushed = self.0.optimize(RaiseBarriers.optimize(plan, config)?, config)?;
        RemoveBarriers.optimize(pushed, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// DataFusion's rule that puts sorts where an order is required, and leaves them out where they are not needed; for OFFSETs, see
/// [`barrier`].
#[derive(Debug)]
struct OverOffsets(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for OverOffsets {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        barrier::before_offsets(plan, |plan| self.0.optimize(plan, config))
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
