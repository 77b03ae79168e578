//! One scan: prune, filter first, then the rest; merge delta, own writes and deletes.
//!
//! The scan has no idea where it runs: it asks a [`ColumnSource`] for decoded columns and delta batches, which in
//! compute is the page cache and beside storage would be the objects themselves. Nor does it know what a query is:
//! it is given a [`ScanSpec`] — rows, columns wanted, predicates — and gives batches.
//!
//! How data goes through it: a [`Scan`] lists its morsels (row groups, delta batches, own batches); partitions take
//! morsels from one queue (work sharing); for each, pruning by statistics with the predicates as they are *now* (dynamic filters
//! sharpen while the query runs), then filter columns, then the mask, then the remaining columns only if rows survive. Where a predicate
//! compares a column that an index begins with, and the order of its page finds few rows, only these are looked at. Where the keys of a
//! join's other side are known ([`BuildKeys`]), they stand for the join's filter. Who wants rows in the order of the clustering key has
//! partitions take [`KeyRanges`] instead of morsels.
#![forbid(unsafe_code)]

mod source;
pub use source::{ColumnSource, ScanError, Tier};

mod order;
pub use order::Order;

mod spec;
pub use spec::{OWN_BATCH_ROWS, OWN_SEGMENT_ROWS, OwnRows, Predicate, ScanSpec, row_id_field};

mod counters;
pub use counters::ScanCounters;

mod branches;

mod build_keys;
pub use build_keys::BuildKeys;

mod prune;
pub use prune::datum_scalar;

mod seek;
pub use seek::indexes_for;

mod mask;

mod tabulate;

mod verdicts;

mod compact;
pub use compact::compact;

mod morsel;

mod key_ranges;
pub use key_ranges::KeyRanges;

mod like;

mod scan;
pub use scan::{Scan, undeleted_rows};
