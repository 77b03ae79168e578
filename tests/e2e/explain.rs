//! What EXPLAIN ANALYZE tells of a scan.

use anyhow::{Context, Result, ensure};
use quire_tests::Cluster;
use tokio_postgres::SimpleQueryMessage;

const FILL: &str = "CREATE TABLE numbers (n bigint, name text);
    INSERT INTO numbers SELECT i::bigint * 7919 % 300007, 'name of ' || i FROM generate_series(1, 300000) AS s(i)";

const BYTES: [&str; 4] = ["bytes_memory", "bytes_disk", "bytes_remote", "bytes_touched"];

/// Of a scan on the second node, which of these figures are more than nothing, and all that was said.
async fn scanned(cluster: &Cluster) -> Result<(Vec<bool>, String)> {
    let client = cluster.connect(1).await?;
    let messages = client.simple_query("EXPLAIN ANALYZE SELECT sum(n) FROM numbers WHERE n > 1000").await?;
    let lines = messages.iter().filter_map(|m| if let SimpleQueryMessage::Row(row) = m { row.get(0) } else { None });
    let shown = lines.collect::<Vec<_>>().join("\n");
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
