//! Three storage nodes and two compute nodes, each a process: what one compute node acknowledges all see, and no kill of any of them
//! loses or changes it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quire_tests::{Cluster, program};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_postgres::Client;

/// What clients see of an election, and some.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// What a cluster says while a node of it is gone: a WARN here and there, never an ERROR.
const WARN: &str = "\"level\":\"WARN\"";

const LINEITEM_ROWS: i64 = 60_175;

fn url(cluster: &Cluster, node: usize) -> String {
    format!("postgres://quire@{}/quire", cluster.addresses()[node])
}

async fn load(cluster: &Cluster, node: usize, scale: &str) -> Result<()> {
    program::run(&["tpch", "load", "--url", &url(cluster, node), "--scale", scale]).await?.ok().context("tpch load")?;
    Ok(())
}

/// All 22 queries, each answer checked.
async fn right(cluster: &Cluster, node: usize, scale: &str) -> Result<()> {
    let ran = program::run(&["tpch", "run", "--url", &url(cluster, node), "--scale", scale, "--warmup", "0", "--repeats", "1"]).await?;
    let ran = ran.ok().context("tpch run")?;
    ensure!(ran.out.contains("22 of 22 answers right"), "{}", ran.out);
    Ok(())
}

async fn number(client: &Client, sql: &str) -> Result<i64> {
    Ok(client.query_one(sql, &[]).await.with_context(|| sql.to_string())?.get(0))
}

/// Waits until the query gives at least this. Errors count as not yet: the table may not be there.
async fn at_least(client: &Client, sql: &str, least: i64) -> Result<()> {
    let polling = async {
        while !number(client, sql).await.is_ok_and(|n| n >= least) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.with_context(|| format!("{sql} does not give {least}"))
}

async fn remote_pages(cluster: &mut Cluster, node: usize) -> Result<u64> {
    Ok(program::metric(&cluster.compute(node).metrics().await?, "quire_cache_pages_total", &["cache=\"compute\"", "tier=\"remote\""]))
}

#[tokio::test]
async fn what_is_loaded_through_one_compute_node_is_queried_through_the_other() -> Result<()> {
    let mut cluster = Cluster::builder().start().await?;
    load(&cluster, 0, "0.01").await?;
    right(&cluster, 1, "0.01").await?;
    right(&cluster, 0, "0.01").await?;
    let status = cluster.healed().await?;
    ensure!(status[0].segments > 0, "a big COPY makes segments: {status:?}");
    ensure!(remote_pages(&mut cluster, 1).await? > 0, "the second node had pages that it never fetched");
    cluster.stop().await
}

#[tokio::test]
async fn the_answers_are_right_at_a_tenth_too() -> Result<()> {
    let mut cluster = Cluster::builder().start().await?;
    load(&cluster, 0, "0.1").await?;
    right(&cluster, 1, "0.1").await?;
    cluster.stop().await
}

#[tokio::test]
async fn what_one_compute_node_acknowledges_the_next_statement_on_the_other_sees() -> Result<()> {
    let mut cluster = Cluster::builder().start().await?;
    let clients = [cluster.connect(0).await?, cluster.connect(1).await?];
    clients[0].batch_execute("CREATE TABLE hops (id bigint PRIMARY KEY, node int)").await?;
    for hop in 0..200i64 {
        let (writer, reader) = (&clients[(hop % 2) as usize], &clients[((hop + 1) % 2) as usize]);
        writer.execute("INSERT INTO hops VALUES ($1, $2)", &[&hop, &((hop % 2) as i32)]).await?;
        let row = reader.query_one("SELECT count(*), max(id) FROM hops", &[]).await?;
        ensure!(row.get::<_, i64>(0) == hop + 1 && row.get::<_, i64>(1) == hop, "hop {hop}: {row:?}");
    }
    // Definitions too.
    for hop in 0..20 {
        let (writer, reader) = (&clients[hop % 2], &clients[(hop + 1) % 2]);
        writer.batch_execute(&format!("CREATE TABLE hop_{hop} (a int); INSERT INTO hop_{hop} VALUES (1)")).await?;
        ensure!(number(reader, &format!("SELECT count(*) FROM hop_{hop}")).await? == 1);
        reader.batch_execute(&format!("DROP TABLE hop_{hop}")).await?;
        let gone = writer.batch_execute(&format!("SELECT * FROM hop_{hop}")).await.err().context("a dropped table is there")?;
        ensure!(gone.code().is_some_and(|c| c.code() == "42P01"), "{gone}");
    }
    cluster.stop().await
}

#[tokio::test]
async fn of_two_nodes_that_insert_the_same_key_at_the_same_time_one_wins() -> Result<()> {
    let mut cluster = Cluster::builder().start().await?;
    let (one, two) = (cluster.connect(0).await?, cluster.connect(1).await?);
    one.batch_execute("CREATE TABLE raced (id bigint PRIMARY KEY, node int)").await?;
    let mut wins = [0; 2];
    for round in 0..100i64 {
        let sql = |node: i32| format!("INSERT INTO raced VALUES ({round}, {node})");
        let (sql_one, sql_two) = (sql(1), sql(2));
        let (first, second) = tokio::join!(one.batch_execute(&sql_one), two.batch_execute(&sql_two));
        let (winner, loser) = match (first, second) {
            (Ok(()), Err(error)) => (0, error),
            (Err(error), Ok(())) => (1, error),
            (first, second) => anyhow::bail!("round {round}: {first:?} {second:?}"),
        };
        wins[winner] += 1;
        ensure!(loser.code().is_some_and(|c| c.code() == "23505"), "round {round}: {loser:?}");
        let node = one.query_one("SELECT node FROM raced WHERE id = $1", &[&round]).await?.get::<_, i32>(0);
        ensure!(node == winner as i32 + 1, "round {round}: the loser's row is there");
    }
    println!("wins: {wins:?}");
    ensure!(number(&two, "SELECT count(*) FROM raced").await? == 100);
    cluster.stop().await
}

#[tokio::test]
async fn many_clients_on_two_nodes_share_the_log_and_lose_nothing() -> Result<()> {
    let mut cluster = Cluster::builder().storage_flag("--seal-rows", "500").storage_flag("--seal-age", "1s").start().await?;
    cluster.connect(0).await?.batch_execute("CREATE TABLE many (client int, n int, PRIMARY KEY (client, n))").await?;
    let (clients, rows) = (16usize, 100i32);
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let connection = cluster.connect(client % 2).await?;
        tasks.spawn(async move {
            for n in 0..rows {
                connection.execute("INSERT INTO many VALUES ($1, $2)", &[&(client as i32), &n]).await?;
                let seen = connection.query_one("SELECT count(*) FROM many WHERE client = $1", &[&(client as i32)]).await?;
                ensure!(seen.get::<_, i64>(0) == i64::from(n) + 1, "client {client} does not see its own row {n}");
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    for node in 0..2 {
        let client = cluster.connect(node).await?;
        ensure!(number(&client, "SELECT count(*) FROM many").await? == clients as i64 * i64::from(rows));
        ensure!(number(&client, "SELECT sum(n)::bigint FROM many").await? == clients as i64 * i64::from(rows * (rows - 1) / 2));
    }
    cluster.stop().await
}

/// Which storage node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Leader,
    Follower,
}

impl Victim {
    async fn node(self, cluster: &Cluster) -> Result<usize> {
        let (leader, follower) = cluster.leader_and_follower().await?;
        Ok(if self == Victim::Leader { leader } else { follower })
    }
}

async fn a_load_survives(victim: Victim) -> Result<()> {
    let mut cluster = Cluster::builder().allow_log(WARN).start().await?;
    let node = victim.node(&cluster).await?;
    let watcher = cluster.connect(1).await?;
    let mut load = program::spawn(&["tpch", "load", "--url", &url(&cluster, 0), "--scale", "0.1"])?;
    // the two big tables, nine tenths of it, are still to come
    at_least(&watcher, "SELECT count(*) FROM partsupp", 1).await?;
    cluster.storage(node).kill9()?;
    ensure!(load.try_wait()?.is_none(), "the load was over before the kill");
    program::finish(load).await?.ok().context("tpch load")?;
    right(&cluster, 1, "0.1").await?;
    cluster.restart_all().await?;
    cluster.healed().await?;
    right(&cluster, 0, "0.1").await?;
    cluster.stop().await
}

#[tokio::test]
async fn a_load_goes_on_when_the_leader_is_killed() -> Result<()> {
    a_load_survives(Victim::Leader).await
}

#[tokio::test]
async fn a_load_goes_on_when_a_follower_is_killed() -> Result<()> {
    a_load_survives(Victim::Follower).await
}

async fn a_run_survives(victim: Victim) -> Result<()> {
    // without a cache of its own the compute node needs storage for every query
    let mut cluster = Cluster::builder().compute_flag("--cache-memory", "1MiB").allow_log(WARN).start().await?;
    load(&cluster, 0, "0.1").await?;
    let node = victim.node(&cluster).await?;
    let mut run = program::spawn(&["tpch", "run", "--url", &url(&cluster, 1), "--scale", "0.1", "--warmup", "0", "--repeats", "3"])?;
    let mut progress = BufReader::new(run.stderr.take().context("stderr is piped")?).lines();
    let begun = tokio::time::timeout(PATIENCE, progress.next_line()).await.context("no query ends")??;
    ensure!(begun.as_deref().is_some_and(|l| l.starts_with("query")), "{begun:?}");
    cluster.storage(node).kill9()?;
    ensure!(run.try_wait()?.is_none(), "the run was over before the kill");
    let mut said = String::new();
    let reading = async {
        while let Some(line) = progress.next_line().await? {
            said.push_str(&line);
            said.push('\n');
        }
        anyhow::Ok(())
    };
    let (ran, read) = tokio::join!(program::finish(run), reading);
    read?;
    let ran = ran?.ok().with_context(|| said.clone())?;
    ensure!(ran.out.contains("22 of 22 answers right"), "{}", ran.out);
    cluster.restart_all().await?;
    cluster.healed().await?;
    cluster.stop().await
}

#[tokio::test]
async fn a_run_goes_on_when_the_leader_is_killed() -> Result<()> {
    a_run_survives(Victim::Leader).await
}

#[tokio::test]
async fn a_run_goes_on_when_a_follower_is_killed() -> Result<()> {
    a_run_survives(Victim::Follower).await
}

#[tokio::test]
async fn small_commits_go_on_while_each_node_is_killed_in_turn() -> Result<()> {
    let mut cluster = Cluster::builder().allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE steady (id bigint PRIMARY KEY)").await?;
    let mut id = 0i64;
    for victim in [Victim::Leader, Victim::Follower, Victim::Leader] {
        let node = victim.node(&cluster).await?;
        for step in 0..60 {
            if step == 20 {
                cluster.storage(node).kill9()?;
            }
            if step == 40 {
                cluster.storage(node).restart().await?;
            }
            client.execute("INSERT INTO steady VALUES ($1)", &[&id]).await.with_context(|| format!("{victim:?}, step {step}"))?;
            id += 1;
        }
        cluster.healed().await?;
    }
    let other = cluster.connect(1).await?;
    ensure!(number(&other, "SELECT count(*) FROM steady").await? == id);
    cluster.stop().await
}

/// Until it has what it may have acknowledged, its vote would be a danger; until it votes, nobody should stop another.
#[tokio::test]
async fn a_node_with_a_new_disk_is_ready_when_it_votes() -> Result<()> {
    let mut cluster = Cluster::builder().compute_nodes(1).allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE steady (id bigint PRIMARY KEY); INSERT INTO steady VALUES (1)").await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let third = 3 - leader - follower;
    cluster.storage(follower).kill9()?;
    cluster.storage(third).kill9()?;
    std::fs::remove_dir_all(cluster.data_dir(third))?;
    cluster.storage(third).start()?;
    // From one of the others it cannot know which term is the latest.
    for _ in 0..50 {
        ensure!(!matches!(cluster.storage(third).readiness().await, Ok((200, _))), "ready with a new disk and no group");
        tokio::time::sleep(POLL).await;
    }
    cluster.storage(follower).start()?;
    cluster.storage(third).ready().await?;
    tokio::time::sleep(POLL).await;
    ensure!(cluster.storage(third).log()?.contains("votes again"), "ready before it votes");
    cluster.storage(follower).ready().await?;
    let leader = cluster.leader_and_follower().await?.0;
    cluster.storage(leader).kill9()?;
    client.execute("INSERT INTO steady VALUES (2)", &[]).await?;
    cluster.restart_all().await?;
    cluster.healed().await?;
    ensure!(number(&client, "SELECT count(*) FROM steady").await? == 2);
    cluster.stop().await
}

/// Rows in segments and rows in the delta.
async fn fill(cluster: &Cluster) -> Result<()> {
    load(cluster, 0, "0.01").await?;
    let client = cluster.connect(1).await?;
    client.batch_execute("CREATE TABLE small (id int PRIMARY KEY, name text); CREATE VIEW names AS SELECT name FROM small").await?;
    for id in 0..50i32 {
        client.execute("INSERT INTO small VALUES ($1, $2)", &[&id, &format!("name of {id}")]).await?;
    }
    Ok(())
}

/// That what [`fill`] wrote is there, on both nodes.
async fn full(cluster: &Cluster) -> Result<()> {
    for node in 0..2 {
        let client = cluster.connect(node).await?;
        ensure!(number(&client, "SELECT count(*) FROM lineitem").await? == LINEITEM_ROWS);
        ensure!(number(&client, "SELECT count(DISTINCT name) FROM names").await? == 50);
        ensure!(number(&client, "SELECT sum(id)::bigint FROM small").await? == 49 * 50 / 2);
        let doubled = client.batch_execute("INSERT INTO small VALUES (7, 'again')").await.err().context("a key is there twice")?;
        ensure!(doubled.code().is_some_and(|c| c.code() == "23505"), "{doubled}");
    }
    right(cluster, 1, "0.01").await
}

#[tokio::test]
async fn everything_is_there_after_kill_9_of_all_processes() -> Result<()> {
    let mut cluster = Cluster::builder().allow_log(WARN).start().await?;
    fill(&cluster).await?;
    for _ in 0..2 {
        cluster.kill9_all()?;
        cluster.restart_all().await?;
        full(&cluster).await?;
    }
    cluster.connect(0).await?.batch_execute("INSERT INTO small VALUES (1000, 'new')").await?;
    cluster.stop().await
}

#[tokio::test]
async fn everything_is_there_after_a_clean_stop() -> Result<()> {
    let mut cluster = Cluster::builder().start().await?;
    fill(&cluster).await?;
    cluster.stop().await?;
    cluster.restart_all().await?;
    full(&cluster).await?;
    cluster.stop().await
}

#[tokio::test]
async fn a_stop_ends_sessions_with_a_word_and_does_not_wait_for_them() -> Result<()> {
    let mut cluster = Cluster::builder().storage_nodes(1).compute_nodes(1).start().await?;
    let idle = cluster.connect(0).await?;
    let busy = cluster.connect(0).await?;
    let mut running = tokio::task::JoinSet::new();
    running
        .spawn(async move { busy.simple_query("SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000) b").await });
    // the statement is on its way before the signal is
    ensure!(number(&idle, "SELECT 1::bigint").await? == 1);
    cluster.compute(0).stop().await?;
    let ended = running.join_next().await.context("one statement")??;
    ensure!(ended.is_err(), "a statement that takes days ended well");
    ensure!(idle.simple_query("SELECT 1").await.is_err(), "an idle session outlived the process");
    cluster.stop().await
}

#[tokio::test]
async fn a_compute_node_without_its_cache_fetches_the_pages_again() -> Result<()> {
    let mut cluster = Cluster::builder().start().await?;
    load(&cluster, 0, "0.01").await?;
    right(&cluster, 1, "0.01").await?;
    let first = remote_pages(&mut cluster, 1).await?;
    ensure!(first > 0, "no page was fetched");
    right(&cluster, 1, "0.01").await?;
    ensure!(remote_pages(&mut cluster, 1).await? == first, "a warm node fetches pages");

    // with its cache: from disk
    cluster.compute(1).stop().await?;
    cluster.compute(1).restart().await?;
    right(&cluster, 1, "0.01").await?;
    let metrics = cluster.compute(1).metrics().await?;
    let disk = program::metric(&metrics, "quire_cache_pages_total", &["cache=\"compute\"", "tier=\"disk\""]);
    let again = remote_pages(&mut cluster, 1).await?;
    ensure!(disk > 0 && again < first / 2, "restarted: {disk} pages from disk, {again} fetched; at first {first} were fetched");

    // without: fetched again
    cluster.compute(1).stop().await?;
    std::fs::remove_dir_all(cluster.cache_dir(1))?;
    cluster.compute(1).restart().await?;
    right(&cluster, 1, "0.01").await?;
    let fetched = remote_pages(&mut cluster, 1).await?;
    ensure!(fetched == first, "without a cache {fetched} pages were fetched, at first {first}");
    cluster.stop().await
}

#[tokio::test]
async fn tpch_run_says_what_each_query_moved() -> Result<()> {
    let mut cluster = Cluster::builder().start().await?;
    load(&cluster, 0, "0.01").await?;
    let metrics = format!("http://{}/metrics", cluster.compute(1).http());
    let json = cluster.data_dir(0).with_file_name("run.json");
    let file = json.to_str().context("a path is text")?;
    let address = url(&cluster, 1);
    program::run(&["tpch", "run", "--url", &address, "--scale", "0.01", "--repeats", "2", "--metrics", &metrics, "--json", file])
        .await?
        .ok()?;
    let record: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json)?)?;
    let queries = record["run"]["queries"].as_array().context("no queries")?;
    ensure!(queries.len() == 22 && queries.iter().all(|q| q["times_ms"].as_array().is_some_and(|t| t.len() == 2)), "{record}");
    let moved = |when: &str| queries.iter().filter_map(|q| q[when]["storage_bytes"].as_u64()).sum::<u64>();
    let fetched = program::metric(&cluster.compute(1).metrics().await?, "quire_cache_remote_bytes_total", &["cache=\"compute\""]);
    ensure!(fetched > 0 && moved("first_moved") + moved("later_moved") <= fetched, "{fetched} bytes were fetched: {record}");
    // Which columns are fetched ahead depends on how far a join is: a warm query may want a page that nobody wanted before.
    ensure!(moved("later_moved") < moved("first_moved") / 4, "a warm query moves bytes, or a cold one none: {record}");
    cluster.stop().await
}

#[tokio::test]
async fn a_storage_node_without_its_page_cache_serves_the_same_pages() -> Result<()> {
    let mut cluster = Cluster::builder().start().await?;
    load(&cluster, 0, "0.01").await?;
    cluster.stop().await?;
    for node in 0..3 {
        std::fs::remove_dir_all(cluster.data_dir(node).join("pages"))?;
    }
    for node in 0..2 {
        std::fs::remove_dir_all(cluster.cache_dir(node))?;
    }
    cluster.restart_all().await?;
    right(&cluster, 0, "0.01").await?;
    right(&cluster, 1, "0.01").await?;
    cluster.stop().await
}

async fn answers(cluster: &Cluster, node: usize) -> Result<String> {
    let client = cluster.connect(node).await?;
    let mut all = String::new();
    for sql in [
        "SELECT count(*), sum(id), sum(n), min(name), max(name) FROM sealed",
        "SELECT id, n, name FROM sealed WHERE id BETWEEN 990 AND 1010 ORDER BY id",
        "SELECT n, count(*) FROM sealed GROUP BY n ORDER BY n",
        "SELECT id FROM sealed WHERE name = 'name of 2499'",
        "SELECT count(*) FROM sealed WHERE n IS NULL",
        "SELECT id FROM sealed ORDER BY id DESC LIMIT 3",
        "SELECT count(*) FROM sealed a JOIN sealed b ON a.id = b.id + 1",
    ] {
        for message in client.simple_query(sql).await.with_context(|| sql.to_string())? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                all.extend((0..row.len()).map(|i| format!("{:?} ", row.get(i))));
                all.push('\n');
            }
        }
    }
    Ok(all)
}

#[tokio::test]
async fn small_inserts_become_segments_and_nobody_sees_it() -> Result<()> {
    let mut cluster = Cluster::builder().storage_flag("--seal-rows", "1000").storage_flag("--seal-age", "2s").start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE sealed (id int PRIMARY KEY, n int, name text)").await?;
    // not in the order of the key, so that sealing has something to sort
    for batch in 0..50 {
        let rows: Vec<String> = (0..50)
            .map(|i| (i * 50 + (batch * 37) % 50, i))
            .map(|(id, i)| {
                let n = if id % 10 == 3 { "NULL".to_string() } else { (i % 7).to_string() };
                format!("({id}, {n}, 'name of {id}')")
            })
            .collect();
        client.batch_execute(&format!("INSERT INTO sealed VALUES {}", rows.join(", "))).await?;
    }
    let before = answers(&cluster, 1).await?;
    ensure!(before.starts_with("Some(\"2500\") Some(\"3123750\") "), "{before}");
    let status = cluster.sealed().await?;
    ensure!(status.iter().all(|n| n.segments == status[0].segments), "{status:?}");
    for node in 0..2 {
        let after = answers(&cluster, node).await?;
        ensure!(before == after, "sealing changed an answer on node {node}:\n{before}\n{after}");
    }
    // keys are still keys
    let doubled = client.batch_execute("INSERT INTO sealed VALUES (1234, 0, '')").await.err().context("a key is there twice")?;
    ensure!(doubled.code().is_some_and(|c| c.code() == "23505"), "{doubled}");
    // a row that is alone is sealed for its age
    client.batch_execute("INSERT INTO sealed VALUES (5000, 0, 'late')").await?;
    cluster.sealed().await?;
    client.batch_execute("TRUNCATE sealed").await?;
    ensure!(number(&client, "SELECT count(*) FROM sealed").await? == 0);
    cluster.stop().await
}

#[tokio::test]
async fn sealed_rows_are_there_after_a_restart_of_everything() -> Result<()> {
    let mut cluster =
        Cluster::builder().storage_flag("--seal-rows", "100").storage_flag("--seal-age", "1s").allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE sealed (id int PRIMARY KEY, n int, name text)").await?;
    client.batch_execute("INSERT INTO sealed SELECT value, value % 7, 'name of ' || value FROM generate_series(0, 2499) g(value)").await?;
    let before = answers(&cluster, 0).await?;
    // killed wherever sealing happens to be
    cluster.kill9_all()?;
    cluster.restart_all().await?;
    ensure!(answers(&cluster, 1).await? == before);
    cluster.sealed().await?;
    cluster.kill9_all()?;
    for node in 0..2 {
        std::fs::remove_dir_all(cluster.cache_dir(node))?;
    }
    cluster.restart_all().await?;
    ensure!(answers(&cluster, 1).await? == before);
    cluster.stop().await
}

#[tokio::test]
async fn readers_never_see_a_part_of_a_load_while_it_is_sealed_and_loaded() -> Result<()> {
    let mut cluster = Cluster::builder().storage_flag("--seal-rows", "200").storage_flag("--seal-age", "1s").start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE pairs (batch int, side int, PRIMARY KEY (batch, side))").await?;
    let mut readers = tokio::task::JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for node in 0..2 {
        let reader = cluster.connect(node).await?;
        let stopped = stopped.clone();
        readers.spawn(async move {
            let mut reads = 0;
            while !*stopped.borrow() {
                let row = reader.query_one("SELECT count(*), sum(side)::bigint FROM pairs", &[]).await?;
                let (rows, sum) = (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1).unwrap_or(0));
                ensure!(sum == 0 && rows % 100 == 0, "{rows} rows, sum {sum}: a part of a transaction");
                reads += 1;
            }
            Ok(reads)
        });
    }
    for batch in 0..100 {
        let rows: Vec<String> = (1..=50).flat_map(|side| [format!("({batch}, {side})"), format!("({batch}, -{side})")]).collect();
        client.batch_execute("BEGIN").await?;
        for half in rows.chunks(30) {
            client.batch_execute(&format!("INSERT INTO pairs VALUES {}", half.join(", "))).await?;
        }
        client.batch_execute("COMMIT").await?;
    }
    stop.send(true)?;
    while let Some(reader) = readers.join_next().await {
        ensure!(reader?? > 10, "a reader hardly read");
    }
    cluster.sealed().await?;
    ensure!(number(&client, "SELECT count(*) FROM pairs").await? == 10_000);
    cluster.stop().await
}
