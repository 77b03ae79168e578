//! Quire as a stranger meets it: real processes on real ports, driven through the wire.
//!
//! [`Quire`] is one `quire dev`; [`Cluster`] is storage and compute as processes of their own. Both live in a temporary
//! directory, stop at drop, and hold their logs to account: a WARN, an ERROR or a panic that the test did not allow fails it.
//! [`pg`] is a client that says exactly what it is told to and shows results as the server sent them.
//!
//! Nothing here uses the product's crates: what a test needs is in the binary, or the binary lacks a feature.
#![forbid(unsafe_code)]
// Real processes live in real time; what a seed can replay is inside the product.
#![allow(clippy::disallowed_methods)]

mod dev;
pub use dev::{Quire, QuireBuilder};

mod cluster;
pub use cluster::{Cluster, ClusterBuilder};

mod process;
pub use process::Process;

mod status;
pub use status::NodeStatus;

mod s3;
pub use s3::S3;

pub mod program;

pub mod paths;

mod binary;
mod http;
mod logs;
mod ports;

mod random;
pub use random::Random;

mod lines;
pub use lines::lines;

pub mod history;
pub mod workload;

pub mod pg;
