//! Whatever the order, the answer is the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use crate::fixture::{Known, context};

type Row = [Option<i64>; 3];

/// Tables `t0`, `t1` and so on, with columns a, b and c and the table's number behind.
#[derive(Clone, Debug)]
struct Tables {
    rows: Vec<Vec<Row>>,
    /// What statistics say: rows, and different values of every column. They need not be right.
    claimed: Vec<(usize, usize)>,
}

impl Tables {
    fn session(&self, join_reordering: bool) -> SessionContext {
        let mut known = Known::default();
        for (table, (rows, distinct)) in self.claimed.iter().enumerate() {
            let column = ColumnStatistics::new_unknown().with_distinct_count(Precision::Inexact(*distinct.min(rows)));
            let statistics =
                Statistics { num_rows: Precision::Inexact(*rows), total_byte_size: Precision::Absent, column_statistics: vec![column; 3] };
            known.0.insert(format!("a{table}"), Arc::new(statistics));
        }
        let session = context(Arc::new(known), join_reordering);
        for (table, rows) in self.rows.iter().enumerate() {
            let column = |index: usize| Arc::new(rows.iter().map(|row| row[index]).collect::<Int64Array>()) as ArrayRef;
            let columns = ["a", "b", "c"].iter().enumerate().map(|(index, name)| (format!("{name}{table}"), column(index), true));
            let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
            let provider = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
            session.register_table(format!("t{table}"), Arc::new(provider)).unwrap();
        }
        session
    }
}

/// A query's rows, in no order.
async fn run(session: &SessionContext, sql: &str) -> Result<Vec<String>> {
    let frame = Box::pin(session.sql(sql)).await?;
    let batches = Box::pin(frame.collect()).await?;
    let mut lines: Vec<String> = pretty_format_batches(&batches)?.to_string().lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// Asserts that a query gives the same with and without the rule, if it can be run at all.
fn check(tables: &Tables, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let Ok(expected) = Box::pin(run(&tables.session(false), sql)).await else { return };
        let found = Box::pin(run(&tables.session(true), sql)).await.unwrap_or_else(|e| panic!("{e} for\n{sql}"));
        assert_eq!(expected, found, "for\n{sql}");
    });
}

/// A column of a table.
fn column(table: usize, index: usize) -> String {
    format!("t{table}.{}{table}", ["a", "b", "c"][index])
}

/// A join graph and further predicates.
#[derive(Clone, Debug)]
struct Query {
    /// For each table but the first: an earlier one that it is joined with (by remainder), and the two columns.
    joins: Vec<(usize, usize, usize)>,
    /// Two columns, and how they are compared.
    more: Vec<(usize, usize, usize, usize, u8)>,
    /// A column, the column of a sub-query and the form of that.
    semis: Vec<(usize, usize, usize, usize, u8)>,
    star: bool,
}

impl Query {
    fn sql(&self) -> String {
        let count = self.joins.len() + 1;
        let mut conditions = vec![];
        for (index, (to, theirs, ours)) in self.joins.iter().enumerate() {
            let table = index + 1;
            let to = if self.star { 0 } else { to % table };
            conditions.push(format!("{} = {}", column(to, *theirs), column(table, *ours)));
        }
        for (t, c, u, d, form) in &self.more {
            let (l, r) = (column(*t, *c), column(*u, *d));
            conditions.push(match form {
                0 => format!("{l} = {r}"),
                1 => format!("{l} <= {r}"),
                2 => format!("{l} + {r} = {}", column((t + 1) % count, *d)),
                3 => format!("({l} = 1 or {r} = 0)"),
                4 => format!("{l} is not distinct from {r}"),
                _ => format!("{l} > 0"),
            });
        }
        for (t, c, u, d, form) in &self.semis {
            let (outer, other) = (column(*t, *c), column((t + 1) % count, *d));
            let name = ["a", "b", "c"][*d];
            let (not, form) = (if form & 1 == 0 { "" } else { "not " }, form / 2);
            conditions.push(match form {
                0 => format!("{not}exists (select 1 from t{u} s where s.{name}{u} = {outer})"),
                1 => format!("{not}exists (select 1 from t{u} s where s.{name}{u} = {outer} and s.a{u} <> {other})"),
                _ => format!("{outer} {not}in (select s.{name}{u} from t{u} s)"),
            });
        }
        let select: Vec<String> = (0..count).map(|table| format!("{}, {}", column(table, 0), column(table, 2))).collect();
        let from: Vec<String> = (0..count).map(|table| format!("t{table}")).collect();
        format!("select {} from {} where {}", select.join(", "), from.join(", "), conditions.join(" and "))
    }
}

fn any_query() -> impl Strategy<Value = (Tables, Query)> {
    // Few values and few rows, so that joins of many tables find matches, but not millions of them.
    let row = prop::array::uniform3(prop::option::weighted(0.9, 0..2i64));
    let rows = prop::collection::vec(row, 1..4);
    (3..=12usize).prop_flat_map(move |count| {
        let tables = (prop::collection::vec(rows.clone(), count), prop::collection::vec((1..1_000_000usize, 1..1000usize), count));
        let tables = tables.prop_map(|(rows, claimed)| Tables { rows, claimed });
        let query = (
            prop::collection::vec((0..100usize, 0..3usize, 0..3usize), count - 1),
            prop::collection::vec((0..count, 0..3usize, 0..count, 0..3usize, 0..6u8), 0..3),
            prop::collection::vec((0..count, 0..3usize, 0..count, 0..3usize, 0..6u8), 0..3),
            prop::bool::weighted(0.3),
        );
        (tables, query.prop_map(|(joins, more, semis, star)| Query { joins, more, semis, star }))
    })
}

/// A rule that sees the equality later must not make it a key beside the other condition: its NULLs are not equal.
#[test]
fn nulls_are_equal_only_where_they_are_not_distinct() {
    let rows =
        [[Some(0), None, Some(0)], [Some(0), Some(0), None], [None, Some(0), None], [None, Some(0), Some(0)], [Some(0), Some(0), None]];
    let rows = rows.into_iter().chain([[None, None, Some(0)]]).map(|row| vec![row]).collect();
    let claimed = vec![(1, 1), (513_796, 2), (15_142, 1), (15_933, 1), (5396, 3), (541_217, 234)];
    let sql = "select t0.a0 from t0, t1, t2, t3, t4, t5 where t0.a0 = t1.a1 and t0.a0 = t2.b2 and t0.c0 = t3.b3 and t2.b2 = t4.a4 \
               and t3.c3 = t5.c5 and t4.b4 + t3.b3 = t5.b5 and t4.a4 is not distinct from t4.b4";
    check(&Tables { rows, claimed }, sql);
}

/// A key of three tables: what flattens joins must not lose it.
#[test]
fn a_key_of_three_tables_is_not_lost() {
    let rows = [
        [Some(0), None, Some(1)],
        [Some(1), None, Some(1)],
        [Some(1), None, Some(1)],
        [Some(1), None, Some(1)],
        [None, Some(1), Some(1)],
        [None, None, Some(1)],
        [Some(0), None, None],
        [Some(1), None, None],
    ];
    let rows = rows.into_iter().map(|row| vec![row]).collect();
    let claimed = vec![(95475, 1), (49523, 1), (330302, 73), (469205, 2), (447, 1), (5964, 1), (23972, 474), (37935, 898)];
    let sql = "select t0.a0, t0.c0, t1.a1, t1.c1, t2.a2, t2.c2, t3.a3, t3.c3, t4.a4, t4.c4, t5.a5, t5.c5, t6.a6, t6.c6, t7.a7, t7.c7 \
               from t0, t1, t2, t3, t4, t5, t6, t7 where t0.c0 = t1.c1 and t0.c0 = t2.c2 and t1.a1 = t3.a3 and t3.c3 = t4.b4 \
               and t1.c1 = t5.c5 and t0.a0 = t6.a6 and t4.c4 = t7.a7 and t7.a7 = t2.a2 and t7.a7 + t4.c4 = t0.c0";
    check(&Tables { rows, claimed }, sql);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_order_gives_the_same_rows((tables, query) in any_query()) {
        check(&tables, &query.sql());
    }
}

/// Four tables in which most things match, the first said to be the largest.
fn four_tables() -> Tables {
    let value = |seed: usize| match (seed * 7 + seed / 3) % 5 {
        4 => None,
        other => Some(other as i64 % 3),
    };
    let table = |t: usize| (0..6).map(|r| [value(t + r), value(2 * t + 3 * r + 1), value(t * r + 2)]).collect();
    Tables { rows: (0..4).map(table).collect(), claimed: vec![(1_000_000, 1000), (10_000, 100), (100, 100), (10, 10)] }
}

#[test]
fn what_is_not_an_inner_join_stays_right() {
    let tables = four_tables();
    for sql in [
        // Outer joins are leaves, with clusters inside.
        "select * from t0 join t1 on a0 = a1 left join (select * from t2 join t3 on a2 = a3 join t1 x on x.b1 = b2) d on d.b3 = b0",
        "select * from (t0 left join t1 on a0 = a1) join t2 on b0 = a2 join t3 on c2 = c3 and b1 = b3",
        // One name twice, once aliases are seen through.
        "select * from (select t0.a0, t1.b1 from t0, t1, t2 where a0 = a1 and b1 = b2) p
            join (select t0.a0, t1.b1 from t0, t1, t3 where b0 = b1 and c1 = c3) q on p.a0 = q.a0",
        "select x.a0 k, y.a0 from t0 x join t0 y on x.a0 = y.b0 join t3 on y.c0 = a3 where x.b0 <> y.b0",
        // Two columns of one table in a class.
        "select * from t0, t1, t2 where a0 = a1 and b0 = a1 and a1 = a2 and c2 = a2",
        // Products, and conditions across them.
        "select * from t0, t1, t2, t3 where a0 = a1 and a2 = a3",
        "select * from t0, t1, t2, t3 where a0 + a1 = a2 and b2 < b3",
        "select * from t0, t1, t2 where a0 + a1 = a2 + b0",
        // NULLs that are equal.
        "select * from t0 join t1 on a0 is not distinct from a1 join t2 on a1 = a2 join t3 on b2 = b3",
        // Sub-queries of all forms.
        "select * from t0, t1, t2 where a0 = a1 and a1 = a2 and b0 not in (select a3 from t3)",
        "select * from t0, t1, t2 where a0 = a1 and a1 = a2 and (b0 in (select a3 from t3) or c1 = 1)",
        "select * from t0, t1, t2 where a0 = a1 and a1 = a2 and b0 > (select min(a3) from t3 where b3 = c1)",
        "select * from t0, t1, t2 where a0 = a1 and a1 = a2 and b0 >=
            (select min(x.a3) from t3 x, t2 y, t1 z where x.b3 = y.b2 and y.a2 = z.a1)",
        "select * from t0, t1, t2 where a0 = a1 and a1 = a2 and exists (select 1 from t3 where b3 = b0 and c3 < c2)",
        "select a0 from t0, t1, t2 where a0 = a1 and a1 = a2 intersect select a3 from t3",
        // Groups, windows and limits are leaves.
        "select * from t0 join (select a1, count(*) n from t1, t2, t3 where a1 = a2 and a2 = a3 group by a1) g
            on a0 = g.a1 join t2 on b0 = b2",
        "select * from t0 join (select a1, row_number() over (order by a1, b1, c1) n from t1) w on a0 = w.n join t2 on b0 = b2",
        "select * from t0, t1, t2 where a0 = a1 and a1 = a2 and 1 = 0",
        "select count(*) from t0, t1, t2, t3 where a0 = a1 and b1 = b2 and c2 = c3",
    ] {
        check(&tables, sql);
    }
}

#[test]
fn a_plan_is_changed_at_all() {
    let tables = four_tables();
    let sql = "select * from t0, t1, t2, t3 where a0 = a1 and b0 = b2 and c0 = c3 and b1 = 1";
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let plan = |join_reordering| {
        let session = tables.session(join_reordering);
        runtime.block_on(async { crate::fixture::optimized(&session, sql).await.display_indent().to_string() })
    };
    assert_ne!(plan(false), plan(true));
}
