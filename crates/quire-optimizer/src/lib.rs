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
pub use estimate::{ColumnEstimate, Estimate, Estimator};

mod shared_subplans;
pub use shared_subplans::{SameLeaf, SharedSubplans, physical_rules};
