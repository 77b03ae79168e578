//! The cluster over S3: the object store is another process, by other people, on the other side of a network protocol.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quire_tests::{Cluster, S3, program};

const WARN: &str = "\"level\":\"WARN\"";
/// A statement that cannot be served says so within this.
const ERROR_WITHIN: Duration = Duration::from_secs(60);

fn url(cluster: &Cluster, node: usize) -> String {
    format!("postgres://quire@{}/quire", cluster.addresses()[node])
}

async fn load(cluster: &Cluster, node: usize, scale: &str) -> Result<()> {
    program::run(&["tpch", "load", "--url", &url(cluster, node), "--scale", scale]).await?.ok().context("tpch load")?;
    Ok(())
}

async fn right(cluster: &Cluster, node: usize, scale: &str) -> Result<()> {
    let ran = program::run(&["tpch", "run", "--url", &url(cluster, node), "--scale", scale, "--warmup", "0", "--repeats", "1"]).await?;
    let ran = ran.ok().context("tpch run")?;
    ensure!(ran.out.contains("22 of 22 answers right"), "{}", ran.out);
    Ok(())
}

/// A restart that leaves nothing but the log and the bucket.
async fn restart_without_caches(cluster: &mut Cluster) -> Result<()> {
    cluster.kill9_all()?;
    for node in 0..3 {
        std::fs::remove_dir_all(cluster.data_dir(node).join("pages"))?;
    }
    for node in 0..2 {
        std::fs::remove_dir_all(cluster.cache_dir(node))?;
    }
    cluster.restart_all().await
}

#[tokio::test]
async fn a_bucket_holds_the_segments_of_a_load_and_a_run() -> Result<()> {
    let s3 = S3::start().await?;
    let mut cluster = s3.holds(Cluster::builder()).allow_log(WARN).start().await?;
    load(&cluster, 0, "0.01").await?;
    right(&cluster, 1, "0.01").await?;
    ensure!(!cluster.object_dir().exists(), "there is a directory of objects beside the bucket");
    restart_without_caches(&mut cluster).await?;
    right(&cluster, 0, "0.01").await?;
    let mut from_bucket = 0;
    for node in 0..3 {
        let metrics = cluster.storage(node).metrics().await?;
        from_bucket += program::metric(&metrics, "quire_objects_requests_total", &["operation=\"get\"", "outcome=\"ok\""]);
    }
    ensure!(from_bucket > 0, "no page came from the bucket");
    cluster.stop().await
}

#[tokio::test]
async fn sealed_rows_come_from_the_bucket_too() -> Result<()> {
    let s3 = S3::start().await?;
    let cluster = s3.holds(Cluster::builder()).storage_flag("--seal-rows", "100").storage_flag("--seal-age", "1s").allow_log(WARN);
    let mut cluster = cluster.start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE kept (id int PRIMARY KEY, name text)").await?;
    for id in 0..300i32 {
        client.execute("INSERT INTO kept VALUES ($1, $2)", &[&id, &format!("name of {id}")]).await?;
    }
    cluster.sealed().await?;
    restart_without_caches(&mut cluster).await?;
    let row = cluster.connect(1).await?.query_one("SELECT count(*), sum(id)::bigint, max(name) FROM kept", &[]).await?;
    ensure!(row.get::<_, i64>(0) == 300 && row.get::<_, i64>(1) == 299 * 150 && row.get::<_, &str>(2) == "name of 99");
    cluster.stop().await
}

#[tokio::test]
async fn without_the_bucket_small_commits_go_on_and_the_rest_waits_for_it() -> Result<()> {
    let mut s3 = S3::start().await?;
    let cluster = s3.holds(Cluster::builder()).storage_flag("--seal-rows", "100").storage_flag("--seal-age", "1s");
    let mut cluster = cluster.allow_log("\"level\":\"").start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE before (id int PRIMARY KEY); INSERT INTO before VALUES (1), (2), (3)").await?;
    cluster.sealed().await?;
    restart_without_caches(&mut cluster).await?;
    let client = cluster.connect(0).await?;
    s3.kill()?;

    client.batch_execute("CREATE TABLE meanwhile (id int PRIMARY KEY)").await?;
    for id in 0..150i32 {
        client.execute("INSERT INTO meanwhile VALUES ($1)", &[&id]).await.context("a small commit needs no bucket")?;
    }
    let seen: i64 = client.query_one("SELECT count(*) FROM meanwhile", &[]).await?.get(0);
    ensure!(seen == 150);
    let reading = client.query("SELECT id FROM before", &[]);
    let failed = tokio::time::timeout(ERROR_WITHIN, reading).await.context("a page of an absent bucket: a hang")?;
    let failed = failed.err().context("a page came from an absent bucket")?;
    ensure!(failed.code().is_some_and(|c| c.code() == "58030"), "{failed:?}");

    s3.restart().await?;
    let rows = client.query("SELECT id FROM before ORDER BY id", &[]).await.context("the bucket is back")?;
    ensure!(rows.len() == 3);
    cluster.sealed().await?;
    let seen: i64 = client.query_one("SELECT count(*) FROM meanwhile", &[]).await?.get(0);
    ensure!(seen == 150);
    cluster.stop().await
}

#[tokio::test]
async fn a_bucket_that_refuses_is_named_when_it_is_needed() -> Result<()> {
    let s3 = S3::start().await?;
    let wrong = s3.holds(Cluster::builder().storage_nodes(1).compute_nodes(1)).env("AWS_SECRET_ACCESS_KEY", "wrong");
    let mut cluster = wrong.allow_log("\"level\":\"").start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE small (id int PRIMARY KEY); INSERT INTO small VALUES (1)").await?;
    let failed = program::run(&["tpch", "load", "--url", &url(&cluster, 0), "--scale", "0.01"]).await?;
    ensure!(failed.code == Some(1), "{failed:?}");
    let said = format!("{}{}", failed.out, failed.err).to_lowercase();
    ensure!(said.contains("signature") || said.contains("denied") || said.contains("403") || said.contains("forbidden"), "{said}");
    let seen: i64 = client.query_one("SELECT count(*) FROM small", &[]).await?.get(0);
    ensure!(seen == 1);
    cluster.stop().await
}
