use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

/// The same rows without the buffers of rows that are not among them: views may point into a whole page.
pub fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as _,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as _,
        _ => column.clone(),
    });
    RecordBatch::try_new(batch.schema(), columns.collect())
}
