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

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::{can_hash, conjunction, find_valid_equijoin_key_pair, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, binary_expr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::join_order::can_be_ordered;
use crate::rule::{contains, enabled};

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
                LogicalPlan::Join(join) => is_inner(&node) && join.on.is_empty(),
                _ => false,
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

/// The joins below a filter with its equalities as keys, below a filter by what else it says.
fn with_keys(mut filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let mut others = vec![];
    for condition in split_conjunction_owned(filter.predicate) {
        let is_key = match &condition {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => give_key(&mut filter.input, left, right)?,
            _ => false,
        };
        if !is_key {
            others.push(condition);
        }
    }
    let Some(predicate) = conjunction(others) else { return Ok(Transformed::yes(Arc::unwrap_or_clone(filter.input))) };
    Filter::try_new(predicate, filter.input).map(|filter| Transformed::yes(LogicalPlan::Filter(filter)))
}

/// Makes `left = right` a key of the join where its sides meet. No if there is none, or it could not be hashed.
fn give_key(plan: &mut Arc<LogicalPlan>, left: &Expr, right: &Expr) -> Result<bool> {
    if !is_inner(plan) {
        return Ok(false);
    }
    let LogicalPlan::Join(join) = Arc::make_mut(plan) else { return Ok(false) };
    if let Some((left, right)) = find_valid_equijoin_key_pair(left, right, join.left.schema(), join.right.schema())? {
        let is_hashed = can_hash(&left.get_type(join.left.schema())?);
        if is_hashed {
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
