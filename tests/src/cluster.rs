//! Storage and compute as processes of their own, over one object store.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::Process;
use crate::dev::{connect, file_url, temporary_dir};
use crate::ports::{self, Ports};

/// A storage service and its compute nodes.
pub struct Cluster {
    storage: Vec<Process>,
    compute: Vec<Process>,
    storage_listen: SocketAddr,
    compute_listen: SocketAddr,
    // Dropped last: the processes have open files in one and open ports in the other.
    dir: TempDir,
    _ports: Ports,
}

/// How a cluster is to be started. The defaults are small, for tests.
pub struct ClusterBuilder {
    storage_nodes: u16,
    compute_nodes: u16,
    object_store: Option<String>,
    storage_flags: Vec<String>,
    compute_flags: Vec<String>,
    environment: Vec<(String, String)>,
    allowed: Vec<String>,
}

impl ClusterBuilder {
    /// 1 or 3.
    pub fn storage_nodes(mut self, count: u16) -> Self {
        self.storage_nodes = count;
        self
    }

    /// Compute nodes.
    pub fn compute_nodes(mut self, count: u16) -> Self {
        self.compute_nodes = count;
        self
    }

    /// The object store's URL; a directory beside the others when not given.
    pub fn object_store(mut self, url: &str) -> Self {
        self.object_store = Some(url.to_string());
        self
    }

    /// A flag of every storage node.
    pub fn storage_flag(mut self, name: &str, value: &str) -> Self {
        self.storage_flags.extend([name.to_string(), value.to_string()]);
        self
    }

    /// A flag of every compute node.
    pub fn compute_flag(mut self, name: &str, value: &str) -> Self {
        self.compute_flags.extend([name.to_string(), value.to_string()]);
        self
    }

    /// A variable of every process's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_string(), value.to_string()));
        self
    }

    /// Log lines that contain this text are expected in this test.
    pub fn allow_log(mut self, text: &str) -> Self {
        self.allowed.push(text.to_string());
        self
    }

    /// Starts every process and waits until all are ready.
    pub async fn start(self) -> Result<Cluster> {
        let dir = temporary_dir()?;
        let mut ports = Ports::claim()?;
        let (storage_listen, storage_http) = (ports.take(self.storage_nodes)?, ports.take(self.storage_nodes)?);
        let (compute_listen, compute_http) = (ports.take(self.compute_nodes)?, ports.take(self.compute_nodes)?);
        let object_store = self.object_store.clone().unwrap_or_else(|| file_url(&dir.path().join("objects")));
        let addresses: Vec<String> = (0..self.storage_nodes).map(|i| ports::nth(storage_listen, i).to_string()).collect();
        let peers: Vec<String> = addresses.iter().enumerate().map(|(i, a)| format!("{}={a}", i + 1)).collect();

        let storage = (0..self.storage_nodes).map(|i| {
            let name = format!("storage-{}", i + 1);
            let http = ports::nth(storage_http, i);
            let ours = [
                ("--node-id", (i + 1).to_string()),
                ("--listen", addresses[usize::from(i)].clone()),
                ("--peers", peers.join(",")),
                ("--data-dir", dir.path().join(&name).display().to_string()),
                ("--object-store", object_store.clone()),
                ("--http", http.to_string()),
                ("--cache-disk", "1GiB".into()),
                ("--touch-memory", "0".into()),
            ];
            Process::new(&name, arguments("storage", ours, &self.storage_flags), &self.environment, http, dir.path())
        });
        let storage: Vec<Process> = storage.collect();
        let compute = (0..self.compute_nodes).map(|i| {
            let name = format!("compute-{}", i + 1);
            let http = ports::nth(compute_http, i);
            let ours = [
                ("--storage", addresses.join(",")),
                ("--listen", ports::nth(compute_listen, i).to_string()),
                ("--http", http.to_string()),
                ("--cache-dir", dir.path().join(&name).display().to_string()),
                ("--cache-memory", "256MiB".into()),
                ("--cache-disk", "1GiB".into()),
                ("--touch-memory", "0".into()),
                ("--memory-limit", "1GiB".into()),
            ];
            Process::new(&name, arguments("compute", ours, &self.compute_flags), &self.environment, http, dir.path())
        });
        let compute: Vec<Process> = compute.collect();

        let mut cluster = Cluster { storage, compute, storage_listen, compute_listen, dir, _ports: ports };
        self.allowed.iter().for_each(|text| cluster.allow_log(text));
        cluster.restart_all().await?;
        Ok(cluster)
    }
}

fn arguments<const N: usize>(command: &str, ours: [(&str, String); N], given: &[String]) -> Vec<std::ffi::OsString> {
    let mut arguments = vec![command.to_string()];
    // A flag that the test gives replaces ours.
    for (name, value) in ours.into_iter().filter(|(n, _)| !given.iter().any(|f| f == n)) {
        arguments.extend([name.to_string(), value]);
    }
    arguments.extend(given.iter().cloned());
    arguments.into_iter().map(Into::into).collect()
}

impl Cluster {
    /// Three storage nodes and two compute nodes, unless told otherwise.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            storage_nodes: 3,
            compute_nodes: 2,
            object_store: None,
            storage_flags: vec![],
            compute_flags: vec![],
            environment: vec![],
            allowed: vec![],
        }
    }

    /// A storage node, from 0.
    pub fn storage(&mut self, node: usize) -> &mut Process {
        &mut self.storage[node]
    }

    /// A compute node, from 0.
    pub fn compute(&mut self, node: usize) -> &mut Process {
        &mut self.compute[node]
    }

    /// Every compute node's `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        (0..self.compute.len() as u16).map(|i| ports::nth(self.compute_listen, i).to_string()).collect()
    }

    /// Every storage node's `host:port`.
    pub fn storage_addresses(&self) -> Vec<String> {
        (0..self.storage.len() as u16).map(|i| ports::nth(self.storage_listen, i).to_string()).collect()
    }

    /// A client of a compute node, from 0.
    pub async fn connect(&self, node: usize) -> Result<Client> {
        connect(self.addresses().get(node).context("there is no such compute node")?).await
    }

    /// A compute node's cache directory, from 0.
    pub fn cache_dir(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("compute-{}", node + 1))
    }

    /// A storage node's data directory, from 0.
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("storage-{}", node + 1))
    }

    /// The directory that is the object store, unless the test named another.
    pub fn object_dir(&self) -> PathBuf {
        self.dir.path().join("objects")
    }

    /// Log lines of any process that contain this text are expected in this test.
    pub fn allow_log(&mut self, text: &str) {
        self.processes().for_each(|p| p.allow_log(text));
    }

    /// `kill -9` of every process that runs.
    pub fn kill9_all(&mut self) -> Result<()> {
        self.processes().filter_map(|p| p.is_running().then(|| p.kill9())).collect()
    }

    /// Starts every process that does not run, on the same directories, and waits until all are ready.
    pub async fn restart_all(&mut self) -> Result<()> {
        for process in self.processes() {
            if !process.is_running() {
                process.start()?;
            }
        }
        for process in self.processes() {
            process.ready().await?;
        }
        Ok(())
    }

    /// SIGTERM to every process that runs, compute first; each must end with 0 and have nothing untoward in its log.
    pub async fn stop(&mut self) -> Result<()> {
        for process in self.compute.iter_mut().chain(&mut self.storage) {
            if process.is_running() {
                process.stop().await?;
            }
        }
        self.processes().try_for_each(|p| p.check_log())
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.storage.iter_mut().chain(&mut self.compute)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.processes().for_each(Process::finish);
    }
}
