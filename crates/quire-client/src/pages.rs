//! Pages: which node to ask, and which one next.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quire_kit::{Backoff, clock};
use quire_types::{PageError, PageId, PageRead, PageSource, SegmentMeta};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::client::StorageClient;
use crate::node::Node;
use crate::page_queue::{Miss, PageQueue};

/// A request that brings no page for so long is given up in favour of the next replica; doubled in each round.
const PATIENCE_FIRST: Duration = Duration::from_secs(2);
const PATIENCE_MAX: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// The page queues of all configured nodes.
#[derive(Debug)]
pub(crate) struct Pages {
    queues: Vec<Arc<PageQueue>>,
}

impl Pages {
    pub(crate) fn new(nodes: &[Arc<Node>]) -> Pages {
        Pages { queues: nodes.iter().map(|node| Arc::new(PageQueue::new(node.clone()))).collect() }
    }

    /// The replicas in the order to ask them: by rendezvous hashing, so that each page is in one node's cache and not in
    /// all; those that failed a moment ago last. A row group's columns lie side by side in its object and share a node,
    /// which reads them together.
    fn order(&self, page: PageId) -> Vec<Arc<PageQueue>> {
        let mut queues = self.queues.clone();
        queues.sort_by_cached_key(|q| (q.is_down(), std::cmp::Reverse(score(q.address(), page.segment.0, page.row_group))));
        queues
    }
}

impl StorageClient {
    /// The configured nodes in rendezvous order for a segment's row group.
    pub(crate) fn nodes_for(&self, segment: u64, row_group: u32) -> Vec<Arc<Node>> {
        let mut nodes = self.inner.nodes.clone();
        nodes.sort_by_cached_key(|n| std::cmp::Reverse(score(n.address(), segment, row_group)));
        nodes
    }
}

fn score(address: &str, segment: u64, row_group: u32) -> u64 {
    xxh3_64_with_seed(address.as_bytes(), segment.wrapping_add(u64::from(row_group).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

#[async_trait]
impl PageSource for StorageClient {
    async fn page(&self, read: PageRead) -> Result<Bytes, PageError> {
        let deadline = self.inner.deadlines.page;
        let end = clock::now() + deadline;
        let mut replicas = self.inner.pages.order(read.page);
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
        let mut patience = PATIENCE_FIRST;
        let mut lost: Option<PageError> = None;
        let mut reason = String::from("no storage address is configured");
        while !replicas.is_empty() {
            let mut asked_again = Vec::new();
            for replica in replicas {
                let left = end.saturating_duration_since(clock::now());
                let miss = match clock::timeout(left, replica.fetch(read, patience)).await {
                    Ok(Ok(bytes)) => return Ok(bytes),
                    Ok(Err(miss)) => miss,
                    Err(_) => {
                        let reason = format!("no answer within {} s (last: {reason})", deadline.as_secs());
                        return Err(lost.unwrap_or(PageError::Unavailable { page: read.page, reason }));
                    }
                };
                metrics::counter!("quire_client_page_retries_total").increment(1);
                match miss {
                    // this replica has nothing better to say; another may have a good copy in its cache
                    Miss::Corrupt => lost = Some(PageError::Corrupt { page: read.page, table: read.table }),
                    Miss::Missing => {
                        let object = SegmentMeta::object_key(read.table, read.page.segment, read.term);
                        lost = lost.or(Some(PageError::Missing { object }));
                    }
                    Miss::Failed(why) => {
                        reason = why;
                        asked_again.push(replica);
                    }
                }
            }
            replicas = asked_again;
            if lost.is_some() && patience > PATIENCE_FIRST {
                break; // one replica knows it is lost, and the others had their second chance
            }
            if !replicas.is_empty() {
                backoff.wait().await;
                patience = (patience * 2).min(PATIENCE_MAX);
            }
        }
        Err(lost.unwrap_or(PageError::Unavailable { page: read.page, reason }))
    }
}

#[cfg(test)]
mod tests {
    use quire_types::{ColumnId, SegmentId};

    use super::*;

    #[test]
    fn row_groups_spread_evenly_and_one_stays_together() {
        let nodes: Vec<_> = ["10.0.0.1:7101", "10.0.0.2:7101", "10.0.0.3:7101"].iter().map(|a| Arc::new(Node::new(a))).collect();
        let pages = Pages::new(&nodes);
        let mut first = [0usize; 3];
        for segment in 0..300u64 {
            for row_group in 0..8 {
                let page = |column| PageId { segment: SegmentId(segment * 7919), row_group, column: ColumnId(column) };
                let order = pages.order(page(1));
                assert_eq!(order[0].address(), pages.order(page(9))[0].address());
                first[nodes.iter().position(|n| n.address() == order[0].address()).expect("one of them")] += 1;
            }
        }
        assert!(first.iter().all(|&n| (700..900).contains(&n)), "{first:?}");
    }
}
