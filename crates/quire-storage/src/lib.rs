//! The storage service: a replicated log that is the database, and the page service in front of the object store.
//!
//! Only two things here are durable: the Raft log (and what it has been applied to), in RocksDB, and the objects. The page cache on
//! a node's disk can be deleted at any time. What the log means is `quire-log`'s; this crate orders, persists, serves and seals.
//!
//! How data goes through it: `rpc` checks a request and turns it into our types; `replica` proposes it to `raft`, which makes it durable on a
//! majority; `raft::state_machine` applies it and shows readers the new view. In the background `seal` turns old delta rows into segments,
//! `compact` merges segments and leaves deleted rows out, and `collect` removes objects that nothing names. `pages` serves pages of segments from disk or the object store.
#![forbid(unsafe_code)]

mod options;
pub use options::StorageOptions;

mod error;
pub use error::StorageError;

mod node;
pub use node::StorageNode;

mod rpc;

mod replica;

mod raft;

mod persist;

mod store;

mod space;

mod pressure;
pub use pressure::PressureOptions;

mod seal;
pub use seal::SealOptions;

mod compact;
pub use compact::CompactOptions;

mod rewrite;

mod put;

mod retired;

mod collect;
pub use collect::KeepOptions;

mod report;

mod pages;

#[cfg(test)]
mod tests;
