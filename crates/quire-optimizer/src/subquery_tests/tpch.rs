//! The shapes of TPC-H's queries, with what its tables hold at scale factor 1.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::logical_expr::{Join, JoinType, LogicalPlan};

use super::{Claims, register, session};
use crate::OptimizerOptions;

#[derive(Clone, Copy)]
enum Kind {
    /// A key, from 1 on.
    Key,
    Int,
    Number,
    Text,
    Date,
}
use Kind::*;

/// Name, rows, and each column's name, kind and distinct values.
const TABLES: [(&str, usize, &[(&str, Kind, usize)]); 8] = [
    ("region", 5, &[("r_regionkey", Key, 5), ("r_name", Text, 5)]),
    ("nation", 25, &[("n_nationkey", Key, 25), ("n_name", Text, 25), ("n_regionkey", Key, 5)]),
    (
        "supplier",
        10_000,
        &[
            ("s_suppkey", Key, 10_000),
            ("s_name", Text, 10_000),
            ("s_address", Text, 10_000),
            ("s_nationkey", Key, 25),
            ("s_phone", Text, 10_000),
            ("s_acctbal", Number, 9_955),
            ("s_comment", Text, 10_000),
        ],
    ),
    (
        "part",
        200_000,
        &[
            ("p_partkey", Key, 200_000),
            ("p_name", Text, 200_000),
            ("p_mfgr", Text, 5),
            ("p_brand", Text, 25),
            ("p_type", Text, 150),
            ("p_size", Int, 50),
            ("p_container", Text, 40),
        ],
    ),
    (
        "partsupp",
        800_000,
        &[("ps_partkey", Key, 200_000), ("ps_suppkey", Key, 10_000), ("ps_availqty", Int, 10_000), ("ps_supplycost", Number, 100_000)],
    ),
    ("customer", 150_000, &[("c_custkey", Key, 150_000), ("c_name", Text, 150_000)]),
    (
        "orders",
        1_500_000,
        &[
            ("o_orderkey", Key, 1_500_000),
            ("o_custkey", Key, 100_000),
            ("o_orderstatus", Text, 3),
            ("o_totalprice", Number, 1_460_000),
            ("o_orderdate", Date, 2_406),
        ],
    ),
    (
        "lineitem",
        6_000_000,
        &[
            ("l_orderkey", Key, 1_500_000),
            ("l_partkey", Key, 200_000),
            ("l_suppkey", Key, 10_000),
            ("l_quantity", Number, 50),
            ("l_extendedprice", Number, 930_000),
            ("l_shipdate", Date, 2_526),
            ("l_commitdate", Date, 2_466),
            ("l_receiptdate", Date, 2_554),
        ],
    ),
];

const Q2: &str = "select s_acctbal, s_name, n_name, p_partkey, p_mfgr, s_address, s_phone, s_comment
    from part, supplier, partsupp, nation, region
    where p_partkey = ps_partkey and s_suppkey = ps_suppkey and p_size = 15 and p_type like '%BRASS'
      and s_nationkey = n_nationkey and n_regionkey = r_regionkey and r_name = 'EUROPE'
      and ps_supplycost = (select min(ps_supplycost) from partsupp, supplier, nation, region
        where p_partkey = ps_partkey and s_suppkey = ps_suppkey and s_nationkey = n_nationkey
          and n_regionkey = r_regionkey and r_name = 'EUROPE')
    order by s_acctbal desc, n_name, s_name, p_partkey limit 100";

const Q17: &str = "select sum(l_extendedprice) / 7.0 as avg_yearly from lineitem, part
    where p_partkey = l_partkey and p_brand = 'Brand#23' and p_container = 'MED BOX'
      and l_quantity < (select 0.2 * avg(l_quantity) from lineitem where l_partkey = p_partkey)";

const Q18: &str = "select c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice, sum(l_quantity)
    from customer, orders, lineitem
    where o_orderkey in (select l_orderkey from lineitem group by l_orderkey having sum(l_quantity) > 300)
      and c_custkey = o_custkey and o_orderkey = l_orderkey
    group by c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice
    order by o_totalprice desc, o_orderdate limit 100";

const Q20: &str = "select s_name, s_address from supplier, nation
    where s_suppkey in (select ps_suppkey from partsupp
        where ps_partkey in (select p_partkey from part where p_name like 'forest%')
          and ps_availqty > (select 0.5 * sum(l_quantity) from lineitem
            where l_partkey = ps_partkey and l_suppkey = ps_suppkey
              and l_shipdate >= date '1994-01-01' and l_shipdate < date '1995-01-01'))
      and s_nationkey = n_nationkey and n_name = 'CANADA'
    order by s_name";

const Q21: &str = "select s_name, count(*) as numwait from supplier, lineitem l1, orders, nation
    where s_suppkey = l1.l_suppkey and o_orderkey = l1.l_orderkey and o_orderstatus = 'F'
      and l1.l_receiptdate > l1.l_commitdate
      and exists (select * from lineitem l2 where l2.l_orderkey = l1.l_orderkey and l2.l_suppkey <> l1.l_suppkey)
      and not exists (select * from lineitem l3 where l3.l_orderkey = l1.l_orderkey and l3.l_suppkey <> l1.l_suppkey
        and l3.l_receiptdate > l3.l_commitdate)
      and s_nationkey = n_nationkey and n_name = 'SAUDI ARABIA'
    group by s_name order by numwait desc, s_name limit 100";

fn data_type(kind: Kind) -> DataType {
    match kind {
        Key => DataType::Int64,
        Int => DataType::Int32,
        Number => DataType::Decimal128(15, 2),
        Text => DataType::Utf8,
        Date => DataType::Date32,
    }
}

fn column(kind: Kind, distinct: usize) -> ColumnStatistics {
    let (min, max) = match kind {
        Key => (ScalarValue::Int64(Some(1)), ScalarValue::Int64(Some(distinct as i64))),
        Int => (ScalarValue::Int32(Some(1)), ScalarValue::Int32(Some(distinct as i32))),
        Number => (ScalarValue::Decimal128(Some(100), 15, 2), ScalarValue::Decimal128(Some(100 * distinct as i128), 15, 2)),
        // 1992-01-02 and 1998-12-01.
        Date => (ScalarValue::Date32(Some(8_036)), ScalarValue::Date32(Some(10_561))),
        Text => (ScalarValue::Utf8(None), ScalarValue::Utf8(None)),
    };
    let known = |value: ScalarValue| if value.is_null() { Precision::Absent } else { Precision::Exact(value) };
    ColumnStatistics {
        null_count: Precision::Exact(0),
        min_value: known(min),
        max_value: known(max),
        distinct_count: Precision::Inexact(distinct),
        ..ColumnStatistics::default()
    }
}

/// The query's plan with these rules on.
async fn plan(query: &str, options: OptimizerOptions) -> LogicalPlan {
    let mut claims = Claims::default();
    for (_, rows, columns) in TABLES {
        let statistics = Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: columns.iter().map(|(_, kind, distinct)| column(*kind, *distinct)).collect(),
        };
        claims.0.insert(columns[0].0.to_string(), Arc::new(statistics));
    }
    let context = session(claims, options);
    for (name, _, columns) in TABLES {
        let fields: Vec<Field> = columns.iter().map(|(name, kind, _)| Field::new(*name, data_type(*kind), false)).collect();
        register(&context, name, Arc::new(Schema::new(fields)), None);
    }
    context.sql(query).await.unwrap().into_optimized_plan().unwrap()
}

/// The tables that a plan reads, in the order of their names.
fn tables(plan: &LogicalPlan) -> Vec<String> {
    let mut tables = vec![];
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.push(scan.table_name.table().to_string());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    tables.sort();
    tables
}

/// Of each semi and anti join the tables below its kept input, and below its other.
fn semi_joins(plan: &LogicalPlan) -> Vec<(Vec<String>, Vec<String>)> {
    let mut joins = vec![];
    plan.apply(|node| {
        if let LogicalPlan::Join(Join { left, right, join_type, .. }) = node {
            match join_type {
                JoinType::LeftSemi | JoinType::LeftAnti => joins.push((tables(left), tables(right))),
                JoinType::RightSemi | JoinType::RightAnti => joins.push((tables(right), tables(left))),
                _ => {}
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    joins
}

fn has(joins: &[(Vec<String>, Vec<String>)], kept: &[&str], other: &[&str]) -> bool {
    joins.iter().any(|join| join.0 == kept && join.1 == other)
}

fn magic_sets(plan: &LogicalPlan) -> usize {
    plan.display_indent().to_string().matches("SubqueryAlias: __quire_magic").count()
}

#[tokio::test]
async fn q18_keeps_orders_before_it_joins_them() {
    let plan = plan(Q18, OptimizerOptions::default()).await;
    assert!(has(&semi_joins(&plan), &["orders"], &["lineitem"]), "{}", plan.display_indent());
    assert_eq!(magic_sets(&plan), 0, "{}", plan.display_indent());
}

#[tokio::test]
async fn q17_averages_the_parts_asked_for() {
    let plan = plan(Q17, OptimizerOptions::default()).await;
    assert!(has(&semi_joins(&plan), &["lineitem"], &["part"]), "{}", plan.display_indent());
    assert_eq!(magic_sets(&plan), 1, "{}", plan.display_indent());
}

#[tokio::test]
async fn q20_sums_the_parts_asked_for() {
    let plan = plan(Q20, OptimizerOptions::default()).await;
    let joins = semi_joins(&plan);
    assert!(has(&joins, &["lineitem"], &["part"]), "{}", plan.display_indent());
    assert!(has(&joins, &["partsupp"], &["part"]), "{}", plan.display_indent());
    assert_eq!(magic_sets(&plan), 1, "{}", plan.display_indent());
}

#[tokio::test]
async fn q2_finds_the_least_cost_of_the_parts_asked_for() {
    let plan = plan(Q2, OptimizerOptions::default()).await;
    let set = |join: &(Vec<String>, Vec<String>)| join.1 == ["part"] && join.0.contains(&"partsupp".to_string());
    assert!(semi_joins(&plan).iter().any(set), "{}", plan.display_indent());
    assert_eq!(magic_sets(&plan), 1, "{}", plan.display_indent());
}

#[tokio::test]
async fn q21_looks_at_other_lines_when_few_of_its_own_are_left() {
    let plan = plan(Q21, OptimizerOptions::default()).await;
    let joins = semi_joins(&plan);
    let of_lines: Vec<_> = joins.iter().filter(|join| join.1 == ["lineitem"]).collect();
    assert_eq!(of_lines.len(), 2, "{}", plan.display_indent());
    assert!(of_lines.iter().all(|join| join.0.contains(&"nation".to_string())), "{}", plan.display_indent());
}

#[tokio::test]
async fn a_rule_that_is_off_does_nothing() {
    // The join order moves semi joins as well.
    let options = OptimizerOptions { semi_join_pushdown: false, magic_sets: false, join_reordering: false, ..OptimizerOptions::default() };
    assert!(!has(&semi_joins(&plan(Q18, options.clone()).await), &["orders"], &["lineitem"]));
    for query in [Q2, Q17, Q20] {
        assert_eq!(magic_sets(&plan(query, options.clone()).await), 0);
    }
}
