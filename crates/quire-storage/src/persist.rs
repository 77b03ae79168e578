//! The state machine as keys and values: what [`quire_log::Applied`] writes, and what a restart reads.
//!
//! Keys in the family `state`, numbers big endian: `a` schema, `b` table, `c` view (definitions by id), `d` table row limit, `e` table
//! LSN ordinal → segment, `f` table first row id → delta batch, `g` table LSN → deleted rows, `h` sequence, `i` how far it has come
//! since its definition was written, `p` position, `q` number → outcome, `r` LSN → keys, `s` table → LSNs of its last writes. Values
//! are `StateRecord`s. In the family `delta`: table, first row id → Arrow IPC.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message;
use quire_log::{Applied, Record, State, TableLsns};
use quire_proto::v1::{self, state_record as r};
use quire_types::{CatalogChange, Change, DEFAULT_SCHEMA, Lsn, RowId, SegmentId, TableId, TxnId, View};

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
            writes.push(Write::delete(family, key.to_vec()));
        }
    })?;
    if writes.is_empty() { Ok(()) } else { store.write(writes) }
}

/// What applying an entry at `lsn` writes. `segment_key` finds the key of a segment that leaves.
pub(crate) fn writes(store: &dyn OrderedStore, lsn: Lsn, applied: Applied) -> Result<Vec<Write>, StoreFailure> {
    let mut out = Vec::with_capacity(applied.changes.len() + applied.records.len() + applied.delta.len());
    for (ordinal, change) in applied.changes.iter().enumerate() {
        change_writes(store, lsn, ordinal as u64, change, &mut out)?;
    }
    out.extend(applied.records.into_iter().map(record_write));
    out.extend(applied.delta.into_iter().map(|(table, first, rows)| Write::Put(Family::Delta, delta_key(table, first), rows)));
    Ok(out)
}

fn change_writes(store: &dyn OrderedStore, lsn: Lsn, ordinal: u64, change: &Change, out: &mut Vec<Write>) -> Result<(), StoreFailure> {
    let value = |change: &Change| r::Record::Change(change.into());
    match change {
        Change::Catalog(catalog) => match catalog {
            CatalogChange::CreateSchema(schema) => out.push(put(key(b'a', &[schema.id.0.into()]), value(change))),
            // The schema that is there from the start leaves a mark when it goes.
            CatalogChange::DropSchema(id) if *id == DEFAULT_SCHEMA.0 => out.push(put(key(b'a', &[id.0.into()]), value(change))),
            CatalogChange::DropSchema(id) => out.push(clear(b'a', &[id.0.into()])),
            CatalogChange::CreateTable(table) | CatalogChange::ReplaceTable(table) => {
                let created = Change::Catalog(CatalogChange::CreateTable(table.clone()));
                out.push(put(key(b'b', &[table.id.0.into()]), value(&created)));
            }
            CatalogChange::DropTable { id, .. } => {
                let table = u64::from(id.0);
                out.extend([b'b', b'd', b'e', b'f', b'g'].map(|prefix| clear(prefix, &[table])));
            }
            CatalogChange::CreateView { view, .. } => {
                let created = Change::Catalog(CatalogChange::CreateView { view: view.clone(), replace: false });
                out.push(put(key(b'c', &[view.id.0.into()]), value(&created)));
            }
            CatalogChange::DropView(id) => out.push(clear(b'c', &[id.0.into()])),
            CatalogChange::CreateSequence(sequence) | CatalogChange::ReplaceSequence { sequence, .. } => {
                let created = Change::Catalog(CatalogChange::CreateSequence(sequence.clone()));
                out.push(put(key(b'h', &[sequence.id.0.into()]), value(&created)));
                out.push(clear(b'i', &[sequence.id.0.into()]));
            }
            // The definition is not in the change: the position has a key of its own, read after the definition's.
            CatalogChange::MoveSequence { id, .. } => out.push(put(key(b'i', &[id.0.into()]), value(change))),
            CatalogChange::DropSequence(id) => out.extend([b'h', b'i'].map(|prefix| clear(prefix, &[id.0.into()]))),
        },
        Change::Truncated(table) => {
            out.extend([b'e', b'f', b'g'].map(|prefix| clear(prefix, &[table.0.into()])));
        }
        Change::DeltaAdded { table, delta } => out.push(put(key(b'f', &[table.0.into(), delta.first.0]), value(change))),
        Change::DeltaSealed { table, first, end } => {
            out.push(Write::DeleteRange(Family::State, key(b'f', &[table.0.into(), first.0]), key(b'f', &[table.0.into(), end.0])));
        }
        Change::SegmentAdded(segment) => out.push(put(key(b'e', &[segment.table.0.into(), lsn.0, ordinal]), value(change))),
        Change::SegmentRemoved { table, segment } => {
            if let Some(key) = segment_key(store, *table, *segment)? {
                out.push(Write::delete(Family::State, key));
            }
        }
        Change::RowsDeleted { table, .. } => out.push(put(key(b'g', &[table.0.into(), lsn.0, ordinal]), value(change))),
        Change::RowLimit { table, .. } => out.push(put(key(b'd', &[table.0.into()]), value(change))),
    }
    Ok(())
}

fn segment_key(store: &dyn OrderedStore, table: TableId, segment: SegmentId) -> Result<Option<Vec<u8>>, StoreFailure> {
    let start = key(b'e', &[table.0.into()]);
    let end = key(b'e', &[u64::from(table.0) + 1]);
    let found = store.scan(Family::State, &start, Some(&end), usize::MAX)?.into_iter().find(|(_, value)| {
        let record = v1::StateRecord::decode(value.clone()).ok().and_then(|r| r.record);
        matches!(record, Some(r::Record::Change(v1::Change { change: Some(v1::change::Change::SegmentAdded(s)) })) if s.id == segment.0)
    });
    Ok(found.map(|(key, _)| key))
}

fn record_write(record: Record) -> Write {
    match record {
        Record::Position { lsn, next_outcome, window_floor } => {
            put(key(b'p', &[]), r::Record::Position(r::Position { lsn: lsn.0, next_outcome, window_floor: window_floor.0 }))
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
        Record::Table { table, lsns } => {
            let lsns = r::TableLsns {
                table: table.0,
                insert: lsns.insert.0,
                write: lsns.write.0,
                all_keys: lsns.all_keys.0,
                key_read: lsns.key_read.0,
                all_key_reads: lsns.all_key_reads.0,
            };
            put(key(b's', &[table.0.into()]), r::Record::Table(lsns))
        }
        Record::TableGone(table) => clear(b's', &[table.0.into()]),
    }
}

/// The state that the store holds; a new one when it holds none.
pub(crate) fn load(store: &dyn OrderedStore) -> Result<State, LoadError> {
    let mut changes: Vec<Change> = vec![];
    let mut records = vec![];
    let damaged = |_| LoadError::Damaged("state");
    for (_, value) in store.scan(Family::State, &[], None, usize::MAX)? {
        let record = v1::StateRecord::decode(value).map_err(|_| LoadError::Damaged("state record"))?;
        match record.record.ok_or(LoadError::Damaged("empty state record"))? {
            r::Record::Change(change) => changes.push(change.try_into().map_err(damaged)?),
            r::Record::Position(p) => {
                records.push(Record::Position { lsn: Lsn(p.lsn), next_outcome: p.next_outcome, window_floor: Lsn(p.window_floor) });
            }
            r::Record::Outcome(o) => {
                let txn_id = <[u8; 16]>::try_from(o.txn_id.as_ref()).map_err(|_| LoadError::Damaged("transaction id"))?;
                let outcome = o.outcome.ok_or(LoadError::Damaged("outcome"))?.try_into().map_err(damaged)?;
                records.push(Record::Outcome { number: o.number, txn_id: TxnId(u128::from_be_bytes(txn_id)), outcome });
            }
            r::Record::Keys(k) => {
                let keys = k.keys.into_iter().map(|k| (TableId(k.table), k.constraint, k.hash)).collect();
                records.push(Record::Keys { lsn: Lsn(k.lsn), keys });
            }
            r::Record::Table(t) => {
                let lsns = TableLsns {
                    insert: Lsn(t.insert),
                    write: Lsn(t.write),
                    all_keys: Lsn(t.all_keys),
                    key_read: Lsn(t.key_read),
                    all_key_reads: Lsn(t.all_key_reads),
                };
                records.push(Record::Table { table: TableId(t.table), lsns });
            }
        }
    }
    Ok(State::load(&changes, records))
}
