//! Compiles `proto/` with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked when it runs: the compiled script may serve another checkout that shares the target directory.
    let root = std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = ["model.proto", "storage.proto", "pages.proto", "raft.proto", "admin.proto"];
    let descriptors = protox::compile(files.map(|f| root.join(f)), [&root])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
