//! Transactions as drivers and careful applications use them: savepoints, the outcome of a commit, single statements at SERIALIZABLE.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use quire_tests::{Quire, program};
use tokio_postgres::{Client, SimpleQueryMessage};

async fn text(client: &Client, sql: &str) -> Result<String> {
    let rows = client.simple_query(sql).await.with_context(|| sql.to_string())?;
    let row = rows.iter().find_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(row) } else { None });
    Ok(row.context("no row")?.get(0).unwrap_or("NULL").to_string())
}

async fn refused(client: &Client, sql: &str) -> Result<String> {
    let error = client.batch_execute(sql).await.err().with_context(|| format!("{sql}: no error"))?;
    Ok(error.code().map(|code| code.code().to_string()).unwrap_or_default())
}

#[tokio::test]
async fn a_client_can_ask_what_became_of_its_transaction() -> Result<()> {
    let quire = Quire::builder().compute_nodes(2).start().await?;
    let (one, two) = (quire.connect_to(0).await?, quire.connect_to(1).await?);
    one.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 1)").await?;
    let status = |id: &str| format!("SELECT quire_txn_status('{id}')");

    one.batch_execute("BEGIN").await?;
    let committed = text(&one, "SELECT quire_txn_id()").await?;
    ensure!(committed.len() == 32, "{committed}");
    one.batch_execute("UPDATE t SET b = 2 WHERE a = 1; SAVEPOINT s").await?;
    ensure!(text(&one, "SELECT quire_txn_id()").await? == committed, "a transaction has one id");
    ensure!(refused(&one, "SELECT 1 / 0").await? == "22012");
    one.batch_execute("ROLLBACK TO s").await?;
    ensure!(text(&one, "SELECT quire_txn_id()").await? == committed, "also when it has gone back");
    ensure!(text(&one, &status(&committed)).await? == "in progress");
    ensure!(text(&two, &status(&committed)).await? == "unknown");

    two.batch_execute("BEGIN").await?;
    let aborted = text(&two, "SELECT quire_txn_id()").await?;
    ensure!(aborted != committed);
    two.batch_execute("UPDATE t SET b = 3 WHERE a = 1").await?;
    one.batch_execute("COMMIT").await?;
    ensure!(refused(&two, "COMMIT").await? == "40001");
    one.batch_execute("BEGIN").await?;
    let undone = text(&one, "SELECT quire_txn_id()").await?;
    one.batch_execute("UPDATE t SET b = 4; ROLLBACK").await?;
    for client in [&one, &two] {
        ensure!(text(client, &status(&committed)).await? == "committed");
        ensure!(text(client, &status(&aborted)).await? == "aborted");
        ensure!(text(client, &status(&undone)).await? == "unknown");
        // Of a column, and with a parameter.
        let all = client
            .query("SELECT quire_txn_status(id) FROM (VALUES ($1::text), (NULL)) AS ids (id) ORDER BY 1 NULLS LAST", &[&committed])
            .await?;
        ensure!(all.len() == 2 && all[0].get::<_, &str>(0) == "committed" && all[1].get::<_, Option<&str>>(0).is_none(), "{all:?}");
        ensure!(refused(client, &status("nonsense")).await? == "22P02");
    }
    Ok(())
}

#[tokio::test]
async fn a_deferred_key_is_certified_as_others_are() -> Result<()> {
    let quire = Quire::builder().compute_nodes(2).start().await?;
    let (one, two) = (quire.connect_to(0).await?, quire.connect_to(1).await?);
    one.batch_execute("CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO t VALUES (1), (2)").await?;

    // Neither sees the other's row.
    one.batch_execute("BEGIN; INSERT INTO t VALUES (3)").await?;
    two.batch_execute("BEGIN; INSERT INTO t VALUES (3)").await?;
    one.batch_execute("COMMIT").await?;
    ensure!(refused(&two, "COMMIT").await? == "40001");

    // The one sees the other's row, which came after its first statement.
    two.batch_execute("BEGIN; INSERT INTO t VALUES (10)").await?;
    one.batch_execute("INSERT INTO t VALUES (4)").await?;
    two.batch_execute("INSERT INTO t VALUES (4)").await?;
    ensure!(refused(&two, "COMMIT").await? == "23505");

    // 1 is free once the one has committed, which it does not: its row 2 is a second 3.
    one.batch_execute("BEGIN; UPDATE t SET a = a + 1 WHERE a < 3").await?;
    two.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await?;
    ensure!(refused(&two, "COMMIT").await? == "23505");
    ensure!(refused(&one, "COMMIT").await? == "23505");
    ensure!(text(&two, "SELECT string_agg(a::text, ',' ORDER BY a) FROM t").await? == "1,2,3,4");
    Ok(())
}

/// How many statements have asked for a snapshot.
async fn askers(quire: &mut Quire) -> Result<u64> {
    Ok(program::metric(&quire.process().metrics().await?, "quire_client_snapshot_callers_sum", &[]))
}

#[tokio::test]
async fn of_a_block_s_statements_only_those_that_read_others_rows_ask() -> Result<()> {
    let mut quire = Quire::dev().await?;
    let client = quire.connect().await?;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 1); CREATE TABLE log (a int)").await?;
    let update = client.prepare("UPDATE t SET b = b + 1 WHERE a = $1").await?;
    let select = client.prepare("SELECT b FROM t WHERE a = $1").await?;
    let insert = client.prepare("INSERT INTO log VALUES ($1)").await?;
    const BLOCKS: u64 = 200;
    let before = askers(&mut quire).await?;
    for n in 0..BLOCKS as i32 {
        client.batch_execute("BEGIN").await?;
        client.execute(&update, &[&1i32]).await?;
        client.query(&select, &[&1i32]).await?;
        client.execute(&insert, &[&n]).await?;
        client.batch_execute("COMMIT").await?;
    }
    // The node itself asks now and then, too.
    let asked = askers(&mut quire).await? - before;
    ensure!((BLOCKS..BLOCKS * 3 / 2).contains(&asked), "{asked} snapshots for {BLOCKS} updates");
    ensure!(text(&client, "SELECT b || ',' || (SELECT count(*) FROM log) FROM t").await? == "201,200");
    Ok(())
}

/// Prepared INSERTs of values are tried on a snapshot that others took before: what they come to is as if they had taken their own.
#[tokio::test]
async fn an_insert_tried_early_sees_what_others_have_committed() -> Result<()> {
    let quire = Quire::builder().compute_nodes(2).start().await?;
    let (one, two) = (quire.connect_to(0).await?, quire.connect_to(1).await?);
    one.batch_execute("CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE t (a int PRIMARY KEY, p int REFERENCES p)").await?;
    let insert = two.prepare("INSERT INTO t VALUES ($1, $2)").await?;
    let code = |error: tokio_postgres::Error| error.code().map(|code| code.code().to_string()).unwrap_or_default();
    for n in 0..20i32 {
        // A key that is taken, one that is free again, a row to point at that has come, one that has gone.
        one.batch_execute(&format!("INSERT INTO p VALUES ({n}); INSERT INTO t VALUES ({n}, {n})")).await?;
        let taken = two.execute(&insert, &[&n, &n]).await.err().context("a key twice")?;
        ensure!(code(taken) == "23505");
        one.batch_execute(&format!("DELETE FROM t WHERE a = {n}")).await?;
        ensure!(two.execute(&insert, &[&n, &n]).await? == 1);
        one.batch_execute(&format!("DELETE FROM t WHERE a = {n}; DELETE FROM p WHERE a = {n}")).await?;
        let orphan = two.execute(&insert, &[&n, &n]).await.err().context("a row that points nowhere")?;
        ensure!(code(orphan) == "23503");
    }
    one.batch_execute("ALTER TABLE t ADD COLUMN c int DEFAULT 7").await?;
    ensure!(two.execute(&insert, &[&100i32, &None::<i32>]).await? == 1);
    ensure!(text(&one, "SELECT c FROM t WHERE a = 100").await? == "7");
    one.batch_execute("DROP TABLE t; CREATE TABLE t (a int, p int CHECK (p > 0))").await?;
    let refused = two.execute(&insert, &[&1i32, &0i32]).await.err().context("a CHECK")?;
    ensure!(code(refused) == "23514");
    ensure!(two.execute(&insert, &[&1i32, &1i32]).await? == 1);

    // A name means what it means when the statement runs.
    one.batch_execute("CREATE SCHEMA s; CREATE TABLE q (a int)").await?;
    two.batch_execute("SET search_path = s, public").await?;
    let insert = two.prepare("INSERT INTO q VALUES ($1)").await?;
    ensure!(two.execute(&insert, &[&1i32]).await? == 1);
    one.batch_execute("CREATE TABLE s.q (a int)").await?;
    ensure!(two.execute(&insert, &[&2i32]).await? == 1);
    ensure!(text(&one, "SELECT (SELECT max(a) FROM public.q) || ',' || (SELECT max(a) FROM s.q)").await? == "1,2");
    Ok(())
}

#[tokio::test]
async fn a_block_reads_its_own_row_and_inserts_without_a_snapshot() -> Result<()> {
    let quire = Quire::dev().await?;
    let (one, two) = (quire.connect().await?, quire.connect().await?);
    one.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 1), (2, 2); CREATE TABLE log (a int)").await?;
    let update = one.prepare("UPDATE t SET b = b + $2 WHERE a = $1").await?;
    let select = one.prepare("SELECT b FROM t WHERE a = $1").await?;
    let insert = one.prepare("INSERT INTO log VALUES ($1)").await?;
    let b = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>();

    one.batch_execute("BEGIN").await?;
    one.execute(&update, &[&1i32, &10i32]).await?;
    two.batch_execute("UPDATE t SET b = 20 WHERE a = 2; ALTER TABLE log ADD COLUMN b int DEFAULT 5").await?;
    ensure!(b(one.query(&select, &[&1i32]).await?) == [11], "its own row");
    ensure!(b(one.query(&select, &[&2i32]).await?) == [20], "another's, committed since");
    one.execute(&insert, &[&1i32]).await?;
    one.batch_execute("DELETE FROM t WHERE a = 1").await?;
    ensure!(b(one.query(&select, &[&1i32]).await?).is_empty(), "its own row is gone");
    one.batch_execute("COMMIT").await?;
    ensure!(text(&two, "SELECT a || ',' || b FROM log").await? == "1,5", "the INSERT knew the column that was added before it");

    // What another session has defined since, and the row that it wants.
    one.batch_execute("CREATE TABLE parent (a int PRIMARY KEY); CREATE TABLE child (a int, p int)").await?;
    let child = one.prepare("INSERT INTO child VALUES ($1, $2)").await?;
    two.batch_execute("ALTER TABLE child ADD FOREIGN KEY (p) REFERENCES parent").await?;
    one.batch_execute("BEGIN; SELECT 1").await?;
    two.batch_execute("INSERT INTO parent VALUES (7)").await?;
    one.execute(&child, &[&1i32, &7i32]).await?;
    one.batch_execute("COMMIT; BEGIN; SELECT 1").await?;
    two.batch_execute("TRUNCATE log").await?;
    one.execute(&insert, &[&2i32]).await?;
    one.batch_execute("COMMIT").await?;

    // The INSERT without a snapshot is no reason for the next one's to be of its time.
    two.batch_execute("INSERT INTO parent VALUES (8)").await?;
    one.batch_execute("BEGIN; SAVEPOINT s").await?;
    one.execute(&insert, &[&3i32]).await?;
    one.execute(&child, &[&2i32, &8i32]).await?;
    one.batch_execute("COMMIT").await?;
    ensure!(text(&two, "SELECT (SELECT count(*) FROM log) || ',' || (SELECT count(*) FROM child)").await? == "2,2");

    // A row that another changed in the meantime is the transaction's own, until COMMIT says that it is not.
    one.batch_execute("BEGIN").await?;
    one.execute(&update, &[&2i32, &1i32]).await?;
    two.batch_execute("UPDATE t SET b = 0 WHERE a = 2").await?;
    ensure!(b(one.query(&select, &[&2i32]).await?) == [21]);
    ensure!(refused(&one, "COMMIT").await? == "40001");
    ensure!(text(&two, "SELECT b FROM t WHERE a = 2").await? == "0");
    Ok(())
}

#[tokio::test]
async fn outcomes_outlive_a_restart() -> Result<()> {
    let mut quire = Quire::dev().await?;
    let client = quire.connect().await?;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY); BEGIN").await?;
    let id = text(&client, "SELECT quire_txn_id()").await?;
    client.batch_execute("INSERT INTO t VALUES (1); SELECT * FROM t FOR UPDATE; COMMIT").await?;
    drop(client);
    quire.stop().await?;
    quire.restart().await?;
    let client = quire.connect().await?;
    ensure!(text(&client, &format!("SELECT quire_txn_status('{id}')")).await? == "committed");
    Ok(())
}

#[tokio::test]
async fn a_driver_s_savepoints_nest() -> Result<()> {
    let quire = Quire::dev().await?;
    let mut client = quire.connect().await?;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY)").await?;
    let insert = client.prepare("INSERT INTO t VALUES ($1)").await?;
    let mut transaction = client.transaction().await?;
    transaction.execute(&insert, &[&1i32]).await?;
    let mut outer = transaction.savepoint("outer").await?;
    outer.execute(&insert, &[&2i32]).await?;
    let inner = outer.savepoint("inner").await?;
    inner.execute(&insert, &[&3i32]).await?;
    let error = inner.execute(&insert, &[&1i32]).await.err().context("a key twice")?;
    ensure!(error.code().is_some_and(|c| c.code() == "23505"), "{error}");
    let error = inner.query("SELECT * FROM t", &[]).await.err().context("a failed block")?;
    ensure!(error.code().is_some_and(|c| c.code() == "25P02"), "{error}");
    inner.rollback().await?;
    outer.execute(&insert, &[&4i32]).await?;
    outer.commit().await?;
    // One savepoint a statement and none released, as some drivers have it.
    for n in 100..600i32 {
        transaction.batch_execute("SAVEPOINT auto").await?;
        transaction.execute(&insert, &[&n]).await?;
        if n % 50 == 0 {
            ensure!(transaction.execute(&insert, &[&n]).await.is_err());
            transaction.batch_execute("ROLLBACK TO auto").await?;
        }
    }
    transaction.commit().await?;
    let rows = client.query("SELECT a FROM t ORDER BY a", &[]).await?;
    let found: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    let expected: Vec<i32> = [1, 2, 4].into_iter().chain((100..600).filter(|n| n % 50 != 0)).collect();
    ensure!(found == expected, "{found:?}");
    Ok(())
}

#[tokio::test]
async fn single_statements_at_serializable_are_tried_again() -> Result<()> {
    const EACH: i64 = 20;
    let quire = Quire::builder().compute_nodes(2).start().await?;
    quire.connect().await?.batch_execute("CREATE TABLE t (n bigint)").await?;
    let mut running = tokio::task::JoinSet::new();
    for node in 0..2 {
        let client = quire.connect_to(node).await?;
        running.spawn(async move {
            client.batch_execute("SET default_transaction_isolation = 'serializable'").await?;
            let mut done = 0;
            while done < EACH {
                // Each counts the rows before it: only one after the other gives each number once.
                match client.batch_execute("INSERT INTO t SELECT count(*) FROM t").await {
                    Ok(()) => done += 1,
                    Err(error) => ensure!(error.code().is_some_and(|c| c.code() == "40001"), "{error}"),
                }
            }
            Ok(())
        });
    }
    while let Some(one) = running.join_next().await {
        one??;
    }
    let rows = quire.connect().await?.query("SELECT n FROM t", &[]).await?;
    let found: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(found.len() == rows.len() && found == (0..2 * EACH).collect(), "{found:?} of {} rows", rows.len());
    Ok(())
}
