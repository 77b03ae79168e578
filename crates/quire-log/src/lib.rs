//! What the log means: certification, the catalog, manifests, row ids. Pure.
//!
//! [`State::apply`] takes the next entry of the log and says what became of it. It does no IO and knows no clock, no
//! randomness and no floats: the same entries give the same outcomes on every replica, for ever, whatever restarts lie between.
//! Everything that a decision depends on is therefore in the state, is written down as [`Record`]s beside the
//! [`quire_types::Change`]s, and is trimmed by counts of what the log holds, never by time or by process lifetime.
//!
//! An entry's content is never trusted: what contradicts itself or the state is refused, alike everywhere, and changes nothing.
#![forbid(unsafe_code)]

mod state;
pub use state::{Applied, State};

mod record;
pub use record::{Record, TableLsns};

mod certify;

mod reads;

mod window;

mod rewrite;

mod purged;

#[cfg(test)]
mod tests;
