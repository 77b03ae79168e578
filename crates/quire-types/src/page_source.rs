use async_trait::async_trait;
use bytes::Bytes;

use crate::{PageId, TableId};

/// A request for one page: everything a server needs to find and check it, no catalog required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRead {
    /// The page's name, and every cache's key.
    pub page: PageId,
    /// The table, which is part of the object's name.
    pub table: TableId,
    /// The Raft term in the object's name.
    pub term: crate::Term,
    /// First byte of the page within the segment object.
    pub offset: u64,
    /// Encoded length in bytes, at most [`crate::PAGE_BYTES_MAX`] unless one value alone is larger.
    pub length: u32,
    /// XXH3-64 of the encoded bytes.
    pub checksum: u64,
}

/// Why a page could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PageError {
    /// Every tier had it wrong, the object included. The data of this page is lost unless a backup has it.
    #[error("page {page} of table {table} is corrupt: checksum mismatch in every tier")]
    Corrupt {
        /// The page.
        page: PageId,
        /// Its table.
        table: TableId,
    },
    /// The object store has no such object.
    #[error("segment object {object} is missing from the object store")]
    Missing {
        /// The object's key.
        object: String,
    },
    /// No storage node could be reached in time. Try again.
    #[error("no storage node can serve page {page}: {reason}")]
    Unavailable {
        /// The page.
        page: PageId,
        /// What the last attempt said.
        reason: String,
    },
}

/// Anything that serves encoded pages: the client (over gRPC), a storage node's own tiers, a test's memory.
#[async_trait]
pub trait PageSource: Send + Sync + 'static {
    /// The encoded bytes of one page, checksum verified.
    ///
    /// Cheap to call many times at once: an implementer that crosses a network gathers concurrent calls
    /// into few requests.
    async fn page(&self, read: PageRead) -> Result<Bytes, PageError>;
}
