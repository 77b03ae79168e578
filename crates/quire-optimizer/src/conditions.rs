//! Conditions on their way down a plan, where DataFusion's rule would take them too far or lose one.
//!
//! A condition without columns (`(SELECT …) = 7`) may go below a grouping, says the rule, as all of its columns are grouped by. But an aggregate
//! of all rows has a row whatever its input has, and so have grouping sets; a condition on it has to stand above. So has one that differs from
//! row to row (`random() > 0.5`): it is on groups, and not on what they are made of.
//!
//! Two equalities of a column with constants contradict each other, says the rule, if they are not written alike: `s = 'p' AND 'p' = s`. So one
//! is left of those that say the same.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The rule that pushes conditions down.
#[derive(Debug)]
pub(crate) struct PushedConditions(pub(crate) Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for PushedConditions {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return self.0.rewrite(plan, config) };
        let (mut filter, is_merged) = merged(filter);
        let once = without_repeated(&filter.predicate);
        let is_changed = is_merged || once.is_some();
        if let Some(once) = once {
            filter.predicate = once;
        }
        let (staying, going): (Vec<Expr>, Vec<Expr>) = match has_to_stay(&filter) {
            true => split_conjunction_owned(filter.predicate.clone()).into_iter().partition(|part| stays(part, &filter.input)),
            false => (vec![], vec![]),
        };
        let Some(staying) = conjunction(staying) else {
            let pushed = self.0.rewrite(LogicalPlan::Filter(filter), config)?;
            return Ok(if is_changed { Transformed::yes(pushed.data) } else { pushed });
        };
        let Some(going) = conjunction(going) else {
            let plan = LogicalPlan::Filter(filter);
            return Ok(if is_changed { Transformed::yes(plan) } else { Transformed::no(plan) });
        };
        let pushed = self.0.rewrite(LogicalPlan::Filter(Filter::new(going, filter.input)), config)?;
        let above = LogicalPlan::Filter(Filter::new(staying, Arc::new(pushed.data)));
        Ok(if is_changed || pushed.transformed { Transformed::yes(above) } else { Transformed::no(above) })
    }
}

/// A filter and those that it stands on, as one: the rule would make them one after it was asked here.
fn merged(mut filter: Filter) -> (Filter, bool) {
    let mut is_merged = false;
    while let LogicalPlan::Filter(below) = filter.input.as_ref() {
        let mut parts = split_conjunction_owned(below.predicate.clone());
        for part in split_conjunction_owned(filter.predicate) {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        filter = Filter::new(conjunction(parts).unwrap_or_else(|| lit(true)), below.input.clone());
        is_merged = true;
    }
    (filter, is_merged)
}

/// Whether some part of a condition is not to be pushed further down.
fn has_to_stay(filter: &Filter) -> bool {
    matches!(filter.input.as_ref(), LogicalPlan::Aggregate(_) | LogicalPlan::Window(_))
        && split_conjunction(&filter.predicate).into_iter().any(|part| stays(part, &filter.input))
}

/// Whether a condition on what a grouping or a window gives means something else on the rows that these are made of.
fn stays(part: &Expr, input: &LogicalPlan) -> bool {
    let is_of_any_row = match input {
        // What is grouped by nothing has a row in any case; grouping sets may.
        LogicalPlan::Aggregate(aggregate) => matches!(aggregate.group_expr.as_slice(), [] | [Expr::GroupingSet(_)]),
        _ => false,
    };
    part.is_volatile() || (is_of_any_row && part.column_refs().is_empty())
}

/// The condition without equalities that say what another says; `None` where there are none.
fn without_repeated(condition: &Expr) -> Option<Expr> {
    let parts = split_conjunction(condition);
    let mut said: Vec<(&Column, &ScalarValue)> = vec![];
    let mut kept = Vec::with_capacity(parts.len());
    for part in &parts {
        if let Some((column, value)) = equality(part) {
            if said.iter().any(|(other, known)| *other == column && is_same(known, value)) {
                continue;
            }
            said.push((column, value));
        }
        kept.push(*part);
    }
    if kept.len() == parts.len() { None } else { conjunction(kept.into_iter().cloned()) }
}

/// The sides of an equality of a column with a constant.
fn equality(expr: &Expr) -> Option<(&Column, &ScalarValue)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return None };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => Some((column, value)),
        _ => None,
    }
}

/// Whether two constants are the same, be they of different types: each is the other in the other's.
fn is_same(one: &ScalarValue, other: &ScalarValue) -> bool {
    let becomes = |from: &ScalarValue, to: &ScalarValue| from.cast_to(&to.data_type()).is_ok_and(|cast| cast == *to);
    one == other || (one.data_type() != other.data_type() && becomes(one, other) && becomes(other, one))
}
