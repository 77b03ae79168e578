//! Optimizer rules that use what the manifests know of the data, on top of DataFusion's own.
//!
//! Rules are general: they look at a plan's shape and at statistics, never at names. Each can be switched off
//! ([`OptimizerOptions`]; `SET quire.join_reordering = off`), and none may change an answer.
#![forbid(unsafe_code)]

use std::sync::Arc;

use datafusion::optimizer::OptimizerRule;

mod options;
pub use options::OptimizerOptions;

mod statistics;
pub use statistics::TableStatistics;

mod estimate;
pub use estimate::{ColumnEstimate, Estimate, Estimator, selectivity};

mod join_order;
pub use join_order::JoinOrder;

mod build_side;
pub use build_side::with_build_sides;

mod null_keys;
pub use null_keys::with_null_keys;

mod barrier;
mod cross_joins;
mod decimals;
mod magic_set;
mod rule;
mod semi_join;
mod shape;

mod ordered_grouping;
pub use ordered_grouping::LeafInOrder;

mod shared_subplans;
pub use shared_subplans::{SameLeaf, SharedSubplans, is_shared, physical_rules};

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod stub;

#[cfg(test)]
mod subquery_tests;

/// DataFusion's rules with ours among them.
///
/// Ours follow the rule that pushes filters down: then a relation's filters stand at the relation, which the estimates need, and no
/// projections for pruned columns are between the joins yet. What ours leave of columns that nobody reads is removed by the rules after them.
pub fn optimizer_rules(
    defaults: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
    tables: Arc<dyn TableStatistics>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let own = own_rules(&tables);
    let mut rules = Vec::with_capacity(defaults.len() + own.len());
    for rule in defaults {
        match rule.name() {
            "push_down_filter" => {
                rules.push(rule);
                rules.extend(own.iter().cloned());
            }
            "extract_equijoin_predicate" => rules.push(Arc::new(null_keys::OrdinaryKeys(rule))),
            "eliminate_cross_join" => rules.push(Arc::new(cross_joins::WithTwoInputs(rule))),
            _ => rules.push(rule),
        }
    }
    rules
}

/// Our rules in their order: a join that has sunk is one relation less to restrict, and a set that restricts is one more to order.
fn own_rules(tables: &Arc<dyn TableStatistics>) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(semi_join::SemiJoinPushdown::new(tables.clone())),
        Arc::new(magic_set::MagicSet::new(tables.clone())),
        Arc::new(JoinOrder::new(tables.clone())),
    ]
}
