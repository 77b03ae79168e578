//! Grouping in the order in which a table lies: the answers are those of grouping by hash, and EXPLAIN says when it is done.
//!
//! The rule wants more groups than the other tests of rules have (rules.rs).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quire_tests::{Quire, lines};
use tokio_postgres::Client;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// 400,003 rows in two segments and four row groups, three rows of a key. Key 119,999 has three in each segment; others have rows on both
/// sides of where row groups meet.
const TABLE: &str = "CREATE TABLE line (ok int, ln int, v int, t text, PRIMARY KEY (ok, ln));
    INSERT INTO line SELECT i / 3, i % 3, i % 977, 'more than a view has room for: ' || i FROM generate_series(0, 359999) AS s(i);
    INSERT INTO line SELECT i / 3, i % 3 + 10, i % 977, 'the same: ' || i FROM generate_series(359997, 399999) AS s(i)";

/// Whether a query groups in order when its table can be read so; `None` where that is left to estimates.
type Expected = Option<bool>;

const QUERIES: [(Expected, &str); 10] = [
    (Some(true), "SELECT count(*), sum(length(m)), max(m), min(m) FROM (SELECT ok, max(t) AS m FROM line GROUP BY ok) q"),
    (
        Some(true),
        "SELECT count(*), sum(ok), sum(s), sum(c), sum(ok * s % 10007) FROM (SELECT ok, sum(v) AS s, count(*) AS c FROM line GROUP BY ok) q",
    ),
    (Some(true), "SELECT count(*), sum(ok * s % 10007) FROM (SELECT ok, sum(v) AS s FROM line GROUP BY ok HAVING sum(v) > 2000) q"),
    (Some(true), "SELECT count(*), sum(ok * s % 10007) FROM (SELECT ln, ok, max(v) AS s FROM line GROUP BY ln, ok) q"),
    (Some(true), "SELECT count(*), sum(ok) FROM (SELECT DISTINCT ok FROM line) q"),
    (Some(true), "SELECT ok, sum(v) AS s FROM line GROUP BY ok ORDER BY s DESC, ok LIMIT 20"),
    (None, "SELECT count(*), sum(ok * s % 10007) FROM (SELECT ok, sum(v) AS s FROM line WHERE v % 3 = 1 GROUP BY ok) q"),
    (
        None,
        "SELECT count(*), sum(a.s * b.m % 10007) FROM (SELECT ok, sum(v) AS s FROM line GROUP BY ok HAVING sum(v) > 900) a
         JOIN (SELECT ok, max(v) AS m FROM line GROUP BY ok) b ON a.ok = b.ok",
    ),
    (Some(false), "SELECT count(*), sum(ok * s % 10007) FROM (SELECT ok, sum(v) AS s FROM line WHERE ok < 1000 GROUP BY ok) q"),
    (Some(false), "SELECT count(*), sum(ln * s % 10007) FROM (SELECT ln, sum(v) AS s FROM line GROUP BY ln) q"),
];

async fn switch(client: &Client, on: bool) -> Result<()> {
    let value = if on { "on" } else { "off" };
    Ok(client.batch_execute(&format!("SET quire.ordered_grouping = {value}")).await?)
}

async fn plan(client: &Client, sql: &str) -> Result<String> {
    Ok(lines(client, &format!("EXPLAIN {sql}")).await?.join("\n"))
}

/// Asks with the rule and without.
async fn check(client: &Client, state: &str, in_order: bool) -> Result<()> {
    // One partition alone groups in one step anyway.
    let parallel = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    for (expected, sql) in QUERIES {
        switch(client, false).await?;
        let by_hash = lines(client, sql).await?;
        let planned = plan(client, sql).await?;
        ensure!(!planned.contains("ordered_by="), "{state}: {sql} with the rule off: {planned}");

        switch(client, true).await?;
        let as_they_come = lines(client, sql).await?;
        ensure!(as_they_come == by_hash, "{state}: {sql} gives {as_they_come:?}, not {by_hash:?}");
        let planned = plan(client, sql).await?;
        if let Some(expected) = expected {
            let expected = expected && in_order && parallel;
            ensure!(planned.contains("ordered_by=[ok]") == expected, "{state}: {sql}: {planned}");
            ensure!(planned.contains("mode=SinglePartitioned") == expected, "{state}: {sql}: {planned}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn groups_are_the_same_in_order_and_by_hash() -> Result<()> {
    let quire = Quire::dev().await?;
    let test = async {
        let client = quire.connect().await?;
        client.batch_execute(TABLE).await?;
        check(&client, "loaded", true).await?;

        client.batch_execute("DELETE FROM line WHERE v = 5 OR ok = 43690 OR ok = 119999 AND ln < 10").await?;
        check(&client, "rows deleted", true).await?;

        client.batch_execute("BEGIN; DELETE FROM line WHERE v = 6").await?;
        check(&client, "rows deleted in a transaction", true).await?;
        client.batch_execute("INSERT INTO line VALUES (7, 77, 100)").await?;
        check(&client, "a row of the transaction", true).await?;
        client
            .batch_execute(
                "INSERT INTO line SELECT i * 2, 50, i % 977, 'a row of the transaction, with a long text: ' || i
                 FROM generate_series(0, 59999) AS s(i)",
            )
            .await?;
        check(&client, "many rows of the transaction", true).await?;
        client.batch_execute("ROLLBACK").await?;
        check(&client, "rolled back", true).await?;

        client.batch_execute("INSERT INTO line VALUES (8, 88, 1000)").await?;
        check(&client, "a row in the delta", true).await?;
        client.batch_execute("UPDATE line SET v = v + 1 WHERE ok % 20 = 3").await?;
        client.batch_execute("UPDATE line SET ok = ok + 1, ln = ln + 20 WHERE ok % 1000 = 7").await?;
        check(&client, "a twentieth written anew, and rows in the delta", true).await?;
        client.batch_execute("UPDATE line SET v = v + 1 WHERE ok % 2 = 0").await?;
        check(&client, "half of them written anew", false).await?;
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, test).await.context("it hangs")?
}

const GROUPED: &str = "SELECT count(*) FROM (SELECT k, sum(v) FROM line GROUP BY k) q";

#[tokio::test]
async fn segments_are_believed_for_what_their_files_say() -> Result<()> {
    let quire = Quire::dev().await?;
    let test = async {
        let client = quire.connect().await?;
        client.batch_execute(TABLE).await?;
        client.batch_execute("ALTER TABLE line RENAME COLUMN ok TO k").await?;
        let planned = plan(&client, GROUPED).await?;
        let parallel = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        ensure!(planned.contains("ordered_by=[k]") == parallel, "renamed: {planned}");
        ensure!(lines(&client, GROUPED).await? == ["133334"], "renamed");

        // It is there before there is a key to sort by.
        client
            .batch_execute(
                "DROP TABLE line;
                 CREATE TABLE line (k int NOT NULL, n int NOT NULL, v int);
                 INSERT INTO line SELECT i * 7 % 120000, i, i % 977 FROM generate_series(0, 359999) AS s(i);
                 ALTER TABLE line ADD PRIMARY KEY (k, n)",
            )
            .await?;
        let planned = plan(&client, GROUPED).await?;
        ensure!(!planned.contains("ordered_by="), "keyed later: {planned}");
        ensure!(lines(&client, GROUPED).await? == ["120000"], "keyed later");
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, test).await.context("it hangs")?
}
