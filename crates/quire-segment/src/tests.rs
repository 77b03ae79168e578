#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use proptest::prelude::*;
use quire_types::{
    ColumnDef, ColumnId, Datum, PAGE_BYTES_MAX, ROW_GROUP_ROWS, ROW_ID_COLUMN, RowIds, SchemaId, SegmentId, SqlType, TableDef, TableId,
    page_checksum,
};

use crate::{EncodeOptions, EncodedSegment, Footer, decode, decode_packed, distinct_estimate, encode, sort_by_clustering, unpack};

fn table(types: &[SqlType]) -> TableDef {
    let columns = types.iter().enumerate().map(|(i, ty)| ColumnDef::new(ColumnId(i as u32 + 10), format!("c{i}"), *ty));
    TableDef {
        id: TableId(20_000),
        schema: SchemaId(1),
        name: "t".into(),
        version: 1,
        columns: columns.collect(),
        next_column_id: ColumnId(99),
        constraints: vec![],
        clustering: vec![ColumnId(10)],
        arrow: Default::default(),
    }
}

fn rows(table: &TableDef, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(table.arrow_schema(), columns).unwrap()
}

fn page(segment: &EncodedSegment, row_group: usize, column: ColumnId) -> Bytes {
    let read = segment.meta.page_read(row_group, column).unwrap();
    let bytes = segment.bytes.slice(read.offset as usize..(read.offset + u64::from(read.length)) as usize);
    assert_eq!(page_checksum(&bytes), read.checksum);
    bytes
}

fn decoded(segment: &EncodedSegment, row_group: usize, column: ColumnId, ty: SqlType) -> ArrayRef {
    let footer = Footer::parse(&segment.meta).unwrap();
    let array = decode(&footer, &segment.meta, row_group, column, ty, page(segment, row_group, column)).unwrap();
    let packed = decode_packed(&footer, &segment.meta, row_group, column, ty, page(segment, row_group, column)).unwrap();
    assert_eq!(&unpack(&packed, &ty.arrow()).unwrap(), &array);
    array
}

fn check_round_trip(types: &[SqlType], columns: Vec<ArrayRef>) -> EncodedSegment {
    let table = table(types);
    let rows = rows(&table, columns);
    let segment = encode(&table, &rows, SegmentId(7), EncodeOptions::default()).unwrap();
    assert_eq!(segment.meta.rows, rows.num_rows() as u64);
    assert_eq!(segment.meta.bytes, segment.bytes.len() as u64);
    let mut first = 0;
    for (group, meta) in segment.meta.row_groups.iter().enumerate() {
        for (i, column) in table.columns.iter().enumerate() {
            let array = decoded(&segment, group, column.id, column.ty);
            assert_eq!(&array, &rows.column(i).slice(first, meta.rows as usize), "column {i}");
        }
        first += meta.rows as usize;
    }
    segment
}

#[test]
fn every_type_round_trips_with_nulls() {
    let columns: Vec<(SqlType, ArrayRef)> = vec![
        (SqlType::Bool, Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        (SqlType::Int2, Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)]))),
        (SqlType::Int4, Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]))),
        (SqlType::Int8, Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        (SqlType::Float4, Arc::new(Float32Array::from(vec![Some(-0.5), None, Some(f32::INFINITY)]))),
        (SqlType::Float8, Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(1e300)]))),
        (
            SqlType::Numeric { precision: 15, scale: 2 },
            Arc::new(Decimal128Array::from(vec![Some(-1), None, Some(999_999_999_999_999)]).with_precision_and_scale(15, 2).unwrap()),
        ),
        (
            SqlType::Numeric { precision: 38, scale: 9 },
            Arc::new(
                Decimal128Array::from(vec![Some(10i128.pow(38) - 1), None, Some(-(10i128.pow(38)) + 1)])
                    .with_precision_and_scale(38, 9)
                    .unwrap(),
            ),
        ),
        (SqlType::Text, Arc::new(StringViewArray::from(vec![Some(""), None, Some("a text longer than twelve bytes, é")]))),
        (SqlType::Uuid, Arc::new(StringViewArray::from(vec![Some("00000000-0000-0000-0000-000000000001"), None, None]))),
        (SqlType::Bytea, Arc::new(BinaryViewArray::from(vec![Some(&b"\x00\xff"[..]), None, Some(&b""[..])]))),
        (SqlType::Date, Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(2_932_896)]))),
        (SqlType::Time, Arc::new(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999)]))),
        (SqlType::Timestamp, Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1)]))),
        (SqlType::Timestamptz, Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1)]).with_timezone("UTC"))),
        (
            SqlType::Interval,
            Arc::new(IntervalMonthDayNanoArray::from(vec![
                Some(IntervalMonthDayNano::new(-1, 2, i64::MIN)),
                None,
                Some(IntervalMonthDayNano::new(1, 0, 5)),
            ])),
        ),
    ];
    let (types, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let segment = check_round_trip(&types, arrays);
    let pages = &segment.meta.row_groups[0].pages;
    assert!(pages.iter().all(|p| p.nulls >= 1));
    assert_eq!((pages[3].min.clone(), pages[3].max.clone()), (Some(Datum::Int(i64::MIN)), Some(Datum::Int(i64::MAX))));
    assert_eq!(pages[6].max, Some(Datum::Decimal(999_999_999_999_999)));
    assert_eq!(pages[8].min, Some(Datum::Text(String::new())));
    assert_eq!((pages[10].min.clone(), pages[15].max.clone()), (None, None));
}

#[test]
fn nan_and_all_null_pages_have_no_bounds() {
    let nan: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN)]));
    let null: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
    let table = table(&[SqlType::Float8, SqlType::Int8]);
    let segment = encode(&table, &rows(&table, vec![nan, null]), SegmentId(1), EncodeOptions::default()).unwrap();
    for page in &segment.meta.row_groups[0].pages {
        assert_eq!((&page.min, &page.max), (&None, &None));
    }
}

#[test]
fn wide_rows_close_their_row_groups_early() {
    let wide = "x".repeat(1 << 20);
    let values: Vec<String> = (0..40).map(|i| format!("{i}{wide}")).collect();
    let segment = check_round_trip(&[SqlType::Text], vec![Arc::new(StringViewArray::from_iter_values(values))]);
    assert!(segment.meta.row_groups.len() > 4);
    let largest = segment.meta.row_groups.iter().map(|g| g.pages[0].length as usize).max().unwrap();
    assert!(largest <= PAGE_BYTES_MAX, "{largest}");
}

#[test]
fn many_rows_make_full_row_groups_and_a_fair_sketch() {
    let n = 300_000i64;
    let segment = check_round_trip(
        &[SqlType::Int8, SqlType::Text],
        vec![
            Arc::new(Int64Array::from_iter_values(0..n)),
            Arc::new(StringViewArray::from_iter_values((0..n).map(|i| format!("v{}", i % 7)))),
        ],
    );
    assert_eq!(segment.meta.row_groups.len(), 3);
    assert_eq!(segment.meta.row_groups[0].rows as usize, ROW_GROUP_ROWS);
    let estimate = |i: usize| distinct_estimate(std::iter::once(segment.meta.columns[i].sketch.as_ref())).unwrap();
    assert!((estimate(0) / n as f64 - 1.0).abs() < 0.1, "{}", estimate(0));
    assert!((estimate(1) - 7.0).abs() < 0.5, "{}", estimate(1));
    assert_eq!(segment.meta.row_groups[1].pages[0].min, Some(Datum::Int(ROW_GROUP_ROWS as i64)));
}

#[test]
fn row_ids_travel_in_a_hidden_column() {
    let table = table(&[SqlType::Int4]);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![12, 10, 11]));
    let mut fields = table.arrow_schema().fields().to_vec();
    fields.push(Arc::new(arrow::datatypes::Field::new(quire_types::ROW_ID_FIELD, arrow::datatypes::DataType::Int64, true)));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![3, 1, 2])), ids]).unwrap();
    let (sorted, was_sorted) = sort_by_clustering(&table, rows).unwrap();
    assert!(!was_sorted);
    let segment = encode(&table, &sorted, SegmentId(1), EncodeOptions { row_ids: true }).unwrap();
    assert_eq!((segment.meta.row_ids, segment.meta.row_id_min.0, segment.meta.row_id_max.0), (RowIds::Column, 10, 12));
    let ids = decoded(&segment, 0, ROW_ID_COLUMN, SqlType::Int8);
    assert_eq!(ids.as_ref(), &Int64Array::from(vec![10, 11, 12]) as &dyn arrow::array::Array);
}

#[test]
fn sorted_rows_are_recognized_and_others_are_sorted() {
    let table = TableDef { clustering: vec![ColumnId(10), ColumnId(11)], ..table(&[SqlType::Int4, SqlType::Text]) };
    let make = |a: Vec<Option<i32>>, b: Vec<&str>| rows(&table, vec![Arc::new(Int32Array::from(a)), Arc::new(StringViewArray::from(b))]);
    assert!(sort_by_clustering(&table, make(vec![Some(1), Some(1), Some(2)], vec!["a", "b", "a"])).unwrap().1);
    let (sorted, was) = sort_by_clustering(&table, make(vec![Some(2), None, Some(1), Some(1)], vec!["a", "b", "d", "c"])).unwrap();
    assert!(!was);
    assert_eq!(sorted, make(vec![Some(1), Some(1), Some(2), None], vec!["c", "d", "a", "b"]));
}

#[test]
fn the_footer_says_by_what_rows_are_sorted() {
    let table = TableDef { clustering: vec![ColumnId(11), ColumnId(10)], ..table(&[SqlType::Int4, SqlType::Int8]) };
    let check = |table: &TableDef, first: Vec<Option<i32>>, second: Vec<Option<i64>>, sorted_by: &[u32]| {
        let rows = rows(table, vec![Arc::new(Int32Array::from(first)), Arc::new(Int64Array::from(second))]);
        let segment = encode(table, &rows, SegmentId(1), EncodeOptions::default()).unwrap();
        let expected: Vec<_> = sorted_by.iter().copied().map(ColumnId).collect();
        assert_eq!(Footer::parse(&segment.meta).unwrap().sorted_by(), expected);
    };
    check(&table, vec![Some(1), Some(2), Some(2)], vec![Some(5), Some(5), Some(6)], &[11, 10]);
    check(&table, vec![Some(9), Some(1), Some(0)], vec![Some(5), Some(6), Some(7)], &[11, 10]);
    check(&table, vec![Some(2), Some(1), Some(2)], vec![Some(5), Some(5), Some(6)], &[11]);
    check(&table, vec![Some(1), None, Some(2)], vec![Some(5), Some(5), Some(6)], &[11]);
    check(&table, vec![Some(1), Some(2), Some(3)], vec![Some(7), Some(5), Some(6)], &[]);
    check(&table, vec![Some(1), Some(2), Some(3)], vec![Some(5), Some(6), None], &[]);
    check(&table, vec![Some(1)], vec![Some(7)], &[11, 10]);
    let none = TableDef { clustering: vec![], ..table.clone() };
    check(&none, vec![Some(1), Some(2)], vec![Some(5), Some(6)], &[]);
    // A merge of segments from before a column was added.
    let narrow = TableDef { clustering: vec![ColumnId(30), ColumnId(10)], ..table };
    check(&narrow, vec![Some(1), Some(2)], vec![Some(6), Some(5)], &[10]);
}

#[test]
fn every_row_group_says_so() {
    let table = table(&[SqlType::Int4, SqlType::Text]);
    let wide = "x".repeat(1 << 20);
    let texts = StringViewArray::from_iter_values((0..20).map(|_| wide.as_str()));
    let rows = rows(&table, vec![Arc::new(Int32Array::from_iter_values(0..20)), Arc::new(texts)]);
    let segment = encode(&table, &rows, SegmentId(1), EncodeOptions::default()).unwrap();
    assert!(segment.meta.row_groups.len() > 1);
    assert_eq!(Footer::parse(&segment.meta).unwrap().sorted_by(), [ColumnId(10)]);
}

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    let table = table(&[SqlType::Int8, SqlType::Text, SqlType::Text, MONEY]);
    let batch = rows(
        &table,
        vec![
            Arc::new(Int64Array::from_iter_values(0..2000)),
            Arc::new(StringViewArray::from_iter_values((0..2000).map(|i| i.to_string()))),
            Arc::new(StringViewArray::from_iter_values((0..2000).map(|i| format!("one of {}", i % 7)))),
            money((0..2000).map(|i| (i % 9 != 0).then_some(i * 40))),
        ],
    );
    let segment = encode(&table, &batch, SegmentId(1), EncodeOptions::default()).unwrap();
    let footer = Footer::parse(&segment.meta).unwrap();
    for column in &table.columns {
        let good = page(&segment, 0, column.id);
        for decode in [decode, decode_packed] {
            let try_decode = |bytes: Vec<u8>| decode(&footer, &segment.meta, 0, column.id, column.ty, bytes.into());
            assert!(try_decode(vec![]).is_err());
            assert!(try_decode(good[..good.len() / 2].to_vec()).is_err());
            for i in 0..good.len().min(400) {
                let mut bad = good.to_vec();
                bad[i] ^= 0xff;
                if let Ok(array) = try_decode(bad) {
                    assert_eq!(array.len(), 2000);
                }
            }
        }
    }
    let mut broken = segment.meta.clone();
    broken.footer = Bytes::from_static(b"not thrift at all");
    assert!(Footer::parse(&broken).is_err());
    assert!(decode(&footer, &segment.meta, 5, ColumnId(10), SqlType::Int8, Bytes::new()).is_err());
}

const MONEY: SqlType = SqlType::Numeric { precision: 15, scale: 2 };

fn money(values: impl Iterator<Item = Option<i128>>) -> ArrayRef {
    Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(15, 2).unwrap())
}

#[test]
fn pages_are_packed_as_they_are_decoded() {
    let small = SqlType::Numeric { precision: 9, scale: 0 };
    let wide = SqlType::Numeric { precision: 38, scale: 2 };
    let table = table(&[MONEY, small, wide, SqlType::Text, SqlType::Text, SqlType::Text]);
    let count = 3 * 16_384 + 77;
    let numeric = |precision, scale, value: &dyn Fn(i128) -> Option<i128>| -> ArrayRef {
        let values = (0..count).map(value).collect::<Decimal128Array>();
        Arc::new(values.with_precision_and_scale(precision, scale).unwrap())
    };
    let text = |value: &dyn Fn(i128) -> Option<String>| -> ArrayRef { Arc::new((0..count).map(value).collect::<StringViewArray>()) };
    let batch = rows(
        &table,
        vec![
            // the large one comes late, and NULLs in a part of the rows only
            numeric(15, 2, &|i| (i % 5 != 0 || i > 9000).then_some(if i == 40_000 { -40_000 } else { i % 100 })),
            numeric(9, 0, &|i| Some(i % 50 - 25)),
            numeric(38, 2, &|i| Some(10i128.pow(30) + i)),
            text(&|i| (i % 11 != 0).then(|| format!("a text of some length, number {}", i % 40))),
            text(&|i| Some(format!("a text of some length, number {}", i % 900))),
            text(&|i| Some(format!("{}", i * 7919))),
        ],
    );
    let segment = encode(&table, &batch, SegmentId(1), EncodeOptions::default()).unwrap();
    let footer = Footer::parse(&segment.meta).unwrap();
    let packed_type = |position: usize| {
        let column = &table.columns[position];
        assert_eq!(&decoded(&segment, 0, column.id, column.ty), batch.column(position));
        decode_packed(&footer, &segment.meta, 0, column.id, column.ty, page(&segment, 0, column.id)).unwrap().data_type().clone()
    };
    let texts_by = |number: DataType| DataType::Dictionary(Box::new(number), Box::new(DataType::Utf8View));
    assert_eq!(packed_type(0), DataType::Int32);
    assert_eq!(packed_type(1), DataType::Int8);
    assert_eq!(packed_type(2), wide.arrow());
    assert_eq!(packed_type(3), texts_by(DataType::UInt8));
    assert_eq!(packed_type(4), texts_by(DataType::UInt16));
    assert_eq!(packed_type(5), DataType::Utf8View);
}

#[test]
fn pages_from_before_the_column_had_its_type_are_cast() {
    let cents = SqlType::Numeric { precision: 9, scale: 2 };
    let table = table(&[cents, SqlType::Int4]);
    let numeric = Decimal128Array::from_iter_values([150, -7]).with_precision_and_scale(9, 2).unwrap();
    let batch = rows(&table, vec![Arc::new(numeric), Arc::new(Int32Array::from(vec![3, -4]))]);
    let segment = encode(&table, &batch, SegmentId(1), EncodeOptions::default()).unwrap();
    let finer = SqlType::Numeric { precision: 15, scale: 4 };
    let wanted =
        |values: [i128; 2]| -> ArrayRef { Arc::new(Decimal128Array::from_iter_values(values).with_precision_and_scale(15, 4).unwrap()) };
    assert_eq!(&decoded(&segment, 0, ColumnId(10), finer), &wanted([15_000, -700]));
    assert_eq!(&decoded(&segment, 0, ColumnId(11), finer), &wanted([30_000, -40_000]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_rows_round_trip_within_their_bounds(
        values in prop::collection::vec((any::<Option<i64>>(), prop::option::of(".{0,40}"), any::<Option<f64>>()), 1..200)
    ) {
        let ints: ArrayRef = Arc::new(Int64Array::from(values.iter().map(|v| v.0).collect::<Vec<_>>()));
        let texts: ArrayRef = Arc::new(StringViewArray::from(values.iter().map(|v| v.1.as_deref()).collect::<Vec<_>>()));
        let floats: ArrayRef = Arc::new(Float64Array::from(values.iter().map(|v| v.2).collect::<Vec<_>>()));
        let segment = check_round_trip(&[SqlType::Int8, SqlType::Text, SqlType::Float8], vec![ints, texts, floats]);
        let pages = &segment.meta.row_groups[0].pages;
        for text in values.iter().filter_map(|v| v.1.as_ref()) {
            if let Some(Datum::Text(min)) = &pages[1].min { prop_assert!(min <= text); }
            if let Some(Datum::Text(max)) = &pages[1].max { prop_assert!(max >= text); }
        }
        for int in values.iter().filter_map(|v| v.0) {
            prop_assert!(matches!(&pages[0].min, Some(Datum::Int(min)) if *min <= int));
            prop_assert!(matches!(&pages[0].max, Some(Datum::Int(max)) if *max >= int));
        }
    }
}
