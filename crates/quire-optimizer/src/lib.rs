//! Optimizer rules that use what the manifests know of the data, on top of DataFusion's own.
//!
//! Rules are general: they look at a plan's shape and at statistics, never at names. Each can be switched off
//! ([`OptimizerOptions`]; `SET quire.join_reordering = off`), and none may change an answer.
#![forbid(unsafe_code)]

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

mod passes;
pub use passes::optimizer_rules;

mod dependencies;
pub use dependencies::with_true_dependencies;

mod barrier;
mod conditions;
mod cross_joins;
mod decimals;
mod grouping;
mod magic_set;
mod rule;
mod semi_join;
mod shape;

mod physical_rules;
pub use physical_rules::physical_rules;

mod ordered_grouping;
pub use ordered_grouping::LeafInOrder;

mod shared_subplans;
pub use shared_subplans::{SameLeaf, SharedSubplans, is_shared};

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod stub;

#[cfg(test)]
mod subquery_tests;
