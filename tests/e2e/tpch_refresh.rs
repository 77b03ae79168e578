//! TPC-H with its refresh functions beside the queries: a snapshot's answers stay exact, whoever looks sees whole sets, and what is
//! there in the end is the base without what was deleted, and what was inserted, row for row; before and after sealing, compaction
//! and kill -9.

use std::collections::HashSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, pin_mut};
use quire_tests::{Cluster, paths, program};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::compaction::{at_rest, counted};

/// A query of the first round ends within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a cluster says after kill -9: a WARN here and there, never an ERROR.
const WARN: &str = "\"level\":\"WARN\"";

const SCALE: &str = "0.01";
/// Orders at this scale, and those that one set inserts and deletes.
const ORDERS: i64 = 15_000;
const SET_ORDERS: i64 = 15;
/// Refresh sets: two writers at once run RF1 and RF2 in one transaction, as fast as they can; then one runs each in its own, and its
/// rows are segments before the next set comes: however fast the writers are, eight segments of a table are there to be merged.
const FIRST: &str = "1-16";
const SECOND: &str = "17-32";
const APART: RangeInclusive<usize> = 33..=40;
const SETS: &str = "1-40";
const SETS_COUNT: i64 = 40;

/// What a snapshot has, in one row: keys of orders or of lines; those with an order; those with lines; orders of RF1, by their
/// keys; orders that do not cost what their lines do, cut off to cents as the generator does it.
const LOOK: &str = "
    SELECT
        count(*), count(o_orderkey), count(l_orderkey),
        count(*) FILTER (WHERE o_orderkey % 32 >= 8),
        count(*) FILTER (WHERE (o_totalprice * 100)::bigint <> cents)
    FROM orders FULL JOIN (
        SELECT l_orderkey, sum(
            (l_extendedprice * 100)::bigint * (100 - (l_discount * 100)::bigint) / 100 * (100 + (l_tax * 100)::bigint) / 100
        )::bigint AS cents
        FROM lineitem GROUP BY l_orderkey
    ) AS priced ON o_orderkey = l_orderkey";

/// The tables that change, and their rows as `tpch generate` writes them: a char(n) without its blanks, a quantity without its fraction.
const CHANGING: [(&str, &str); 2] = [
    (
        "orders",
        "o_orderkey, o_custkey, rtrim(o_orderstatus), o_totalprice, o_orderdate, rtrim(o_orderpriority), rtrim(o_clerk), o_shippriority, \
         o_comment",
    ),
    (
        "lineitem",
        "l_orderkey, l_partkey, l_suppkey, l_linenumber, l_quantity::integer, l_extendedprice, l_discount, l_tax, rtrim(l_returnflag), \
         rtrim(l_linestatus), l_shipdate, l_commitdate, l_receiptdate, rtrim(l_shipinstruct), rtrim(l_shipmode), l_comment",
    ),
];

fn url(cluster: &Cluster, node: usize) -> String {
    format!("postgres://quire@{}/quire", cluster.addresses()[node])
}

async fn tpch(arguments: &[&str]) -> Result<()> {
    let arguments = [&["tpch"][..], arguments].concat();
    program::run(&arguments).await?.ok().with_context(|| format!("{arguments:?}"))?;
    Ok(())
}

/// Runs refresh sets.
async fn refresh(url: &str, sets: &str, flags: &[&str]) -> Result<()> {
    let arguments = [&["refresh", "--url", url, "--scale", SCALE, "--sets", sets][..], flags].concat();
    tpch(&arguments).await
}

/// The answers of all 22 queries, each as text.
async fn answers(client: &Client) -> Result<Vec<String>> {
    let mut answers = vec![];
    for query in 1..=22 {
        let path = paths::package().join(format!("../crates/quire-bench/queries/q{query:02}.sql"));
        let sql = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        // query 11's fraction is 0.0001 / scale
        let messages = client.simple_query(&sql.replace("{fraction}", "0.01")).await.with_context(|| format!("query {query}"))?;
        let mut rows = vec![];
        for message in &messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join("|"));
            }
        }
        // ORDER BY leaves ties open
        rows.sort();
        answers.push(format!("query {query}\n{}", rows.join("\n")));
    }
    Ok(answers)
}

/// Fails unless the 22 answers are these.
async fn answered(client: &Client, expected: &[String], when: &str) -> Result<()> {
    for (ours, theirs) in answers(client).await?.iter().zip(expected) {
        ensure!(ours == theirs, "{when}: {ours}\nwas\n{theirs}");
    }
    Ok(())
}

/// Checks what must hold in every snapshot; the number of whole sets that it has.
async fn look(client: &Client) -> Result<i64> {
    let row = client.query_one(LOOK, &[]).await.context(LOOK)?;
    let [all, orders, with_lines, new, wrong] = [0usize, 1, 2, 3, 4].map(|column| row.get::<_, i64>(column));
    ensure!(
        all == ORDERS && orders == ORDERS && with_lines == ORDERS && new % SET_ORDERS == 0 && wrong == 0,
        "a snapshot has {orders} orders ({new} of them new, {wrong} at a wrong price), {with_lines} with lines, {all} with or without"
    );
    Ok(new / SET_ORDERS)
}

/// Looks by one node and by the other until it is told to stop: no look sees less than the one before. The number of looks.
async fn look_on(clients: [Client; 2], stopped: watch::Receiver<bool>) -> Result<usize> {
    let (mut looks, mut seen) = (0, 0);
    while !*stopped.borrow() {
        let sets = look(&clients[looks % 2]).await?;
        ensure!(sets >= seen, "{sets} sets on node {}, after {seen} on the other", looks % 2);
        seen = sets;
        looks += 1;
    }
    Ok(looks)
}

/// The lines of `<name>.csv` but for the first, which names the columns.
fn csv(dir: &Path, name: &str) -> Result<Vec<String>> {
    let path = dir.join(format!("{name}.csv"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.lines().skip(1).map(str::to_string).collect())
}

/// The rows that a table must have after all sets, sorted as text, by the files that `tpch generate` wrote.
fn expected(dir: &Path, table: &str) -> Result<Vec<String>> {
    let (mut rows, mut deleted) = (vec![], HashSet::new());
    for set in 1..=SETS_COUNT {
        rows.extend(csv(dir, &format!("{table}.u{set}"))?);
        deleted.extend(csv(dir, &format!("delete.u{set}"))?);
    }
    ensure!(deleted.len() as i64 == SETS_COUNT * SET_ORDERS, "{} orders are to be deleted", deleted.len());
    rows.extend(csv(dir, table)?.into_iter().filter(|row| !deleted.contains(row.split(',').next().unwrap_or_default())));
    rows.sort();
    Ok(rows)
}

/// Fails unless the tables that change have exactly the rows that they must have.
async fn complete(client: &Client, dir: &Path) -> Result<()> {
    for (table, columns) in CHANGING {
        let stream = client.copy_out(format!("COPY (SELECT {columns} FROM {table}) TO STDOUT (FORMAT csv)").as_str()).await?;
        pin_mut!(stream);
        let mut bytes = vec![];
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        let text = String::from_utf8(bytes)?;
        let mut found: Vec<&str> = text.lines().collect();
        found.sort_unstable();
        let expected = expected(dir, table)?;
        for (found, expected) in found.iter().zip(&expected) {
            ensure!(found == expected, "{table} has {found}\nnot {expected}");
        }
        ensure!(found.len() == expected.len(), "{table} has {} rows, not {}", found.len(), expected.len());
    }
    Ok(())
}

#[tokio::test]
async fn answers_stay_exact_beside_the_refresh_functions_and_after() -> Result<()> {
    let mut cluster =
        Cluster::builder().storage_flag("--seal-rows", "12").storage_flag("--seal-age", "300ms").allow_log(WARN).start().await?;
    let urls = [url(&cluster, 0), url(&cluster, 1)];
    let (one, other) = (urls[0].as_str(), urls[1].as_str());
    let files = tempfile::tempdir()?;
    let out = files.path().display().to_string();
    let load = ["load", "--url", one, "--scale", SCALE];
    let generate = ["generate", "--scale", SCALE, "--sets", SETS, "--out", out.as_str()];
    tokio::try_join!(tpch(&load), tpch(&generate))?;

    // Two snapshots of the base: one whose answers are compared with the references, and one that stays open to the end.
    let reader = cluster.connect(0).await?;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let base = answers(&reader).await?;
    let run = ["tpch", "run", "--url", one, "--scale", SCALE, "--one-snapshot", "--warmup", "0", "--repeats", "2"];
    let mut queries = program::spawn(&run)?;
    let mut progress = BufReader::new(queries.stderr.take().context("stderr is piped")?).lines();
    let begun = tokio::time::timeout(PATIENCE, progress.next_line()).await.context("no query ends")??;
    ensure!(begun.as_deref().is_some_and(|line| line.starts_with("query")), "{begun:?}");

    let (stop, stopped) = watch::channel(false);
    let mut looking = tokio::task::JoinSet::new();
    looking.spawn(look_on([cluster.connect(0).await?, cluster.connect(1).await?], stopped));
    let mut said = String::new();
    let reading = async {
        while let Some(line) = progress.next_line().await? {
            said.push_str(&line);
            said.push('\n');
        }
        anyhow::Ok(())
    };
    let together: &[&str] = &["--one-transaction"];
    let (ran, (), (), ()) =
        tokio::try_join!(program::finish(queries), reading, refresh(other, FIRST, together), refresh(one, SECOND, together))?;
    let ran = ran.ok().context(said)?;
    ensure!(ran.out.contains("22 of 22 answers right"), "{}", ran.out);
    // who looks may have given up, and then says why
    stop.send_replace(true);
    let looks = looking.join_next().await.context("one task")???;
    ensure!(looks > 0, "nobody looked");
    for set in APART {
        refresh(other, &set.to_string(), &[]).await?;
        cluster.sealed().await?;
    }

    let writer = cluster.connect(1).await?;
    ensure!(look(&writer).await? == SETS_COUNT);
    let last = answers(&writer).await?;
    ensure!(last != base, "the sets change no answer");
    answered(&reader, &base, "the snapshot, after all writes").await?;
    complete(&writer, files.path()).await?;

    at_rest(&cluster).await?;
    ensure!(counted(&mut cluster, "quire_storage_compactions_total", &[]).await? > 0, "nothing was compacted");
    answered(&reader, &base, "the snapshot, after sealing and compaction").await?;
    reader.batch_execute("COMMIT").await?;
    answered(&reader, &last, "after sealing and compaction").await?;

    cluster.kill9_all()?;
    // One node fetches every page again, the other has them.
    fs::remove_dir_all(cluster.cache_dir(0))?;
    cluster.restart_all().await?;
    for node in 0..2 {
        let client = cluster.connect(node).await?;
        answered(&client, &last, &format!("after a restart, node {node}")).await?;
        ensure!(look(&client).await? == SETS_COUNT);
    }
    complete(&cluster.connect(0).await?, files.path()).await?;
    cluster.stop().await
}
