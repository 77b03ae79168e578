//! Where this package's files are.

use std::path::PathBuf;

/// The directory of this package. The runner says it at run time: the compiled test may serve another checkout that shares the target directory.
pub fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}
