//! Any data, and any claims of what it holds: answers are those of DataFusion's own rules.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use super::{Claims, register, session};
use crate::OptimizerOptions;

/// A row of r (ra, rb, rc), s (sa, sb, sc) or t (ta, tb, tc).
type Row = (Option<i64>, Option<i64>, Option<i64>);

/// What a table is said to hold: rows, and distinct values of each column.
type Claim = (usize, (usize, usize, usize));

const QUERIES: [&str; 28] = [
    // IN and EXISTS above joins.
    "select * from r, s where ra = sa and rb in (select tb from t)",
    "select * from r, s where ra = sa and sa in (select ta from t where tb > 1)",
    "select * from r, s where ra = sa and rb in (select tb from t group by tb having sum(tc) > 2)",
    "select * from r, s, t where ra = sa and sb = tb and ta in (select max(rc) from r group by ra)",
    "select * from r, s where ra = sa and exists (select 1 from t where ta = sa and tb <> rb)",
    "select * from r, s where ra = sa and not exists (select 1 from t where ta = ra and tb > sb)",
    "select * from r, s where ra = sa and not exists (select 1 from t where tb = sb)",
    "select * from r, s where ra = sa and exists (select 1 from t, s s2 where ta = ra and tb = s2.sb and s2.sc > 0)",
    "select * from r, s where ra = sa and exists (select 1 from t where ta = sa)
        and not exists (select 1 from t where ta = ra and tc = sc)",
    // NOT IN: a NULL in the list is another answer.
    "select * from r, s where ra = sa and rb not in (select tb from t)",
    "select * from r, s where ra = sa and rb not in (select tb from t where tb is not null)",
    "select * from r where ra not in (select sa from s group by sa having count(*) > 1)",
    // Above outer joins, aggregates and projections.
    "select * from r left join s on ra = sa where rb in (select tb from t)",
    "select * from r left join s on ra = sa where sb in (select tb from t)",
    "select * from r left join s on ra = sa where sb is null and rb not in (select tb from t)",
    "select * from (select ra, sum(rb) as total from r group by ra) g, s where ra = sa and ra in (select ta from t)",
    "select * from (select ra as x, rb as y from r) q join s on x = sa where y in (select tb from t where tc = x)",
    "select * from (select distinct ra, rb from r) q, s where ra = sa and rb in (select tb from t)",
    // Sub-queries that are computed for each key.
    "select * from r, s where ra = sa and sb = 1 and rc > (select 0.5 * sum(tc) from t where ta = sa)",
    "select * from r, s where ra = sa and sb = 2 and rc = (select min(tc) from t, s s2 where ta = ra and tb = s2.sb)",
    "select * from r where rb = 1 and 2 > (select count(*) from t where ta = ra)",
    "select * from r where rb = 1 and rc >= (select count(tc) from t where ta = ra and tb = rb)",
    "select ra, rb, (select sum(tc) from t where ta = ra) from r where rb = 1",
    "select * from r, (select ta, tb, max(tc) as m from t group by ta, tb having min(tc) < 3) g where ra = ta and rb = tb and rc = 1",
    "select * from r right join (select ta, count(*) as n from t group by ta) g on ra = ta and rb = 1",
    "select * from r where rb = 1 and not exists (select 1 from (select ta, sum(tc) as n from t group by ta) g where ta = ra and n > 2)",
    "select * from r where rb = 2 and ra in (select ta from t where tb in (select sb from s where sa = 1)
        and tc > (select 0.5 * sum(sc) from s where sa = ta and sb = tb))",
    "select * from (select ra, sum(rc) as n from r group by ra) g, (select sa, max(sc) as m from s group by sa) h
        where ra = sa and ra in (select ta from t where tb = 1)",
];

/// Queries whose sub-query has far more groups than are asked for, if r is small and t large.
const RESTRICTED: [&str; 3] = [
    "select * from r, s where ra = sa and sb = 1 and rc < (select avg(tc) from t where ta = ra)",
    "select * from r left join (select ta, count(*) as n from t group by ta) g on ra = ta where rb = 1",
    "select * from r where rb = 1 and ra in (select ta from t group by ta having sum(tc) > 1)",
];

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = || prop::option::weighted(0.85, 0i64..4);
    prop::collection::vec((value(), value(), value()), 0..12)
}

fn claim() -> impl Strategy<Value = Claim> {
    let count = || prop::sample::select(vec![1usize, 100, 50_000, 2_000_000]);
    (count(), (count(), count(), count()))
}

fn statistics(claim: Claim) -> Arc<Statistics> {
    let (rows, (a, b, c)) = claim;
    let column =
        |distinct: usize| ColumnStatistics { distinct_count: Precision::Inexact(distinct.min(rows)), ..ColumnStatistics::default() };
    Arc::new(Statistics {
        num_rows: Precision::Inexact(rows),
        total_byte_size: Precision::Absent,
        column_statistics: vec![column(a), column(b), column(c)],
    })
}

fn create(context: &SessionContext, table: &str, rows: &[Row]) {
    let fields: Vec<Field> = ["a", "b", "c"].map(|column| Field::new(format!("{table}{column}"), DataType::Int64, true)).into();
    let schema = Arc::new(Schema::new(fields));
    let column = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let columns = vec![
        column(rows.iter().map(|row| row.0).collect()),
        column(rows.iter().map(|row| row.1).collect()),
        column(rows.iter().map(|row| row.2).collect()),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    register(context, table, schema, Some(batch));
}

/// The answer's rows, sorted.
async fn answer(context: &SessionContext, query: &str) -> Vec<String> {
    let batches = context.sql(query).await.unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let mut rows: Vec<String> = text.lines().filter(|line| line.starts_with('|')).skip(1).map(str::to_string).collect();
    rows.sort();
    rows
}

fn sessions(tables: &[Vec<Row>; 3], claims: [Claim; 3]) -> (SessionContext, SessionContext) {
    let claims = Claims(["ra", "sa", "ta"].map(String::from).into_iter().zip(claims.map(statistics)).collect());
    let (with, without) = (session(claims, OptimizerOptions::default()), SessionContext::new());
    for (name, rows) in ["r", "s", "t"].into_iter().zip(tables) {
        create(&with, name, rows);
        create(&without, name, rows);
    }
    (with, without)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn answers_stay_the_same(r in rows(), s in rows(), t in rows(), claims in [claim(), claim(), claim()]) {
        let (with, without) = sessions(&[r, s, t], claims);
        block_on(async {
            for query in QUERIES.iter().chain(&RESTRICTED) {
                let (ours, theirs) = (answer(&with, query).await, answer(&without, query).await);
                prop_assert_eq!(ours, theirs, "{}", query);
            }
            Ok(())
        })?;
    }
}

#[test]
fn a_small_outer_side_restricts_the_aggregates() {
    let claims = [(100, (100, 100, 100)), (100, (100, 100, 100)), (2_000_000, (2_000_000, 2_000_000, 2_000_000))];
    let (with, _) = sessions(&[vec![], vec![], vec![]], claims);
    block_on(async {
        for query in RESTRICTED {
            let plan = with.sql(query).await.unwrap().into_optimized_plan().unwrap().display_indent().to_string();
            assert_eq!(plan.matches("SubqueryAlias: __quire_magic").count(), 1, "{query}\n{plan}");
        }
    });
}
