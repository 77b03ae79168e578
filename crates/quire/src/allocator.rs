//! The allocator's options, which it reads before `main` begins, from the environment and nowhere else; and the memory it begins with.

use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use bytesize::ByteSize;

/// Memory that was freed stays with the process for so many milliseconds, ten times as long in whole arenas. Loads and scans ask for the
/// same again at once; handed back to the kernel in between (mimalloc does so after 10 ms), it comes back as pages to be zeroed, which was a
/// fifth of a load's time. Huge pages are off, as other databases have them: memory that is new to the process came in pieces of 2 MiB, of
/// which all is zeroed for whatever part is used, and by virtual machines first fetched from the host. That was two thirds of a compute
/// node's processor time in queries that find its caches empty.
const OPTIONS: [(&str, &str); 3] = [("MIMALLOC_PURGE_DELAY", "10000"), ("MIMALLOC_ARENA_PURGE_MULT", "10"), ("MIMALLOC_ALLOW_THP", "0")];

/// Begins the program again, as the same process, with what the environment does not say. Where that cannot be done it goes on as it is.
pub(crate) fn with_options() {
    let missing: Vec<_> = OPTIONS.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "quire".into());
    if let Ok(program) = std::env::current_exe() {
        let error = Command::new(program).arg0(name).args(arguments).envs(missing).exec();
        eprintln!("quire: the allocator's options are not set: {error}");
    }
}

/// Of so many bytes at once memory is touched: the allocator gives parts of what was freed to whoever asks.
const BLOCK_BYTES: usize = 4 << 20;

/// Has the kernel give the process so much memory, in the background, for what it does first. A page of 4 KiB that is new to it is a fault,
/// and is zeroed; a virtual machine first gets it from the host. That was a quarter of the processor time of queries that find their caches
/// empty, as they do on a new node. What is not used goes back after the times above.
pub(crate) fn touch(memory: ByteSize) {
    let blocks = memory.as_u64() as usize / BLOCK_BYTES;
    if blocks == 0 {
        return;
    }
    let touched = move || drop((0..blocks).map_while(|_| block()).collect::<Vec<_>>());
    if let Err(error) = thread::Builder::new().name("touch memory".into()).spawn(touched) {
        tracing::warn!(%error, "memory is not touched: first queries will wait for it");
    }
}

/// Touched memory, unless there is no more.
fn block() -> Option<Vec<u8>> {
    let mut block = vec![];
    block.try_reserve_exact(BLOCK_BYTES).ok()?;
    block.resize(BLOCK_BYTES, 1u8);
    Some(black_box(block))
}
