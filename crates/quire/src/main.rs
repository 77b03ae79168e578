//! `quire`: one program for every role.
//!
//! Top down: `cli` says what can be asked for, `config` fills in what the command line leaves out, then one module a command:
//! `storage` and `compute` run one node each, `dev` several of both in one process, `admin` asks a running service. A node's life (start,
//! signals, clean stop) is in `life`, its HTTP port in `http`, how it keeps memory in `allocator`. Everything that makes it a database is in the other crates.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use cli::Command;

mod cli;
mod config;

mod admin;
mod allocator;
mod compute;
mod dev;
mod storage;

mod http;
mod life;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match config::read() {
        Ok(cli) => cli,
        Err(config::Failure::Clap(error)) => error.exit(),
        Err(config::Failure::File(error)) => return failed(&error),
    };
    if matches!(cli.command, Command::Dev(_) | Command::Storage(_) | Command::Compute(_)) {
        allocator::with_options();
    }
    let result = match cli.command {
        Command::Dev(args) => dev::run(args),
        Command::Storage(args) => storage::run(args),
        Command::Compute(args) => compute::run(args),
        Command::Tpch(args) => life::short(quire_bench::main_tpch(args)),
        Command::Bench(cli::Bench::Commits(args)) => life::short(quire_bench::main_commits(args)),
        Command::Admin(cli::Admin::Status(args)) => life::short(admin::status(args)),
    };
    result.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("quire: {error:#}");
    ExitCode::FAILURE
}
