//! Rows by a key, without a scan: the transaction's own rows, then the delta's runs by their index, then a binary search in the
//! row groups whose bounds admit the key.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, UInt32Array, make_comparator};
use arrow::compute::kernels::cmp;
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use quire_scan::{ColumnSource, OWN_BATCH_ROWS, Order, OwnRows};
use quire_segment::unpack;
use quire_types::{Datum, Lsn, PageMeta, RowId, RowIds, SegmentMeta, TableDef, TableView};

use crate::SqlError;
use crate::errors::scan_error;
use crate::keys::{UniqueKey, arrow_error};
use crate::source::PageColumns;

/// Where to look: a table's rows as a statement of a transaction sees them.
pub(crate) struct Lookup<'a> {
    pub(crate) source: &'a PageColumns,
    pub(crate) table: &'a Arc<TableDef>,
    pub(crate) view: &'a TableView,
    pub(crate) lsn: Lsn,
    pub(crate) own: &'a OwnRows,
    /// Positions of the columns that are wanted.
    pub(crate) columns: &'a [usize],
}

/// Rows that were found.
pub(crate) struct Found {
    pub(crate) ids: Vec<u64>,
    /// The wanted columns.
    pub(crate) rows: RecordBatch,
}

impl Lookup<'_> {
    /// The rows with this key (one row of the key's columns, no NULL among them), in batches. Of a unique key the search ends at the first.
    pub(crate) async fn find(&self, key: &UniqueKey, unique: bool, wanted: &RecordBatch) -> Result<Vec<Found>, SqlError> {
        let mut found = vec![];
        let mut first = OWN_BATCH_ROWS;
        for batch in &self.own.batches {
            let positions = equal_rows(&key.project(batch)?, wanted)?;
            let ids = positions.iter().map(|&position| first + position as u64).collect();
            self.add(&mut found, ids, self.columns.iter().map(|&column| batch.column(column)), &positions)?;
            first += batch.num_rows() as u64;
            if unique && !found.is_empty() {
                return Ok(found);
            }
        }
        for segment in &self.own.segments {
            self.in_segment(key, unique, wanted, segment, &mut found).await?;
        }
        if self.own.truncated || unique && !found.is_empty() {
            return Ok(found);
        }
        let hash = key.hashes(wanted)?.first().copied().unwrap_or_default();
        for run in self.source.delta_runs(self.table, self.view, self.lsn).await.map_err(scan_error)?.iter().rev() {
            let mut positions = run.find(key, wanted, hash)?;
            positions.retain(|&position| !self.is_deleted(run.first.0 + position as u64));
            let ids = positions.iter().map(|&position| run.first.0 + position as u64).collect();
            self.add(&mut found, ids, self.columns.iter().map(|&column| run.rows.column(column)), &positions)?;
            if unique && !found.is_empty() {
                return Ok(found);
            }
        }
        for segment in self.view.segments.iter().rev() {
            self.in_segment(key, unique, wanted, segment, &mut found).await?;
            if unique && !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(found)
    }

    fn is_deleted(&self, id: u64) -> bool {
        self.view.deleted.contains(RowId(id)) || self.own.deleted.contains(id)
    }

    /// Takes rows out of columns.
    fn add<'a>(
        &self,
        found: &mut Vec<Found>,
        ids: Vec<u64>,
        columns: impl Iterator<Item = &'a ArrayRef>,
        positions: &[usize],
    ) -> Result<(), SqlError> {
        if positions.is_empty() {
            return Ok(());
        }
        let taken = match positions {
            [position] => columns.map(|column| column.slice(*position, 1)).collect::<Vec<_>>(),
            _ => {
                let positions = UInt32Array::from_iter_values(positions.iter().map(|&position| position as u32));
                columns.map(|column| take(column, &positions, None)).collect::<Result<Vec<_>, _>>().map_err(arrow_error)?
            }
        };
        let schema = Arc::new(self.table.arrow_schema().project(self.columns).map_err(arrow_error)?);
        let taken = unpacked(taken, schema.fields().iter().map(|field| field.data_type()))?;
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        found.push(Found { rows: RecordBatch::try_new_with_options(schema, taken, &options).map_err(arrow_error)?, ids });
        Ok(())
    }

    async fn in_segment(
        &self,
        key: &UniqueKey,
        unique: bool,
        wanted: &RecordBatch,
        segment: &Arc<SegmentMeta>,
        found: &mut Vec<Found>,
    ) -> Result<(), SqlError> {
        let number = whole_number(wanted.column(0));
        let ordinal = segment.column_ordinal(self.table.columns[key.positions[0]].id);
        let mut next_row = 0;
        for (row_group, meta) in segment.row_groups.iter().enumerate() {
            let first_row = next_row;
            next_row += u64::from(meta.rows);
            // Most row groups are left out here: with two comparisons where keys are numbers.
            let may_have_it = match number.zip(ordinal).and_then(|(number, ordinal)| admits(&meta.pages[ordinal], number)) {
                Some(admitted) => admitted,
                None => key.within_bounds(self.table, wanted, segment, row_group)?.is_some(),
            };
            if !may_have_it {
                continue;
            }
            let mut positions = matching(self.source, self.table, key, wanted, segment, row_group).await?;
            if positions.is_empty() {
                continue;
            }
            let ids: Vec<u64> = match segment.row_ids {
                RowIds::Base(base) => positions.iter().map(|&position| base.0 + first_row + position as u64).collect(),
                RowIds::Column => {
                    let ids = self.source.row_ids(segment, row_group).await.map_err(scan_error)?;
                    let ids = ids.as_primitive::<Int64Type>();
                    positions.iter().map(|&position| ids.value(position) as u64).collect()
                }
            };
            let mut live = ids.iter().map(|id| !self.is_deleted(*id));
            positions.retain(|_| live.next().unwrap_or(false));
            let ids: Vec<u64> = ids.into_iter().filter(|id| !self.is_deleted(*id)).collect();
            if !positions.is_empty() {
                let columns = self.read(segment, row_group, self.columns).await?;
                self.add(found, ids, columns.iter(), &positions)?;
                if unique {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn read(&self, segment: &Arc<SegmentMeta>, row_group: usize, positions: &[usize]) -> Result<Vec<ArrayRef>, SqlError> {
        columns(self.source, self.table, segment, row_group, positions).await
    }
}

/// Whether the bounds of a page admit a whole number; `None` when they are no such bounds.
pub(crate) fn admits(page: &PageMeta, number: i64) -> Option<bool> {
    match (&page.min, &page.max) {
        (Some(Datum::Int(min)), Some(Datum::Int(max))) => Some((*min..=*max).contains(&number)),
        _ => None,
    }
}

/// The one value of a column of whole numbers.
pub(crate) fn whole_number(column: &ArrayRef) -> Option<i64> {
    match column.data_type() {
        _ if column.len() != 1 || column.is_null(0) => None,
        DataType::Int16 => Some(column.as_primitive::<Int16Type>().value(0).into()),
        DataType::Int32 => Some(column.as_primitive::<Int32Type>().value(0).into()),
        DataType::Int64 => Some(column.as_primitive::<Int64Type>().value(0)),
        _ => None,
    }
}

fn unpacked<'a>(columns: Vec<ArrayRef>, types: impl Iterator<Item = &'a DataType>) -> Result<Vec<ArrayRef>, SqlError> {
    columns.iter().zip(types).map(|(column, data_type)| unpack(column, data_type)).collect::<Result<_, _>>().map_err(arrow_error)
}

/// Columns of a row group, by their positions in the table; packed.
async fn columns(
    source: &PageColumns,
    table: &TableDef,
    segment: &Arc<SegmentMeta>,
    row_group: usize,
    positions: &[usize],
) -> Result<Vec<ArrayRef>, SqlError> {
    let mut columns = vec![];
    let mut missing = vec![];
    for (i, &position) in positions.iter().enumerate() {
        let resident = source.resident(segment, row_group, &table.columns[position]);
        if resident.is_none() {
            missing.push(i);
        }
        columns.push(resident);
    }
    if !missing.is_empty() {
        let read = missing.iter().map(|&i| source.column(segment, row_group, &table.columns[positions[i]]));
        let read = futures::future::try_join_all(read).await.map_err(scan_error)?;
        for (i, (array, _, _)) in missing.into_iter().zip(read) {
            columns[i] = Some(array);
        }
    }
    Ok(columns.into_iter().flatten().collect())
}

/// The positions of a row group's rows with a key (one row of the key's columns), deleted rows among them: by binary search in the order of
/// the key's first column.
pub(crate) async fn matching(
    source: &PageColumns,
    table: &TableDef,
    key: &UniqueKey,
    wanted: &RecordBatch,
    segment: &Arc<SegmentMeta>,
    row_group: usize,
) -> Result<Vec<usize>, SqlError> {
    let columns = columns(source, table, segment, row_group, &key.positions).await?;
    let columns = unpacked(columns, wanted.schema_ref().fields().iter().map(|field| field.data_type()))?;
    let column = table.columns[key.positions[0]].id;
    let order = source.page_order(segment, row_group, column, &columns[0]).map_err(scan_error)?;
    let ranks = equal_ranks(&order, &columns[0], wanted.column(0))?;
    if ranks.is_empty() || key.positions.len() == 1 {
        return Ok(ranks.map(|rank| order.position(rank)).collect());
    }
    let (from, count) = (ranks.start, ranks.len());
    let candidates: Vec<ArrayRef> = match &order {
        Order::Stored => columns.iter().map(|column| column.slice(from, count)).collect(),
        Order::By(positions) => {
            let positions = positions.slice(from, count);
            columns.iter().map(|column| take(column, &positions, None)).collect::<Result<_, _>>().map_err(arrow_error)?
        }
    };
    let schema = wanted.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    let candidates = RecordBatch::try_new(Arc::new(Schema::new(schema)), candidates).map_err(arrow_error)?;
    Ok(equal_rows(&candidates, wanted)?.into_iter().map(|rank| order.position(from + rank)).collect())
}

/// The ranks of a column's values that equal the one of `wanted`.
fn equal_ranks(order: &Order, column: &ArrayRef, wanted: &ArrayRef) -> Result<Range<usize>, SqlError> {
    let of_numbers = match column.data_type() {
        _ if column.null_count() > 0 => None,
        DataType::Int16 => equal_numbers::<Int16Type>(order, column, wanted),
        DataType::Int32 => equal_numbers::<Int32Type>(order, column, wanted),
        DataType::Int64 => equal_numbers::<Int64Type>(order, column, wanted),
        _ => None,
    };
    if let Some(ranks) = of_numbers {
        return Ok(ranks);
    }
    let options = SortOptions { descending: false, nulls_first: false };
    let compare = make_comparator(column, wanted, options).map_err(arrow_error)?;
    let from = order.partition_point(column.len(), |position| compare(position, 0).is_lt());
    let to = order.partition_point(column.len(), |position| compare(position, 0).is_le());
    Ok(from..to)
}

/// Likewise, of numbers without NULLs: no comparator is made for each row group, most of which have no such value.
fn equal_numbers<T: ArrowPrimitiveType>(order: &Order, column: &ArrayRef, wanted: &ArrayRef) -> Option<Range<usize>> {
    let (values, wanted) = (column.as_primitive_opt::<T>()?.values(), wanted.as_primitive_opt::<T>()?.value(0));
    let from = order.partition_point(values.len(), |position| values[position] < wanted);
    if from == values.len() || values[order.position(from)] != wanted {
        return Some(from..from);
    }
    Some(from..order.partition_point(values.len(), |position| values[position] <= wanted))
}

/// The positions of rows that equal the one of `wanted` in every column.
pub(crate) fn equal_rows(rows: &RecordBatch, wanted: &RecordBatch) -> Result<Vec<usize>, SqlError> {
    let mut equal: Option<arrow::array::BooleanArray> = None;
    for (column, value) in rows.columns().iter().zip(wanted.columns()) {
        let same = cmp::eq(column, &arrow::array::Scalar::new(value.slice(0, 1))).map_err(arrow_error)?;
        equal = Some(match equal {
            Some(equal) => arrow::compute::and(&equal, &same).map_err(arrow_error)?,
            None => same,
        });
    }
    Ok(equal.map(|e| (0..e.len()).filter(|&i| e.is_valid(i) && e.value(i)).collect()).unwrap_or_default())
}
