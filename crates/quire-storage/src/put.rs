//! Segments into the object store, before the log says that they are there.

use bytes::Bytes;
use quire_objects::{ObjectError, Objects, PutOutcome};
use quire_types::SegmentMeta;

/// Why a segment was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// The object store would not take it.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// An object has a name that was chosen at random. Not chance: two generators with one seed.
    #[error("object {0} exists already")]
    Taken(String),
}

/// Stores segments under their names, durable when it returns; `by` says who writes, in the metric.
pub(crate) async fn all(objects: &Objects, segments: Vec<(SegmentMeta, Bytes)>, by: &'static str) -> Result<Vec<SegmentMeta>, PutError> {
    let mut metas = Vec::with_capacity(segments.len());
    for (meta, bytes) in segments {
        let key = SegmentMeta::object_key(meta.table, meta.id, meta.term);
        let length = bytes.len() as u64;
        if objects.put_if_absent(&key, bytes).await? == PutOutcome::Existed {
            return Err(PutError::Taken(key));
        }
        metrics::counter!("quire_storage_written_bytes_total", "by" => by).increment(length);
        metas.push(meta);
    }
    Ok(metas)
}

/// Removes the objects of a seal or compaction that did not and will not happen.
pub(crate) async fn remove(objects: &Objects, segments: &[SegmentMeta]) {
    for meta in segments {
        let key = SegmentMeta::object_key(meta.table, meta.id, meta.term);
        if let Err(error) = objects.delete(&key).await {
            tracing::info!(key, %error, "an orphan object stays");
        }
    }
}
