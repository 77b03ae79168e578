//! What indexes find, and how EXPLAIN tells of it.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use quire_tests::{Quire, lines};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

async fn plan(client: &Client, sql: &str) -> Result<String> {
    Ok(lines(client, sql).await?.join("\n"))
}

/// Of 20,000 rows in one row group.
#[tokio::test]
async fn explain_says_which_rows_an_index_found() -> Result<()> {
    let quire = Quire::dev().await?;
    let test = async {
        let client = quire.connect().await?;
        client
            .batch_execute(
                "CREATE TABLE scattered (id int PRIMARY KEY, k int, other int);
                 INSERT INTO scattered SELECT i, i * 7919 % 20000, i % 10 FROM generate_series(1, 20000) AS s(i);
                 CREATE INDEX by_k ON scattered (k)",
            )
            .await?;
        for (condition, index, found) in [
            ("k = 7919", "index=[by_k]", 1),
            ("k IN (7919, 15838) AND other = 2", "index=[by_k]", 2),
            ("k IN (1, 2, 3, 4, 5)", "index=[by_k]", 5),
            ("k BETWEEN 100 AND 109", "index=[by_k]", 10),
            ("id > 19990", "index=[scattered_pkey]", 10),
            ("k > 100", "index=[by_k]", 0),
            ("other = 2", "columns=[id]", 0),
        ] {
            let sql = format!("SELECT id FROM scattered WHERE {condition}");
            let planned = plan(&client, &format!("EXPLAIN {sql}")).await?;
            ensure!(planned.contains(index), "{sql}: {planned}");
            let run = plan(&client, &format!("EXPLAIN ANALYZE {sql}")).await?;
            let counted = run.split("rows_by_index=").nth(1).and_then(|rest| rest.split([',', ']']).next());
            ensure!(counted == Some(found.to_string().as_str()), "{sql}: {run}");
        }
        let planned = plan(&client, "EXPLAIN SELECT id FROM scattered WHERE other = 2 AND abs(k) = 7919").await?;
        ensure!(!planned.contains("index="), "{planned}");
        Ok(())
    };
    tokio::time::timeout(PATIENCE, test).await.context("it hangs")?
}

#[tokio::test]
async fn parameters_are_looked_up_in_keys_of_many_types() -> Result<()> {
    let quire = Quire::dev().await?;
    let test = async {
        let client = quire.connect().await?;
        client
            .batch_execute(
                "CREATE TABLE keyed (c char(4) UNIQUE, at timestamptz UNIQUE, b bytea UNIQUE, n numeric(6,2) UNIQUE, id int);
                 INSERT INTO keyed VALUES ('a', '1970-01-02 00:00:00+00', '\\x01', 1, 1), ('ab', '2024-01-01 00:00:00+00', '', 1.5, 2)",
            )
            .await?;
        let by = async |condition: &str| client.prepare(&format!("SELECT id FROM keyed WHERE {condition}")).await;
        let (c, at, b) = (by("c = $1").await?, by("at = $1").await?, by("b = $1").await?);
        let n = client.prepare_typed("SELECT id FROM keyed WHERE n = $1", &[Type::INT4]).await?;
        ensure!(client.query_one(&c, &[&"a"]).await?.get::<_, i32>(0) == 1);
        ensure!(client.query_one(&c, &[&"ab  "]).await?.get::<_, i32>(0) == 2);
        ensure!(client.query(&c, &[&"b"]).await?.is_empty());
        ensure!(client.query_one(&at, &[&(UNIX_EPOCH + Duration::from_secs(86_400))]).await?.get::<_, i32>(0) == 1);
        ensure!(client.query(&at, &[&UNIX_EPOCH]).await?.is_empty());
        ensure!(client.query_one(&b, &[&&b"\x01"[..]]).await?.get::<_, i32>(0) == 1);
        ensure!(client.query_one(&b, &[&&b""[..]]).await?.get::<_, i32>(0) == 2);
        ensure!(client.query_one(&n, &[&1]).await?.get::<_, i32>(0) == 1);
        ensure!(client.query(&n, &[&2]).await?.is_empty());
        Ok(())
    };
    tokio::time::timeout(PATIENCE, test).await.context("it hangs")?
}
