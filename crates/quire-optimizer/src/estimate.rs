//! How many rows a plan gives, and how many different values its columns have.

use std::sync::Arc;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::TableStatistics;

/// What is known, or guessed, of what a plan gives.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Rows; at least 1 where anything is divided by it.
    pub rows: f64,
    /// One for each field of the plan's schema.
    pub columns: Vec<ColumnEstimate>,
}

/// What is known, or guessed, of one column.
#[derive(Clone, Debug)]
pub struct ColumnEstimate {
    /// Different values, NULL not counted; never more than the rows.
    pub distinct: f64,
    /// The share of rows that are NULL, 0 to 1.
    pub nulls: f64,
    pub min: Option<ScalarValue>,
    pub max: Option<ScalarValue>,
}

/// Estimates plans from table statistics.
#[derive(Clone, Debug)]
pub struct Estimator {
    tables: Arc<dyn TableStatistics>,
}

impl Estimator {
    pub fn new(tables: Arc<dyn TableStatistics>) -> Estimator {
        Estimator { tables }
    }

    /// What `plan` gives.
    pub fn estimate(&self, _plan: &LogicalPlan) -> Estimate {
        unimplemented!("{:?}", self.tables)
    }

    /// The share of rows, 0 to 1, for which `predicate` (over `schema`, of which `input` tells) is true.
    pub fn selectivity(&self, _predicate: &Expr, _schema: &DFSchema, _input: &Estimate) -> f64 {
        unimplemented!()
    }
}
