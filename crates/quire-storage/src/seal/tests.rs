#![allow(clippy::unwrap_used)]

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use quire_segment::{Footer, decode};
use quire_types::{ColumnDef, ColumnId, Datum, Lsn, ROW_ID_COLUMN, RowIds, SchemaId, SegmentMeta, SqlType};

use super::*;

fn table() -> TableDef {
    let column = |id, name: &str, ty| ColumnDef::new(ColumnId(id), name, ty);
    TableDef {
        id: TableId(5),
        schema: SchemaId(2200),
        name: "t".to_string(),
        version: 1,
        columns: vec![column(1, "k", SqlType::Int8), column(2, "v", SqlType::Text)],
        next_column_id: ColumnId(3),
        constraints: vec![],
        clustering: vec![ColumnId(1)],
        arrow: Default::default(),
    }
}

fn delta(def: &TableDef, first: u64, keys: &[i64]) -> (DeltaMeta, Bytes) {
    let values: StringViewArray = keys.iter().map(|k| Some(format!("value {k}"))).collect();
    let rows = RecordBatch::try_new(def.arrow_schema(), vec![Arc::new(Int64Array::from(keys.to_vec())), Arc::new(values)]).unwrap();
    let bytes = quire_segment::encode_rows(&rows).unwrap();
    let meta = DeltaMeta { first: RowId(first), rows: keys.len() as u64, bytes: bytes.len() as u64, version: def.version, lsn: Lsn(first) };
    (meta, bytes)
}

fn column(meta: &SegmentMeta, bytes: &Bytes, column: ColumnId, ty: SqlType) -> arrow::array::ArrayRef {
    let read = meta.page_read(0, column).unwrap();
    let page = bytes.slice(read.offset as usize..read.offset as usize + read.length as usize);
    decode(&Footer::parse(meta).unwrap(), meta, 0, column, ty, page).unwrap()
}

#[test]
fn rows_are_sorted_together_and_keep_their_ids() {
    let def = table();
    let batches = [delta(&def, 100, &[30, 10]), delta(&def, 102, &[20]), delta(&def, 110, &[5, 40])];
    let segments = rows::encode(&def, &batches, &RowSet::default(), Term(3), || 77).unwrap().segments;
    let [(meta, bytes)] = segments.as_slice() else { panic!("{} segments", segments.len()) };
    assert_eq!((meta.id.0, meta.term, meta.rows, meta.bytes), (77, Term(3), 5, bytes.len() as u64));
    assert_eq!((meta.row_ids, meta.row_id_min, meta.row_id_max), (RowIds::Column, RowId(100), RowId(111)));
    let keys = column(meta, bytes, ColumnId(1), SqlType::Int8);
    let ids = column(meta, bytes, ROW_ID_COLUMN, SqlType::Int8);
    assert_eq!(keys.as_primitive::<Int64Type>().values().to_vec(), [5, 10, 20, 30, 40]);
    assert_eq!(ids.as_primitive::<Int64Type>().values().to_vec(), [110, 101, 102, 100, 111]);
    let values = column(meta, bytes, ColumnId(2), SqlType::Text);
    assert_eq!(values.as_string_view().value(0), "value 5");
}

#[test]
fn deleted_rows_are_left_out_and_named() {
    let def = table();
    let batches = [delta(&def, 100, &[30, 10]), delta(&def, 102, &[20])];
    let deleted = |rows: &[u64]| rows.iter().map(|row| RowId(*row)).collect::<RowSet>();
    let encoded = rows::encode(&def, &batches, &deleted(&[7, 101, 103]), Term(3), || 77).unwrap();
    assert_eq!(encoded.dropped, deleted(&[101]));
    let (meta, bytes) = &encoded.segments[0];
    let ids = column(meta, bytes, ROW_ID_COLUMN, SqlType::Int8);
    assert_eq!(ids.as_primitive::<Int64Type>().values().to_vec(), [102, 100]);
    let all = rows::encode(&def, &batches, &deleted(&[100, 101, 102]), Term(3), || 77).unwrap();
    assert_eq!((all.segments.len(), all.dropped), (0, deleted(&[100, 101, 102])));
}

#[test]
fn renamed_and_reordered_columns_are_found_by_id() {
    let old = table();
    let mut def = table();
    def.columns.swap(0, 1);
    def.columns[0].name = "renamed".to_string();
    let segments = rows::encode(&def, &[delta(&old, 1, &[2, 1])], &RowSet::default(), Term(1), || 1).unwrap().segments;
    let keys = column(&segments[0].0, &segments[0].1, ColumnId(1), SqlType::Int8);
    assert_eq!(keys.as_primitive::<Int64Type>().values().to_vec(), [1, 2]);
}

#[test]
fn added_columns_have_what_was_missing_and_dropped_ones_go() {
    let old = table();
    let mut def = table();
    def.columns.remove(1);
    def.columns.push(ColumnDef { missing: Some(Datum::Int(42)), ..ColumnDef::new(ColumnId(3), "new", SqlType::Int4) });
    def.columns.push(ColumnDef::new(ColumnId(4), "newer", SqlType::Text));
    let segments = rows::encode(&def, &[delta(&old, 1, &[2, 1])], &RowSet::default(), Term(1), || 1).unwrap().segments;
    let (meta, bytes) = &segments[0];
    let ids: Vec<u32> = meta.columns.iter().map(|c| c.column.0).collect();
    assert_eq!(ids, [1, 3, 4, ROW_ID_COLUMN.0]);
    let new = column(meta, bytes, ColumnId(3), SqlType::Int4);
    assert_eq!(new.as_primitive::<Int32Type>().values().to_vec(), [42, 42]);
    assert_eq!(column(meta, bytes, ColumnId(4), SqlType::Text).null_count(), 2);
}

#[test]
fn other_types_and_broken_batches_are_refused() {
    let old = table();
    let mut retyped = table();
    retyped.columns[0].ty = SqlType::Int4;
    assert!(matches!(rows::encode(&retyped, &[delta(&old, 1, &[1])], &RowSet::default(), Term(1), || 1), Err(SealError::Columns { .. })));
    let (meta, bytes) = delta(&old, 1, &[1, 2, 3]);
    for broken in [Bytes::new(), bytes.slice(..bytes.len() / 2), Bytes::from_static(b"garbage that is no stream")] {
        assert!(matches!(rows::encode(&old, &[(meta, broken)], &RowSet::default(), Term(1), || 1), Err(SealError::Decode { .. })));
    }
    let miscounted = DeltaMeta { rows: 4, ..meta };
    assert!(matches!(rows::encode(&old, &[(miscounted, bytes)], &RowSet::default(), Term(1), || 1), Err(SealError::Decode { .. })));
}

fn view(delta: &[(u64, u64, u64)]) -> TableView {
    let metas = delta.iter().map(|&(first, rows, bytes)| DeltaMeta { first: RowId(first), rows, bytes, version: 1, lsn: Lsn(1) });
    let next = delta.last().map_or(0, |(first, rows, _)| first + rows);
    TableView { next_row_id: RowId(next), delta: metas.collect(), ..TableView::default() }
}

#[test]
fn a_delta_is_due_by_rows_bytes_batches_or_age() {
    let options = SealOptions { rows_max: 10, bytes_max: 100, batches_max: 3, age_max: Duration::from_secs(60), tick: Duration::ZERO };
    let minute = Some(Duration::from_secs(60));
    assert!(!due(&view(&[]), minute, &options));
    assert!(!due(&view(&[(0, 9, 99)]), Some(Duration::from_secs(59)), &options));
    assert!(due(&view(&[(0, 5, 1), (5, 5, 1)]), None, &options));
    assert!(due(&view(&[(0, 1, 50), (1, 1, 50)]), None, &options));
    assert!(due(&view(&[(0, 1, 1)]), minute, &options));
    assert!(!due(&view(&[(0, 1, 1), (1, 1, 1)]), None, &options));
    assert!(due(&view(&[(0, 1, 1), (1, 1, 1), (2, 1, 1)]), None, &options));
}

#[test]
fn a_seal_takes_about_one_segment() {
    let rows = SEGMENT_ROWS as u64;
    let choose = |delta: &[(u64, u64, u64)]| choose(view(delta).delta.iter().copied());
    assert_eq!(choose(&[]).len(), 0);
    assert_eq!(choose(&[(0, 2 * rows, 1), (2 * rows, 1, 1)]).len(), 1);
    assert_eq!(choose(&[(0, rows / 2, 1), (rows / 2, rows / 2, 1), (rows, 1, 1)]).len(), 2);
    assert_eq!(choose(&[(0, 1, SEAL_BYTES_MAX), (1, 1, 1)]).len(), 1);
}

#[test]
fn age_begins_when_a_row_is_first_seen() {
    let table = TableId(1);
    let mut watch = Watch::default();
    let start = clock::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut look = |seconds, rows: &TableView| {
        watch.notice(std::iter::once((table, rows)), at(seconds));
        watch.age(table).map(|age| age.as_secs())
    };
    assert_eq!(look(0, &view(&[])), None);
    assert_eq!(look(10, &view(&[(0, 5, 1)])), Some(0));
    assert_eq!(look(30, &view(&[(0, 5, 1), (5, 5, 1)])), Some(20));
    // the first batch was sealed: the second is as old as when it was first seen
    assert_eq!(look(40, &view(&[(5, 5, 1)])), Some(10));
    assert_eq!(look(50, &view(&[])), None);
    assert_eq!(look(60, &view(&[(10, 1, 1)])), Some(0));
}
