//! Buckets, by the `object_store` crate: signing, retries, conditional puts.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};

use crate::error::ObjectError;
use crate::objects::{ObjectInfo, PutOutcome};

/// Ranges this near are one request: 256 KiB cost 2 ms of a 1 Gbit/s link, a request costs 10 to 50.
pub(crate) const GAP_BYTES_MAX: u64 = 256 << 10;
/// A whole request, a segment's upload at 2 MB/s included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// After the first failure. Callers have retries and deadlines of their own.
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);
const RETRIES_MAX: usize = 6;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A bucket and a prefix in it.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Remote {
    /// `shown` is the URL without secrets, for errors.
    pub(crate) fn open(url: &str, shown: &str) -> Result<Remote, ObjectError> {
        let bad = |reason: String| ObjectError::BadUrl { url: shown.to_string(), reason };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad("it names no bucket".to_string()));
        }
        let prefix = Path::parse(prefix.trim_matches('/')).map_err(|e| bad(e.to_string()))?;
        let url = format!("{scheme}://{bucket}");
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: BACKOFF_FIRST, max_backoff: BACKOFF_MAX, base: 2. },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
        };
        let store: Result<Arc<dyn ObjectStore>, object_store::Error> = match scheme {
            "s3" | "s3a" => AmazonS3Builder::from_env()
                .with_url(url)
                .with_conditional_put(S3ConditionalPut::ETagMatch)
                .with_retry(retry)
                .with_client_options(client_options("AWS_"))
                .build()
                .map(|s| Arc::new(s) as _),
            "gs" => GoogleCloudStorageBuilder::from_env()
                .with_url(url)
                .with_retry(retry)
                .with_client_options(client_options("GOOGLE_"))
                .build()
                .map(|s| Arc::new(s) as _),
            _ => MicrosoftAzureBuilder::from_env()
                .with_url(url)
                .with_retry(retry)
                .with_client_options(client_options("AZURE_"))
                .build()
                .map(|s| Arc::new(s) as _),
        };
        Ok(Remote { store: store.map_err(|e| bad(e.to_string()))?, prefix })
    }

    pub(crate) async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutOutcome, ObjectError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(key), bytes.into(), options).await {
            Ok(_) => Ok(PutOutcome::Written),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(PutOutcome::Existed),
            Err(error @ object_store::Error::NotFound { .. }) => Err(ObjectError::Denied { reason: format!("no such bucket: {error}") }),
            Err(error) => Err(ObjectError::of_store(key, &error)),
        }
    }

    /// Reads `range` by one request, and gives the `parts` of it.
    pub(crate) async fn get_parts(&self, key: &str, range: Range<u64>, parts: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError> {
        match self.read_parts(key, range.clone(), parts).await {
            Ok(Filling { at, filled }) if at >= range.end => Ok(filled.into_iter().map(Bytes::from).collect()),
            Ok(Filling { at, .. }) => Err(ObjectError::TooShort { key: key.to_string(), length: at, end: range.end }),
            Err(error) => {
                // a range past the end has no variant of its own; the object's length tells
                let failure = ObjectError::of_store(key, &error);
                match failure {
                    ObjectError::Unavailable { .. } => match self.head(key).await {
                        Ok(info) if info.bytes < range.end => {
                            Err(ObjectError::TooShort { key: key.to_string(), length: info.bytes, end: range.end })
                        }
                        _ => Err(failure),
                    },
                    other => Err(other),
                }
            }
        }
    }

    async fn read_parts(&self, key: &str, range: Range<u64>, parts: &[Range<u64>]) -> Result<Filling, object_store::Error> {
        let mut filling = Filling::new(range.start, parts);
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let mut chunks = self.store.get_opts(&self.path(key), options).await?.into_stream();
        while let Some(chunk) = chunks.try_next().await? {
            filling.take(&chunk, parts);
        }
        Ok(filling)
    }

    pub(crate) async fn head(&self, key: &str) -> Result<ObjectInfo, ObjectError> {
        let meta = self.store.head(&self.path(key)).await.map_err(|e| ObjectError::of_store(key, &e))?;
        Ok(self.info(meta))
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(ObjectError::of_store(key, &error)),
        }
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let path = self.path(prefix);
        let found = self.store.list(Some(&path)).map_ok(|meta| self.info(meta)).try_collect().await;
        found.map_err(|e| ObjectError::of_store(prefix, &e))
    }

    fn path(&self, key: &str) -> Path {
        self.prefix.parts().chain(Path::from(key).parts()).collect()
    }

    fn info(&self, meta: ObjectMeta) -> ObjectInfo {
        let key = match meta.location.prefix_match(&self.prefix) {
            Some(parts) => parts.map(|p| p.as_ref().to_string()).collect::<Vec<_>>().join("/"),
            None => meta.location.to_string(),
        };
        let modified = Duration::from_micros(u64::try_from(meta.last_modified.timestamp_micros()).unwrap_or(0));
        ObjectInfo { key, bytes: meta.size, modified }
    }
}

/// Parts of an object, filled as its bytes come: each is written once, and holds on to nothing else that came with it.
struct Filling {
    at: u64,
    filled: Vec<Vec<u8>>,
}

impl Filling {
    fn new(at: u64, parts: &[Range<u64>]) -> Filling {
        Filling { at, filled: parts.iter().map(|part| Vec::with_capacity((part.end - part.start) as usize)).collect() }
    }

    fn take(&mut self, chunk: &[u8], parts: &[Range<u64>]) {
        let end = self.at + chunk.len() as u64;
        for (part, filled) in parts.iter().zip(&mut self.filled) {
            let (from, to) = (part.start.max(self.at), part.end.min(end));
            if from < to {
                filled.extend_from_slice(&chunk[(from - self.at) as usize..(to - self.at) as usize]);
            }
        }
        self.at = end;
    }
}

/// Timeouts, and what the environment says of plain HTTP: given options replace those a builder read there.
fn client_options(prefix: &str) -> ClientOptions {
    let allow_http =
        std::env::var(format!("{prefix}ALLOW_HTTP")).is_ok_and(|v| matches!(v.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"));
    ClientOptions::new().with_allow_http(allow_http).with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_filled_however_the_bytes_come() {
        let object: Vec<u8> = (0..100).collect();
        let parts = [10..20, 15..40, 40..41, 60..90];
        for size in [1, 7, 25, 90] {
            let mut filling = Filling::new(10, &parts);
            object[10..90].chunks(size).for_each(|chunk| filling.take(chunk, &parts));
            assert_eq!(filling.at, 90);
            for (part, filled) in parts.iter().zip(&filling.filled) {
                assert_eq!(filled, &object[part.start as usize..part.end as usize], "{part:?} in pieces of {size}");
            }
        }
    }
}
