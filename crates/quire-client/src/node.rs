//! One storage node: its address and its connections.

use std::sync::OnceLock;
use std::time::Duration;

use quire_proto::v1::admin_client::AdminClient;
use quire_proto::v1::pages_client::PagesClient;
use quire_proto::v1::storage_client::StorageClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// One message, either way: the largest commit, and one page that a single huge value made larger than others.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// A node on the same network answers a SYN in microseconds; two seconds is a dead one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection whose other end vanished is found out within the sum of these two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(4);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes on the way to us per stream and per connection, so that one round trip does not bound the rate:
/// 16 MiB covers 10 Gbit/s at 13 ms.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// A frame, which is one system call of the sender: a part of a page in one.
const FRAME_BYTES_MAX: u32 = 128 << 10;

/// An address that no connection can be made to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadAddress(String);

/// A storage node. Connections are made when first used, and made anew when they break.
#[derive(Debug)]
pub(crate) struct Node {
    address: String,
    /// Snapshots and commits: never behind bulk data.
    control: OnceLock<Result<Channel, String>>,
    /// Pages, deltas, uploads.
    bulk: OnceLock<Result<Channel, String>>,
}

impl Node {
    pub(crate) fn new(address: &str) -> Node {
        Node { address: address.trim().to_string(), control: OnceLock::new(), bulk: OnceLock::new() }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn storage(&self) -> Result<StorageClient<Channel>, Status> {
        Ok(sized_storage(StorageClient::new(self.channel(&self.control)?)))
    }

    /// The storage service over the bulk connection, for deltas.
    pub(crate) fn storage_bulk(&self) -> Result<StorageClient<Channel>, Status> {
        Ok(sized_storage(StorageClient::new(self.channel(&self.bulk)?)))
    }

    pub(crate) fn pages(&self) -> Result<PagesClient<Channel>, Status> {
        let client = PagesClient::new(self.channel(&self.bulk)?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) fn admin(&self) -> Result<AdminClient<Channel>, Status> {
        Ok(AdminClient::new(self.channel(&self.control)?))
    }

    fn channel(&self, slot: &OnceLock<Result<Channel, String>>) -> Result<Channel, Status> {
        slot.get_or_init(|| connect_lazily(&self.address)).clone().map_err(|reason| Status::from_error(Box::new(BadAddress(reason))))
    }
}

fn sized_storage(client: StorageClient<Channel>) -> StorageClient<Channel> {
    client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn connect_lazily(address: &str) -> Result<Channel, String> {
    let uri = if address.contains("://") { address.to_string() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|e| format!("{address:?} is no address: {e}"))?;
    if endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(format!("{address:?} is no address: it has no host"));
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .connect_lazy())
}
