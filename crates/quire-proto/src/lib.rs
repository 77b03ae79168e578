//! The generated gRPC types and their checked conversion to ours.
//!
//! What arrives is turned into `quire-types` with `TryFrom` at the border; inside, the type is the proof.
//! Nothing else of Quire names a generated type but the rpc modules of `quire-client` and `quire-storage`.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::large_futures, clippy::unwrap_used)]
pub mod v1 {
    tonic::include_proto!("quire.v1");
}

mod convert;
pub use convert::{Malformed, decode_entry, decode_rows, encode_entry, encode_rows};
