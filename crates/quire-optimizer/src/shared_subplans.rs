//! A part that occurs more than once in a physical plan is computed once, and each place reads what it gave.
//!
//! DataFusion plans a CTE again for each place that names it. The rule finds the parts that came out alike and puts a [`SharedExec`] on
//! top of each. It looks at the whole plan, scalar sub-queries included, so it does not matter how the query said it.

mod batches;
mod exec;
mod run;
mod same;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateOutputMode};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

use crate::OptimizerOptions;
use exec::{Shared, SharedExec};
use same::{repeatable, same};

/// Whether two leaves of a plan (scans) give the same rows in the same partitions. Only their maker can tell; in doubt, they do not.
pub type SameLeaf = Arc<dyn Fn(&dyn ExecutionPlan, &dyn ExecutionPlan) -> bool + Send + Sync>;

/// Whether what is below is run for several places, by one of them.
pub fn is_shared(plan: &dyn ExecutionPlan) -> bool {
    plan.is::<SharedExec>()
}

/// The rule. It must run before dynamic filters are pushed down; see [`physical_rules`](crate::physical_rules).
pub struct SharedSubplans {
    same_leaf: SameLeaf,
}

impl SharedSubplans {
    pub fn new(same_leaf: SameLeaf) -> SharedSubplans {
        SharedSubplans { same_leaf }
    }
}

impl fmt::Debug for SharedSubplans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSubplans")
    }
}

impl PhysicalOptimizerRule for SharedSubplans {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.extensions.get::<OptimizerOptions>().is_some_and(|options| !options.shared_subplans) {
            return Ok(plan);
        }
        let mut candidates = vec![];
        find(&plan, &mut candidates);
        if candidates.len() < 2 {
            return Ok(plan);
        }
        let mut parts = Parts::of(candidates, &self.same_leaf);
        parts.count(&plan);
        if parts.alike.iter().all(|part| part.uses < 2) {
            return Ok(plan);
        }
        parts.share(plan)
    }

    fn name(&self) -> &str {
        "SharedSubplans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The iterations of a recursive query run its parts again and again, each time on other rows.
fn runs_again(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<RecursiveQueryExec>()
}

/// Whether to keep what this operator gives is cheaper than to run it once more.
fn costly(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.downcast_ref::<AggregateExec>() {
        Some(aggregate) => matches!(aggregate.mode().output_mode(), AggregateOutputMode::Final),
        None => plan.is::<HashJoinExec>() || plan.is::<SortExec>(),
    }
}

/// Costly parts, from the top down.
fn find(plan: &Arc<dyn ExecutionPlan>, found: &mut Vec<Arc<dyn ExecutionPlan>>) {
    if runs_again(plan) {
        return;
    }
    if costly(plan) {
        found.push(plan.clone());
    }
    for child in plan.children() {
        find(child, found);
    }
}

/// Which parts of a plan are alike.
#[derive(Default)]
struct Parts {
    /// By address: the place in `alike`.
    of: HashMap<*const (), usize>,
    alike: Vec<Alike>,
}

/// Parts that are alike.
struct Alike {
    first: Arc<dyn ExecutionPlan>,
    /// How many of them remain when larger parts around them are shared.
    uses: usize,
    /// Set at the first of them.
    shared: Option<(Arc<Shared>, Arc<dyn ExecutionPlan>)>,
}

fn address(plan: &Arc<dyn ExecutionPlan>) -> *const () {
    Arc::as_ptr(plan).cast()
}

impl Parts {
    fn of(candidates: Vec<Arc<dyn ExecutionPlan>>, same_leaf: &SameLeaf) -> Parts {
        let mut parts = Parts::default();
        for plan in candidates.into_iter().filter(repeatable) {
            let known = parts.alike.iter().position(|alike| same(&alike.first, &plan, same_leaf));
            parts.of.insert(address(&plan), known.unwrap_or(parts.alike.len()));
            if known.is_none() {
                parts.alike.push(Alike { first: plan, uses: 0, shared: None });
            }
        }
        parts
    }

    /// Counts uses. What is in the second and later of parts alike will not run, and does not count.
    fn count(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        if runs_again(plan) {
            return;
        }
        if let Some(&part) = self.of.get(&address(plan)) {
            self.alike[part].uses += 1;
            if self.alike[part].uses > 1 {
                return;
            }
        }
        for child in plan.children() {
            self.count(child);
        }
    }

    /// The plan in which parts alike are shared. All of them get the first one's input, so that the readers of a part within them are
    /// the same whichever of them runs.
    fn share(&mut self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if runs_again(&plan) {
            return Ok(plan);
        }
        let part = self.of.get(&address(&plan)).copied().filter(|&part| self.alike[part].uses > 1);
        if let Some((shared, input)) = part.and_then(|part| self.alike[part].shared.as_ref()) {
            return Ok(Arc::new(SharedExec::new(shared.clone(), input.clone())));
        }
        let children: Vec<_> = plan.children().into_iter().cloned().collect();
        let children = children.into_iter().map(|child| self.share(child)).collect::<Result<Vec<_>>>()?;
        let plan = replace_children_if_necessary(plan, children)?;
        let Some(part) = part else { return Ok(plan) };
        let id = 1 + self.alike.iter().filter(|alike| alike.shared.is_some()).count();
        let shared = Arc::new(Shared::new(id));
        self.alike[part].shared = Some((shared.clone(), plan.clone()));
        Ok(Arc::new(SharedExec::new(shared, plan)))
    }
}
