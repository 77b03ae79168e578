//! The command line. Every flag has the same name in the file given by `--config` and as `QUIRE_…` in the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use quire_types::NodeId;

/// A SQL database whose compute and storage scale apart
#[derive(Debug, Parser)]
#[command(name = "quire", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// TOML file with the settings of this command, by the names of its flags
    #[arg(long, global = true, env = "QUIRE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run storage nodes and compute nodes in one process, with the real protocols between them
    Dev(Dev),
    /// Run one storage node
    Storage(Storage),
    /// Run one compute node
    Compute(Compute),
    /// TPC-H against any server that speaks the Postgres protocol
    Tpch(quire_bench::TpchArgs),
    /// Other benchmarks
    #[command(subcommand)]
    Bench(Bench),
    /// Ask a running storage service
    #[command(subcommand)]
    Admin(Admin),
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Where everything is kept
    #[arg(long, env = "QUIRE_DATA_DIR", value_name = "DIR", default_value = "quire-data")]
    pub(crate) data_dir: PathBuf,
    /// Address of the first compute node; further ones take the ports that follow
    #[arg(long, env = "QUIRE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:5433")]
    pub(crate) listen: SocketAddr,
    /// Address of the HTTP port: /metrics, /healthz, /readyz
    #[arg(long, env = "QUIRE_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,
    /// Storage nodes
    #[arg(long, env = "QUIRE_STORAGE_NODES", value_name = "N", default_value = "3", value_parser = clap::builder::PossibleValuesParser::new(["1", "3"]))]
    pub(crate) storage_nodes: String,
    /// Compute nodes
    #[arg(long, env = "QUIRE_COMPUTE_NODES", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) compute_nodes: u16,
    /// Address of the first storage node; further ones take the ports that follow. The log remembers them: keep it for the life of the data
    #[arg(long, env = "QUIRE_STORAGE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7101")]
    pub(crate) storage_listen: SocketAddr,
    /// URL of the object store; by default the directory `objects` in the data directory
    #[arg(long, env = "QUIRE_OBJECT_STORE", value_name = "URL")]
    pub(crate) object_store: Option<String>,
    #[command(flatten)]
    pub(crate) seal: Seal,
    #[command(flatten)]
    pub(crate) upkeep: Upkeep,
    #[command(flatten)]
    pub(crate) memory: ComputeMemory,
    /// Encoded pages kept on each node's disk
    #[arg(long, env = "QUIRE_CACHE_DISK", value_name = "SIZE", default_value = "20GiB")]
    pub(crate) cache_disk: ByteSize,
}

#[derive(Debug, Args)]
pub(crate) struct Storage {
    /// This node's number in the group
    #[arg(long, env = "QUIRE_NODE_ID", value_name = "N", value_parser = node_id)]
    pub(crate) node_id: NodeId,
    /// Address to listen on
    #[arg(long, env = "QUIRE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7101")]
    pub(crate) listen: SocketAddr,
    /// Address that others dial, when it is another than the one listened on; the one that --peers has for this node
    #[arg(long, env = "QUIRE_ADVERTISE", value_name = "ADDR")]
    pub(crate) advertise: Option<String>,
    /// Every node of the group, this one included: 1=host:port,2=host:port,3=host:port
    #[arg(long, env = "QUIRE_PEERS", value_name = "N=ADDR", value_delimiter = ',', value_parser = peer, required = true)]
    pub(crate) peers: Vec<(NodeId, String)>,
    /// Where the log and the page cache are kept
    #[arg(long, env = "QUIRE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// URL of the object store: file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    #[arg(long, env = "QUIRE_OBJECT_STORE", value_name = "URL")]
    pub(crate) object_store: String,
    /// Address of the HTTP port: /metrics, /healthz, /readyz
    #[arg(long, env = "QUIRE_HTTP", value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
    /// Encoded pages kept on this node's disk
    #[arg(long, env = "QUIRE_CACHE_DISK", value_name = "SIZE", default_value = "20GiB")]
    pub(crate) cache_disk: ByteSize,
    /// Memory that is had from the kernel at start, so that what comes first need not wait for it
    #[arg(long, env = "QUIRE_TOUCH_MEMORY", value_name = "SIZE", default_value = "64MiB", value_parser = touched)]
    pub(crate) touch_memory: ByteSize,
    #[command(flatten)]
    pub(crate) seal: Seal,
    #[command(flatten)]
    pub(crate) upkeep: Upkeep,
}

/// When rows of the log become segments.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Seal {
    /// Rows of one table after which they become a segment
    #[arg(long, env = "QUIRE_SEAL_ROWS", value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seal_rows: u64,
    /// Time after which rows become a segment, however few they are
    #[arg(long, env = "QUIRE_SEAL_AGE", value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) seal_age: Duration,
}

/// What storage keeps, and when commits wait for it.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Upkeep {
    /// Time for which snapshots can be read: rows and segments that no new snapshot names are removed after it
    #[arg(long, env = "QUIRE_RETENTION", value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) retention: Duration,
    /// Age at which an object that was uploaded and never committed is removed; no transaction may load rows and stay open for longer
    #[arg(long, env = "QUIRE_ORPHAN_AGE", value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(crate) orphan_age: Duration,
    /// Rows of one table that wait to become a segment; above it commits to the table slow down
    #[arg(long, env = "QUIRE_DELTA_ROWS_MAX", value_name = "N", default_value_t = 524_288, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) delta_rows_max: u64,
    /// Bytes of the same
    #[arg(long, env = "QUIRE_DELTA_SIZE_MAX", value_name = "SIZE", default_value = "256MiB")]
    pub(crate) delta_size_max: ByteSize,
    /// Segments of one table that wait to be merged; above it commits to the table slow down
    #[arg(long, env = "QUIRE_SMALL_SEGMENTS_MAX", value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) small_segments_max: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Compute {
    /// Addresses of the storage nodes
    #[arg(long, env = "QUIRE_STORAGE", value_name = "ADDR", value_delimiter = ',', required = true)]
    pub(crate) storage: Vec<String>,
    /// Address to listen on
    #[arg(long, env = "QUIRE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:5433")]
    pub(crate) listen: SocketAddr,
    /// Address of the HTTP port: /metrics, /healthz, /readyz
    #[arg(long, env = "QUIRE_HTTP", value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
    /// Directory of the disk cache; without it there is none
    #[arg(long, env = "QUIRE_CACHE_DIR", value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Encoded pages kept on this node's disk
    #[arg(long, env = "QUIRE_CACHE_DISK", value_name = "SIZE", default_value = "20GiB")]
    pub(crate) cache_disk: ByteSize,
    #[command(flatten)]
    pub(crate) memory: ComputeMemory,
}

/// What a compute node may use.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ComputeMemory {
    /// Decoded pages kept in memory at most; by default as much of the memory limit as queries leave
    #[arg(long, env = "QUIRE_CACHE_MEMORY", value_name = "SIZE")]
    pub(crate) cache_memory: Option<ByteSize>,
    /// Memory for decoded pages and all queries together; queries that need more spill, or fail with 53200
    #[arg(long, env = "QUIRE_MEMORY_LIMIT", value_name = "SIZE", default_value = "8GiB")]
    pub(crate) memory_limit: ByteSize,
    /// Memory that is had from the kernel at start, so that first queries need not wait for it; at most a quarter of the limit
    #[arg(long, env = "QUIRE_TOUCH_MEMORY", value_name = "SIZE", default_value = "256MiB", value_parser = touched)]
    pub(crate) touch_memory: ByteSize,
    /// Connections at once; more get 53300
    #[arg(long, env = "QUIRE_MAX_CONNECTIONS", value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: u32,
}

impl ComputeMemory {
    pub(crate) fn touched(&self) -> ByteSize {
        self.touch_memory.min(ByteSize::b(self.memory_limit.as_u64() / 4))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Single-row commits a second and their latency, beside this machine's own fsync rate
    Commits(quire_bench::CommitsArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Nodes, roles, positions and what they hold
    Status(Status),
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Addresses of the storage nodes
    #[arg(
        long,
        env = "QUIRE_STORAGE",
        value_name = "ADDR",
        value_delimiter = ',',
        default_value = "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103"
    )]
    pub(crate) storage: Vec<String>,
    /// How to print it
    #[arg(long, env = "QUIRE_FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

fn node_id(text: &str) -> Result<NodeId, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a node's number is 1 or more".into()),
        Ok(n) => Ok(NodeId(n)),
    }
}

fn touched(text: &str) -> Result<ByteSize, String> {
    match text.parse() {
        Ok(size) if size <= ByteSize::gib(4) => Ok(size),
        Ok(_) => Err("at most 4GiB".into()),
        Err(error) => Err(error),
    }
}

fn peer(text: &str) -> Result<(NodeId, String), String> {
    let (id, address) = text.split_once('=').ok_or("expected N=host:port")?;
    let (host, port) = address.rsplit_once(':').ok_or("expected N=host:port")?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err("expected N=host:port".into());
    }
    Ok((node_id(id)?, address.to_string()))
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}
