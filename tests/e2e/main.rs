//! The whole program from outside, by what clients and operators do to it.

// Real processes live in real time.
#![allow(clippy::disallowed_methods)]

mod cluster;
mod compaction;
mod copy;
mod explain;
mod faults;
mod hermitage;
mod histories;
mod index_scan;
mod join_keys;
mod memory;
mod ordered_grouping;
mod pgbench;
mod plans;
mod psql;
mod psql_golden;
mod rules;
mod s3;
mod tpch_refresh;
mod transactions;
mod wire;
