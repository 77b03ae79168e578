use quire_log::State;
use quire_types::{
    CatalogChange, ColumnDef, ColumnId, CommentTarget, Commit, ConstraintDef, ConstraintKind, Isolation, LogEntry, SchemaDef, SchemaId,
    SqlType, TableDef, TableId, TxnId,
};

use crate::persist::{self, Index};
use crate::store::{OrderedStore, RocksStore};

const T: TableId = TableId(20_000);
const U: TableId = TableId(20_001);
const S: SchemaId = SchemaId(20_002);

fn table(id: TableId, version: u64, columns: u32, index: &str) -> TableDef {
    TableDef {
        id,
        schema: SchemaId(2200),
        name: format!("t{id}"),
        version,
        columns: (1..=columns).map(|n| ColumnDef::new(ColumnId(n), format!("c{n}"), SqlType::Int8)).collect(),
        next_column_id: ColumnId(9),
        constraints: vec![ConstraintDef::new(format!("{index}{id}"), ConstraintKind::Index { columns: vec![ColumnId(1)], unique: false })],
        clustering: vec![],
        arrow: Default::default(),
    }
}

/// Each list is one commit; after each the store holds what the state says.
#[test]
fn what_is_written_of_comments_is_what_is_read_again() {
    let said =
        |target: &CommentTarget, text: Option<&str>| CatalogChange::SetComment { target: target.clone(), text: text.map(Into::into) };
    let on = |id: TableId, index: &str| {
        let index = format!("{index}{id}");
        [
            CommentTarget::Relation(id),
            CommentTarget::Column(id, ColumnId(1)),
            CommentTarget::Column(id, ColumnId(2)),
            CommentTarget::Index(id, index),
        ]
    };
    let all = |id, index| on(id, index).iter().map(|target| said(target, Some("so"))).collect::<Vec<_>>();
    let others = [CommentTarget::Database, CommentTarget::Schema(S), CommentTarget::Schema(SchemaId(2200))];
    let others = others.iter().map(|target| said(target, Some("it is"))).collect::<Vec<_>>();
    let commits = [
        vec![
            CatalogChange::CreateSchema(SchemaDef { id: S, name: "s".into() }),
            CatalogChange::CreateTable(table(T, 1, 2, "i")),
            CatalogChange::CreateTable(table(U, 1, 2, "i")),
        ],
        [all(T, "i"), all(U, "i"), others].concat(),
        vec![said(&CommentTarget::Relation(T), None), said(&CommentTarget::Relation(U), Some("other"))],
        // A column goes, and the index changes its name; what is said of it afterwards stays.
        vec![
            CatalogChange::ReplaceTable(table(T, 2, 1, "j")),
            said(&on(T, "j")[3], Some("renamed")),
            said(&CommentTarget::Relation(T), Some("again")),
        ],
        vec![CatalogChange::DropTable { id: U, version: 1 }, CatalogChange::DropSchema(S), said(&CommentTarget::Database, None)],
    ];
    let dir = tempfile::tempdir().unwrap();
    let (store, _closed) = RocksStore::open(dir.path()).unwrap();
    let (mut state, mut index) = (State::new(), Index::default());
    let mut left = vec![];
    for (txn, catalog) in (1..).zip(commits) {
        let commit = Commit {
            txn_id: TxnId(txn),
            snapshot: state.view().lsn,
            isolation: Isolation::ReadCommitted,
            catalog,
            writes: vec![],
            reads: vec![],
        };
        let applied = state.apply(LogEntry::Commit(commit));
        assert!(applied.outcome.committed().is_some(), "{:?}", applied.outcome);
        let mut writes = vec![];
        persist::writes(&mut index, state.view(), applied, &mut writes);
        store.write(writes).unwrap();
        assert_eq!(persist::load(store.as_ref()).unwrap().0, state);
        left.push(state.view().catalog.comments.len());
    }
    assert_eq!(left, [0, 11, 10, 10, 4]);
}
