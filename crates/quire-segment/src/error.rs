use arrow::error::ArrowError;
use parquet::errors::ParquetError;

/// Why rows do not encode or a page does not decode.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The Parquet library refused.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    /// An Arrow kernel refused.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// Bytes, footer and manifest do not fit together.
    #[error("{0}")]
    Inconsistent(String),
}
