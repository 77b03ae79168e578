//! What a process must not say: a WARN or an ERROR is an event that nobody expected, so a test that did not expect it fails.

use std::path::Path;

use anyhow::{Result, bail};

/// Lines shown when there are many.
const SHOWN_MAX: usize = 20;

/// What libraries warn of in the course of a normal start.
const NOISE: &[&str] = &[
    // foyer: a storage node's cache has no memory tier, on purpose
    "The in-memory cache capacity(0) < shards",
    // openraft: an IO notification that was under way while the node became leader
    "A message will be ignored because Leader vote changed",
];

/// Fails when there is an unexpected WARN, ERROR or panic in the log. A line that contains one of `allowed` is expected.
pub(crate) fn check(log: &Path, allowed: &[String]) -> Result<()> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let bad: Vec<&str> = text
        .lines()
        .filter(|line| is_trouble(line) && !NOISE.iter().any(|n| line.contains(n)) && !allowed.iter().any(|a| line.contains(a)))
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    let shown = bad.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join("\n");
    bail!("{} unexpected lines in {}:\n{shown}", bad.len(), log.display())
}

fn is_trouble(line: &str) -> bool {
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(event) => matches!(event["level"].as_str(), Some("WARN" | "ERROR")),
        // What the runtime writes itself: `thread 'x' panicked at …`, `fatal runtime error: …`.
        Err(_) => line.contains("panicked at") || line.contains("fatal runtime error"),
    }
}

/// The end of a log, for the message of a failure.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_MAX)..].join("\n")
}
