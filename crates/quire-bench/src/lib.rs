//! The benchmarks, as a stranger with a Postgres URL: they speak only the wire protocol, so they cannot cheat, and the
//! same run can be made against PostgreSQL or any other server that speaks it.
//!
//! TPC-H, top down: [`main_tpch`] → `generate` (rows as COPY text) → `load` (COPY … FROM STDIN) → `run` (the 22 queries,
//! each answer checked by `answers`) → `report` (one HTML page from one or more JSON files); `refresh` (RF1 and RF2, of the
//! rows in `sets`) writes beside them. [`main_commits`] measures single-row commits beside the machine's own fsync rate.
//!
//! Never here: another crate of Quire than the kit, or a function that a user of the server could not call.
#![forbid(unsafe_code)]

mod server;

mod generate;
mod load;
mod progress;
mod schema;
mod sets;

mod answers;
mod moved;
mod queries;
mod run;

mod refresh;

mod machine;
mod record;
mod report;

mod commits;

use std::process::ExitCode;

pub use commits::{CommitsArgs, main_commits};
pub use generate::GenerateArgs;
pub use load::LoadArgs;
pub use refresh::RefreshArgs;
pub use report::ReportArgs;
pub use run::RunArgs;
pub use server::Target;

/// `tpch …`: load the data, run the 22 queries and the refresh functions, draw the report.
#[derive(Debug, clap::Args)]
pub struct TpchArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TpchCommand,
}

/// The steps of a TPC-H run.
#[derive(Debug, clap::Subcommand)]
pub enum TpchCommand {
    /// Create the eight tables and load them through COPY … FROM STDIN
    Load(LoadArgs),
    /// Run the 22 queries and check their answers
    Run(RunArgs),
    /// Run the refresh functions: RF1 inserts new orders, RF2 deletes old ones
    Refresh(RefreshArgs),
    /// Draw one self-contained HTML page from the JSON files of one or more runs
    Report(ReportArgs),
    /// Write the data as CSV files, one per table
    Generate(GenerateArgs),
}

/// Runs one step; the exit code is a failure when a query failed or its answer is wrong.
pub async fn main_tpch(args: TpchArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        TpchCommand::Load(args) => load::load(args).await,
        TpchCommand::Run(args) => run::run(args).await,
        TpchCommand::Refresh(args) => refresh::refresh(args).await,
        TpchCommand::Report(args) => report::report(args),
        TpchCommand::Generate(args) => generate::generate_files(args).await,
    }
}
