//! Row groups in which the order of an indexed column finds the few rows that predicates can leave.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Int64Type;
use datafusion_physical_expr::utils::split_conjunction;
use datafusion_physical_expr_common::physical_expr::{snapshot_generation, snapshot_physical_expr};
use quire_segment::unpack;
use quire_types::SegmentMeta;

use super::{Reader, Scan, Slice};
use crate::branches::any_branch;
use crate::morsel::{Part, implicit_first, may_have_deletes};
use crate::seek::Seek;
use crate::{Order, ScanCounters, ScanError};

/// Found rows are few when they are at most one in so many. Taking rows one by one costs several times as much as comparing
/// them in a row, so for more of them all are looked at.
const ROWS_PER_FOUND: usize = 32;

impl Scan {
    /// What the predicates look for in columns that indexes begin with, with dynamic filters as they are now.
    pub(super) fn seeks(&self) -> Result<Arc<Vec<Seek>>, ScanError> {
        let Some(predicate) = self.pruning.as_ref().filter(|_| self.indexed) else { return Ok(Arc::default()) };
        let generation = if self.dynamic { snapshot_generation(predicate) } else { 0 };
        let mut known = self.seeks.lock();
        if let Some((of, seeks)) = &*known
            && *of == generation
        {
            return Ok(seeks.clone());
        }
        let mut seeks = Seek::of(&split_conjunction(predicate), &self.spec.table);
        if self.dynamic {
            let now = any_branch(&snapshot_physical_expr(predicate.clone())?);
            seeks = Seek::with_dynamic(Seek::of(&split_conjunction(&now), &self.spec.table), &seeks);
        }
        let seeks = Arc::new(seeks);
        *known = Some((generation, seeks.clone()));
        Ok(seeks)
    }

    /// The positions of a row group's rows that predicates can leave, deleted rows among them; `None` when no order tells, or when they
    /// are many. Columns that were read for it are in `columns` then.
    pub(super) async fn find_by_index(
        &self,
        segment: &Arc<SegmentMeta>,
        row_group: usize,
        columns: &mut HashMap<usize, ArrayRef>,
    ) -> Result<Option<Vec<u32>>, ScanError> {
        let seeks = self.seeks()?;
        let group = &segment.row_groups[row_group];
        for seek in seeks.iter() {
            let column = self.column(seek.column);
            // A column that came later is one value here.
            let Some(ordinal) = segment.column_ordinal(column.id) else { continue };
            let data_type = column.ty.arrow();
            if !seek.may_be_few(&group.pages[ordinal], &data_type) {
                continue;
            }
            let is_sorted = group.pages[ordinal].nulls == 0 && self.source.sorted_by(segment)? == Some(column.id);
            if seek.only_where_sorted && !is_sorted {
                continue;
            }
            self.read_columns(segment, row_group, &[seek.column], columns).await?;
            let values = unpack(&columns[&seek.column], &data_type)?;
            if *values.data_type() != data_type {
                continue;
            }
            let order = if is_sorted { Some(Order::Stored) } else { self.source.order(segment, row_group, column, &values)? };
            let Some(order) = order else { continue };
            let most = (values.len() / ROWS_PER_FOUND).max(1);
            if let Some(found) = seek.positions(&order, &values, most)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The row ids at some positions of a row group.
    async fn ids_at(
        &self,
        segment: &Arc<SegmentMeta>,
        row_group: usize,
        first_row: u64,
        positions: &UInt32Array,
    ) -> Result<ArrayRef, ScanError> {
        match implicit_first(segment, first_row) {
            Some(first) => {
                let ids = positions.values().iter().map(|position| (first.0 + u64::from(*position)) as i64);
                Ok(Arc::new(Int64Array::from_iter_values(ids)))
            }
            None => {
                let ids = self.source.row_ids(segment, row_group).await?;
                Ok(take(&ids, positions, None)?)
            }
        }
    }

    /// The positions whose rows are not deleted.
    async fn undeleted_at(
        &self,
        segment: &Arc<SegmentMeta>,
        row_group: usize,
        first_row: u64,
        positions: UInt32Array,
    ) -> Result<UInt32Array, ScanError> {
        if !may_have_deletes(&self.deleted, segment) {
            return Ok(positions);
        }
        let ids = self.ids_at(segment, row_group, first_row, &positions).await?;
        let live = self.deleted.absent_of(ids.as_primitive::<Int64Type>().values());
        let positions = positions.values().iter().zip(live).filter(|(_, live)| *live);
        Ok(UInt32Array::from_iter_values(positions.map(|(position, _)| *position)))
    }
}

impl Reader {
    /// Gives those of the rows at some positions of a part that satisfy every predicate.
    pub(super) async fn found(
        &mut self,
        segment: &Arc<SegmentMeta>,
        row_group: usize,
        first_row: u64,
        part: Part,
        positions: Vec<u32>,
        mut columns: HashMap<usize, ArrayRef>,
    ) -> Result<(), ScanError> {
        let scan = self.scan.clone();
        let found = positions.len();
        let mut taken: HashMap<usize, ArrayRef> = HashMap::with_capacity(scan.filter_columns.len() + scan.payload_columns.len());
        let positions = match found {
            0 => UInt32Array::from(positions),
            _ => scan.undeleted_at(segment, row_group, first_row, UInt32Array::from(positions)).await?,
        };
        let mut slices = vec![];
        if !positions.is_empty() {
            scan.read_columns(segment, row_group, &scan.filter_columns, &mut columns).await?;
            for &index in &scan.filter_columns {
                taken.insert(index, take(&columns[&index], &positions, None)?);
            }
            slices = self.select_slices(0..positions.len(), None, &taken)?;
        }
        let left: usize = slices.iter().map(Slice::survivors).sum();
        ScanCounters::add(&scan.counters.rows_by_index, found);
        ScanCounters::add(&scan.counters.rows_scanned, found);
        ScanCounters::add(&scan.counters.rows_filtered, found - left);
        let rows = segment.row_groups[row_group].rows as usize;
        scan.counters.touched(scan.filter_columns.iter().filter_map(|index| columns.get(index)), found, rows);
        scan.read_row_groups.fetch_add(1, Ordering::Relaxed);
        if left == 0 {
            ScanCounters::add(&scan.counters.row_groups_filtered, usize::from(part.is_first()));
            return Ok(());
        }
        scan.survived_row_groups.fetch_add(1, Ordering::Relaxed);
        scan.read_columns(segment, row_group, &scan.payload_columns, &mut columns).await?;
        scan.counters.touched(scan.payload_columns.iter().filter_map(|index| columns.get(index)), left, rows);
        for &index in &scan.payload_columns {
            taken.insert(index, take(&columns[&index], &positions, None)?);
        }
        if scan.row_ids {
            let ids = scan.ids_at(segment, row_group, first_row, &positions).await?;
            taken.insert(scan.spec.table.columns.len(), ids);
        }
        for slice in slices.into_iter().filter(|s| s.survivors() > 0) {
            self.give(slice, |index| taken[&index].clone())?;
        }
        Ok(())
    }
}
