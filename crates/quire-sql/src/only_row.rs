//! Sub-queries that stand for a value and might have several rows, or none: `(SELECT x FROM s WHERE s.id = t.id)`.
//!
//! The planner makes a join of them only when an aggregate says that there is one row. So there is one here, which takes the first row and
//! notes whether there are more; the function around it refuses them (21000). That row is NULL where there was none.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};

use crate::apply::rewritten;
use crate::functions::{first_row, only_value};

/// What the value is called within the sub-query: by its own name it might be taken for the column that a condition pulls out of it.
const ONLY: &str = "quire:only";

/// The plan with such sub-queries cut to their only row.
pub(crate) fn apply(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_any(&plan)? {
        return Ok(plan);
    }
    let changed = plan.transform_up_with_subqueries(|node| {
        rewritten(node, |expr, _| match expr {
            Expr::ScalarSubquery(subquery) if is_to_be_cut(&subquery) => Ok(Transformed::yes(only(subquery)?)),
            other => Ok(Transformed::no(other)),
        })
    })?;
    Ok(changed.data)
}

fn has_any(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|e| Ok(matches!(e, Expr::ScalarSubquery(subquery) if is_to_be_cut(subquery))))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

/// Whether it might have several rows, or none although the planner, which goes by its column, takes it for a value that is never NULL.
fn is_to_be_cut(subquery: &Subquery) -> bool {
    let plan = subquery.subquery.as_ref();
    let is_correlated = !subquery.outer_ref_columns.is_empty();
    let seems_to_have_several = plan.max_rows().is_none_or(|rows| rows > 1) || compares_types(plan);
    let may_have_several = is_correlated && seems_to_have_several && !is_aggregated(plan);
    let seems_never_null = plan.schema().fields().first().is_some_and(|field| !field.is_nullable());
    may_have_several || (seems_never_null && !has_a_row(plan))
}

/// Whether something is compared with a column of the query around it that is of another type. The planner converts it, and does not know then
/// that a key which is converted finds one row.
fn compares_types(plan: &LogicalPlan) -> bool {
    let of_types = |node: &LogicalPlan| {
        let LogicalPlan::Filter(filter) = node else { return Ok(false) };
        let schema = filter.input.schema();
        Ok(split_conjunction(&filter.predicate).into_iter().any(|condition| match condition {
            Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
                condition.contains_outer() && left.get_type(schema).ok() != right.get_type(schema).ok()
            }
            _ => false,
        }))
    };
    plan.exists(of_types).unwrap_or(false)
}

/// Whether it has a row in any case.
pub(crate) fn has_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => has_a_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_a_row(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(relation) => relation.produce_one_row,
        _ => false,
    }
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
    let values = plan.schema().columns().into_iter().map(Expr::Column).take(1).collect();
    let first = AggregateFunction::new_udf(Arc::new(first_row()), values, false, None, vec![], None);
    let plan = LogicalPlanBuilder::from(plan.as_ref().clone()).aggregate(Vec::<Expr>::new(), [Expr::AggregateFunction(first)])?.build()?;
    let first: Vec<Expr> = plan.schema().columns().into_iter().map(|column| Expr::Column(column).alias(ONLY)).collect();
    let plan = LogicalPlanBuilder::from(plan).project(first)?.build()?;
    let subquery = Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans });
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(only_value()), vec![subquery])))
}
