//! Taking morsels, reading them, giving batches.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{BatchCoalescer, FilterBuilder, take};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::utils::conjunction;
use datafusion_physical_expr_common::physical_expr::snapshot_generation;
use datafusion_pruning::PruningPredicate;
use futures::future::try_join_all;
use futures::stream::{self, Stream, StreamExt};
use parking_lot::Mutex;
use quire_segment::unpack;
use quire_types::{ColumnDef, ColumnId, RowId, RowSet, SegmentId, SegmentMeta};

use crate::key_ranges::Taken;
use crate::mask::{Tally, select};
use crate::morsel::{Morsel, Part, implicit_first, may_have_deletes};
use crate::prune::{of_bounds, surviving_row_groups};
use crate::seek::Seek;
use crate::spec::is_dynamic;
use crate::verdicts::Verdicts;
use crate::{ColumnSource, Predicate, ScanCounters, ScanError, ScanSpec, Tier};

mod ahead;
mod by_index;
mod strays;
#[cfg(test)]
mod tests;

use ahead::Ahead;
use strays::Strays;

/// Strays that a stream keeps when a range ends, at most, to give them with the next one's rows.
const STRAYS_KEPT: usize = 1 << 16;

/// Of a slice with one survivor in more rows than this, the survivors are taken first and unpacked then.
const UNPACK_ALL_ABOVE: usize = 4;

/// A scan under way, shared by its partitions.
pub struct Scan {
    spec: ScanSpec,
    source: Arc<dyn ColumnSource>,
    counters: Arc<ScanCounters>,
    output: SchemaRef,
    /// All predicates as one expression over the table's schema, for statistics.
    pruning: Option<Arc<dyn PhysicalExpr>>,
    /// Whether `pruning` sharpens while the query runs.
    dynamic: bool,
    /// Table columns that predicates read.
    filter_columns: Vec<usize>,
    /// Table columns that are wanted and no predicate reads.
    payload_columns: Vec<usize>,
    /// Whether the row id is wanted.
    row_ids: bool,
    /// Rows that are not to be seen.
    deleted: RowSet,
    morsels: Vec<Morsel>,
    /// The next morsel to take, or the next range of the key.
    next: AtomicUsize,
    ahead: Ahead,
    /// Pages that this scan has moved and counted: segment, row group and position of the column. Who reads one that was prefetched finds it
    /// in memory, but that is not where it came from.
    moved: Mutex<HashSet<(SegmentId, usize, usize)>>,
    read_row_groups: AtomicUsize,
    survived_row_groups: AtomicUsize,
    pruned: Mutex<Pruned>,
    /// Whether predicates read a column that an index begins with.
    indexed: bool,
    /// What to look for in such columns, and the generation of `pruning` that says so.
    seeks: Mutex<Option<(u64, Arc<Vec<Seek>>)>>,
    /// For each predicate.
    tallies: Vec<Tally>,
    rows_given: AtomicUsize,
    /// Streams that have been made, and those that are still read.
    streams: AtomicUsize,
    readers: AtomicUsize,
}

/// The verdicts of pruning, kept until a dynamic filter changes.
#[derive(Default)]
struct Pruned {
    /// The generation of the filter, and what it says of bounds; nothing before anybody asked.
    predicate: Option<(u64, Option<Arc<PruningPredicate>>)>,
    /// Row groups that survive, by segment id.
    verdicts: HashMap<SegmentId, Arc<Vec<bool>>>,
    /// Segments of which nothing survived, and which have been counted.
    counted: HashSet<SegmentId>,
}

impl Scan {
    /// Lists the work. `pruning` are the same predicates as in the spec, over the table's whole schema.
    pub fn new(
        mut spec: ScanSpec,
        pruning: Vec<Arc<dyn PhysicalExpr>>,
        source: Arc<dyn ColumnSource>,
        counters: Arc<ScanCounters>,
    ) -> Result<Arc<Scan>, ScanError> {
        spec.predicates.sort_by_key(Predicate::cost);
        let filter_columns: BTreeSet<usize> = spec.predicates.iter().flat_map(|p| p.columns.iter().copied()).collect();
        let wanted: BTreeSet<usize> = spec.projection.iter().copied().filter(|&c| c < spec.table.columns.len()).collect();
        let payload_columns = wanted.difference(&filter_columns).copied().collect();
        let is_filtered = |id: ColumnId| filter_columns.iter().any(|&c| spec.table.columns.get(c).is_some_and(|column| column.id == id));
        let indexed = spec.table.indexes().any(|(_, _, columns)| columns.first().is_some_and(|id| is_filtered(*id)));
        let morsels = match &spec.ordered {
            Some(ranges) => ranges.morsels().to_vec(),
            None => all_morsels(&spec),
        };
        ScanCounters::add(&counters.row_groups, morsels.iter().filter(|morsel| morsel.begins_row_group()).count());
        let mut deleted = spec.view.deleted.clone();
        deleted.extend(spec.own.deleted.iter().map(RowId));
        let pruning = if pruning.is_empty() { None } else { Some(conjunction(pruning)) };
        Ok(Arc::new(Scan {
            output: spec.output_schema()?,
            dynamic: pruning.as_ref().is_some_and(is_dynamic),
            pruning,
            filter_columns: filter_columns.into_iter().collect(),
            payload_columns,
            row_ids: spec.projection.contains(&spec.table.columns.len()),
            deleted,
            tallies: spec.predicates.iter().map(|_| Tally::default()).collect(),
            spec,
            source,
            counters,
            morsels,
            next: AtomicUsize::new(0),
            ahead: Ahead::default(),
            moved: Mutex::default(),
            read_row_groups: AtomicUsize::new(0),
            survived_row_groups: AtomicUsize::new(0),
            pruned: Mutex::default(),
            indexed,
            seeks: Mutex::default(),
            rows_given: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
        }))
    }

    /// One partition's batches. Every morsel is given to exactly one of the streams made from a scan, and so is every range of the key.
    pub fn partition(self: &Arc<Self>) -> impl Stream<Item = Result<RecordBatch, ScanError>> + Send + use<> {
        let coalescer =
            BatchCoalescer::new(self.output.clone(), self.spec.batch_rows).with_biggest_coalesce_batch_size(Some(self.spec.batch_rows / 2));
        self.readers.fetch_add(1, Ordering::Relaxed);
        self.streams.fetch_add(1, Ordering::Relaxed);
        let key = self.spec.ordered_by();
        let reader = Reader {
            scan: self.clone(),
            taken: Taken::default(),
            strays: key.map(|key| Strays::new(key, RecordBatch::new_empty(self.output.clone()))),
            at_strays: false,
            coalescer,
            ready: VecDeque::new(),
            done: false,
        };
        stream::try_unfold(reader, |mut reader| async move { Ok(reader.next().await?.map(|batch| (batch, reader))) }).fuse()
    }

    /// Morsels that nobody has taken, to be read by one stream; none when all are taken.
    fn take(&self) -> Taken {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        match &self.spec.ordered {
            Some(ranges) => ranges.range(next),
            None => Taken { strays: 0..0, in_order: next..self.morsels.len().min(next + 1) },
        }
    }

    /// Whether it has been read, and is not any more: prefetching stops.
    fn is_over(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0 && self.readers.load(Ordering::Relaxed) == 0
    }

    pub(super) fn column(&self, index: usize) -> &ColumnDef {
        &self.spec.table.columns[index]
    }

    /// True when statistics exclude the row group, with dynamic filters as they are now.
    fn is_pruned(&self, segment: &SegmentMeta, row_group: usize) -> Result<bool, ScanError> {
        let Some(predicate) = &self.pruning else { return Ok(false) };
        let generation = if self.dynamic { snapshot_generation(predicate) } else { 0 };
        let mut pruned = self.pruned.lock();
        if pruned.predicate.as_ref().is_none_or(|(of, _)| *of != generation) {
            pruned.predicate = Some((generation, of_bounds(predicate, &self.spec.schema)?));
            pruned.verdicts.clear();
        }
        if let Some(verdict) = pruned.verdicts.get(&segment.id) {
            return Ok(!verdict[row_group]);
        }
        let Some((_, Some(predicate))) = &pruned.predicate else { return Ok(false) };
        let verdict = surviving_row_groups(predicate, &self.spec.table, &self.spec.schema, segment);
        if row_group == 0 && verdict.iter().all(|survives| !survives) && pruned.counted.insert(segment.id) {
            ScanCounters::add(&self.counters.segments_pruned, 1);
        }
        let survives = verdict[row_group];
        pruned.verdicts.insert(segment.id, Arc::new(verdict));
        Ok(!survives)
    }

    /// Counts a page, once for all who wait for the same read of it.
    fn count(&self, place: (SegmentId, usize, usize), tier: Tier, bytes: u64, page: &ArrayRef) {
        let mut moved = self.moved.lock();
        let counted = if tier == Tier::Memory { moved.contains(&place) } else { !moved.insert(place) };
        drop(moved);
        if !counted {
            self.counters.page(tier, bytes, page);
        }
    }

    /// Reads columns, those that are in `into` already excepted.
    async fn read_columns(
        &self,
        segment: &Arc<SegmentMeta>,
        row_group: usize,
        columns: &[usize],
        into: &mut HashMap<usize, ArrayRef>,
    ) -> Result<(), ScanError> {
        let mut missing = Vec::new();
        for &index in columns {
            if into.contains_key(&index) {
                continue;
            }
            match self.source.resident(segment, row_group, self.column(index)) {
                Some(array) => {
                    self.count((segment.id, row_group, index), Tier::Memory, 0, &array);
                    into.insert(index, array);
                }
                None => missing.push(index),
            }
        }
        let fetched = try_join_all(missing.iter().map(|&index| self.source.column(segment, row_group, self.column(index)))).await?;
        for (index, (array, tier, bytes)) in missing.into_iter().zip(fetched) {
            self.count((segment.id, row_group, index), tier, bytes, &array);
            into.insert(index, array);
        }
        Ok(())
    }

    /// The positions of a part's rows. The key's column is in `columns` then, if it had to be read.
    async fn positions(
        &self,
        segment: &Arc<SegmentMeta>,
        row_group: usize,
        part: Part,
        columns: &mut HashMap<usize, ArrayRef>,
    ) -> Result<Range<usize>, ScanError> {
        let Some(ranges) = self.spec.ordered.as_ref().filter(|_| part != Part::ALL) else {
            return Ok(0..segment.row_groups[row_group].rows as usize);
        };
        self.read_columns(segment, row_group, &[ranges.column()], columns).await?;
        part.positions(&columns[&ranges.column()])
    }
}

/// Which of some rows of a row group are not deleted; `None` when none is. `first_row` is how many rows of the segment are before the row
/// group.
pub async fn undeleted_rows(
    segment: &Arc<SegmentMeta>,
    row_group: usize,
    first_row: u64,
    rows: &Range<usize>,
    deleted: &RowSet,
    source: &dyn ColumnSource,
) -> Result<Option<BooleanBuffer>, ScanError> {
    if !may_have_deletes(deleted, segment) {
        return Ok(None);
    }
    Ok(match implicit_first(segment, first_row) {
        Some(first) => deleted.absent(RowId(first.0 + rows.start as u64), rows.len()),
        None => {
            let ids = source.row_ids(segment, row_group).await?;
            Some(deleted.absent_of(&ids.as_primitive::<Int64Type>().values()[rows.clone()]).collect())
        }
    })
}

/// What there is to read, in no order.
fn all_morsels(spec: &ScanSpec) -> Vec<Morsel> {
    let row_groups = spec.segments().flat_map(Morsel::row_groups);
    let beside = spec.rows().map(|(first, rows)| Morsel::Rows { rows: rows.clone(), first, positions: None });
    row_groups.chain(beside).collect()
}

/// The ids of `rows` rows from `first` on, as a column.
fn consecutive_ids(first: RowId, rows: usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values((first.0..first.0 + rows as u64).map(|id| id as i64)))
}

/// One partition's state between batches.
struct Reader {
    scan: Arc<Scan>,
    /// Morsels that it has taken and not begun to read.
    taken: Taken,
    /// In order of the key: what is merged with the rows of the coalescer.
    strays: Option<Strays>,
    /// Whether the rows that are read are strays.
    at_strays: bool,
    coalescer: BatchCoalescer,
    /// Batches to be given. Those without columns (`count(*)`) come here at once: a coalescer cannot hold them.
    ready: VecDeque<RecordBatch>,
    done: bool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.scan.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RecordBatch>, ScanError> {
        loop {
            self.collect()?;
            if let Some(batch) = self.ready.pop_front() {
                return Ok(self.limited(batch));
            }
            if self.done {
                return Ok(None);
            }
            if self.taken.is_empty() {
                self.taken = self.scan.take();
                // What is left of the strays comes before all that has been taken now.
                if self.strays.as_ref().is_some_and(|strays| strays.len() > STRAYS_KEPT) {
                    self.finish()?;
                }
            }
            let limit_reached = self.scan.spec.limit.is_some_and(|limit| self.scan.rows_given.load(Ordering::Relaxed) >= limit);
            self.at_strays = !self.taken.strays.is_empty();
            let Some(index) = self.taken.next().filter(|_| !limit_reached) else {
                self.done = true;
                self.finish()?;
                continue;
            };
            self.scan.look_ahead(index)?;
            let morsel = self.scan.morsels[index].clone();
            match morsel {
                Morsel::RowGroup { segment, row_group, first_row, part } => {
                    self.row_group(&segment, row_group, first_row, part).await?;
                }
                Morsel::Rows { rows, first, positions } => self.rows(&rows, first, positions.as_ref())?,
            }
        }
    }

    /// Makes batches that are full ready.
    fn collect(&mut self) -> Result<(), ScanError> {
        while let Some(batch) = self.coalescer.next_completed_batch() {
            match &mut self.strays {
                None => self.ready.push_back(batch),
                Some(strays) => {
                    let batch = strays.merged_with(&batch, None)?;
                    self.make_ready(&batch);
                }
            }
        }
        Ok(())
    }

    /// Makes all rows ready that have been read.
    fn finish(&mut self) -> Result<(), ScanError> {
        self.coalescer.finish_buffered_batch()?;
        self.collect()?;
        if let Some(strays) = &mut self.strays {
            let rest = strays.rest()?;
            self.make_ready(&rest);
        }
        Ok(())
    }

    /// In batches that are not too large.
    fn make_ready(&mut self, batch: &RecordBatch) {
        let rows = batch.num_rows();
        let step = rows.div_ceil(rows.div_ceil(self.scan.spec.batch_rows).max(1)).max(1);
        self.ready.extend((0..rows).step_by(step).map(|begin| batch.slice(begin, step.min(rows - begin))));
    }

    /// Cuts a batch at the limit shared by all partitions.
    fn limited(&mut self, batch: RecordBatch) -> Option<RecordBatch> {
        let Some(limit) = self.scan.spec.limit else { return Some(batch) };
        let before = self.scan.rows_given.fetch_add(batch.num_rows(), Ordering::Relaxed);
        let rows = limit.saturating_sub(before).min(batch.num_rows());
        if rows == 0 {
            self.done = true;
            return None;
        }
        Some(batch.slice(0, rows))
    }

    async fn row_group(&mut self, segment: &Arc<SegmentMeta>, row_group: usize, first_row: u64, part: Part) -> Result<(), ScanError> {
        let scan = self.scan.clone();
        if scan.is_pruned(segment, row_group)? {
            ScanCounters::add(&scan.counters.row_groups_pruned, usize::from(part.is_first()));
            return Ok(());
        }
        let mut columns = HashMap::with_capacity(scan.filter_columns.len() + scan.payload_columns.len());
        let wanted = scan.positions(segment, row_group, part, &mut columns).await?;
        if wanted.is_empty() {
            return Ok(());
        }
        if let Some(mut positions) = scan.find_by_index(segment, row_group, &mut columns).await? {
            positions.retain(|position| wanted.contains(&(*position as usize)));
            return self.found(segment, row_group, first_row, part, positions, columns).await;
        }
        let (rows, looked_at) = (segment.row_groups[row_group].rows as usize, wanted.len());
        let undeleted = undeleted_rows(segment, row_group, first_row, &wanted, &scan.deleted, scan.source.as_ref()).await?;
        scan.read_columns(segment, row_group, &scan.filter_columns, &mut columns).await?;
        let slices = self.select_slices(wanted, undeleted, &columns)?;
        let left: usize = slices.iter().map(Slice::survivors).sum();
        ScanCounters::add(&scan.counters.rows_scanned, looked_at);
        ScanCounters::add(&scan.counters.rows_filtered, looked_at - left);
        scan.counters.touched(scan.filter_columns.iter().filter_map(|index| columns.get(index)), looked_at, rows);
        scan.read_row_groups.fetch_add(1, Ordering::Relaxed);
        if left == 0 {
            ScanCounters::add(&scan.counters.row_groups_filtered, usize::from(part.is_first()));
            return Ok(());
        }
        scan.survived_row_groups.fetch_add(1, Ordering::Relaxed);
        scan.read_columns(segment, row_group, &scan.payload_columns, &mut columns).await?;
        scan.counters.touched(scan.payload_columns.iter().filter_map(|index| columns.get(index)), left, rows);
        if scan.row_ids {
            let ids = match implicit_first(segment, first_row) {
                Some(first) => consecutive_ids(first, rows),
                None => scan.source.row_ids(segment, row_group).await?,
            };
            columns.insert(scan.spec.table.columns.len(), ids);
        }
        for slice in slices.into_iter().filter(|s| s.survivors() > 0) {
            self.give(slice, |index| columns[&index].clone())?;
        }
        Ok(())
    }

    /// Evaluates the predicates slice by slice, so that intermediate results stay in the cache of the core. The mask is of just these rows.
    fn select_slices(
        &self,
        rows: Range<usize>,
        undeleted: Option<BooleanBuffer>,
        columns: &HashMap<usize, ArrayRef>,
    ) -> Result<Vec<Slice>, ScanError> {
        let (step, begin, end) = (self.scan.spec.batch_rows, rows.start, rows.end);
        let predicates = self.scan.spec.predicates.iter().zip(&self.scan.tallies);
        let verdicts: Vec<Option<Verdicts>> = predicates
            .map(|(predicate, tally)| {
                tally.look(predicate);
                tally.verdicts(predicate, |c| columns.get(&c).cloned())
            })
            .collect();
        let mut slices = Vec::with_capacity(rows.len().div_ceil(step));
        for offset in rows.step_by(step) {
            let length = step.min(end - offset);
            let start = undeleted.as_ref().map(|mask| mask.slice(offset - begin, length));
            let Scan { spec, tallies, counters, .. } = self.scan.as_ref();
            let mask = select(tallies, &verdicts, length, start, spec, counters, |c| columns[&c].slice(offset, length))?;
            slices.push(Slice { offset, length, mask });
        }
        Ok(slices)
    }

    /// Rows that are in no segment: all of a batch, or those at some positions.
    fn rows(&mut self, batch: &RecordBatch, first: RowId, positions: Option<&UInt32Array>) -> Result<(), ScanError> {
        let scan = self.scan.clone();
        let rows = positions.map_or(batch.num_rows(), Array::len);
        let mut columns = HashMap::with_capacity(scan.filter_columns.len() + scan.payload_columns.len());
        for &index in scan.filter_columns.iter().chain(&scan.payload_columns) {
            let column = batch.column(index);
            columns.insert(index, positions.map_or(Ok(column.clone()), |positions| take(column, positions, None))?);
        }
        let id = |position: &u32| RowId(first.0 + u64::from(*position));
        if scan.row_ids {
            let ids = match positions {
                None => consecutive_ids(first, rows),
                Some(at) => Arc::new(Int64Array::from_iter_values(at.values().iter().map(|position| id(position).0 as i64))),
            };
            columns.insert(scan.spec.table.columns.len(), ids);
        }
        let undeleted = match positions {
            None => scan.deleted.absent(first, rows),
            Some(at) => Some(BooleanBuffer::collect_bool(rows, |row| !scan.deleted.contains(id(&at.value(row))))),
        };
        let slices = self.select_slices(0..rows, undeleted, &columns)?;
        let left: usize = slices.iter().map(Slice::survivors).sum();
        let counters = &scan.counters;
        ScanCounters::add(&counters.rows_scanned, rows);
        ScanCounters::add(&counters.rows_delta, rows);
        counters.touched(scan.filter_columns.iter().filter_map(|index| columns.get(index)), rows, rows);
        counters.touched(scan.payload_columns.iter().filter_map(|index| columns.get(index)), left, rows);
        ScanCounters::add(&counters.rows_filtered, rows - left);
        for slice in slices.into_iter().filter(|s| s.survivors() > 0) {
            self.give(slice, |index| columns[&index].clone())?;
        }
        Ok(())
    }

    /// Puts a slice's surviving rows into the output: without copying when all survive.
    fn give(&mut self, slice: Slice, column: impl Fn(usize) -> ArrayRef) -> Result<(), ScanError> {
        if self.scan.spec.projection.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(slice.survivors()));
            self.ready.push_back(RecordBatch::try_new_with_options(self.scan.output.clone(), vec![], &options)?);
            return Ok(());
        }
        let survivors = slice.survivors();
        let mask = slice.mask.map(|mask| BooleanArray::new(mask, None));
        // Of few rows only these are unpacked.
        let early = mask.as_ref().filter(|_| survivors * UNPACK_ALL_ABOVE < slice.length).map(|mask| FilterBuilder::new(mask).build());
        let columns = self.scan.spec.projection.iter().zip(self.scan.output.fields()).map(|(&index, field)| {
            let stored = column(index).slice(slice.offset, slice.length);
            let stored = early.as_ref().map_or(Ok(stored.clone()), |filter| filter.filter(&stored))?;
            unpack(&stored, field.data_type())
        });
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        let rows = if early.is_some() { survivors } else { slice.length };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.scan.output.clone(), columns, &options)?;
        let mask = mask.filter(|_| early.is_none());
        if let Some(strays) = self.strays.as_mut().filter(|_| self.at_strays) {
            return strays.push(batch, mask.as_ref());
        }
        let is_merged = self.strays.as_ref().is_some_and(|strays| strays.len() > 0) && early.is_none();
        match mask {
            // Of many rows each is copied once: what has come before is given first.
            mask if is_merged => {
                self.coalescer.finish_buffered_batch()?;
                self.collect()?;
                if let Some(strays) = &mut self.strays {
                    let batch = strays.merged_with(&batch, mask.as_ref())?;
                    self.make_ready(&batch);
                }
            }
            None => self.coalescer.push_batch(batch)?,
            Some(mask) => self.coalescer.push_batch_with_filter(batch, &mask)?,
        }
        Ok(())
    }
}

/// Some rows of a morsel, and which of them survive (`None`: all).
struct Slice {
    offset: usize,
    length: usize,
    mask: Option<BooleanBuffer>,
}

impl Slice {
    fn survivors(&self) -> usize {
        self.mask.as_ref().map_or(self.length, BooleanBuffer::count_set_bits)
    }
}
