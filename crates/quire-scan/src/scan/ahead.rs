//! What a scan requests before it reads it, so that storage's latency is hidden.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use quire_types::{Datum, ROW_GROUP_ROWS};

use super::Scan;
use crate::morsel::Morsel;
use crate::seek::Seek;
use crate::spec::is_dynamic;
use crate::{ScanError, Tier};

/// Row groups ahead of the one being read whose pages are requested already. Two partitions times eight columns times four row groups of
/// 0.3 MB is 20 MB in flight: the bandwidth-delay product of a 10 Gbit/s link at 16 ms.
const PREFETCH_ROW_GROUPS: usize = 4;
/// The same once pages have come from storage, which may be waiting for an object store: at 20 ms for a request, and 2 ms of work for a row
/// group, so many are under way. Of small pages more: to ask for them costs little, and to wait for them as much as for large ones. Two
/// processors decode 300 MB/s; in the 25 ms that a page takes to come that is so many bytes.
const PREFETCH_FAR_ROW_GROUPS: usize = 16;
const PREFETCH_FAR_BYTES: usize = 8 << 20;
/// At most so many times as many, however small: what comes long before it is read may be gone from memory again by then.
const PREFETCH_SMALL_TIMES: usize = 4;
/// Of what is requested before anybody asks for rows: a filter that is known later may leave it out.
const BEGIN_BYTES: usize = 1 << 20;
/// Remaining columns are prefetched too while at least this share of row groups turned out to have survivors.
const PREFETCH_PAYLOAD_ABOVE: f64 = 0.5;
/// A page of so many bytes is requested with the columns of predicates, whether it will be wanted or not: it takes less time than to ask
/// again.
const SMALL_PAGE_BYTES: u32 = 128 << 10;
const SMALL_FAR_PAGE_BYTES: u32 = 512 << 10;
/// The row groups' bounds of a column are on average so much of its whole range: few row groups are without a value of any set, then.
const SPREAD_ABOVE: f64 = 0.5;

/// How far a scan has asked.
#[derive(Default)]
pub(super) struct Ahead {
    /// Whether the first pages have been requested.
    begun: AtomicBool,
    /// The morsel that was begun last and its successor; 0 before the first one, when nobody may look beyond what a scan begins with.
    reached: AtomicUsize,
    /// How far columns of predicates have been requested, and the others.
    filters: AtomicUsize,
    payload: AtomicUsize,
    /// Bytes of pages that have been requested and have not come.
    in_flight: AtomicUsize,
}

impl Scan {
    /// Requests what will be read first, before anybody asks for rows: a join reads one side after the other, and would wait for storage with
    /// each of them. Of pages that are in memory it only sees that they are.
    pub fn begin(self: &Arc<Self>) -> Result<(), ScanError> {
        if self.ahead.begun.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let is_far = self.is_far(0) && self.will_want_most()?;
        if is_far && self.will_read_all() {
            return self.look_ahead(0);
        }
        let (row_groups, bytes, small) = match is_far {
            true => (PREFETCH_FAR_ROW_GROUPS, PREFETCH_FAR_BYTES, SMALL_FAR_PAGE_BYTES),
            false => (PREFETCH_ROW_GROUPS, BEGIN_BYTES, SMALL_PAGE_BYTES),
        };
        let ahead = self.morsels_of(row_groups);
        if self.filter_columns.is_empty() {
            return self.advance(&self.ahead.payload, 0, ahead, bytes, &self.payload_columns);
        }
        self.advance(&self.ahead.filters, 0, ahead, bytes, &self.filter_columns)?;
        for morsel in self.morsels.iter().take(ahead) {
            if self.ahead.in_flight.load(Ordering::Relaxed) >= PREFETCH_FAR_BYTES {
                break;
            }
            self.request(morsel, &self.payload_columns, small)?;
        }
        Ok(())
    }

    /// Requests pages of the morsel `at`, which is read now, and of those that will be read next.
    pub(super) fn look_ahead(self: &Arc<Self>, at: usize) -> Result<(), ScanError> {
        self.ahead.reached.fetch_max(at + 1, Ordering::Relaxed);
        let is_far = self.is_far(at);
        let (row_groups, bytes) = if is_far { (PREFETCH_FAR_ROW_GROUPS, PREFETCH_FAR_BYTES) } else { (PREFETCH_ROW_GROUPS, 0) };
        let ahead = self.morsels_of(row_groups);
        // near by, this one's pages are read as soon as they would be requested
        let from = if is_far { at } else { at + 1 };
        self.advance(&self.ahead.filters, from, ahead, bytes, &self.filter_columns)?;
        let (read, survived) = (self.read_row_groups.load(Ordering::Relaxed), self.survived_row_groups.load(Ordering::Relaxed));
        let is_wanted = if read > 0 { survived as f64 >= read as f64 * PREFETCH_PAYLOAD_ABOVE } else { is_far && self.will_want_most()? };
        if is_wanted || self.filter_columns.is_empty() {
            self.advance(&self.ahead.payload, from, ahead, bytes, &self.payload_columns)?;
        }
        Ok(())
    }

    /// A page has come from far away: there is room for more to be under way.
    fn go_on(self: &Arc<Self>) -> Result<(), ScanError> {
        match self.ahead.reached.load(Ordering::Relaxed).checked_sub(1) {
            Some(at) => self.look_ahead(at),
            None => Ok(()),
        }
    }

    /// So many row groups, in morsels: in order of the key, most row groups are two or more.
    fn morsels_of(&self, row_groups: usize) -> usize {
        row_groups * self.spec.ordered.as_ref().map_or(1, |ranges| ranges.morsels_of_row_group())
    }

    /// How many morsels may be ahead: about those that a limit needs, if none of their rows is left out.
    fn enough(&self) -> usize {
        match self.spec.limit {
            Some(limit) if self.spec.predicates.is_empty() => self.morsels_of((limit / ROW_GROUP_ROWS + 1).max(PREFETCH_ROW_GROUPS)),
            _ => usize::MAX,
        }
    }

    /// Whether pages are being moved from far away: one has come, or one of morsel `at` would have to.
    fn is_far(&self, at: usize) -> bool {
        if self.counters.pages_remote.load(Ordering::Relaxed) > 0 {
            return true;
        }
        let Some(Morsel::RowGroup { segment, row_group, .. }) = self.morsels.get(at) else { return false };
        let mut columns = self.filter_columns.iter().chain(&self.payload_columns);
        columns.any(|column| self.source.is_far(segment, *row_group, self.column(*column)))
    }

    /// Whether most row groups that bounds do not leave out will have a row that is wanted, before anything is known: they do, unless few
    /// values are looked for, or few rows.
    fn will_want_most(&self) -> Result<bool, ScanError> {
        Ok((self.spec.limit.is_none() || self.spec.predicates.is_empty()) && !self.seeks()?.iter().any(Seek::is_for_values))
    }

    /// Whether what bounds do not leave out now will be read, whatever dynamic filters come to say: their columns' values are everywhere.
    fn will_read_all(&self) -> bool {
        let dynamic = self.spec.predicates.iter().filter(|predicate| is_dynamic(&predicate.expr));
        dynamic.flat_map(|predicate| &predicate.columns).all(|column| self.is_spread(*column))
    }

    /// Whether the row groups' bounds of a column overlap so much that a set of values leaves none of them out.
    fn is_spread(&self, column: usize) -> bool {
        let id = self.column(column).id;
        let (mut row_groups, mut widths, mut lowest, mut highest) = (0, 0., f64::INFINITY, f64::NEG_INFINITY);
        for segment in self.spec.segments() {
            let Some(ordinal) = segment.column_ordinal(id) else { return false };
            for page in segment.row_groups.iter().map(|row_group| &row_group.pages[ordinal]) {
                let (Some(min), Some(max)) = (page.min.as_ref().and_then(number), page.max.as_ref().and_then(number)) else { return false };
                row_groups += 1;
                widths += max - min;
                (lowest, highest) = (lowest.min(min), highest.max(max));
            }
        }
        widths >= (highest - lowest) * f64::from(row_groups) * SPREAD_ABOVE
    }

    /// Requests columns of the next morsels from `from`, and of those up to `ahead` and some more while no more than so many bytes are under
    /// way. What `done` says has been requested is not requested again.
    fn advance(self: &Arc<Self>, done: &AtomicUsize, from: usize, ahead: usize, bytes: usize, columns: &[usize]) -> Result<(), ScanError> {
        loop {
            let last = done.load(Ordering::Relaxed);
            let next = last.max(from);
            let in_flight = self.ahead.in_flight.load(Ordering::Relaxed);
            let is_next = next < from + ahead.min(self.morsels_of(PREFETCH_ROW_GROUPS));
            let reach = if in_flight > 0 { PREFETCH_SMALL_TIMES * ahead } else { ahead };
            let is_near = (is_next || in_flight < bytes && next < from + reach) && next < from.saturating_add(self.enough());
            let Some(morsel) = self.morsels.get(next).filter(|_| is_near) else { return Ok(()) };
            if done.compare_exchange(last, next + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.request(morsel, columns, u32::MAX)?;
            }
        }
    }

    /// Requests pages of at most so many bytes that are not in memory.
    fn request(self: &Arc<Self>, morsel: &Morsel, columns: &[usize], bytes_max: u32) -> Result<(), ScanError> {
        let Morsel::RowGroup { segment, row_group, part, .. } = morsel else { return Ok(()) };
        let bytes_of = |index: usize| segment.page_read(*row_group, self.column(index).id).map_or(0, |read| read.length);
        let is_missing = |index: &usize| {
            let is_resident = || self.source.resident(segment, *row_group, self.column(*index)).is_some();
            bytes_of(*index) <= bytes_max && !is_resident()
        };
        let missing: Vec<usize> = columns.iter().copied().filter(is_missing).collect();
        // Statistics are asked last: mostly nothing is missing.
        if missing.is_empty() || !part.is_first() || self.is_pruned(segment, *row_group)? {
            return Ok(());
        }
        for index in missing {
            let under_way = UnderWay::new(self.clone(), bytes_of(index) as usize);
            let (segment, row_group) = (segment.clone(), *row_group);
            quire_kit::task::spawn("prefetch", async move {
                let scan = &under_way.scan;
                if scan.is_over() {
                    return;
                }
                // The read that follows finds the page in memory, or meets the same error and reports it.
                match scan.source.column(&segment, row_group, scan.column(index)).await {
                    Ok((_, Tier::Memory, _)) => return,
                    Ok((page, tier, bytes)) => scan.count((segment.id, row_group, index), tier, bytes, &page),
                    Err(error) => return tracing::debug!(%error, "prefetch failed"),
                }
                let scan = scan.clone();
                drop(under_way);
                if let Err(error) = scan.go_on() {
                    tracing::debug!(%error, "prefetch failed");
                }
            });
        }
        Ok(())
    }
}

/// A page that has been requested ahead and has not come.
struct UnderWay {
    scan: Arc<Scan>,
    bytes: usize,
}

impl UnderWay {
    fn new(scan: Arc<Scan>, bytes: usize) -> UnderWay {
        scan.ahead.in_flight.fetch_add(bytes, Ordering::Relaxed);
        UnderWay { scan, bytes }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.scan.ahead.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Of what has distances.
fn number(datum: &Datum) -> Option<f64> {
    match datum {
        Datum::Int(value) => Some(*value as f64),
        Datum::Float(value) => Some(*value),
        Datum::Decimal(value) => Some(*value as f64),
        Datum::Bool(_) | Datum::Text(_) | Datum::Bytes(_) => None,
    }
}
