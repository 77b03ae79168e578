//! A scan in the order of the clustering key: the ranges of the key that its streams share out.
//!
//! Each segment is sorted, and where the row groups of most of them follow each other (bulk loads in order of the key, and what compaction
//! makes of a table), each begins a range of the key. The streams take the ranges in their order, as they take morsels otherwise; so each
//! gives its rows in ascending order, and rows with one key are all in one stream. The rows of a key often lie in two row groups. The
//! last ones of the first belong to the range that begins with the second: they are found by binary search, and nothing is written anew.
//!
//! Other rows are strays: those of segments that were sealed since the last compaction, of the delta, and of the transaction itself. Each
//! range has its share of them, found by binary search too, which the scan merges with the others ([`crate::scan`]).

use std::ops::Range;

use arrow::array::{Array, UInt32Array};
use arrow::record_batch::RecordBatch;
use quire_types::{ColumnId, Datum, PageMeta, RowId, TableDef};

use crate::morsel::{Keys, Morsel, Part};
use crate::{ColumnSource, ScanError, ScanSpec};

#[cfg(test)]
mod tests;

/// At least so many of the rows lie in order for each stray. A stray costs several times what another row does.
const IN_ORDER_FOR_STRAY: usize = 4;
/// Row groups that a range has strays of, at most: a stream holds its range's strays in memory.
const STRAY_ROW_GROUPS: usize = 64;

/// Ranges of the clustering key's first column, ascending, with the rows of each.
#[derive(Debug)]
pub struct KeyRanges {
    column: usize,
    row_groups: usize,
    /// The rows of one range after the other, of each the strays first.
    morsels: Vec<Morsel>,
    begins: Vec<Begin>,
}

/// Where a range begins among morsels.
#[derive(Debug)]
struct Begin {
    strays: usize,
    in_order: usize,
}

/// Morsels that one stream reads, in their order: first those of strays.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub strays: Range<usize>,
    pub in_order: Range<usize>,
}

impl Taken {
    pub(crate) fn is_empty(&self) -> bool {
        self.strays.is_empty() && self.in_order.is_empty()
    }
}

impl Iterator for Taken {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.strays.next().or_else(|| self.in_order.next())
    }
}

/// A row group, and the least and greatest key in it.
struct RowGroup {
    min: i64,
    max: i64,
    morsel: Morsel,
}

/// One range: keys from the first on, or all below the next range's in the first one.
struct KeyRange {
    from: i64,
    strays: Vec<Morsel>,
    in_order: Vec<Morsel>,
}

impl KeyRanges {
    /// The column, as a position in the table, by which a scan may give its rows in order: the clustering key's first.
    pub fn column_of(table: &TableDef) -> Option<usize> {
        let first = table.clustering.first()?;
        table.columns.iter().position(|column| column.id == *first)
    }

    /// The ranges of what a scan reads. `None` when there are none: when segments are not sorted by the column; when there are many strays;
    /// when a key may be NULL, or is no whole number, date or time; and with a limit, which takes whatever rows come first.
    pub fn of(spec: &ScanSpec, source: &dyn ColumnSource) -> Result<Option<KeyRanges>, ScanError> {
        let Some(column) = KeyRanges::column_of(&spec.table).filter(|_| spec.limit.is_none()) else { return Ok(None) };
        let Some(groups) = row_groups(spec, spec.table.columns[column].id, source)? else { return Ok(None) };
        let row_groups = groups.len();
        let (in_order, strays) = follow_each_other(groups);
        let rows = |groups: &[RowGroup]| groups.iter().map(|group| group.morsel.rows()).sum::<usize>();
        let stray_rows = rows(&strays) + spec.rows().map(|(_, rows)| rows.num_rows()).sum::<usize>();
        if in_order.is_empty() || stray_rows * IN_ORDER_FOR_STRAY > rows(&in_order) {
            return Ok(None);
        }
        let mut ranges = key_ranges(&in_order);
        if !strays.iter().all(|group| add_row_group(&mut ranges, group)) {
            return Ok(None);
        }
        for (first, rows) in spec.rows() {
            let Some(beside) = Beside::of(first, rows, column) else { return Ok(None) };
            beside.add_to(&mut ranges);
        }
        let mut morsels = vec![];
        let begins = ranges.into_iter().map(|range| {
            let strays = morsels.len();
            morsels.extend(range.strays);
            let in_order = morsels.len();
            morsels.extend(range.in_order);
            Begin { strays, in_order }
        });
        Ok(Some(KeyRanges { column, row_groups, begins: begins.collect(), morsels }))
    }

    /// The column that rows are in the order of, as a position in the table.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Whether streams can share the ranges out about as evenly as row groups. They cannot when few keys have many rows each.
    pub fn are_many(&self) -> bool {
        self.begins.len() * 2 >= self.row_groups
    }

    pub(crate) fn morsels(&self) -> &[Morsel] {
        &self.morsels
    }

    /// How many morsels there are for a row group, on average.
    pub(crate) fn morsels_of_row_group(&self) -> usize {
        let of_segments = self.morsels.iter().filter(|morsel| matches!(morsel, Morsel::RowGroup { .. }));
        of_segments.count().div_ceil(self.row_groups)
    }

    /// Which morsels a range has; none beyond the last range.
    pub(crate) fn range(&self, number: usize) -> Taken {
        let end = self.morsels.len();
        let Some(begin) = self.begins.get(number) else { return Taken::default() };
        let next = self.begins.get(number + 1).map_or(end, |next| next.strays);
        Taken { strays: begin.strays..begin.in_order, in_order: begin.in_order..next }
    }
}

impl RowGroup {
    fn part(&self, from: Option<i64>, below: Option<i64>) -> Morsel {
        let mut morsel = self.morsel.clone();
        if let Morsel::RowGroup { part, .. } = &mut morsel {
            *part = Part { from, below };
        }
        morsel
    }
}

/// `None` unless each of them is sorted by the column and known to be within exact bounds.
fn row_groups(spec: &ScanSpec, column: ColumnId, source: &dyn ColumnSource) -> Result<Option<Vec<RowGroup>>, ScanError> {
    let mut groups = vec![];
    for segment in spec.segments() {
        let Some(ordinal) = segment.column_ordinal(column) else { return Ok(None) };
        if source.sorted_by(segment)? != Some(column) {
            return Ok(None);
        }
        for (morsel, meta) in Morsel::row_groups(segment).zip(&segment.row_groups) {
            let Some((min, max)) = key_bounds(&meta.pages[ordinal]) else { return Ok(None) };
            groups.push(RowGroup { min, max, morsel });
        }
    }
    Ok(Some(groups))
}

/// The row groups with most rows of which no two have more than one key in common, in their order; and the others. (Weighted interval
/// scheduling; Kleinberg and Tardos, *Algorithm Design*, 6.1.)
fn follow_each_other(mut groups: Vec<RowGroup>) -> (Vec<RowGroup>, Vec<RowGroup>) {
    groups.sort_by_key(|group| (group.max, group.min));
    let before = |i: usize| groups[..i].partition_point(|other| other.max <= groups[i].min);
    // Of the first so many row groups: the rows of those that are best taken.
    let mut rows = vec![0];
    for (i, group) in groups.iter().enumerate() {
        rows.push(rows[i].max(rows[before(i)] + group.morsel.rows()));
    }
    let mut is_taken = vec![false; groups.len()];
    let mut left = groups.len();
    while left > 0 {
        let i = left - 1;
        is_taken[i] = rows[left] > rows[i];
        left = if is_taken[i] { before(i) } else { i };
    }
    let mut is_taken = is_taken.into_iter();
    groups.into_iter().partition(|_| is_taken.next() == Some(true))
}

/// The ranges that row groups in order make. All that begin with one key are in one range: they have no other, but for the last of them.
fn key_ranges(groups: &[RowGroup]) -> Vec<KeyRange> {
    let mut ranges: Vec<KeyRange> = vec![];
    for (i, group) in groups.iter().enumerate() {
        let (before, after) = (i.checked_sub(1).map(|i| &groups[i]), groups.get(i + 1));
        if before.is_none_or(|before| before.min < group.min) {
            let ends_here = before.filter(|before| before.max == group.min);
            let in_order = ends_here.map(|before| before.part(Some(group.min), None)).into_iter().collect();
            ranges.push(KeyRange { from: group.min, strays: vec![], in_order });
        }
        let goes_on = group.min < group.max && after.is_some_and(|after| after.min == group.max);
        if let Some(range) = ranges.last_mut() {
            range.in_order.push(group.part(None, goes_on.then_some(group.max)));
        }
    }
    ranges
}

/// Which ranges have keys between two.
fn between(ranges: &[KeyRange], min: i64, max: i64) -> Range<usize> {
    let after = |key: i64| ranges.partition_point(|range| range.from <= key);
    after(min).saturating_sub(1)..after(max).max(1)
}

/// Gives each range the part of a row group that belongs to it; false when one has too many.
fn add_row_group(ranges: &mut [KeyRange], group: &RowGroup) -> bool {
    let of = between(ranges, group.min, group.max);
    for i in of.clone() {
        let from = (i > of.start).then(|| ranges[i].from);
        let below = (i + 1 < of.end).then(|| ranges[i + 1].from);
        ranges[i].strays.push(group.part(from, below));
        if ranges[i].strays.len() > STRAY_ROW_GROUPS {
            return false;
        }
    }
    true
}

/// Rows that are in no segment, and the order of their keys.
struct Beside<'a> {
    rows: &'a RecordBatch,
    first: RowId,
    keys: Vec<(i64, u32)>,
}

impl<'a> Beside<'a> {
    /// `None` when a key is NULL, or no whole number.
    fn of(first: RowId, rows: &'a RecordBatch, column: usize) -> Option<Beside<'a>> {
        let column = rows.column(column);
        let keys = Keys::of(column).filter(|_| column.null_count() == 0)?;
        let mut keys: Vec<(i64, u32)> = keys.widened().iter().copied().zip(0..).collect();
        keys.sort_unstable();
        Some(Beside { rows, first, keys })
    }

    /// Gives each range its rows.
    fn add_to(&self, ranges: &mut [KeyRange]) {
        let (Some((min, _)), Some((max, _))) = (self.keys.first(), self.keys.last()) else { return };
        let of = between(ranges, *min, *max);
        let mut rest = self.keys.as_slice();
        for i in of.clone() {
            let rows = if i + 1 < of.end { rest.partition_point(|(key, _)| *key < ranges[i + 1].from) } else { rest.len() };
            let (here, later) = rest.split_at(rows);
            rest = later;
            if !here.is_empty() {
                let positions = Some(UInt32Array::from_iter_values(here.iter().map(|(_, position)| *position)));
                ranges[i].strays.push(Morsel::Rows { rows: self.rows.clone(), first: self.first, positions });
            }
        }
    }
}

/// The least and greatest key of a page without NULLs. Bounds that are whole numbers are values of the page; others may be cut.
fn key_bounds(page: &PageMeta) -> Option<(i64, i64)> {
    match (&page.min, &page.max) {
        (Some(Datum::Int(min)), Some(Datum::Int(max))) if page.nulls == 0 => Some((*min, *max)),
        _ => None,
    }
}
