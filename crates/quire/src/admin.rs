//! `quire admin`: asks the storage nodes.

use std::process::ExitCode;

use bytesize::ByteSize;
use comfy_table::{Table, presets};
use quire_client::{NodeStatus, StorageClient};
use serde::Serialize;

use crate::cli::{Format, Status};

/// What one node says of itself, or why it does not.
#[derive(Serialize)]
struct Node {
    address: String,
    /// "leader", "follower", "learner", "candidate", "unknown" or "unreachable".
    role: String,
    /// Log entries that the leader has and this node has not applied.
    lag: Option<u64>,
    status: Option<NodeStatus>,
    error: Option<String>,
}

/// `quire admin status`. Fails when no node answers or none leads.
pub(crate) async fn status(args: Status) -> anyhow::Result<ExitCode> {
    let answers = StorageClient::new(args.storage).status().await;
    let leader_index =
        answers.iter().filter_map(|(_, a)| a.as_ref().ok()).filter(|s| s.leader == Some(s.node_id)).map(|s| s.last_log_index).max();
    let nodes: Vec<Node> = answers
        .into_iter()
        .map(|(address, answer)| match answer {
            Ok(status) => Node {
                address,
                role: status.members.iter().find(|m| m.node_id == status.node_id).map_or("unknown", |m| m.role.as_str()).to_string(),
                lag: leader_index.map(|last| last.saturating_sub(status.applied_index)),
                status: Some(status),
                error: None,
            },
            Err(error) => Node { address, role: "unreachable".into(), lag: None, status: None, error: Some(error.to_string()) },
        })
        .collect();
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "nodes": nodes }))?),
        Format::Table => print(&nodes),
    }
    Ok(if leader_index.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(nodes: &[Node]) {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "node",
        "address",
        "role",
        "term",
        "applied LSN",
        "lag",
        "tables",
        "segments",
        "to merge",
        "in object store",
        "delta rows",
        "delta",
        "deleted rows",
    ]);
    for node in nodes {
        let Some(status) = &node.status else {
            table.add_row(["", &node.address, &node.role]);
            continue;
        };
        table.add_row([
            status.node_id.to_string(),
            node.address.clone(),
            node.role.clone(),
            status.term.to_string(),
            status.applied_lsn.to_string(),
            node.lag.map(|l| l.to_string()).unwrap_or_default(),
            status.tables.to_string(),
            status.segments.to_string(),
            status.small_segments.to_string(),
            ByteSize(status.object_bytes).to_string(),
            status.delta_rows.to_string(),
            ByteSize(status.delta_bytes).to_string(),
            status.deleted_rows.to_string(),
        ]);
    }
    println!("{table}");
    if let Some(status) = nodes.iter().find_map(|n| n.status.as_ref()) {
        println!("log {}, objects in {}", if status.log_id.is_empty() { "not yet named" } else { &status.log_id }, status.object_store);
    }
    for error in nodes.iter().filter_map(|n| n.error.as_ref()) {
        println!("{error}");
    }
}
