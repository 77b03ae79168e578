//! pgbench, unmodified: its tables, its loads and its scripts, against one Quire.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use quire_tests::Quire;

/// The program, wherever the distribution keeps it.
fn program() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin/pgbench"));
    versions.filter(|path| path.is_file()).max().unwrap_or_else(|| Path::new("pgbench").to_path_buf())
}

/// Runs it; what it printed.
async fn pgbench(quire: &Quire, arguments: &[&str]) -> Result<String> {
    let (host, port) = quire.address().rsplit_once(':').context("an address is host:port")?;
    let mut command = Command::new(program());
    command.args(["-h", host, "-p", port, "-U", "quire"]).args(arguments).arg("quire");
    let output = tokio::task::spawn_blocking(move || command.output()).await?;
    let output = output.context("cannot run pgbench (apt-get install postgresql-contrib)")?;
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "pgbench {arguments:?}\n{printed}");
    Ok(printed)
}

async fn count(quire: &Quire, sql: &str) -> Result<i64> {
    Ok(quire.connect().await?.query_one(sql, &[]).await?.get(0))
}

#[tokio::test]
async fn its_tables_are_made_in_every_way() -> Result<()> {
    let quire = Quire::dev().await?;
    for steps in ["dtgvp", "dtGvpf", "dtgpf"] {
        let printed = pgbench(&quire, &["-i", "-q", "-I", steps]).await?;
        ensure!(printed.contains("done in"), "{printed}");
        ensure!(count(&quire, "SELECT count(*) FROM pgbench_accounts").await? == 100_000, "{steps}");
        let keys = count(&quire, "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'pgbench%' AND contype = 'p'").await?;
        ensure!(keys == 3, "{keys} primary keys by {steps}");
    }
    // Foreign keys hold: the branch has tellers.
    let refused = quire.connect().await?.execute("DELETE FROM pgbench_branches", &[]).await.expect_err("tellers point at it");
    ensure!(refused.code().is_some_and(|code| code.code() == "23503"), "{refused}");
    pgbench(&quire, &["-i", "-q", "--foreign-keys"]).await?;
    Ok(())
}

#[tokio::test]
async fn its_scripts_run_in_each_protocol() -> Result<()> {
    let quire = Quire::dev().await?;
    pgbench(&quire, &["-i", "-q"]).await?;
    for script in ["tpcb-like", "simple-update", "select-only"] {
        for protocol in ["simple", "extended", "prepared"] {
            let printed = pgbench(&quire, &["-n", "-b", script, "-M", protocol, "-c", "2", "-t", "20", "--max-tries", "1000"]).await?;
            ensure!(printed.contains("number of transactions actually processed: 40/40"), "{script} {protocol}\n{printed}");
            ensure!(printed.contains("number of failed transactions: 0 (0.000%)"), "{script} {protocol}\n{printed}");
        }
    }
    // What TPC-B keeps equal: every transaction moved one amount through all tables.
    let differing = "SELECT count(*) FROM (SELECT (SELECT sum(tbalance) FROM pgbench_tellers) AS t, (SELECT sum(bbalance) FROM pgbench_branches) AS b) s WHERE t <> b";
    ensure!(count(&quire, differing).await? == 0);
    ensure!(count(&quire, "SELECT count(*) FROM pgbench_history").await? == 240);
    Ok(())
}
