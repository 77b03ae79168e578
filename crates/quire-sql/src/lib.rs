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
mod syntax_define;
mod syntax_sequence;
mod system_query;

mod parse;
pub use parse::Parsed;

mod aggregate_syntax;
mod alike_rows;
mod apart;
mod apply;
mod bind;
mod budget;
mod cursor;
mod derived;
mod explain;
mod function_syntax;
mod join_keys;
mod misread;
mod named_columns;
mod names;
mod nesting;
mod only_row;
mod operator_syntax;
mod operators;
mod plans;
mod prepare;
mod query;
mod ready;
mod recursive;
mod regtypes;
mod resolve;
mod rewrite;
mod set_functions;
mod settled;
mod show;
mod truth_values;
mod window_names;

mod alter;
mod alter_rows;
mod alteration;
mod assign;
mod changes_within;
mod comment;
mod copy_table;
mod ddl;
mod deferred;
mod define;
mod define_index;
mod define_sequence;
mod depend;
mod dialect;
mod direct;
mod dml;
mod foreign_keys;
mod generated;
mod insert;
mod joined;
mod like;
mod merge;
mod on_conflict;
mod referencing;
mod sequence_options;
mod table_builder;
mod utility;
mod written;

mod copy_in;
pub use copy_in::CopyIn;

mod delta_runs;
mod keys;
mod lock;
mod lock_syntax;
mod lookup;
mod pile;
mod reads;
mod savepoint;
mod turns;
mod txn;
mod txn_functions;
mod write;

mod catalog;
mod functions;
mod point;
mod scan_exec;
mod sequence_functions;
mod sequences;
mod session_functions;
mod source;
mod statistics;
mod system;
mod table;
mod temp;
mod view_reads;

mod errors;

mod copy;
pub mod values;
