#![allow(clippy::unwrap_used)]

use datafusion::logical_expr::{Expr, col, lit};

use super::*;
use crate::fixture::{optimized, tpch, tpch_statistics};

/// Rows that are estimated for a query.
async fn rows(sql: &str) -> f64 {
    let plan = optimized(&tpch(false), sql).await;
    let estimate = Estimator::new(tpch_statistics()).estimate(&plan);
    assert_eq!(estimate.columns.len(), plan.schema().fields().len(), "{sql}");
    for column in &estimate.columns {
        assert!(column.distinct.is_finite() && column.distinct >= 0.0 && column.distinct <= estimate.rows, "{sql}: {column:?}");
        assert!((0.0..=1.0).contains(&column.nulls), "{sql}: {column:?}");
    }
    assert!(estimate.rows.is_finite() && estimate.rows >= 0.0, "{sql}: {}", estimate.rows);
    estimate.rows
}

async fn check(cases: &[(&str, f64, f64)]) {
    for (sql, least, most) in cases {
        let rows = rows(sql).await;
        assert!((*least..=*most).contains(&rows), "{sql}: {rows} is not within {least} and {most}");
    }
}

#[tokio::test]
async fn predicates_are_estimated_from_values() {
    check(&[
        ("select * from lineitem", 6_001_215.0, 6_001_215.0),
        ("select * from nation where n_name = 'FRANCE'", 0.9, 1.1),
        ("select * from nation where n_nationkey in (3, 5, 7, 9)", 3.9, 4.1),
        ("select * from nation where n_nationkey <> 3", 23.9, 24.1),
        ("select * from orders where o_orderkey = 9999999", 0.0, 2.0),
        // One of seven years, as two predicates on one column.
        ("select * from orders where o_orderdate >= date '1994-01-01' and o_orderdate < date '1995-01-01'", 200e3, 230e3),
        ("select * from orders where o_orderdate between date '1994-01-01' and date '1994-12-31'", 200e3, 230e3),
        ("select * from orders where date '1995-06-17' < o_orderdate", 650e3, 850e3),
        ("select * from orders where o_orderdate > date '2030-01-01'", 0.0, 2.0),
        ("select * from lineitem where l_quantity < 24", 2.5e6, 3.1e6),
        ("select * from part where p_name like '%green%'", 5e3, 40e3),
        ("select * from part where p_name not like '%green%'", 160e3, 195e3),
        ("select * from orders where o_custkey is null", 0.0, 2.0),
        ("select * from orders where o_custkey is not null", 1.5e6, 1.5e6),
        ("select * from lineitem where l_commitdate < l_receiptdate", 1e6, 4e6),
        ("select * from customer limit 10", 10.0, 10.0),
        ("select 1", 1.0, 1.0),
    ])
    .await;
}

#[tokio::test]
async fn joins_are_estimated_from_their_keys() {
    check(&[
        ("select * from orders join lineitem on o_orderkey = l_orderkey", 5.5e6, 6.5e6),
        ("select * from customer join orders on c_custkey = o_custkey", 1.4e6, 1.6e6),
        // Two correlated keys: multiplied they would give 2 400 rows.
        ("select * from lineitem join partsupp on l_partkey = ps_partkey and l_suppkey = ps_suppkey", 2e6, 20e6),
        ("select * from customer left join orders on c_custkey = o_custkey", 1.5e6, 1.7e6),
        ("select * from nation, region", 125.0, 125.0),
        // Two columns are the key: what is left out of one side, by another column, is left out of the join.
        ("select * from partsupp, lineitem where ps_partkey = l_partkey and ps_suppkey = l_suppkey", 5.9e6, 6.1e6),
        ("select * from partsupp, lineitem where ps_partkey = l_partkey and ps_suppkey = l_suppkey and ps_partkey < 20000", 4e5, 9e5),
        (
            "select * from partsupp, part, lineitem where p_partkey = ps_partkey and p_type = 'x' and ps_partkey = l_partkey and ps_suppkey = l_suppkey",
            3e4,
            5e4,
        ),
        ("select * from orders where exists (select 1 from lineitem where l_orderkey = o_orderkey)", 0.5e6, 1.5e6),
        ("select * from customer where exists (select 1 from orders where o_custkey = c_custkey)", 90e3, 110e3),
        ("select * from customer where not exists (select 1 from orders where o_custkey = c_custkey)", 40e3, 60e3),
    ])
    .await;
}

#[tokio::test]
async fn groups_are_not_more_than_rows() {
    check(&[
        ("select o_custkey, count(*) from orders group by o_custkey", 100e3, 100e3),
        ("select count(*) from orders", 1.0, 1.0),
        ("select distinct n_regionkey from nation", 5.0, 5.0),
        ("select l_orderkey, l_partkey, l_suppkey, count(*) from lineitem group by 1, 2, 3", 1.5e6, 6_001_215.0),
        ("select n_name from nation union all select r_name from region", 30.0, 30.0),
    ])
    .await;
}

#[test]
fn nothing_known_is_still_a_number() {
    let schema = DFSchema::empty();
    let nothing = Estimate { rows: 0.0, columns: vec![] };
    let predicates: Vec<Expr> = vec![
        col("x").eq(lit(1)),
        col("x").not_eq(col("y")),
        col("x").between(lit(1), lit(2)),
        col("x").like(lit("")).and(col("x").in_list(vec![], false)),
        lit(ScalarValue::Null),
    ];
    for predicate in predicates {
        let share = selectivity(&predicate, &schema, &nothing);
        assert!((0.0..=1.0).contains(&share), "{predicate}: {share}");
    }
}

#[test]
fn keys_of_several_columns_are_damped() {
    assert_eq!(different_keys(vec![200e3, 10e3], 800e3), 800e3);
    assert_eq!(different_keys(vec![200e3, 10e3], 1e12), 200e3 * 100.0);
    assert_eq!(different_keys(vec![200e3, 10e3], 10.0), 200e3);
    assert_eq!(different_keys(vec![], 10.0), 1.0);
}
