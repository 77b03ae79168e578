//! Decoded columns and delta rows for the scan: the page cache in front of the storage client.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;
use quire_cache::{CacheError, PageCache};
use quire_client::StorageClient;
use quire_scan::{ColumnSource, Order, ScanError, Tier};
use quire_segment::{Footer, RowDecoder, decode_packed};
use quire_types::{ColumnDef, ColumnId, Lsn, PageError, PageId, ROW_ID_COLUMN, SegmentId, SegmentMeta, SqlType, TableDef, TableView};

use crate::delta_runs::{DeltaRuns, Run};
use crate::statistics::ManifestStatistics;

/// Parsed footers kept; one is some tens of kilobytes, so this is about 100 MB, the footers of 4 billion rows.
const FOOTERS_MAX: usize = 4096;
/// From storage nodes' caches a page comes in 1 or 2 ms, from an object store in 10 to 50.
const FAR: Duration = Duration::from_millis(5);
/// Key columns whose order is remembered: a few bytes each where they ascend, else 4 bytes a row, which is 256 MiB in all.
const ORDERS_MAX: usize = 100_000;
const ORDERED_ROWS_MAX: usize = 64 << 20;
/// So many pages are scanned without an order when no more is kept; then all orders are forgotten. A scan of more rows than that would
/// otherwise sort all its pages each time, which takes a hundred times as long as going through them.
const REFUSED_MAX: usize = 10_000;

/// [`ColumnSource`] of a compute node.
pub(crate) struct PageColumns {
    cache: PageCache,
    client: StorageClient,
    footers: Mutex<HashMap<SegmentId, Arc<Footer>>>,
    deltas: DeltaRuns,
    rows: RowDecoder,
    orders: Mutex<Orders>,
    pub(crate) statistics: ManifestStatistics,
}

#[derive(Default)]
struct Orders {
    pages: HashMap<PageId, Order>,
    rows: usize,
    /// Pages that scans wanted an order of when there was no room.
    refused: usize,
}

impl Orders {
    fn has_room(&self, rows: usize) -> bool {
        self.pages.len() < ORDERS_MAX && self.rows + rows <= ORDERED_ROWS_MAX
    }
}

impl PageColumns {
    pub(crate) fn new(cache: PageCache, client: StorageClient) -> PageColumns {
        PageColumns {
            cache,
            client,
            footers: Mutex::default(),
            deltas: DeltaRuns::default(),
            rows: RowDecoder::default(),
            orders: Mutex::default(),
            statistics: ManifestStatistics::default(),
        }
    }

    pub(crate) fn cache(&self) -> &PageCache {
        &self.cache
    }

    fn footer(&self, segment: &SegmentMeta) -> Result<Arc<Footer>, ScanError> {
        if let Some(footer) = self.footers.lock().get(&segment.id) {
            return Ok(footer.clone());
        }
        let footer = Footer::parse(segment).map_err(|e| decode_error(format!("footer of segment {:016x}", segment.id.0), e))?;
        let footer = Arc::new(footer);
        let mut footers = self.footers.lock();
        if footers.len() >= FOOTERS_MAX {
            footers.clear();
        }
        footers.insert(segment.id, footer.clone());
        Ok(footer)
    }

    async fn page(
        &self,
        segment: &Arc<SegmentMeta>,
        row_group: usize,
        column: ColumnId,
        ty: SqlType,
    ) -> Result<Option<(ArrayRef, Tier, u64)>, ScanError> {
        let Some(read) = segment.page_read(row_group, column) else { return Ok(None) };
        let footer = self.footer(segment)?;
        let meta = segment.clone();
        let decode = move |bytes| decode_packed(&footer, &meta, row_group, column, ty, bytes).map_err(|e| e.to_string());
        let (array, tier) = match self.cache.decoded(read, decode).await {
            Ok(page) => page,
            Err(CacheError::Page(error @ PageError::Missing { .. })) => return Err(self.missing(segment, error).await),
            Err(CacheError::Page(error)) => return Err(ScanError::Page(error)),
            Err(other) => return Err(decode_error(format!("page {}", read.page), other)),
        };
        Ok(Some(match tier {
            quire_cache::Tier::Memory => (array, Tier::Memory, 0),
            quire_cache::Tier::Disk => (array, Tier::Disk, u64::from(read.length)),
            quire_cache::Tier::Remote => (array, Tier::Remote, u64::from(read.length)),
        }))
    }

    /// Why an object is not there: a segment that a new snapshot names is lost; another was compacted or truncated, and is kept no longer.
    async fn missing(&self, segment: &SegmentMeta, error: PageError) -> ScanError {
        let Ok(view) = self.client.snapshot().await else { return ScanError::Page(error) };
        let named = view.tables.get(&segment.table).is_some_and(|rows| rows.segments.iter().any(|s| s.id == segment.id));
        match named {
            true => ScanError::Page(error),
            false => {
                let table = view.catalog.tables.get(&segment.table).map_or_else(|| segment.table.to_string(), |def| def.name.clone());
                ScanError::SnapshotTooOld { table }
            }
        }
    }

    /// The rows of a view's delta, in the schema of the table. What is not here yet is read in one request.
    pub(crate) async fn delta_runs(&self, table: &Arc<TableDef>, view: &TableView, lsn: Lsn) -> Result<Vec<Arc<Run>>, ScanError> {
        loop {
            let (runs, missing) = self.deltas.cover(table, view);
            if missing.is_empty() {
                return Ok(runs);
            }
            let failed = |reason: String| ScanError::Delta { table: table.name.clone(), reason };
            let streams = self.client.deltas(table.id, &missing, lsn).await.map_err(|e| failed(e.to_string()))?;
            let mut batches = Vec::with_capacity(missing.len());
            for (delta, stream) in missing.into_iter().zip(streams) {
                let Some(bytes) = stream else { return Err(ScanError::SnapshotTooOld { table: table.name.clone() }) };
                let batch = self.rows.decode(&bytes).map_err(|e| decode_error(format!("delta of table {}", table.name), e))?;
                batches.push((delta, widen(table, batch)?));
            }
            self.deltas.insert(table, batches).map_err(|e| failed(e.message))?;
        }
    }

    /// The rows of a view's delta, in the schema of the table, if none has to be asked for.
    pub(crate) fn delta_at_hand(&self, table: &Arc<TableDef>, view: &TableView) -> Option<Vec<RecordBatch>> {
        let (runs, missing) = self.deltas.cover(table, view);
        missing.is_empty().then(|| runs.iter().map(|run| run.rows.clone()).collect())
    }

    /// In which order a column of a row group ascends. This is what an index is here: segments never change, so a page is sorted once, when
    /// somebody first looks for a value in it, and its order is kept in memory.
    pub(crate) fn page_order(
        &self,
        segment: &SegmentMeta,
        row_group: usize,
        column: ColumnId,
        values: &ArrayRef,
    ) -> Result<Order, ScanError> {
        let page = PageId { segment: segment.id, row_group: row_group as u32, column };
        if let Some(order) = self.orders.lock().pages.get(&page) {
            return Ok(order.clone());
        }
        let order = Order::of(values)?;
        let rows = order.rows_kept();
        let mut known = self.orders.lock();
        if !known.has_room(rows) {
            *known = Orders::default();
        }
        known.rows += rows;
        known.pages.insert(page, order.clone());
        Ok(order)
    }
}

fn decode_error(what: String, reason: impl ToString) -> ScanError {
    ScanError::Decode { what, reason: reason.to_string() }
}

/// What rows hold in a column that was added after they were stored.
fn missing(column: &ColumnDef, rows: usize) -> Result<ArrayRef, ScanError> {
    quire_segment::missing_values(column, rows).map_err(|e| decode_error(format!("column {}", column.name), e))
}

/// A batch written under another definition, in the shape of this one: columns by id, those that it lacks as they are missing.
pub(crate) fn widen(table: &TableDef, batch: RecordBatch) -> Result<RecordBatch, ScanError> {
    let schema = table.arrow_schema();
    if batch.schema().fields().len() == schema.fields().len()
        && batch.schema().fields().iter().zip(schema.fields()).all(|(a, b)| a.data_type() == b.data_type() && column_id(a) == column_id(b))
    {
        return Ok(RecordBatch::try_new(schema, batch.columns().to_vec())?);
    }
    let old = batch.schema();
    let columns = schema.fields().iter().zip(&table.columns).map(|(field, column)| {
        let position = old.fields().iter().position(|f| column_id(f) == column_id(field));
        match position {
            Some(position) => Ok(cast(batch.column(position), field.data_type())?),
            None => missing(column, batch.num_rows()),
        }
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<Vec<_>, ScanError>>()?)?)
}

fn column_id(field: &arrow::datatypes::Field) -> Option<&String> {
    field.metadata().get(quire_types::FIELD_COLUMN_ID)
}

#[async_trait]
impl ColumnSource for PageColumns {
    fn resident(&self, segment: &SegmentMeta, row_group: usize, column: &ColumnDef) -> Option<ArrayRef> {
        self.cache.decoded_if_resident(&PageId { segment: segment.id, row_group: row_group as u32, column: column.id })
    }

    fn is_far(&self, segment: &SegmentMeta, row_group: usize, column: &ColumnDef) -> bool {
        // a column that came later than the segment is nowhere
        self.cache.remote_latency() >= FAR && segment.page_read(row_group, column.id).is_some_and(|read| !self.cache.has(&read.page))
    }

    async fn column(&self, segment: &Arc<SegmentMeta>, row_group: usize, column: &ColumnDef) -> Result<(ArrayRef, Tier, u64), ScanError> {
        match self.page(segment, row_group, column.id, column.ty).await? {
            Some(page) => Ok(page),
            None => Ok((missing(column, segment.row_groups[row_group].rows as usize)?, Tier::Memory, 0)),
        }
    }

    async fn row_ids(&self, segment: &Arc<SegmentMeta>, row_group: usize) -> Result<ArrayRef, ScanError> {
        let page = self.page(segment, row_group, ROW_ID_COLUMN, SqlType::Int8).await?;
        page.map(|(array, _, _)| array).ok_or_else(|| decode_error(format!("segment {:016x}", segment.id.0), "it has no row id column"))
    }

    fn order(&self, segment: &SegmentMeta, row_group: usize, column: &ColumnDef, values: &ArrayRef) -> Result<Option<Order>, ScanError> {
        let page = PageId { segment: segment.id, row_group: row_group as u32, column: column.id };
        let mut known = self.orders.lock();
        if !known.has_room(values.len()) && !known.pages.contains_key(&page) && known.refused < REFUSED_MAX {
            known.refused += 1;
            return Ok(None);
        }
        drop(known);
        self.page_order(segment, row_group, column.id, values).map(Some)
    }

    fn sorted_by(&self, segment: &SegmentMeta) -> Result<Option<ColumnId>, ScanError> {
        Ok(self.footer(segment)?.sorted_by().first().copied())
    }
}
