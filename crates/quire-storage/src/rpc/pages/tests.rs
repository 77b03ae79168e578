#![allow(clippy::unwrap_used)]

use quire_cache::CacheOptions;
use quire_objects::Objects;
use quire_types::{ColumnId, PageId};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::Channel;
use v1::pages_client::PagesClient;

use super::*;

async fn serve() -> (tempfile::TempDir, PagesClient<Channel>) {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(&format!("file://{}/objects", dir.path().display())).unwrap();
    let cache = CacheOptions { dir: Some(dir.path().join("cache")), memory_bytes: 1 << 20, disk_bytes: 64 << 20, name: "test" };
    let store = PageStore::open(objects, cache).await.unwrap();
    let service = PageService::new(Arc::new(store), Arc::new(|| Term(7)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(v1::pages_server::PagesServer::new(service))
        .serve_with_incoming(TcpListenerStream::new(listener));
    quire_kit::task::spawn("server", server);
    (dir, PagesClient::connect(format!("http://{address}")).await.unwrap())
}

fn upload(segment: u64, content: &[u8], length: u64, checksum: u64) -> Vec<v1::UploadRequest> {
    use v1::upload_request::Part;
    let header = v1::UploadHeader { table: 3, segment, length, checksum };
    let data = content.chunks(1000).map(|c| Part::Data(Bytes::copy_from_slice(c)));
    std::iter::once(Part::Header(header)).chain(data).map(|part| v1::UploadRequest { part: Some(part) }).collect()
}

async fn put(client: &mut PagesClient<Channel>, segment: u64, content: &[u8]) -> Result<u64, Status> {
    let requests = upload(segment, content, content.len() as u64, page_checksum(content));
    Ok(client.upload(futures::stream::iter(requests)).await?.into_inner().term)
}

fn read(segment: u64, content: &[u8], range: std::ops::Range<usize>) -> v1::PageRead {
    v1::PageRead::from(&PageRead {
        page: PageId { segment: SegmentId(segment), row_group: range.start as u32, column: ColumnId(0) },
        table: TableId(3),
        term: Term(7),
        offset: range.start as u64,
        length: range.len() as u32,
        checksum: page_checksum(&content[range]),
    })
}

async fn get(client: &mut PagesClient<Channel>, reads: Vec<v1::PageRead>) -> Result<Vec<v1::ReadPagesReply>, Status> {
    let mut stream = client.read_pages(v1::ReadPagesRequest { reads, part_bytes_max: 0 }).await?.into_inner();
    let mut replies = Vec::new();
    while let Some(reply) = stream.message().await? {
        replies.push(reply);
    }
    replies.sort_by_key(|r| r.index);
    Ok(replies)
}

fn content() -> Vec<u8> {
    (0..100_000u32).map(|i| (i * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn pages_come_in_parts_for_those_who_take_them() {
    let (_dir, mut client) = serve().await;
    let content = content();
    put(&mut client, 1, &content).await.unwrap();
    let reads = vec![read(1, &content, 0..10_000), read(1, &content, 10_000..10_000), read(1, &content, 20_000..28_192)];
    for (asked, part_bytes) in [(1, 4096), (8192, 8192), (8193, 8193), (0, 100_000)] {
        let request = v1::ReadPagesRequest { reads: reads.clone(), part_bytes_max: asked };
        let mut replies = client.read_pages(request).await.unwrap().into_inner();
        let mut pages = vec![(Vec::new(), 0usize); 3];
        while let Some(reply) = replies.message().await.unwrap() {
            let Some(v1::read_pages_reply::Result::Data(part)) = reply.result else { panic!("a page is missing") };
            assert!(part.len() <= part_bytes);
            let (bytes, parts) = &mut pages[reply.index as usize];
            bytes.extend_from_slice(&part);
            *parts += 1;
        }
        for ((bytes, parts), read) in pages.iter().zip(&reads) {
            assert_eq!(bytes, &content[read.offset as usize..(read.offset + u64::from(read.length)) as usize]);
            assert_eq!(*parts, bytes.len().div_ceil(part_bytes).max(1));
        }
    }
}

#[tokio::test]
async fn what_is_uploaded_can_be_read_by_page() {
    let (_dir, mut client) = serve().await;
    let content = content();
    assert_eq!(put(&mut client, 1, &content).await.unwrap(), 7);
    assert_eq!(put(&mut client, 1, &content).await.unwrap(), 7, "a retry succeeds");
    let reads: Vec<_> = (0..100).map(|i| read(1, &content, i * 1000..(i + 1) * 1000)).collect();
    for tier in [v1::Tier::ObjectStore, v1::Tier::StorageCache] {
        let replies = get(&mut client, reads.clone()).await.unwrap();
        assert_eq!(replies.len(), 100);
        for (i, reply) in replies.into_iter().enumerate() {
            assert_eq!((reply.index as usize, reply.tier()), (i, tier));
            assert_eq!(reply.result, Some(v1::read_pages_reply::Result::Data(Bytes::copy_from_slice(&content[i * 1000..(i + 1) * 1000]))));
        }
    }
}

#[tokio::test]
async fn one_bad_page_does_not_spoil_the_others() {
    use v1::page_failure::Kind;
    let (_dir, mut client) = serve().await;
    let content = content();
    put(&mut client, 1, &content).await.unwrap();
    let wrong = v1::PageRead { checksum: 1, ..read(1, &content, 2000..3000) };
    let reads = vec![read(1, &content, 0..1000), wrong, read(2, &content, 0..1000)];
    let kinds: Vec<_> = get(&mut client, reads)
        .await
        .unwrap()
        .into_iter()
        .map(|reply| match reply.result.unwrap() {
            v1::read_pages_reply::Result::Data(_) => None,
            v1::read_pages_reply::Result::Failure(failure) => Some(failure.kind()),
        })
        .collect();
    assert_eq!(kinds, [None, Some(Kind::Corrupt), Some(Kind::Missing)]);
}

#[tokio::test]
async fn bad_uploads_leave_nothing() {
    let (dir, mut client) = serve().await;
    let content = content();
    let (length, checksum) = (content.len() as u64, page_checksum(&content));
    let mut second_header = upload(1, &content, length, checksum);
    second_header.push(second_header[0].clone());
    let bad = [
        (vec![], Code::InvalidArgument),
        (upload(1, &content, length, checksum)[1..].to_vec(), Code::InvalidArgument),
        (upload(1, &content, length - 1, checksum), Code::InvalidArgument),
        (upload(1, &content, u64::MAX, checksum), Code::InvalidArgument),
        (upload(1, &content, length + 1, checksum), Code::Aborted),
        (upload(1, &content, length, checksum + 1), Code::Aborted),
        (vec![upload(1, &content, length, checksum)[0].clone(), v1::UploadRequest { part: None }], Code::InvalidArgument),
        (second_header, Code::InvalidArgument),
    ];
    for (i, (requests, code)) in bad.into_iter().enumerate() {
        let status = client.upload(futures::stream::iter(requests)).await.unwrap_err();
        assert_eq!(status.code(), code, "{i}: {status}");
    }
    assert!(!dir.path().join("objects/segments").exists());
    // an id that is taken by other bytes
    put(&mut client, 1, &content).await.unwrap();
    assert_eq!(put(&mut client, 1, &content[1..]).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn requests_beyond_the_bounds_are_refused() {
    let (_dir, mut client) = serve().await;
    let read = |offset, length| v1::PageRead { table: 1, segment: 1, term: 1, row_group: 0, column: 0, offset, length, checksum: 0 };
    for reads in [vec![read(0, 1); 4097], vec![read(0, 9 << 20); 2], vec![read(0, 64 << 20)], vec![read(u64::MAX, 1)]] {
        assert_eq!(get(&mut client, reads).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert!(get(&mut client, vec![]).await.unwrap().is_empty());
}
