//! What goes on behind sustained writing: rows are sealed, segments merged, deleted rows dropped and their objects removed, within
//! bounds, while older snapshots read on; and writers that are faster than that are slowed down, not stopped.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quire_tests::{Cluster, program};
use tokio_postgres::Client;

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Rows that are updated again and again.
const HOT: i64 = 40;
/// Seven of each of four tiers, the bound that docs/architecture.md names, and what two seals bring.
const SMALL_SEGMENTS_MAX: u64 = 28 + 2;

async fn numbers(client: &Client, sql: &str) -> Result<(i64, i64)> {
    let row = client.query_one(sql, &[]).await.with_context(|| sql.to_string())?;
    Ok((row.get(0), row.get(1)))
}

/// Updates hot rows of one half and inserts others, one row a transaction.
async fn write(client: &Client, half: i64, rounds: i64) -> Result<()> {
    for round in 0..rounds {
        let id = half + 2 * (round % (HOT / 2));
        client.execute("UPDATE hot SET n = n + 1 WHERE id = $1", &[&id]).await?;
        if round % 3 == 0 {
            client.execute("INSERT INTO hot VALUES ($1, 0)", &[&(1000 + 2 * round + half)]).await?;
        }
    }
    Ok(())
}

/// The paths of all segments below the object store's directory.
fn objects(dir: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let segments = dir.join("segments");
    if !segments.exists() {
        return Ok(found);
    }
    for table in fs::read_dir(segments)? {
        for object in fs::read_dir(table?.path())? {
            found.insert(object?.path().display().to_string());
        }
    }
    Ok(found)
}

/// Waits until every delta is empty and compaction has come to rest, and gives the number of segments.
pub(super) async fn at_rest(cluster: &Cluster) -> Result<u64> {
    let mut before = 0;
    let polling = async {
        loop {
            let status = cluster.healed().await?;
            let (rows, lsn) = (status[0].delta_rows, status[0].applied_lsn);
            if rows == 0 && lsn == before {
                return anyhow::Ok(status[0].segments);
            }
            before = lsn;
            // longer than a look of the sealer and the compactor
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.context("sealing and compaction do not come to rest")?
}

pub(super) async fn counted(cluster: &mut Cluster, name: &str, labels: &[&str]) -> Result<u64> {
    let mut sum = 0;
    for node in 0..3 {
        sum += program::metric(&cluster.storage(node).metrics().await?, name, labels);
    }
    Ok(sum)
}

#[tokio::test]
async fn sustained_updates_stay_within_bounds_and_old_snapshots_read_on() -> Result<()> {
    let mut cluster = Cluster::builder().storage_flag("--seal-rows", "64").storage_flag("--seal-age", "300ms").start().await?;
    let (one, two, reader) = (cluster.connect(0).await?, cluster.connect(1).await?, cluster.connect(1).await?);
    one.batch_execute(&format!(
        "CREATE TABLE hot (id bigint PRIMARY KEY, n bigint); INSERT INTO hot SELECT g, 0 FROM generate_series(0, {}) AS s(g)",
        HOT - 1
    ))
    .await?;
    write(&one, 0, 60).await?;
    let all = "SELECT count(*), sum(n)::bigint FROM hot";
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let seen = numbers(&reader, all).await?;
    ensure!(seen == (HOT + 20, 60), "{seen:?}");
    for _ in 0..4 {
        let (first, second) = tokio::join!(write_again(&one, 0), write_again(&two, 1));
        first?;
        second?;
        ensure!(numbers(&reader, all).await? == seen, "an old snapshot changed");
    }
    let segments = at_rest(&cluster).await?;
    ensure!(segments <= SMALL_SEGMENTS_MAX, "{segments} segments");
    ensure!(counted(&mut cluster, "quire_storage_compactions_total", &[]).await? > 0, "nothing was compacted");
    ensure!(counted(&mut cluster, "quire_storage_compactions_failed_total", &[]).await? == 0);
    ensure!(numbers(&reader, all).await? == seen, "an old snapshot changed");
    // The rows by themselves too, not from what the node has in memory: nothing was read of them since.
    ensure!(numbers(&reader, "SELECT count(DISTINCT id), max(n) FROM hot WHERE id < 1000").await? == (HOT, 3));
    reader.batch_execute("COMMIT").await?;
    let expected = (HOT + 20 + 8 * 50, 60 + 8 * 150);
    ensure!(numbers(&reader, all).await? == expected, "{:?}", numbers(&reader, all).await?);

    cluster.kill9_all()?;
    cluster.restart_all().await?;
    let client = cluster.connect(0).await?;
    ensure!(numbers(&client, all).await? == expected, "after a restart");
    ensure!(numbers(&client, "SELECT count(DISTINCT id), count(*) FROM hot").await? == (expected.0, expected.0));
    client.execute("UPDATE hot SET n = n + 1", &[]).await?;
    ensure!(numbers(&client, all).await? == (expected.0, expected.1 + expected.0));
    let segments = at_rest(&cluster).await?;
    ensure!(segments <= SMALL_SEGMENTS_MAX, "{segments} segments after a restart");
    ensure!(numbers(&client, all).await? == (expected.0, expected.1 + expected.0));
    cluster.stop().await
}

/// 150 more updates and 50 inserts, of keys that are new each time.
async fn write_again(client: &Client, half: i64) -> Result<()> {
    let row = client.query_one("SELECT coalesce(max(id), 0) FROM hot WHERE id % 2 = $1 AND id >= 10000", &[&half]).await?;
    let base = row.get::<_, i64>(0).max(10_000 + half);
    for round in 0..150 {
        let id = half + 2 * (round % (HOT / 2));
        client.execute("UPDATE hot SET n = n + 1 WHERE id = $1", &[&id]).await?;
        if round % 3 == 0 {
            client.execute("INSERT INTO hot VALUES ($1, 0)", &[&(base + 2 + 2 * round)]).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_no_snapshot_needs_is_removed_and_nothing_else() -> Result<()> {
    let mut cluster = Cluster::builder()
        .storage_flag("--seal-rows", "64")
        .storage_flag("--seal-age", "200ms")
        .storage_flag("--retention", "2s")
        .storage_flag("--orphan-age", "4s")
        .start()
        .await?;
    let (writer, reader) = (cluster.connect(0).await?, cluster.connect(1).await?);
    writer.batch_execute("CREATE TABLE hot (id bigint PRIMARY KEY, n bigint)").await?;
    writer.batch_execute("INSERT INTO hot SELECT g, 0 FROM generate_series(0, 39) AS s(g)").await?;
    writer.batch_execute("CREATE TABLE cold (n bigint); INSERT INTO cold VALUES (1), (2)").await?;
    cluster.sealed().await?;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class LIMIT 1").await?;
    let orphan_dir = cluster.object_dir().join("segments").join("1");
    fs::create_dir_all(&orphan_dir)?;
    let (old, young) = (orphan_dir.join("00000000000000aa-1.parquet"), orphan_dir.join("00000000000000bb-1.parquet"));
    for path in [&old, &young] {
        fs::write(path, b"rows of a transaction that never committed")?;
    }
    let in_an_hour = fs::metadata(&young)?.modified()? + Duration::from_secs(3600);
    fs::File::options().write(true).open(&young)?.set_modified(in_an_hour)?;
    for _ in 0..3 {
        write(&writer, 0, 60).await?;
        writer.batch_execute("DELETE FROM hot WHERE id >= 1000; UPDATE hot SET n = n + 1").await?;
    }
    writer.batch_execute("TRUNCATE cold").await?;
    let segments = at_rest(&cluster).await?;
    let wanted = segments + 1;
    let polling = async {
        loop {
            let found = objects(&cluster.object_dir())?;
            if found.len() as u64 == wanted && young.exists() && !old.exists() {
                return anyhow::Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, polling).await;
    waited.with_context(|| format!("{wanted} wanted, {:?} there", objects(&cluster.object_dir())))??;
    ensure!(counted(&mut cluster, "quire_storage_collected_objects_total", &["kind=\"orphan\""]).await? == 1);
    ensure!(counted(&mut cluster, "quire_storage_collected_objects_total", &["kind=\"retired\""]).await? > 0);
    // What the old snapshot names and no node has in a cache is gone by now; it says so, and a new one reads.
    let error = reader.query_one("SELECT sum(n)::bigint FROM cold", &[]).await.err().context("a snapshot without its rows")?;
    ensure!(error.code().is_some_and(|c| c.code() == "72000"), "{error:?}");
    reader.batch_execute("ROLLBACK").await?;
    ensure!(numbers(&reader, "SELECT count(*), sum(n)::bigint FROM hot").await? == (40, 3 * 60 + 3 * 40));
    cluster.stop().await
}

#[tokio::test]
async fn writers_faster_than_sealing_are_slowed_and_others_are_not() -> Result<()> {
    let mut cluster =
        Cluster::builder().storage_flag("--seal-age", "1h").storage_flag("--delta-rows-max", "50").compute_nodes(1).start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE much (id bigint); CREATE TABLE little (id bigint)").await?;
    client.batch_execute("INSERT INTO much SELECT g FROM generate_series(1, 200) AS s(g)").await?;
    ensure!(counted(&mut cluster, "quire_storage_delayed_commits_total", &[]).await? == 0, "the first is within the bound");
    // 200 rows are four times the bound: the longest wait, a second
    client.batch_execute("INSERT INTO much VALUES (0)").await?;
    ensure!(counted(&mut cluster, "quire_storage_commit_delay_seconds_sum", &[]).await? == 1);
    for id in 0..20 {
        client.execute("INSERT INTO little VALUES ($1)", &[&i64::from(id)]).await?;
    }
    ensure!(counted(&mut cluster, "quire_storage_delayed_commits_total", &[]).await? == 1, "the other table's commits waited");
    ensure!(numbers(&client, "SELECT count(*), max(id) FROM much").await? == (201, 200));
    cluster.stop().await
}
