#![allow(clippy::unwrap_used)]
//! Streams in the order of the key give the rows that streams in no order give.

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
use crate::morsel::{Morsel, Part};
use crate::{ColumnSource, Order, OwnRows, Predicate, Scan, ScanCounters, ScanError, ScanSpec, Tier, row_id_field};

/// A row of the table: the key `k`, and `v`.
type Row = (i32, i64);
/// A row that a scan gives, with its id.
type Given = (i32, i64, i64);

/// Row ids that a segment has for itself.
const SEGMENT_IDS: u64 = 10_000;

/// Segments in memory: of each the rows of its row groups.
#[derive(Clone, Debug, Default)]
struct Segments {
    segments: Vec<Vec<Vec<Row>>>,
    /// Deleted rows, counted over all segments.
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
        let ids: Vec<u64> = (0..self.segments.len()).flat_map(|segment| self.ids(segment)).collect();
        let deleted = self.deleted.iter().filter_map(|&row| ids.get(row).copied()).map(RowId).collect();
        let segments = Arc::new((0..self.segments.len()).map(|segment| self.meta(segment)).collect());
        let schema = schema();
        ScanSpec {
            table: Arc::new(table()),
            predicates: filters.iter().map(|f| Predicate::new(f.clone(), &schema).unwrap()).collect(),
            schema,
            view: Arc::new(TableView { segments, deleted, ..TableView::default() }),
            delta: vec![],
            own: OwnRows::default(),
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

fn rows_of(batch: &RecordBatch) -> Vec<Given> {
    let keys = batch.column(0).as_primitive::<Int32Type>();
    let [values, ids] = [1, 2].map(|column| batch.column(column).as_primitive::<Int64Type>());
    (0..batch.num_rows()).map(|row| (keys.value(row), values.value(row), ids.value(row))).collect()
}

/// Each range with the numbers of its row groups: `<` without the rows of their greatest key, `>` with only these.
fn shown(ranges: &KeyRanges) -> String {
    let morsel = |morsel: &Morsel| match morsel {
        Morsel::RowGroup { row_group, part: Part::All, .. } => row_group.to_string(),
        Morsel::RowGroup { row_group, part: Part::Below(_), .. } => format!("{row_group}<"),
        Morsel::RowGroup { row_group, part: Part::From(_), .. } => format!("{row_group}>"),
        Morsel::Rows(..) => panic!("there are no rows beside segments"),
    };
    let range = |number| ranges.morsels()[ranges.range(number)].iter().map(morsel).collect::<Vec<_>>().join(" ");
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
    check(&[(1, 3), (3, 5), (6, 7)], Some("0< | 0> 1 | 2"));
    check(&[(1, 3), (3, 3), (3, 3), (3, 8), (8, 8)], Some("0< | 0> 1 2 3< | 3> 4"));
    check(&[(3, 3), (1, 3)], Some("1< | 1> 0"));
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
fn ranges_need_sorted_segments_and_nothing_beside_them() {
    let segments = Segments::of(&[(1, 2), (2, 3)]);
    let check = |segments: &Segments, change: &dyn Fn(&mut ScanSpec)| {
        let mut spec = segments.spec(&[]);
        change(&mut spec);
        segments.ranges(&spec).is_some()
    };
    let empty = || RecordBatch::new_empty(schema());
    assert!(check(&segments, &|_| {}));
    assert!(check(&segments, &|spec| spec.own.deleted = Arc::new([1].into_iter().collect())));
    assert!(!check(&Segments { unknown: true, ..segments.clone() }, &|_| {}));
    assert!(!check(&segments, &|spec| spec.limit = Some(1)));
    assert!(!check(&segments, &|spec| spec.delta.push((RowId(9), empty()))));
    assert!(!check(&segments, &|spec| spec.own.batches.push(empty())));
    assert!(!check(&segments, &|spec| spec.own.segments.push(segments.meta(0))));
    assert!(!check(&segments, &|spec| spec.own.truncated = true));
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

/// Row groups of few rows, and keys of many: some keys are in several row groups.
fn segments() -> impl Strategy<Value = Segments> {
    let keys = prop::collection::vec((1..4i32, 1..30usize), 1..40);
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
            Segments { segments, deleted, reordered, unknown: false }
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
