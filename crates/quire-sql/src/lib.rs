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

mod settings;

mod parse;
pub use parse::Parsed;

mod names;
mod bind;
mod query;
mod show;

mod ddl;
mod define;
mod insert;
mod copy_table;

mod copy_in;
pub use copy_in::CopyIn;

mod txn;
mod write;
mod keys;

mod catalog;
mod system;
mod system_functions;
mod functions;
mod table;
mod scan_exec;
mod source;

mod errors;

pub mod values;
mod copy;
