//! A local directory as an object store.
//!
//! A put writes a file of another name, fsyncs it, links it under its own name (which fails if there is one) and fsyncs
//! the directories that changed: after a crash an object is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use quire_kit::{clock, random, task};

use crate::error::ObjectError;
use crate::objects::{ObjectInfo, PutOutcome};

/// Where files are written before they get their names. Keys cannot begin with a dot.
const NEW: &str = ".new";
/// A file there of this age belongs to a process that died.
const NEW_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The store's directory.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    root: Arc<Path>,
}

impl Local {
    /// Opens the directory at `path` (the part of a URL after `file://`), making it if there is none.
    pub(crate) fn open(path: &str) -> Result<Local, ObjectError> {
        let shown = format!("file://{path}");
        let bad = |reason: String| ObjectError::BadUrl { url: shown.clone(), reason };
        let path = percent_decoded(path).ok_or_else(|| bad("its percent encoding is broken".to_string()))?;
        let root = PathBuf::from(path);
        if !root.is_absolute() {
            return Err(bad("the directory must be an absolute path: file:///directory".to_string()));
        }
        let new = root.join(NEW);
        make_directories(&new).map_err(|e| bad(format!("cannot make {}: {e}", new.display())))?;
        remove_abandoned(&new);
        Ok(Local { root: Arc::from(root) })
    }

    pub(crate) async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutOutcome, ObjectError> {
        let root = self.root.clone();
        self.blocking(key, move |path| {
            let parent = path.parent().unwrap_or(&root);
            make_directories(parent)?;
            let new = root.join(NEW).join(format!("{:032x}", random::u128()));
            let written = write_new(&new, &bytes).and_then(|()| fs::hard_link(&new, path));
            let removed = fs::remove_file(&new);
            let outcome = match written {
                Ok(()) => PutOutcome::Written,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    // its writer may not have come to this point yet
                    File::open(path)?.sync_all()?;
                    PutOutcome::Existed
                }
                Err(e) => return Err(e),
            };
            removed?;
            // up to the root: a directory that was there already may be another process' and a moment old
            for directory in parent.ancestors().take_while(|d| d.starts_with(&*root)) {
                sync_directory(directory)?;
            }
            Ok(outcome)
        })
        .await
    }

    pub(crate) async fn get_parts(&self, key: &str, parts: Vec<Range<u64>>) -> Result<Vec<Bytes>, ObjectError> {
        let end = parts.iter().map(|part| part.end).max().unwrap_or(0);
        let read = self.blocking(key, move |path| {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            if length < end {
                return Ok(Err(length));
            }
            let part = |part: Range<u64>| {
                let mut bytes = vec![0; (part.end - part.start) as usize];
                file.read_exact_at(&mut bytes, part.start).map(|()| Bytes::from(bytes))
            };
            parts.into_iter().map(part).collect::<io::Result<Vec<_>>>().map(Ok)
        });
        read.await?.map_err(|length| ObjectError::TooShort { key: key.to_string(), length, end })
    }

    pub(crate) async fn head(&self, key: &str) -> Result<ObjectInfo, ObjectError> {
        let name = key.to_string();
        self.blocking(key, move |path| {
            let metadata = fs::metadata(path)?;
            if !metadata.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(info(name, &metadata))
        })
        .await
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.blocking(key, |path| match fs::remove_file(path) {
            Ok(()) => path.parent().map_or(Ok(()), sync_directory),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        })
        .await
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let prefix = prefix.to_string();
        let key = prefix.clone();
        self.blocking(&key, move |path| {
            let mut found = Vec::new();
            collect(path, &prefix, &mut found)?;
            Ok(found)
        })
        .await
    }

    /// Runs file work for `key` off the runtime's threads.
    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let path = if key.is_empty() { self.root.to_path_buf() } else { self.root.join(key) };
        task::blocking(move || work(&path)).await.map_err(|e| ObjectError::of_io(key, &e))
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a directory and those above it; each new name is durable in the directory that holds it.
fn make_directories(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent();
    if let Some(parent) = parent {
        make_directories(parent)?;
    }
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    parent.map_or(Ok(()), sync_directory)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes what processes that died left behind; what cannot be removed does no harm but the room it takes.
fn remove_abandoned(new: &Path) {
    let now = clock::wall();
    for entry in fs::read_dir(new).into_iter().flatten().flatten() {
        let age = entry.metadata().map(|m| now.saturating_sub(modified(&m))).unwrap_or_default();
        if age > NEW_AGE_MAX
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::info!(path = %entry.path().display(), %error, "cannot remove an abandoned file");
        }
    }
}

/// Adds the objects at and below `path` to `found`; `key` is `path` relative to the root.
fn collect(path: &Path, key: &str, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
    let metadata = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()), // removed a moment ago, or never there
        other => other?,
    };
    if metadata.is_file() {
        found.push(info(key.to_string(), &metadata));
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        match name.to_str() {
            Some(name) if !name.starts_with('.') => {
                let key = if key.is_empty() { name.to_string() } else { format!("{key}/{name}") };
                collect(&entry.path(), &key, found)?;
            }
            _ => {} // not ours
        }
    }
    Ok(())
}

fn info(key: String, metadata: &fs::Metadata) -> ObjectInfo {
    ObjectInfo { key, bytes: metadata.len(), modified: modified(metadata) }
}

fn modified(metadata: &fs::Metadata) -> Duration {
    metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

/// `%20` and the like; `None` when that is not UTF-8 or not two hex digits.
fn percent_decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}
