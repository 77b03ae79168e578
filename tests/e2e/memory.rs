//! Queries that want more memory than there is.

use anyhow::{Context, Result, ensure};
use quire_tests::{Quire, program};
use tokio_postgres::Client;

/// Keys lie far apart: of dense ones a join makes an array, which is small.
const FILL: &str = "CREATE TABLE pairs (id bigint, n bigint, m bigint);
    INSERT INTO pairs SELECT i::bigint * 1000, i::bigint, i::bigint * 2 FROM generate_series(1, {rows}) AS s(i)";
/// Each side reads another column, so that nothing is shared between them.
const JOIN: &str = "SELECT count(*), sum(a.n + b.m)::bigint FROM pairs a JOIN pairs b ON a.id = b.id";

async fn start(memory_limit: &str) -> Result<Quire> {
    Quire::builder().flag("--memory-limit", memory_limit).start().await
}

async fn filled(quire: &Quire, rows: i64) -> Result<Client> {
    let client = quire.connect().await?;
    client.batch_execute(&FILL.replace("{rows}", &rows.to_string())).await?;
    // Each partition of a sort holds memory of its own, so their number must not depend on the machine.
    client.batch_execute("SET quire.target_partitions = 2").await?;
    Ok(client)
}

async fn run_again(quire: &mut Quire) -> Result<u64> {
    Ok(program::metric(&quire.process().metrics().await?, "quire_sql_merged_joins_total", &[]))
}

/// The side that a hash join keeps takes 40 MB, and its tables twice 36 MB. Joins that sort hold 10 MB for each of four sorts, and spill.
#[tokio::test]
async fn a_hash_join_that_does_not_fit_is_run_again_with_joins_that_sort() -> Result<()> {
    let mut quire = start("64MiB").await?;
    let rows = 2_500_000;
    let client = filled(&quire, rows).await?;
    ensure!(run_again(&mut quire).await? == 0, "it was run again before it ran");
    let row = client.query_one(JOIN, &[]).await?;
    let (count, sum): (i64, i64) = (row.get(0), row.get(1));
    ensure!((count, sum) == (rows, 3 * rows * (rows + 1) / 2), "{count} rows, sum {sum}");
    ensure!(run_again(&mut quire).await? == 1, "the hash join fitted: this test shows nothing");
    // What the query held is there again: of a part the hash join fits.
    let small = format!("{JOIN} WHERE a.n <= 1000 AND b.n <= 1000");
    let row = client.query_one(small.as_str(), &[]).await?;
    let (count, sum): (i64, i64) = (row.get(0), row.get(1));
    ensure!((count, sum) == (1000, 3 * 1000 * 1001 / 2), "{count} rows, sum {sum}");
    ensure!(run_again(&mut quire).await? == 1, "a small join is run again");
    quire.stop().await
}

/// A nested loop keeps one side; when that does not fit it asks for it again in parts, of which scans would give what is left.
#[tokio::test]
async fn a_nested_loop_that_does_not_fit_fails() -> Result<()> {
    let mut quire = start("16MiB").await?;
    let client = filled(&quire, 1_000_000).await?;
    let join = "SELECT count(*) FROM pairs a JOIN pairs b ON a.id + a.n + a.m < b.id - b.n * 1000000 - b.m";
    let error = client.query_one(join, &[]).await.err().context("16 MiB are enough")?;
    ensure!(error.code().is_some_and(|code| code.code() == "53200"), "{error}");
    let count: i64 = client.query_one("SELECT count(*) FROM pairs", &[]).await?.get(0);
    ensure!(count == 1_000_000, "{count} rows");
    quire.stop().await
}

/// One side of the hash join is larger than all memory, and so is what two sorts hold.
#[tokio::test]
async fn a_query_that_does_not_fit_at_all_fails_and_the_session_goes_on() -> Result<()> {
    let mut quire = start("16MiB").await?;
    let rows = 1_000_000;
    let client = filled(&quire, rows).await?;
    for _ in 0..2 {
        let error = client.query_one(JOIN, &[]).await.err().context("16 MiB are enough")?;
        ensure!(error.code().is_some_and(|code| code.code() == "53200"), "{error}");
    }
    ensure!(run_again(&mut quire).await? == 2, "it was not tried with joins that sort");
    let count: i64 = client.query_one("SELECT count(*) FROM pairs", &[]).await?.get(0);
    ensure!(count == rows, "{count} rows");
    quire.stop().await
}
