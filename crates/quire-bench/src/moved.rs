//! Bytes that a query moved, by the server's own account: differences of counters on its metrics port.
//!
//! Only a Quire server has these counters; any other is measured without.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use quire_kit::clock::{now, sleep, timeout};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::record::MovedRecord;

/// A server that has not answered by then is not there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pages that a query asked for in advance may still be on their way when it has its last row: figures count when they stay the same
/// for so long.
const SETTLE: Duration = Duration::from_millis(50);
/// Something else moves bytes if they do not; then the figures are as they are.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Where one process of the server says its figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetricsUrl {
    /// `host:port`.
    host: String,
    path: String,
}

impl MetricsUrl {
    /// `http://host:port` or `http://host:port/path`; without a path it is `/metrics`.
    pub(crate) fn parse(text: &str) -> Result<MetricsUrl, String> {
        let rest = text.strip_prefix("http://").ok_or("expected http://host:port/metrics")?;
        let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        if host.rsplit_once(':').is_none_or(|(name, port)| name.is_empty() || port.parse::<u16>().is_err()) {
            return Err("expected http://host:port/metrics".into());
        }
        let path = if path.is_empty() { "/metrics".to_owned() } else { format!("/{path}") };
        Ok(MetricsUrl { host: host.to_owned(), path })
    }

    async fn read(&self) -> anyhow::Result<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.host).await?;
            // By HTTP 1.0 the answer is not in chunks and ends with the connection.
            let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", self.path, self.host);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        let what = || format!("cannot read http://{}{} (--metrics)", self.host, self.path);
        let answer = match timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer.with_context(what)?,
            Err(_) => bail!("{}: no answer", what()),
        };
        let (head, body) = answer.split_once("\r\n\r\n").with_context(what)?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status == "200", "{}: status {status}", what());
        Ok(body.to_owned())
    }
}

/// The server's counters, summed over its processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    storage_bytes: u64,
    storage_pages: u64,
    object_bytes: u64,
}

impl Counted {
    /// As they are when nothing is on its way any more.
    pub(crate) async fn of(urls: &[MetricsUrl]) -> anyhow::Result<Counted> {
        let started = now();
        let mut counted = Counted::read(urls).await?;
        loop {
            sleep(SETTLE).await;
            let later = Counted::read(urls).await?;
            if later == counted || started.elapsed() > SETTLE_MAX {
                return Ok(later);
            }
            counted = later;
        }
    }

    async fn read(urls: &[MetricsUrl]) -> anyhow::Result<Counted> {
        let mut counted = Counted::default();
        for url in urls {
            counted.add(&url.read().await?);
        }
        Ok(counted)
    }

    fn add(&mut self, metrics: &str) {
        self.storage_bytes += sum(metrics, "quire_cache_remote_bytes_total", &["cache=\"compute\""]);
        self.storage_pages += sum(metrics, "quire_cache_pages_total", &["cache=\"compute\"", "tier=\"remote\""]);
        self.object_bytes += sum(metrics, "quire_objects_bytes_total", &["direction=\"in\""]);
    }

    /// What was counted after `before`. A process that was started anew began at 0.
    pub(crate) fn since(&self, before: &Counted) -> MovedRecord {
        MovedRecord {
            storage_bytes: self.storage_bytes.saturating_sub(before.storage_bytes),
            storage_pages: self.storage_pages.saturating_sub(before.storage_pages),
            object_bytes: self.object_bytes.saturating_sub(before.object_bytes),
        }
    }
}

/// The sum of a counter over its series that have all these labels; 0 when there is none, since a counter appears when it first counts.
fn sum(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let series = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        let (series, value) = rest.rsplit_once(' ')?;
        if labels.iter().all(|label| series.contains(label)) { value.parse::<f64>().ok() } else { None }
    });
    series.fold(0.0, |sum, value| sum + value) as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Counted, MetricsUrl};
    use crate::record::MovedRecord;

    const METRICS: &str = "# TYPE quire_cache_pages_total counter
quire_cache_pages_total{cache=\"compute\",tier=\"remote\"} 5
quire_cache_pages_total{cache=\"compute\",tier=\"memory\"} 50
quire_cache_pages_total{cache=\"storage\",tier=\"remote\"} 7
quire_cache_remote_bytes_total{cache=\"compute\"} 1000
quire_cache_remote_bytes_total{cache=\"storage\"} 1200
quire_objects_bytes_total{direction=\"in\"} 1.3e3
quire_objects_bytes_total{direction=\"out\"} 9
";

    #[test]
    fn counters_are_summed_and_subtracted() {
        let (mut before, mut after) = (Counted::default(), Counted::default());
        before.add(METRICS);
        for _ in 0..3 {
            after.add(METRICS);
        }
        assert_eq!(after.since(&before), MovedRecord { storage_bytes: 2000, storage_pages: 10, object_bytes: 2600 });
        assert_eq!(before.since(&after), MovedRecord::default());
    }

    #[test]
    fn an_address_needs_a_port_and_no_path() {
        let url = |host: &str, path: &str| MetricsUrl { host: host.into(), path: path.into() };
        assert_eq!(MetricsUrl::parse("http://127.0.0.1:8090/metrics").unwrap(), url("127.0.0.1:8090", "/metrics"));
        assert_eq!(MetricsUrl::parse("http://node:8090").unwrap(), url("node:8090", "/metrics"));
        for wrong in ["node:8090", "https://node:8090", "http://node", "http://node:port/metrics"] {
            assert!(MetricsUrl::parse(wrong).is_err(), "{wrong}");
        }
    }
}
