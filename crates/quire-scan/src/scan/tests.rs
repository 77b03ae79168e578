#![allow(clippy::unwrap_used)]
//! What orders find is what looking at every row finds.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringViewArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion_common::ScalarValue;
use datafusion_expr_common::operator::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, DynamicFilterPhysicalExpr, in_list, lit};
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use proptest::prelude::*;
use quire_types::{
    ColumnDef, ColumnId, ColumnStats, ConstraintDef, ConstraintKind, Datum, PageMeta, RowGroupMeta, RowId, RowIds, SchemaId, SegmentId,
    SegmentMeta, SqlType, TableDef, TableId, TableView, Term,
};

use super::Scan;
use crate::{ColumnSource, Order, OwnRows, Predicate, ScanCounters, ScanError, ScanSpec, Tier, indexes_for, row_id_field};

/// A row of the table: `a` and `b` have indexes, `c` has none.
type Row = (Option<i32>, Option<i32>, i32);

/// One conjunct: positions of columns, and numbers that stand for their values.
#[derive(Clone, Debug)]
enum Test {
    Compare(usize, Operator, i32),
    Flipped(usize, Operator, i32),
    In(usize, Vec<Option<i32>>),
    Either(usize, i32, i32),
    Between(usize, i32, i32),
    NotIn(usize, Vec<i32>),
}

/// One segment, in memory.
struct Pages {
    columns: Vec<Vec<ArrayRef>>,
    ids: Vec<ArrayRef>,
    ordered: bool,
}

#[async_trait]
impl ColumnSource for Pages {
    fn resident(&self, _: &SegmentMeta, row_group: usize, column: &ColumnDef) -> Option<ArrayRef> {
        Some(self.columns[row_group][column.id.0 as usize].clone())
    }

    async fn column(&self, _: &Arc<SegmentMeta>, row_group: usize, column: &ColumnDef) -> Result<(ArrayRef, Tier, u64), ScanError> {
        Ok((self.columns[row_group][column.id.0 as usize].clone(), Tier::Memory, 0))
    }

    async fn row_ids(&self, _: &Arc<SegmentMeta>, row_group: usize) -> Result<ArrayRef, ScanError> {
        Ok(self.ids[row_group].clone())
    }

    fn order(&self, _: &SegmentMeta, _: usize, column: &ColumnDef, values: &ArrayRef) -> Result<Option<Order>, ScanError> {
        assert_ne!(column.name, "c", "it has no index");
        Ok(if self.ordered { Some(Order::of(values)?) } else { None })
    }
}

/// The rows of a table with one segment.
struct Rows {
    groups: Vec<Vec<Row>>,
    /// Deleted rows, by the order in which they lie.
    deleted: Vec<usize>,
    /// Whether row ids are in a column.
    reordered: bool,
}

fn table() -> TableDef {
    let column = |id, name: &str, ty| ColumnDef::new(ColumnId(id), name, ty);
    let index = |name: &str, id| {
        let kind = ConstraintKind::Index { columns: vec![ColumnId(id)], unique: false };
        ConstraintDef::new(name, kind)
    };
    TableDef {
        id: TableId(1),
        schema: SchemaId(2200),
        name: "t".into(),
        version: 1,
        columns: vec![column(0, "a", SqlType::Int4), column(1, "b", SqlType::Text), column(2, "c", SqlType::Int8)],
        next_column_id: ColumnId(3),
        constraints: vec![index("by_a", 0), index("by_b", 1)],
        clustering: vec![],
        arrow: Default::default(),
    }
}

fn schema() -> SchemaRef {
    let fields = table().arrow_schema().fields().iter().map(|f| f.as_ref().clone()).chain([row_id_field()]).collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

/// The value of a column that a number stands for.
fn value(column: usize, n: Option<i32>) -> ScalarValue {
    match column {
        0 => ScalarValue::Int32(n),
        1 => ScalarValue::Utf8View(n.map(|n| format!("v{n:03}"))),
        _ => ScalarValue::Int64(n.map(i64::from)),
    }
}

fn compare(column: usize, op: Operator, n: i32) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(named(column), op, lit(value(column, Some(n)))))
}

fn named(column: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema().field(column).name(), column))
}

fn filters(test: &Test) -> Vec<Arc<dyn PhysicalExpr>> {
    let list = |column: usize, values: Vec<Option<i32>>, negated: bool| {
        let values = values.into_iter().map(|n| lit(value(column, n))).collect();
        in_list(named(column), values, &negated, &schema()).unwrap()
    };
    match test {
        Test::Compare(column, op, n) => vec![compare(*column, *op, *n)],
        Test::Flipped(column, op, n) => vec![Arc::new(BinaryExpr::new(lit(value(*column, Some(*n))), *op, named(*column)))],
        Test::In(column, values) => vec![list(*column, values.clone(), false)],
        Test::Either(column, one, other) => {
            let (one, other) = (compare(*column, Operator::Eq, *one), compare(*column, Operator::Eq, *other));
            vec![Arc::new(BinaryExpr::new(one, Operator::Or, other))]
        }
        Test::Between(column, low, high) => vec![compare(*column, Operator::GtEq, *low), compare(*column, Operator::LtEq, *high)],
        Test::NotIn(column, values) => vec![list(*column, values.iter().map(|n| Some(*n)).collect(), true)],
    }
}

impl Rows {
    fn columns(group: &[Row]) -> Vec<ArrayRef> {
        let text = group.iter().map(|row| row.1.map(|n| format!("v{n:03}")));
        vec![
            Arc::new(group.iter().map(|row| row.0).collect::<Int32Array>()),
            Arc::new(text.collect::<StringViewArray>()),
            Arc::new(group.iter().map(|row| Some(i64::from(row.2))).collect::<Int64Array>()),
        ]
    }

    /// The row ids of a group; in a column they descend.
    fn ids(&self, group: usize) -> Vec<u64> {
        let before = self.groups[..group].iter().map(Vec::len).sum::<usize>() as u64;
        let rows = self.groups[group].len() as u64;
        match self.reordered {
            false => (before..before + rows).collect(),
            true => (before..before + rows).rev().collect(),
        }
    }

    fn segment(&self) -> SegmentMeta {
        let row_groups = self.groups.iter().map(|group| {
            let page = |nulls: usize, min: Option<i64>, max: Option<i64>| PageMeta {
                offset: 0,
                length: 0,
                checksum: 0,
                nulls: nulls as u32,
                min: min.map(Datum::Int),
                max: max.map(Datum::Int),
            };
            let a = || group.iter().filter_map(|row| row.0.map(i64::from));
            let nulls = |pick: fn(&Row) -> bool| group.iter().filter(|row| pick(row)).count();
            let pages =
                vec![page(nulls(|r| r.0.is_none()), a().min(), a().max()), page(nulls(|r| r.1.is_none()), None, None), page(0, None, None)];
            RowGroupMeta { rows: group.len() as u32, pages }
        });
        let rows = self.groups.iter().map(Vec::len).sum::<usize>() as u64;
        SegmentMeta {
            id: SegmentId(1),
            table: TableId(1),
            term: Term(1),
            rows,
            bytes: 0,
            row_ids: if self.reordered { RowIds::Column } else { RowIds::Base(RowId(0)) },
            row_id_min: RowId(0),
            row_id_max: RowId(rows.saturating_sub(1)),
            footer: Default::default(),
            columns: (0..3).map(|id| ColumnStats { column: ColumnId(id), sketch: Default::default() }).collect(),
            row_groups: row_groups.collect(),
        }
    }

    /// What a scan with these predicates gives, and how many rows orders found for it.
    fn scan(&self, tests: &[Test], ordered: bool) -> (RecordBatch, u64) {
        let (batch, counters) = self.counted(tests, ordered, true);
        (batch, count(&counters, "rows_by_index"))
    }

    fn counted(&self, tests: &[Test], ordered: bool, tabulated: bool) -> (RecordBatch, Arc<ScanCounters>) {
        let ids: Vec<Vec<u64>> = (0..self.groups.len()).map(|group| self.ids(group)).collect();
        let all: Vec<u64> = ids.iter().flatten().copied().collect();
        let deleted = self.deleted.iter().filter_map(|&row| all.get(row).copied()).map(RowId).collect();
        let source = Pages {
            columns: self.groups.iter().map(|group| Rows::columns(group)).collect(),
            ids: ids.iter().map(|ids| Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| *id as i64))) as ArrayRef).collect(),
            ordered,
        };
        let filters: Vec<_> = tests.iter().flat_map(filters).collect();
        let schema = schema();
        let spec = ScanSpec {
            table: Arc::new(table()),
            schema: schema.clone(),
            view: Arc::new(TableView { segments: Arc::new(vec![Arc::new(self.segment())]), deleted, ..TableView::default() }),
            delta: vec![],
            own: OwnRows::default(),
            projection: vec![0, 1, 2, 3],
            predicates: filters.iter().map(|f| Predicate::new(f.clone(), &schema).unwrap()).collect(),
            batch_rows: 64,
            limit: None,
            tabulated,
            ordered: None,
        };
        let counters = Arc::new(ScanCounters::default());
        let scan = Scan::new(spec, filters, Arc::new(source), counters.clone()).unwrap();
        let batches: Vec<RecordBatch> = block_on(scan.partition().try_collect()).unwrap();
        (concat_batches(&schema, &batches).unwrap(), counters)
    }
}

fn count(counters: &ScanCounters, name: &str) -> u64 {
    counters.all().into_iter().find(|(other, _)| *other == name).unwrap().1
}

/// 640 rows in which `a` and `b` are 0 to 639, in no order, and `c` is what `a` is in tens.
fn scattered() -> Rows {
    let group = (0..640).map(|i| i * 7 % 640).map(|n| (Some(n), Some((n * 3) % 640), n / 10)).collect();
    Rows { groups: vec![group], deleted: vec![], reordered: false }
}

#[test]
fn an_order_is_used_when_it_finds_few_rows() {
    let rows = scattered();
    let check = |tests: &[Test], found: u64, given: usize| {
        let (batch, by_index) = rows.scan(tests, true);
        assert_eq!((by_index, batch.num_rows()), (found, given), "{tests:?}");
        assert_eq!(rows.scan(tests, false), (batch, 0), "{tests:?}");
    };
    check(&[Test::Compare(0, Operator::Eq, 5)], 1, 1);
    check(&[Test::Compare(0, Operator::Eq, 1000)], 0, 0);
    check(&[Test::Compare(1, Operator::Eq, 5), Test::Compare(2, Operator::Gt, 100)], 1, 0);
    check(&[Test::In(0, vec![Some(1), None, Some(3), Some(3)])], 2, 2);
    check(&[Test::Either(1, 4, 5)], 2, 2);
    check(&[Test::Between(0, 100, 110)], 11, 11);
    check(&[Test::Between(1, 100, 110)], 11, 11);
    check(&[Test::Compare(0, Operator::Gt, 630)], 9, 9);
    check(&[Test::Flipped(0, Operator::GtEq, 9)], 10, 10);
    // Few by its bounds, and not in truth.
    check(&[Test::Compare(0, Operator::Gt, 600)], 0, 39);
    // Many by its bounds.
    check(&[Test::Compare(0, Operator::NotEq, 5)], 0, 639);
    check(&[Test::Compare(0, Operator::Lt, 500)], 0, 500);
    // Without an index.
    check(&[Test::Compare(2, Operator::Eq, 5)], 0, 10);
}

#[test]
fn tables_of_answers_change_no_answer() {
    let rows = scattered();
    let sorted = Rows { groups: vec![(0..640).map(|i| (Some(i), Some(i), i / 10)).collect()], ..scattered() };
    // `a` has bounds, and few numbers between them; `c` has runs of equal numbers.
    for (rows, column) in [(&rows, 0), (&sorted, 2)] {
        for test in [Test::In(column, vec![Some(1), None, Some(3), Some(50)]), Test::NotIn(column, vec![1, 2])] {
            let (with, counted) = rows.counted(std::slice::from_ref(&test), false, true);
            let (without, not_counted) = rows.counted(std::slice::from_ref(&test), false, false);
            assert_eq!(with, without, "{test:?}");
            assert_eq!((count(&counted, "rows_tabulated"), count(&not_counted, "rows_tabulated")), (640, 0), "{test:?}");
        }
    }
}

#[test]
fn bytes_looked_at_are_those_of_conditions_and_of_rows_given() {
    let rows = scattered();
    let touched = |tests: &[Test]| count(&rows.counted(tests, false, true).1, "bytes_touched");
    let all = touched(&[]);
    // Of `c` all 640 numbers of 8 bytes; a tenth of the rows is left, and so much is looked at of the other columns.
    let some = touched(&[Test::Compare(2, Operator::Lt, 6)]);
    assert!(some >= 640 * 8 && some < 640 * 8 + all / 8, "{some} of {all}");
    assert!(touched(&[Test::Compare(2, Operator::Gt, 1000)]) < some);
}

#[test]
fn deleted_rows_are_not_found() {
    let rows = Rows { deleted: (0..640).filter(|i| i * 7 % 640 == 5).collect(), ..scattered() };
    let (batch, found) = rows.scan(&[Test::In(0, vec![Some(5), Some(6)])], true);
    assert_eq!((batch.num_rows(), found), (1, 2));
}

#[test]
fn the_plan_names_indexes() {
    let table = table();
    let names = |tests: &[Test]| indexes_for(&tests.iter().flat_map(filters).collect::<Vec<_>>(), &table);
    assert_eq!(names(&[Test::Compare(0, Operator::Eq, 1)]), ["by_a"]);
    assert_eq!(names(&[Test::Compare(0, Operator::Lt, 1), Test::In(1, vec![Some(1)])]), ["by_b", "by_a"]);
    assert!(names(&[Test::Compare(2, Operator::Eq, 1), Test::NotIn(0, vec![1]), Test::In(1, vec![None])]).is_empty());
}

fn numbers() -> impl Strategy<Value = i32> {
    0..150i32
}

fn tests() -> impl Strategy<Value = Test> {
    let op = || {
        prop_oneof![
            Just(Operator::Eq),
            Just(Operator::NotEq),
            Just(Operator::Lt),
            Just(Operator::LtEq),
            Just(Operator::Gt),
            Just(Operator::GtEq)
        ]
    };
    let column = || 0..3usize;
    prop_oneof![
        (column(), op(), numbers()).prop_map(|(column, op, n)| Test::Compare(column, op, n)),
        (column(), op(), numbers()).prop_map(|(column, op, n)| Test::Flipped(column, op, n)),
        (column(), prop::collection::vec(prop::option::of(numbers()), 1..5)).prop_map(|(column, values)| Test::In(column, values)),
        (column(), numbers(), numbers()).prop_map(|(column, one, other)| Test::Either(column, one, other)),
        (column(), numbers(), 0..10i32).prop_map(|(column, low, width)| Test::Between(column, low, low + width)),
        (column(), prop::collection::vec(numbers(), 1..3)).prop_map(|(column, values)| Test::NotIn(column, values)),
    ]
}

fn rows() -> impl Strategy<Value = Rows> {
    let row = (prop::option::weighted(0.9, numbers()), prop::option::weighted(0.9, numbers()), numbers());
    let groups = prop::collection::vec(prop::collection::vec(row, 1..300), 1..3);
    let deleted = prop::collection::vec(0..300usize, 0..20);
    (groups, deleted, any::<bool>(), any::<bool>()).prop_map(|(mut groups, deleted, reordered, sorted)| {
        if sorted {
            for group in &mut groups {
                group.retain(|row| row.0.is_some());
                group.push((Some(0), None, 0));
                group.sort_by_key(|row| row.0);
            }
        }
        Rows { groups, deleted, reordered }
    })
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, deleted {:?}, reordered {}", self.groups, self.deleted, self.reordered)
    }
}

/// Pages that are elsewhere: it is noted which are asked for, by row group and column, and none comes.
#[derive(Default)]
struct Elsewhere {
    asked: Mutex<BTreeSet<(usize, u32)>>,
    far: bool,
}

#[async_trait]
impl ColumnSource for Elsewhere {
    fn resident(&self, _: &SegmentMeta, _: usize, _: &ColumnDef) -> Option<ArrayRef> {
        None
    }

    fn is_far(&self, _: &SegmentMeta, _: usize, _: &ColumnDef) -> bool {
        self.far
    }

    async fn column(&self, _: &Arc<SegmentMeta>, row_group: usize, column: &ColumnDef) -> Result<(ArrayRef, Tier, u64), ScanError> {
        self.asked.lock().insert((row_group, column.id.0));
        std::future::pending().await
    }

    async fn row_ids(&self, _: &Arc<SegmentMeta>, _: usize) -> Result<ArrayRef, ScanError> {
        std::future::pending().await
    }
}

/// How a scan of [`Elsewhere`] begins.
#[derive(Clone, Copy)]
enum Reading {
    /// There is no stream yet.
    Unread,
    /// Its stream is gone again.
    Dropped,
    /// There is a stream, which nobody has asked for rows.
    Begun,
    /// Rows have been asked for.
    Asked,
}

/// Which pages are asked for of eight row groups with a small and two large ones each; `b` has values from everywhere in all of them.
async fn asked_for(filters: Vec<Arc<dyn PhysicalExpr>>, limit: Option<usize>, far: bool, reading: Reading) -> Vec<(usize, u32)> {
    let group = |from: i32| (from..from + 10).map(|n| (Some(n), Some((n - from) * 8), n)).collect();
    let rows = Rows { groups: (0..8).map(|i| group(i * 10)).collect(), deleted: vec![], reordered: false };
    let mut segment = rows.segment();
    for row_group in &mut segment.row_groups {
        row_group.pages[1].length = 1000;
        (row_group.pages[1].min, row_group.pages[1].max) = (Some(Datum::Int(0)), Some(Datum::Int(72)));
        row_group.pages[2].length = 1 << 20;
    }
    let (source, schema) = (Arc::new(Elsewhere { far, ..Elsewhere::default() }), schema());
    let spec = ScanSpec {
        table: Arc::new(table()),
        schema: schema.clone(),
        view: Arc::new(TableView { segments: Arc::new(vec![Arc::new(segment)]), ..TableView::default() }),
        delta: vec![],
        own: OwnRows::default(),
        projection: vec![0, 1, 2],
        predicates: filters.iter().map(|f| Predicate::new(f.clone(), &schema).unwrap()).collect(),
        batch_rows: 64,
        limit,
        tabulated: false,
        ordered: None,
    };
    let scan = Scan::new(spec, filters, source.clone(), Arc::default()).unwrap();
    let mut stream = (!matches!(reading, Reading::Unread)).then(|| Box::pin(scan.partition()));
    scan.begin().unwrap();
    if matches!(reading, Reading::Dropped) {
        stream = None;
    }
    if let (Some(stream), Reading::Asked) = (&mut stream, reading) {
        assert!(futures::poll!(stream.next()).is_pending());
    }
    tokio::task::yield_now().await;
    drop(stream);
    let asked = source.asked.lock().clone();
    asked.into_iter().collect()
}

fn pages(row_groups: Range<usize>, columns: Range<u32>) -> Vec<(usize, u32)> {
    row_groups.flat_map(|row_group| columns.clone().map(move |column| (row_group, column))).collect()
}

#[tokio::test]
async fn what_is_read_first_is_requested_before_anybody_asks_for_rows() {
    // Of the first four row groups the columns of predicates, and small pages; not those that bounds exclude.
    let filter = || vec![compare(0, Operator::Lt, 20)];
    assert_eq!(asked_for(filter(), None, false, Reading::Begun).await, pages(0..2, 0..2));
    assert_eq!(asked_for(vec![], None, false, Reading::Begun).await, pages(0..4, 0..3));
    assert_eq!(asked_for(filter(), None, false, Reading::Unread).await, pages(0..2, 0..2));
    assert_eq!(asked_for(filter(), None, false, Reading::Dropped).await, []);
    assert_eq!(asked_for(filter(), None, false, Reading::Asked).await, pages(0..2, 0..2));
}

#[tokio::test]
async fn of_what_is_far_more_is_requested_at_once() {
    let filter = || vec![compare(0, Operator::Lt, 60)];
    assert_eq!(asked_for(filter(), None, true, Reading::Begun).await, pages(0..6, 0..3));
    assert_eq!(asked_for(vec![], None, true, Reading::Begun).await, pages(0..8, 0..3));
    // few rows are wanted, or rows of few values
    assert_eq!(asked_for(filter(), Some(5), true, Reading::Begun).await, pages(0..4, 0..2));
    let sought = || vec![compare(0, Operator::Eq, 25)];
    assert_eq!(asked_for(sought(), None, true, Reading::Begun).await, pages(2..3, 0..2));
    assert_eq!(asked_for(vec![], Some(5), true, Reading::Begun).await, pages(0..4, 0..3));
    // What a join will say may leave most of it out: until rows are asked for, large pages wait, and what comes brings on nothing.
    let joined =
        |column: usize| -> Vec<Arc<dyn PhysicalExpr>> { vec![Arc::new(DynamicFilterPhysicalExpr::new(vec![named(column)], lit(true)))] };
    assert_eq!(asked_for(joined(0), None, true, Reading::Begun).await, pages(0..8, 0..2));
    assert_eq!(asked_for(joined(0), None, false, Reading::Begun).await, pages(0..4, 0..2));
    assert_eq!(asked_for(joined(0), None, true, Reading::Asked).await, pages(0..8, 0..3));
    // It cannot where every row group has values of all sizes.
    assert_eq!(asked_for(joined(1), None, true, Reading::Begun).await, pages(0..8, 0..3));
}

proptest! {
    #[test]
    fn orders_find_what_looking_at_every_row_finds(rows in rows(), tests in prop::collection::vec(tests(), 1..4)) {
        let (found, _) = rows.scan(&tests, true);
        let (expected, _) = rows.scan(&tests, false);
        prop_assert_eq!(found, expected);
    }
}
