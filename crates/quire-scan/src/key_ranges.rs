//! A scan in the order of the clustering key: the ranges of the key that its streams share out.
//!
//! Each segment is sorted, and where the row groups of all of them follow each other (bulk loads in order of the key, and what compaction
//! makes of a table), each begins a range of the key. The streams take the ranges in their order, as they take morsels otherwise; so each
//! gives its rows in ascending order, and rows with one key are all in one stream. The rows of a key often lie in two row groups. The
//! last ones of the first belong to the range that begins with the second: they are found by binary search, and nothing is written anew.

use std::ops::Range;

use quire_types::{ColumnId, Datum, PageMeta, TableDef};

use crate::morsel::{Morsel, Part};
use crate::{ColumnSource, ScanError, ScanSpec};

#[cfg(test)]
mod tests;

/// Ranges of the clustering key's first column, ascending, with the rows of each.
#[derive(Debug)]
pub struct KeyRanges {
    column: usize,
    row_groups: usize,
    /// The rows of one range after the other.
    morsels: Vec<Morsel>,
    /// Where in `morsels` each range begins.
    begins: Vec<usize>,
}

/// A row group, and the least and greatest key in it.
struct RowGroup {
    min: i64,
    max: i64,
    morsel: Morsel,
}

impl KeyRanges {
    /// The column, as a position in the table, by which a scan may give its rows in order: the clustering key's first.
    pub fn column_of(table: &TableDef) -> Option<usize> {
        let first = table.clustering.first()?;
        table.columns.iter().position(|column| column.id == *first)
    }

    /// The ranges of what a scan reads. `None` when there are none: when there are rows beside segments, or segments that are not sorted by
    /// the column, or whose row groups overlap in more than one key; when a key may be NULL, or is no whole number, date or time; and
    /// with a limit, which takes whatever rows come first.
    pub fn of(spec: &ScanSpec, source: &dyn ColumnSource) -> Result<Option<KeyRanges>, ScanError> {
        let Some(column) = KeyRanges::column_of(&spec.table) else { return Ok(None) };
        let own = &spec.own;
        let only_segments = spec.delta.is_empty() && own.batches.is_empty() && own.segments.is_empty();
        if !only_segments || own.truncated || spec.limit.is_some() {
            return Ok(None);
        }
        let Some(mut groups) = row_groups(spec, spec.table.columns[column].id, source)? else { return Ok(None) };
        groups.sort_by_key(|group| (group.min, group.max));
        let overlap = groups.windows(2).any(|pair| pair[0].max > pair[1].min);
        Ok((!overlap && !groups.is_empty()).then(|| KeyRanges::over(column, &groups)))
    }

    /// Row groups must be in order. All that begin with one key are in one range: they have no other, but for the last of them.
    fn over(column: usize, groups: &[RowGroup]) -> KeyRanges {
        let mut ranges = KeyRanges { column, row_groups: groups.len(), morsels: Vec::with_capacity(groups.len() * 2), begins: vec![] };
        for (i, group) in groups.iter().enumerate() {
            let (before, after) = (i.checked_sub(1).map(|i| &groups[i]), groups.get(i + 1));
            if before.is_none_or(|before| before.min < group.min) {
                ranges.begins.push(ranges.morsels.len());
                ranges.morsels.extend(before.filter(|before| before.max == group.min).map(|before| before.part(Part::From(group.min))));
            }
            let goes_on = group.min < group.max && after.is_some_and(|after| after.min == group.max);
            ranges.morsels.push(group.part(if goes_on { Part::Below(group.max) } else { Part::All }));
        }
        ranges
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

    /// Which morsels a range has; none beyond the last range.
    pub(crate) fn range(&self, number: usize) -> Range<usize> {
        let end = self.morsels.len();
        let begin = |number: usize| self.begins.get(number).copied().unwrap_or(end);
        begin(number)..begin(number + 1)
    }
}

impl RowGroup {
    fn part(&self, part: Part) -> Morsel {
        let mut morsel = self.morsel.clone();
        if let Morsel::RowGroup { part: rows, .. } = &mut morsel {
            *rows = part;
        }
        morsel
    }
}

/// `None` unless each of them is sorted by the column and known to be within exact bounds.
fn row_groups(spec: &ScanSpec, column: ColumnId, source: &dyn ColumnSource) -> Result<Option<Vec<RowGroup>>, ScanError> {
    let mut groups = vec![];
    for segment in spec.view.segments.iter() {
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

/// The least and greatest key of a page without NULLs. Bounds that are whole numbers are values of the page; others may be cut.
fn key_bounds(page: &PageMeta) -> Option<(i64, i64)> {
    match (&page.min, &page.max) {
        (Some(Datum::Int(min)), Some(Datum::Int(max))) if page.nulls == 0 => Some((*min, *max)),
        _ => None,
    }
}
