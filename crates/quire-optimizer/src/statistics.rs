use std::fmt::Debug;
use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::logical_expr::TableSource;

/// Where rules learn what a table holds.
pub trait TableStatistics: Debug + Send + Sync {
    /// Rows, and for each column of the table's schema distinct values, NULLs, least and greatest value; `None` for a table of which
    /// nothing is known.
    fn of(&self, table: &dyn TableSource) -> Option<Arc<Statistics>>;
}
