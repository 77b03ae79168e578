//! A group of nodes in one process, over real gRPC on loopback and real RocksDB.
#![allow(clippy::unwrap_used)]

mod comments;
mod model;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use quire_kit::{Shutdown, clock};
use quire_proto::v1;
use quire_proto::v1::storage_client::StorageClient;
use quire_types::{
    CatalogChange, ColumnDef, ColumnId, Commit, Isolation, Lsn, NodeId, Outcome, SchemaId, SqlType, TableDef, TableId, TableWrite, TxnId,
};

use crate::{CompactOptions, KeepOptions, PressureOptions, SealOptions, StorageNode, StorageOptions};

const WAIT: Duration = Duration::from_secs(20);

struct Member {
    node: Option<StorageNode>,
    shutdown: Shutdown,
    options: StorageOptions,
}

impl Member {
    fn address(&self) -> &str {
        &self.options.peers[&self.options.node_id]
    }

    async fn start(&mut self) {
        self.shutdown = Shutdown::new();
        self.node = Some(StorageNode::start(self.options.clone(), self.shutdown.clone()).await.unwrap());
    }

    async fn stop(&mut self) {
        self.shutdown.trigger();
        self.node.take().unwrap().stopped().await;
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn group(dir: &Path, size: u64) -> Vec<Member> {
    let peers: BTreeMap<NodeId, String> = (1..=size).map(|id| (NodeId(id), format!("127.0.0.1:{}", free_port()))).collect();
    let mut members = vec![];
    for (id, address) in &peers {
        let options = StorageOptions {
            node_id: *id,
            listen: address.parse().unwrap(),
            peers: peers.clone(),
            data_dir: dir.join(format!("node-{id}")),
            object_store: format!("file://{}", dir.join("objects").display()),
            cache_disk_bytes: 128 << 20,
            seal: SealOptions { age_max: Duration::from_secs(3600), ..SealOptions::default() },
            compact: CompactOptions::default(),
            keep: KeepOptions::default(),
            pressure: PressureOptions::default(),
        };
        let mut member = Member { node: None, shutdown: Shutdown::new(), options };
        member.start().await;
        members.push(member);
    }
    members
}

/// Asks until the leader answers.
async fn ask<T, F, Fut>(members: &[Member], call: F) -> T
where
    F: Fn(StorageClient<tonic::transport::Channel>) -> Fut,
    Fut: Future<Output = Result<T, tonic::Status>>,
{
    let deadline = clock::now() + WAIT;
    let mut last = String::new();
    while clock::now() < deadline {
        for member in members.iter().filter(|m| m.node.is_some()) {
            let address = format!("http://{}", member.address());
            let Ok(client) = StorageClient::connect(address).await else { continue };
            match call(client).await {
                Ok(answer) => return answer,
                Err(status) => last = status.to_string(),
            }
        }
        clock::sleep(Duration::from_millis(20)).await;
    }
    panic!("no node answered: {last}");
}

async fn snapshot(members: &[Member], log_id: &str, known: u64) -> Vec<v1::SnapshotReply> {
    ask(members, |mut client| async move {
        let request = v1::SnapshotRequest { log_id: log_id.to_string(), known_lsn: known };
        let mut stream = client.snapshot(request).await?.into_inner();
        let mut parts = vec![];
        while let Some(part) = stream.message().await? {
            parts.push(part);
        }
        Ok(parts)
    })
    .await
}

async fn commit(members: &[Member], log_id: &str, commit: Commit) -> Outcome {
    let reply = ask(members, |mut client| {
        let request = v1::CommitRequest { log_id: log_id.to_string(), commits: vec![(&commit).into()] };
        async move { Ok(client.commit(request).await?.into_inner()) }
    });
    reply.await.outcomes.remove(0).try_into().unwrap()
}

const TABLE: TableId = TableId(20_000);

fn create(txn: u128) -> Commit {
    let table = TableDef {
        id: TABLE,
        schema: SchemaId(2200),
        name: "t".into(),
        version: 1,
        columns: vec![ColumnDef::new(ColumnId(1), "a", SqlType::Int8)],
        next_column_id: ColumnId(2),
        constraints: vec![],
        clustering: vec![],
        arrow: Default::default(),
    };
    Commit {
        txn_id: TxnId(txn),
        snapshot: Lsn(0),
        isolation: Isolation::ReadCommitted,
        catalog: vec![CatalogChange::CreateTable(table)],
        writes: vec![],
        reads: vec![],
    }
}

fn insert(txn: u128) -> Commit {
    let write = TableWrite { table: TABLE, version: 1, rows: Bytes::from(txn.to_string()), row_count: 1, ..TableWrite::default() };
    Commit {
        txn_id: TxnId(txn),
        snapshot: Lsn(1),
        isolation: Isolation::ReadCommitted,
        catalog: vec![],
        writes: vec![write],
        reads: vec![],
    }
}

/// The rows of the delta as this member has them.
async fn rows_at(member: &Member, lsn: u64, count: u64) -> Vec<String> {
    let mut client = StorageClient::connect(format!("http://{}", member.address())).await.unwrap();
    let request = v1::ReadDeltasRequest { table: TABLE.0, first: (0..count).collect(), lsn };
    let mut stream = client.read_deltas(request).await.unwrap().into_inner();
    let mut rows = vec![];
    while let Some(reply) = stream.message().await.unwrap() {
        rows.push(String::from_utf8(reply.rows.to_vec()).unwrap());
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_keeps_everything_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = group(dir.path(), 1).await;
    let first = snapshot(&members, "", 0).await;
    let log = first[0].log_id.clone();
    assert!(first[0].full && first[0].lsn == 0);
    assert_eq!(commit(&members, &log, create(1)).await, Outcome::Committed(Lsn(1)));
    assert_eq!(commit(&members, &log, insert(2)).await, Outcome::Committed(Lsn(2)));
    assert_eq!(commit(&members, &log, insert(2)).await, Outcome::Committed(Lsn(2)), "a retry gets the first answer");
    let since = snapshot(&members, &log, 1).await;
    assert!(!since[0].full);
    assert_eq!(since[0].changes.len(), 2);

    members[0].stop().await;
    members[0].start().await;
    assert_eq!(commit(&members, &log, insert(2)).await, Outcome::Committed(Lsn(2)), "and after a restart");
    let again = snapshot(&members, &log, 2).await;
    assert_eq!((again[0].lsn, again[0].log_id.as_str(), again[0].changes.len()), (2, log.as_str(), 0));
    assert_eq!(rows_at(&members[0], 2, 1).await, ["2"]);
    let other = snapshot(&members, "another log", 2).await;
    assert!(other[0].full);
    members[0].stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_go_on_without_any_one_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = group(dir.path(), 3).await;
    let log = snapshot(&members, "", 0).await[0].log_id.clone();
    assert_eq!(commit(&members, &log, create(1)).await, Outcome::Committed(Lsn(1)));
    let mut lsn = 1;
    for down in 0..3usize {
        members[down].stop().await;
        for i in 0..5u128 {
            lsn += 1;
            let outcome = commit(&members, &log, insert(100 * (down as u128 + 1) + i)).await;
            assert_eq!(outcome, Outcome::Committed(Lsn(lsn)), "with node {} down", down + 1);
        }
        assert_eq!(snapshot(&members, &log, lsn).await[0].lsn, lsn);
        members[down].start().await;
        // The node that was away has all of it again.
        let rows = rows_at(&members[down], lsn, lsn - 1).await;
        assert_eq!(rows.len() as u64, lsn - 1);
        assert!(rows.iter().all(|r| !r.is_empty()), "{rows:?}");
    }
    let mut copies = vec![];
    for member in &members {
        copies.push(rows_at(member, lsn, lsn - 1).await);
    }
    assert!(copies.iter().all(|c| *c == copies[0]));
    for member in &mut members {
        member.stop().await;
    }
    // All of them at once, and back.
    for member in &mut members {
        member.start().await;
    }
    let back = snapshot(&members, "", 0).await;
    assert_eq!((back[0].lsn, back[0].log_id.clone()), (lsn, log.clone()));
    assert_eq!(commit(&members, &log, insert(104)).await, Outcome::Committed(Lsn(6)), "outcomes are remembered");
    for member in &mut members {
        member.stop().await;
    }
}

async fn term(member: &Member) -> u64 {
    let mut client = v1::admin_client::AdminClient::connect(format!("http://{}", member.address())).await.unwrap();
    client.status(v1::StatusRequest {}).await.unwrap().into_inner().term
}

/// What it had sent to others and not flushed itself would otherwise be written twice, in the same term.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_comes_back_leads_in_a_new_term() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = group(dir.path(), 1).await;
    let log = snapshot(&members, "", 0).await[0].log_id.clone();
    let before = term(&members[0]).await;
    members[0].stop().await;
    members[0].start().await;
    assert_eq!(commit(&members, &log, create(1)).await, Outcome::Committed(Lsn(1)));
    assert!(term(&members[0]).await > before, "it led on in term {before}");
    members[0].stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_wire_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = group(dir.path(), 1).await;
    let log = snapshot(&members, "", 0).await[0].log_id.clone();
    let mut client = StorageClient::connect(format!("http://{}", members[0].address())).await.unwrap();
    let bad = [
        v1::CommitRequest { log_id: "another".into(), commits: vec![(&create(1)).into()] },
        v1::CommitRequest { log_id: log.clone(), commits: vec![] },
        v1::CommitRequest {
            log_id: log.clone(),
            commits: vec![v1::Commit { txn_id: Bytes::from_static(b"short"), ..(&create(1)).into() }],
        },
    ];
    for request in bad {
        assert_eq!(client.commit(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
    let future = Commit { snapshot: Lsn(99), ..create(2) };
    assert_eq!(commit(&members, &log, future).await, Outcome::FutureSnapshot);
    assert!(
        std::net::TcpStream::connect(members[0].address()).is_ok_and(|mut s| std::io::Write::write_all(
            &mut s,
            b"GET / garbage\r\n\r\n\x00\xff"
        )
        .is_ok())
    );
    assert_eq!(commit(&members, &log, create(3)).await, Outcome::Committed(Lsn(1)));
    members[0].stop().await;
}
