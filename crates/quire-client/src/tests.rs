//! The client against small servers on loopback.
#![allow(clippy::unwrap_used)]

mod fake;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use fake::{Fake, Fault};
use futures::future::join_all;
use quire_types::{Commit, DeltaMeta, Isolation, Lsn, Outcome, PageError, PageSource, RowId, SegmentId, TableId, Term, TxnId};

use crate::client::Deadlines;
use crate::{ClientError, StorageClient};

const SHORT: Deadlines = {
    let second = Duration::from_secs(1);
    Deadlines { snapshot: second, commit: second, upload: second, deltas: second, page: second }
};

fn commit(txn: u128) -> Commit {
    Commit { txn_id: TxnId(txn), snapshot: Lsn(0), isolation: Isolation::ReadCommitted, catalog: vec![], writes: vec![], reads: vec![] }
}

fn client(nodes: &[&Fake]) -> StorageClient {
    StorageClient::new(nodes.iter().map(|n| n.address()).collect())
}

#[tokio::test]
async fn callers_share_only_a_request_sent_after_they_asked() {
    let node = Fake::start().await;
    let client = client(&[&node]);
    node.hold_snapshots.store(true, SeqCst);
    let early = quire_kit::task::spawn("test", {
        let client = client.clone();
        async move { client.snapshot().await.unwrap().lsn }
    });
    node.until(|n| n.snapshots.load(SeqCst) == 1).await;
    let late: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            quire_kit::task::spawn("test", async move { client.snapshot().await.unwrap().lsn })
        })
        .collect();
    // all ten have asked once nothing is left to run; then the world moves on
    quire_kit::clock::sleep(Duration::from_millis(50)).await;
    node.release_snapshots();
    assert_eq!(early.await.unwrap(), Lsn(1));
    for lsn in join_all(late).await {
        assert_eq!(lsn.unwrap(), Lsn(2));
    }
    assert_eq!(node.snapshots.load(SeqCst), 2);
}

#[tokio::test]
async fn a_view_is_brought_up_to_date_in_steps() {
    let node = Fake::start().await;
    let client = client(&[&node]);
    let first = client.snapshot().await.unwrap();
    let second = client.snapshot().await.unwrap();
    // the fake adds schema number 1000 + lsn at each lsn
    assert_eq!((first.lsn, first.catalog.schemas.len()), (Lsn(1), 2));
    assert_eq!((second.lsn, second.catalog.schemas.len()), (Lsn(2), 3));
    assert_eq!(node.known(), [0, 1]);
    // another log: everything is told anew
    node.replace_log("another");
    let third = client.snapshot().await.unwrap();
    assert_eq!((third.lsn, third.catalog.schemas.len()), (Lsn(1), 2));
}

#[tokio::test]
async fn a_follower_s_hint_is_followed_even_to_an_address_not_configured() {
    let (follower, leader) = (Fake::start().await, Fake::start().await);
    follower.follow(&format!("2={}", leader.address()));
    let client = client(&[&follower]);
    assert_eq!(client.snapshot().await.unwrap().lsn, Lsn(1));
    assert_eq!(client.commit(commit(7)).await.unwrap(), Outcome::Committed(Lsn(2)));
    assert_eq!(leader.commits(), [7]);
    assert_eq!(client.transaction_outcome(TxnId(7)).await.unwrap(), Some(Outcome::Committed(Lsn(2))));
    assert_eq!(client.transaction_outcome(TxnId(8)).await.unwrap(), None);
}

#[tokio::test]
async fn a_dead_leader_is_left_for_the_next() {
    let (first, second) = (Fake::start().await, Fake::start().await);
    let client = client(&[&first, &second]);
    client.snapshot().await.unwrap();
    first.stop().await;
    assert!(client.snapshot().await.is_ok());
}

#[tokio::test]
async fn a_commit_is_asked_again_under_its_name() {
    let node = Fake::start().await;
    let client = client(&[&node]);
    node.fault(Fault::CommitThenLoseTheReply);
    assert_eq!(client.commit(commit(9)).await.unwrap(), Outcome::Committed(Lsn(2)));
    assert_eq!(node.commits(), [9, 9]);
}

#[tokio::test]
async fn storage_out_of_reach_is_an_error_and_no_hang() {
    // a port that was free a moment ago
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = StorageClient::with_deadlines(vec![address.clone(), "not an address".to_string()], SHORT);
    let start = quire_kit::clock::now();
    let error = client.snapshot().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let error = client.page(fake::read(1, 0, b"x")).await.unwrap_err();
    assert!(matches!(&error, PageError::Unavailable { .. }), "{error}");
    let error = client.upload(TableId(1), SegmentId(1), Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable { .. }), "{error}");
    assert!(client.status().await.iter().all(|(_, status)| status.is_err()));
}

#[tokio::test]
async fn a_commit_that_was_never_sent_is_not_in_doubt_and_one_that_was_is() {
    let node = Fake::start().await;
    let client = StorageClient::with_deadlines(vec![node.address()], SHORT);
    client.snapshot().await.unwrap();
    node.fault(Fault::NeverAnswerCommits);
    assert!(matches!(client.commit(commit(3)).await, Err(ClientError::Unknown(TxnId(3)))));
    node.stop().await;
    let error = client.commit(commit(4)).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable { .. } | ClientError::Unknown(_)), "{error}");
}

#[tokio::test]
async fn a_refused_or_oversized_commit_is_said() {
    let node = Fake::start().await;
    let client = client(&[&node]);
    node.fault(Fault::RefuseCommits);
    assert!(matches!(client.commit(commit(3)).await, Err(ClientError::Refused { .. })));
    let mut large = commit(4);
    large.writes.push(quire_types::TableWrite { rows: Bytes::from(vec![0; 65 << 20]), ..Default::default() });
    assert!(matches!(client.commit(large).await, Err(ClientError::TooLarge { .. })));
}

#[tokio::test]
async fn commits_at_hand_share_requests_and_a_refused_one_is_refused_alone() {
    let node = Fake::start().await;
    let client = client(&[&node]);
    client.snapshot().await.unwrap();
    let outcomes = futures::future::join_all((1..=100).map(|txn| client.commit(commit(txn)))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::Committed(_)))), "{outcomes:?}");
    let requests = node.commit_requests();
    assert!(requests.len() < 50, "{} requests", requests.len());
    let mut sent = requests.concat();
    sent.sort_unstable();
    assert_eq!(sent, (1..=100).collect::<Vec<_>>());

    node.fault(Fault::RefuseCommit(150));
    let outcomes = futures::future::join_all((101..=200).map(|txn| client.commit(commit(txn)))).await;
    let refused: Vec<usize> = outcomes.iter().enumerate().filter(|(_, o)| o.is_err()).map(|(i, _)| i + 101).collect();
    assert_eq!(refused, [150]);
    assert!(matches!(outcomes[49], Err(ClientError::Refused { .. })));
}

#[tokio::test]
async fn many_pages_are_few_requests() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b]);
    let reads: Vec<_> = (0..2000u64).map(|i| (i, fake::read(i / 8, (i % 8) as u32, &i.to_le_bytes()))).collect();
    for (i, read) in &reads {
        a.put_page(*read, &i.to_le_bytes());
        b.put_page(*read, &i.to_le_bytes());
    }
    let pages = join_all(reads.iter().map(|(_, read)| client.page(*read))).await;
    for ((i, _), page) in reads.iter().zip(pages) {
        assert_eq!(page.unwrap(), i.to_le_bytes().as_slice());
    }
    let requests = a.page_requests.load(SeqCst) + b.page_requests.load(SeqCst);
    assert!(requests <= 16, "{requests}");
    assert!(a.page_requests.load(SeqCst) > 0 && b.page_requests.load(SeqCst) > 0, "both share the work");
}

#[tokio::test]
async fn a_request_is_bounded_by_bytes() {
    let node = Fake::start().await;
    let client = client(&[&node]);
    let page = vec![7u8; 3 << 20];
    let reads: Vec<_> = (0..12).map(|i| fake::read(i, 0, &page)).collect();
    reads.iter().for_each(|read| node.put_page(*read, &page));
    for page in join_all(reads.iter().map(|read| client.page(*read))).await {
        assert_eq!(page.unwrap().len(), 3 << 20);
    }
    assert!(node.page_requests.load(SeqCst) >= 3); // five pages of 3 MiB fit in 16 MiB
}

#[tokio::test]
async fn a_bad_page_is_had_from_another_replica() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b]);
    for i in 0..20 {
        let read = fake::read(i, 0, b"good");
        a.put_page(read, b"evil");
        b.put_page(read, b"good");
        assert_eq!(client.page(read).await.unwrap(), "good");
        let read = fake::read(100 + i, 0, b"good");
        b.put_page(read, b"good"); // missing on a
        assert_eq!(client.page(read).await.unwrap(), "good");
    }
    let read = fake::read(1000, 0, b"good");
    assert!(matches!(client.page(read).await, Err(PageError::Missing { .. })));
    a.put_page(read, b"evil");
    b.put_page(read, b"evil");
    assert!(matches!(client.page(read).await, Err(PageError::Corrupt { .. })));
}

#[tokio::test]
async fn a_dead_or_silent_replica_costs_a_retry_and_no_page() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b]);
    let reads: Vec<_> = (0..100).map(|i| fake::read(i, 0, b"good")).collect();
    reads.iter().for_each(|read| b.put_page(*read, b"good"));
    a.fault(Fault::NeverAnswerPages);
    for page in join_all(reads.iter().map(|read| client.page(*read))).await {
        assert_eq!(page.unwrap(), "good");
    }
    a.stop().await;
    for page in join_all(reads.iter().map(|read| client.page(*read))).await {
        assert_eq!(page.unwrap(), "good");
    }
}

#[tokio::test]
async fn an_upload_arrives_whole_on_some_node() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b]);
    a.fault(Fault::FailUploads);
    let bytes: Bytes = (0..(3 << 20) + 17).map(|i| (i % 253) as u8).collect();
    for segment in 0..4 {
        assert_eq!(client.upload(TableId(1), SegmentId(segment), bytes.clone()).await.unwrap(), Term(5));
        assert_eq!(b.uploaded(segment).unwrap(), bytes);
    }
    b.fault(Fault::Full);
    assert!(matches!(client.upload(TableId(1), SegmentId(77), bytes.clone()).await, Err(ClientError::Full { .. })));
}

#[tokio::test]
async fn deltas_come_in_order_and_sealed_ones_are_none() {
    let node = Fake::start().await;
    let client = client(&[&node]);
    let delta = |first| DeltaMeta { first: RowId(first), rows: 1, bytes: 8, version: 1, lsn: Lsn(1) };
    // the fake answers each batch with its row id, and says that odd ones are gone
    let rows = client.deltas(TableId(1), &[delta(4), delta(5), delta(6)], Lsn(1)).await.unwrap();
    assert_eq!(rows, [Some(Bytes::from("4")), None, Some(Bytes::from("6"))]);
}

#[tokio::test]
async fn the_status_of_each_node_is_asked_for() {
    let node = Fake::start().await;
    let client = StorageClient::new(vec![node.address(), "127.0.0.1:1".to_string()]);
    let status = client.status().await;
    assert_eq!(status[0].1.as_ref().unwrap().applied_lsn, Lsn(42));
    assert!(matches!(status[1].1, Err(ClientError::Unavailable { .. })));
}
