//! A transaction on its way: the snapshot it reads, and what it will ask the log to commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion::sql::sqlparser::ast::OnCommit;
use quire_scan::{OWN_BATCH_ROWS, OWN_SEGMENT_ROWS, OwnRows, compact};
use quire_types::{
    Catalog, CatalogChange, CommentTarget, Commit, ConstraintKind, Isolation, KeyAssert, Lsn, Outcome, RowId, SchemaDef, SegmentMeta,
    SequenceDef, TableDef, TableId, TableRead, TableWrite, TxnId, View,
};
use roaring::RoaringTreemap;

use crate::SqlError;
use crate::catalog::Scope;
use crate::deferred::Deferred;
use crate::errors::{outcome_error, scan_error};
use crate::keys::UniqueKey;
use crate::lock::Lock;
use crate::pile::Pile;
use crate::reads::Reads;
use crate::sequences::OwnSequences;
use crate::source::widen;
use crate::temp::{TEMP_SCHEMA, TempObjects, is_temporary};
use crate::turns::{RowKey, Turn};

/// Keys that a commit names one by one; more, and it claims the whole table (`all_keys`). 64 Ki hashes are 1 MiB of log.
pub(crate) const KEYS_MAX: usize = 65_536;

/// Rows of the transaction's own that are put together as they come: a segment's worth stays apart.
const JOINED_ROWS_MAX: usize = 16_384;

/// One transaction. A copy is cheap: rows and what was read are shared.
#[derive(Clone)]
pub(crate) struct Transaction {
    pub(crate) id: TxnId,
    pub(crate) isolation: Isolation,
    pub(crate) read_only: bool,
    /// It has run a statement: its modes stand, and so does its snapshot, if it has one for all of them.
    pub(crate) queried: bool,
    /// When it began, in microseconds since 1970: what now() says in it.
    began: i64,
    view: Arc<View>,
    catalog: Arc<Catalog>,
    changes: Vec<CatalogChange>,
    writes: BTreeMap<TableId, PendingWrite>,
    /// The snapshot of the first statement that wrote: what every later check is certified against.
    write_snapshot: Option<Lsn>,
    /// The view was at hand: nobody asked for it for the statement under way, which must read nothing that COMMIT does not certify.
    at_hand: bool,
    /// Rows that it locked, by locking clause.
    locks: Vec<Arc<Lock>>,
    /// What it read, when it is SERIALIZABLE.
    reads: Arc<Reads>,
    /// What becomes of temporary tables when it commits.
    on_commit: BTreeMap<TableId, OnCommit>,
    /// Its turns with rows that it changes.
    turns: Vec<Arc<Turn>>,
    /// Checks of foreign keys that wait for its end.
    pub(crate) deferred: Deferred,
}

/// What the transaction does to one table.
#[derive(Clone, Default)]
pub(crate) struct PendingWrite {
    pub(crate) version: u64,
    pub(crate) truncate: bool,
    pub(crate) batches: Vec<RecordBatch>,
    /// Uploaded segments; row ids from [`OWN_SEGMENT_ROWS`] on.
    pub(crate) segments: Vec<Arc<SegmentMeta>>,
    /// Deleted rows: committed ones, and rows of `segments`.
    pub(crate) deleted: Arc<RoaringTreemap>,
    pub(crate) keys: Pile<KeyAssert>,
    pub(crate) all_keys: bool,
    /// Keys of the table that foreign keys of rows elsewhere point at.
    pub(crate) key_reads: Pile<KeyAssert>,
    pub(crate) all_key_reads: bool,
    /// Every row was looked at, for a new constraint.
    pub(crate) unwritten: bool,
}

impl Transaction {
    /// `began` is when, in microseconds since 1970.
    pub(crate) fn begin(view: Arc<View>, isolation: Isolation, read_only: bool, began: i64) -> Transaction {
        Transaction {
            id: TxnId(quire_kit::random::u128()),
            isolation,
            read_only,
            queried: false,
            began,
            catalog: view.catalog.clone(),
            view,
            changes: vec![],
            writes: BTreeMap::new(),
            write_snapshot: None,
            at_hand: false,
            locks: vec![],
            reads: Arc::default(),
            on_commit: BTreeMap::new(),
            turns: vec![],
            deferred: Deferred::default(),
        }
    }

    /// When it began, in microseconds since 1970.
    pub(crate) fn began(&self) -> i64 {
        self.began
    }

    /// Whether it has its turn with a row.
    pub(crate) fn has_turn(&self, key: RowKey) -> bool {
        self.turns.iter().any(|turn| turn.is_with(key))
    }

    /// Keeps a turn until it ends.
    pub(crate) fn keep_turn(&mut self, turn: Turn) {
        self.turns.push(Arc::new(turn));
    }

    /// Its turns, which last until its outcome is known.
    pub(crate) fn turns(&self) -> Vec<Arc<Turn>> {
        self.turns.clone()
    }

    /// With the session's temporary tables.
    pub(crate) fn with_temp(mut self, temp: &TempObjects) -> Transaction {
        if temp.schema.is_some() {
            temp.add_to(Arc::make_mut(&mut self.catalog));
            self.writes.extend(temp.rows.iter().map(|(id, write)| (*id, write.clone())));
            self.on_commit = temp.on_commit.clone();
        }
        self
    }

    /// What the session is to keep of temporary tables, once the transaction has committed.
    pub(crate) fn temp(&self) -> TempObjects {
        let mut temp = TempObjects::of(&self.catalog);
        if temp.schema.is_some() {
            temp.rows = self.writes.iter().filter(|(id, _)| temp.tables.contains_key(id)).map(|(id, write)| (*id, write.clone())).collect();
            temp.on_commit = self.on_commit.clone();
        }
        temp.committed()
    }

    /// The schema of temporary tables, made when there is none.
    pub(crate) fn temp_schema(&mut self, backend_pid: i32) -> Arc<SchemaDef> {
        let new = || Arc::new(SchemaDef { id: TEMP_SCHEMA, name: format!("pg_temp_{backend_pid}") });
        Arc::make_mut(&mut self.catalog).schemas.entry(TEMP_SCHEMA).or_insert_with(new).clone()
    }

    /// ON COMMIT of a temporary table.
    pub(crate) fn on_commit(&mut self, table: TableId, what: OnCommit) {
        self.on_commit.insert(table, what);
    }

    /// DISCARD TEMP.
    pub(crate) fn discard_temp(&mut self) {
        let temp = TempObjects::of(&self.catalog);
        let catalog = Arc::make_mut(&mut self.catalog);
        catalog.tables.retain(|id, _| !temp.tables.contains_key(id));
        catalog.sequences.retain(|id, _| !temp.sequences.contains_key(id));
        self.writes.retain(|id, _| !temp.tables.contains_key(id));
    }

    fn is_temp(&self, table: TableId) -> bool {
        self.catalog.tables.get(&table).is_some_and(|table| table.schema == TEMP_SCHEMA)
    }

    /// READ COMMITTED: the next statement sees what has been committed since. 40001 when a table that the transaction has written to was
    /// altered: its rows were made for the old definition.
    pub(crate) fn refresh(&mut self, view: Arc<View>) -> Result<(), SqlError> {
        let mut catalog = view.catalog.clone();
        if !self.changes.is_empty() || self.catalog.schemas.contains_key(&TEMP_SCHEMA) {
            let own = Arc::make_mut(&mut catalog);
            self.changes.iter().for_each(|change| own.apply(change));
            TempObjects::of(&self.catalog).add_to(own);
        }
        let altered = self.writes.iter().find(|(id, write)| catalog.tables.get(id).is_none_or(|table| table.version != write.version));
        if let Some((id, _)) = altered {
            let old = self.catalog.clone();
            return Err(outcome_error(&Outcome::SchemaConflict { table: *id }, |id| old.tables.get(&id).cloned()));
        }
        self.catalog = catalog;
        self.view = view;
        self.at_hand = false;
        Ok(())
    }

    /// Likewise with a view that was at hand.
    pub(crate) fn borrow(&mut self, view: Arc<View>) -> Result<(), SqlError> {
        self.refresh(view)?;
        self.at_hand = true;
        Ok(())
    }

    /// Whether the statement under way runs on a view that was at hand.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.at_hand
    }

    /// Rows that it has written to a table of this version, but for those in segments.
    pub(crate) fn own_batches(&self, table: TableId, version: u64) -> &[RecordBatch] {
        self.writes.get(&table).filter(|write| write.version == version).map_or(&[], |write| write.batches.as_slice())
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// What the next statement sees.
    pub(crate) fn scope(&self) -> Scope {
        let own = self.writes.iter().map(|(table, write)| (*table, write.own_rows())).collect();
        Scope {
            view: self.view.clone(),
            catalog: self.catalog.clone(),
            own: Arc::new(own),
            txn_id: self.id,
            began: self.began,
            reads: self.certified_reads(),
        }
    }

    /// Where to say what is read; `None` when that is not certified. A transaction that writes nothing is serializable by its snapshot.
    pub(crate) fn certified_reads(&self) -> Option<Arc<Reads>> {
        (self.isolation == Isolation::Serializable && !self.read_only).then(|| self.reads.clone())
    }

    /// Takes note of a locking clause, whose rows are still to come.
    pub(crate) fn lock(&mut self, lock: Arc<Lock>) {
        self.write_snapshot.get_or_insert(self.view.lsn);
        self.locks.push(lock);
    }

    /// True when there is something to commit.
    pub(crate) fn has_changes(&self) -> bool {
        let writes = self.writes.iter().any(|(id, write)| !write.is_empty() && !self.is_temp(*id));
        !self.changes.is_empty() || writes || self.locks.iter().any(|lock| !lock.is_empty())
    }

    pub(crate) fn check_writable(&self, what: &str) -> Result<(), SqlError> {
        if self.read_only {
            return Err(SqlError::new("25006", format!("cannot execute {what} in a read-only transaction")));
        }
        Ok(())
    }

    /// Records a catalog change that was found valid against [`Transaction::catalog`].
    pub(crate) fn change(&mut self, what: &str, change: CatalogChange) -> Result<(), SqlError> {
        if is_temporary(&change, &self.catalog) {
            if let CatalogChange::DropTable { id, .. } = &change {
                self.writes.remove(id);
                self.on_commit.remove(id);
            }
            Arc::make_mut(&mut self.catalog).apply(&change);
            return Ok(());
        }
        self.check_writable(what)?;
        self.write_snapshot.get_or_insert(self.view.lsn);
        if let CatalogChange::DropTable { id, .. } = &change {
            self.writes.remove(id);
            if self.changes.iter().any(|c| matches!(c, CatalogChange::CreateTable(def) if def.id == *id)) {
                // Created and dropped by the same transaction: the log need not hear of it.
                self.changes.retain(|c| c.relation() != Some(*id));
                Arc::make_mut(&mut self.catalog).apply(&change);
                return Ok(());
            }
        }
        if let CatalogChange::DropSequence(id) = &change
            && self.changes.iter().any(|c| matches!(c, CatalogChange::CreateSequence(def) if def.id == *id))
        {
            self.changes.retain(|c| c.relation() != Some(*id));
            Arc::make_mut(&mut self.catalog).apply(&change);
            return Ok(());
        }
        Arc::make_mut(&mut self.catalog).apply(&change);
        self.changes.push(change);
        Ok(())
    }

    /// The pending write of a table, made when there is none.
    pub(crate) fn write(&mut self, what: &str, table: TableId, version: u64) -> Result<&mut PendingWrite, SqlError> {
        if !self.is_temp(table) {
            self.check_writable(what)?;
            // What reads nothing has nothing to be certified against: it leaves that to the first that does.
            if !self.at_hand {
                self.write_snapshot.get_or_insert(self.view.lsn);
            }
        }
        Ok(self.writes.entry(table).or_insert_with(|| PendingWrite { version, ..PendingWrite::default() }))
    }

    /// What a statement would see if the table were defined so.
    pub(crate) fn scope_with(&self, def: &TableDef) -> Result<Scope, SqlError> {
        let mut scope = self.scope();
        Arc::make_mut(&mut scope.catalog).tables.insert(def.id, Arc::new(def.clone()));
        if let Some(own) = Arc::make_mut(&mut scope.own).get_mut(&def.id) {
            own.batches = widened(def, &own.batches)?;
        }
        Ok(scope)
    }

    /// Defines a table anew. `ordinals` tells, for each constraint, which one it was: the transaction's own rows stay, under the new
    /// definition, and so do comments on what is called otherwise now.
    pub(crate) fn redefine(&mut self, what: &str, def: TableDef, ordinals: &[Option<u32>]) -> Result<(), SqlError> {
        if let Some(write) = self.writes.get_mut(&def.id) {
            write.version = def.version;
            write.batches = widened(&def, &write.batches)?;
            let moved = |key: &KeyAssert| {
                let constraint = ordinals.iter().position(|old| *old == Some(key.constraint))?;
                Some(KeyAssert { constraint: constraint as u32, ..*key })
            };
            for keys in [&mut write.keys, &mut write.key_reads] {
                let kept = std::mem::take(keys).into_vec().iter().filter_map(moved).collect();
                keys.extend(kept);
            }
        }
        let moved = self.moved_comments(&def, ordinals);
        self.change(what, CatalogChange::ReplaceTable(def))?;
        self.say_again(what, moved)
    }

    /// Comments on constraints and indexes that get another name, on what they are called then.
    fn moved_comments(&self, def: &TableDef, ordinals: &[Option<u32>]) -> Vec<(CommentTarget, Arc<str>)> {
        let Some(old) = self.catalog.tables.get(&def.id) else { return vec![] };
        let of_kind: [fn(TableId, String) -> CommentTarget; 2] = [CommentTarget::Constraint, CommentTarget::Index];
        let mut moved = vec![];
        for (constraint, ordinal) in def.constraints.iter().zip(ordinals) {
            let Some(before) = ordinal.and_then(|n| old.constraints.get(n as usize)) else { continue };
            if before.name == constraint.name {
                continue;
            }
            for target in of_kind {
                if let Some(text) = self.catalog.comments.get(&target(def.id, before.name.clone())) {
                    moved.push((target(def.id, constraint.name.clone()), text.clone()));
                }
            }
        }
        moved
    }

    /// Comments that a change took along, although what they are about is there again.
    pub(crate) fn say_again(&mut self, what: &str, comments: Vec<(CommentTarget, Arc<str>)>) -> Result<(), SqlError> {
        for (target, text) in comments {
            self.change(what, CatalogChange::SetComment { target, text: Some(text) })?;
        }
        Ok(())
    }

    /// The tables that a definition's foreign keys point at get a new version: whoever planned a change of their rows without knowing of the
    /// foreign key must plan it again.
    pub(crate) fn touch_referenced(&mut self, what: &str, def: &TableDef) -> Result<(), SqlError> {
        let referenced = def.constraints.iter().filter_map(|c| match &c.kind {
            ConstraintKind::ForeignKey { references, .. } if *references != def.id => Some(*references),
            _ => None,
        });
        for id in referenced.collect::<std::collections::BTreeSet<_>>() {
            let Some(parent) = self.catalog.tables.get(&id).cloned() else { continue };
            let ordinals: Vec<Option<u32>> = (0..parent.constraints.len() as u32).map(Some).collect();
            self.redefine(what, TableDef { version: parent.version + 1, ..parent.as_ref().clone() }, &ordinals)?;
        }
        Ok(())
    }

    /// Defines a sequence anew. What the transaction itself has made goes to the log once, as it is at the end.
    pub(crate) fn redefine_sequence(&mut self, old: &SequenceDef, new: SequenceDef) -> Result<(), SqlError> {
        self.check_writable("ALTER SEQUENCE")?;
        let own = self.changes.iter_mut().find_map(|change| match change {
            CatalogChange::CreateSequence(sequence) | CatalogChange::ReplaceSequence { sequence, .. } if sequence.id == new.id => {
                Some(sequence)
            }
            _ => None,
        });
        match own {
            Some(sequence) => {
                *sequence = SequenceDef { epoch: sequence.epoch, ..new };
                let sequence = Arc::new(sequence.clone());
                Arc::make_mut(&mut self.catalog).sequences.insert(sequence.id, sequence);
                Ok(())
            }
            None => self.change("ALTER SEQUENCE", CatalogChange::ReplaceSequence { sequence: new, from: old.position }),
        }
    }

    /// Where the session has brought sequences that the transaction defines.
    pub(crate) fn settle_sequences(&mut self, own: &OwnSequences) {
        for change in &mut self.changes {
            if let CatalogChange::CreateSequence(sequence) | CatalogChange::ReplaceSequence { sequence, .. } = change
                && let Some(position) = own.uncommitted(sequence.id)
            {
                sequence.position = position;
            }
        }
    }

    /// The commit to send.
    pub(crate) fn into_commit(self) -> Result<Commit, SqlError> {
        let mut reads: BTreeMap<TableId, TableRead> = BTreeMap::new();
        self.locks.iter().for_each(|lock| lock.add_to(&mut reads));
        if let Some(certified) = self.certified_reads() {
            certified.add_to(&mut reads);
        }
        let catalog = self.catalog;
        let is_temp = |id: &TableId| catalog.tables.get(id).is_some_and(|table| table.schema == TEMP_SCHEMA);
        let writes =
            self.writes.into_iter().filter(|(id, write)| !write.is_empty() && !is_temp(id)).map(|(table, write)| write.into_write(table));
        Ok(Commit {
            txn_id: self.id,
            snapshot: self.write_snapshot.unwrap_or(self.view.lsn),
            isolation: self.isolation,
            catalog: self.changes,
            writes: writes.collect::<Result<_, _>>()?,
            reads: reads.into_values().filter(|read| !read.is_empty()).collect(),
        })
    }
}

impl PendingWrite {
    fn own_rows(&self) -> OwnRows {
        OwnRows { truncated: self.truncate, batches: self.batches.clone(), segments: self.segments.clone(), deleted: self.deleted.clone() }
    }

    /// True when it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let claims = self.unwritten || self.all_key_reads || self.key_reads.len() > 0;
        !self.truncate && !claims && self.batches.is_empty() && self.segments.is_empty() && self.deleted.is_empty()
    }

    /// Rows with these keys are new, or such rows go: nobody else may have a say in them until the commit.
    pub(crate) fn claim_keys(&mut self, key: &UniqueKey, keys: &RecordBatch) -> Result<(), SqlError> {
        if self.all_keys || self.keys.len() + keys.num_rows() > KEYS_MAX {
            self.all_keys = true;
            self.keys.clear();
        } else {
            self.keys.extend(key.asserts(keys)?);
        }
        Ok(())
    }

    /// Foreign keys of rows elsewhere point at these keys, which must stay until the commit.
    pub(crate) fn read_keys(&mut self, key: &UniqueKey, wanted: &RecordBatch) -> Result<(), SqlError> {
        if self.all_key_reads || self.key_reads.len() + wanted.num_rows() > KEYS_MAX {
            self.all_key_reads = true;
            self.key_reads.clear();
        } else {
            self.key_reads.extend(key.asserts(wanted)?);
        }
        Ok(())
    }

    /// Rows of its segments.
    pub(crate) fn segment_rows(&self) -> u64 {
        self.segments.iter().map(|s| s.rows).sum()
    }

    /// Takes note of deleted rows, by the ids that a scan of the transaction's scope gave.
    pub(crate) fn delete(&mut self, rows: &RoaringTreemap) -> Result<(), SqlError> {
        let mut own: Vec<u64> = vec![];
        let deleted = Arc::make_mut(&mut self.deleted);
        for id in rows {
            if id >= OWN_BATCH_ROWS {
                own.push(id - OWN_BATCH_ROWS)
            } else {
                deleted.insert(id);
            }
        }
        if own.is_empty() {
            return Ok(());
        }
        let gone: RoaringTreemap = own.into_iter().collect();
        let mut first = 0;
        let mut kept = vec![];
        for batch in std::mem::take(&mut self.batches) {
            let end = first + batch.num_rows() as u64;
            let live: BooleanArray = (first..end).map(|position| Some(!gone.contains(position))).collect();
            first = end;
            let batch = filter_record_batch(&batch, &live).map_err(|e| SqlError::internal(e.to_string()))?;
            if batch.num_rows() > 0 {
                kept.push(batch);
            }
        }
        self.batches = kept;
        Ok(())
    }

    /// Takes rows, in the table's schema. Small batches become one, so that a transaction of many small statements has few.
    pub(crate) fn push(&mut self, rows: RecordBatch) -> Result<(), SqlError> {
        let mut last = rows;
        while let Some(before) = self.batches.pop_if(|before| {
            let rows = before.num_rows() + last.num_rows();
            before.num_rows() <= 2 * last.num_rows() && rows <= JOINED_ROWS_MAX && before.schema() == last.schema()
        }) {
            let joined = arrow::compute::concat_batches(&last.schema(), [&before, &last]).and_then(|batch| compact(&batch));
            last = joined.map_err(|e| SqlError::internal(e.to_string()))?;
        }
        self.batches.push(last);
        Ok(())
    }

    /// Rows that would travel in the log.
    pub(crate) fn batch_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn into_write(mut self, table: TableId) -> Result<TableWrite, SqlError> {
        self.all_keys |= self.keys.len() > KEYS_MAX;
        if self.all_keys {
            self.keys.clear();
        }
        self.all_key_reads |= self.key_reads.len() > KEYS_MAX;
        if self.all_key_reads {
            self.key_reads.clear();
        }
        let row_count = self.batch_rows() as u64;
        let sorted = |keys: Pile<KeyAssert>| {
            let mut keys = keys.into_vec();
            keys.sort_unstable();
            keys.dedup();
            keys
        };
        let (keys, key_reads) = (sorted(std::mem::take(&mut self.keys)), sorted(std::mem::take(&mut self.key_reads)));
        Ok(TableWrite {
            table,
            version: self.version,
            truncate: self.truncate,
            row_count,
            rows: encode(&self.batches).map_err(|e| SqlError::internal(format!("cannot encode rows: {e}")))?,
            segments: self.segments.iter().map(|s| s.as_ref().clone()).collect(),
            deletes: self.deleted.iter().take_while(|id| *id < OWN_SEGMENT_ROWS).map(RowId).collect(),
            segment_deletes: self.deleted.iter().filter(|id| *id >= OWN_SEGMENT_ROWS).map(|id| id - OWN_SEGMENT_ROWS).collect(),
            keys,
            all_keys: self.all_keys,
            key_reads,
            all_key_reads: self.all_key_reads,
            unwritten: self.unwritten,
        })
    }
}

/// The transaction's own rows under another definition of their table.
fn widened(def: &TableDef, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, SqlError> {
    batches.iter().map(|batch| widen(def, batch.clone()).map_err(scan_error)).collect()
}

/// Batches as the bytes that the log carries; nothing for none.
fn encode(batches: &[RecordBatch]) -> Result<Bytes, quire_segment::SegmentError> {
    let Some(first) = batches.first() else { return Ok(Bytes::new()) };
    let rows = match batches {
        [one] => compact(one)?,
        many => compact(&arrow::compute::concat_batches(&first.schema(), many)?)?,
    };
    quire_segment::encode_rows(&rows)
}
