//! The Postgres wire: what a client says, turned into calls of a session, and what the session gives, turned into messages.
//!
//! Framing and messages are the `pgwire` crate's; the conversation is ours, because a session, its transaction, its portals and its
//! COPY live as long as the connection and are driven by one loop. Nothing here knows SQL.
//!
//! How data goes through it: `serve` accepts, `startup` greets, `connection` reads a message, calls the session and writes the answer; `rows`
//! encodes batches straight into the output buffer, which is sent in pieces, so that a slow reader holds its query back.
#![forbid(unsafe_code)]

mod serve;
pub use serve::{PgOptions, serve};

mod startup;

mod connection;

mod extended;

mod copy;

mod wire;

mod frame;

mod rows;

mod params;

mod types;

mod fields;
