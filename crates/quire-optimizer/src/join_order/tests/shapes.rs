//! TPC-H's joins are in the order that its data asks for.

use std::collections::BTreeSet;

use datafusion::common::JoinType;
use datafusion::optimizer::OptimizerContext;

use super::super::*;
use crate::fixture::{optimized, tpch, tpch_statistics};

const Q5: &str = "select n_name, sum(l_extendedprice) from customer, orders, lineitem, supplier, nation, region
    where c_custkey = o_custkey and l_orderkey = o_orderkey and l_suppkey = s_suppkey and c_nationkey = s_nationkey
    and s_nationkey = n_nationkey and n_regionkey = r_regionkey and r_name = 'ASIA'
    and o_orderdate >= date '1994-01-01' and o_orderdate < date '1995-01-01' group by n_name";
const Q7: &str = "select n1.n_name, n2.n_name, sum(l_extendedprice) from supplier, lineitem, orders, customer, nation n1, nation n2
    where s_suppkey = l_suppkey and o_orderkey = l_orderkey and c_custkey = o_custkey and s_nationkey = n1.n_nationkey
    and c_nationkey = n2.n_nationkey and ((n1.n_name = 'FRANCE' and n2.n_name = 'GERMANY')
    or (n1.n_name = 'GERMANY' and n2.n_name = 'FRANCE')) and l_shipdate between date '1995-01-01' and date '1996-12-31'
    group by n1.n_name, n2.n_name";
const Q9: &str = "select n_name, sum(l_extendedprice - ps_supplycost * l_quantity) from part, supplier, lineitem, partsupp, orders, nation
    where s_suppkey = l_suppkey and ps_suppkey = l_suppkey and ps_partkey = l_partkey and p_partkey = l_partkey
    and o_orderkey = l_orderkey and s_nationkey = n_nationkey and p_name like '%green%' group by n_name";
const Q18: &str = "select c_name, c_custkey, o_orderkey, sum(l_quantity) from customer, orders, lineitem
    where o_orderkey in (select l_orderkey from lineitem group by l_orderkey having sum(l_quantity) > 300)
    and c_custkey = o_custkey and o_orderkey = l_orderkey group by c_name, c_custkey, o_orderkey";
const Q21: &str = "select s_name, count(*) from supplier, lineitem l1, orders, nation
    where s_suppkey = l1.l_suppkey and o_orderkey = l1.l_orderkey and o_orderstatus = 'F' and l1.l_receiptdate > l1.l_commitdate
    and exists (select 1 from lineitem l2 where l2.l_orderkey = l1.l_orderkey and l2.l_suppkey <> l1.l_suppkey)
    and not exists (select 1 from lineitem l3 where l3.l_orderkey = l1.l_orderkey and l3.l_suppkey <> l1.l_suppkey
    and l3.l_receiptdate > l3.l_commitdate) and s_nationkey = n_nationkey and n_name = 'SAUDI ARABIA' group by s_name";

fn tables(plan: &LogicalPlan) -> BTreeSet<String> {
    let mut tables = BTreeSet::new();
    plan.apply(|node| {
        let name = match node {
            LogicalPlan::TableScan(scan) => Some(&scan.table_name),
            LogicalPlan::SubqueryAlias(alias) => Some(&alias.alias),
            _ => None,
        };
        tables.extend(name.map(|name| name.table().to_owned()));
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    tables
}

/// All joins: their types and the tables that they join; for semi and anti joins, those of the side that is filtered.
fn joins(plan: &LogicalPlan) -> Vec<(JoinType, BTreeSet<String>)> {
    let mut joins = vec![];
    plan.apply(|node| {
        if let LogicalPlan::Join(join) = node {
            let joined = match join.join_type {
                JoinType::LeftSemi | JoinType::LeftAnti => tables(&join.left),
                _ => tables(node),
            };
            joins.push((join.join_type, joined));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    joins
}

/// Asserts that some join of the type has all tables of `with`, and none of `without`.
async fn check(sql: &str, join_type: JoinType, with: &[&str], without: &[&str]) {
    let plan = optimized(&tpch(true), sql).await;
    let found = joins(&plan).into_iter().any(|(of_type, joined)| {
        of_type == join_type && with.iter().all(|t| joined.contains(*t)) && !without.iter().any(|t| joined.contains(*t))
    });
    assert!(found, "no {join_type} join with {with:?} and without {without:?} in\n{}", plan.display_indent());
}

#[tokio::test]
async fn small_selective_tables_come_before_lines() {
    check(Q5, JoinType::Inner, &["region", "nation"], &["lineitem"]).await;
    check(Q7, JoinType::Inner, &["n1", "supplier"], &["lineitem"]).await;
    check(Q9, JoinType::Inner, &["part"], &["orders", "nation"]).await;
    check(Q21, JoinType::Inner, &["nation", "supplier"], &["lineitem"]).await;
}

#[tokio::test]
async fn an_in_list_of_keys_filters_the_table_of_the_key() {
    check(Q18, JoinType::LeftSemi, &["orders"], &["lineitem", "customer"]).await;
}

#[tokio::test]
async fn a_semi_join_with_all_lines_comes_after_the_joins_that_leave_few() {
    check(Q21, JoinType::LeftSemi, &["supplier", "nation", "l1"], &[]).await;
    check(Q21, JoinType::LeftAnti, &["supplier", "nation", "l1"], &[]).await;
}

#[tokio::test]
async fn a_nation_joins_by_the_equality_that_follows() {
    // c_nationkey = n_nationkey is nowhere in the query. Without it customers would only be joined with nations through suppliers.
    let sql = "select count(*) from customer, supplier, nation where c_nationkey = s_nationkey and s_nationkey = n_nationkey
        and n_name = 'PERU' and s_suppkey = 7";
    check(sql, JoinType::Inner, &["supplier", "nation"], &["customer"]).await;
    check(Q5, JoinType::Inner, &["customer", "nation"], &["supplier", "lineitem"]).await;
}

#[tokio::test]
async fn our_own_order_is_left_alone() {
    let rule = JoinOrder::new(tpch_statistics());
    for sql in [Q5, Q7, Q9, Q18, Q21] {
        let plan = optimized(&tpch(true), sql).await;
        let again = rule.rewrite(plan.clone(), &OptimizerContext::new()).unwrap();
        assert!(!again.transformed, "from\n{}\nto\n{}", plan.display_indent(), again.data.display_indent());
    }
}

#[tokio::test]
async fn off_means_off() {
    let rule = JoinOrder::new(tpch_statistics());
    let plan = optimized(&tpch(false), Q5).await;
    assert!(rule.rewrite(plan, &OptimizerContext::new()).unwrap().transformed, "nothing to do with Q5, so nothing was switched off");
}

/// The cost of the best order of the first cluster in a plan.
fn best_cost(plan: &LogicalPlan) -> f64 {
    let mut cost = None;
    plan.apply(|node| {
        if matches!(member(node, true), Member::Leaf) {
            return Ok(TreeNodeRecursion::Continue);
        }
        let cluster = Cluster::collect(&Arc::new(node.clone()), true).unwrap();
        let graph = Graph::new(cluster, &Estimator::new(tpch_statistics()))?;
        cost = Some(graph.cost(&search::best(&graph), true));
        Ok(TreeNodeRecursion::Stop)
    })
    .unwrap();
    cost.unwrap()
}

#[tokio::test]
async fn the_order_of_from_does_not_matter() {
    let context = tpch(false);
    let written = ["customer", "orders", "lineitem", "supplier", "nation", "region"];
    let expected = best_cost(&optimized(&context, Q5).await);
    for turn in 1..written.len() {
        let mut turned = written;
        turned.rotate_left(turn);
        turned.swap(0, turn / 2);
        let sql = Q5.replace(&written.join(", "), &turned.join(", "));
        let cost = best_cost(&optimized(&context, &sql).await);
        assert!((cost / expected - 1.0).abs() < 1e-6, "{cost} is not {expected} for\n{sql}");
    }
}

#[tokio::test]
async fn more_relations_than_can_be_enumerated_are_joined_greedily() {
    let names: Vec<String> = (0..14).map(|i| format!("n{i}")).collect();
    let from: Vec<String> = names.iter().map(|name| format!("nation {name}")).collect();
    let on: Vec<String> = names.windows(2).map(|pair| format!("{}.n_nationkey = {}.n_regionkey", pair[0], pair[1])).collect();
    let sql = format!("select count(*) from {} where {} and n13.n_name = 'PERU'", from.join(", "), on.join(" and "));
    let plan = optimized(&tpch(true), &sql).await;
    assert_eq!(joins(&plan).len(), 13, "{}", plan.display_indent());
    assert!(best_cost(&optimized(&tpch(false), &sql).await).is_finite());
}

/// What is computed of two tables and equals a column of a third is a key of the join with that.
#[tokio::test]
async fn an_equality_of_three_tables_is_a_key() {
    for sql in [
        "select c_name from supplier, nation, customer where s_nationkey = n_nationkey and s_suppkey + n_regionkey = c_custkey",
        "select c_name from supplier, customer, nation where c_nationkey = n_nationkey and c_custkey - n_regionkey = s_suppkey",
        "select c_name from supplier, nation, region, customer where s_nationkey = n_nationkey and n_regionkey = r_regionkey
         and c_nationkey = n_nationkey and s_suppkey + r_regionkey = c_custkey",
    ] {
        let plan = optimized(&tpch(true), sql).await;
        let is_computed = |(left, right): &(Expr, Expr)| !matches!((left, right), (Expr::Column(_), Expr::Column(_)));
        let found = plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(join) if join.on.iter().any(is_computed)))).unwrap();
        assert!(found, "no such key in\n{}", plan.display_indent());
    }
}

/// All joins that have no keys.
fn without_keys(plan: &LogicalPlan) -> usize {
    let mut count = 0;
    plan.apply(|node| {
        count += usize::from(matches!(node, LogicalPlan::Join(join) if join.on.is_empty()));
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    count
}

/// Tables that are listed in an order in which neighbours have nothing to do with each other.
#[tokio::test]
async fn a_list_becomes_joins_by_keys() {
    let list = "select count(*) from region, customer, nation, orders where r_regionkey = n_regionkey and c_nationkey = n_nationkey
                and c_custkey = o_custkey";
    // The keys of the last join only, which is one of a product. So is the other, and nothing says that an order is cheaper.
    let joined = "select count(*) from region cross join supplier join nation on r_regionkey = n_regionkey and s_nationkey = n_nationkey";
    let few = "select count(*) from nation a, nation b, nation c, nation d where a.n_nationkey = d.n_nationkey
               and b.n_nationkey = d.n_nationkey and c.n_nationkey = d.n_nationkey
               and a.n_name = 'x' and b.n_name = 'x' and c.n_name = 'x' and d.n_name = 'x'";
    // By our order, by DataFusion's where ours is off, and by DataFusion's where a condition must not be moved.
    for (sql, number, joined) in [(list, "o_totalprice", 3), (joined, "s_suppkey", 2), (few, "a.n_regionkey", 3)] {
        for (reordering, sql) in [(true, sql.to_owned()), (false, sql.to_owned()), (true, format!("{sql} and {number} > random()"))] {
            let plan = optimized(&tpch(reordering), &sql).await;
            assert_eq!((joins(&plan).len(), without_keys(&plan)), (joined, 0), "{sql}\n{}", plan.display_indent());
        }
    }
}

/// The first pass knows the keys when it pushes filters down.
#[tokio::test]
async fn a_filter_of_a_key_is_one_of_both_tables() {
    let plan =
        optimized(&tpch(true), "select c_name, o_totalprice from customer, orders where c_custkey = o_custkey and o_custkey = 5").await;
    let text = plan.display_indent().to_string();
    assert!(text.contains("c_custkey = Int64(5)") && text.contains("o_custkey = Int64(5)"), "{text}");
}

#[tokio::test]
async fn a_filter_of_a_key_is_one_of_all_tables_that_share_it() {
    for from in ["supplier, customer, nation", "nation, supplier, customer", "customer, nation, supplier"] {
        let sql = format!("select count(*) from {from} where s_nationkey = n_nationkey and c_nationkey = n_nationkey and n_nationkey = 5");
        let text = optimized(&tpch(true), &sql).await.display_indent().to_string();
        assert!(["s_nationkey", "c_nationkey", "n_nationkey"].iter().all(|key| text.contains(&format!("{key} = Int64(5)"))), "{text}");
    }
}
