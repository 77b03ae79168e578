//! psql itself, with what it prints against PostgreSQL 15.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use quire_tests::Quire;

/// What psql prints for these commands, each a `-c` of its own.
fn psql(quire: &Quire, commands: &[&str]) -> Result<String> {
    let (host, port) = quire.address().rsplit_once(':').context("an address is host:port")?;
    let mut psql = Command::new("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "quire", "quire"]).env("PGTZ", "UTC").env_remove("PAGER");
    for command in commands {
        psql.args(["-c", command]);
    }
    let output = psql.output().context("cannot run psql (apt-get install postgresql-client)")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{commands:?}\n{out}{err}");
    Ok(out.into_owned())
}

#[tokio::test]
async fn queries_timing_and_copy_work() -> Result<()> {
    let quire = Quire::dev().await?;
    let dir = std::env::temp_dir().join(format!("quire-psql-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let (given, taken) = (dir.join("given.csv"), dir.join("taken.csv"));
    std::fs::write(&given, "id,name\n1,one\n2,\"two, quoted\"\n3,\n")?;
    let printed = psql(
        &quire,
        &[
            "CREATE TABLE copied (id int, name text)",
            &format!(r"\copy copied FROM '{}' CSV HEADER", given.display()),
            "SELECT * FROM copied ORDER BY id",
            &format!(r"\copy (SELECT * FROM copied ORDER BY id) TO '{}' CSV HEADER", taken.display()),
        ],
    )?;
    let expected =
        "CREATE TABLE\nCOPY 3\n id |    name     \n----+-------------\n  1 | one\n  2 | two, quoted\n  3 | \n(3 rows)\n\nCOPY 3\n";
    ensure!(printed == expected, "{printed}");
    ensure!(std::fs::read_to_string(&taken)? == std::fs::read_to_string(&given)?);
    std::fs::remove_dir_all(&dir)?;
    let timed = psql(&quire, &[r"\timing on", "SELECT 1"])?;
    ensure!(timed.contains("Time: "), "{timed}");
    Ok(())
}

#[tokio::test]
async fn an_error_shows_its_place_and_a_script_stops_at_it() -> Result<()> {
    let quire = Quire::dev().await?;
    let failed = psql(&quire, &["SELECT nocolumn FROM (VALUES (1)) v(a)"]).expect_err("there is no such column");
    let told = failed.to_string();
    ensure!(told.contains("ERROR:  column \"nocolumn\" does not exist"), "{told}");
    ensure!(told.contains("LINE 1: SELECT nocolumn FROM"), "{told}");
    Ok(())
}
