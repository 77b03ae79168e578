//! Unique keys: are new ones distinct, and are they free at the snapshot? The log certifies the rest.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Scalar};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp;
use arrow::compute::{and, filter_record_batch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::ScalarValue;
use quire_scan::{ColumnSource, OwnRows, datum_scalar, undeleted_rows};
use quire_segment::unpack;
use quire_types::{ColumnId, KeyAssert, Lsn, RowId, RowIds, RowSet, SegmentMeta, TableDef, TableView};

use crate::SqlError;
use crate::errors::scan_error;
use crate::lookup::{admits, matching, whole_number};
use crate::source::PageColumns;
use crate::txn::Transaction;
use crate::values;

/// So many keys are looked for one by one in a row group; more, and all its keys are gone through.
const SEARCHED_MAX: usize = 64;

/// A key of a table, with its columns' positions: a unique constraint or index, or an index that is not unique.
pub(crate) struct UniqueKey {
    pub(crate) ordinal: u32,
    pub(crate) name: String,
    pub(crate) positions: Vec<usize>,
    converter: RowConverter,
}

impl UniqueKey {
    /// The unique constraints of a table.
    pub(crate) fn of(table: &TableDef) -> Result<Vec<UniqueKey>, SqlError> {
        table.unique_keys().map(|(ordinal, name, columns)| UniqueKey::over(table, ordinal, name, columns)).collect()
    }

    /// The key that some columns make.
    pub(crate) fn over(table: &TableDef, ordinal: u32, name: &str, columns: &[ColumnId]) -> Result<UniqueKey, SqlError> {
        let positions = columns.iter().map(|id| position(table, *id)).collect::<Result<Vec<_>, _>>()?;
        let fields = positions.iter().map(|&p| SortField::new(table.columns[p].ty.arrow())).collect();
        Ok(UniqueKey { ordinal, name: name.to_string(), positions, converter: RowConverter::new(fields).map_err(arrow_error)? })
    }

    /// The key columns of the rows that have no NULL among them.
    pub(crate) fn columns(&self, rows: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let keys = rows.project(&self.positions).map_err(arrow_error)?;
        if keys.columns().iter().all(|c| c.null_count() == 0) {
            return Ok(keys);
        }
        let mut valid = BooleanBuffer::new_set(keys.num_rows());
        for nulls in keys.columns().iter().filter_map(|c| c.nulls()) {
            valid = &valid & nulls.inner();
        }
        filter_record_batch(&keys, &BooleanArray::new(valid, None)).map_err(arrow_error)
    }

    /// The key columns of all rows.
    pub(crate) fn project(&self, rows: &RecordBatch) -> Result<RecordBatch, SqlError> {
        rows.project(&self.positions).map_err(arrow_error)
    }

    /// Keys as numbers: equal for equal keys, and seldom for others.
    pub(crate) fn hashes(&self, keys: &RecordBatch) -> Result<Vec<u64>, SqlError> {
        Ok(self.rows(keys)?.iter().map(|row| quire_types::page_checksum(row.as_ref())).collect())
    }

    /// Whether the row at a position of the table's rows has the key (of the first row of `wanted`).
    pub(crate) fn equals(&self, wanted: &RecordBatch, rows: &RecordBatch, position: usize) -> Result<bool, SqlError> {
        let candidate = self.project(rows)?.slice(position, 1);
        if candidate.columns().iter().any(|c| c.null_count() > 0) {
            return Ok(false);
        }
        Ok(self.rows(&candidate)?.row(0) == self.rows(&wanted.slice(0, 1))?.row(0))
    }

    fn rows(&self, keys: &RecordBatch) -> Result<Rows, SqlError> {
        self.convert(keys.columns())
    }

    /// Keys in a form that compares as bytes. Zero has two signs as a float, and is one key.
    fn convert(&self, columns: &[ArrayRef]) -> Result<Rows, SqlError> {
        let plain = |column: &ArrayRef| -> ArrayRef {
            match column.data_type() {
                DataType::Float32 => Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| v + 0.0)),
                DataType::Float64 => Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| v + 0.0)),
                _ => column.clone(),
            }
        };
        self.converter.convert_columns(&columns.iter().map(plain).collect::<Vec<_>>()).map_err(arrow_error)
    }

    /// Claims for the commit.
    pub(crate) fn asserts(&self, keys: &RecordBatch) -> Result<Vec<KeyAssert>, SqlError> {
        Ok(self.hashes(keys)?.into_iter().map(|hash| KeyAssert { constraint: self.ordinal, hash }).collect())
    }

    /// The position of a row whose key an earlier row has; `sorted`: equal keys are neighbours.
    pub(crate) fn duplicate_within(&self, keys: &RecordBatch, sorted: bool) -> Result<Option<usize>, SqlError> {
        if sorted {
            return adjacent_duplicate(keys);
        }
        let rows = self.rows(keys)?;
        let mut seen = HashSet::with_capacity(rows.num_rows());
        Ok(rows.iter().position(|row| !seen.insert(row)))
    }

    /// The positions of rows whose key an earlier row has; keys with NULLs repeat nothing.
    pub(crate) fn repeated(&self, rows: &RecordBatch) -> Result<Vec<usize>, SqlError> {
        let columns = rows.project(&self.positions).map_err(arrow_error)?;
        let keys = self.rows(&columns)?;
        let complete = |row: usize| columns.columns().iter().all(|c| c.is_valid(row));
        let mut seen = HashSet::with_capacity(rows.num_rows());
        Ok(keys.iter().enumerate().filter(|(i, key)| complete(*i) && !seen.insert(*key)).map(|(i, _)| i).collect())
    }

    /// The position of a new key that is among `existing` (rows of the table).
    pub(crate) fn duplicate_among(&self, keys: &RecordBatch, existing: &RecordBatch) -> Result<Option<usize>, SqlError> {
        let existing = self.rows(&self.columns(existing)?)?;
        let set: HashSet<_> = existing.iter().collect();
        let new = self.rows(keys)?;
        Ok(new.iter().position(|row| set.contains(&row)))
    }

    /// A new key that is in a segment, described; `deleted` rows do not count.
    pub(crate) async fn find_in_segment(
        &self,
        table: &TableDef,
        keys: &RecordBatch,
        segment: &Arc<SegmentMeta>,
        deleted: &RowSet,
        source: &PageColumns,
    ) -> Result<Option<String>, SqlError> {
        let mut first_row = 0u64;
        for (row_group, meta) in segment.row_groups.iter().enumerate() {
            let base = first_row;
            first_row += u64::from(meta.rows);
            let Some(candidates) = self.within_bounds(table, keys, segment, row_group)? else { continue };
            if candidates.num_rows() <= SEARCHED_MAX {
                for row in 0..candidates.num_rows() {
                    if self.held(table, &candidates.slice(row, 1), segment, (row_group, base), deleted, source, 1).await? > 0 {
                        return Ok(Some(self.describe(table, &candidates, row)));
                    }
                }
                continue;
            }
            let columns = self.stored(table, segment, row_group, source).await?;
            let live = undeleted_rows(segment, row_group, base, &(0..meta.rows as usize), deleted, source).await.map_err(scan_error)?;
            let set_rows = self.convert(&columns)?;
            let wanted = self.rows(&candidates)?;
            let wanted_set: HashMap<_, usize> = wanted.iter().enumerate().map(|(i, r)| (r, i)).collect();
            for (i, row) in set_rows.iter().enumerate() {
                if let Some(&position) = wanted_set.get(&row)
                    && live.as_ref().is_none_or(|live| live.value(i))
                    && columns.iter().all(|c| c.is_valid(i))
                {
                    return Ok(Some(self.describe(table, &candidates, position)));
                }
            }
        }
        Ok(None)
    }

    /// The key's columns of a row group.
    async fn stored(
        &self,
        table: &TableDef,
        segment: &Arc<SegmentMeta>,
        row_group: usize,
        source: &PageColumns,
    ) -> Result<Vec<ArrayRef>, SqlError> {
        let columns = self.positions.iter().map(|&p| &table.columns[p]);
        let pages = columns.clone().map(|column| source.column(segment, row_group, column));
        let pages = futures::future::try_join_all(pages).await.map_err(scan_error)?;
        let values = pages.iter().zip(columns).map(|((page, _, _), column)| unpack(page, &column.ty.arrow()));
        values.collect::<Result<_, _>>().map_err(arrow_error)
    }

    /// How many rows of a row group (its number, and the position of its first row in the segment) have the key and are not deleted; not
    /// counted further than `enough`.
    #[allow(clippy::too_many_arguments)]
    async fn held(
        &self,
        table: &TableDef,
        wanted: &RecordBatch,
        segment: &Arc<SegmentMeta>,
        (row_group, base): (usize, u64),
        deleted: &RowSet,
        source: &PageColumns,
        enough: usize,
    ) -> Result<usize, SqlError> {
        let mut held = 0;
        for position in matching(source, table, self, wanted, segment, row_group).await? {
            let id = match segment.row_ids {
                RowIds::Base(first) => RowId(first.0 + base + position as u64),
                RowIds::Column => {
                    let ids = source.row_ids(segment, row_group).await.map_err(scan_error)?;
                    RowId(ids.as_primitive::<arrow::datatypes::Int64Type>().value(position) as u64)
                }
            };
            held += usize::from(!deleted.contains(id));
            if held == enough {
                break;
            }
        }
        Ok(held)
    }

    /// Each key once; of equal ones the first.
    pub(crate) fn distinct(&self, keys: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let rows = self.rows(keys)?;
        let mut seen = HashSet::with_capacity(rows.num_rows());
        let first: BooleanArray = rows.iter().map(|row| Some(seen.insert(row))).collect();
        filter_record_batch(keys, &first).map_err(arrow_error)
    }

    /// Which of the keys (no two alike) are among the rows.
    pub(crate) async fn present(&self, keys: &RecordBatch, rows: &KeyRows, source: &PageColumns) -> Result<Vec<bool>, SqlError> {
        Ok(self.counted(keys, rows, source, 1).await?.into_iter().map(|count| count > 0).collect())
    }

    /// How many of the rows have each of the keys (no two alike); none is counted further than `enough`.
    pub(crate) async fn counted(
        &self,
        keys: &RecordBatch,
        rows: &KeyRows,
        source: &PageColumns,
        enough: usize,
    ) -> Result<Vec<usize>, SqlError> {
        let wanted = self.rows(keys)?;
        let complete = |row: usize| keys.columns().iter().all(|c| c.is_valid(row));
        let open: HashMap<_, usize> = wanted.iter().enumerate().filter(|(i, _)| complete(*i)).map(|(i, key)| (key, i)).collect();
        let mut found = vec![0; keys.num_rows()];
        // Keys that are not found often enough.
        let mut left = open.len();
        let mut mark = |columns: &[ArrayRef], live: Option<&BooleanBuffer>| -> Result<usize, SqlError> {
            for (i, key) in self.convert(columns)?.iter().enumerate() {
                if let Some(&at) = open.get(&key)
                    && found[at] < enough
                    && live.is_none_or(|live| live.value(i))
                    && columns.iter().all(|c| c.is_valid(i))
                {
                    found[at] += 1;
                    left -= usize::from(found[at] == enough);
                }
            }
            Ok(left)
        };
        let KeyRows { table, committed, own, lsn } = rows;
        for batch in &own.batches {
            let columns: Vec<ArrayRef> = self.positions.iter().map(|&p| batch.column(p).clone()).collect();
            mark(&columns, None)?;
        }
        let mut deleted = committed.deleted.clone();
        deleted.extend(own.deleted.iter().map(RowId));
        let (segments, runs) = match own.truncated {
            true => (&[][..], vec![]),
            false => (committed.segments.as_slice(), source.delta_runs(table, committed, *lsn).await.map_err(scan_error)?),
        };
        for run in &runs {
            let columns: Vec<ArrayRef> = self.positions.iter().map(|&p| run.rows.column(p).clone()).collect();
            let live = deleted.absent(run.first, run.rows.num_rows());
            if mark(&columns, live.as_ref())? == 0 {
                return Ok(found);
            }
        }
        for segment in own.segments.iter().chain(segments) {
            let mut first_row = 0u64;
            for (row_group, meta) in segment.row_groups.iter().enumerate() {
                let base = first_row;
                first_row += u64::from(meta.rows);
                if self.within_bounds(table, keys, segment, row_group)?.is_none() {
                    continue;
                }
                if keys.num_rows() <= SEARCHED_MAX {
                    for row in complete_rows(keys) {
                        let key = keys.slice(row, 1);
                        if self.within_bounds(table, &key, segment, row_group)?.is_none() {
                            continue;
                        }
                        let held = self.held(table, &key, segment, (row_group, base), &deleted, source, enough).await?;
                        for _ in 0..held {
                            if mark(key.columns(), None)? == 0 {
                                return Ok(found);
                            }
                        }
                    }
                    continue;
                }
                let columns = self.stored(table, segment, row_group, source).await?;
                let live =
                    undeleted_rows(segment, row_group, base, &(0..meta.rows as usize), &deleted, source).await.map_err(scan_error)?;
                if mark(&columns, live.as_ref())? == 0 {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The new keys that the bounds of a row group's first key column do not exclude; `None` when all are.
    pub(crate) fn within_bounds(
        &self,
        table: &TableDef,
        keys: &RecordBatch,
        segment: &SegmentMeta,
        row_group: usize,
    ) -> Result<Option<RecordBatch>, SqlError> {
        let column = &table.columns[self.positions[0]];
        // A column that came later is one value here, or NULL.
        let Some(ordinal) = segment.column_ordinal(column.id) else { return Ok(column.missing.is_some().then(|| keys.clone())) };
        let page = &segment.row_groups[row_group].pages[ordinal];
        let first = keys.column(0);
        if let Some(admitted) = whole_number(first).and_then(|number| admits(page, number)) {
            return Ok(admitted.then(|| keys.clone()));
        }
        let bound = |datum: &Option<_>| -> Option<Scalar<ArrayRef>> {
            let scalar: ScalarValue = datum_scalar(Some(datum.as_ref()?), &column.ty.arrow())?;
            scalar.to_scalar().ok()
        };
        let (Some(min), Some(max)) = (bound(&page.min), bound(&page.max)) else { return Ok(Some(keys.clone())) };
        let above = cmp::gt_eq(first, &min).map_err(arrow_error)?;
        let below = cmp::lt_eq(first, &max).map_err(arrow_error)?;
        let inside = and(&above, &below).map_err(arrow_error)?;
        if inside.true_count() == 0 {
            return Ok(None);
        }
        filter_record_batch(keys, &inside).map(Some).map_err(arrow_error)
    }

    /// `Key (a, b)=(1, x) already exists.`
    pub(crate) fn describe(&self, table: &TableDef, keys: &RecordBatch, row: usize) -> String {
        let names: Vec<&str> = self.positions.iter().map(|&p| table.columns[p].name.as_str()).collect();
        let values: Vec<String> = self
            .positions
            .iter()
            .zip(keys.columns())
            .map(|(&p, column)| {
                let mut text = Vec::new();
                values::write_text(column, row, table.columns[p].ty, &mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
            .collect();
        format!("Key ({})=({}) already exists.", names.join(", "), values.join(", "))
    }

    /// 23505.
    pub(crate) fn violation(&self, table: &TableDef, detail: String) -> SqlError {
        SqlError::new("23505", format!("duplicate key value violates unique constraint \"{}\"", self.name))
            .with_detail(detail)
            .on_table(&table.name)
            .on_constraint(&self.name)
    }
}

/// A table's rows as a transaction sees them, for looking up keys.
pub(crate) struct KeyRows {
    pub(crate) table: Arc<TableDef>,
    pub(crate) committed: Arc<TableView>,
    pub(crate) own: OwnRows,
    pub(crate) lsn: Lsn,
}

impl KeyRows {
    /// As they are now, the transaction's own included.
    pub(crate) fn of(table: &Arc<TableDef>, transaction: &Transaction) -> KeyRows {
        let committed = transaction.view().tables.get(&table.id).cloned().unwrap_or_default();
        let own = transaction.scope().own.get(&table.id).cloned().unwrap_or_default();
        KeyRows { table: table.clone(), committed, own, lsn: transaction.view().lsn }
    }
}

/// The rows without a NULL.
fn complete_rows(keys: &RecordBatch) -> Vec<usize> {
    (0..keys.num_rows()).filter(|&row| keys.columns().iter().all(|c| c.is_valid(row))).collect()
}

fn position(table: &TableDef, id: ColumnId) -> Result<usize, SqlError> {
    table
        .columns
        .iter()
        .position(|c| c.id == id)
        .ok_or_else(|| SqlError::internal(format!("table {} has a key on a column it lacks", table.name)))
}

pub(crate) fn arrow_error(error: arrow::error::ArrowError) -> SqlError {
    SqlError::internal(format!("cannot encode keys: {error}"))
}

fn adjacent_duplicate(keys: &RecordBatch) -> Result<Option<usize>, SqlError> {
    let rows = keys.num_rows();
    if rows < 2 {
        return Ok(None);
    }
    let mut equal: Option<BooleanBuffer> = None;
    for column in keys.columns() {
        let same = cmp::eq(&column.slice(0, rows - 1), &column.slice(1, rows - 1)).map_err(arrow_error)?;
        equal = Some(match equal {
            Some(equal) => &equal & same.values(),
            None => same.values().clone(),
        });
    }
    Ok(equal.and_then(|e| e.set_indices().next()).map(|i| i + 1))
}
