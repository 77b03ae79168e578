//! Two tiers over any `PageSource`: decoded columns in memory, encoded pages on disk.
//!
//! Pages are immutable, so nothing here is ever invalid; it is only ever evicted. A page is fetched and decoded once, however many
//! ask for it at the same time (single flight), and the fetch goes on when the one who asked first has gone away.
//! A disk page is verified against the checksum that the manifest gives; what fails is dropped, counted, and read from the source again.
#![forbid(unsafe_code)]

mod disk;

mod flight;

mod page_cache;
pub use page_cache::{CacheError, CacheOptions, CacheStats, PageCache, Tier};

#[cfg(test)]
mod tests;
