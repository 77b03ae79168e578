/// A value in a manifest: the minimum or maximum of a page.
///
/// Only types with a total order that every reader agrees on have one; the others (bytea of unbounded
/// length, interval, json) carry no bounds. Text is truncated by the encoder: a lower bound is a prefix, an upper
/// bound a prefix rounded up, so a bound may be no value of the page but never excludes one.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Datum {
    /// boolean.
    Bool(bool),
    /// smallint, integer, bigint; date as days since 1970-01-01; time, timestamp and timestamptz as microseconds.
    Int(i64),
    /// real and double precision. NaN is never a bound: a page holding one carries no bounds.
    Float(f64),
    /// numeric, unscaled; the scale is the column's.
    Decimal(i128),
    /// text, varchar, char, uuid.
    Text(String),
    /// Not in use yet.
    Bytes(Vec<u8>),
}
