//! Whole scripts through the real psql: what it prints is compared with what it prints for PostgreSQL 15 (tests/golden/psql, made by
//! golden/psql.sh). And what a person at psql does beside SQL: connect wrongly, interrupt, look at the exit code.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use quire_tests::Quire;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// One script takes seconds; nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that will happen.
const LOOK: Duration = Duration::from_millis(50);

/// Whether there is a psql to test with: `make setup` installs it.
async fn psql_is_installed() -> bool {
    let found = Command::new("psql").arg("--version").output().await.is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: psql is not installed (Debian: postgresql-client)");
    }
    found
}

/// psql as `user` on `database`, without anybody's ~/.psqlrc, in `directory`.
fn psql(quire: &Quire, user: &str, database: &str, directory: &Path) -> Result<Command> {
    let (host, port) = quire.address().rsplit_once(':').context("an address is host:port")?;
    let mut command = Command::new("psql");
    command.args(["-X", "-h", host, "-p", port, "-U", user]).arg(database).current_dir(directory).kill_on_drop(true);
    for name in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS", "PGSERVICE", "PAGER", "PSQL_PAGER"] {
        command.env_remove(name);
    }
    command.env("PGTZ", "UTC").env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// (exit code, standard output, standard error) of psql with these arguments.
async fn run(quire: &Quire, user: &str, database: &str, args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let directory = tempfile::tempdir()?;
    let mut command = psql(quire, user, database, directory.path())?;
    let output = tokio::time::timeout(PATIENCE, command.args(args).output()).await.context("psql hangs")??;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

/// What psql prints for a script, both outputs in the order of printing.
async fn script(quire: &Quire, sql: &Path) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let mut command = psql(quire, "quire", "quire", directory.path())?;
    // one pipe for both outputs, or their order is lost
    let (reader, writer) = std::io::pipe()?;
    let stdin = std::fs::File::open(sql).with_context(|| sql.display().to_string())?;
    command.arg("-a").stdin(stdin).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // the pipe ends when psql does: this process holds the writing end no longer
    drop(command);
    let read = tokio::task::spawn_blocking(move || std::io::read_to_string(reader));
    let printed = tokio::time::timeout(PATIENCE, read).await.context("psql hangs")???;
    child.wait().await?;
    Ok(printed)
}

fn golden(name: &str) -> PathBuf {
    quire_tests::paths::package().join("golden").join("psql").join(name)
}

/// The lines that differ, each with its neighbours.
fn difference(expected: &str, got: &str) -> Option<String> {
    let (expected, got): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    // the length of the longest common subsequence of what follows
    let mut common = vec![vec![0u32; got.len() + 1]; expected.len() + 1];
    for i in (0..expected.len()).rev() {
        for j in (0..got.len()).rev() {
            common[i][j] = if expected[i] == got[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out, mut differs) = (0, 0, Vec::new(), false);
    while i < expected.len() || j < got.len() {
        if i < expected.len() && j < got.len() && expected[i] == got[j] {
            out.push(format!("  {}", expected[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == got.len() || (i < expected.len() && common[i + 1][j] >= common[i][j + 1]) {
            out.push(format!("- {}", expected[i]));
            (i, differs) = (i + 1, true);
        } else {
            out.push(format!("+ {}", got[j]));
            (j, differs) = (j + 1, true);
        }
    }
    let near = |at: usize| out[at.saturating_sub(3)..(at + 4).min(out.len())].iter().any(|line| !line.starts_with("  "));
    differs.then(|| (0..out.len()).filter(|&at| near(at)).map(|at| out[at].clone()).collect::<Vec<_>>().join("\n"))
}

/// What Quire says beyond what PostgreSQL says, on purpose: what a syntax error expected.
fn is_ours(line: &str) -> bool {
    line.starts_with("DETAIL:  Expected ")
}

async fn is_what_postgres_says(name: &str) -> Result<()> {
    if !psql_is_installed().await {
        return Ok(());
    }
    let quire = Quire::dev().await?;
    let expected = std::fs::read_to_string(golden(&format!("{name}.out")))?;
    let got = script(&quire, &golden(&format!("{name}.sql"))).await?;
    let got: String = got.lines().filter(|line| !is_ours(line)).map(|line| format!("{line}\n")).collect();
    if let Some(difference) = difference(&expected, &got) {
        bail!("psql/{name}.sql: - PostgreSQL, + Quire\n{difference}");
    }
    Ok(())
}

#[tokio::test]
async fn queries_print_as_they_do_for_postgres() -> Result<()> {
    is_what_postgres_says("queries").await
}

#[tokio::test]
async fn errors_print_as_they_do_for_postgres() -> Result<()> {
    is_what_postgres_says("errors").await
}

#[tokio::test]
async fn tables_are_described_as_they_are_for_postgres() -> Result<()> {
    is_what_postgres_says("describe").await
}

#[tokio::test]
async fn all_of_a_table_is_described_as_it_is_for_postgres() -> Result<()> {
    is_what_postgres_says("describe_more").await
}

#[tokio::test]
async fn copy_prints_and_stores_as_it_does_for_postgres() -> Result<()> {
    is_what_postgres_says("copy").await
}

#[tokio::test]
async fn databases_are_listed_and_timing_times() -> Result<()> {
    if !psql_is_installed().await {
        return Ok(());
    }
    let quire = Quire::dev().await?;
    let (code, out, err) = run(&quire, "quire", "quire", &["-c", "\\l"]).await?;
    ensure!(code == Some(0) && err.is_empty(), "{err}");
    ensure!(out.contains("List of databases"), "{out}");
    let row = out.lines().find(|l| l.trim_start().starts_with("quire ")).context("quire is not listed")?;
    let row: Vec<&str> = row.split('|').map(str::trim).collect();
    ensure!(row.len() > 3 && row[..3] == ["quire", "quire", "UTF8"], "{out}");

    let (code, out, err) = run(&quire, "quire", "quire", &["-At", "-c", "\\timing", "-c", "SELECT 41 + 1"]).await?;
    ensure!(code == Some(0) && err.is_empty(), "{err}");
    let lines: Vec<&str> = out.lines().collect();
    ensure!(lines.len() == 3 && lines[0] == "Timing is on." && lines[1] == "42", "{out}");
    ensure!(lines[2].starts_with("Time: ") && lines[2].contains(" ms"), "{out}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_database_or_user_is_told_so() -> Result<()> {
    if !psql_is_installed().await {
        return Ok(());
    }
    let quire = Quire::dev().await?;
    for (user, database, message) in
        [("quire", "nowhere", "FATAL:  database \"nowhere\" does not exist"), ("nobody", "quire", "FATAL:  role \"nobody\" does not exist")]
    {
        let (code, out, err) = run(&quire, user, database, &["-c", "SELECT 1"]).await?;
        ensure!(code == Some(2), "psql gives 2 when it cannot connect, not {code:?}");
        ensure!(out.is_empty() && err.trim_end().ends_with(message), "{err}");
    }
    let (code, out, _) = run(&quire, "quire", "quire", &["-Atc", "SELECT current_user, current_database()"]).await?;
    ensure!(code == Some(0) && out == "quire|quire\n", "{out}");
    Ok(())
}

#[tokio::test]
async fn a_failed_statement_gives_psql_its_exit_code() -> Result<()> {
    if !psql_is_installed().await {
        return Ok(());
    }
    let quire = Quire::dev().await?;
    let (code, _, err) = run(&quire, "quire", "quire", &["-v", "ON_ERROR_STOP=1", "-c", "SELECT 1/0"]).await?;
    ensure!(code == Some(1), "{code:?}");
    ensure!(err.trim_end() == "ERROR:  division by zero", "{err}");
    let (code, out, err) = run(&quire, "quire", "quire", &["-1", "-c", "CREATE TABLE one (a int)", "-c", "SELECT 1/0"]).await?;
    ensure!(code == Some(1), "{code:?} {out} {err}");
    let (code, out, err) = run(&quire, "quire", "quire", &["-Atc", "SELECT count(*) FROM pg_class WHERE relname = 'one'"]).await?;
    ensure!(code == Some(0) && out == "0\n", "a rolled back table is there: {out} {err}");
    Ok(())
}

#[tokio::test]
async fn ctrl_c_cancels_the_statement() -> Result<()> {
    if !psql_is_installed().await {
        return Ok(());
    }
    let quire = Quire::dev().await?;
    let directory = tempfile::tempdir()?;
    let mut child = psql(&quire, "quire", "quire", directory.path())?.arg("-At").stdin(Stdio::piped()).spawn()?;
    let pid = child.id().context("psql has ended")?.to_string();
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    // the shell command runs before the statement is sent: from then on SIGINT is a cancel request
    stdin.write_all(b"\\! touch started\n").await?;
    stdin.write_all(b"SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000) b;\n").await?;
    let started = async {
        while !directory.path().join("started").exists() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, started).await.context("psql does not begin")?;

    let mut errors = BufReader::new(child.stderr.take().context("stderr is piped")?).lines();
    let ended = async {
        loop {
            // again and again: the first may come before the statement is on its way
            let status = Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status().await?;
            ensure!(status.success(), "psql has ended");
            let Ok(line) = tokio::time::timeout(LOOK * 4, errors.next_line()).await else { continue };
            let line = line?.context("psql ended without a word")?;
            if line != "Cancel request sent" {
                return Ok(line);
            }
        }
    };
    let said = tokio::time::timeout(PATIENCE, ended).await.context("the statement does not end")??;
    ensure!(said == "ERROR:  canceling statement due to user request", "{said}");
    // a script that is interrupted ends: psql's own rule, and its exit code for it
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.context("psql hangs")??;
    ensure!(output.status.code() == Some(3) && output.stdout.is_empty(), "{output:?}");
    let (code, out, _) = run(&quire, "quire", "quire", &["-Atc", "SELECT 'still here'"]).await?;
    ensure!(code == Some(0) && out == "still here\n", "{out}");
    Ok(())
}
