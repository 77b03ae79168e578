//! Keys for the joins of a list of tables: `FROM a, b, c WHERE a.x = c.x AND b.y = c.y`.
//!
//! A list is a tree of joins without keys below a filter. Each equality of two sides becomes a key of the join where they meet, which is all that
//! is needed where [`JoinOrder`](crate::JoinOrder) orders the tables afterwards: it weighs the list as it was written, and a join that is left
//! without keys is as dear as it is.
//!
//! DataFusion's rule, `eliminate_cross_join`, chooses an order by the keys alone, and makes the joins anew with each table that it adds to them.
//! It is for what is not ordered by us: where the rule is off, or something in the list must not be moved. It flattens inner joins and joins
//! their inputs two at a time, by the keys that they had. One that is of more than two inputs (`a.x + b.y = c.z`) fits none of the new joins
//! when `c` is not the last of them, and the rule forgets it, so that rows pass that must not. Conditions it keeps: so such keys are made
//! conditions before.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinType, NullEquality, Result};
use datafusion::logical_expr::expr_rewriter::replace_col;
use datafusion::logical_expr::utils::{can_hash, conjunction, find_valid_equijoin_key_pair, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, binary_expr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::join_order::can_be_ordered;
use crate::rule::{contains, enabled, equality_groups};

/// The rule, with DataFusion's.
#[derive(Debug)]
pub(crate) struct ListedJoins(pub(crate) Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for ListedJoins {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !enabled(config, |options| options.join_reordering) {
            return self.eliminated(plan, config);
        }
        plan.transform_down_with_subqueries(|node| {
            let is_listed = match &node {
                LogicalPlan::Filter(filter) => is_inner(&filter.input),
                other => has_product(other),
            };
            if !is_listed {
                return Ok(Transformed::no(node));
            }
            let node = Arc::new(node);
            if !can_be_ordered(&node) {
                let eliminated = self.eliminated(Arc::unwrap_or_clone(node), config)?;
                return Ok(Transformed::new(eliminated.data, eliminated.transformed, TreeNodeRecursion::Jump));
            }
            match Arc::unwrap_or_clone(node) {
                LogicalPlan::Filter(filter) => with_keys(filter),
                other => Ok(Transformed::no(other)),
            }
        })
    }
}

impl ListedJoins {
    /// By DataFusion's rule, without keys that it would lose.
    fn eliminated(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let would_lose = |node: &LogicalPlan| matches!(node, LogicalPlan::Join(join) if join.on.iter().any(|key| !is_of_two(key, join)));
        if !contains(&plan, would_lose) {
            return self.0.rewrite(plan, config);
        }
        let changed = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) if join.on.iter().any(|key| !is_of_two(key, &join)) => {
                Ok(Transformed::yes(LogicalPlan::Join(with_conditions(join))))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(Transformed::yes(self.0.rewrite(changed.data, config)?.data))
    }
}

fn is_inner(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(Join { join_type: JoinType::Inner, null_equality: NullEquality::NullEqualsNothing, .. }))
}

/// Whether a join without keys is among inner joins.
fn has_product(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Join(join) => is_inner(plan) && (join.on.is_empty() || has_product(&join.left) || has_product(&join.right)),
        _ => false,
    }
}

/// The joins below a filter with its equalities as keys, below a filter by what else it says.
fn with_keys(mut filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let (mut equal, mut others): (Vec<(Column, Column)>, Vec<Expr>) = (vec![], vec![]);
    for condition in split_conjunction_owned(filter.predicate) {
        let is_key = match &condition {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if give_key(&mut filter.input, left, right)? => {
                if let (Expr::Column(left), Expr::Column(right)) = (left.as_ref(), right.as_ref()) {
                    equal.push((left.clone(), right.clone()));
                }
                true
            }
            _ => false,
        };
        if !is_key {
            others.push(condition);
        }
    }
    let implied = implied(&others, &equality_groups(&equal), filter.input.schema())?;
    others.extend(implied);
    let Some(predicate) = conjunction(others) else { return Ok(Transformed::yes(Arc::unwrap_or_clone(filter.input))) };
    Filter::try_new(predicate, filter.input).map(|filter| Transformed::yes(LogicalPlan::Filter(filter)))
}

/// What holds for a column holds for those that equal it: with `a.t = b.t AND b.t = c.t`, `c.t = 5` is a filter of all three. DataFusion's rule for
/// filters infers them along one key of each join. Not for numbers of which equal ones may differ (0 and -0).
fn implied(conditions: &[Expr], classes: &[Vec<Column>], schema: &DFSchema) -> Result<Vec<Expr>> {
    let mut found: Vec<Expr> = vec![];
    for condition in conditions {
        let columns = condition.column_refs();
        let Some(column) = columns.iter().next().filter(|_| columns.len() == 1) else { continue };
        let Some(class) = classes.iter().find(|class| class.contains(column)) else { continue };
        if !only_compares(condition)? || schema.field_from_column(column)?.data_type().is_floating() {
            continue;
        }
        for other in class.iter().filter(|other| other != column) {
            let said = replace_col(condition.clone(), &HashMap::from([(*column, other)]))?;
            if !conditions.contains(&said) && !found.contains(&said) {
                found.push(said);
            }
        }
    }
    Ok(found)
}

/// Whether an expression is comparisons with constants: what is computed may fail for rows that no other table has.
fn only_compares(expr: &Expr) -> Result<bool> {
    let computes = |expr: &Expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { op, .. }) => {
                let compares = [Operator::Eq, Operator::NotEq, Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq].contains(op);
                !compares && !op.is_logic_operator()
            }
            Expr::Column(_) | Expr::Literal(..) | Expr::Not(_) | Expr::Between(_) | Expr::InList(_) | Expr::Like(_) => false,
            Expr::IsNull(_) | Expr::IsNotNull(_) => false,
            _ => true,
        })
    };
    expr.exists(computes).map(|computes| !computes)
}

/// Makes `left = right` a key of the join where its sides meet. No if there is none, or it could not be hashed.
fn give_key(plan: &mut Arc<LogicalPlan>, left: &Expr, right: &Expr) -> Result<bool> {
    if !is_inner(plan) {
        return Ok(false);
    }
    let LogicalPlan::Join(join) = Arc::make_mut(plan) else { return Ok(false) };
    if let Some((left, right)) = find_valid_equijoin_key_pair(left, right, join.left.schema(), join.right.schema())? {
        let is_hashed = can_hash(&left.get_type(join.left.schema())?);
        if is_hashed && !join.on.contains(&(left.clone(), right.clone())) {
            join.on.push((left, right));
        }
        return Ok(is_hashed);
    }
    Ok(give_key(&mut join.left, left, right)? || give_key(&mut join.right, left, right)?)
}

/// Whether a join that is flattened keeps the key: each side is of one input, and can be hashed.
fn is_of_two((left, right): &(Expr, Expr), join: &Join) -> bool {
    let is_hashed = || left.get_type(join.left.schema()).is_ok_and(|data_type| can_hash(&data_type));
    join.join_type != JoinType::Inner || is_of_one(left, &join.left) && is_of_one(right, &join.right) && is_hashed()
}

fn is_of_one(expr: &Expr, input: &LogicalPlan) -> bool {
    let columns = expr.column_refs();
    let is_within = |plan: &LogicalPlan| columns.iter().all(|column| plan.schema().has_column(column));
    match input {
        _ if columns.is_empty() => false,
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            [&join.left, &join.right].into_iter().any(|input| is_within(input) && is_of_one(expr, input))
        }
        _ => true,
    }
}

fn with_conditions(join: Join) -> Join {
    let (kept, lost): (Vec<_>, Vec<_>) = join.on.iter().cloned().partition(|key| is_of_two(key, &join));
    let equal = match join.null_equality {
        NullEquality::NullEqualsNothing => Operator::Eq,
        NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
    };
    let lost = lost.into_iter().map(|(left, right)| binary_expr(left, equal, right));
    let filter = conjunction(join.filter.clone().into_iter().chain(lost));
    Join { on: kept, filter, ..join }
}
