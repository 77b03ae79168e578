//! Scans that know the keys of a join's other side give the answers of scans that do not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quire_tests::{Quire, lines};
use tokio_postgres::Client;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// `probe` is in segments, `build` in the delta. Some keys are NULL, some are in one of them only, and some are out of the other's bounds.
const TABLES: &str = "CREATE TABLE probe (id int PRIMARY KEY, i int, b bigint, s smallint, d date, t text);
    INSERT INTO probe SELECT g, CASE WHEN g % 50 = 7 THEN NULL ELSE g * 7 % 30011 END, g % 40009, g % 251, DATE '2020-01-01' + g % 900, 'row ' || g
        FROM generate_series(1, 200000) AS x(g);
    CREATE TABLE build (i int, b bigint, s smallint, d date, v int);
    INSERT INTO build SELECT CASE WHEN g % 40 = 3 THEN NULL ELSE g * 11 - 60 END, g * 13, g % 300, DATE '2019-12-01' + g, g
        FROM generate_series(1, 3000) AS x(g)";

/// Whether keys answer a scan's filter; `None` where that is left to estimates.
const QUERIES: [(Option<bool>, &str); 17] = [
    (Some(true), "SELECT count(*), sum(v), sum(id) FROM probe JOIN build USING (i)"),
    (Some(true), "SELECT count(*), sum(v), sum(id) FROM probe JOIN build ON probe.b = build.b"),
    (Some(true), "SELECT count(*), sum(v), sum(id) FROM probe JOIN (SELECT s, max(v) AS v FROM build GROUP BY s) x ON probe.s = x.s"),
    (Some(true), "SELECT count(*), sum(v), sum(id) FROM probe JOIN build ON probe.d = build.d"),
    (Some(true), "SELECT count(*), sum(v), sum(id), max(t) FROM probe JOIN build ON probe.i = build.i AND probe.s = build.s"),
    (Some(true), "SELECT count(*), sum(id) FROM probe WHERE i IN (SELECT i FROM build WHERE v % 3 = 1)"),
    (None, "SELECT count(*), sum(id) FROM probe WHERE i NOT IN (SELECT i FROM build WHERE i IS NOT NULL)"),
    (None, "SELECT count(*), sum(id) FROM probe WHERE i NOT IN (SELECT i FROM build)"),
    (None, "SELECT count(*), sum(id) FROM probe p WHERE NOT EXISTS (SELECT FROM build y WHERE y.i = p.i)"),
    (None, "SELECT count(*), sum(v) FROM build y WHERE NOT EXISTS (SELECT FROM probe p WHERE y.i = p.i)"),
    (None, "SELECT count(*), sum(v) FROM build WHERE i IN (SELECT i FROM probe WHERE s < 100) OR v < 10"),
    (None, "SELECT count(*), sum(v), sum(id) FROM build LEFT JOIN probe ON build.i = probe.i AND probe.s > 20"),
    (None, "SELECT count(*), sum(v), sum(id) FROM probe LEFT JOIN build ON build.i = probe.i"),
    (None, "SELECT count(*), sum(v), sum(id) FROM probe FULL JOIN build ON build.i = probe.i"),
    (None, "SELECT count(*), sum(v), sum(id) FROM probe JOIN build ON build.i IS NOT DISTINCT FROM probe.i"),
    (None, "SELECT count(*), sum(v), sum(id) FROM probe JOIN build ON build.i + 1 = probe.i"),
    (
        None,
        "WITH RECURSIVE r(i, n) AS (SELECT i, 0 FROM build WHERE v < 400 UNION ALL SELECT p.i, n + 1 FROM r JOIN probe p ON r.i + 7 = p.i AND p.s = 3 WHERE n < 3)
         SELECT count(*), sum(i), max(n) FROM r",
    ),
];

async fn answered_by_keys(client: &Client, sql: &str) -> Result<bool> {
    let analyzed = lines(client, &format!("EXPLAIN ANALYZE {sql}")).await?.join("\n");
    Ok(analyzed.split("rows_by_keys=").skip(1).any(|rest| !rest.starts_with('0')))
}

async fn check(client: &Client, state: &str) -> Result<()> {
    for (expected, sql) in QUERIES {
        client.batch_execute("SET quire.join_keys = off").await?;
        let without = lines(client, sql).await?;
        ensure!(!answered_by_keys(client, sql).await?, "{state}: {sql}: keys, though they are off");
        client.batch_execute("SET quire.join_keys = on").await?;
        let with = lines(client, sql).await?;
        ensure!(with == without, "{state}: {sql} gives {with:?}, not {without:?}");
        if let Some(expected) = expected {
            ensure!(answered_by_keys(client, sql).await? == expected, "{state}: {sql}: answered by keys: {}", !expected);
        }
    }
    Ok(())
}

#[tokio::test]
async fn answers_are_the_same_with_keys_and_without() -> Result<()> {
    let quire = Quire::dev().await?;
    let test = async {
        let client = quire.connect().await?;
        client.batch_execute(TABLES).await?;
        check(&client, "loaded").await?;
        for partitions in [1, 5] {
            client.batch_execute(&format!("SET quire.target_partitions = {partitions}")).await?;
            check(&client, &format!("{partitions} partitions")).await?;
        }
        client.batch_execute("RESET quire.target_partitions").await?;

        // Rows that no bounds know of, and rows that are gone.
        client
            .batch_execute(
                "INSERT INTO probe VALUES (-1, -60 + 11 * 2000, 13 * 3000, 299, DATE '2019-12-05', 'in the delta'), (-2, NULL, NULL, NULL, NULL, NULL);
                 DELETE FROM probe WHERE id % 11 = 4",
            )
            .await?;
        check(&client, "with rows in the delta").await?;
        client
            .batch_execute("BEGIN; INSERT INTO probe SELECT -id - 1000, i + 30000, b + 40000, s, d, t FROM probe WHERE id < 400 AND id > 0")
            .await?;
        check(&client, "with rows of the transaction").await?;
        client.batch_execute("ROLLBACK").await?;
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, test).await.context("it hangs")?
}

#[tokio::test]
async fn a_branch_is_not_evaluated_for_what_its_condition_keeps_from_it() -> Result<()> {
    let quire = Quire::dev().await?;
    let client = quire.connect().await?;
    client.batch_execute("CREATE TABLE t (k int, x int); INSERT INTO t SELECT g % 2, CASE g % 2 WHEN 1 THEN g % 100 ELSE 5000 END FROM generate_series(1, 200000) AS s(g)").await?;
    // 5000 is no numeric(5, 2).
    let guarded = "SELECT count(*) FROM t WHERE CASE k WHEN 1 THEN x::numeric(5, 2) > 1.50 ELSE false END";
    ensure!(lines(&client, guarded).await? == ["98000"], "{:?}", lines(&client, guarded).await?);
    Ok(())
}
