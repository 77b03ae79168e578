//! What the door (`quire-pg`) and the program see: an [`crate::Engine`] a node, a [`crate::Session`] a connection,
//! and what executing a statement gives back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::stream::BoxStream;
use quire_types::SqlType;

use crate::SqlError;

/// What a compute node is started with.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Addresses of storage nodes, `host:port`.
    pub storage: Vec<String>,
    /// Where encoded pages are kept; `None` for no disk tier.
    pub cache_dir: Option<PathBuf>,
    /// Decoded pages kept in memory at most, bytes; they are part of the memory limit, and give way to queries.
    pub cache_memory_bytes: u64,
    /// Encoded pages kept on disk, bytes.
    pub cache_disk_bytes: u64,
    /// Memory for decoded pages and all queries together, bytes; what needs more spills or fails with 53200.
    pub memory_limit_bytes: u64,
    /// Worker threads that one query spreads over; normally the number of cores.
    pub target_partitions: usize,
}

/// Who opens a session.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Run-time parameters from the startup message (application_name, client_encoding, options, …).
    pub parameters: Vec<(String, String)>,
    /// The client's address, for logs.
    pub peer: String,
    /// The connection's process id as told to the client in BackendKeyData (`pg_backend_pid()`).
    pub backend_pid: i32,
}

/// For ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// `I`: not in a block.
    Idle,
    /// `T`: in a block.
    InBlock,
    /// `E`: in a failed block.
    Failed,
}

/// A NOTICE or WARNING for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `NOTICE`, `WARNING` or `INFO`.
    pub severity: &'static str,
    /// SQLSTATE.
    pub code: &'static str,
    /// Message.
    pub message: String,
    /// Detail.
    pub detail: Option<String>,
    /// Hint.
    pub hint: Option<String>,
}

/// The type of a result column or parameter, in the wire's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireType {
    /// An ordinary value; the Arrow column has exactly [`SqlType::arrow`]'s type.
    Scalar(SqlType),
    /// A one-dimensional array; the Arrow column is a `List` of the element's Arrow type.
    Array(SqlType),
    /// `int2vector` (22) or, of Int8, `oidvector` (30): a `List` of the element's Arrow type that the catalogs write without braces.
    Vector(SqlType),
    /// `oid` (26): the Arrow column is Int64 here, four bytes on the wire.
    Oid,
    /// `name` (19): Utf8View.
    Name,
    /// `"char"` (18): Utf8View of one character.
    QuotedChar,
    /// unknown (705): a parameter whose type nothing fixed; treated as text.
    Unknown,
}

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputColumn {
    /// Its name as Postgres would name it.
    pub name: String,
    /// Its type.
    pub ty: WireType,
    /// oid of the table it comes from, 0 when it is computed.
    pub table_oid: u32,
    /// Its number in that table from 1, or 0.
    pub column_number: i16,
}

/// A result with rows.
pub struct Rows {
    /// Columns; batches of the stream have exactly these, converted to the Arrow types that [`WireType`] documents.
    pub columns: Arc<Vec<OutputColumn>>,
    /// The rows. Ends with an error when the statement fails or is cancelled; tell the session by [`crate::Session::fail`].
    pub stream: BoxStream<'static, Result<RecordBatch, SqlError>>,
    /// First word of the command tag; the door appends the number of rows: `SELECT 5`, `INSERT 0 5`, `FETCH 5`. For tags without a
    /// count (`SHOW`, `EXPLAIN`) see `counted`.
    pub tag: &'static str,
    /// Whether the tag carries the number of rows.
    pub counted: bool,
}

/// What executing a statement gives.
pub enum Response {
    /// Rows.
    Rows(Rows),
    /// No rows: the whole command tag (`CREATE TABLE`, `INSERT 0 3`, `BEGIN`).
    Complete(String),
    /// The client is to send data: COPY FROM STDIN.
    CopyIn(Box<crate::CopyIn>),
    /// The server sends data: COPY TO STDOUT.
    CopyOut(CopyOut),
    /// An empty query string.
    Empty,
}

/// COPY TO STDOUT.
pub struct CopyOut {
    /// True for the binary format.
    pub binary: bool,
    /// Columns.
    pub columns: usize,
    /// CopyData payloads, header and trailer included.
    pub stream: BoxStream<'static, Result<Bytes, SqlError>>,
    /// Rows sent so far; after the stream's end, the number in the tag `COPY n`.
    pub rows: Arc<AtomicU64>,
}

/// A parameter's value: an array of one row in the Arrow type that the parameter's [`WireType`] documents.
pub type ParamValue = ArrayRef;

/// A parsed and analysed statement.
pub struct Prepared {
    pub(crate) statement: crate::parse::Parsed,
    /// Types of `$1`, `$2`, ….
    pub parameters: Vec<WireType>,
    /// Columns of the result; `None` when it has no rows.
    pub columns: Option<Arc<Vec<OutputColumn>>>,
    /// Taken apart, when it is of a shape that needs no plan.
    pub(crate) ready: Option<crate::ready::Ready>,
}

impl Prepared {
    /// The statement's text, shortened, for logs.
    pub fn summary(&self) -> String {
        self.statement.summary()
    }
}
