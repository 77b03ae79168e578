//! What a relation of FROM determines is put right before the query around it is planned.
//!
//! Of a query that groups by a key, the planner has it group by all that the key determines, so that these columns may be selected, too. What
//! determines what it reads from the relations' schemas, and those of sub-queries, WITH queries and views say too much
//! ([`quire_optimizer::with_true_dependencies`]): the query would be grouped by more than it says.

use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::Result;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::TableFactor;
use quire_optimizer::with_true_dependencies;

/// Has relations planned as they are, and looks at what became of them.
#[derive(Debug, Default)]
pub(crate) struct TrueRelations {
    /// Whether the relation that comes next is the one that is to be planned.
    is_asked: AtomicBool,
}

impl RelationPlanner for TrueRelations {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let may_group = matches!(relation, TableFactor::Derived { .. } | TableFactor::Table { args: None, .. });
        if self.is_asked.swap(false, Ordering::Relaxed) || !may_group {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        self.is_asked.store(true, Ordering::Relaxed);
        let plan = context.plan(relation);
        self.is_asked.store(false, Ordering::Relaxed);
        // The plan has its alias already.
        let planned = PlannedRelation::new(with_true_dependencies(plan?)?, None);
        Ok(RelationPlanning::Planned(Box::new(planned)))
    }
}
