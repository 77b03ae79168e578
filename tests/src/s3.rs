//! An S3 server: another people's, as a process of its own (see tests/s3/server.py).

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::ClusterBuilder;
use crate::dev::temporary_dir;
use crate::ports::Ports;

/// The first start may install it.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);
/// What it prints once its bucket is there.
const READY: &str = "running and ready to use";

const BUCKET: &str = "quire";
const KEY: &str = "quire";
const SECRET: &str = "quirequire";

/// A running S3 server with one bucket. Killed when dropped.
pub struct S3 {
    port: u16,
    child: Option<Child>,
    starts: usize,
    dir: TempDir,
    _ports: Ports,
}

impl S3 {
    /// Starts it and waits until the bucket is there.
    pub async fn start() -> Result<S3> {
        let mut ports = Ports::claim()?;
        let port = ports.take(1)?.port();
        let mut server = S3 { port, child: None, starts: 0, dir: temporary_dir()?, _ports: ports };
        server.restart().await?;
        Ok(server)
    }

    /// Starts it again with the objects that it has.
    pub async fn restart(&mut self) -> Result<()> {
        self.starts += 1;
        let log = self.log();
        let file = OpenOptions::new().create(true).append(true).open(&log)?;
        let script = crate::paths::package().join("s3").join("server.py");
        let mut command = Command::new("python3");
        command.arg(script).args(["--port", &self.port.to_string(), "--bucket", BUCKET]).arg("--dir").arg(self.dir.path().join("objects"));
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn().context("cannot start python3")?;
        self.child = Some(child);
        let ready = async {
            loop {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                if said.contains(READY) {
                    return Ok(());
                }
                if let Some(status) = self.child.as_mut().context("just started")?.try_wait()? {
                    bail!("the S3 server ended: {status}\n{said}");
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(READY_TIMEOUT, ready).await.context("the S3 server is not ready")?
    }

    /// Ends it at once.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// A cluster that keeps its segments here, under a prefix of its own.
    pub fn holds(&self, cluster: ClusterBuilder) -> ClusterBuilder {
        cluster
            .object_store(&format!("s3://{BUCKET}/tests/prefix"))
            .env("AWS_ENDPOINT", &format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ALLOW_HTTP", "true")
    }

    /// One log a start, so that what one said is not taken for another's.
    fn log(&self) -> PathBuf {
        self.dir.path().join(format!("s3-{}.log", self.starts))
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("cannot kill the S3 server: {error:#}");
        }
    }
}
