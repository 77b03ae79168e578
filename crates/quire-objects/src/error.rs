use std::io;

/// Why an object operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no object with this key.
    #[error("object {key} does not exist")]
    NotFound {
        /// The key.
        key: String,
    },
    /// The object is shorter than asked for: it is not the one that was written.
    #[error("object {key} has {length} bytes, and bytes up to {end} were asked for")]
    TooShort {
        /// The key.
        key: String,
        /// Its length.
        length: u64,
        /// One past the last byte asked for.
        end: u64,
    },
    /// No room left: a disk, a quota.
    #[error("the object store is full: {reason}")]
    Full {
        /// What it said.
        reason: String,
    },
    /// Credentials or permissions do not suffice; a person must act.
    #[error("the object store denies access: {reason}")]
    Denied {
        /// What it said.
        reason: String,
    },
    /// Trouble that may pass; retries were made where they help.
    #[error("the object store is unavailable: {reason}")]
    Unavailable {
        /// What it said.
        reason: String,
    },
    /// The URL names no object store.
    #[error("{url} is no object store: {reason}")]
    BadUrl {
        /// The URL, without secrets.
        url: String,
        /// Why.
        reason: String,
    },
    /// Not a key: empty, or a part of it is empty, or begins with a dot.
    #[error("{key:?} is no object key")]
    BadKey {
        /// What was given.
        key: String,
    },
}

impl ObjectError {
    /// What an error of the local file system means for `key`.
    pub(crate) fn of_io(key: &str, error: &io::Error) -> ObjectError {
        let reason = format!("{key}: {error}");
        match error.kind() {
            io::ErrorKind::NotFound => ObjectError::NotFound { key: key.to_string() },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => ObjectError::Full { reason },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ObjectError::Denied { reason },
            _ => ObjectError::Unavailable { reason },
        }
    }

    /// What an error of the `object_store` crate means for `key`.
    pub(crate) fn of_store(key: &str, error: &object_store::Error) -> ObjectError {
        use object_store::Error;
        let reason = error.to_string();
        match error {
            Error::NotFound { .. } => ObjectError::NotFound { key: key.to_string() },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ObjectError::Denied { reason },
            _ if is_full(&reason) => ObjectError::Full { reason },
            _ => ObjectError::Unavailable { reason },
        }
    }
}

/// S3 servers on a disk of their own say so with these codes; the crate keeps only the text.
fn is_full(reason: &str) -> bool {
    ["XMinioStorageFull", "QuotaExceeded", "507 Insufficient Storage"].iter().any(|code| reason.contains(code))
}
