//! The world, behind a seam: clock, random numbers, named tasks, shutdown, backoff, telemetry.
//!
//! Nothing else in Quire reads a clock, rolls a die or starts a task, so that a seed can replay a cluster: the clock
//! is tokio's (which a test can pause), the random numbers come from one generator that a test can seed.
#![forbid(unsafe_code)]
// Here is the one place that may.
#![allow(clippy::disallowed_methods)]

pub mod clock;
pub mod random;
pub mod task;

mod shutdown;
pub use shutdown::Shutdown;

mod backoff;
pub use backoff::Backoff;

pub mod telemetry;
