//! EXISTS and IN where a value is asked for: `SELECT id, EXISTS (SELECT …) FROM t`.
//!
//! The planner makes joins of them in a filter only. In a select list they are counts of rows, which it knows how to compute for all rows of
//! the query around them at once.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, Result, ScalarValue, Spans};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{Distinct, FetchType, SkipType, Subquery};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};

use crate::apply::rewritten;

/// The rows among which a value is looked for.
const AMONG: &str = "quire:among";

/// The plan with counts for such expressions of its select lists.
pub(crate) fn apply(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_any(&plan)? {
        return Ok(plan);
    }
    let changed = plan.transform_up_with_subqueries(|node| {
        if !matches!(node, LogicalPlan::Projection(_)) {
            return Ok(Transformed::no(node));
        }
        rewritten(node, |expr, inputs| match expr {
            Expr::Exists(Exists { ref subquery, .. }) | Expr::InSubquery(InSubquery { ref subquery, .. }) if !can_be_counted(subquery)? => {
                Ok(Transformed::no(expr))
            }
            Expr::Exists(Exists { subquery, negated }) => {
                let exists = some(rows_of(&subquery)?)?;
                Ok(Transformed::yes(if negated { !exists } else { exists }))
            }
            Expr::InSubquery(within) => Ok(Transformed::yes(is_among(within, inputs)?)),
            other => Ok(Transformed::no(other)),
        })
    })?;
    Ok(changed.data)
}

fn has_any(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if matches!(node, LogicalPlan::Projection(_)) {
            node.apply_expressions(|expr| {
                found |= expr.exists(|e| Ok(matches!(e, Expr::Exists(_) | Expr::InSubquery(_))))?;
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether a count of a sub-query's rows may stand for it. What is counted or numbered within it for the row around it, the planner would count
/// for all of them at once, and then there is no row where nothing is found; and what is volatile must be asked as often as is written.
fn can_be_counted(subquery: &Subquery) -> Result<bool> {
    let plan = subquery.subquery.as_ref();
    let depends = !plan.all_out_ref_exprs().is_empty();
    let mut counts = true;
    plan.apply_with_subqueries(|node| {
        let gathers = match node {
            LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
            LogicalPlan::Window(_) => true,
            _ => false,
        };
        counts &= !(depends && gathers);
        node.apply_expressions(|expr| {
            counts &= !expr.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if counts { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(counts)
}

/// A sub-query's rows, whatever is selected of them: in what order they come, and which come again, makes no difference to whether there is
/// one, and would be in the way of a join.
fn rows_of(subquery: &Subquery) -> Result<LogicalPlan> {
    let mut plan = subquery.subquery.as_ref();
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) if !projection.expr.iter().any(Expr::is_volatile) => projection.input.as_ref(),
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => sort.input.as_ref(),
            LogicalPlan::Distinct(Distinct::All(input)) => input.as_ref(),
            LogicalPlan::Limit(limit) => {
                let skips = !matches!(limit.get_skip_type()?, SkipType::Literal(0));
                match limit.get_fetch_type()? {
                    FetchType::Literal(fetch) if !skips && fetch != Some(0) => limit.input.as_ref(),
                    _ => return Ok(plan.clone()),
                }
            }
            _ => return Ok(plan.clone()),
        };
    }
}

/// Whether a plan gives a row.
fn some(plan: LogicalPlan) -> Result<Expr> {
    let outer = plan.all_out_ref_exprs();
    // One row tells. Of a sub-query that depends on the row around it the planner can only count all.
    let plan = match outer.is_empty() {
        true => LogicalPlanBuilder::from(plan).limit(0, Some(1))?,
        false => LogicalPlanBuilder::from(plan),
    };
    let count = AggregateFunction::new_udf(count_udaf(), vec![lit(1i64)], false, None, vec![], None);
    let plan = plan.aggregate(Vec::<Expr>::new(), [Expr::AggregateFunction(count)])?.build()?;
    let counted = plan.schema().columns().into_iter().map(|column| Expr::Column(column).gt(lit(0i64)));
    let counted: Vec<Expr> = counted.collect();
    let plan = LogicalPlanBuilder::from(plan).project(counted)?.build()?;
    Ok(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns: outer, spans: Spans::new() }))
}

/// `x IN (SELECT …)`: unknown when nothing is equal, but x or one of the values is NULL.
fn is_among(within: InSubquery, inputs: &[DFSchemaRef]) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = within;
    let rows = apart(subquery.subquery.as_ref(), &expr)?;
    let Some(column) = rows.schema().columns().into_iter().next().map(Expr::Column) else {
        return Ok(Expr::InSubquery(InSubquery { expr, subquery, negated }));
    };
    let filtered = |filter: Expr| LogicalPlanBuilder::from(rows.clone()).filter(filter)?.build();
    let equal = some(filtered(column.clone().eq(from_within(expr.as_ref().clone(), inputs)?))?)?;
    let null = some(filtered(column.is_null())?)?;
    let unknown = Expr::Literal(ScalarValue::Boolean(None), None);
    let among =
        when(equal, lit(true)).when(!some(rows.clone())?, lit(false)).when(expr.is_null().or(null), unknown).otherwise(lit(false))?;
    Ok(if negated { !among } else { among })
}

/// A sub-query's rows, under a name of their own where a column of theirs has that of one that `expr` reads outside: `rank IN (SELECT rank FROM
/// node)` in a query from node. As a join's condition the planner would take the two for one, which equals itself.
fn apart(rows: &LogicalPlan, expr: &Expr) -> Result<LogicalPlan> {
    let outside = expr.column_refs();
    match rows.schema().columns().iter().any(|column| outside.contains(column)) {
        true => LogicalPlanBuilder::from(rows.clone()).alias(AMONG)?.build(),
        false => Ok(rows.clone()),
    }
}

/// An expression of the query around a sub-query, as it is within it.
fn from_within(expr: Expr, inputs: &[DFSchemaRef]) -> Result<Expr> {
    let outer = expr.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let known = inputs.iter().find_map(|schema| schema.qualified_field_from_column(&column).ok());
            match known {
                Some((_, field)) => Ok(Transformed::yes(Expr::OuterReferenceColumn(field.clone(), column))),
                None => Ok(Transformed::no(Expr::Column(column))),
            }
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(outer.data)
}
