//! The object tier: immutable objects under keys, in a local directory or a bucket.
//!
//! Objects are put only if absent and never changed: whoever reads a key reads the same bytes for ever, or learns that
//! there is no such object. A put that returned is durable (in a local directory, file and directory entries are
//! fsynced). Nothing is known here of what objects mean.
//!
//! How data goes through it: [`Objects`] checks the key, waits for one of a bounded number of requests, and asks either
//! `local` (own code: the `object_store` crate does not fsync) or the `object_store` crate, which signs and retries.
#![forbid(unsafe_code)]

mod error;
pub use error::ObjectError;

mod objects;
pub use objects::{ObjectInfo, Objects, PutOutcome};

mod remote;

mod local;

#[cfg(test)]
mod tests;
