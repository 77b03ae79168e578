//! What `quire admin status` says of a cluster, as far as tests ask.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Cluster, program};

/// Elections and seals are over by then, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// One storage node, by its own account.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// "leader", "follower", …, "unreachable".
    pub role: String,
    /// Log entries that the leader has and this node has not applied.
    pub lag: Option<u64>,
    /// The last LSN it has applied.
    pub applied_lsn: u64,
    /// Segments in all manifests.
    pub segments: u64,
    /// Rows in deltas.
    pub delta_rows: u64,
}

impl Cluster {
    /// Every storage node in order, as `quire admin status --format json` has it.
    pub async fn status(&self) -> Result<Vec<NodeStatus>> {
        let ran = program::run(&["admin", "status", "--format", "json", "--storage", &self.storage_addresses().join(",")]).await?;
        let status: Value = serde_json::from_str(&ran.out).with_context(|| format!("not JSON: {} {}", ran.out, ran.err))?;
        let nodes = status["nodes"].as_array().context("a status without nodes")?;
        ensure!(nodes.len() == self.storage_addresses().len(), "{status}");
        let node = |(node, address): (&Value, String)| {
            ensure!(node["address"] == *address, "the nodes are not in order: {status}");
            let number = |name: &str| node["status"][name].as_u64().unwrap_or(0);
            Ok(NodeStatus {
                role: node["role"].as_str().context("a node without a role")?.to_string(),
                lag: node["lag"].as_u64(),
                applied_lsn: number("applied_lsn"),
                segments: number("segments"),
                delta_rows: number("delta_rows"),
            })
        };
        nodes.iter().zip(self.storage_addresses()).map(node).collect()
    }

    /// Waits until the status is as wanted.
    pub async fn status_until(&self, what: &str, wanted: impl Fn(&[NodeStatus]) -> bool) -> Result<Vec<NodeStatus>> {
        let mut last = None;
        let polling = async {
            loop {
                let status = self.status().await?;
                if wanted(&status) {
                    return anyhow::Ok(status);
                }
                last = Some(status);
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(PATIENCE, polling).await {
            Ok(status) => status,
            Err(_) => anyhow::bail!("not {what} in {PATIENCE:?}: {last:?}"),
        }
    }

    /// The storage node that leads, from 0, and one that follows.
    pub async fn leader_and_follower(&self) -> Result<(usize, usize)> {
        let status = self.status_until("led", |nodes| nodes.iter().any(|n| n.role == "leader")).await?;
        let leader = status.iter().position(|n| n.role == "leader").context("no leader")?;
        let follower = status.iter().position(|n| n.role == "follower").context("no follower")?;
        Ok((leader, follower))
    }

    /// Waits until every storage node runs and has all that the leader has.
    pub async fn healed(&self) -> Result<Vec<NodeStatus>> {
        let same = |nodes: &[NodeStatus]| nodes.iter().all(|n| n.lag == Some(0) && n.applied_lsn == nodes[0].applied_lsn);
        self.status_until("healed", same).await
    }

    /// Waits until all rows are in segments.
    pub async fn sealed(&self) -> Result<Vec<NodeStatus>> {
        self.status_until("sealed", |nodes| nodes.iter().all(|n| n.delta_rows == 0 && n.segments > 0)).await
    }
}
