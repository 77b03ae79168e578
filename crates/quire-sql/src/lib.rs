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

mod session_settings;

mod work;
pub use work::Work;

mod settings;

mod syntax;
mod syntax_sequence;
mod system_query;

mod parse;
pub use parse::Parsed;

mod bind;
mod cursor;
mod names;
mod operator_syntax;
mod operators;
mod prepare;
mod query;
mod regtypes;
mod resolve;
mod rewrite;
mod show;

mod alter;
mod alter_rows;
mod alteration;
mod copy_table;
mod ddl;
mod define;
mod define_sequence;
mod depend;
mod dml;
mod foreign_keys;
mod generated;
mod insert;
mod on_conflict;
mod sequence_options;
mod table_builder;
mod utility;

mod copy_in;
pub use copy_in::CopyIn;

mod keys;
mod txn;
mod write;

mod catalog;
mod functions;
mod scan_exec;
mod sequence_functions;
mod sequences;
mod session_functions;
mod source;
mod system;
mod system_functions;
mod system_sequences;
mod table;
mod view_reads;

mod errors;

mod copy;
pub mod values;
