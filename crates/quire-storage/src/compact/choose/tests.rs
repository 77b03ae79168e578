use bytes::Bytes;
use quire_types::{ColumnDef, ColumnStats, PageMeta, RowGroupMeta, RowId, SchemaId, SqlType, TableId, Term};

use super::*;

fn table() -> TableDef {
    let column = |id, name: &str| ColumnDef::new(ColumnId(id), name, SqlType::Int8);
    TableDef {
        id: TableId(5),
        schema: SchemaId(2200),
        name: "t".to_string(),
        version: 1,
        columns: vec![column(1, "k"), column(2, "later")],
        next_column_id: ColumnId(3),
        constraints: vec![],
        clustering: vec![ColumnId(1)],
        arrow: Default::default(),
    }
}

/// `rows` rows with keys from `key` on and row ids from `first` to `last`.
fn segment(id: u64, key: i64, rows: u64, (first, last): (u64, u64), columns: &[u32]) -> Arc<SegmentMeta> {
    let page = |_: &u32| PageMeta { offset: 0, length: 1, checksum: 0, nulls: 0, min: Some(Datum::Int(key)), max: None };
    Arc::new(SegmentMeta {
        id: SegmentId(id),
        table: TableId(5),
        term: Term(1),
        rows,
        bytes: rows,
        row_ids: RowIds::Column,
        row_id_min: RowId(first),
        row_id_max: RowId(last),
        footer: Bytes::new(),
        columns: columns.iter().map(|c| ColumnStats { column: ColumnId(*c), sketch: Bytes::new() }).collect(),
        row_groups: vec![RowGroupMeta { rows: rows as u32, pages: columns.iter().map(page).collect() }],
    })
}

fn view(segments: Vec<Arc<SegmentMeta>>, deleted: impl IntoIterator<Item = u64>) -> TableView {
    TableView { segments: Arc::new(segments), deleted: deleted.into_iter().map(RowId).collect(), ..TableView::default() }
}

fn merged(rows: &TableView) -> Vec<u64> {
    match choose(&table(), rows, &CountedRows::new(), 1) {
        Some(Job::Merge(segments)) => segments.iter().map(|s| s.id.0).collect(),
        Some(Job::Rewrite(segment)) => panic!("rewrite of {}", segment.id),
        None => vec![],
    }
}

/// `count` segments with keys that descend, and dense row ids.
fn run(first_id: u64, count: u64, rows: u64) -> Vec<Arc<SegmentMeta>> {
    (0..count).map(|i| segment(first_id + i, -(i as i64), rows, (i * rows, (i + 1) * rows - 1), &[1])).collect()
}

#[test]
fn eight_of_a_tier_are_merged_by_their_keys() {
    assert_eq!(merged(&view(run(10, 7, 100), [])), Vec::<u64>::new());
    assert_eq!(merged(&view(run(10, 8, 100), [])), (10..18).rev().collect::<Vec<_>>());
    assert_eq!(merged(&view(run(10, 12, 100), [])), (14..22).rev().collect::<Vec<_>>(), "neighbours");
    // seven of one tier and one of the next
    let mut mixed = run(10, 7, 100);
    mixed.push(segment(17, 0, 2000, (5000, 6999), &[1]));
    assert_eq!(merged(&view(mixed, [])), Vec::<u64>::new());
    // those that lack a column are merged among themselves
    let mut others = run(10, 7, 100);
    others.extend((0..7).map(|i| segment(20 + i, 0, 100, (9000, 9099), &[1, 2])));
    assert_eq!(merged(&view(others.clone(), [])), Vec::<u64>::new());
    others.push(segment(27, 0, 100, (9000, 9099), &[1, 2]));
    assert_eq!(merged(&view(others, [])), (20..28).collect::<Vec<_>>());
}

#[test]
fn a_merge_makes_one_segment_and_full_ones_are_left_alone() {
    assert_eq!(merged(&view(run(10, 8, 131_072), [])).len(), 8, "a million rows");
    assert_eq!(merged(&view(run(10, 8, 400_000), [])).len(), 2);
    assert_eq!(merged(&view(run(10, 20, FULL_ROWS), [])).len(), 0);
}

#[test]
fn small_segments_are_bounded_whatever_comes() {
    // sizes that come again and again, merged as chosen: never more than seven of each of four tiers, and what the last seal brought
    let mut segments: Vec<Arc<SegmentMeta>> = vec![];
    let (mut id, mut written, mut sealed) = (0, 0, 0);
    for round in 0..4000u64 {
        id += 1;
        let rows = [3, 900, 60, 5000][(round % 4) as usize];
        sealed += rows;
        segments.push(segment(id, (round * 7919 % 1000) as i64, rows, (0, u64::MAX), &[1]));
        while let Some(Job::Merge(inputs)) = choose(&table(), &view(segments.clone(), []), &CountedRows::new(), 1) {
            id += 1;
            let rows = inputs.iter().map(|s| s.rows).sum();
            written += rows;
            segments.retain(|s| !inputs.contains(s));
            segments.push(segment(id, 0, rows, (0, u64::MAX), &[1]));
        }
        let small = segments.iter().filter(|s| is_small(s)).count();
        assert!(small <= 28, "{small} small segments after {round} seals");
    }
    assert!(written <= 4 * sealed, "{written} rows written again for {sealed}");
    assert!(segments.iter().any(|s| !is_small(s)));
}

#[test]
fn a_fifth_of_the_rows_deleted_is_reason_to_look() {
    let choose = |rows: &TableView, counted: &CountedRows| match choose(&table(), rows, counted, 7) {
        Some(Job::Rewrite(segment)) => Some(segment.id.0),
        _ => None,
    };
    let dense = segment(1, 0, 10_000, (10_000, 19_999), &[1]);
    let none = CountedRows::new();
    assert_eq!(choose(&view(vec![dense.clone()], 10_000..11_999), &none), None);
    assert_eq!(choose(&view(vec![dense.clone()], 10_000..12_000), &none), Some(1));
    assert_eq!(choose(&view(vec![dense], 0..10_000), &none), None, "other rows");
    // a few rows are none, unless they are all
    let few = segment(3, 0, 10, (0, 9), &[1]);
    assert_eq!(choose(&view(vec![few.clone()], 0..9), &none), None);
    assert_eq!(choose(&view(vec![few], 0..10), &none), Some(3));
    // where other segments' rows have ids in between, they are counted, once in a pass, and again when enough has changed
    let sparse = segment(2, 0, 10_000, (10_000, 29_999), &[1]);
    let counted = |of, pass| CountedRows::from([(SegmentId(2), Counted { of, pass })]);
    let deleted = |count: u64| view(vec![sparse.clone()], 10_000..10_000 + count);
    assert_eq!(choose(&deleted(5000), &none), Some(2));
    assert_eq!(choose(&deleted(5500), &counted(5000, 6)), None);
    assert_eq!(choose(&deleted(5501), &counted(5000, 6)), Some(2));
    assert_eq!(choose(&deleted(9000), &counted(5000, 7)), None);
}
