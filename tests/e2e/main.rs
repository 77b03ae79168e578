//! The whole program from outside, by what clients and operators do to it.

mod cluster;
mod copy;
mod faults;
mod pgbench;
mod psql;
mod psql_golden;
mod s3;
mod wire;
