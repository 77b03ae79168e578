//! Sessions, catalog, planning and writes: everything between a SQL string and storage.
#![forbid(unsafe_code)]

mod api;
pub use api::{
    CopyOut, EngineOptions, Notice, OutputColumn, ParamValue, Prepared, Response, Rows, SessionOptions, TransactionStatus, WireType,
};

mod error;
pub use error::{ErrorObject, SqlError};

mod engine;
pub use engine::Engine;

mod session;
pub use session::{CancelHandle, Session};

mod work;
pub use work::Work;

mod settings;

mod parse;
pub use parse::Parsed;

mod bind;
mod names;
mod operators;
mod query;
mod rewrite;
mod show;

mod copy_table;
mod ddl;
mod define;
mod dml;
mod insert;
mod on_conflict;

mod copy_in;
pub use copy_in::CopyIn;

mod keys;
mod txn;
mod write;

mod catalog;
mod functions;
mod scan_exec;
mod source;
mod system;
mod system_functions;
mod table;

mod errors;

mod copy;
pub mod values;
