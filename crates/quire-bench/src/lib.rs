//! quire-bench
