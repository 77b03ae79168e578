use bytes::Bytes;
use proptest::prelude::*;
use quire_types::{
    CatalogChange, Change, ColumnDef, ColumnId, CommentTarget, Commit, Compact, ConstraintDef, ConstraintKind, Isolation, KeyAssert,
    LogEntry, Lsn, Outcome, ReferentialAction, RowId, RowIds, RowSet, SchemaDef, SchemaId, Seal, SegmentId, SegmentMeta, SequenceDef,
    SequencePosition, SqlType, TableDef, TableId, TableRead, TableWrite, Term, TxnId, View,
};

use crate::State;

const T: TableId = TableId(16_400);

fn table(id: TableId, name: &str) -> TableDef {
    TableDef {
        id,
        schema: SchemaId(2200),
        name: name.into(),
        version: 1,
        columns: vec![ColumnDef { nullable: false, ..ColumnDef::new(ColumnId(1), "a", SqlType::Int8) }],
        next_column_id: ColumnId(2),
        constraints: vec![ConstraintDef::new(format!("{name}_pkey"), ConstraintKind::PrimaryKey(vec![ColumnId(1)]))],
        clustering: vec![ColumnId(1)],
        arrow: Default::default(),
    }
}

fn commit(txn: u128, snapshot: u64, catalog: Vec<CatalogChange>, writes: Vec<TableWrite>) -> LogEntry {
    let isolation = Isolation::ReadCommitted;
    LogEntry::Commit(Commit { txn_id: TxnId(txn), snapshot: Lsn(snapshot), isolation, catalog, writes, reads: vec![] })
}

/// A commit that does nothing but assert what it read.
fn read(txn: u128, snapshot: u64, read: TableRead) -> LogEntry {
    let LogEntry::Commit(commit) = commit(txn, snapshot, vec![], vec![]) else { unreachable!() };
    LogEntry::Commit(Commit { reads: vec![TableRead { table: T, version: 1, ..read }], ..commit })
}

fn rows(ids: &[u64]) -> Vec<RowId> {
    ids.iter().map(|&id| RowId(id)).collect()
}

fn whole() -> TableRead {
    TableRead { whole: true, ..TableRead::default() }
}

fn present(ids: &[u64]) -> TableRead {
    TableRead { rows: rows(ids), ..TableRead::default() }
}

fn absent(hashes: &[u64]) -> TableRead {
    TableRead { absent: hashes.iter().map(|&hash| KeyAssert { constraint: 0, hash }).collect(), ..TableRead::default() }
}

fn for_update(ids: &[u64]) -> TableRead {
    TableRead { locked: rows(ids), ..TableRead::default() }
}

fn for_share(ids: &[u64]) -> TableRead {
    TableRead { shared: rows(ids), ..TableRead::default() }
}

fn create(txn: u128, snapshot: u64, name: &str) -> LogEntry {
    commit(txn, snapshot, vec![CatalogChange::CreateTable(table(T, name))], vec![])
}

fn insert(txn: u128, snapshot: u64, keys: &[u64]) -> LogEntry {
    let keys: Vec<KeyAssert> = keys.iter().map(|&hash| KeyAssert { constraint: 0, hash }).collect();
    let write =
        TableWrite { table: T, version: 1, rows: Bytes::from_static(b"x"), row_count: keys.len() as u64, keys, ..TableWrite::default() };
    commit(txn, snapshot, vec![], vec![write])
}

fn delete(txn: u128, snapshot: u64, rows: &[u64]) -> LogEntry {
    let write = TableWrite { table: T, version: 1, deletes: rows.iter().map(|&r| RowId(r)).collect(), ..TableWrite::default() };
    commit(txn, snapshot, vec![], vec![write])
}

fn segment(rows: u64) -> SegmentMeta {
    SegmentMeta {
        id: SegmentId(1),
        table: T,
        term: Term(1),
        rows,
        bytes: 10,
        row_ids: RowIds::Base(RowId(0)),
        row_id_min: RowId(0),
        row_id_max: RowId(0),
        footer: Bytes::new(),
        columns: vec![],
        row_groups: vec![],
    }
}

fn load(txn: u128, snapshot: u64, rows: u64) -> LogEntry {
    let write = TableWrite { table: T, version: 1, segments: vec![segment(rows)], all_keys: true, ..TableWrite::default() };
    commit(txn, snapshot, vec![], vec![write])
}

fn truncate(txn: u128, snapshot: u64) -> LogEntry {
    commit(txn, snapshot, vec![], vec![TableWrite { table: T, version: 1, truncate: true, ..TableWrite::default() }])
}

/// Applies the entries to a state with the table T at LSN 1, and compares the outcomes.
fn check(entries: &[LogEntry], expected: &str) {
    let mut state = State::new();
    assert_eq!(state.apply(create(1, 0, "t")).outcome, Outcome::Committed(Lsn(1)));
    let outcomes: Vec<String> = entries.iter().map(|e| format!("{:?}", state.apply(e.clone()).outcome)).collect();
    assert_eq!(outcomes.join(", "), expected);
}

#[test]
fn a_retried_commit_gets_the_first_answer() {
    check(&[insert(7, 1, &[1]), insert(7, 1, &[1])], "Committed(Lsn(2)), Committed(Lsn(2))");
    check(&[create(7, 1, "t"), create(7, 1, "u")], &["CatalogConflict(\"relation \\\"t\\\" already exists\")"; 2].join(", "));
}

#[test]
fn the_first_to_claim_a_key_wins() {
    let lost = "KeyConflict { table: TableId(16400), constraint: Some(0) }";
    check(&[insert(2, 1, &[5]), insert(3, 1, &[5])], &format!("Committed(Lsn(2)), {lost}"));
    check(&[insert(2, 1, &[5]), insert(3, 2, &[5])], "Committed(Lsn(2)), Committed(Lsn(3))");
    check(&[insert(2, 1, &[5]), insert(3, 1, &[6])], "Committed(Lsn(2)), Committed(Lsn(3))");
}

#[test]
fn a_bulk_load_conflicts_with_every_insert_beside_it() {
    let lost = "KeyConflict { table: TableId(16400), constraint: None }";
    check(&[load(2, 1, 10), insert(3, 1, &[5])], &format!("Committed(Lsn(2)), {lost}"));
    check(&[insert(2, 1, &[5]), load(3, 1, 10)], &format!("Committed(Lsn(2)), {lost}"));
    check(&[load(2, 1, 10), load(3, 2, 10), insert(4, 3, &[1])], "Committed(Lsn(2)), Committed(Lsn(3)), Committed(Lsn(4))");
}

#[test]
fn the_first_to_delete_a_row_wins() {
    check(
        &[insert(2, 1, &[1, 2]), delete(3, 2, &[0]), delete(4, 2, &[0, 1]), delete(5, 2, &[9])],
        "Committed(Lsn(2)), Committed(Lsn(3)), RowConflict { table: TableId(16400), row: RowId(0) }, Refused(\"row 9 of table 16400 does not exist\")",
    );
}

const READ_CONFLICT: &str = "ReadConflict { table: TableId(16400) }";

#[test]
fn a_table_that_was_read_must_not_have_been_written() {
    check(
        &[insert(2, 1, &[1]), read(3, 1, whole()), read(4, 2, whole())],
        &format!("Committed(Lsn(2)), {READ_CONFLICT}, Committed(Lsn(3))"),
    );
    check(
        &[insert(2, 1, &[1]), delete(3, 2, &[0]), read(4, 2, whole())],
        &format!("Committed(Lsn(2)), Committed(Lsn(3)), {READ_CONFLICT}"),
    );
    let lost = "SchemaConflict { table: TableId(16400) }";
    check(&[truncate(2, 1), read(3, 1, present(&[]))], &format!("Committed(Lsn(2)), {lost}"));
    let drop = commit(2, 1, vec![CatalogChange::DropTable { id: T, version: 1 }], vec![]);
    check(&[drop, read(3, 1, whole())], &format!("Committed(Lsn(2)), {lost}"));
}

#[test]
fn a_row_that_was_read_must_still_be_there() {
    let written = [insert(2, 1, &[1, 2]), delete(3, 2, &[0])];
    check(
        &[&written[..], &[read(4, 2, present(&[1])), read(5, 2, present(&[0, 1])), read(6, 2, present(&[9]))]].concat(),
        &format!(
            "Committed(Lsn(2)), Committed(Lsn(3)), Committed(Lsn(4)), {READ_CONFLICT}, Refused(\"row 9 of table 16400 does not exist\")"
        ),
    );
}

#[test]
fn a_key_that_was_not_there_must_not_have_come() {
    check(
        &[insert(2, 1, &[1]), read(3, 1, absent(&[2])), read(4, 1, absent(&[2, 1])), read(5, 2, absent(&[1]))],
        &format!("Committed(Lsn(2)), Committed(Lsn(3)), {READ_CONFLICT}, Committed(Lsn(4))"),
    );
    check(&[load(2, 1, 5), read(3, 1, absent(&[2]))], &format!("Committed(Lsn(2)), {READ_CONFLICT}"));
}

#[test]
fn of_two_that_lock_a_row_against_each_other_the_first_wins() {
    let lost = "RowConflict { table: TableId(16400), row: RowId(0) }";
    let first = [insert(2, 1, &[1, 2])];
    let expect = |second: &[LogEntry], outcomes: &str| check(&[&first[..], second].concat(), &format!("Committed(Lsn(2)), {outcomes}"));
    expect(&[read(3, 2, for_update(&[0])), read(4, 2, for_update(&[0]))], &format!("Committed(Lsn(3)), {lost}"));
    expect(&[read(3, 2, for_update(&[0])), read(4, 2, for_update(&[1]))], "Committed(Lsn(3)), Committed(Lsn(4))");
    expect(&[read(3, 2, for_update(&[0])), read(4, 3, for_update(&[0]))], "Committed(Lsn(3)), Committed(Lsn(4))");
    expect(&[read(3, 2, for_share(&[0])), read(4, 2, for_share(&[0]))], "Committed(Lsn(3)), Committed(Lsn(4))");
    expect(&[read(3, 2, for_share(&[0])), read(4, 2, for_update(&[0]))], &format!("Committed(Lsn(3)), {lost}"));
    expect(&[read(3, 2, for_update(&[0])), read(4, 2, for_share(&[0]))], &format!("Committed(Lsn(3)), {lost}"));
    // Locks and changes of a row exclude one another, whichever comes first.
    expect(&[read(3, 2, for_share(&[0])), delete(4, 2, &[0])], &format!("Committed(Lsn(3)), {lost}"));
    expect(&[delete(3, 2, &[0]), read(4, 2, for_share(&[0]))], &format!("Committed(Lsn(3)), {lost}"));
    // Who only locks has written nothing.
    expect(&[read(3, 2, for_update(&[0])), read(4, 2, whole())], "Committed(Lsn(3)), Committed(Lsn(4))");
}

#[test]
fn a_plan_for_an_older_definition_never_writes() {
    let lost = "SchemaConflict { table: TableId(16400) }";
    let drop = commit(2, 1, vec![CatalogChange::DropTable { id: T, version: 1 }], vec![]);
    check(&[drop, insert(3, 1, &[1])], &format!("Committed(Lsn(2)), {lost}"));
    check(&[truncate(2, 1), insert(3, 1, &[1])], &format!("Committed(Lsn(2)), {lost}"));
    check(&[insert(2, 1, &[1]), truncate(3, 1)], &format!("Committed(Lsn(2)), {lost}"));
    let replace = TableDef { version: 3, ..table(T, "t") };
    check(&[commit(2, 1, vec![CatalogChange::ReplaceTable(replace)], vec![])], lost);
}

/// A row elsewhere whose foreign key points at these keys of T; the table U is made for it.
fn refer(txn: u128, snapshot: u64, keys: &[u64], all: bool) -> LogEntry {
    let key_reads: Vec<KeyAssert> = keys.iter().map(|&hash| KeyAssert { constraint: 0, hash }).collect();
    commit(txn, snapshot, vec![], vec![TableWrite { table: T, version: 1, key_reads, all_key_reads: all, ..TableWrite::default() }])
}

/// Deletes a row whose key foreign keys may point at.
fn delete_key(txn: u128, snapshot: u64, row: u64, key: u64) -> LogEntry {
    let keys = vec![KeyAssert { constraint: 0, hash: key }];
    commit(txn, snapshot, vec![], vec![TableWrite { table: T, version: 1, deletes: vec![RowId(row)], keys, ..TableWrite::default() }])
}

#[test]
fn a_key_that_is_referenced_does_not_go_and_one_that_goes_is_not_referenced() {
    let (lost, lost_all) =
        ("KeyConflict { table: TableId(16400), constraint: Some(0) }", "KeyConflict { table: TableId(16400), constraint: None }");
    let rows = insert(2, 1, &[5, 6]);
    let check = |entries: &[LogEntry], expected: &str| {
        check(&[std::slice::from_ref(&rows), entries].concat(), &format!("Committed(Lsn(2)), {expected}"))
    };
    check(&[refer(3, 2, &[5], false), delete_key(4, 2, 0, 5)], &format!("Committed(Lsn(3)), {lost}"));
    check(&[delete_key(3, 2, 0, 5), refer(4, 2, &[5], false)], &format!("Committed(Lsn(3)), {lost}"));
    check(&[refer(3, 2, &[5], false), delete_key(4, 2, 1, 6)], "Committed(Lsn(3)), Committed(Lsn(4))");
    check(&[refer(3, 2, &[5], false), refer(4, 2, &[5], false)], "Committed(Lsn(3)), Committed(Lsn(4))");
    check(&[refer(3, 2, &[5], false), delete_key(4, 3, 0, 5)], "Committed(Lsn(3)), Committed(Lsn(4))");
    check(&[refer(3, 2, &[], true), delete_key(4, 2, 0, 5)], &format!("Committed(Lsn(3)), {lost_all}"));
    check(&[delete_key(3, 2, 0, 5), refer(4, 2, &[], true)], &format!("Committed(Lsn(3)), {lost_all}"));
    check(&[load(3, 2, 10), refer(4, 2, &[6], false)], &format!("Committed(Lsn(3)), {lost_all}"));
    check(&[refer(3, 2, &[6], false), load(4, 2, 10)], &format!("Committed(Lsn(3)), {lost_all}"));
    // What only points at a table does not write it.
    check(&[refer(3, 2, &[6], false), truncate(4, 2)], "Committed(Lsn(3)), Committed(Lsn(4))");
}

#[test]
fn a_new_constraint_conflicts_with_rows_that_it_has_not_seen() {
    let constrain = |txn, snapshot| {
        let change = CatalogChange::ReplaceTable(TableDef { version: 2, ..table(T, "t") });
        commit(txn, snapshot, vec![change], vec![TableWrite { table: T, version: 2, unwritten: true, ..TableWrite::default() }])
    };
    let lost = "KeyConflict { table: TableId(16400), constraint: None }";
    check(&[insert(2, 1, &[1]), constrain(3, 1)], &format!("Committed(Lsn(2)), {lost}"));
    check(&[insert(2, 1, &[1]), constrain(3, 2)], "Committed(Lsn(2)), Committed(Lsn(3))");
    check(&[constrain(2, 1), insert(3, 1, &[1])], "Committed(Lsn(2)), SchemaConflict { table: TableId(16400) }");
}

#[test]
fn a_foreign_key_is_never_without_its_table() {
    let child = || {
        let mut child = table(TableId(16_401), "child");
        child.constraints[0] = ConstraintDef::new(
            "child_a_fkey",
            ConstraintKind::ForeignKey {
                columns: vec![ColumnId(1)],
                references: T,
                referenced: vec![ColumnId(1)],
                on_delete: ReferentialAction::NoAction,
                on_update: ReferentialAction::NoAction,
            },
        );
        vec![CatalogChange::CreateTable(child)]
    };
    let drop = || vec![CatalogChange::DropTable { id: T, version: 1 }];
    let no_key = TableDef { version: 2, constraints: vec![], ..table(T, "t") };
    let lost = "CatalogConflict(\"the table or key that constraint \\\"child_a_fkey\\\" on table \\\"child\\\" references is gone\")";
    check(&[commit(2, 1, child(), vec![]), commit(3, 1, drop(), vec![])], &format!("Committed(Lsn(2)), {lost}"));
    check(&[commit(2, 1, drop(), vec![]), commit(3, 1, child(), vec![])], &format!("Committed(Lsn(2)), {lost}"));
    let without = || vec![CatalogChange::ReplaceTable(no_key.clone())];
    check(&[commit(2, 1, child(), vec![]), commit(3, 1, without(), vec![])], &format!("Committed(Lsn(2)), {lost}"));
    let both = [drop(), vec![CatalogChange::DropTable { id: TableId(16_401), version: 1 }]].concat();
    check(&[commit(2, 1, child(), vec![]), commit(3, 2, both, vec![])], "Committed(Lsn(2)), Committed(Lsn(3))");
}

/// T with one index more.
fn with_index(version: u64, name: &str, unique: bool) -> TableDef {
    let mut def = TableDef { version, ..table(T, "t") };
    def.constraints.push(ConstraintDef::new(name, ConstraintKind::Index { columns: vec![ColumnId(1)], unique }));
    def
}

#[test]
fn an_index_has_a_name_that_nothing_else_has() {
    let replace = |txn, snapshot, def| commit(txn, snapshot, vec![CatalogChange::ReplaceTable(def)], vec![]);
    let other = |txn, name: &str| commit(txn, 1, vec![CatalogChange::CreateTable(table(TableId(16_401), name))], vec![]);
    let taken = |name: &str| format!("CatalogConflict(\"relation \\\"{name}\\\" already exists\")");
    let indexed = || replace(2, 1, with_index(2, "by_a", false));
    check(&[indexed(), other(3, "by_a")], &format!("Committed(Lsn(2)), {}", taken("by_a")));
    check(&[other(2, "t_pkey")], &taken("t_pkey"));
    check(&[other(2, "by_a"), replace(3, 1, with_index(2, "by_a", false))], &format!("Committed(Lsn(2)), {}", taken("by_a")));
    check(&[replace(2, 1, with_index(2, "t", false))], &taken("t"));
    // The table's own index is not in its way, under the name that it had or any other.
    let (kept, renamed) = (replace(3, 2, with_index(3, "by_a", true)), replace(4, 3, with_index(4, "by_b", true)));
    check(&[indexed(), kept, renamed, other(5, "by_a")], "Committed(Lsn(2)), Committed(Lsn(3)), Committed(Lsn(4)), Committed(Lsn(5))");
    // Two tables that take the same name for a key.
    let mut same = table(TableId(16_402), "s");
    same.constraints[0].name = "t_pkey".into();
    check(&[commit(2, 1, vec![CatalogChange::CreateTable(same)], vec![])], &taken("t_pkey"));
}

#[test]
fn a_foreign_key_may_point_at_a_unique_index_and_at_no_other() {
    let child = |txn| {
        let mut child = table(TableId(16_401), "child");
        child.constraints[0] = ConstraintDef::new(
            "child_a_fkey",
            ConstraintKind::ForeignKey {
                columns: vec![ColumnId(1)],
                references: T,
                referenced: vec![ColumnId(1)],
                on_delete: ReferentialAction::NoAction,
                on_update: ReferentialAction::NoAction,
            },
        );
        commit(txn, 1, vec![CatalogChange::CreateTable(child)], vec![])
    };
    let replace = |txn, def| commit(txn, 1, vec![CatalogChange::ReplaceTable(def)], vec![]);
    let only_index = |version, unique| {
        let mut def = with_index(version, "by_a", unique);
        def.constraints.remove(0);
        def
    };
    let lost = "CatalogConflict(\"the table or key that constraint \\\"child_a_fkey\\\" on table \\\"child\\\" references is gone\")";
    check(&[replace(2, only_index(2, true)), child(3)], "Committed(Lsn(2)), Committed(Lsn(3))");
    check(&[replace(2, only_index(2, false)), child(3)], &format!("Committed(Lsn(2)), {lost}"));
    check(
        &[replace(2, only_index(2, true)), child(3), replace(4, only_index(3, false))],
        &format!("Committed(Lsn(2)), Committed(Lsn(3)), {lost}"),
    );
}

#[test]
fn a_comment_lives_as_long_as_what_it_is_about() {
    let mut state = State::new();
    state.apply(create(1, 0, "t"));
    let said = |target, text: Option<&str>| CatalogChange::SetComment { target, text: text.map(Into::into) };
    let named = |name: &str| name.to_string();
    let targets = [
        CommentTarget::Database,
        CommentTarget::Schema(SchemaId(2200)),
        CommentTarget::Relation(T),
        CommentTarget::Column(T, ColumnId(1)),
        CommentTarget::Constraint(T, named("t_pkey")),
        CommentTarget::Index(T, named("by_a")),
    ];
    let mut catalog = vec![CatalogChange::ReplaceTable(with_index(2, "by_a", false))];
    catalog.extend(targets.iter().map(|target| said(target.clone(), Some("so"))));
    assert_eq!(state.apply(commit(2, 1, catalog, vec![])).outcome, Outcome::Committed(Lsn(2)));
    assert_eq!(state.view().catalog.comments.keys().cloned().collect::<Vec<_>>(), targets);
    let mut loaded = View::default();
    loaded.apply(state.view().lsn, &state.view().dump());
    assert_eq!(&loaded, state.view());
    // By another name the index is another to a comment; of what is left, one is taken away.
    let change = vec![CatalogChange::ReplaceTable(with_index(3, "by_b", false)), said(CommentTarget::Relation(T), None)];
    assert_eq!(state.apply(commit(3, 2, change, vec![])).outcome, Outcome::Committed(Lsn(3)));
    let left = [&targets[..2], &targets[3..5]].concat();
    assert_eq!(state.view().catalog.comments.keys().cloned().collect::<Vec<_>>(), left);
    let gone = [CommentTarget::Index(T, named("by_a")), CommentTarget::Constraint(T, named("by_b")), CommentTarget::Column(T, ColumnId(9))];
    for (txn, target) in (10..).zip(gone) {
        let outcome = state.apply(commit(txn, 3, vec![said(target, Some("x"))], vec![])).outcome;
        assert_eq!(outcome, Outcome::CatalogConflict("what a comment is about does not exist any more".into()));
    }
    state.apply(commit(4, 3, vec![CatalogChange::DropTable { id: T, version: 3 }], vec![]));
    assert_eq!(state.view().catalog.comments.keys().cloned().collect::<Vec<_>>(), targets[..2]);
}

#[test]
fn the_values_of_a_sequence_are_given_out_once() {
    let at = |last, called| SequencePosition { last, called };
    let id = TableId(16_402);
    let sequence = SequenceDef {
        id,
        schema: SchemaId(2200),
        name: "s".into(),
        ty: SqlType::Int8,
        start: 1,
        increment: 1,
        min: 1,
        max: 100,
        cache: 1,
        cycle: false,
        owner: None,
        position: at(1, false),
        epoch: 0,
    };
    let moved = |txn, from, to| commit(txn, 1, vec![CatalogChange::MoveSequence { id, from, to }], vec![]);
    let set = |txn, from, epoch| {
        let sequence = SequenceDef { position: at(50, true), epoch, ..sequence.clone() };
        commit(txn, 1, vec![CatalogChange::ReplaceSequence { sequence, from }], vec![])
    };
    let create = commit(2, 1, vec![CatalogChange::CreateSequence(sequence.clone())], vec![]);
    let used = "CatalogConflict(\"sequence 16402 was used by another transaction\")";
    let changed = "CatalogConflict(\"sequence \\\"s\\\" was changed by another transaction\")";
    let check = |entries: &[LogEntry], expected: &str| {
        check(&[std::slice::from_ref(&create), entries].concat(), &format!("Committed(Lsn(2)), {expected}"))
    };
    check(&[moved(3, at(1, false), at(32, true)), moved(4, at(1, false), at(32, true))], &format!("Committed(Lsn(3)), {used}"));
    check(&[moved(3, at(1, false), at(32, true)), set(4, at(1, false), 1)], &format!("Committed(Lsn(3)), {changed}"));
    check(&[set(3, at(1, false), 1), moved(4, at(1, false), at(32, true))], &format!("Committed(Lsn(3)), {used}"));
    check(&[set(3, at(1, false), 1), moved(4, at(50, true), at(82, true))], "Committed(Lsn(3)), Committed(Lsn(4))");
    check(&[set(3, at(1, false), 1), set(4, at(50, true), 1)], &format!("Committed(Lsn(3)), {changed}"));
    let taken = table(TableId(16_403), "s");
    let taken = commit(3, 1, vec![CatalogChange::CreateTable(taken)], vec![]);
    check(&[taken], "CatalogConflict(\"relation \\\"s\\\" already exists\")");
    check(
        &[commit(3, 1, vec![CatalogChange::DropSequence(id)], vec![]), moved(4, at(1, false), at(2, true))],
        &format!("Committed(Lsn(3)), {used}"),
    );
}

#[test]
fn nonsense_is_refused_and_changes_nothing() {
    let mut state = State::new();
    state.apply(create(1, 0, "t"));
    let before = state.view().clone();
    let twice = vec![TableWrite { table: T, version: 1, ..TableWrite::default() }; 2];
    let wrong_segment =
        TableWrite { table: T, version: 1, segments: vec![SegmentMeta { table: TableId(3), ..segment(1) }], ..TableWrite::default() };
    let huge = TableWrite { table: T, version: 1, segments: vec![segment(u64::MAX), segment(5)], ..TableWrite::default() };
    let rows_without_bytes = TableWrite { table: T, version: 1, row_count: 1, ..TableWrite::default() };
    let unsorted = TableWrite { table: T, version: 1, deletes: vec![RowId(2), RowId(1)], ..TableWrite::default() };
    for (i, writes) in [twice, vec![wrong_segment], vec![huge], vec![rows_without_bytes], vec![unsorted]].into_iter().enumerate() {
        let outcome = state.apply(commit(100 + i as u128, 1, vec![], writes)).outcome;
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    assert_eq!(state.apply(insert(50, 99, &[1])).outcome, Outcome::FutureSnapshot);
    let schema = CatalogChange::CreateSchema(SchemaDef { id: SchemaId(2200), name: "other".into() });
    assert!(matches!(state.apply(commit(51, 1, vec![schema], vec![])).outcome, Outcome::CatalogConflict(_)));
    assert_eq!(state.view(), &before);
}

#[test]
fn a_seal_moves_whole_batches_and_nothing_else() {
    let sealed = |first, end| {
        let segment = SegmentMeta { row_ids: RowIds::Column, row_id_min: RowId(first), row_id_max: RowId(end - 1), ..segment(end - first) };
        LogEntry::Seal(Seal {
            table: T,
            version: 1,
            first: RowId(first),
            end: RowId(end),
            segments: vec![segment],
            dropped: RowSet::default(),
        })
    };
    let rows = [insert(2, 1, &[1, 2]), insert(3, 2, &[3])];
    check(&[&rows[..], &[sealed(0, 3)]].concat(), "Committed(Lsn(2)), Committed(Lsn(3)), Committed(Lsn(4))");
    check(&[&rows[..], &[sealed(0, 2), sealed(0, 2)]].concat(), "Committed(Lsn(2)), Committed(Lsn(3)), Committed(Lsn(4)), Stale");
    for (first, end) in [(0, 1), (1, 3), (0, 4), (2, 4)] {
        check(&[&rows[..], &[sealed(first, end)]].concat(), "Committed(Lsn(2)), Committed(Lsn(3)), Stale");
    }
    let mut state = State::new();
    [create(1, 0, "t"), rows[0].clone(), rows[1].clone()].into_iter().for_each(|e| drop(state.apply(e)));
    let before = state.view().tables[&T].row_count();
    state.apply(sealed(0, 3));
    let after = &state.view().tables[&T];
    assert_eq!((after.row_count(), after.delta.len(), after.next_row_id), (before, 0, RowId(3)));
}

fn column_segment(id: u64, first: u64, last: u64, rows: u64) -> SegmentMeta {
    SegmentMeta { id: SegmentId(id), row_ids: RowIds::Column, row_id_min: RowId(first), row_id_max: RowId(last), ..segment(rows) }
}

fn ids(rows: &[u64]) -> RowSet {
    rows.iter().map(|row| RowId(*row)).collect()
}

fn seal(first: u64, end: u64, segments: Vec<SegmentMeta>, dropped: &[u64]) -> LogEntry {
    LogEntry::Seal(Seal { table: T, version: 1, first: RowId(first), end: RowId(end), segments, dropped: ids(dropped) })
}

fn compact(inputs: &[u64], outputs: Vec<SegmentMeta>, dropped: &[u64]) -> LogEntry {
    LogEntry::Compact(Compact { table: T, inputs: inputs.iter().map(|id| SegmentId(*id)).collect(), outputs, dropped: ids(dropped) })
}

#[test]
fn a_seal_may_leave_out_deleted_rows_and_no_others() {
    let before = [insert(2, 1, &[1, 2, 3]), delete(3, 2, &[1])];
    let done = |outcome: &str| format!("Committed(Lsn(2)), Committed(Lsn(3)), {outcome}");
    check(&[&before[..], &[seal(0, 3, vec![column_segment(7, 0, 2, 2)], &[1])]].concat(), &done("Committed(Lsn(4))"));
    check(&[&before[..], &[seal(0, 3, vec![column_segment(7, 0, 2, 3)], &[])]].concat(), &done("Committed(Lsn(4))"));
    // a row that is not deleted, a row too few, a row of another range
    check(&[&before[..], &[seal(0, 3, vec![column_segment(7, 0, 2, 2)], &[2])]].concat(), &done("Stale"));
    check(&[&before[..], &[seal(0, 3, vec![column_segment(7, 0, 2, 2)], &[])]].concat(), &done("Stale"));
    check(&[&before[..], &[seal(0, 3, vec![column_segment(7, 0, 3, 2)], &[1])]].concat(), &done("Stale"));
}

#[test]
fn a_compaction_swaps_segments_and_drops_deleted_rows() {
    let mut state = State::new();
    for entry in [create(1, 0, "t"), insert(2, 1, &[1, 2]), insert(3, 2, &[3, 4])] {
        state.apply(entry);
    }
    state.apply(seal(0, 2, vec![column_segment(7, 0, 1, 2)], &[]));
    state.apply(seal(2, 4, vec![column_segment(8, 2, 3, 2)], &[]));
    state.apply(delete(4, 5, &[1]));
    // deleted after the compaction had read its inputs
    state.apply(delete(5, 6, &[3]));
    for nonsense in [
        compact(&[], vec![], &[]),
        compact(&[7, 7], vec![column_segment(9, 0, 0, 1)], &[1]),
        compact(&[7, 6], vec![column_segment(9, 0, 3, 3)], &[1]),
        compact(&[7, 8], vec![column_segment(9, 0, 3, 4)], &[1]),
        compact(&[7, 8], vec![column_segment(9, 0, 3, 3)], &[0]),
        compact(&[7, 8], vec![column_segment(9, 0, 4, 3)], &[1]),
    ] {
        assert_eq!(state.apply(nonsense.clone()).outcome, Outcome::Stale, "{nonsense:?}");
    }
    let count = state.view().tables[&T].row_count();
    assert_eq!(state.apply(compact(&[7, 8], vec![column_segment(9, 0, 3, 3)], &[1])).outcome, Outcome::Committed(Lsn(8)));
    let rows = &state.view().tables[&T];
    assert_eq!((rows.row_count(), rows.segments.len(), rows.deleted.clone()), (count, 1, ids(&[3])));
    // who did not see that they were deleted does not delete them again, and a row that is there can be deleted as before
    let conflict = |row| Outcome::RowConflict { table: T, row: RowId(row) };
    assert_eq!(state.apply(delete(10, 5, &[1])).outcome, conflict(1));
    assert_eq!(state.apply(delete(11, 5, &[3])).outcome, conflict(3));
    assert_eq!(state.apply(delete(12, 5, &[0])).outcome, Outcome::Committed(Lsn(9)));
    // all of it
    assert_eq!(state.apply(compact(&[9], vec![], &[0, 2, 3])).outcome, Outcome::Stale);
    state.apply(delete(13, 9, &[2]));
    assert_eq!(state.apply(compact(&[9], vec![], &[0, 2, 3])).outcome, Outcome::Committed(Lsn(11)));
    let rows = &state.view().tables[&T];
    assert_eq!((rows.row_count(), rows.segments.len(), rows.deleted.len()), (0, 0, 0));
    assert_eq!(state.apply(delete(14, 8, &[0])).outcome, conflict(0), "also after a restart");
    let mut restarted = State::load(&state.view().dump(), state.dump_records());
    assert_eq!(restarted, state);
    assert_eq!(restarted.apply(delete(15, 8, &[2])).outcome, conflict(2));
}

#[test]
fn purged_rows_are_forgotten_by_count_and_then_old_snapshots_delete_nothing() {
    let mut state = State::new();
    state.apply(create(1, 0, "t"));
    let half = crate::purged::PURGED_MAX / 2 + 1;
    let mut next = 0;
    for txn in [2, 3, 4] {
        let write = TableWrite { table: T, version: 1, segments: vec![segment(half)], ..TableWrite::default() };
        let meta = SegmentMeta { id: SegmentId(txn), ..segment(half) };
        state.apply(commit(100 + u128::from(txn), 1, vec![], vec![TableWrite { segments: vec![meta], ..write }]));
        let all: Vec<u64> = (next..next + half).collect();
        next += half;
        let at = state.view().lsn.0;
        state.apply(delete(200 + u128::from(txn), at, &all));
        let outcome = state.apply(compact(&[txn], vec![], &all)).outcome;
        assert!(outcome.committed().is_some(), "{outcome:?}");
    }
    // LSN 4 purged the first half, LSN 7 the second, which had the first forgotten, LSN 10 the third.
    let kept = state.apply(insert(300, 10, &[1])).outcome;
    assert_eq!(kept, Outcome::Committed(Lsn(11)));
    let row = state.view().tables[&T].next_row_id.0 - 1;
    assert_eq!(state.apply(delete(301, 6, &[0])).outcome, Outcome::SnapshotTooOld);
    assert_eq!(state.apply(delete(302, 6, &[row])).outcome, Outcome::SnapshotTooOld);
    assert_eq!(state.apply(delete(303, 7, &[next - 1])).outcome, Outcome::RowConflict { table: T, row: RowId(next - 1) });
    assert_eq!(state.apply(delete(304, 7, &[row])).outcome, Outcome::Committed(Lsn(12)));
    assert_eq!(State::load(&state.view().dump(), state.dump_records()), state);
}

#[test]
fn row_ids_go_to_delta_rows_first_and_then_to_segments_in_order() {
    let mut state = State::new();
    state.apply(create(1, 0, "t"));
    let write = TableWrite {
        table: T,
        version: 1,
        rows: Bytes::from_static(b"x"),
        row_count: 3,
        segments: vec![segment(5), segment(7)],
        ..TableWrite::default()
    };
    state.apply(commit(2, 1, vec![], vec![write]));
    let rows = &state.view().tables[&T];
    assert_eq!(rows.delta.first().map(|d| d.first), Some(RowId(0)));
    assert_eq!(rows.segments.iter().map(|s| s.row_ids).collect::<Vec<_>>(), [RowIds::Base(RowId(3)), RowIds::Base(RowId(8))]);
    assert_eq!(rows.segments[1].row_id_max, RowId(14));
    assert_eq!(rows.next_row_id, RowId(15));
}

fn any_entry() -> impl Strategy<Value = LogEntry> {
    let txn = 0..40u128;
    let snapshot = 0..12u64;
    prop_oneof![
        (txn.clone(), snapshot.clone(), prop::collection::vec(0..6u64, 1..4)).prop_map(|(t, s, keys)| insert(t, s, &keys)),
        (txn.clone(), snapshot.clone(), prop::collection::btree_set(0..12u64, 1..4)).prop_map(|(t, s, rows)| delete(
            t,
            s,
            &rows.into_iter().collect::<Vec<_>>()
        )),
        (txn.clone(), snapshot.clone(), 1..4u64).prop_map(|(t, s, rows)| load(t, s, rows)),
        (txn.clone(), snapshot.clone()).prop_map(|(t, s)| truncate(t, s)),
        (txn.clone(), snapshot.clone(), prop::collection::btree_set(0..12u64, 1..4), 0..5u8).prop_map(|(t, s, ids, kind)| read(
            t,
            s,
            any_read(kind, &ids.into_iter().collect::<Vec<_>>())
        )),
        (txn.clone(), snapshot.clone()).prop_map(|(t, s)| create(t, s, "t")),
        (txn, snapshot, 1..4u64).prop_map(|(t, s, v)| commit(t, s, vec![CatalogChange::DropTable { id: T, version: v }], vec![])),
        (0..6u64, 1..4u64, prop::collection::vec(0..12u64, 0..3)).prop_map(|(first, rows, dropped)| {
            let kept = rows.saturating_sub(dropped.len() as u64);
            let segments = if kept == 0 { vec![] } else { vec![column_segment(50 + first, first, first + rows - 1, kept)] };
            seal(first, first + rows, segments, &dropped)
        }),
        (prop::collection::vec(prop_oneof![Just(1), 50..56u64], 1..3), prop::collection::vec(0..12u64, 0..4))
            .prop_map(|(inputs, dropped)| compact(&inputs, vec![], &dropped)),
    ]
}

fn any_read(kind: u8, values: &[u64]) -> TableRead {
    match kind {
        0 => whole(),
        1 => present(values),
        2 => absent(values),
        3 => for_update(values),
        _ => for_share(values),
    }
}

/// The rules again, by looking at the whole history of commits.
#[derive(Default)]
struct Model {
    /// What committed, with the LSNs.
    history: Vec<(u64, Step)>,
    answered: std::collections::BTreeMap<u128, bool>,
}

/// What one transaction of the model does.
#[derive(Clone, Default)]
struct Step {
    inserts: Vec<u64>,
    all_keys: bool,
    deletes: Vec<u64>,
    reads: TableRead,
}

impl Step {
    fn writes(&self) -> bool {
        !self.inserts.is_empty() || self.all_keys || !self.deletes.is_empty()
    }
}

impl Model {
    /// Whether the transaction commits, into a table whose definition does not change.
    fn commits(&mut self, txn: u128, snapshot: u64, step: Step, next_row: u64) -> bool {
        if let Some(answer) = self.answered.get(&txn) {
            return *answer;
        }
        let now = self.history.last().map_or(1, |h| h.0);
        let ids = |rows: &[RowId]| rows.iter().map(|r| r.0).collect::<Vec<_>>();
        let (locked, shared) = (ids(&step.reads.locked), ids(&step.reads.shared));
        let named = [step.deletes.clone(), ids(&step.reads.rows), locked.clone(), shared.clone()].concat();
        let exists = |row: &u64| *row < next_row && !self.history.iter().any(|(_, h)| h.deletes.contains(row));
        let since = || self.history.iter().filter(|(lsn, _)| *lsn > snapshot).map(|(_, h)| h);
        let met = |h: &Step| {
            let absent: Vec<u64> = step.reads.absent.iter().map(|k| k.hash).collect();
            let key = h.all_keys && (step.all_keys || !step.inserts.is_empty() || !absent.is_empty())
                || step.all_keys && !h.inserts.is_empty()
                || h.inserts.iter().any(|k| step.inserts.contains(k) || absent.contains(k));
            let (h_locked, h_shared) = (ids(&h.reads.locked), ids(&h.reads.shared));
            let lock = h_locked.iter().any(|r| locked.contains(r) || shared.contains(r) || step.deletes.contains(r))
                || h_shared.iter().any(|r| locked.contains(r) || step.deletes.contains(r));
            key || lock || step.reads.whole && h.writes()
        };
        let ok = snapshot <= now && named.iter().all(exists) && !since().any(met);
        if ok {
            self.history.push((now + 1, step));
        }
        self.answered.insert(txn, ok);
        ok
    }
}

proptest! {
    #[test]
    fn a_restarted_replica_decides_as_one_that_never_stopped(entries in prop::collection::vec(any_entry(), 1..60), cut in 0..60usize) {
        let mut steady = State::new();
        let mut restarted = State::new();
        let mut told = View::default();
        steady.apply(create(1000, 0, "t"));
        restarted.apply(create(1000, 0, "t"));
        told.apply(Lsn(1), &steady.view().dump());
        for (i, entry) in entries.into_iter().enumerate() {
            if i == cut {
                restarted = State::load(&restarted.view().dump(), restarted.dump_records());
            }
            let a = steady.apply(entry.clone());
            let b = restarted.apply(entry);
            prop_assert_eq!(&a, &b);
            // A commit that changes nothing has an LSN all the same.
            if steady.view().lsn != told.lsn {
                told.apply(steady.view().lsn, &a.changes);
            }
        }
        prop_assert_eq!(steady.view(), restarted.view());
        prop_assert_eq!(&told, steady.view());
    }

    #[test]
    fn certification_agrees_with_a_model_that_remembers_everything(
        entries in prop::collection::vec(
            (0..200u128, 0..7u64, 0..12u8, prop::collection::btree_set(0..16u64, 1..3), 0..8u8, prop::collection::btree_set(0..16u64, 1..3)),
            1..60,
        )
    ) {
        let mut state = State::new();
        state.apply(create(1000, 0, "t"));
        let mut model = Model::default();
        // Some rows to begin with.
        let first: Vec<u64> = (100..116).collect();
        state.apply(insert(1001, 1, &first));
        model.commits(1001, 1, Step { inserts: first, ..Step::default() }, 0);
        for (txn, age, kind, values, read_kind, read_values) in entries {
            let values: Vec<u64> = values.into_iter().collect();
            let read_values: Vec<u64> = read_values.into_iter().collect();
            let next_row = state.view().tables[&T].next_row_id.0;
            // Mostly of the last few, now and then of what is to come.
            let snapshot = (state.view().lsn.0 + 1).saturating_sub(age);
            // Half of them read something too.
            let reads = if read_kind < 5 { any_read(read_kind, &read_values) } else { TableRead::default() };
            let (entry, step) = match kind {
                0..3 => (insert(txn, snapshot, &values), Step { inserts: values, ..Step::default() }),
                3 => (load(txn, snapshot, 3), Step { all_keys: true, ..Step::default() }),
                4..6 => (delete(txn, snapshot, &values), Step { deletes: values, ..Step::default() }),
                _ => (commit(txn, snapshot, vec![], vec![]), Step::default()),
            };
            let LogEntry::Commit(commit) = entry else { unreachable!() };
            let entry = LogEntry::Commit(Commit { reads: vec![TableRead { table: T, version: 1, ..reads.clone() }], ..commit });
            let expected = model.commits(txn, snapshot, Step { reads, ..step }, next_row);
            let outcome = state.apply(entry).outcome;
            prop_assert_eq!(outcome.committed().is_some(), expected, "{:?}", outcome);
        }
    }
}

#[test]
fn changes_alone_rebuild_the_view() {
    let mut state = State::new();
    let mut view = View::default();
    for entry in [create(1, 0, "t"), insert(2, 1, &[1, 2]), load(3, 2, 4), delete(4, 3, &[1, 3])] {
        let applied = state.apply(entry);
        view.apply(state.view().lsn, &applied.changes);
    }
    assert_eq!(&view, state.view());
    let mut dumped = View::default();
    dumped.apply(view.lsn, &view.dump());
    assert_eq!(dumped, view);
    assert!(matches!(view.dump().first(), Some(Change::Catalog(_))));
}
