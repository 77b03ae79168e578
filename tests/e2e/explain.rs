//! What EXPLAIN tells of a plan, and EXPLAIN ANALYZE of a scan.

use anyhow::{Context, Result, ensure};
use quire_tests::Cluster;
use tokio_postgres::{Client, SimpleQueryMessage};

const FILL: &str = "CREATE TABLE numbers (n bigint, name text);
    INSERT INTO numbers SELECT i::bigint * 7919 % 300007, 'name of ' || i FROM generate_series(1, 300000) AS s(i)";

const BYTES: [&str; 4] = ["bytes_memory", "bytes_disk", "bytes_remote", "bytes_touched"];

async fn lines(client: &Client, sql: &str) -> Result<Vec<String>> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.iter().filter_map(|m| if let SimpleQueryMessage::Row(row) = m { row.get(0).map(str::to_string) } else { None }).collect())
}

#[tokio::test]
async fn a_summary_is_shown_with_a_run_or_when_it_is_asked_for() -> Result<()> {
    let mut cluster = Cluster::builder().storage_nodes(1).compute_nodes(1).start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE t (a int)").await?;
    for (options, times) in [
        ("", &[][..]),
        ("(SUMMARY)", &["Planning Time: "]),
        ("(SUMMARY off)", &[]),
        ("ANALYZE", &["Planning Time: ", "Execution Time: "]),
        ("(ANALYZE, SUMMARY false)", &[]),
    ] {
        let shown = lines(&client, &format!("EXPLAIN {options} SELECT * FROM t")).await?;
        let timed: Vec<&String> = shown.iter().filter(|line| line.contains(" Time: ")).collect();
        ensure!(timed.len() == times.len() && timed.iter().zip(times).all(|(line, time)| line.starts_with(time)), "{options}: {shown:?}");
        let written = lines(&client, &format!("EXPLAIN {options} UPDATE t SET a = a + 1")).await?;
        let is_timed = written.iter().any(|line| line.contains("Execution Time: "));
        ensure!(is_timed == (times.len() == 2), "{options}: {written:?}");
    }
    cluster.stop().await
}

/// Of a scan on the second node, which of these figures are more than nothing, and all that was said.
async fn scanned(cluster: &Cluster) -> Result<(Vec<bool>, String)> {
    let client = cluster.connect(1).await?;
    let shown = lines(&client, "EXPLAIN ANALYZE SELECT sum(n) FROM numbers WHERE n > 1000").await?.join("\n");
    let some = BYTES.iter().map(|name| {
        let figure = shown.split(&format!("{name}=")).nth(1).with_context(|| format!("no {name}: {shown}"))?;
        Ok(!figure.starts_with('0'))
    });
    Ok((some.collect::<Result<_>>()?, shown))
}

#[tokio::test]
async fn explain_analyze_says_where_bytes_came_from() -> Result<()> {
    let mut cluster = Cluster::builder().storage_nodes(1).start().await?;
    cluster.connect(0).await?.batch_execute(FILL).await?;
    let (cold, shown) = scanned(&cluster).await?;
    ensure!(!cold[1] && cold[2] && cold[3], "cold: {shown}");
    let (warm, shown) = scanned(&cluster).await?;
    ensure!(warm == [true, false, false, true], "warm: {shown}");

    // A clean stop writes the disk cache out.
    cluster.compute(1).stop().await?;
    cluster.compute(1).restart().await?;
    let (again, shown) = scanned(&cluster).await?;
    ensure!(again[1] && again[3], "started again: {shown}");
    cluster.stop().await
}
