//! Which segments to write anew. Pure: it looks at a table's view and what is known of its segments.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use quire_types::{ColumnId, Datum, RowIds, RowSet, SEGMENT_ROWS, SegmentId, SegmentMeta, TableDef, TableView};

use super::merge::columns_of;

/// Segments of one tier that become one of the next. With eight, a row is written at most four times after its seal, and a table
/// has at most seven small segments of each tier for longer than a merge takes.
pub(crate) const FANOUT: usize = 8;
/// Rows from which on a segment is of the lowest tier but one; each further tier has eight times as many.
const TIER_ROWS: u64 = 1024;
/// A segment of so many rows, or bytes, is not small any more and is merged no further.
pub(crate) const FULL_ROWS: u64 = SEGMENT_ROWS as u64 / 2;
pub(crate) const FULL_BYTES: u64 = 64 << 20;
/// What one merge reads at most: decoded and sorted it is in memory a few times over.
const INPUT_BYTES_MAX: u64 = 128 << 20;
const _: () = assert!(2 * FULL_BYTES <= INPUT_BYTES_MAX, "two small segments always fit into one merge");
/// Of a segment's rows, one in so many deleted is reason to write it anew: a fifth, so that a table takes at most a quarter more than
/// its live rows, and a rewrite writes at most four rows for each that it drops.
const DELETED_ONE_IN: u64 = 5;
/// Fewer deleted rows are no reason, unless they are all of them: the few rows of a small table that every transaction updates would be
/// rewritten again and again. A merge leaves them out.
const DELETED_MIN: u64 = 1024;
/// What is known of a segment's deleted rows is good until the table's delete set has changed by one in so many of its rows.
const CHANGED_ONE_IN: u64 = 20;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Job {
    /// Many of its rows may be deleted: count them, then write it anew, or drop it, or leave it.
    Rewrite(Arc<SegmentMeta>),
    /// Small segments become one.
    Merge(Vec<Arc<SegmentMeta>>),
}

/// When the deleted rows of a segment were counted, and were not reason enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The size of the table's delete set then.
    pub(crate) of: u64,
    /// In which pass over the tables. A segment is counted once in each, however fast rows are deleted.
    pub(crate) pass: u64,
}

/// What was counted, by segment.
pub(crate) type CountedRows = HashMap<SegmentId, Counted>;

/// True when the segment is small: one that is merged with others.
pub(crate) fn is_small(segment: &SegmentMeta) -> bool {
    segment.rows < FULL_ROWS && segment.bytes < FULL_BYTES
}

/// True when so many of a segment's rows are deleted that it is written anew or dropped.
pub(crate) fn is_worn(deleted: u64, rows: u64) -> bool {
    rows > 0 && (deleted >= rows || deleted >= DELETED_MIN && deleted.saturating_mul(DELETED_ONE_IN) >= rows)
}

/// Rows of the segment that are deleted, or more: other segments' rows have ids in between.
pub(crate) fn deleted_at_most(segment: &SegmentMeta, deleted: &RowSet) -> u64 {
    deleted.count_in(segment.row_id_min..=segment.row_id_max).min(segment.rows)
}

/// True when every id between the smallest and the largest is of this segment.
pub(crate) fn is_dense(segment: &SegmentMeta) -> bool {
    matches!(segment.row_ids, RowIds::Base(_)) || segment.row_id_max.0 - segment.row_id_min.0 + 1 == segment.rows
}

/// The most useful thing to do to the table, if there is one.
pub(crate) fn choose(def: &TableDef, rows: &TableView, counted: &CountedRows, pass: u64) -> Option<Job> {
    let worn = rows.segments.iter().find(|s| may_be_worn(s, &rows.deleted, counted.get(&s.id), pass));
    worn.cloned().map(Job::Rewrite).or_else(|| merge(def, rows))
}

fn may_be_worn(segment: &SegmentMeta, deleted: &RowSet, counted: Option<&Counted>, pass: u64) -> bool {
    if !is_worn(deleted_at_most(segment, deleted), segment.rows) {
        return false;
    }
    match counted {
        Some(then) if then.pass == pass => false,
        Some(then) => is_dense(segment) || deleted.len().abs_diff(then.of) > segment.rows / CHANGED_ONE_IN,
        None => true,
    }
}

/// Neighbours of one tier, when there are enough of them.
fn merge(def: &TableDef, rows: &TableView) -> Option<Job> {
    let mut tiers: BTreeMap<(u32, Vec<ColumnId>), Vec<Arc<SegmentMeta>>> = BTreeMap::new();
    for segment in rows.segments.iter().filter(|s| is_small(s)) {
        tiers.entry((tier(segment.rows), columns_of(def, segment))).or_default().push(segment.clone());
    }
    let (_, mut segments) = tiers.into_iter().find(|(_, segments)| segments.len() >= FANOUT)?;
    // Neighbours by the clustering key: what is merged then covers a narrow range of it. The sort is stable: others go by age.
    segments.sort_by(|a, b| compare(lower_bound(def, a), lower_bound(def, b)));
    let (mut rows, mut bytes) = (0, 0);
    let fitting = segments.iter().take(FANOUT).take_while(|s| {
        rows += s.rows;
        bytes += s.bytes;
        rows <= SEGMENT_ROWS as u64 && bytes <= INPUT_BYTES_MAX
    });
    let count = fitting.count().max(2);
    segments.truncate(count);
    Some(Job::Merge(segments))
}

fn tier(rows: u64) -> u32 {
    let (mut tier, mut limit) = (0, TIER_ROWS);
    while rows >= limit {
        tier += 1;
        limit *= FANOUT as u64;
    }
    tier
}

/// The smallest value of the first clustering column, where bounds are known.
fn lower_bound<'a>(def: &TableDef, segment: &'a SegmentMeta) -> Option<&'a Datum> {
    let ordinal = segment.column_ordinal(*def.clustering.first()?)?;
    let bounds = segment.row_groups.iter().filter_map(|group| group.pages.get(ordinal)?.min.as_ref());
    bounds.min_by(|a, b| compare(Some(a), Some(b)))
}

fn compare(a: Option<&Datum>, b: Option<&Datum>) -> Ordering {
    match (a, b) {
        (Some(Datum::Bool(a)), Some(Datum::Bool(b))) => a.cmp(b),
        (Some(Datum::Int(a)), Some(Datum::Int(b))) => a.cmp(b),
        (Some(Datum::Float(a)), Some(Datum::Float(b))) => a.total_cmp(b),
        (Some(Datum::Decimal(a)), Some(Datum::Decimal(b))) => a.cmp(b),
        (Some(Datum::Text(a)), Some(Datum::Text(b))) => a.cmp(b),
        (Some(Datum::Bytes(a)), Some(Datum::Bytes(b))) => a.cmp(b),
        // unknown ones first, and kinds apart: a column has one kind
        (a, b) => a.map(kind).cmp(&b.map(kind)),
    }
}

fn kind(datum: &Datum) -> u8 {
    match datum {
        Datum::Bool(_) => 0,
        Datum::Int(_) => 1,
        Datum::Float(_) => 2,
        Datum::Decimal(_) => 3,
        Datum::Text(_) => 4,
        Datum::Bytes(_) => 5,
    }
}

#[cfg(test)]
mod tests;
