//! Joins by keys of which NULLs are equal: `a.x IS NOT DISTINCT FROM b.y`.
//!
//! A join says for all of its keys at once whether their NULLs are equal. DataFusion makes such keys as soon as it sees the condition, and its
//! rules add those of ordinary equalities to them later: when it flattens joins, and when a condition has been pushed down to one. Then rows
//! with NULLs meet that must not, or do not that must. So the condition stays one while rules are at work, and becomes keys when a plan is
//! otherwise finished.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{NullEquality, Result};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerContext, OptimizerRule};

use crate::rule::{contains, everywhere};

/// Of the rule that makes equalities keys, what it does for keys of which NULLs are not equal.
#[derive(Debug)]
pub(crate) struct OrdinaryKeys(pub(crate) Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for OrdinaryKeys {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let is_left_alone = match &plan {
            LogicalPlan::Join(join) => join.null_equality == NullEquality::NullEqualsNull,
            _ => false,
        };
        if is_left_alone {
            return Ok(Transformed::no(plan));
        }
        if !may_have_null_keys(&plan) {
            return self.0.rewrite(plan, config);
        }
        let rewritten = self.0.rewrite(plan.clone(), config)?;
        Ok(if has_null_keys(&rewritten.data) { Transformed::no(plan) } else { rewritten })
    }
}

/// The plan with the conditions of joins that have no other keys made keys. Nothing must be added to the joins' keys after that.
pub fn with_null_keys(plan: LogicalPlan) -> Result<LogicalPlan> {
    // almost none has, and to look takes less than to make the plan again
    if !contains(&plan, may_have_null_keys) {
        return Ok(plan);
    }
    let keyed = |node: &LogicalPlan| {
        if !may_have_null_keys(node) {
            return Ok(None);
        }
        let rewritten = ExtractEquijoinPredicate.rewrite(node.clone(), &OptimizerContext::new())?;
        Ok(Some(rewritten.data).filter(has_null_keys))
    };
    everywhere(plan, &keyed).map(|Transformed { data, .. }| data)
}

fn has_null_keys(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNull)
}

fn may_have_null_keys(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Join(join) = plan else { return false };
    let is_distinction = |expr: &Expr| Ok(matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::IsNotDistinctFrom, .. })));
    join.on.is_empty() && join.filter.as_ref().is_some_and(|filter| filter.exists(is_distinction).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use datafusion::common::NullEquality;
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    use datafusion::logical_expr::LogicalPlan;

    use super::with_null_keys;
    use crate::fixture::{optimized, tpch};

    /// Keys and the kind of each join with keys.
    fn keys(plan: &LogicalPlan) -> Vec<(usize, NullEquality)> {
        let mut found = vec![];
        plan.apply(|node| {
            if let LogicalPlan::Join(join) = node {
                found.push((join.on.len(), join.null_equality));
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .unwrap();
        found
    }

    #[tokio::test]
    async fn distinctions_are_keys_only_alone_and_at_the_end() {
        let check = async |sql: &str, before: (usize, NullEquality), after: (usize, NullEquality)| {
            let plan = optimized(&tpch(true), sql).await;
            assert_eq!(keys(&plan), [before], "{sql}");
            assert_eq!(keys(&with_null_keys(plan).unwrap()), [after], "{sql}");
        };
        let (nothing, null) = (NullEquality::NullEqualsNothing, NullEquality::NullEqualsNull);
        let distinct = "SELECT c_name, s_name FROM customer JOIN supplier ON c_custkey IS NOT DISTINCT FROM s_suppkey";
        check(distinct, (0, nothing), (1, null)).await;
        check(&format!("{distinct} WHERE c_nationkey = s_nationkey"), (1, nothing), (1, nothing)).await;
    }
}
