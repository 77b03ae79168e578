//! Correlated sub-queries that stand for a value and might have several rows: `(SELECT x FROM s WHERE s.id = t.id)`.
//!
//! The planner makes a join of them only when an aggregate says that there is one row. So there is one here, which takes the first row and
//! notes whether there are more; the function around it refuses them (21000).

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use crate::apply::rewritten;
use crate::functions::{first_row, only_value};

/// The plan with such sub-queries cut to their only row.
pub(crate) fn apply(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_any(&plan)? {
        return Ok(plan);
    }
    let changed = plan.transform_up_with_subqueries(|node| {
        rewritten(node, |expr, _| match expr {
            Expr::ScalarSubquery(subquery) if may_have_several(&subquery) => Ok(Transformed::yes(only(subquery)?)),
            other => Ok(Transformed::no(other)),
        })
    })?;
    Ok(changed.data)
}

fn has_any(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|e| Ok(matches!(e, Expr::ScalarSubquery(subquery) if may_have_several(subquery))))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

fn may_have_several(subquery: &Subquery) -> bool {
    let plan = subquery.subquery.as_ref();
    !subquery.outer_ref_columns.is_empty() && plan.max_rows().is_none_or(|rows| rows > 1) && !is_aggregated(plan)
}

/// Whether the planner sees an aggregate.
fn is_aggregated(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_aggregated(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_aggregated(&alias.input),
        LogicalPlan::Filter(filter) => matches!(filter.input.as_ref(), LogicalPlan::Aggregate(_)),
        LogicalPlan::Aggregate(_) => true,
        _ => false,
    }
}

fn only(subquery: Subquery) -> Result<Expr> {
    let Subquery { subquery: plan, outer_ref_columns, spans } = subquery;
    let name = plan.schema().field(0).name().clone();
    let values = plan.schema().columns().into_iter().map(Expr::Column).take(1).collect();
    let first = AggregateFunction::new_udf(Arc::new(first_row()), values, false, None, vec![], None);
    let plan = LogicalPlanBuilder::from(plan.as_ref().clone()).aggregate(Vec::<Expr>::new(), [Expr::AggregateFunction(first)])?.build()?;
    let first: Vec<Expr> = plan.schema().columns().into_iter().map(|column| Expr::Column(column).alias(name.as_str())).collect();
    let plan = LogicalPlanBuilder::from(plan).project(first)?.build()?;
    let subquery = Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans });
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(only_value()), vec![subquery])))
}
