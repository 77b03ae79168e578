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
pub use estimate::{ColumnEstimate, Estimate, Estimator};

mod join_order;
pub use join_order::JoinOrder;

#[cfg(test)]
mod fixture;

/// DataFusion's rules and ours, each of ours where it finds the plan in the form that it expects.
pub fn optimizer_rules(
    defaults: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
    tables: Arc<dyn TableStatistics>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = defaults;
    // Filters are where they cut most then, and no projections for pruned columns are between the joins yet.
    let after_filters = rules.iter().position(|rule| rule.name() == "push_down_filter").map_or(rules.len(), |position| position + 1);
    rules.insert(after_filters, Arc::new(JoinOrder::new(tables)));
    rules
}
