//! stub
use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use quire_types::*;
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ValueError { pub code: &'static str, pub message: String, pub detail: Option<String>, pub hint: Option<String> }
pub fn write_text(_: &ArrayRef, _: usize, _: SqlType, _: &mut Vec<u8>) {}
pub fn coerce(a: ArrayRef, _: &Field, _: &ColumnDef, _: &str) -> Result<ArrayRef, ValueError> { Ok(a) }
pub fn normalize_text(_: SqlType, v: &str) -> Result<String, ValueError> { Ok(v.into()) }
pub fn oid_of(_: SqlType) -> u32 { 0 }
pub fn typlen(_: SqlType) -> i16 { 0 }
pub fn typmod(_: SqlType) -> i32 { 0 }
pub fn type_name(_: SqlType) -> &'static str { "" }
