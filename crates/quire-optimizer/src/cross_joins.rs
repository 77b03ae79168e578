//! Keys of more than two relations, which DataFusion's rule for cross joins loses.
//!
//! `eliminate_cross_join` flattens inner joins and joins their inputs anew, two at a time, by the keys that they had. One that is of more
//! than two inputs (`a.x + b.y = c.z`) fits none of the new joins when `c` is not the last of them, and the rule forgets it, so that rows pass
//! that must not. Conditions it keeps: so such keys are made conditions before.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::{can_hash, conjunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Join, LogicalPlan, Operator, binary_expr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::rule::contains;

/// The rule for cross joins, without keys that it would lose.
#[derive(Debug)]
pub(crate) struct WithTwoInputs(pub(crate) Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for WithTwoInputs {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
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
