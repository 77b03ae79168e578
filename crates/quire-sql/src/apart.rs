//! Columns of one name in sub-queries that depend on the row around them: `(SELECT b.x FROM b, u WHERE b.id = t.b AND u.id = t.u)`.
//!
//! The planner takes such a condition out of the sub-query and makes it one of a join. The sub-query then gives the columns that the condition
//! reads, and they are known by their names alone: of two that are called `id` the join reads the first. So where there might be two, those
//! that conditions read have names of their own here, beside what the sub-query is about.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder};

use crate::apply::rewritten;

/// What such a column is called, with a number.
const READ: &str = "quire:read";

/// The plan with names for such columns of its sub-queries.
pub(crate) fn apply(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_any(&plan)? {
        return Ok(plan);
    }
    let mut number = 0;
    let changed = plan.transform_up_with_subqueries(|node| match node {
        // LATERAL
        LogicalPlan::Subquery(subquery) => Ok(with_names(subquery, &mut number)?.update_data(LogicalPlan::Subquery)),
        node => rewritten(node, |expr, _| {
            Ok(match expr {
                Expr::ScalarSubquery(subquery) => with_names(subquery, &mut number)?.update_data(Expr::ScalarSubquery),
                Expr::Exists(Exists { subquery, negated }) => {
                    with_names(subquery, &mut number)?.update_data(|subquery| Expr::Exists(Exists { subquery, negated }))
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    with_names(subquery, &mut number)?.update_data(|subquery| Expr::InSubquery(InSubquery { expr, subquery, negated }))
                }
                Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => with_names(subquery, &mut number)?
                    .update_data(|subquery| Expr::SetComparison(SetComparison { expr, subquery, op, quantifier })),
                other => Transformed::no(other),
            })
        }),
    })?;
    Ok(changed.data)
}

fn has_any(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Subquery(subquery) = node {
            found |= has_namesakes(subquery);
        }
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| {
                Ok(match expr {
                    Expr::ScalarSubquery(subquery)
                    | Expr::Exists(Exists { subquery, .. })
                    | Expr::InSubquery(InSubquery { subquery, .. })
                    | Expr::SetComparison(SetComparison { subquery, .. }) => has_namesakes(subquery),
                    _ => false,
                })
            })?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn has_namesakes(subquery: &Subquery) -> bool {
    !subquery.outer_ref_columns.is_empty() && !namesakes(&subquery.subquery).is_empty()
}

fn with_names(subquery: Subquery, number: &mut usize) -> Result<Transformed<Subquery>> {
    let namesakes = match subquery.outer_ref_columns.is_empty() {
        true => HashSet::new(),
        false => namesakes(&subquery.subquery),
    };
    if namesakes.is_empty() {
        return Ok(Transformed::no(subquery));
    }
    let Subquery { subquery: plan, outer_ref_columns, spans } = subquery;
    let plan = Arc::unwrap_or_clone(plan).transform_up(|node| match node {
        LogicalPlan::Filter(filter) if is_of_rows(&filter) => with_own_columns(filter, &namesakes, number),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(Transformed::yes(Subquery { subquery: Arc::new(plan.data), outer_ref_columns, spans }))
}

/// Whether it is not HAVING: that reads what an aggregate gives, which the planner looks for right below it.
fn is_of_rows(filter: &Filter) -> bool {
    !matches!(filter.input.as_ref(), LogicalPlan::Aggregate(_))
}

/// What a sub-query's conditions that depend on the row around it read, and what is given by operators above them.
#[derive(Default)]
struct Columns {
    read: HashSet<Column>,
    given: HashSet<Column>,
    /// In how many places there are such conditions.
    places: usize,
}

impl Columns {
    /// Whether such a condition is within `plan`.
    fn gather(&mut self, plan: &LogicalPlan) -> bool {
        let mut is_within = false;
        for input in plan.inputs() {
            is_within |= self.gather(input);
        }
        match plan {
            LogicalPlan::Filter(filter) => {
                let outside = split_conjunction(&filter.predicate).into_iter().filter(|condition| condition.contains_outer());
                let before = is_within;
                for condition in outside {
                    is_within = true;
                    self.read.extend(condition.column_refs().into_iter().cloned());
                }
                self.places += usize::from(is_within && !before);
            }
            // What a join gives is not all given in the end.
            LogicalPlan::Join(_) => {}
            other if is_within => self.given.extend(other.schema().columns()),
            _ => {}
        }
        is_within
    }
}

/// Columns that conditions read which depend on the row around the sub-query, and which might be taken for others.
fn namesakes(plan: &LogicalPlan) -> HashSet<Column> {
    let mut columns = Columns::default();
    columns.gather(plan);
    let Columns { read, given, places } = columns;
    // Of two places both may read a column that is called the same in full.
    let is_namesake = |column: &&Column| {
        let is_taken = |other: &Column| column.name == other.name && column.relation != other.relation;
        places > 1 || read.iter().chain(&given).any(is_taken)
    };
    read.iter().filter(is_namesake).cloned().collect()
}

/// A filter whose conditions that depend on the row around the sub-query read columns of names of their own. The others come before them: the
/// planner makes the keys of joins of them.
fn with_own_columns(filter: Filter, namesakes: &HashSet<Column>, number: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let (outside, inside): (Vec<Expr>, Vec<Expr>) =
        split_conjunction_owned(filter.predicate.clone()).into_iter().partition(Expr::contains_outer);
    // In an order that is the same each time.
    let read: BTreeSet<Column> = outside.iter().flat_map(Expr::column_refs).filter(|column| namesakes.contains(*column)).cloned().collect();
    let outside = match conjunction(outside) {
        Some(outside) if !read.is_empty() => outside,
        _ => return Ok(Transformed::no(LogicalPlan::Filter(filter))),
    };
    let mut names: HashMap<Column, String> = HashMap::new();
    let mut own: Vec<Expr> = vec![];
    for column in read {
        let name = format!("{READ}{number}");
        *number += 1;
        own.push(Expr::Column(column.clone()).alias(name.as_str()));
        names.insert(column, name);
    }
    let outside = outside.transform_up(|expr| {
        let name = if let Expr::Column(column) = &expr { names.get(column) } else { None };
        Ok(match name {
            Some(name) => Transformed::yes(Expr::Column(Column::new_unqualified(name.as_str()))),
            None => Transformed::no(expr),
        })
    })?;
    let columns: Vec<Expr> = filter.input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(filter.input));
    if let Some(inside) = conjunction(inside) {
        plan = plan.filter(inside)?;
    }
    let plan = plan.project(columns.iter().cloned().chain(own))?.filter(outside.data)?.project(columns)?.build()?;
    Ok(Transformed::yes(plan))
}
