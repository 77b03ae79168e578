//! Decoded columns and delta rows for the scan: the page cache in front of the storage client.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;
use quire_cache::{CacheError, PageCache};
use quire_client::StorageClient;
use quire_scan::{ColumnSource, ScanError, Tier};
use quire_segment::Footer;
use quire_types::{ColumnDef, ColumnId, DeltaMeta, Lsn, PageId, ROW_ID_COLUMN, RowId, SegmentId, SegmentMeta, SqlType, TableDef, TableId};

/// Parsed footers kept; one is some tens of kilobytes, so this is about 100 MB, the footers of 4 billion rows.
const FOOTERS_MAX: usize = 4096;
/// Decoded delta bytes kept. The sealer keeps deltas below this in steady state.
const DELTA_BYTES_MAX: usize = 256 << 20;

/// [`ColumnSource`] of a compute node.
pub(crate) struct PageColumns {
    cache: PageCache,
    client: StorageClient,
    footers: Mutex<HashMap<SegmentId, Arc<Footer>>>,
    deltas: Mutex<DeltaCache>,
}

/// Decoded delta batches, dropped all together when they outgrow their budget: they are small and cheap to read again.
#[derive(Default)]
struct DeltaCache {
    batches: HashMap<(TableId, RowId), RecordBatch>,
    bytes: usize,
}

impl PageColumns {
    pub(crate) fn new(cache: PageCache, client: StorageClient) -> PageColumns {
        PageColumns { cache, client, footers: Mutex::default(), deltas: Mutex::default() }
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
        let decode = move |bytes| quire_segment::decode(&footer, &meta, row_group, column, ty, bytes).map_err(|e| e.to_string());
        let (array, tier) = self.cache.decoded(read, decode).await.map_err(|error| match error {
            CacheError::Page(error) => ScanError::Page(error),
            other => decode_error(format!("page {}", read.page), other),
        })?;
        Ok(Some(match tier {
            quire_cache::Tier::Memory => (array, Tier::Memory, 0),
            quire_cache::Tier::Disk => (array, Tier::Disk, u64::from(read.length)),
            quire_cache::Tier::Remote => (array, Tier::Remote, u64::from(read.length)),
        }))
    }

    fn cached_delta(&self, table: TableId, first: RowId) -> Option<RecordBatch> {
        self.deltas.lock().batches.get(&(table, first)).cloned()
    }

    fn keep_delta(&self, table: TableId, first: RowId, batch: &RecordBatch) {
        let size = batch.get_array_memory_size();
        let mut deltas = self.deltas.lock();
        if deltas.bytes + size > DELTA_BYTES_MAX {
            *deltas = DeltaCache::default();
        }
        if deltas.batches.insert((table, first), batch.clone()).is_none() {
            deltas.bytes += size;
        }
    }

    /// Reads every delta batch of a scan that is not cached, in one request.
    pub(crate) async fn prefetch_deltas(&self, table: &Arc<TableDef>, deltas: &[DeltaMeta], lsn: Lsn) -> Result<(), ScanError> {
        let missing: Vec<DeltaMeta> = deltas.iter().filter(|d| self.cached_delta(table.id, d.first).is_none()).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let failed = |reason: String| ScanError::Delta { table: table.name.clone(), reason };
        let streams = self.client.deltas(table.id, &missing, lsn).await.map_err(|e| failed(e.to_string()))?;
        for (delta, stream) in missing.iter().zip(streams) {
            let Some(bytes) = stream else { return Err(ScanError::SnapshotTooOld { table: table.name.clone() }) };
            let batch = read_stream(&bytes).map_err(|e| decode_error(format!("delta of table {}", table.name), e))?;
            self.keep_delta(table.id, delta.first, &batch);
        }
        Ok(())
    }
}

fn decode_error(what: String, reason: impl ToString) -> ScanError {
    ScanError::Decode { what, reason: reason.to_string() }
}

/// An Arrow IPC stream as one batch.
fn read_stream(bytes: &[u8]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let reader = StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    arrow::compute::concat_batches(&schema, &batches)
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

    async fn delta(&self, table: &Arc<TableDef>, delta: DeltaMeta, lsn: Lsn) -> Result<RecordBatch, ScanError> {
        loop {
            if let Some(batch) = self.cached_delta(table.id, delta.first) {
                return widen(table, batch);
            }
            self.prefetch_deltas(table, &[delta], lsn).await?;
        }
    }
}
