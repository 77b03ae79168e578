//! Which side of a join is kept in memory, as a hash table or as it is: the left one, so the one with fewer rows is put there.
//!
//! DataFusion decides this by estimates of its own, which know nothing of keys of several columns, of LIKE, or of what a grouping leaves. Ours
//! are those by which joins are ordered. This comes when a plan is otherwise finished: rules know joins by their shapes, and swapped sides
//! have projections above them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, JoinConstraint, JoinType, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection};

use crate::{Estimate, Estimator, OptimizerOptions, TableStatistics};

/// The plan with the smaller side of each join left.
pub fn with_build_sides(plan: &LogicalPlan, tables: Arc<dyn TableStatistics>, options: &ConfigOptions) -> Result<LogicalPlan> {
    if options.extensions.get::<OptimizerOptions>().is_some_and(|options| !options.join_reordering) {
        return Ok(plan.clone());
    }
    sided(plan.clone(), &Estimator::new(tables)).map(|(Transformed { data, .. }, _)| data)
}

/// The plan with its joins turned, inputs first, and what it gives: each node is estimated once.
fn sided(plan: LogicalPlan, estimator: &Estimator) -> Result<(Transformed<LogicalPlan>, Estimate)> {
    let mut inputs = vec![];
    let plan = plan.map_uncorrelated_subqueries(|query| Ok(sided(query, estimator)?.0))?.transform_sibling(|plan| {
        plan.map_children(|input| {
            let (input, estimate) = sided(input, estimator)?;
            inputs.push(estimate);
            Ok(input)
        })
    })?;
    let is_turned = match (&plan.data, inputs.as_slice()) {
        (LogicalPlan::Join(join), [left, right]) => !join.null_aware && right.rows < left.rows,
        _ => false,
    };
    let estimate = estimator.of_inputs(&plan.data, inputs);
    let plan = plan.transform_data(|plan| match plan {
        LogicalPlan::Join(join) if is_turned => turned(&join).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })?;
    Ok((plan, estimate))
}

/// The same join from the other side, with its columns as they were.
fn turned(join: &Join) -> Result<LogicalPlan> {
    let join_type = match join.join_type {
        JoinType::Inner => JoinType::Inner,
        JoinType::Full => JoinType::Full,
        JoinType::Left => JoinType::Right,
        JoinType::Right => JoinType::Left,
        JoinType::LeftSemi => JoinType::RightSemi,
        JoinType::RightSemi => JoinType::LeftSemi,
        JoinType::LeftAnti => JoinType::RightAnti,
        JoinType::RightAnti => JoinType::LeftAnti,
        JoinType::LeftMark => JoinType::RightMark,
        JoinType::RightMark => JoinType::LeftMark,
    };
    let turned = Join::try_new(
        join.right.clone(),
        join.left.clone(),
        join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect(),
        join.filter.clone(),
        join_type,
        JoinConstraint::On,
        join.null_equality,
        join.null_aware,
    )?;
    // Both sides may be of one table: then only the qualifiers tell their columns apart.
    let same = turned.schema.iter().eq(join.schema.iter());
    let turned = LogicalPlan::Join(turned);
    if same {
        return Ok(turned);
    }
    let columns = join.schema.iter().map(|field| Expr::Column(Column::from(field))).collect();
    Ok(LogicalPlan::Projection(Projection::try_new_with_schema(columns, Arc::new(turned), join.schema.clone())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use datafusion::logical_expr::LogicalPlan;

    use super::with_build_sides;
    use crate::fixture::{optimized, tpch, tpch_statistics};
    use crate::{Estimator, rule};

    async fn check(sql: &str) -> LogicalPlan {
        let context = tpch(true);
        let before = optimized(&context, sql).await;
        let after = with_build_sides(&before, tpch_statistics(), context.state().config_options()).unwrap();
        assert_eq!(after.schema(), before.schema(), "{sql}");
        let estimator = Estimator::new(tpch_statistics());
        let rows = |plan: &LogicalPlan| estimator.estimate(plan).rows;
        assert!(!rule::contains(&after, |node| matches!(node, LogicalPlan::Join(join) if rows(&join.right) < rows(&join.left))), "{after}");
        after
    }

    #[tokio::test]
    async fn the_smaller_side_is_left() {
        for kind in ["join", "left join", "right join", "full join"] {
            check(&format!("select * from orders {kind} nation on o_custkey = n_nationkey")).await;
            check(&format!("select n_name, o_orderkey from nation {kind} orders on o_custkey = n_nationkey and o_orderkey > n_regionkey"))
                .await;
        }
        for not in ["", "not"] {
            check(&format!("select * from orders where {not} exists (select 1 from nation where n_nationkey = o_custkey)")).await;
            check(&format!("select * from nation where {not} exists (select 1 from orders where n_nationkey = o_custkey)")).await;
        }
        check("select * from orders where o_totalprice > 10 or o_custkey in (select n_nationkey from nation)").await;
        check("select * from orders, nation, customer, lineitem where o_custkey = c_custkey and c_nationkey = n_nationkey and l_orderkey = o_orderkey")
            .await;
    }

    #[tokio::test]
    async fn a_table_joined_with_itself_keeps_its_columns_apart() {
        for kind in ["join", "left join", "right join", "full join"] {
            let few = "(select * from orders where o_orderstatus = 'F')";
            let plan = check(&format!("select * from orders a {kind} {few} b on a.o_orderkey = b.o_custkey")).await.to_string();
            assert!(plan.starts_with("Projection: a.o_orderkey"), "{plan}");
        }
    }

    #[tokio::test]
    async fn a_join_by_two_keys_with_a_part_of_one_table_is_smaller_than_another_table() {
        let sql = "select l_quantity, o_orderdate from part, partsupp, lineitem, orders where p_type = 'x' and p_partkey = ps_partkey
                   and ps_partkey = l_partkey and ps_suppkey = l_suppkey and o_orderkey = l_orderkey";
        let plan = check(sql).await.to_string();
        let place = |table: &str| plan.find(&format!("TableScan: {table}")).unwrap();
        assert!(place("orders") > place("lineitem"), "{plan}");
    }
}
