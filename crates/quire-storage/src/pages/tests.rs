#![allow(clippy::unwrap_used)]

use futures::future::join_all;
use quire_types::{ColumnId, PageId};

use super::*;

const PAGES: u64 = 40;

fn objects() -> (tempfile::TempDir, Objects) {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(&format!("file://{}/objects", dir.path().display())).unwrap();
    (dir, objects)
}

async fn store(dir: &tempfile::TempDir, objects: &Objects) -> PageStore {
    let cache = CacheOptions { dir: Some(dir.path().join("cache")), memory_bytes: 1 << 20, disk_bytes: 64 << 20, name: "test" };
    PageStore::open(objects.clone(), cache).await.unwrap()
}

fn page(i: u64) -> Vec<u8> {
    (0..1000 + i).map(|b| (b * 7 + i) as u8).collect()
}

/// An object of all pages, and the requests for them.
fn segment(id: u64) -> (Bytes, Vec<PageRead>) {
    let mut bytes = b"PAR1".to_vec();
    let reads = (0..PAGES)
        .map(|i| {
            let content = page(i);
            let read = PageRead {
                page: PageId { segment: SegmentId(id), row_group: (i / 8) as u32, column: ColumnId((i % 8) as u32) },
                table: TableId(9),
                term: Term(2),
                offset: bytes.len() as u64,
                length: content.len() as u32,
                checksum: page_checksum(&content),
            };
            bytes.extend_from_slice(&content);
            read
        })
        .collect();
    (Bytes::from(bytes), reads)
}

#[tokio::test]
async fn pages_are_read_from_the_object_and_then_from_the_cache() {
    let (dir, objects) = objects();
    let store = store(&dir, &objects).await;
    let (bytes, reads) = segment(1);
    store.store(TableId(9), SegmentId(1), Term(2), bytes).await.unwrap();
    for tier in [Tier::Remote, Tier::Disk] {
        let read = join_all(reads.iter().map(|read| store.read(*read))).await;
        for (i, result) in read.into_iter().enumerate() {
            let (bytes, found) = result.unwrap();
            assert_eq!(bytes, page(i as u64));
            assert_eq!(found, tier);
        }
    }
}

#[tokio::test]
async fn storing_again_is_fine_and_other_bytes_are_not() {
    let (dir, objects) = objects();
    let store = store(&dir, &objects).await;
    let (bytes, _) = segment(1);
    let mut other = bytes.to_vec();
    other[100] ^= 1;
    for _ in 0..2 {
        store.store(TableId(9), SegmentId(1), Term(2), bytes.clone()).await.unwrap();
    }
    let again = store.store(TableId(9), SegmentId(1), Term(2), Bytes::from(other)).await;
    assert!(matches!(again, Err(StoreError::Taken { .. })));
    let shorter = store.store(TableId(9), SegmentId(1), Term(2), bytes.slice(1..)).await;
    assert!(matches!(shorter, Err(StoreError::Taken { .. })));
}

#[tokio::test]
async fn a_flipped_bit_spoils_one_page_only() {
    let (dir, objects) = objects();
    let store = store(&dir, &objects).await;
    let (bytes, reads) = segment(1);
    let mut flipped = bytes.to_vec();
    flipped[reads[5].offset as usize + 3] ^= 0x10;
    objects.put_if_absent(&key(&reads[0]), Bytes::from(flipped)).await.unwrap();
    let read = join_all(reads.iter().map(|read| store.read(*read))).await;
    for (i, result) in read.into_iter().enumerate() {
        match (i, result) {
            (5, result) => assert!(matches!(result, Err(PageError::Corrupt { .. })), "{result:?}"),
            (_, result) => assert_eq!(result.unwrap().0, page(i as u64)),
        }
    }
}

#[tokio::test]
async fn a_missing_or_cut_object_is_said() {
    let (dir, objects) = objects();
    let store = store(&dir, &objects).await;
    let (bytes, reads) = segment(1);
    assert!(matches!(store.read(reads[0]).await, Err(PageError::Missing { .. })));
    let cut = bytes.slice(..reads[20].offset as usize + 5);
    objects.put_if_absent(&key(&reads[0]), cut).await.unwrap();
    let read = join_all(reads.iter().map(|read| store.read(*read))).await;
    for (i, result) in read.into_iter().enumerate() {
        match result {
            Ok((bytes, _)) => assert!(i < 20 && bytes == page(i as u64)),
            Err(error) => assert!(i >= 20 && matches!(error, PageError::Corrupt { .. }), "{i} {error}"),
        }
    }
}

#[test]
fn pieces_are_bounded_and_ordered() {
    let wanted = |offset, length| {
        let page = PageId { segment: SegmentId(1), row_group: 0, column: ColumnId(0) };
        let read = PageRead { page, table: TableId(1), term: Term(1), offset, length, checksum: 0 };
        Wanted { read, answer: oneshot::channel().0 }
    };
    let cut = pieces(vec![wanted(9 << 20, 3 << 20), wanted(0, 2 << 20), wanted(2 << 20, 1 << 20), wanted(3 << 20, 5 << 20)]);
    let offsets: Vec<Vec<u64>> = cut.iter().map(|p| p.iter().map(|w| w.read.offset >> 20).collect()).collect();
    assert_eq!(offsets, [vec![0, 2], vec![3], vec![9]]);
}
