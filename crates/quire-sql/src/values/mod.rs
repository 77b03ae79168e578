//! Values in and out: Postgres' text and binary forms of every type, and what an assignment to a column does to a value.
//!
//! Values go straight between bytes and Arrow arrays; the common forms of the common types take no allocation.

mod error;
pub use error::ValueError;

mod names;
pub use names::{oid_of, sql_type_of_oid, type_name, typlen, typmod};

mod builder;
pub use builder::{ColumnBuilder, normalize_text, parse_binary, parse_text};

pub(crate) mod datetime;
pub use datetime::Home;
pub(crate) use datetime::is_relative;

pub(crate) mod interval;

pub(crate) mod numeric;

mod text;
pub use text::write_text;

mod binary;
pub use binary::write_binary;

mod coerce;
pub use coerce::coerce;

mod cast;
pub(crate) use cast::{can_cast, cast_to, text_of};

#[cfg(test)]
mod tests;
