//! The TPC-H bench alone, without the rest of Quire: `cargo run --release -p quire-bench --example tpch -- load --url …`.

use std::process::ExitCode;

use clap::Parser;
use quire_bench::{CommitsArgs, TpchArgs, main_commits, main_tpch};

#[derive(Parser)]
enum Bench {
    /// TPC-H: load, run, report, generate
    #[command(flatten)]
    Tpch(quire_bench::TpchCommand),
    /// Single-row commits per second and their latency
    Commits(CommitsArgs),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Bench::parse() {
        Bench::Tpch(command) => main_tpch(TpchArgs { command }).await,
        Bench::Commits(args) => main_commits(args).await,
    }
}
