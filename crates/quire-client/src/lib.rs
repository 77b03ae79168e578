//! Compute's only way to storage: snapshots, commits, uploads, deltas, pages.
//!
//! A [`StorageClient`] knows the addresses of the storage nodes and nothing else that matters: who leads is found out by
//! asking, and asked again when the answer stops being true. Every call has a deadline and ends by it with a reason;
//! no call retries what it cannot repeat safely: snapshots and reads change nothing, a commit carries its transaction's
//! name, an upload is put-if-absent. Protobuf types stop in this crate.
//!
//! How data goes through it: [`StorageClient::snapshot`] keeps the last view and asks the leader for what changed since;
//! [`StorageClient::commit`] and [`StorageClient::upload`] carry writes; pages (it is a `PageSource`) are gathered per
//! node into few requests.
#![forbid(unsafe_code)]

mod error;
pub use error::ClientError;

mod along;
mod client;
pub use client::StorageClient;

mod status;
pub use status::{MemberStatus, NodeStatus};

mod node;

mod leader;

mod snapshot;

mod commit;

mod upload;

mod deltas;

mod page_queue;

mod pages;

#[cfg(test)]
mod tests;
