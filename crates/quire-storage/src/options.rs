use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use quire_types::NodeId;

use crate::collect::KeepOptions;
use crate::compact::CompactOptions;
use crate::pressure::PressureOptions;
use crate::seal::SealOptions;

/// What a storage node is started with.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// This node's number.
    pub node_id: NodeId,
    /// The address to listen on; port 0 for any free one.
    pub listen: SocketAddr,
    /// All members of the group by number, this node among them, with the addresses that others dial.
    pub peers: BTreeMap<NodeId, String>,
    /// Where the log, the state and the page cache are kept.
    pub data_dir: PathBuf,
    /// URL of the object store.
    pub object_store: String,
    /// Encoded pages kept on this node's disk, bytes.
    pub cache_disk_bytes: u64,
    /// When delta rows become segments.
    pub seal: SealOptions,
    /// How eagerly segments are written anew.
    pub compact: CompactOptions,
    /// How long what nobody needs is kept.
    pub keep: KeepOptions,
    /// When commits wait for sealing and compaction.
    pub pressure: PressureOptions,
}
