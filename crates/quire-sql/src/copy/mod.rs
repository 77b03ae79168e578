//! stub
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use quire_types::*;
use crate::SqlError;
pub(crate) enum CopyFormat { Text, Csv, Binary }
pub(crate) struct CopyOptions { pub format: CopyFormat, pub delimiter: Option<char>, pub null: Option<String>, pub header: bool, pub quote: Option<char>, pub escape: Option<char>, pub force_quote: Vec<String>, pub force_not_null: Vec<String>, pub force_null: Vec<String>, pub encoding: Option<String> }
impl CopyOptions { pub(crate) fn new(format: CopyFormat) -> Self { CopyOptions { format, delimiter: None, null: None, header: false, quote: None, escape: None, force_quote: vec![], force_not_null: vec![], force_null: vec![], encoding: None } } }
pub(crate) struct CopyError; impl From<CopyError> for SqlError { fn from(_: CopyError) -> Self { SqlError::internal("") } }
pub(crate) struct CopyDecoder; pub(crate) struct CopyEncoder;
impl CopyDecoder { pub(crate) fn new(_: CopyOptions, _: String, _: Vec<ColumnDef>) -> Result<Self, CopyError> { Ok(CopyDecoder) } pub(crate) fn push(&mut self, _: &[u8]) -> Result<(), CopyError> { Ok(()) } pub(crate) fn finish(&mut self) -> Result<(), CopyError> { Ok(()) } pub(crate) fn take(&mut self) -> RecordBatch { RecordBatch::new_empty(std::sync::Arc::new(Schema::empty())) } pub(crate) fn buffered_rows(&self) -> usize { 0 } pub(crate) fn buffered_bytes(&self) -> usize { 0 } }
impl CopyEncoder { pub(crate) fn new(_: CopyOptions, _: &Schema) -> Result<Self, CopyError> { Ok(CopyEncoder) } pub(crate) fn header(&mut self) -> Bytes { Bytes::new() } pub(crate) fn finish(&mut self) -> Bytes { Bytes::new() } pub(crate) fn encode(&mut self, _: &RecordBatch) -> Result<Bytes, CopyError> { Ok(Bytes::new()) } }
