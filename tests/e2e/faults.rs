//! Damage and scarcity: bits that flip, objects that vanish, disks that fill, nodes that are away, bytes that mean nothing. Each gets a
//! clear error, and everything else is unharmed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{SinkExt, pin_mut};
use quire_tests::{Cluster, Quire, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::Client;
use tokio_postgres::error::DbError;

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// A statement that cannot be served says so within this.
const ERROR_WITHIN: Duration = Duration::from_secs(30);
const WARN: &str = "\"level\":\"WARN\"";
/// More than the delta takes at once: a COPY of so many becomes a segment.
const MANY: i64 = 150_000;
/// What its rows add up to.
const SUM: i64 = MANY * (MANY + 1) / 2;

async fn in_time<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, what).await.context("it hangs")?
}

async fn number(client: &Client, sql: &str) -> Result<i64> {
    Ok(client.query_one(sql, &[]).await.with_context(|| sql.to_string())?.get(0))
}

/// The server's error for a statement that must fail.
async fn fails(client: &Client, sql: &str) -> Result<DbError> {
    let result = tokio::time::timeout(ERROR_WITHIN, client.simple_query(sql)).await.with_context(|| format!("{sql} hangs"))?;
    let error = result.err().with_context(|| format!("{sql} works"))?;
    error.as_db_error().cloned().with_context(|| format!("{sql}: not an error of the server: {error:?}"))
}

/// A table of [`MANY`] rows, in a segment of its own.
async fn fill(client: &Client, table: &str) -> Result<()> {
    client.batch_execute(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, name text)")).await?;
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN (FORMAT csv)")).await?;
    pin_mut!(sink);
    for thousand in 0..MANY / 1000 {
        let lines: String = (1..=1000).map(|i| thousand * 1000 + i).map(|id| format!("{id},name of {id}\n")).collect();
        sink.send(Bytes::from(lines)).await?;
    }
    ensure!(sink.finish().await? == MANY as u64);
    Ok(())
}

/// Reads every page of the table.
fn all_of(table: &str) -> String {
    format!("SELECT sum(id)::bigint, min(name), max(name) FROM {table}")
}

async fn whole(client: &Client, table: &str) -> Result<()> {
    let row = client.query_one(&all_of(table), &[]).await.with_context(|| table.to_string())?;
    ensure!(
        row.get::<_, i64>(0) == SUM && row.get::<_, &str>(1) == "name of 1" && row.get::<_, &str>(2) == "name of 99999",
        "{table}: {row:?}"
    );
    Ok(())
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// The segment objects of a table: the directory is named after its oid.
async fn segments(cluster: &Cluster, client: &Client, table: &str) -> Result<Vec<PathBuf>> {
    let oid = number(client, &format!("SELECT oid::bigint FROM pg_class WHERE relname = '{table}'")).await?;
    let found = files(&cluster.object_dir().join("segments").join(oid.to_string()))?;
    ensure!(!found.is_empty(), "{table} has no segment");
    Ok(found)
}

fn flip_bit(path: &Path, at: usize) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let length = bytes.len();
    *bytes.get_mut(at).with_context(|| format!("{} has {length} bytes", path.display()))? ^= 0x10;
    Ok(fs::write(path, bytes)?)
}

/// Only the log and the objects are left.
async fn forget_caches(cluster: &mut Cluster) -> Result<()> {
    cluster.stop().await?;
    for node in 0..cluster.storage_addresses().len() {
        fs::remove_dir_all(cluster.data_dir(node).join("pages"))?;
    }
    for node in 0..cluster.addresses().len() {
        fs::remove_dir_all(cluster.cache_dir(node))?;
    }
    Ok(())
}

// --- damage -------------------------------------------------------------------------------------

#[tokio::test]
async fn a_flipped_bit_in_a_segment_is_an_error_that_names_the_page() -> Result<()> {
    let mut cluster = Cluster::builder().compute_nodes(1).allow_log("corrupt").allow_log("checksum").start().await?;
    let client = cluster.connect(0).await?;
    fill(&client, "damaged").await?;
    fill(&client, "unharmed").await?;
    let segment = segments(&cluster, &client, "damaged").await?.remove(0);
    forget_caches(&mut cluster).await?;
    // in the first page: right behind the magic number
    flip_bit(&segment, 40)?;
    cluster.restart_all().await?;

    let client = cluster.connect(0).await?;
    let error = fails(&client, &all_of("damaged")).await?;
    ensure!(error.code().code() == "XX001", "{error:?}");
    let id = segment.file_stem().and_then(|s| s.to_str()).and_then(|s| s.split('-').next()).context("a segment has a name")?.to_string();
    ensure!(error.message().contains(&id) && error.message().contains("corrupt"), "the page is not named: {error:?}");
    // again: damage is not cached as if it were a page
    ensure!(fails(&client, &all_of("damaged")).await?.code().code() == "XX001");
    whole(&client, "unharmed").await?;
    // other pages of the same segment
    let columns =
        [number(&client, "SELECT sum(id)::bigint FROM damaged").await, number(&client, "SELECT count(DISTINCT name) FROM damaged").await];
    ensure!(columns.iter().filter(|c| c.is_ok()).count() == 1, "one column is damaged: {columns:?}");
    client.batch_execute("CREATE TABLE after (a int); INSERT INTO after VALUES (1); DROP TABLE damaged").await?;
    cluster.stop().await
}

#[tokio::test]
async fn a_segment_cut_short_is_an_error_too() -> Result<()> {
    let mut cluster = Cluster::builder().storage_nodes(1).compute_nodes(1).allow_log("corrupt").allow_log("checksum").start().await?;
    let client = cluster.connect(0).await?;
    fill(&client, "damaged").await?;
    fill(&client, "unharmed").await?;
    let segment = segments(&cluster, &client, "damaged").await?.remove(0);
    forget_caches(&mut cluster).await?;
    fs::OpenOptions::new().write(true).open(&segment)?.set_len(1000)?;
    cluster.restart_all().await?;
    let client = cluster.connect(0).await?;
    let error = fails(&client, &all_of("damaged")).await?;
    ensure!(error.code().code() == "XX001", "{error:?}");
    whole(&client, "unharmed").await?;
    cluster.stop().await
}

#[tokio::test]
async fn a_segment_that_is_gone_is_an_error_that_names_it() -> Result<()> {
    let mut cluster = Cluster::builder().compute_nodes(1).allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    fill(&client, "lost").await?;
    fill(&client, "unharmed").await?;
    let segment = segments(&cluster, &client, "lost").await?.remove(0);
    forget_caches(&mut cluster).await?;
    fs::remove_file(&segment)?;
    cluster.restart_all().await?;
    let client = cluster.connect(0).await?;
    let error = fails(&client, &all_of("lost")).await?;
    ensure!(error.code().code() == "58P01", "{error:?}");
    let name = segment.file_name().and_then(|n| n.to_str()).context("a segment has a name")?;
    ensure!(error.message().contains(name), "the object is not named: {error:?}");
    whole(&client, "unharmed").await?;
    client.batch_execute("DROP TABLE lost").await?;
    cluster.stop().await
}

/// Flips a bit in every 512 bytes of every file.
fn ruin(directory: &Path) -> Result<()> {
    let mut ruined = 0;
    for path in files(directory)? {
        let mut bytes = fs::read(&path)?;
        for at in (0..bytes.len()).step_by(512).map(|at| at + 300) {
            if bytes.get(at).is_some_and(|b| *b != 0) {
                bytes[at] ^= 0x01;
                ruined += 1;
            }
        }
        fs::write(&path, bytes)?;
    }
    ensure!(ruined > 100, "there was nothing to ruin in {}", directory.display());
    Ok(())
}

#[tokio::test]
async fn flipped_bits_in_the_disk_cache_of_compute_change_no_answer() -> Result<()> {
    let mut cluster = Cluster::builder().compute_nodes(1).allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    fill(&client, "cached").await?;
    whole(&client, "cached").await?;
    cluster.compute(0).stop().await?;
    ruin(&cluster.cache_dir(0))?;
    cluster.compute(0).restart().await?;
    let client = cluster.connect(0).await?;
    whole(&client, "cached").await?;
    whole(&client, "cached").await?;
    cluster.stop().await
}

#[tokio::test]
async fn flipped_bits_in_the_disk_cache_of_storage_change_no_answer() -> Result<()> {
    let mut cluster = Cluster::builder().storage_nodes(1).compute_nodes(1).allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    fill(&client, "cached").await?;
    whole(&client, "cached").await?;
    cluster.stop().await?;
    ruin(&cluster.data_dir(0).join("pages"))?;
    fs::remove_dir_all(cluster.cache_dir(0))?;
    cluster.restart_all().await?;
    let client = cluster.connect(0).await?;
    whole(&client, "cached").await?;
    cluster.stop().await
}

// --- absence ------------------------------------------------------------------------------------

#[tokio::test]
async fn without_storage_a_statement_fails_in_time_and_works_once_it_is_back() -> Result<()> {
    let mut cluster = Cluster::builder().compute_nodes(1).allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1)").await?;
    for node in 0..3 {
        cluster.storage(node).kill9()?;
    }
    let read = fails(&client, "SELECT * FROM kept").await?;
    ensure!(read.code().code() == "58030" && read.hint().is_some(), "{read:?}");
    let write = fails(&client, "INSERT INTO kept VALUES (2)").await?;
    // in doubt or not at all
    ensure!(["58030", "08007"].contains(&write.code().code()), "{write:?}");
    // a new client is let in, and told the same
    let other = in_time(cluster.connect(0)).await?;
    ensure!(fails(&other, "SELECT * FROM kept").await?.code().code() == "58030");

    for node in 0..3 {
        cluster.storage(node).start()?;
    }
    let back = async {
        while client.simple_query("SELECT * FROM kept").await.is_err() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.context("storage is back, the statement still fails")?;
    client.batch_execute("INSERT INTO kept VALUES (3)").await?;
    let rows = number(&client, "SELECT count(*) FROM kept").await?;
    ensure!(rows == 2 || (rows == 3 && write.code().code() == "08007"), "{rows} rows after {write:?}");
    cluster.stop().await
}

#[tokio::test]
async fn a_minority_of_storage_nodes_acknowledges_nothing() -> Result<()> {
    let mut cluster = Cluster::builder().compute_nodes(1).allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1)").await?;
    let (leader, _) = cluster.leader_and_follower().await?;
    for node in (0..3).filter(|n| *n != leader) {
        cluster.storage(node).kill9()?;
    }
    let write = tokio::time::timeout(PATIENCE, client.simple_query("INSERT INTO kept VALUES (2)")).await.context("it hangs")?;
    let write = write.err().context("one of three nodes acknowledged a commit")?;
    ensure!(write.code().is_some_and(|c| ["58030", "08007"].contains(&c.code())), "{write:?}");
    // a leader that has lost its majority must not answer from what it knows
    let read = fails(&client, "SELECT count(*) FROM kept").await?;
    ensure!(read.code().code() == "58030", "{read:?}");
    cluster.restart_all().await?;
    cluster.healed().await?;
    ensure!((1..=2).contains(&number(&client, "SELECT count(*) FROM kept").await?));
    cluster.stop().await
}

#[tokio::test]
async fn compute_that_is_started_before_storage_waits_for_it() -> Result<()> {
    let mut cluster = Cluster::builder().compute_nodes(1).allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1)").await?;
    cluster.stop().await?;
    cluster.compute(0).start()?;
    // it listens, and says that it is not ready
    let http = cluster.compute(0).http();
    let not_ready = async {
        while !matches!(get(http, "/healthz").await, Ok((200, _))) {
            tokio::time::sleep(POLL).await;
        }
        get(http, "/readyz").await
    };
    let (status, reason) = tokio::time::timeout(PATIENCE, not_ready).await.context("compute does not start without storage")??;
    ensure!(status == 503 && !reason.trim().is_empty(), "{status} {reason}");
    cluster.restart_all().await?;
    let client = cluster.connect(0).await?;
    ensure!(number(&client, "SELECT count(*) FROM kept").await? == 1);
    cluster.stop().await
}

async fn get(address: std::net::SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: quire\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok((head.split(' ').nth(1).context("no status")?.parse()?, body.to_string()))
}

// --- scarcity -----------------------------------------------------------------------------------

/// A file system of a few megabytes, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` when this user may not mount.
    fn mount(megabytes: u32) -> Result<Option<SmallDisk>> {
        let directory = tempfile::tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(directory.path());
        let mounted = mount.output().is_ok_and(|o| o.status.success());
        Ok(mounted.then(|| SmallDisk(directory)))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // lazily: a process that is just being killed may have a file open
        if !Command::new("umount").arg("-l").arg(self.0.path()).status().is_ok_and(|s| s.success()) {
            eprintln!("cannot unmount {}", self.0.path().display());
        }
    }
}

/// Takes nearly all the space that is left on the disk of this file.
fn take_space(ballast: &Path, leave_bytes: u64) -> Result<()> {
    let directory = ballast.parent().context("a file is in a directory")?;
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(directory).output()?;
    let free: u64 = String::from_utf8(output.stdout)?.lines().nth(1).context("df")?.trim().parse()?;
    Ok(fs::write(ballast, vec![1u8; free.saturating_sub(leave_bytes) as usize])?)
}

#[tokio::test]
async fn a_full_disk_of_the_log_loses_nothing_that_was_acknowledged() -> Result<()> {
    let Some(disk) = SmallDisk::mount(512)? else {
        println!("skipped: mounting a small file system needs root");
        return Ok(());
    };
    let data_dir = disk.path().join("storage");
    let cluster = Cluster::builder().storage_nodes(1).compute_nodes(1).storage_flag("--data-dir", &data_dir.display().to_string());
    let mut cluster = cluster.allow_log("\"level\":\"").start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE filling (id bigint PRIMARY KEY, filler text)").await?;
    client.batch_execute("INSERT INTO filling VALUES (-1, '')").await?;
    let ballast = disk.path().join("ballast");
    take_space(&ballast, 8 << 20)?;

    // 100 kB a row: the log has room for less than a hundred
    let filler = "x".repeat(100_000);
    let mut acknowledged = vec![-1i64];
    let mut doubtful = None;
    for id in 0..2_000i64 {
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&id, &filler];
        let insert = client.execute("INSERT INTO filling VALUES ($1, $2)", &row);
        match tokio::time::timeout(PATIENCE, insert).await.context("a full disk: a hang")? {
            Ok(_) => acknowledged.push(id),
            Err(error) => {
                let said = error.as_db_error().with_context(|| format!("not an error of the server: {error:?}"))?;
                ensure!(["53100", "58030", "08007"].contains(&said.code().code()), "{said:?}");
                doubtful = Some(id);
                break;
            }
        }
    }
    let doubtful = doubtful.context("200 MB went into 8 MB")?;
    ensure!(acknowledged.len() < 1_000, "{} rows of 100 kB went into 8 MB", acknowledged.len());

    // space is made, the node started again
    fs::remove_file(&ballast)?;
    cluster.kill9_all()?;
    cluster.restart_all().await?;
    let client = cluster.connect(0).await?;
    let rows = in_time(async { Ok(client.query("SELECT id FROM filling ORDER BY id", &[]).await?) }).await?;
    let there: Vec<i64> = rows.iter().map(|r| r.get(0)).filter(|id| *id != doubtful).collect();
    ensure!(there == acknowledged, "acknowledged {acknowledged:?}, there {there:?}");
    client.batch_execute("INSERT INTO filling VALUES (1000000, 'room again')").await?;
    cluster.stop().await
}

#[tokio::test]
async fn a_full_object_store_refuses_a_load_and_nothing_of_it_stays() -> Result<()> {
    let Some(disk) = SmallDisk::mount(64)? else {
        println!("skipped: mounting a small file system needs root");
        return Ok(());
    };
    let url = format!("file://{}", disk.path().join("objects").display());
    let cluster = Cluster::builder().storage_nodes(1).compute_nodes(1).object_store(&url);
    let mut cluster = cluster.allow_log("\"level\":\"").start().await?;
    let client = cluster.connect(0).await?;
    fill(&client, "before").await?;
    let ballast = disk.path().join("ballast");
    take_space(&ballast, 100 << 10)?;
    let refused = in_time(async { Ok(fill(&client, "refused").await.err()) }).await?.context("a segment went into a full disk")?;
    let said = refused.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error()).with_context(|| format!("{refused:?}"))?;
    ensure!(["53100", "58030"].contains(&said.code().code()), "{said:?}");
    ensure!(said.message().to_lowercase().contains("full") || said.message().to_lowercase().contains("space"), "{said:?}");
    ensure!(number(&client, "SELECT count(*) FROM refused").await? == 0);
    whole(&client, "before").await?;
    // small commits need no object
    client.batch_execute("INSERT INTO refused VALUES (-1, 'small')").await?;
    fs::remove_file(&ballast)?;
    client.batch_execute("DROP TABLE refused").await?;
    in_time(fill(&client, "refused")).await?;
    whole(&client, "refused").await?;
    cluster.stop().await
}

// --- nonsense -----------------------------------------------------------------------------------

/// Sends bytes and reads what comes until the other side closes, but does not wait for long.
async fn say(address: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // the other side may close before it has all of it
    let sent = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match tokio::time::timeout(PATIENCE, sent).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Ok(vec![]),
        Err(_) => bail!("{address} keeps a connection that has said nothing of sense"),
    }
}

/// Bytes without meaning, the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn garbage_on_every_port_disturbs_nobody() -> Result<()> {
    let mut cluster = Cluster::builder().allow_log(WARN).start().await?;
    let client = cluster.connect(0).await?;
    client.batch_execute("CREATE TABLE calm (id int PRIMARY KEY)").await?;
    let mut ports = cluster.storage_addresses();
    ports.extend(cluster.addresses());
    for node in 0..3 {
        ports.push(cluster.storage(node).http().to_string());
    }
    for node in 0..2 {
        ports.push(cluster.compute(node).http().to_string());
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // a gRPC call with a body that is no protobuf, to begin with: SETTINGS, then noise as frames
    let frames = [&preface[..], b"\0\0\0\x04\0\0\0\0\0", &noise(9, 4000)].concat();
    let huge_header = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    let huge_frame = [&preface[..], b"\xff\xff\xff\0\0\0\0\0\x01"].concat();
    let mut said: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0; 4096],
        vec![0xff; 4096],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"POST /quire.v1.Storage/Commit HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n{}".to_vec(),
        preface.to_vec(),
        frames,
        huge_header,
        huge_frame,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
        b"\x7f\xff\xff\xff\0\x03\0\0user\0quire\0".to_vec(),
    ];
    said.extend((0..20).map(|seed| noise(seed, 1 << (seed % 14))));
    for (id, bytes) in said.iter().enumerate() {
        let mut tasks = tokio::task::JoinSet::new();
        for port in ports.clone() {
            let bytes = bytes.clone();
            tasks.spawn(async move {
                say(&port, &bytes).await.with_context(|| format!("port {port}, bytes {:?}", &bytes[..bytes.len().min(30)]))
            });
        }
        client.execute("INSERT INTO calm VALUES ($1)", &[&(id as i32)]).await?;
        while let Some(task) = tasks.join_next().await {
            task??;
        }
    }
    for node in 0..2 {
        let other = cluster.connect(node).await?;
        ensure!(number(&other, "SELECT count(*) FROM calm").await? == said.len() as i64);
    }
    for node in 0..3 {
        ensure!(cluster.storage(node).is_running(), "garbage ended storage node {node}");
    }
    for path in ["/", "/nothing", "/metrics/x", "/../etc/passwd", "/%00"] {
        let (status, _) = get(cluster.compute(0).http(), path).await?;
        ensure!((400..500).contains(&status), "{path}: {status}");
    }
    cluster.stop().await
}

#[tokio::test]
async fn a_second_process_on_a_data_directory_is_refused() -> Result<()> {
    let mut quire = Quire::dev().await?;
    let data_dir = quire.data_dir().display().to_string();
    let client = quire.connect().await?;
    let other = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--storage-nodes", "1", "--storage-listen", "127.0.0.1:0"];
    let second = program::run(&[&["dev", "--data-dir", &data_dir][..], &other].concat()).await?;
    ensure!(second.code == Some(1), "{second:?}");
    let line = one_line(&second)?;
    ensure!(line.contains(&data_dir) && (line.contains("in use") || line.contains("lock")), "{line}");
    client.batch_execute("CREATE TABLE unharmed (a int); INSERT INTO unharmed VALUES (1)").await?;
    quire.stop().await
}

#[tokio::test]
async fn a_second_compute_node_on_a_cache_directory_is_refused_or_harmless() -> Result<()> {
    let mut cluster = Cluster::builder().storage_nodes(1).compute_nodes(1).start().await?;
    let client = cluster.connect(0).await?;
    fill(&client, "cached").await?;
    whole(&client, "cached").await?;
    let (storage, cache) = (cluster.storage_addresses().join(","), cluster.cache_dir(0).display().to_string());
    let second = ["compute", "--storage", &storage, "--cache-dir", &cache, "--listen", "127.0.0.1:0"];
    let second = tokio::time::timeout(ERROR_WITHIN, program::run(&second)).await.context("two compute nodes share a cache directory")??;
    ensure!(second.code == Some(1), "{second:?}");
    ensure!(one_line(&second)?.contains(&cache), "{second:?}");
    whole(&client, "cached").await?;
    cluster.stop().await
}

/// The one line in which a command says why it does not start; the log does not count.
fn one_line(ran: &program::Ran) -> Result<&str> {
    let lines: Vec<&str> = ran.err.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('{')).collect();
    ensure!(lines.len() == 1, "not one clear line: {ran:?}");
    ensure!(lines[0].starts_with("quire: ") || lines[0].starts_with("error: "), "{ran:?}");
    ensure!(!lines[0].contains("panicked") && !lines[0].contains("Error {"), "{ran:?}");
    Ok(lines[0])
}

#[tokio::test]
async fn a_program_that_cannot_start_says_why_in_one_line() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let config = |name: &str, text: &str| {
        fs::write(directory.path().join(name), text)?;
        anyhow::Ok(path(name))
    };
    let unknown = config("unknown.toml", "cache-memroy = \"1GiB\"\n")?;
    let broken = config("broken.toml", "cache-memory = [\n")?;
    let wrong = config("wrong.toml", "max-connections = \"many\"\n")?;
    let file = config("file", "not a directory")?;
    let busy = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let busy = busy.local_addr()?.to_string();
    let (data, under_file) = (path("data"), format!("{file}/data"));
    let storage = |store: &str, data: &str, listen: &str| -> Vec<String> {
        let peers = format!("1={}", if listen == "127.0.0.1:0" { "127.0.0.1:7101" } else { listen });
        let args = ["storage", "--node-id", "1", "--peers", &peers, "--listen", listen, "--data-dir", data, "--object-store", store];
        args.map(str::to_string).to_vec()
    };
    let free = "127.0.0.1:0";
    let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
    let objects = format!("file://{}", path("objects"));
    let mut cases: Vec<(Vec<String>, &str)> = vec![
        (words(&format!("compute --storage 127.0.0.1:1 --config {unknown}")), "cache-memroy"),
        (words("compute --storage 127.0.0.1:1 --config /nowhere/quire.toml"), "/nowhere/quire.toml"),
        (words(&format!("compute --storage 127.0.0.1:1 --listen {busy}")), &busy),
        (words(&format!("compute --storage 127.0.0.1:1 --listen 127.0.0.1:0 --http {busy}")), &busy),
        (words(&format!("compute --storage 127.0.0.1:1 --listen 127.0.0.1:0 --cache-dir {under_file}")), &under_file),
        (storage("ftp://somewhere", &data, free), "ftp://somewhere"),
        (storage("nonsense", &data, free), "nonsense"),
        (storage("file://relative/path", &data, free), "relative/path"),
        (storage("s3://", &data, free), "bucket"),
        (storage(&format!("file://{under_file}"), &data, free), &under_file),
        (storage(&objects, &under_file, free), &under_file),
        (storage(&objects, &data, &busy), &busy),
        (words("tpch run --url postgres://quire@127.0.0.1:1/quire"), "127.0.0.1"),
        (words("tpch run --url mysql://quire@127.0.0.1/quire"), "--url"),
    ];
    let mut unlisted = storage(&objects, &data, free);
    unlisted[2] = "9".into();
    cases.push((unlisted, "9"));
    for (arguments, names) in &cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran =
            tokio::time::timeout(ERROR_WITHIN, program::run(&arguments)).await.with_context(|| format!("{arguments:?} goes on"))??;
        ensure!(ran.code.is_some_and(|c| c == 1 || c == 2), "{arguments:?}: {ran:?}");
        let line = one_line(&ran).with_context(|| format!("{arguments:?}"))?;
        ensure!(line.contains(names), "{arguments:?} does not name {names}: {line}");
    }
    // flags: clap says what is wrong, and how to find out more
    for arguments in [
        "dev --no-such-flag",
        "dev --storage-nodes 2",
        "dev --listen nowhere",
        "compute",
        "compute --storage 127.0.0.1:1 --cache-memory lots",
        "storage --node-id 0",
        "storage --node-id 1 --peers nonsense",
        "nonsense",
        "",
    ] {
        let words: Vec<&str> = arguments.split(' ').filter(|w| !w.is_empty()).collect();
        let ran = tokio::time::timeout(ERROR_WITHIN, program::run(&words)).await.with_context(|| format!("{arguments:?} goes on"))??;
        ensure!(ran.code == Some(2), "{arguments:?}: {ran:?}");
        ensure!(ran.out.is_empty() && !ran.err.contains("panicked"), "{ran:?}");
        let begins = if arguments.is_empty() { "A SQL database" } else { "error: " };
        ensure!(ran.err.starts_with(begins) && ran.err.contains("--help"), "{arguments:?}: {ran:?}");
    }
    // a file that is no TOML: the parser shows the place on more lines
    let ran = program::run(&["compute", "--storage", "127.0.0.1:1", "--config", &broken]).await?;
    ensure!(ran.code == Some(1) && ran.err.starts_with("quire: ") && ran.err.contains(&broken) && ran.err.contains("line 1"), "{ran:?}");
    let ran = program::run(&["compute", "--storage", "127.0.0.1:1", "--config", &wrong]).await?;
    ensure!(ran.code == Some(2) && ran.err.contains("max-connections") && ran.err.contains("many"), "{ran:?}");
    for arguments in [&["--version"][..], &["--help"], &["storage", "--help"], &["tpch", "load", "--help"]] {
        let ran = program::run(arguments).await?.ok()?;
        ensure!(ran.err.is_empty() && !ran.out.is_empty(), "{arguments:?}");
    }
    Ok(())
}
