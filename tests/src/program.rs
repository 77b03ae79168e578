//! The program's commands that end by themselves: `quire tpch`, `quire admin`, and those that refuse to start.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};

use crate::binary;

/// No command of a test takes longer, unless it hangs.
const TIMEOUT: Duration = Duration::from_secs(240);

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Fails unless it ended with 0.
    pub fn ok(self) -> Result<Ran> {
        ensure!(self.code == Some(0), "ended with {:?}\n{}{}", self.code, self.out, self.err);
        Ok(self)
    }
}

/// Runs `quire` with these arguments to its end.
pub async fn run(arguments: &[&str]) -> Result<Ran> {
    finish(spawn(arguments)?).await
}

/// Starts `quire` with these arguments; [`finish`] waits for its end. It is killed when dropped.
pub fn spawn(arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(binary::quire()?);
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("QUIRE_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot start quire {arguments:?}"))
}

/// Waits for the end of what [`spawn`] started.
pub async fn finish(child: Child) -> Result<Ran> {
    let output = tokio::time::timeout(TIMEOUT, child.wait_with_output()).await.context("quire does not end")??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
}

/// The sum of a metric over its series that have all these labels (`cache="compute"`); 0 when there is none.
pub fn metric(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let lines = metrics.lines().filter(|line| {
        let series = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
        series.is_some_and(|rest| labels.iter().all(|label| rest.contains(label)))
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}
