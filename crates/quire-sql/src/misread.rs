//! Sub-queries in conditions of which the planner's joins would tell something else.
//!
//! - IN is NULL where nothing is equal and something is NULL. A join knows NULL from false only for NOT IN as a condition by itself, of a sub-query
//!   that does not depend on the row around it, and not of a constant.
//! - What IN looks among may be limited, or be of the row around the query: there is no join for that.
//! - An aggregate of all rows has a row even if it is of none. For each row of the query around it a join finds one only where there are rows.
//! - OFFSET and LIMIT 0 are meant for each row of the query around, too.
//!
//! Such a sub-query becomes a call ([`crate::apply`]), which is slow and right; an EXISTS that is true in any case becomes a constant.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{Distinct, FetchType, SkipType, Subquery};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator, lit};

use crate::apply::{State, as_call, calls_below, rewritten};
use crate::only_row::has_a_row;

/// The plan with calls or constants for such sub-queries.
pub(crate) fn apply(plan: LogicalPlan, state: &State) -> Result<Transformed<LogicalPlan>> {
    if !has_any(&plan)? {
        return Ok(Transformed::no(plan));
    }
    plan.transform_up_with_subqueries(|node| {
        let certain = rewritten(node, |expr, _| match expr {
            Expr::Exists(exists) if is_certain(&exists) => Ok(Transformed::yes(lit(!exists.negated))),
            other => Ok(Transformed::no(other)),
        })?;
        certain.transform_data(|node| match node {
            LogicalPlan::Filter(filter) if is_misread(&filter.predicate, Place::Alone, filter.input.schema()) => {
                let Filter { predicate, input, .. } = filter;
                let predicate = with_calls(predicate, Place::Alone, &input.schema().clone(), state)?;
                calls_below(Filter::new(predicate, input)).map(Transformed::yes)
            }
            other => Ok(Transformed::no(other)),
        })
    })
}

fn has_any(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Filter(filter) = node {
            found |= is_misread(&filter.predicate, Place::Alone, filter.input.schema());
        }
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(matches!(expr, Expr::Exists(exists) if is_certain(exists))))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Where in a condition a part of it stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// One of those that must all be true.
    Alone,
    /// Below OR: whether it is false or NULL makes no difference yet.
    Alternative,
    /// Anywhere else.
    Within,
}

impl Place {
    fn below(self, op: Operator) -> Option<Place> {
        match op {
            Operator::And if self != Place::Within => Some(self),
            Operator::Or if self != Place::Within => Some(Place::Alternative),
            _ => None,
        }
    }
}

/// Whether a condition has a sub-query that is to become a call.
fn is_misread(expr: &Expr, place: Place, schema: &DFSchema) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if let Some(below) = place.below(*op) => {
            is_misread(left, below, schema) || is_misread(right, below, schema)
        }
        Expr::Not(inner) if let Expr::InSubquery(within) = inner.as_ref() => is_in_misread(within, !within.negated, place, schema),
        Expr::InSubquery(within) => is_in_misread(within, within.negated, place, schema),
        other => {
            let is_misread = |expr: &Expr| match expr {
                Expr::InSubquery(within) => is_in_misread(within, within.negated, Place::Within, schema),
                Expr::Exists(exists) => is_of_each_row(&exists.subquery, false, schema),
                _ => false,
            };
            other.exists(|expr| Ok(is_misread(expr))).unwrap_or(false)
        }
    }
}

/// The condition with calls for those sub-queries.
fn with_calls(expr: Expr, place: Place, schema: &DFSchema, state: &State) -> Result<Expr> {
    if !is_misread(&expr, place, schema) {
        return Ok(expr);
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if let Some(below) = place.below(op) => {
            let (left, right) = (with_calls(*left, below, schema, state)?, with_calls(*right, below, schema, state)?);
            Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
        }
        other => {
            let called = other.transform_up(|expr| match expr {
                Expr::InSubquery(_) | Expr::Exists(_) => as_call(expr, state),
                other => Ok(Transformed::no(other)),
            })?;
            Ok(called.data)
        }
    }
}

fn is_in_misread(within: &InSubquery, negated: bool, place: Place, schema: &DFSchema) -> bool {
    let InSubquery { expr, subquery, .. } = within;
    // Of NOT IN that depends on the row around it the planner makes no join at all.
    if is_of_each_row(subquery, true, schema) || (negated && place == Place::Alone && is_correlated(subquery, schema)) {
        return true;
    }
    let of_rows = subquery.subquery.schema().fields().first().is_none_or(|field| field.is_nullable());
    let may_be_null = of_rows || expr.nullable(schema).unwrap_or(true);
    may_be_null
        && match place {
            Place::Alone => negated && expr.column_refs().is_empty(),
            Place::Alternative => negated,
            Place::Within => true,
        }
}

/// Whether a sub-query depends on the row around it, and on nothing further out.
fn is_correlated(subquery: &Subquery, schema: &DFSchema) -> bool {
    let is_around = |expr: &Expr| matches!(expr, Expr::OuterReferenceColumn(_, column) if schema.has_column(column));
    !subquery.outer_ref_columns.is_empty() && subquery.outer_ref_columns.iter().all(is_around)
}

/// Whether EXISTS is true whatever rows there are.
fn is_certain(exists: &Exists) -> bool {
    has_a_row(&exists.subquery.subquery)
}

/// Whether a sub-query depends on the row around it and has something in it that is meant for all of its rows.
fn is_of_each_row(subquery: &Subquery, of_values: bool, schema: &DFSchema) -> bool {
    is_correlated(subquery, schema) && gathers(&subquery.subquery, of_values)
}

/// With `of_values` it matters which rows there are, and what is selected of them.
fn gathers(plan: &LogicalPlan, of_values: bool) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => {
            (of_values && projection.expr.iter().any(Expr::contains_outer)) || gathers(&projection.input, of_values)
        }
        LogicalPlan::SubqueryAlias(alias) => gathers(&alias.input, of_values),
        LogicalPlan::Filter(filter) => gathers(&filter.input, of_values),
        LogicalPlan::Sort(sort) => gathers(&sort.input, of_values),
        LogicalPlan::Distinct(Distinct::All(input)) => gathers(input, of_values),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Limit(limit) => {
            let skips = !matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)));
            let is_empty = matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0))));
            of_values || skips || is_empty || gathers(&limit.input, of_values)
        }
        _ => false,
    }
}
