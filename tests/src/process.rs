//! One process of the product: started, asked whether it is ready, killed, stopped, started again on the same directories.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{binary, http, logs};

/// A cold start on a busy machine, elections included.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// A clean stop: what is under way is finished, not begun.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A process of the product. Killed when dropped; its log goes to a file.
pub struct Process {
    name: String,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    http: SocketAddr,
    log: PathBuf,
    allowed: Vec<String>,
    child: Option<Child>,
}

impl Process {
    pub(crate) fn new(name: &str, arguments: Vec<OsString>, environment: &[(String, String)], http: SocketAddr, dir: &Path) -> Process {
        Process {
            name: name.to_string(),
            arguments,
            environment: environment.to_vec(),
            http,
            log: dir.join(format!("{name}.log")),
            allowed: vec![],
            child: None,
        }
    }

    /// Starts it; [`Process::ready`] waits for it. The arguments are the same each time.
    pub fn start(&mut self) -> Result<()> {
        ensure!(!self.is_running(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(binary::quire()?);
        // The caller's own settings do not leak into a test.
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("QUIRE_")) {
            command.env_remove(name);
        }
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// Returns once `/readyz` says 200.
    pub async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let answer = http::get(self.http, "/readyz").await;
            if matches!(answer, Ok((200, _))) {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().context("it was not started")?.try_wait()? {
                self.child = None;
                bail!("{} ended while starting: {status}\n{}", self.name, logs::tail(&self.log));
            }
            if Instant::now() > deadline {
                let answer = answer.map_or_else(|e| e.to_string(), |(status, body)| format!("{status} {}", body.trim()));
                bail!("{} was not ready in {READY_TIMEOUT:?}: {answer}\n{}", self.name, logs::tail(&self.log));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What `/readyz` answers now, once it does.
    pub async fn readiness(&self) -> Result<(u16, String)> {
        http::get(self.http, "/readyz").await
    }

    /// Starts it and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.start()?;
        self.ready().await
    }

    /// `kill -9`: no goodbye. Returns when it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().with_context(|| format!("{} does not run", self.name))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM. Fails when it does not end in time, or not with 0.
    pub async fn stop(&mut self) -> Result<()> {
        let status = self.terminate().await?;
        ensure!(status.success(), "{} ended with {status}\n{}", self.name, logs::tail(&self.log));
        Ok(())
    }

    async fn terminate(&mut self) -> Result<ExitStatus> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        // The shell's kill is everywhere, and a signal needs unsafe code or a crate otherwise.
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status()?;
        ensure!(sent.success(), "cannot send SIGTERM to {}", self.name);
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not stop in {STOP_TIMEOUT:?} after SIGTERM\n{}", self.name, logs::tail(&self.log));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// True while it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// Its HTTP port.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Everything that it has logged.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> Result<String> {
        let (status, body) = http::get(self.http, "/metrics").await?;
        ensure!(status == 200, "/metrics: {status}");
        Ok(body)
    }

    /// Log lines that contain this text are expected in this test.
    pub fn allow_log(&mut self, text: &str) {
        self.allowed.push(text.to_string());
    }

    /// Fails when there is an unexpected line in the log.
    pub fn check_log(&self) -> Result<()> {
        logs::check(&self.log, &self.allowed)
    }

    /// At the end of a test that did not stop it: kills it, and fails the test when the log says so.
    pub(crate) fn finish(&mut self) {
        if self.child.is_some() {
            self.kill9().unwrap_or_else(|e| eprintln!("{}: {e:#}", self.name));
        }
        if let Err(error) = self.check_log() {
            if std::thread::panicking() {
                eprintln!("{error:#}");
            } else {
                panic!("{error:#}");
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut()
            && let Err(error) = child.kill().and_then(|()| child.wait().map(|_| ()))
        {
            eprintln!("cannot kill {}: {error}", self.name);
        }
    }
}
