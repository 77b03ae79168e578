//! The state machine as keys and values: what [`quire_log::Applied`] writes, and what a restart reads.
//!
//! Keys in the family `state`, numbers big endian: `a` schema, `b` table, `c` view (definitions by id), `d` table row limit, `e` table
//! LSN ordinal → segment, `f` table first row id → delta batch, `g` table LSN → deleted rows, `h` table chunk → deleted rows, `i` sequence,
//! `j` how far it has come since its definition was written, `k` relation and what of it → comment, `l` schema → comment (0: the
//! database's), `p` position, `q` number → outcome, `r` LSN → keys, `s` table → LSNs of its last writes, `t` LSN → purged rows, `u` LSN →
//! locked rows. Values are `StateRecord`s. In the family `delta`: table, first row id → encoded rows.
//!
//! A commit writes the ids that it deletes and no more (`g`). When rows are purged, the chunks of the delete set that changed since the
//! last time are written whole (`h`) and the commits' own records go: neither their number nor the work of one entry grows with the set.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use quire_log::{Applied, Record, State, TableLsns};
use quire_proto::v1::{self, state_record as r};
use quire_proto::{decode_rows, encode_rows};
use quire_types::{
    CatalogChange, Change, CommentTarget, DEFAULT_SCHEMA, LogEntry, Lsn, RowId, RowSet, SegmentId, SegmentMeta, TableId, TxnId, View,
};

use crate::store::{Family, OrderedStore, StoreFailure, Write};

/// Why the state cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreFailure),
    #[error("the stored state is damaged: {0}")]
    Damaged(&'static str),
}

fn key(prefix: u8, parts: &[u64]) -> Vec<u8> {
    let mut key = vec![prefix];
    parts.iter().for_each(|p| key.extend(p.to_be_bytes()));
    key
}

fn put(key: Vec<u8>, record: r::Record) -> Write {
    Write::Put(Family::State, key, v1::StateRecord { record: Some(record) }.encode_to_vec().into())
}

/// All keys that begin with these parts.
fn clear(prefix: u8, parts: &[u64]) -> Write {
    let start = key(prefix, parts);
    let mut end = start.clone();
    // The next prefix of the same length; an id of all ones does not occur.
    for byte in end.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    Write::DeleteRange(Family::State, start, end)
}

/// The key of a delta batch in the family `delta`.
pub(crate) fn delta_key(table: TableId, first: RowId) -> Vec<u8> {
    let mut key = table.0.to_be_bytes().to_vec();
    key.extend(first.0.to_be_bytes());
    key
}

/// Removes a table's delta rows below `end`.
pub(crate) fn clear_delta(table: TableId, end: RowId) -> Write {
    Write::DeleteRange(Family::Delta, delta_key(table, RowId(0)), delta_key(table, end))
}

/// Delta rows that these changes, which led to `view`, made superfluous: (table, below this row id).
pub(crate) fn retired(changes: &[Change], view: &View) -> Vec<(TableId, RowId)> {
    // Rows that the same commit adds after a truncation stay.
    let kept_from = |table: TableId| {
        let added = changes.iter().find_map(|change| match change {
            Change::DeltaAdded { table: to, delta } if *to == table => Some(delta.first),
            _ => None,
        });
        added.or_else(|| Some(view.tables.get(&table)?.next_row_id))
    };
    let of = |change: &Change| match change {
        Change::DeltaSealed { table, end, .. } => Some((*table, *end)),
        Change::Catalog(CatalogChange::DropTable { id, .. }) => Some((*id, RowId(u64::MAX))),
        Change::Truncated(table) => Some((*table, kept_from(*table)?)),
        _ => None,
    };
    changes.iter().filter_map(of).collect()
}

/// Removes delta rows that the state does not name: what a node that stopped had not come to remove.
pub(crate) fn remove_orphans(store: &dyn OrderedStore, state: &State) -> Result<(), StoreFailure> {
    let tables = &state.view().tables;
    let named: HashSet<Vec<u8>> = tables.iter().flat_map(|(table, rows)| rows.delta.iter().map(|d| delta_key(*table, d.first))).collect();
    let mut writes = vec![];
    store.dump(&[Family::Delta], &mut |family, key, _| {
        if !named.contains(key) {
            writes.push(Write::Delete(family, key.to_vec()));
        }
    })?;
    if writes.is_empty() { Ok(()) } else { store.write(writes) }
}

/// Whether an entry may take segments out of the manifest. Others need not have the view before them kept.
pub(crate) fn may_retire_segments(entry: &LogEntry) -> bool {
    match entry {
        LogEntry::Commit(commit) => !commit.catalog.is_empty() || commit.writes.iter().any(|write| write.truncate),
        LogEntry::Seal(_) | LogEntry::Compact(_) => true,
    }
}

/// Segments that these changes, made to `before`, took out of the manifest.
pub(crate) fn retired_segments(changes: &[Change], before: &View) -> Vec<Arc<SegmentMeta>> {
    let all = |table: &TableId| before.tables.get(table).map(|rows| rows.segments.to_vec()).unwrap_or_default();
    let of = |change: &Change| match change {
        Change::SegmentRemoved { table, segment } => all(table).into_iter().filter(|s| s.id == *segment).collect(),
        Change::Catalog(CatalogChange::DropTable { id, .. }) => all(id),
        Change::Truncated(table) => all(table),
        _ => vec![],
    };
    changes.iter().flat_map(of).collect()
}

/// What must be known of the store to change it, without reading it again.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Index {
    /// Where each segment's entry lies.
    segments: HashMap<SegmentId, Place>,
    /// Chunks of delete sets that are not as they were last written whole.
    dirty: HashMap<TableId, BTreeSet<u64>>,
}

/// Table, LSN and ordinal.
type Place = (TableId, u64, u64);

fn place_key((table, lsn, ordinal): Place) -> Vec<u8> {
    key(b'e', &[table.0.into(), lsn, ordinal])
}

impl Index {
    /// The writes of a change at `lsn` that led to `view`.
    fn change(&mut self, lsn: Lsn, ordinal: u64, change: &Change, view: &View, out: &mut Vec<Write>) {
        let value = |change: &Change| r::Record::Change(change.into());
        match change {
            Change::Catalog(catalog) => {
                if let CatalogChange::DropTable { id, .. } = catalog {
                    self.forget(*id);
                }
                catalog_writes(catalog, out);
                comment_writes(catalog, view, out);
            }
            Change::Truncated(table) => {
                self.forget(*table);
                out.extend([b'e', b'f', b'g', b'h'].map(|prefix| clear(prefix, &[table.0.into()])));
            }
            Change::DeltaAdded { table, delta } => out.push(put(key(b'f', &[table.0.into(), delta.first.0]), value(change))),
            Change::DeltaSealed { table, first, end } => {
                out.push(Write::DeleteRange(Family::State, key(b'f', &[table.0.into(), first.0]), key(b'f', &[table.0.into(), end.0])));
            }
            Change::SegmentAdded(segment) => {
                let place = (segment.table, lsn.0, ordinal);
                self.segments.insert(segment.id, place);
                out.push(put(place_key(place), value(change)));
            }
            Change::SegmentRemoved { segment, .. } => {
                out.extend(self.segments.remove(segment).map(|place| Write::Delete(Family::State, place_key(place))));
            }
            Change::RowsDeleted { table, rows } => {
                self.dirty.entry(*table).or_default().extend(rows.iter().map(|row| RowSet::chunk_of(*row)));
                out.push(put(key(b'g', &[table.0.into(), lsn.0, ordinal]), value(change)));
            }
            Change::RowsPurged { table, rows } => {
                let mut chunks = self.dirty.remove(table).unwrap_or_default();
                chunks.extend(rows.chunks());
                let left = view.tables.get(table).map(|rows| rows.deleted.clone()).unwrap_or_default();
                out.extend(chunks.into_iter().map(|chunk| chunk_write(*table, chunk, &left)));
                out.push(clear(b'g', &[table.0.into()]));
            }
            Change::RowLimit { table, .. } => out.push(put(key(b'd', &[table.0.into()]), value(change))),
        }
    }

    fn forget(&mut self, table: TableId) {
        self.segments.retain(|_, (of, ..)| *of != table);
        self.dirty.remove(&table);
    }
}

/// One chunk of a table's delete set as it is now.
fn chunk_write(table: TableId, chunk: u64, deleted: &RowSet) -> Write {
    let (key, rows) = (key(b'h', &[table.0.into(), chunk]), deleted.chunk(chunk));
    match rows.is_empty() {
        true => Write::Delete(Family::State, key),
        false => put(key, r::Record::Deleted(r::Deleted { table: table.0, rows: encode_rows(&rows) })),
    }
}

/// Adds what applying an entry writes that led to `view`; gives back the changes that it made.
pub(crate) fn writes(index: &mut Index, view: &View, applied: Applied, out: &mut Vec<Write>) -> Vec<Change> {
    let Applied { changes, records, delta, .. } = applied;
    for (ordinal, change) in changes.iter().enumerate() {
        index.change(view.lsn, ordinal as u64, change, view, out);
    }
    out.extend(records.into_iter().map(record_write));
    out.extend(delta.into_iter().map(|(table, first, rows)| Write::Put(Family::Delta, delta_key(table, first), rows)));
    changes
}

fn catalog_writes(catalog: &CatalogChange, out: &mut Vec<Write>) {
    let value = |change: CatalogChange| r::Record::Change((&Change::Catalog(change)).into());
    match catalog {
        CatalogChange::CreateSchema(schema) => out.push(put(key(b'a', &[schema.id.0.into()]), value(catalog.clone()))),
        // The schema that is there from the start leaves a mark when it goes.
        CatalogChange::DropSchema(id) if *id == DEFAULT_SCHEMA.0 => out.push(put(key(b'a', &[id.0.into()]), value(catalog.clone()))),
        CatalogChange::DropSchema(id) => out.push(clear(b'a', &[id.0.into()])),
        CatalogChange::CreateTable(table) | CatalogChange::ReplaceTable(table) => {
            out.push(put(key(b'b', &[table.id.0.into()]), value(CatalogChange::CreateTable(table.clone()))));
        }
        CatalogChange::DropTable { id, .. } => {
            out.extend([b'b', b'd', b'e', b'f', b'g', b'h'].map(|prefix| clear(prefix, &[id.0.into()])));
        }
        CatalogChange::CreateView { view, .. } => {
            out.push(put(key(b'c', &[view.id.0.into()]), value(CatalogChange::CreateView { view: view.clone(), replace: false })));
        }
        CatalogChange::DropView(id) => out.push(clear(b'c', &[id.0.into()])),
        CatalogChange::CreateSequence(sequence) | CatalogChange::ReplaceSequence { sequence, .. } => {
            out.push(put(key(b'i', &[sequence.id.0.into()]), value(CatalogChange::CreateSequence(sequence.clone()))));
            out.push(clear(b'j', &[sequence.id.0.into()]));
        }
        // The definition is not in the change: the position has a key of its own, read after the definition's.
        CatalogChange::MoveSequence { id, .. } => out.push(put(key(b'j', &[id.0.into()]), value(catalog.clone()))),
        CatalogChange::DropSequence(id) => out.extend([b'i', b'j'].map(|prefix| clear(prefix, &[id.0.into()]))),
        // See `comment_writes`.
        CatalogChange::SetComment { .. } => {}
    }
}

/// Comments that a change says, takes away, or takes along with what they are about. `view` is what the whole entry led to.
fn comment_writes(change: &CatalogChange, view: &View, out: &mut Vec<Write>) {
    match change {
        CatalogChange::SetComment { target, text } => out.push(comment_write(target, text.as_ref())),
        CatalogChange::ReplaceTable(table) => {
            // The change does not say which columns and constraints are gone: what is left is written anew.
            out.push(clear(b'k', &[table.id.0.into()]));
            out.extend(view.catalog.comments_on(table.id).map(|(target, text)| comment_write(target, Some(text))));
        }
        CatalogChange::DropTable { id, .. } | CatalogChange::DropView(id) | CatalogChange::DropSequence(id) => {
            out.push(clear(b'k', &[id.0.into()]));
        }
        CatalogChange::DropSchema(id) => out.push(clear(b'l', &[id.0.into()])),
        CatalogChange::CreateSchema(_)
        | CatalogChange::CreateTable(_)
        | CatalogChange::CreateView { .. }
        | CatalogChange::CreateSequence(_)
        | CatalogChange::ReplaceSequence { .. }
        | CatalogChange::MoveSequence { .. } => {}
    }
}

fn comment_write(target: &CommentTarget, text: Option<&Arc<str>>) -> Write {
    let key = comment_key(target);
    let Some(text) = text else { return Write::Delete(Family::State, key) };
    let change = Change::Catalog(CatalogChange::SetComment { target: target.clone(), text: Some(text.clone()) });
    put(key, r::Record::Change((&change).into()))
}

/// Those of one relation lie together, behind its definition.
fn comment_key(target: &CommentTarget) -> Vec<u8> {
    let named = |id: &TableId, kind: u64, name: &str| [key(b'k', &[id.0.into(), kind]).as_slice(), name.as_bytes()].concat();
    match target {
        CommentTarget::Database => key(b'l', &[0]),
        CommentTarget::Schema(id) => key(b'l', &[id.0.into()]),
        CommentTarget::Relation(id) => key(b'k', &[id.0.into(), 0]),
        CommentTarget::Column(id, column) => key(b'k', &[id.0.into(), 1, column.0.into()]),
        CommentTarget::Constraint(id, name) => named(id, 2, name),
        CommentTarget::Index(id, name) => named(id, 3, name),
    }
}

fn record_write(record: Record) -> Write {
    match record {
        Record::Position { lsn, next_outcome, window_floor, locks_floor } => {
            let position = r::Position { lsn: lsn.0, next_outcome, window_floor: window_floor.0, locks_floor: locks_floor.0 };
            put(key(b'p', &[]), r::Record::Position(position))
        }
        Record::Outcome { number, txn_id, outcome } => {
            let txn_id = Bytes::copy_from_slice(&txn_id.0.to_be_bytes());
            put(key(b'q', &[number]), r::Record::Outcome(r::TransactionOutcome { number, txn_id, outcome: Some((&outcome).into()) }))
        }
        Record::OutcomesTrimmed { below } => Write::DeleteRange(Family::State, key(b'q', &[]), key(b'q', &[below])),
        Record::Keys { lsn, keys } => {
            let keys = keys.into_iter().map(|(table, constraint, hash)| r::Key { table: table.0, constraint, hash });
            put(key(b'r', &[lsn.0]), r::Record::Keys(r::Keys { lsn: lsn.0, keys: keys.collect() }))
        }
        Record::KeysTrimmed { through } => Write::DeleteRange(Family::State, key(b'r', &[]), key(b'r', &[through.0 + 1])),
        Record::Locks { lsn, locks } => {
            let locks = locks.into_iter().map(|(table, row, shared)| r::Lock { table: table.0, row: row.0, shared });
            put(key(b'u', &[lsn.0]), r::Record::Locks(r::Locks { lsn: lsn.0, locks: locks.collect() }))
        }
        Record::LocksTrimmed { through } => Write::DeleteRange(Family::State, key(b'u', &[]), key(b'u', &[through.0 + 1])),
        Record::Table { table, lsns: TableLsns { insert, write, all_keys, purged, locks, key_read, all_key_reads } } => {
            let lsns = r::TableLsns {
                table: table.0,
                insert: insert.0,
                write: write.0,
                all_keys: all_keys.0,
                purged: purged.0,
                locks: locks.0,
                key_read: key_read.0,
                all_key_reads: all_key_reads.0,
            };
            put(key(b's', &[table.0.into()]), r::Record::Table(lsns))
        }
        Record::Purged { lsn, table, rows } => {
            put(key(b't', &[lsn.0]), r::Record::Purged(r::Purged { lsn: lsn.0, table: table.0, rows: encode_rows(&rows) }))
        }
        Record::PurgedTrimmed { through } => Write::DeleteRange(Family::State, key(b't', &[]), key(b't', &[through.0 + 1])),
        Record::TableGone(table) => clear(b's', &[table.0.into()]),
    }
}

/// The state that the store holds; a new one when it holds none.
pub(crate) fn load(store: &dyn OrderedStore) -> Result<(State, Index), LoadError> {
    let mut changes: Vec<Change> = vec![];
    let mut records = vec![];
    let mut index = Index::default();
    let damaged = |_| LoadError::Damaged("state");
    for (key, value) in store.scan(Family::State, &[], None, usize::MAX)? {
        let record = v1::StateRecord::decode(value).map_err(|_| LoadError::Damaged("state record"))?;
        match record.record.ok_or(LoadError::Damaged("empty state record"))? {
            r::Record::Change(change) => {
                let change = change.try_into().map_err(damaged)?;
                match &change {
                    Change::SegmentAdded(segment) => {
                        let place = |from: usize| Some(u64::from_be_bytes(key.get(from..from + 8)?.try_into().ok()?));
                        let (lsn, ordinal) = place(9).zip(place(17)).ok_or(LoadError::Damaged("key of a segment"))?;
                        index.segments.insert(segment.id, (segment.table, lsn, ordinal));
                    }
                    Change::RowsDeleted { table, rows } => {
                        index.dirty.entry(*table).or_default().extend(rows.iter().map(|row| RowSet::chunk_of(*row)));
                    }
                    _ => {}
                }
                changes.push(change);
            }
            r::Record::Deleted(deleted) => {
                let rows = decode_rows(&deleted.rows, "deleted.rows").map_err(damaged)?;
                changes.push(Change::RowsDeleted { table: TableId(deleted.table), rows: rows.iter().collect() });
            }
            other => records.push(load_record(other)?),
        }
    }
    Ok((State::load(&changes, records), index))
}

fn load_record(record: r::Record) -> Result<Record, LoadError> {
    let damaged = |_| LoadError::Damaged("state");
    Ok(match record {
        r::Record::Position(p) => {
            let (window_floor, locks_floor) = (Lsn(p.window_floor), Lsn(p.locks_floor));
            Record::Position { lsn: Lsn(p.lsn), next_outcome: p.next_outcome, window_floor, locks_floor }
        }
        r::Record::Outcome(o) => {
            let txn_id = <[u8; 16]>::try_from(o.txn_id.as_ref()).map_err(|_| LoadError::Damaged("transaction id"))?;
            let outcome = o.outcome.ok_or(LoadError::Damaged("outcome"))?.try_into().map_err(damaged)?;
            Record::Outcome { number: o.number, txn_id: TxnId(u128::from_be_bytes(txn_id)), outcome }
        }
        r::Record::Keys(k) => {
            let keys = k.keys.into_iter().map(|k| (TableId(k.table), k.constraint, k.hash)).collect();
            Record::Keys { lsn: Lsn(k.lsn), keys }
        }
        r::Record::Locks(l) => {
            let locks = l.locks.into_iter().map(|l| (TableId(l.table), RowId(l.row), l.shared)).collect();
            Record::Locks { lsn: Lsn(l.lsn), locks }
        }
        r::Record::Table(t) => {
            let (insert, write, all_keys) = (Lsn(t.insert), Lsn(t.write), Lsn(t.all_keys));
            let (key_read, all_key_reads) = (Lsn(t.key_read), Lsn(t.all_key_reads));
            let lsns = TableLsns { insert, write, all_keys, purged: Lsn(t.purged), locks: Lsn(t.locks), key_read, all_key_reads };
            Record::Table { table: TableId(t.table), lsns }
        }
        r::Record::Purged(p) => {
            let rows = decode_rows(&p.rows, "purged.rows").map_err(damaged)?;
            Record::Purged { lsn: Lsn(p.lsn), table: TableId(p.table), rows }
        }
        r::Record::Change(_) | r::Record::Deleted(_) => return Err(LoadError::Damaged("a change among records")),
    })
}
