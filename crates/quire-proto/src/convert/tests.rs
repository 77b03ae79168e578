use std::sync::Arc;

use bytes::Bytes;
use quire_types::{
    CatalogChange, Change, ColumnDef, ColumnId, ColumnStats, CommentTarget, Commit, Compact, ConstraintDef, ConstraintKind, Datum,
    Deferrable, DeltaMeta, Generated, Isolation, KeyAssert, LogEntry, Lsn, Outcome, PageMeta, ReferentialAction, RowGroupMeta, RowId,
    RowIds, RowSet, SchemaDef, SchemaId, Seal, SegmentId, SegmentMeta, SequenceDef, SequencePosition, SqlType, TableDef, TableId,
    TableRead, TableWrite, Term, TxnId, ViewDef, ViewRead,
};

use super::{Malformed, decode_entry, encode_entry};
use crate::v1;

fn table() -> TableDef {
    let column = |id, name: &str, ty, default: Option<&str>| ColumnDef {
        id: ColumnId(id),
        name: name.into(),
        ty,
        nullable: id != 1,
        default: default.map(Into::into),
        missing: default.map(|_| Datum::Decimal(700)),
        had_nulls: id == 1,
        generated: Some(match id {
            1 => Generated::Identity { sequence: TableId(9), always: true },
            _ => Generated::Stored("id * 2".into()),
        }),
    };
    TableDef {
        id: TableId(20_000),
        schema: SchemaId(2200),
        name: "orders".into(),
        version: 3,
        columns: vec![column(1, "id", SqlType::Int8, None), column(4, "price", SqlType::Numeric { precision: 15, scale: 2 }, Some("0"))],
        next_column_id: ColumnId(5),
        constraints: vec![
            ConstraintDef {
                deferrable: Deferrable::InitiallyImmediate,
                ..ConstraintDef::new("orders_pkey", ConstraintKind::PrimaryKey(vec![ColumnId(1)]))
            },
            ConstraintDef::new("positive", ConstraintKind::Check("price > 0".into())),
            ConstraintDef {
                name: "fk".into(),
                kind: ConstraintKind::ForeignKey {
                    columns: vec![ColumnId(4)],
                    references: TableId(20_001),
                    referenced: vec![ColumnId(1)],
                    on_delete: ReferentialAction::Cascade,
                    on_update: ReferentialAction::NoAction,
                },
                deferrable: Deferrable::InitiallyDeferred,
            },
            ConstraintDef::new("by_price", ConstraintKind::Index { columns: vec![ColumnId(4), ColumnId(1)], unique: false }),
            ConstraintDef::new("one_price", ConstraintKind::Index { columns: vec![ColumnId(4)], unique: true }),
        ],
        clustering: vec![ColumnId(1)],
        arrow: Default::default(),
    }
}

fn sequence() -> SequenceDef {
    SequenceDef {
        id: TableId(8),
        schema: SchemaId(2200),
        name: "s".into(),
        ty: SqlType::Int4,
        start: -3,
        increment: -1,
        min: i64::MIN,
        max: -1,
        cache: 5,
        cycle: true,
        owner: Some((TableId(20_000), ColumnId(1))),
        position: SequencePosition { last: -7, called: true },
        epoch: 2,
    }
}

fn segment() -> SegmentMeta {
    let page = |min, max| PageMeta { offset: 4, length: 100, checksum: u64::MAX, nulls: 1, min, max };
    SegmentMeta {
        id: SegmentId(u64::MAX),
        table: TableId(20_000),
        term: Term(7),
        rows: 10,
        bytes: 1000,
        row_ids: RowIds::Column,
        row_id_min: RowId(5),
        row_id_max: RowId(14),
        footer: Bytes::from_static(b"footer"),
        columns: vec![
            ColumnStats { column: ColumnId(1), sketch: Bytes::from_static(b"s") },
            ColumnStats { column: quire_types::ROW_ID_COLUMN, sketch: Bytes::new() },
        ],
        row_groups: vec![RowGroupMeta {
            rows: 10,
            pages: vec![page(Some(Datum::Decimal(-5)), Some(Datum::Text("é".into()))), page(Some(Datum::Float(1.5)), None)],
        }],
    }
}

fn comments() -> Vec<CatalogChange> {
    let targets = [
        CommentTarget::Database,
        CommentTarget::Schema(SchemaId(2200)),
        CommentTarget::Relation(TableId(20_000)),
        CommentTarget::Column(TableId(20_000), ColumnId(4)),
        CommentTarget::Constraint(TableId(20_000), "fk".into()),
        CommentTarget::Index(TableId(20_000), "by_price".into()),
    ];
    let said = targets.map(|target| CatalogChange::SetComment { target, text: Some("é".into()) });
    said.into_iter().chain([CatalogChange::SetComment { target: CommentTarget::Database, text: None }]).collect()
}

#[test]
fn log_entries_round_trip() {
    let mut commit = Commit {
        txn_id: TxnId(1 << 100),
        snapshot: Lsn(9),
        isolation: Isolation::RepeatableRead,
        catalog: vec![
            CatalogChange::CreateSchema(SchemaDef { id: SchemaId(1), name: "s".into() }),
            CatalogChange::DropSchema(SchemaId(2)),
            CatalogChange::CreateTable(table()),
            CatalogChange::ReplaceTable(table()),
            CatalogChange::DropTable { id: TableId(3), version: 8 },
            CatalogChange::CreateView {
                view: ViewDef {
                    id: TableId(4),
                    schema: SchemaId(1),
                    name: "v".into(),
                    sql: "select 1".into(),
                    columns: vec![("a".into(), SqlType::Int4)],
                    reads: vec![ViewRead {
                        id: TableId(7),
                        schema: "s".into(),
                        name: "t".into(),
                        columns: vec![(ColumnId(1), "a".into())],
                    }],
                },
                replace: true,
            },
            CatalogChange::DropView(TableId(4)),
            CatalogChange::CreateSequence(sequence()),
            CatalogChange::ReplaceSequence { sequence: SequenceDef { owner: None, ..sequence() }, from: sequence().position },
            CatalogChange::MoveSequence {
                id: TableId(8),
                from: sequence().position,
                to: SequencePosition { last: i64::MIN, called: false },
            },
            CatalogChange::DropSequence(TableId(8)),
        ],
        writes: vec![TableWrite {
            table: TableId(20_000),
            version: 3,
            truncate: true,
            rows: Bytes::from_static(b"ipc"),
            row_count: 2,
            segments: vec![segment()],
            deletes: vec![RowId(1), RowId(u64::MAX)],
            segment_deletes: vec![],
            keys: vec![KeyAssert { constraint: 0, hash: u64::MAX }],
            all_keys: true,
            key_reads: vec![KeyAssert { constraint: 1, hash: 2 }],
            all_key_reads: true,
            unwritten: true,
        }],
        reads: vec![TableRead {
            table: TableId(20_000),
            version: 3,
            whole: true,
            rows: vec![RowId(1), RowId(u64::MAX)],
            absent: vec![KeyAssert { constraint: 2, hash: 9 }],
            locked: vec![RowId(4)],
            shared: vec![RowId(5), RowId(6)],
        }],
    };
    commit.catalog.extend(comments());
    let dropped: RowSet = [3, 70_000, 1 << 40].map(RowId).into_iter().collect();
    let seal = Seal { table: TableId(1), version: 2, first: RowId(3), end: RowId(4), segments: vec![segment()], dropped: dropped.clone() };
    let compact = Compact { table: TableId(1), inputs: vec![SegmentId(1), SegmentId(u64::MAX)], outputs: vec![segment()], dropped };
    let vanished = Compact { outputs: vec![], dropped: RowSet::default(), ..compact.clone() };
    for entry in [LogEntry::Commit(commit), LogEntry::Seal(seal), LogEntry::Compact(compact), LogEntry::Compact(vanished)] {
        assert_eq!(decode_entry(encode_entry(&entry)), Ok(entry));
    }
}

#[test]
fn outcomes_and_changes_round_trip() {
    let outcomes = [
        Outcome::Committed(Lsn(1)),
        Outcome::RowConflict { table: TableId(1), row: RowId(2) },
        Outcome::KeyConflict { table: TableId(1), constraint: Some(0) },
        Outcome::KeyConflict { table: TableId(1), constraint: None },
        Outcome::ReadConflict { table: TableId(1) },
        Outcome::SchemaConflict { table: TableId(1) },
        Outcome::CatalogConflict("why".into()),
        Outcome::SnapshotTooOld,
        Outcome::FutureSnapshot,
        Outcome::Refused("why".into()),
        Outcome::Stale,
    ];
    for outcome in outcomes {
        assert_eq!(Outcome::try_from(v1::Outcome::from(&outcome)), Ok(outcome));
    }
    let table_id = TableId(1);
    let changes = [
        Change::Catalog(CatalogChange::CreateTable(table())),
        Change::Truncated(table_id),
        Change::DeltaAdded { table: table_id, delta: DeltaMeta { first: RowId(1), rows: 2, bytes: 3, version: 4, lsn: Lsn(5) } },
        Change::DeltaSealed { table: table_id, first: RowId(1), end: RowId(3) },
        Change::SegmentAdded(Arc::new(segment())),
        Change::SegmentRemoved { table: table_id, segment: SegmentId(9) },
        Change::RowsDeleted { table: table_id, rows: vec![RowId(1), RowId(1 << 40)] },
        Change::RowsPurged { table: table_id, rows: [RowId(1), RowId(1 << 40)].into_iter().collect() },
        Change::RowLimit { table: table_id, next: RowId(77) },
    ];
    for change in changes {
        assert_eq!(Change::try_from(v1::Change::from(&change)), Ok(change));
    }
}

#[test]
fn contradictions_are_refused() {
    assert_eq!(decode_entry(Bytes::from_static(b"\xff\xff\xff")), Err(Malformed("log entry")));
    assert_eq!(decode_entry(Bytes::new()), Err(Malformed("log_entry.entry")));
    let mut short = v1::SegmentMeta::from(&segment());
    short.row_groups[0].pages.pop();
    assert_eq!(SegmentMeta::try_from(short), Err(Malformed("segment.row_groups.pages")));
    let mut unknown_key = v1::TableDef::from(&table());
    unknown_key.columns.remove(0);
    assert_eq!(TableDef::try_from(unknown_key), Err(Malformed("table.constraints")));
    let mut unknown_index = v1::TableDef::from(&table());
    unknown_index.constraints.retain(|c| c.name == "by_price");
    unknown_index.columns.remove(1);
    assert_eq!(TableDef::try_from(unknown_index), Err(Malformed("table.constraints")));
    let nothing = v1::SetComment { target: Some(v1::CommentTarget { target: None }), text: None };
    let nothing = v1::CatalogChange { change: Some(v1::catalog_change::Change::SetComment(nothing)) };
    assert_eq!(CatalogChange::try_from(nothing), Err(Malformed("comment_target.target")));
}
