use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quire_kit::clock;
use tokio::sync::Semaphore;

use crate::error::ObjectError;
use crate::local::Local;
use crate::remote::Remote;

/// Requests at once: an object store answers a hundred as fast as one, and sockets are not free.
const REQUESTS_MAX: usize = 128;
/// Range reads of one call at once.
const RANGES_AT_ONCE: usize = 8;

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object was written and is durable.
    Written,
    /// An object with this key was there already and is durable; it was left as it is. Its bytes may be others.
    Existed,
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written, as time since 1970-01-01 UTC by the store's clock.
    pub modified: Duration,
}

/// An object store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    backend: Backend,
    requests: Arc<Semaphore>,
    url: Arc<str>,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(Local),
    Remote(Remote),
}

impl Objects {
    /// Opens `file:///directory` (made if absent), `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    /// Credentials and endpoints come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
    ///
    /// A bucket is not contacted.
    pub fn open(url: &str) -> Result<Objects, ObjectError> {
        let shown = without_secrets(url);
        let backend = match url.split_once("://") {
            Some(("file", path)) => Backend::Local(Local::open(path)?),
            Some(("s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss", _)) => Backend::Remote(Remote::open(url, &shown)?),
            _ => {
                let reason = "expected file:///directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix".to_string();
                return Err(ObjectError::BadUrl { url: shown, reason });
            }
        };
        Ok(Objects { backend, requests: Arc::new(Semaphore::new(REQUESTS_MAX)), url: Arc::from(shown) })
    }

    /// Where the objects are, without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes an object unless there is one with this key. Whatever the outcome, the object is durable when this returns.
    pub async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutOutcome, ObjectError> {
        check_key(key)?;
        let length = bytes.len() as u64;
        let outcome = self
            .request("put", async {
                match &self.backend {
                    Backend::Local(local) => local.put_if_absent(key, bytes).await,
                    Backend::Remote(remote) => remote.put_if_absent(key, bytes).await,
                }
            })
            .await?;
        if outcome == PutOutcome::Written {
            metrics::counter!("quire_objects_bytes_total", "direction" => "out").increment(length);
        }
        Ok(outcome)
    }

    /// Reads a range of an object, all of it or an error.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let mut bytes = self.get_ranges(key, std::slice::from_ref(&range)).await?;
        Ok(bytes.pop().unwrap_or_default())
    }

    /// Reads many ranges of one object, in the order given, each into memory of its own. From a bucket, ranges that touch or nearly touch are
    /// read by one request.
    pub async fn get_ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError> {
        use futures::{StreamExt, TryStreamExt};
        check_key(key)?;
        let requests = match &self.backend {
            Backend::Local(_) => merge(ranges, u64::MAX),
            Backend::Remote(_) => merge(ranges, crate::remote::GAP_BYTES_MAX),
        };
        let reads: Vec<_> = requests.iter().map(|request| self.get(key, ranges, request)).collect();
        let read: Vec<Vec<Bytes>> = futures::stream::iter(reads).buffered(RANGES_AT_ONCE).try_collect().await?;
        let mut found = vec![Bytes::new(); ranges.len()];
        for (request, parts) in requests.iter().zip(read) {
            request.parts.iter().zip(parts).for_each(|(position, bytes)| found[*position] = bytes);
        }
        Ok(found)
    }

    async fn get(&self, key: &str, ranges: &[Range<u64>], request: &Request) -> Result<Vec<Bytes>, ObjectError> {
        let parts: Vec<_> = request.parts.iter().map(|position| ranges[*position].clone()).collect();
        let read = self
            .request("get", async {
                match &self.backend {
                    Backend::Local(local) => local.get_parts(key, parts.clone()).await,
                    Backend::Remote(remote) => remote.get_parts(key, request.range.clone(), &parts).await,
                }
            })
            .await?;
        let moved = match &self.backend {
            Backend::Local(_) => read.iter().map(|bytes| bytes.len() as u64).sum(),
            Backend::Remote(_) => request.range.end - request.range.start,
        };
        metrics::counter!("quire_objects_bytes_total", "direction" => "in").increment(moved);
        Ok(read)
    }

    /// The length and time of an object.
    pub async fn head(&self, key: &str) -> Result<ObjectInfo, ObjectError> {
        check_key(key)?;
        self.request("head", async {
            match &self.backend {
                Backend::Local(local) => local.head(key).await,
                Backend::Remote(remote) => remote.head(key).await,
            }
        })
        .await
    }

    /// Removes an object; fine when there is none.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        check_key(key)?;
        self.request("delete", async {
            match &self.backend {
                Backend::Local(local) => local.delete(key).await,
                Backend::Remote(remote) => remote.delete(key).await,
            }
        })
        .await
    }

    /// The objects whose keys begin with `prefix`, whole parts of it (`segments/12` does not find `segments/123/…`), by key.
    /// An empty prefix lists everything.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() {
            check_key(prefix)?;
        }
        let mut found = self
            .request("list", async {
                match &self.backend {
                    Backend::Local(local) => local.list(prefix).await,
                    Backend::Remote(remote) => remote.list(prefix).await,
                }
            })
            .await?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn request<T>(&self, operation: &'static str, work: impl Future<Output = Result<T, ObjectError>>) -> Result<T, ObjectError> {
        let _permit = self.requests.acquire().await.expect("the semaphore is never closed");
        let start = clock::now();
        let result = work.await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(ObjectError::NotFound { .. }) => "not_found",
            Err(_) => "error",
        };
        metrics::counter!("quire_objects_requests_total", "operation" => operation, "outcome" => outcome).increment(1);
        metrics::histogram!("quire_objects_request_seconds", "operation" => operation).record(start.elapsed().as_secs_f64());
        result
    }
}

/// What one request reads: a range in which some of those wanted lie, by their positions.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    range: Range<u64>,
    parts: Vec<usize>,
}

/// The requests by which all of `ranges` are had, ascending; those at most `gap_max` apart are one. Empty ranges need none.
fn merge(ranges: &[Range<u64>], gap_max: u64) -> Vec<Request> {
    let mut sorted: Vec<_> = ranges.iter().enumerate().filter(|(_, range)| !range.is_empty()).collect();
    sorted.sort_by_key(|(_, range)| (range.start, range.end));
    let mut requests: Vec<Request> = Vec::new();
    for (position, range) in sorted {
        match requests.last_mut() {
            Some(last) if range.start <= last.range.end.saturating_add(gap_max) => {
                last.range.end = last.range.end.max(range.end);
                last.parts.push(position);
            }
            _ => requests.push(Request { range: range.clone(), parts: vec![position] }),
        }
    }
    requests
}

/// Keys are relative paths of plain parts, so that none leaves the store's directory or meets its own files.
fn check_key(key: &str) -> Result<(), ObjectError> {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if key.split('/').all(plain) { Ok(()) } else { Err(ObjectError::BadKey { key: key.to_string() }) }
}

/// `scheme://user:secret@host/path?query` without user, secret and query.
fn without_secrets(url: &str) -> String {
    let (base, _query) = url.split_once('?').unwrap_or((url, ""));
    match base.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => base.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn near_ranges_are_one_request() {
        let request = |range, parts: &[usize]| Request { range, parts: parts.to_vec() };
        assert_eq!(merge(&[10..20, 0..10, 25..30, 40..40], 4), [request(0..20, &[1, 0]), request(25..30, &[2])]);
        assert_eq!(merge(&[10..20, 0..10, 25..30], 5), [request(0..30, &[1, 0, 2])]);
        assert_eq!(merge(&[0..100, 10..20], 0), [request(0..100, &[0, 1])]);
        assert_eq!(merge(&[], 5), []);
    }

    #[test]
    fn keys_stay_inside() {
        for good in ["a", "segments/12/00ff-3.parquet"] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", ".new/x", "a\\b", "a b"] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(without_secrets("s3://key:secret@bucket/prefix?token=x"), "s3://bucket/prefix");
        assert_eq!(without_secrets("file:///data/a@b"), "file:///data/a@b");
    }
}
