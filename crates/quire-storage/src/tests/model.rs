//! Random histories of inserts, loads, updates, deletes, truncations, seals, compactions and restarts against a table that is a map:
//! whatever happened since, each snapshot that somebody holds reads as it did when it was taken.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use proptest::prelude::*;
use quire_log::State;
use quire_segment::{EncodeOptions, Footer, decode};
use quire_types::{
    CatalogChange, ColumnDef, ColumnId, Commit, Compact, Isolation, LogEntry, Outcome, ROW_ID_COLUMN, RowId, RowIds, SchemaId, Seal,
    SegmentId, SegmentMeta, SqlType, TableDef, TableId, TableWrite, Term, TxnId, View,
};

use crate::compact::choose::{self, Counted, CountedRows, Job};
use crate::compact::merge::{self, Merged};
use crate::persist::{self, Index};
use crate::seal::rows;
use crate::store::{OrderedStore, RocksStore};

const T: TableId = TableId(20_000);

/// What happens next. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8),
    Load(u8),
    /// Of rows visible now.
    Delete(Vec<u16>),
    Update(u16),
    /// Of a row that some held snapshot sees, which may be long gone.
    DeleteOld(u8, u16),
    Truncate,
    Hold,
    /// Reads and encodes; the entry is applied later, if it still fits.
    BeginSeal,
    BeginCompact(Vec<u8>),
    /// What the compactor itself would do.
    BeginChosen,
    Finish(u8),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20u8).prop_map(Step::Insert),
        2 => (1..40u8).prop_map(Step::Load),
        4 => prop::collection::vec(any::<u16>(), 1..12).prop_map(Step::Delete),
        6 => any::<u16>().prop_map(Step::Update),
        3 => (any::<u8>(), any::<u16>()).prop_map(|(snapshot, row)| Step::DeleteOld(snapshot, row)),
        1 => Just(Step::Truncate),
        2 => Just(Step::Hold),
        4 => Just(Step::BeginSeal),
        3 => prop::collection::vec(any::<u8>(), 1..4).prop_map(Step::BeginCompact),
        2 => Just(Step::BeginChosen),
        8 => any::<u8>().prop_map(Step::Finish),
        1 => Just(Step::Restart),
    ]
}

type Rows = BTreeMap<u64, (i64, String)>;

struct World {
    state: State,
    index: Index,
    store: Arc<dyn OrderedStore>,
    /// Never removed: garbage collection is not what is tested.
    objects: HashMap<SegmentId, Bytes>,
    deltas: HashMap<RowId, Bytes>,
    model: Rows,
    held: Vec<(View, Rows)>,
    begun: Vec<LogEntry>,
    next: u64,
}

fn table() -> TableDef {
    let column = |id, name: &str, ty| ColumnDef::new(ColumnId(id), name, ty);
    TableDef {
        id: T,
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

impl World {
    fn new(dir: &std::path::Path) -> World {
        let (store, _) = RocksStore::open(dir).unwrap();
        let mut world = World {
            state: State::new(),
            index: Index::default(),
            store,
            objects: HashMap::new(),
            deltas: HashMap::new(),
            model: Rows::new(),
            held: vec![],
            begun: vec![],
            next: 0,
        };
        let create = world.commit(vec![CatalogChange::CreateTable(table())], TableWrite::default(), None);
        assert!(create.committed().is_some());
        world
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn def(&self) -> Arc<TableDef> {
        self.state.view().catalog.tables[&T].clone()
    }

    fn apply(&mut self, entry: LogEntry) -> Outcome {
        let before = self.state.view().lsn;
        let applied = self.state.apply(entry);
        for (_, first, rows) in &applied.delta {
            self.deltas.insert(*first, rows.clone());
        }
        let outcome = applied.outcome.clone();
        assert!(self.state.view().lsn > before || outcome.committed().is_none());
        let mut writes = vec![];
        persist::writes(&mut self.index, self.state.view(), applied, &mut writes);
        self.store.write(writes).unwrap();
        outcome
    }

    fn commit(&mut self, catalog: Vec<CatalogChange>, write: TableWrite, snapshot: Option<&View>) -> Outcome {
        let txn_id = TxnId(self.number().into());
        let snapshot = snapshot.unwrap_or(self.state.view()).lsn;
        let writes = if catalog.is_empty() { vec![write] } else { vec![] };
        self.apply(LogEntry::Commit(Commit { txn_id, snapshot, isolation: Isolation::ReadCommitted, catalog, writes, reads: vec![] }))
    }

    /// New rows with keys in no order.
    fn rows(&mut self, count: u64) -> (RecordBatch, Vec<(i64, String)>) {
        let rows: Vec<(i64, String)> = (0..count).map(|_| (self.number() * 7919 % 1000) as i64).map(|k| (k, format!("v{k}"))).collect();
        let keys = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
        let values: StringViewArray = rows.iter().map(|r| Some(r.1.clone())).collect();
        (RecordBatch::try_new(self.def().arrow_schema(), vec![Arc::new(keys), Arc::new(values)]).unwrap(), rows)
    }

    fn write(&self) -> TableWrite {
        TableWrite { table: T, version: self.def().version, ..TableWrite::default() }
    }

    /// Inserts and deletes in one commit, as an update does.
    fn change(&mut self, inserted: u64, deleted: &[u64]) {
        let first = self.state.view().tables[&T].next_row_id.0;
        let (batch, rows) = self.rows(inserted);
        let mut deletes: Vec<RowId> = deleted.iter().map(|id| RowId(*id)).collect();
        deletes.sort();
        deletes.dedup();
        let bytes = if inserted == 0 { Bytes::new() } else { quire_segment::encode_rows(&batch).unwrap() };
        let write = TableWrite { rows: bytes, row_count: inserted, deletes, ..self.write() };
        assert!(self.commit(vec![], write, None).committed().is_some());
        deleted.iter().for_each(|id| drop(self.model.remove(id)));
        self.model.extend((first..).zip(rows));
    }

    fn load(&mut self, count: u64) {
        let first = self.state.view().tables[&T].next_row_id.0;
        let (batch, mut rows) = self.rows(count);
        let (sorted, _) = quire_segment::sort_by_clustering(&self.def(), batch).unwrap();
        rows.sort_by_key(|r| r.0);
        let id = SegmentId(self.number());
        let encoded = quire_segment::encode(&self.def(), &sorted, id, EncodeOptions::default()).unwrap();
        self.objects.insert(id, encoded.bytes);
        let write = TableWrite { segments: vec![encoded.meta], ..self.write() };
        assert!(self.commit(vec![], write, None).committed().is_some());
        self.model.extend((first..).zip(rows));
    }

    fn put(&mut self, segments: Vec<(SegmentMeta, Bytes)>) -> Vec<SegmentMeta> {
        segments
            .into_iter()
            .map(|(meta, bytes)| {
                self.objects.insert(meta.id, bytes);
                meta
            })
            .collect()
    }

    fn ids(&mut self) -> impl FnMut() -> u64 + use<> {
        let mut next = self.number() * 1_000_000;
        move || {
            next += 1;
            next
        }
    }

    fn begin_seal(&mut self) {
        let rows = self.state.view().tables[&T].clone();
        let batches: Vec<_> = rows.delta.iter().map(|d| (*d, self.deltas[&d.first].clone())).collect();
        let (Some((first, _)), Some((last, _))) = (batches.first(), batches.last()) else { return };
        let (first, end) = (first.first, RowId(last.first.0 + last.rows));
        let ids = self.ids();
        let rows::Encoded { segments, dropped } = rows::encode(&self.def(), &batches, &rows.deleted, Term(1), ids).unwrap();
        let segments = self.put(segments);
        self.begun.push(LogEntry::Seal(Seal { table: T, version: 1, first, end, segments, dropped }));
    }

    fn begin_compact(&mut self, inputs: Vec<Arc<SegmentMeta>>) {
        let deleted = self.state.view().tables[&T].deleted.clone();
        let read: Vec<_> = inputs.iter().map(|s| (s.clone(), self.objects[&s.id].clone())).collect();
        let ids = self.ids();
        let Merged { segments, dropped } = merge::merge(&self.def(), &read, &deleted, Term(1), ids).unwrap();
        let outputs = self.put(segments);
        self.begun.push(LogEntry::Compact(Compact { table: T, inputs: inputs.iter().map(|s| s.id).collect(), outputs, dropped }));
    }

    /// As `Compactor` does it: count first where it must.
    fn begin_chosen(&mut self) {
        let (def, rows) = (self.def(), self.state.view().tables[&T].clone());
        let mut counted = CountedRows::new();
        loop {
            match choose::choose(&def, &rows, &counted, 1) {
                None => return,
                Some(Job::Merge(inputs)) => return self.begin_compact(inputs),
                Some(Job::Rewrite(segment)) => {
                    let object = &self.objects[&segment.id];
                    let reads = merge::row_id_reads(&segment);
                    let pages = reads.iter().map(|r| object.slice(r.offset as usize..(r.offset + u64::from(r.length)) as usize));
                    let deleted = merge::deleted_of(&segment, pages.collect(), &rows.deleted).unwrap();
                    assert!(deleted.len() <= choose::deleted_at_most(&segment, &rows.deleted));
                    if choose::is_worn(deleted.len(), segment.rows) {
                        return self.begin_compact(vec![segment]);
                    }
                    assert!(counted.insert(segment.id, Counted { of: rows.deleted.len(), pass: 1 }).is_none(), "once");
                }
            }
        }
    }

    fn take(&mut self, step: Step) {
        let visible: Vec<u64> = self.model.keys().copied().collect();
        let pick = |n: u16| visible.get(usize::from(n) % visible.len().max(1)).copied();
        match step {
            Step::Insert(count) => self.change(count.into(), &[]),
            Step::Load(count) => self.load(count.into()),
            Step::Delete(picks) => self.change(0, &picks.into_iter().filter_map(pick).collect::<Vec<_>>()),
            Step::Update(n) => self.change(1, &pick(n).into_iter().collect::<Vec<_>>()),
            Step::DeleteOld(snapshot, n) => self.delete_old(snapshot.into(), n.into()),
            Step::Truncate => {
                let write = TableWrite { truncate: true, ..self.write() };
                assert!(self.commit(vec![], write, None).committed().is_some());
                self.model.clear();
            }
            Step::Hold => self.held.push((self.state.view().clone(), self.model.clone())),
            Step::BeginSeal => self.begin_seal(),
            Step::BeginCompact(picks) => {
                let segments = self.state.view().tables[&T].segments.clone();
                let chosen = picks.into_iter().filter_map(|n| segments.get(usize::from(n) % segments.len().max(1)));
                let mut chosen: Vec<_> = chosen.cloned().collect();
                chosen.sort_by_key(|s| s.id);
                chosen.dedup_by_key(|s| s.id);
                if !chosen.is_empty() {
                    self.begin_compact(chosen);
                }
            }
            Step::BeginChosen => self.begin_chosen(),
            Step::Finish(n) => {
                if !self.begun.is_empty() {
                    let entry = self.begun.remove(usize::from(n) % self.begun.len());
                    let outcome = self.apply(entry);
                    assert!(outcome == Outcome::Stale || outcome.committed().is_some(), "{outcome:?}");
                }
            }
            Step::Restart => {
                let (state, index) = persist::load(self.store.as_ref()).unwrap();
                assert_eq!(state, self.state);
                assert_eq!(index, self.index);
                (self.state, self.index) = (state, index);
            }
        }
    }

    /// The row is deleted if it is still there and the table was not truncated since; otherwise the transaction must begin again.
    fn delete_old(&mut self, snapshot: usize, row: usize) {
        let Some((view, rows)) = self.held.get(snapshot % self.held.len().max(1)).cloned() else { return };
        let Some(row) = rows.keys().copied().nth(row % rows.len().max(1)) else { return };
        let version = view.catalog.tables[&T].version;
        let write = TableWrite { version, deletes: vec![RowId(row)], ..self.write() };
        let outcome = self.commit(vec![], write, Some(&view));
        let possible = version == self.def().version && self.model.remove(&row).is_some();
        assert_eq!(outcome.committed().is_some(), possible, "row {row} at {}: {outcome:?}", view.lsn);
    }

    /// The rows that a view shows, by their ids.
    fn read(&self, view: &View) -> Rows {
        let rows = &view.tables[&T];
        let mut found = vec![];
        for segment in rows.segments.iter() {
            let footer = Footer::parse(segment).unwrap();
            let mut position = 0;
            for group in 0..segment.row_groups.len() {
                let column = |column, ty| {
                    let read = segment.page_read(group, column).unwrap();
                    let bytes = self.objects[&segment.id].slice(read.offset as usize..(read.offset + u64::from(read.length)) as usize);
                    decode(&footer, segment, group, column, ty, bytes).unwrap()
                };
                let (keys, values) = (column(ColumnId(1), SqlType::Int8), column(ColumnId(2), SqlType::Text));
                let ids: Vec<u64> = match segment.row_ids {
                    RowIds::Base(base) => (base.0 + position..).take(keys.len()).collect(),
                    RowIds::Column => {
                        column(ROW_ID_COLUMN, SqlType::Int8).as_primitive::<Int64Type>().values().iter().map(|id| *id as u64).collect()
                    }
                };
                position += keys.len() as u64;
                assert!(keys.as_primitive::<Int64Type>().values().is_sorted(), "segments are sorted");
                found.extend(ids.into_iter().zip(pairs(keys.as_primitive(), values.as_string_view())));
            }
        }
        for batch in rows.delta.iter() {
            let part = quire_segment::RowDecoder::default().decode(&self.deltas[&batch.first]).unwrap();
            let new = pairs(part.column(0).as_primitive(), part.column(1).as_string_view());
            found.extend((batch.first.0..).zip(new));
        }
        let stored = found.len() as u64;
        let live: Rows = found.into_iter().filter(|(id, _)| !rows.deleted.contains(RowId(*id))).collect();
        assert_eq!(stored - live.len() as u64, rows.deleted.len(), "the delete set names stored rows, each of them once");
        assert_eq!(rows.row_count(), live.len() as u64);
        live
    }
}

fn pairs(keys: &Int64Array, values: &StringViewArray) -> Vec<(i64, String)> {
    keys.values().iter().zip(values).map(|(k, v)| (*k, v.unwrap().to_string())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_snapshot_reads_the_same_whatever_is_rewritten(steps in prop::collection::vec(any_step(), 1..90)) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path());
        for step in steps {
            world.take(step);
            let now = world.read(world.state.view());
            prop_assert_eq!(&now, &world.model);
        }
        for (view, rows) in &world.held {
            prop_assert_eq!(&world.read(view), rows, "at {}", view.lsn);
        }
        world.take(Step::Restart);
    }
}
