/// Why a storage node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {dir}: {reason}")]
    DataDir {
        /// The directory.
        dir: String,
        /// Why.
        reason: String,
    },
    /// The object store cannot be used.
    #[error("cannot use the object store: {0}")]
    ObjectStore(String),
    /// Raft does not start.
    #[error("cannot start the Raft group: {0}")]
    Raft(String),
}
