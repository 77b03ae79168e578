#![allow(clippy::unwrap_used)]
//! Streams in the order of the key give the rows that streams in no order give, strays among them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array};
use arrow::datatypes::{Int32Type, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion_common::ScalarValue;
use datafusion_expr_common::operator::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, lit};
use futures::StreamExt;
use futures::executor::block_on;
use proptest::prelude::*;
use quire_types::{
    ColumnDef, ColumnId, ColumnStats, ConstraintDef, ConstraintKind, Datum, PageMeta, RowGroupMeta, RowId, RowIds, SchemaId, SegmentId,
    SegmentMeta, SqlType, TableDef, TableId, TableView, Term,
};

use super::KeyRanges;
use crate::morsel::Morsel;
use crate::{ColumnSource, Order, OwnRows, Predicate, Scan, ScanCounters, ScanError, ScanSpec, Tier, row_id_field};

/// A row of the table: the key `k`, and `v`.
type Row = (i32, i64);
/// A row that a scan gives, with its id.
type Given = (i32, i64, i64);

/// Row ids that a segment has for itself.
const SEGMENT_IDS: u64 = 10_000;
/// The id of the delta's first row.
const DELTA_IDS: u64 = 1_000_000;

/// Segments in memory: of each the rows of its row groups.
#[derive(Clone, Debug, Default)]
struct Segments {
    segments: Vec<Vec<Vec<Row>>>,
    /// Batches of rows that are in no segment: of the delta, and the transaction's own.
    delta: Vec<Vec<Row>>,
    own: Vec<Vec<Row>>,
    /// Deleted rows, counted over all segments and the delta.
    deleted: Vec<usize>,
    /// Whether row ids are in a column, where they descend.
    reordered: bool,
    /// Whether nobody knows that they are sorted.
    unknown: bool,
}

#[async_trait]
impl ColumnSource for Segments {
    fn resident(&self, segment: &SegmentMeta, row_group: usize, column: &ColumnDef) -> Option<ArrayRef> {
        let rows = &self.segments[segment.id.0 as usize][row_group];
        let array: ArrayRef = match column.id.0 {
            0 => Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0))),
            _ => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        };
        Some(array)
    }

    async fn column(&self, segment: &Arc<SegmentMeta>, row_group: usize, column: &ColumnDef) -> Result<(ArrayRef, Tier, u64), ScanError> {
        let array = self.resident(segment, row_group, column).expect("all is in memory");
        Ok((array, Tier::Memory, 0))
    }

    async fn row_ids(&self, segment: &Arc<SegmentMeta>, row_group: usize) -> Result<ArrayRef, ScanError> {
        let groups = &self.segments[segment.id.0 as usize];
        let before = groups[..row_group].iter().map(Vec::len).sum::<usize>();
        let ids = self.ids(segment.id.0 as usize).into_iter().skip(before).take(groups[row_group].len());
        Ok(Arc::new(Int64Array::from_iter_values(ids.map(|id| id as i64))))
    }

    fn order(&self, _: &SegmentMeta, _: usize, _: &ColumnDef, values: &ArrayRef) -> Result<Option<Order>, ScanError> {
        Ok(Some(Order::of(values)?))
    }

    fn sorted_by(&self, _: &SegmentMeta) -> Result<Option<ColumnId>, ScanError> {
        Ok((!self.unknown).then_some(ColumnId(0)))
    }
}

fn table() -> TableDef {
    TableDef {
        id: TableId(1),
        schema: SchemaId(2200),
        name: "t".into(),
        version: 1,
        columns: vec![ColumnDef::new(ColumnId(0), "k", SqlType::Int4), ColumnDef::new(ColumnId(1), "v", SqlType::Int8)],
        next_column_id: ColumnId(2),
        constraints: vec![ConstraintDef {
            name: "by_k".into(),
            kind: ConstraintKind::PrimaryKey(vec![ColumnId(0), ColumnId(1)]),
            deferrable: Default::default(),
        }],
        clustering: vec![ColumnId(0), ColumnId(1)],
        arrow: Default::default(),
    }
}

fn schema() -> SchemaRef {
    let fields = table().arrow_schema().fields().iter().map(|f| f.as_ref().clone()).chain([row_id_field()]).collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

impl Segments {
    /// One segment with row groups of two rows: the least key and the greatest.
    fn of(groups: &[Row]) -> Segments {
        let groups = groups.iter().map(|(min, max)| vec![(*min, 0), (*max as i32, 0)]).collect();
        Segments { segments: vec![groups], ..Segments::default() }
    }

    /// The row ids of a segment's rows, in the order in which they lie.
    fn ids(&self, segment: usize) -> Vec<u64> {
        let first = segment as u64 * SEGMENT_IDS;
        let ids = first..first + self.segments[segment].iter().map(Vec::len).sum::<usize>() as u64;
        if self.reordered { ids.rev().collect() } else { ids.collect() }
    }

    fn meta(&self, segment: usize) -> Arc<SegmentMeta> {
        let page = |bounds: Option<(i64, i64)>| PageMeta {
            offset: 0,
            length: 0,
            checksum: 0,
            nulls: 0,
            min: bounds.map(|bounds| Datum::Int(bounds.0)),
            max: bounds.map(|bounds| Datum::Int(bounds.1)),
        };
        let row_groups = self.segments[segment].iter().map(|rows| {
            let keys = || rows.iter().map(|row| i64::from(row.0));
            RowGroupMeta { rows: rows.len() as u32, pages: vec![page(keys().min().zip(keys().max())), page(None)] }
        });
        let ids = self.ids(segment);
        Arc::new(SegmentMeta {
            id: SegmentId(segment as u64),
            table: TableId(1),
            term: Term(1),
            rows: ids.len() as u64,
            bytes: 0,
            row_ids: if self.reordered { RowIds::Column } else { RowIds::Base(RowId(segment as u64 * SEGMENT_IDS)) },
            row_id_min: RowId(ids.iter().min().copied().unwrap_or(0)),
            row_id_max: RowId(ids.iter().max().copied().unwrap_or(0)),
            footer: Default::default(),
            columns: (0..2).map(|id| ColumnStats { column: ColumnId(id), sketch: Default::default() }).collect(),
            row_groups: row_groups.collect(),
        })
    }

    fn spec(&self, filters: &[Arc<dyn PhysicalExpr>]) -> ScanSpec {
        let in_delta = self.delta.iter().map(Vec::len).sum::<usize>() as u64;
        let ids = (0..self.segments.len()).flat_map(|segment| self.ids(segment)).chain(DELTA_IDS..DELTA_IDS + in_delta);
        let ids: Vec<u64> = ids.collect();
        let deleted = self.deleted.iter().filter_map(|&row| ids.get(row).copied()).map(RowId).collect();
        let segments = Arc::new((0..self.segments.len()).map(|segment| self.meta(segment)).collect());
        let schema = schema();
        ScanSpec {
            table: Arc::new(table()),
            predicates: filters.iter().map(|f| Predicate::new(f.clone(), &schema).unwrap()).collect(),
            schema,
            view: Arc::new(TableView { segments, deleted, ..TableView::default() }),
            delta: with_ids(&self.delta, DELTA_IDS),
            own: OwnRows { batches: self.own.iter().map(|rows| batch_of(rows)).collect(), ..OwnRows::default() },
            projection: vec![0, 1, 2],
            batch_rows: 16,
            limit: None,
            tabulated: true,
            ordered: None,
        }
    }

    fn ranges(&self, spec: &ScanSpec) -> Option<KeyRanges> {
        KeyRanges::of(spec, self).unwrap()
    }

    /// What each of some streams gives when they are read in these turns first, and then by turns to the end.
    fn read(
        &self,
        filters: &[Arc<dyn PhysicalExpr>],
        ordered: bool,
        streams: usize,
        turns: &[usize],
    ) -> (Vec<Vec<Given>>, Arc<ScanCounters>) {
        let mut spec = self.spec(filters);
        if ordered {
            spec.ordered = Some(Arc::new(self.ranges(&spec).unwrap()));
        }
        let counters = Arc::new(ScanCounters::default());
        let scan = Scan::new(spec, filters.to_vec(), Arc::new(self.clone()), counters.clone()).unwrap();
        let mut open: Vec<_> = (0..streams).map(|_| Box::pin(scan.partition())).collect();
        let (mut given, mut ended) = (vec![vec![]; streams], vec![false; streams]);
        for stream in turns.iter().copied().chain(0..).map(|turn| turn % streams) {
            match block_on(open[stream].next()) {
                Some(batch) => given[stream].extend(rows_of(&batch.unwrap())),
                None => ended[stream] = true,
            }
            if !ended.contains(&false) {
                break;
            }
        }
        (given, counters)
    }
}

/// Rows of the table as it is, without ids.
fn batch_of(rows: &[Row]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_new(table().arrow_schema(), vec![keys, values]).unwrap()
}

/// Batches whose rows have ids from this one on.
fn with_ids(batches: &[Vec<Row>], first: u64) -> Vec<(RowId, RecordBatch)> {
    let mut next = first;
    let batches = batches.iter().map(|rows| {
        let first = next;
        next += rows.len() as u64;
        (RowId(first), batch_of(rows))
    });
    batches.collect()
}

fn rows_of(batch: &RecordBatch) -> Vec<Given> {
    let keys = batch.column(0).as_primitive::<Int32Type>();
    let [values, ids] = [1, 2].map(|column| batch.column(column).as_primitive::<Int64Type>());
    (0..batch.num_rows()).map(|row| (keys.value(row), values.value(row), ids.value(row))).collect()
}

/// Each range with its strays in brackets, and the numbers of its row groups: with the least key where it is not the first part, and with
/// what keys are below where it is not the last.
fn shown(ranges: &KeyRanges) -> String {
    let morsel = |index: usize| match &ranges.morsels()[index] {
        Morsel::RowGroup { row_group, part, .. } => {
            let from = part.from.map(|key| format!("{key}..")).unwrap_or_default();
            let below = part.below.map(|key| format!("..{key}")).unwrap_or_default();
            format!("{from}{row_group}{below}")
        }
        Morsel::Rows { positions, .. } => format!("{:?}", positions.as_ref().unwrap().values().to_vec()),
    };
    let range = |number| {
        let taken = ranges.range(number);
        let strays = taken.strays.map(|index| format!("({})", morsel(index)));
        strays.chain(taken.in_order.map(morsel)).collect::<Vec<_>>().join(" ")
    };
    (0..ranges.begins.len()).map(range).collect::<Vec<_>>().join(" | ")
}

#[test]
fn row_groups_make_ranges() {
    let check = |groups: &[Row], expected: Option<&str>| {
        let segments = Segments::of(groups);
        let ranges = segments.ranges(&segments.spec(&[]));
        assert_eq!(ranges.as_ref().map(shown).as_deref(), expected, "{groups:?}");
    };
    check(&[(1, 3)], Some("0"));
    check(&[(1, 2), (3, 3)], Some("0 | 1"));
    check(&[(1, 3), (3, 5), (6, 7)], Some("0..3 | 3..0 1 | 2"));
    check(&[(1, 3), (3, 3), (3, 3), (3, 8), (8, 8)], Some("0..3 | 3..0 1 2 3..8 | 8..3 4"));
    check(&[(3, 3), (1, 3)], Some("1..3 | 3..1 0"));
    check(&[(-1, -1), (-1, -1)], Some("0 1"));
    check(&[(1, 4), (3, 5)], None);
    check(&[(1, 3), (1, 2)], None);
    check(&[], None);
}

#[test]
fn few_keys_make_few_ranges() {
    let are_many = |groups: &[Row]| {
        let segments = Segments::of(groups);
        segments.ranges(&segments.spec(&[])).unwrap().are_many()
    };
    assert!(are_many(&[(1, 3), (3, 5), (5, 7)]));
    assert!(are_many(&[(1, 1), (1, 1)]));
    assert!(!are_many(&[(1, 1), (1, 1), (1, 2)]));
}

#[test]
fn strays_are_shared_out() {
    let check = |strays: Segments, expected: Option<&str>| {
        let groups = [(10, 19), (20, 29), (30, 30), (30, 35), (40, 49), (50, 59), (60, 69), (70, 79)];
        let mut segments = Segments::of(&groups);
        segments.segments.extend(strays.segments);
        let segments = Segments { delta: strays.delta, own: strays.own, ..segments };
        let ranges = segments.ranges(&segments.spec(&[]));
        assert_eq!(ranges.as_ref().map(shown).as_deref(), expected);
    };
    let in_segment = |groups: &[Row]| Segments::of(groups);
    let in_delta = |keys: &[i32]| Segments { delta: vec![keys.iter().map(|key| (*key, 0)).collect()], ..Segments::default() };
    check(in_segment(&[(15, 15)]), Some("(0) 0 | 1 | 2 3 | 4 | 5 | 6 | 7"));
    check(in_segment(&[(5, 10)]), Some("0..10 | 10..0 0 | 1 | 2 3 | 4 | 5 | 6 | 7"));
    check(in_segment(&[(15, 30)]), Some("(0..20) 0 | (20..0..30) 1 | (30..0) 2 3 | 4 | 5 | 6 | 7"));
    check(in_segment(&[(5, 45), (72, 90)]), Some("(0..20) 0 | (20..0..30) 1 | (30..0..40) 2 3 | (40..0) 4 | 5 | 6 | (1) 7"));
    check(in_segment(&[(5, 45), (72, 90), (72, 91)]), None);
    check(in_delta(&[72, 5, 90, 19]), Some("([1, 3]) 0 | 1 | 2 3 | 4 | 5 | 6 | ([0, 2]) 7"));
    check(Segments { own: vec![vec![(33, 0)], vec![(20, 0)]], ..Segments::default() }, Some("0 | ([0]) 1 | ([0]) 2 3 | 4 | 5 | 6 | 7"));
    check(in_delta(&[1, 2, 3, 4, 5]), None);
}

#[test]
fn ranges_need_sorted_segments_and_keys_that_are_there() {
    let segments = Segments::of(&[(1, 2), (2, 3), (3, 4), (4, 5)]);
    let check = |segments: &Segments, change: &dyn Fn(&mut ScanSpec)| {
        let mut spec = segments.spec(&[]);
        change(&mut spec);
        segments.ranges(&spec).is_some()
    };
    let with_key = |key: Option<i32>| {
        let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![key])), Arc::new(Int64Array::from(vec![0]))];
        let fields = table().arrow_schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    };
    assert!(check(&segments, &|_| {}));
    assert!(check(&segments, &|spec| spec.own.deleted = Arc::new([1].into_iter().collect())));
    assert!(check(&segments, &|spec| spec.delta.push((RowId(9), with_key(Some(3))))));
    assert!(!check(&segments, &|spec| spec.delta.push((RowId(9), with_key(None)))));
    assert!(!check(&segments, &|spec| spec.own.batches.push(with_key(None))));
    assert!(!check(&Segments { unknown: true, ..segments.clone() }, &|_| {}));
    assert!(!check(&segments, &|spec| spec.limit = Some(1)));
    assert!(!check(&segments, &|spec| spec.own.segments.push(segments.meta(0))));
    assert!(!check(&segments, &|spec| spec.own.truncated = true));
    assert!(check(&segments, &|spec| {
        spec.own.truncated = true;
        spec.own.segments.push(segments.meta(0));
    }));
    assert!(!check(&segments, &|spec| spec.table = Arc::new(TableDef { clustering: vec![], ..table() })));
    assert!(!check(&segments, &|spec| spec.table = Arc::new(TableDef { clustering: vec![ColumnId(1)], ..table() })));
    assert!(!check(&segments, &|spec| {
        let mut segment = segments.meta(0).as_ref().clone();
        segment.row_groups[0].pages[0].nulls = 1;
        spec.view = Arc::new(TableView { segments: Arc::new(vec![Arc::new(segment)]), ..TableView::default() });
    }));
}

/// A comparison of a column with a number.
type Test = (usize, Operator, i32);

fn filter(test: &Test) -> Arc<dyn PhysicalExpr> {
    let (column, op, number) = *test;
    let value = if column == 0 { ScalarValue::Int32(Some(number)) } else { ScalarValue::Int64(Some(number.into())) };
    Arc::new(BinaryExpr::new(Arc::new(Column::new(schema().field(column).name(), column)), op, lit(value)))
}

fn tests() -> impl Strategy<Value = Vec<Test>> {
    let op = prop_oneof![Just(Operator::Eq), Just(Operator::NotEq), Just(Operator::Lt), Just(Operator::GtEq)];
    prop::collection::vec((0..2usize, op, 0..100i32), 0..3)
}

/// Cuts into pieces of these lengths, in turn.
fn cut<T: Clone>(mut items: &[T], lengths: &[usize]) -> Vec<Vec<T>> {
    let mut pieces = vec![];
    for length in lengths.iter().cycle() {
        if items.is_empty() {
            break;
        }
        let (piece, rest) = items.split_at(items.len().min(*length));
        pieces.push(piece.to_vec());
        items = rest;
    }
    pieces
}

/// Rows with keys anywhere, few of them beside those of [`in_order`]: in segments, the delta and the transaction.
fn strays() -> impl Strategy<Value = Segments> {
    let rows = || prop::collection::vec((-15..90i32, 0..100i64), 0..15);
    let batches = || prop::collection::vec(rows(), 0..3);
    let segments = prop::collection::vec((rows(), 1..9usize), 0..3);
    (segments, batches(), batches()).prop_map(|(segments, delta, own)| {
        let sorted = segments.into_iter().filter(|(rows, _)| !rows.is_empty()).map(|(mut rows, length)| {
            rows.sort_unstable();
            cut(&rows, &[length])
        });
        Segments { segments: sorted.collect(), delta, own, ..Segments::default() }
    })
}

/// Row groups of few rows, and keys of many: some keys are in several row groups. And strays, unless they would be too many.
fn segments() -> impl Strategy<Value = Segments> {
    (in_order(), strays()).prop_map(|(segments, strays)| {
        let mut with_them = segments.clone();
        with_them.segments.extend(strays.segments);
        (with_them.delta, with_them.own) = (strays.delta, strays.own);
        let is_ordered = with_them.ranges(&with_them.spec(&[])).is_some();
        if is_ordered { with_them } else { segments }
    })
}

fn in_order() -> impl Strategy<Value = Segments> {
    let keys = prop::collection::vec((1..4i32, 1..30usize), 1..60);
    let lengths = |longest: usize| prop::collection::vec(1..=longest, 1..10);
    let deleted = prop::collection::vec(0..600usize, 0..20);
    (keys, lengths(40), lengths(4), deleted, any::<bool>(), any::<bool>()).prop_map(
        |(keys, group_rows, segment_groups, deleted, reordered, backwards)| {
            let mut rows: Vec<Row> = vec![];
            let mut key = -10;
            for (step, times) in keys {
                key += step;
                rows.extend((0..times).map(|i| (key, (i * 7919 % 100) as i64)));
            }
            let mut segments = cut(&cut(&rows, &group_rows), &segment_groups);
            if backwards {
                segments.reverse();
            }
            Segments { segments, deleted, reordered, ..Segments::default() }
        },
    )
}

proptest! {
    #[test]
    fn streams_ascend_and_share_no_key(
        segments in segments(),
        tests in tests(),
        streams in 1..5usize,
        turns in prop::collection::vec(0..4usize, 0..60),
    ) {
        let filters: Vec<_> = tests.iter().map(filter).collect();
        let (expected, plain) = segments.read(&filters, false, 1, &[]);
        let (given, counters) = segments.read(&filters, true, streams, &turns);
        let mut stream_of = HashMap::new();
        for (stream, rows) in given.iter().enumerate() {
            prop_assert!(rows.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{rows:?}");
            for row in rows {
                prop_assert_eq!(*stream_of.entry(row.0).or_insert(stream), stream, "the streams of {}", row.0);
            }
        }
        let sorted = |streams: Vec<Vec<Given>>| {
            let mut rows: Vec<_> = streams.into_iter().flatten().collect();
            rows.sort_unstable();
            rows
        };
        prop_assert_eq!(sorted(given), sorted(expected));
        // A page is looked at again for the rows of its greatest key, and nothing else is counted twice.
        let counted = |counters: &ScanCounters| {
            let counted = |name: &str| ["row_groups", "row_groups_pruned", "rows_scanned", "rows_by_index", "rows_filtered"].contains(&name);
            counters.all().into_iter().filter(|(name, _)| counted(name)).collect::<Vec<_>>()
        };
        prop_assert_eq!(counted(&counters), counted(&plain));
    }
}
