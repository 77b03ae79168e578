use bytes::Bytes;
use proptest::prelude::*;
use quire_types::{
    CatalogChange, Change, ColumnDef, ColumnId, Commit, ConstraintDef, ConstraintKind, Isolation, KeyAssert, LogEntry, Lsn, Outcome,
    ReferentialAction, RowId, RowIds, SchemaDef, SchemaId, Seal, SegmentId, SegmentMeta, SequenceDef, SequencePosition, SqlType, TableDef,
    TableId, TableWrite, Term, TxnId, View,
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
        constraints: vec![ConstraintDef { name: format!("{name}_pkey"), kind: ConstraintKind::PrimaryKey(vec![ColumnId(1)]) }],
        clustering: vec![ColumnId(1)],
    }
}

fn commit(txn: u128, snapshot: u64, catalog: Vec<CatalogChange>, writes: Vec<TableWrite>) -> LogEntry {
    LogEntry::Commit(Commit { txn_id: TxnId(txn), snapshot: Lsn(snapshot), isolation: Isolation::ReadCommitted, catalog, writes })
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
    let check =
        |entries: &[LogEntry], expected: &str| check(&[&[rows.clone()], entries].concat(), &format!("Committed(Lsn(2)), {expected}"));
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
        child.constraints[0] = ConstraintDef {
            name: "child_a_fkey".into(),
            kind: ConstraintKind::ForeignKey {
                columns: vec![ColumnId(1)],
                references: T,
                referenced: vec![ColumnId(1)],
                on_delete: ReferentialAction::NoAction,
                on_update: ReferentialAction::NoAction,
            },
        };
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
    let check =
        |entries: &[LogEntry], expected: &str| check(&[&[create.clone()], entries].concat(), &format!("Committed(Lsn(2)), {expected}"));
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
        LogEntry::Seal(Seal { table: T, version: 1, first: RowId(first), end: RowId(end), segments: vec![segment] })
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
    assert_eq!(rows.delta[0].first, RowId(0));
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
        (txn.clone(), snapshot.clone()).prop_map(|(t, s)| create(t, s, "t")),
        (txn, snapshot, 1..4u64).prop_map(|(t, s, v)| commit(t, s, vec![CatalogChange::DropTable { id: T, version: v }], vec![])),
    ]
}

/// The rules again, by looking at the whole history of commits.
#[derive(Default)]
struct Model {
    /// (lsn, keys written, all keys, deleted rows, any insert)
    history: Vec<(u64, Vec<u64>, bool, Vec<u64>)>,
    answered: std::collections::BTreeMap<u128, bool>,
    deleted: std::collections::BTreeSet<u64>,
}

impl Model {
    /// Whether an insert, load or delete into an unchanging table commits.
    fn commits(&mut self, txn: u128, snapshot: u64, keys: &[u64], all_keys: bool, deletes: &[u64], next_row: u64) -> bool {
        if let Some(answer) = self.answered.get(&txn) {
            return *answer;
        }
        let now = self.history.last().map_or(1, |h| h.0);
        let since: Vec<_> = self.history.iter().filter(|h| h.0 > snapshot).collect();
        let key_conflict = since.iter().any(|h| {
            (h.2 && (all_keys || !keys.is_empty())) || h.1.iter().any(|k| keys.contains(k)) || all_keys && (h.2 || !h.1.is_empty())
        });
        let ok = snapshot <= now && !key_conflict && deletes.iter().all(|r| *r < next_row && !self.deleted.contains(r));
        if ok {
            self.deleted.extend(deletes);
            self.history.push((now + 1, keys.to_vec(), all_keys, deletes.to_vec()));
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
            if !a.changes.is_empty() {
                told.apply(steady.view().lsn, &a.changes);
            }
        }
        prop_assert_eq!(steady.view(), restarted.view());
        prop_assert_eq!(&told, steady.view());
    }

    #[test]
    fn certification_agrees_with_a_model_that_remembers_everything(
        entries in prop::collection::vec((0..30u128, 0..20u64, 0..3u8, prop::collection::btree_set(0..8u64, 1..4)), 1..60)
    ) {
        let mut state = State::new();
        state.apply(create(1000, 0, "t"));
        let mut model = Model::default();
        for (txn, snapshot, kind, values) in entries {
            let values: Vec<u64> = values.into_iter().collect();
            let next_row = state.view().tables[&T].next_row_id.0;
            let (entry, expected) = match kind {
                0 => (insert(txn, snapshot, &values), model.commits(txn, snapshot, &values, false, &[], next_row)),
                1 => (load(txn, snapshot, 3), model.commits(txn, snapshot, &[], true, &[], next_row)),
                _ => (delete(txn, snapshot, &values), model.commits(txn, snapshot, &[], false, &values, next_row)),
            };
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
