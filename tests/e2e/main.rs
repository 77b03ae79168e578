//! The whole program from outside, by what clients and operators do to it.

mod cluster;
mod compaction;
mod copy;
mod faults;
mod hermitage;
mod histories;
mod psql;
mod psql_golden;
mod s3;
mod transactions;
mod wire;
