//! Where the program under test is.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// `QUIRE_BIN`, else the binary that the same build left beside this test: `target/release/quire` for
/// `target/release/deps/e2e-0123456789abcdef`.
pub(crate) fn quire() -> Result<PathBuf> {
    let path = match std::env::var_os("QUIRE_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let test = std::env::current_exe().context("cannot tell where this test is")?;
            let deps = test.parent().context("this test has no directory")?;
            deps.parent().context("this test is not in a target directory")?.join("quire")
        }
    };
    ensure!(path.is_file(), "there is no {}: build it (cargo build --release -p quire) or name another in QUIRE_BIN", path.display());
    Ok(path)
}
