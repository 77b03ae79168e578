//! Rows on their way into a table: checked, and either kept for the commit or made into segments at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use quire_client::StorageClient;
use quire_kit::task;
use quire_scan::OWN_SEGMENT_ROWS;
use quire_types::{ConstraintDef, Lsn, RowId, RowIds, SEGMENT_ROWS, SegmentId, SegmentMeta, TableDef, TableView};
use roaring::RoaringTreemap;

use crate::SqlError;
use crate::errors::{client_error, datafusion_error, scan_error};
use crate::foreign_keys::KeyEffects;
use crate::keys::UniqueKey;
use crate::reads::ReadsOf;
use crate::source::PageColumns;
use crate::temp::TEMP_SCHEMA;
use crate::txn::PendingWrite;
use crate::values;

/// Rows of one statement that travel in the log rather than as a segment: a segment is worth an upload from about here.
const LOG_ROWS_MAX: usize = 16_384;
/// Their bytes, likewise; well below what one log entry may have.
const LOG_BYTES_MAX: usize = 4 << 20;
/// Rows waiting to become a segment may take this much memory, whatever their number.
const SEGMENT_BYTES_MAX: usize = 256 << 20;

/// A CHECK constraint, ready to evaluate over the table's schema.
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) expr: Arc<dyn PhysicalExpr>,
}

/// What rows need by themselves: their buffers may be those of a whole page, or have room for many more.
fn bytes_of(rows: &RecordBatch) -> usize {
    let of_column = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used() + column.len() * 16,
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used() + column.len() * 16,
        other => other.primitive_width().unwrap_or(1) * column.len(),
    };
    rows.columns().iter().map(of_column).sum()
}

/// Where rows go and what they are checked against.
pub(crate) struct WriteTarget {
    pub(crate) table: Arc<TableDef>,
    pub(crate) checks: Vec<Check>,
    /// Committed rows at the statement's snapshot.
    pub(crate) committed: Arc<TableView>,
    pub(crate) lsn: Lsn,
    pub(crate) client: StorageClient,
    pub(crate) source: Arc<PageColumns>,
    /// Where to say what was read, when it is certified.
    pub(crate) reads: Option<ReadsOf>,
}

/// Takes a statement's rows, batch by batch.
pub(crate) struct TableWriter {
    target: Arc<WriteTarget>,
    keys: Arc<Vec<UniqueKey>>,
    schema: SchemaRef,
    /// What the transaction has written before this statement, and now writes.
    write: PendingWrite,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
    in_flight: Option<task::JoinHandle<Result<NewSegment, SqlError>>>,
    rows: u64,
    /// Rows that the statement deletes (an UPDATE's old ones).
    gone: RoaringTreemap,
    /// By unique key: its columns are not changed, so what was unique stays so.
    unchanged: Vec<bool>,
    /// What foreign keys will have to look at.
    pub(crate) effects: KeyEffects,
    /// Whether keys are checked at the end, when all of `gone` is known. (index of the key, its values, sorted, segments before them)
    deferred: Option<Vec<(usize, RecordBatch, bool, usize)>>,
    /// By unique key: the new rows' keys, when it is checked at the end of the transaction.
    unchecked: Vec<Option<Vec<RecordBatch>>>,
}

/// What a statement has written.
pub(crate) struct Finished {
    /// The transaction's, with it.
    pub(crate) write: PendingWrite,
    /// Rows taken.
    pub(crate) rows: u64,
    /// What is left to foreign keys.
    pub(crate) effects: KeyEffects,
    /// What is left to unique keys that are checked at the end of the transaction: their names, and new rows' keys.
    pub(crate) waiting: Vec<(String, Vec<RecordBatch>)>,
}

/// A segment in the object store, and its rows' keys in segment order (one batch a constraint).
struct NewSegment {
    meta: SegmentMeta,
    keys: Vec<RecordBatch>,
}

impl TableWriter {
    pub(crate) fn new(target: Arc<WriteTarget>, write: PendingWrite) -> Result<TableWriter, SqlError> {
        Ok(TableWriter {
            unchanged: vec![false; target.table.unique_keys().count()],
            unchecked: vec![None; target.table.unique_keys().count()],
            keys: Arc::new(UniqueKey::of(&target.table)?),
            schema: target.table.arrow_schema(),
            gone: RoaringTreemap::new(),
            effects: KeyEffects::default(),
            deferred: None,
            target,
            write,
            waiting: vec![],
            waiting_rows: 0,
            waiting_bytes: 0,
            in_flight: None,
            rows: 0,
        })
    }

    /// For an UPDATE that sets these columns (positions in the table): the old rows' keys do not stand in the new ones' way.
    pub(crate) fn replacing(mut self, set: &[usize]) -> TableWriter {
        self.unchanged = self.keys.iter().map(|key| !key.positions.iter().any(|p| set.contains(p))).collect();
        self.deferred = Some(vec![]);
        if !set.is_empty() {
            self.effects.setting(set);
        }
        self
    }

    /// For a statement that both inserts rows and deletes others: keys are checked when all is known.
    pub(crate) fn deferring(mut self) -> TableWriter {
        self.deferred = Some(vec![]);
        self
    }

    /// The statement deletes rows, by the ids that a scan of the transaction's scope gave; how many of them it had not deleted before,
    /// in another of its parts either.
    pub(crate) fn delete(&mut self, ids: impl IntoIterator<Item = u64>) -> u64 {
        ids.into_iter().filter(|id| !self.write.deleted.contains(*id) && self.gone.insert(*id)).count() as u64
    }

    /// Takes rows in the table's schema. Waits while an earlier segment is being written.
    pub(crate) async fn push(&mut self, rows: RecordBatch) -> Result<(), SqlError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        check_not_null(&self.target.table, &rows)?;
        check_constraints(&self.target, &rows)?;
        let rows = RecordBatch::try_new(self.schema.clone(), rows.columns().to_vec());
        let rows = rows.map_err(|e| SqlError::internal(e.to_string()))?;
        self.effects.added(&rows)?;
        self.rows += rows.num_rows() as u64;
        self.waiting_rows += rows.num_rows();
        self.waiting_bytes += rows.get_array_memory_size();
        self.waiting.push(rows);
        while (self.waiting_rows >= SEGMENT_ROWS || self.waiting_bytes >= SEGMENT_BYTES_MAX) && !self.is_temporary() {
            self.write_segment().await?;
        }
        Ok(())
    }

    /// With what foreign keys of the table, and onto it, will have to look at.
    pub(crate) fn with_effects(mut self, effects: KeyEffects) -> TableWriter {
        self.effects = effects;
        self
    }

    /// With unique keys that are checked at the end of the transaction, where `deferred` says so.
    pub(crate) fn leaving(mut self, deferred: impl Fn(&ConstraintDef) -> bool) -> TableWriter {
        let table = &self.target.table;
        self.unchecked = self.keys.iter().map(|key| deferred(&table.constraints[key.ordinal as usize]).then(Vec::new)).collect();
        self
    }

    /// Checks and keeps what is left.
    pub(crate) async fn finish(mut self) -> Result<Finished, SqlError> {
        let bytes = |rows: &[RecordBatch]| rows.iter().map(bytes_of).sum::<usize>();
        let small = self.is_temporary()
            || self.waiting_rows + self.write.batch_rows() <= LOG_ROWS_MAX
                && bytes(&self.waiting) + bytes(&self.write.batches) <= LOG_BYTES_MAX;
        while self.waiting_rows > 0 && !small {
            self.write_segment().await?;
        }
        self.settle().await?;
        self.write.delete(&self.gone)?;
        for (i, keys, sorted, segments) in self.deferred.take().unwrap_or_default() {
            self.check_key(i, &keys, sorted, segments).await?;
            self.claim(i, &keys)?;
        }
        if self.waiting_rows > 0 {
            let rows = concat_batches(&self.schema, &self.waiting).map_err(|e| SqlError::internal(e.to_string()))?;
            self.waiting.clear();
            for i in (0..self.keys.len()).filter(|&i| !self.unchanged[i]).collect::<Vec<_>>() {
                let keys = self.keys[i].columns(&rows)?;
                if let Some(unchecked) = &mut self.unchecked[i] {
                    unchecked.push(keys);
                    continue;
                }
                self.check_key(i, &keys, false, self.write.segments.len()).await?;
                self.claim(i, &keys)?;
            }
            self.write.push(rows)?;
        }
        let waiting = std::mem::take(&mut self.unchecked).into_iter().zip(self.keys.iter());
        let waiting = waiting.filter_map(|(keys, key)| Some((key.name.clone(), keys.filter(|keys| !keys.is_empty())?)));
        Ok(Finished {
            waiting: waiting.collect(),
            write: std::mem::take(&mut self.write),
            rows: self.rows,
            effects: std::mem::take(&mut self.effects),
        })
    }

    /// Sends the first waiting rows on their way to the object store, after the segment before them has arrived.
    async fn write_segment(&mut self) -> Result<(), SqlError> {
        self.settle().await?;
        let mut taken = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(batch) = self.waiting.first() {
            if rows > 0 && bytes >= SEGMENT_BYTES_MAX || rows == SEGMENT_ROWS {
                break;
            }
            let room = SEGMENT_ROWS - rows;
            let part = if batch.num_rows() <= room {
                self.waiting.remove(0)
            } else {
                let part = batch.slice(0, room);
                self.waiting[0] = batch.slice(room, batch.num_rows() - room);
                part
            };
            rows += part.num_rows();
            bytes += part.get_array_memory_size();
            taken.push(part);
        }
        self.waiting_rows -= rows;
        self.waiting_bytes = self.waiting.iter().map(RecordBatch::get_array_memory_size).sum();
        let (target, keys, schema) = (self.target.clone(), self.keys.clone(), self.schema.clone());
        self.in_flight = Some(task::spawn("segment write", async move {
            let id = SegmentId(quire_kit::random::u64());
            let table = target.table.clone();
            let (encoded, keys) = task::blocking(move || -> Result<_, SqlError> {
                let encode_error = |e: &dyn std::fmt::Display| SqlError::internal(format!("cannot encode a segment: {e}"));
                let rows = concat_batches(&schema, &taken).map_err(|e| encode_error(&e))?;
                drop(taken);
                let (rows, _) = quire_segment::sort_by_clustering(&table, rows).map_err(|e| encode_error(&e))?;
                let options = quire_segment::EncodeOptions { row_ids: false };
                let encoded = quire_segment::encode(&table, &rows, id, options).map_err(|e| encode_error(&e))?;
                let keys = keys.iter().map(|key| key.columns(&rows)).collect::<Result<Vec<_>, _>>()?;
                Ok((encoded, keys))
            })
            .await?;
            let term = target.client.upload(target.table.id, id, encoded.bytes).await.map_err(client_error)?;
            let mut meta = encoded.meta;
            meta.term = term;
            Ok(NewSegment { meta, keys })
        }));
        // Rows that are there already may be taken for a second without a wait; what was just spawned would begin after that.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Waits for the segment under way, if any, and checks its keys.
    async fn settle(&mut self) -> Result<(), SqlError> {
        let Some(segment) = self.in_flight.take() else { return Ok(()) };
        let segment = segment.await.map_err(|e| SqlError::internal(format!("writing a segment failed: {e}")))??;
        for (i, keys) in segment.keys.iter().enumerate() {
            let sorted = self
                .target
                .table
                .clustering
                .iter()
                .map(Some)
                .eq(self.keys[i].positions.iter().map(|&p| self.target.table.columns.get(p).map(|c| &c.id)));
            if self.unchanged[i] {
                continue;
            }
            if let Some(unchecked) = &mut self.unchecked[i] {
                unchecked.push(keys.clone());
                continue;
            }
            let segments = self.write.segments.len();
            match &mut self.deferred {
                Some(deferred) => deferred.push((i, keys.clone(), sorted, segments)),
                None => {
                    self.check_key(i, keys, sorted, segments).await?;
                    self.claim(i, keys)?;
                }
            }
        }
        let first = RowId(OWN_SEGMENT_ROWS + self.write.segment_rows());
        let last = RowId(first.0 + segment.meta.rows.saturating_sub(1));
        self.write.segments.push(Arc::new(SegmentMeta {
            row_ids: RowIds::Base(first),
            row_id_min: first,
            row_id_max: last,
            ..segment.meta
        }));
        Ok(())
    }

    /// New keys must differ from each other, from the transaction's own rows (in the first `segments` of its segments), and from committed ones.
    async fn check_key(&self, index: usize, keys: &RecordBatch, sorted: bool, segments: usize) -> Result<(), SqlError> {
        let checked = self.find_duplicate(index, keys, sorted, segments).await;
        if let (Err(_), Some(reads)) = (&checked, &self.target.reads) {
            // The transaction may go on from a savepoint, and knows now that a row has the key.
            reads.note_whole();
        }
        checked
    }

    async fn find_duplicate(&self, index: usize, keys: &RecordBatch, sorted: bool, segments: usize) -> Result<(), SqlError> {
        let (key, table) = (&self.keys[index], &self.target.table);
        if let Some(row) = key.duplicate_within(keys, sorted)? {
            return Err(key.violation(table, key.describe(table, keys, row)));
        }
        let source = self.target.source.as_ref();
        for batch in &self.write.batches {
            if let Some(row) = key.duplicate_among(keys, batch)? {
                return Err(key.violation(table, key.describe(table, keys, row)));
            }
        }
        let committed = &self.target.committed;
        let mut deleted = committed.deleted.clone();
        deleted.extend(self.write.deleted.iter().map(RowId));
        for segment in &self.write.segments[..segments] {
            if let Some(detail) = key.find_in_segment(table, keys, segment, &deleted, source).await? {
                return Err(key.violation(table, detail));
            }
        }
        if self.write.truncate {
            return Ok(());
        }
        for segment in committed.segments.iter() {
            if let Some(detail) = key.find_in_segment(table, keys, segment, &deleted, source).await? {
                return Err(key.violation(table, detail));
            }
        }
        let runs = source.delta_runs(table, committed, self.target.lsn).await.map_err(scan_error)?;
        if runs.is_empty() {
            return Ok(());
        }
        for (row, hash) in key.hashes(keys)?.into_iter().enumerate() {
            let wanted = keys.slice(row, 1);
            for run in &runs {
                if run.find(key, &wanted, hash)?.into_iter().any(|position| !deleted.contains(RowId(run.first.0 + position as u64))) {
                    return Err(key.violation(table, key.describe(table, keys, row)));
                }
            }
        }
        Ok(())
    }

    /// Of a temporary table, whose rows stay in memory and which nobody else writes.
    fn is_temporary(&self) -> bool {
        self.target.table.schema == TEMP_SCHEMA
    }

    /// Claims the keys in the commit: one by one while they are few.
    fn claim(&mut self, index: usize, keys: &RecordBatch) -> Result<(), SqlError> {
        if self.is_temporary() {
            return Ok(());
        }
        self.write.claim_keys(&self.keys[index], keys)
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        if let Some(segment) = self.in_flight.take() {
            segment.abort();
        }
    }
}

/// 23502.
fn check_not_null(table: &TableDef, rows: &RecordBatch) -> Result<(), SqlError> {
    for (column, array) in table.columns.iter().zip(rows.columns()) {
        if !column.nullable && array.null_count() > 0 {
            let row = (0..array.len()).find(|&i| array.is_null(i)).unwrap_or_default();
            let message = format!("null value in column \"{}\" of relation \"{}\" violates not-null constraint", column.name, table.name);
            return Err(SqlError::new("23502", message)
                .with_detail(failing_row(table, rows, row))
                .on_table(&table.name)
                .on_column(&column.name));
        }
    }
    Ok(())
}

/// 23514.
fn check_constraints(target: &WriteTarget, rows: &RecordBatch) -> Result<(), SqlError> {
    for check in &target.checks {
        let result = check.expr.evaluate(rows).and_then(|v| v.into_array(rows.num_rows())).map_err(datafusion_error)?;
        let Some(result) = result.as_boolean_opt() else {
            return Err(SqlError::new("42804", format!("argument of CHECK must be type boolean: constraint \"{}\"", check.name)));
        };
        if let Some(row) = (0..result.len()).find(|&i| result.is_valid(i) && !result.value(i)) {
            let table = &target.table;
            let message = format!("new row for relation \"{}\" violates check constraint \"{}\"", table.name, check.name);
            return Err(SqlError::new("23514", message)
                .with_detail(failing_row(table, rows, row))
                .on_table(&table.name)
                .on_constraint(&check.name));
        }
    }
    Ok(())
}

fn failing_row(table: &TableDef, rows: &RecordBatch, row: usize) -> String {
    let values: Vec<String> = table
        .columns
        .iter()
        .zip(rows.columns())
        .map(|(column, array)| {
            if array.is_null(row) {
                return "null".to_string();
            }
            let mut text = Vec::new();
            values::write_text(array, row, column.ty, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
        .collect();
    format!("Failing row contains ({}).", values.join(", "))
}
