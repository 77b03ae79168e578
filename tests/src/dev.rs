//! `quire dev` as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::Process;
use crate::ports::{self, Ports};

/// One `quire dev` in a temporary directory.
pub struct Quire {
    process: Process,
    compute: Vec<String>,
    storage: Vec<String>,
    // Dropped last: the process has open files in one and open ports in the other.
    dir: TempDir,
    _ports: Ports,
}

/// How a `quire dev` is to be started. The defaults are small, for tests.
pub struct QuireBuilder {
    storage_nodes: u16,
    compute_nodes: u16,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    allowed: Vec<String>,
}

impl QuireBuilder {
    /// 1 or 3.
    pub fn storage_nodes(mut self, count: u16) -> Self {
        self.storage_nodes = count;
        self
    }

    /// Compute nodes, each on a port of its own.
    pub fn compute_nodes(mut self, count: u16) -> Self {
        self.compute_nodes = count;
        self
    }

    /// Time after which rows become a segment.
    pub fn seal_age(self, age: Duration) -> Self {
        self.flag("--seal-age", format!("{}ms", age.as_millis()))
    }

    /// Rows of a table after which they become a segment.
    pub fn seal_rows(self, rows: u64) -> Self {
        self.flag("--seal-rows", rows.to_string())
    }

    /// Any other flag.
    pub fn flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.extend([name.to_string(), value.into()]);
        self
    }

    /// A variable of the process's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_string(), value.to_string()));
        self
    }

    /// Log lines that contain this text are expected in this test.
    pub fn allow_log(mut self, text: &str) -> Self {
        self.allowed.push(text.to_string());
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Result<Quire> {
        let dir = temporary_dir()?;
        let mut ports = Ports::claim()?;
        let (listen, http, storage) = (ports.take(self.compute_nodes)?, ports.take(1)?, ports.take(self.storage_nodes)?);
        let data_dir = dir.path().join("data");
        let mut arguments: Vec<String> = vec!["dev".into(), "--data-dir".into(), data_dir.display().to_string()];
        let ours = [
            ("--listen", listen.to_string()),
            ("--http", http.to_string()),
            ("--storage-nodes", self.storage_nodes.to_string()),
            ("--compute-nodes", self.compute_nodes.to_string()),
            ("--storage-listen", storage.to_string()),
            ("--cache-memory", "256MiB".into()),
            ("--cache-disk", "1GiB".into()),
            ("--touch-memory", "0".into()),
            ("--memory-limit", "1GiB".into()),
        ];
        // A flag that the test gives replaces ours.
        for (name, value) in ours.into_iter().filter(|(n, _)| !self.flags.iter().any(|f| f == n)) {
            arguments.extend([name.to_string(), value]);
        }
        arguments.extend(self.flags);
        let arguments = arguments.into_iter().map(Into::into).collect();
        let mut process = Process::new("dev", arguments, &self.environment, http, dir.path());
        self.allowed.iter().for_each(|text| process.allow_log(text));
        process.restart().await?;
        let addresses = |first, count| (0..count).map(|i| ports::nth(first, i).to_string()).collect();
        let (compute, storage) = (addresses(listen, self.compute_nodes), addresses(storage, self.storage_nodes));
        Ok(Quire { process, compute, storage, dir, _ports: ports })
    }
}

impl Quire {
    /// One storage node, one compute node.
    pub async fn dev() -> Result<Quire> {
        Quire::builder().start().await
    }

    /// For anything else.
    pub fn builder() -> QuireBuilder {
        QuireBuilder { storage_nodes: 1, compute_nodes: 1, flags: vec![], environment: vec![], allowed: vec![] }
    }

    /// `host:port` of the first compute node.
    pub fn address(&self) -> &str {
        &self.compute[0]
    }

    /// Every compute node's `host:port`.
    pub fn addresses(&self) -> &[String] {
        &self.compute
    }

    /// Every storage node's `host:port`.
    pub fn storage_addresses(&self) -> &[String] {
        &self.storage
    }

    /// The HTTP port.
    pub fn http(&self) -> SocketAddr {
        self.process.http()
    }

    /// What `--data-dir` names.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A client of the first compute node.
    pub async fn connect(&self) -> Result<Client> {
        connect(self.address()).await
    }

    /// A client of another compute node, from 0.
    pub async fn connect_to(&self, node: usize) -> Result<Client> {
        connect(self.compute.get(node).context("there is no such compute node")?).await
    }

    /// The process, for its log and its metrics.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Log lines that contain this text are expected in this test.
    pub fn allow_log(&mut self, text: &str) {
        self.process.allow_log(text);
    }

    /// `kill -9`.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// SIGTERM; it must end with 0 and have nothing untoward in its log.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await?;
        self.process.check_log()
    }

    /// Starts again on the same directories and ports.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.restart().await
    }
}

impl Drop for Quire {
    fn drop(&mut self) {
        self.process.finish();
    }
}

/// A client of the superuser in the one database; its connection has a task of its own.
pub(crate) async fn connect(address: &str) -> Result<Client> {
    let (host, port) = address.rsplit_once(':').context("an address is host:port")?;
    let config = format!("host={host} port={port} user=quire dbname=quire");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.with_context(|| format!("cannot connect to {address}"))?;
    tokio::spawn(async move {
        // Tests that kill the server see it in their own calls.
        if let Err(error) = connection.await {
            eprintln!("a connection ended: {error}");
        }
    });
    Ok(client)
}

/// A `file://` URL of a directory.
pub(crate) fn file_url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

/// Where a test's processes keep everything. `QUIRE_TEST_KEEP=1` leaves it behind, logs included.
pub(crate) fn temporary_dir() -> Result<TempDir> {
    let keep = std::env::var_os("QUIRE_TEST_KEEP").is_some();
    let dir = tempfile::Builder::new().prefix("quire-test-").disable_cleanup(keep).tempdir()?;
    if keep {
        eprintln!("kept: {}", dir.path().display());
    }
    Ok(dir)
}
