//! Rows to Parquet segments and pages back to columns. Pure.
//!
//! A segment is an ordinary Parquet file that any tool reads: one column chunk is one Quire page, so a page's bytes are a range of the
//! file and decode with the file's footer, which the manifest carries. What the manifest says of a page — bounds, NULLs,
//! checksum — and of a column — a distinct-count sketch — is worked out here, while the rows are at hand.
//!
//! How data goes through it: [`sort_by_clustering`], then [`encode`] gives the file and its [`quire_types::SegmentMeta`]; later
//! [`Footer::parse`] once a segment and [`decode`] or [`decode_packed`] once a page. Rows that are in no segment yet have a format of their own, by
//! [`encode_rows`] and [`RowDecoder`].
#![forbid(unsafe_code)]

mod error;
pub use error::SegmentError;

mod sort;
pub use sort::sort_by_clustering;

mod encode;
pub use encode::{EncodeOptions, EncodedSegment, encode};

mod bounds;
pub use bounds::bounds;

mod sketch;
pub use sketch::{distinct_estimate, sketch};

mod interval;

mod missing;
pub use missing::{missing_datum, missing_values};

mod rows;
pub use rows::{RowDecoder, encode_rows};

mod packed;
pub use packed::unpack;

mod decode;
pub use decode::{Footer, decode, decode_packed};

#[cfg(test)]
mod tests;
