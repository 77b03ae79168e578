#![allow(clippy::unwrap_used)]

use bytes::Bytes;

use crate::{ObjectError, Objects, PutOutcome};

fn open() -> (tempfile::TempDir, Objects) {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(&format!("file://{}/store/deep", dir.path().display())).unwrap();
    (dir, objects)
}

#[tokio::test]
async fn an_object_is_written_once() {
    let (_dir, objects) = open();
    let first = objects.put_if_absent("segments/1/a.parquet", Bytes::from_static(b"first")).await.unwrap();
    let second = objects.put_if_absent("segments/1/a.parquet", Bytes::from_static(b"second")).await.unwrap();
    assert_eq!((first, second), (PutOutcome::Written, PutOutcome::Existed));
    assert_eq!(objects.get_range("segments/1/a.parquet", 0..5).await.unwrap(), "first");
}

#[tokio::test]
async fn of_many_writers_one_wins() {
    let (dir, objects) = open();
    let puts = (0..20u8).map(|i| {
        let objects = objects.clone();
        async move { (i, objects.put_if_absent("a/b", Bytes::from(vec![i; 1000])).await.unwrap()) }
    });
    let outcomes = futures::future::join_all(puts).await;
    let written: Vec<u8> = outcomes.iter().filter(|(_, o)| *o == PutOutcome::Written).map(|(i, _)| *i).collect();
    assert_eq!(written.len(), 1);
    assert_eq!(objects.get_range("a/b", 0..1000).await.unwrap(), vec![written[0]; 1000]);
    let left: Vec<_> = std::fs::read_dir(dir.path().join("store/deep/.new")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn ranges_come_in_the_order_asked_for() {
    let (_dir, objects) = open();
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    objects.put_if_absent("a", Bytes::from(bytes.clone())).await.unwrap();
    let ranges = [50..60, 0..10, 90_000..90_010, 60..70, 5..5];
    let read = objects.get_ranges("a", &ranges).await.unwrap();
    for (range, read) in ranges.iter().zip(&read) {
        assert_eq!(read, &bytes[range.start as usize..range.end as usize]);
    }
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let (_dir, objects) = open();
    objects.put_if_absent("a", Bytes::from_static(b"12345")).await.unwrap();
    assert!(matches!(objects.get_range("b", 0..1).await, Err(ObjectError::NotFound { .. })));
    assert!(matches!(objects.head("b").await, Err(ObjectError::NotFound { .. })));
    assert!(matches!(objects.get_range("a", 3..9).await, Err(ObjectError::TooShort { length: 5, end: 9, .. })));
    assert!(matches!(objects.get_range("a", 7..9).await, Err(ObjectError::TooShort { length: 5, end: 9, .. })));
    assert!(matches!(objects.get_range("../a", 0..1).await, Err(ObjectError::BadKey { .. })));
    objects.delete("b").await.unwrap();
}

#[tokio::test]
async fn listing_finds_whole_parts_and_no_unfinished_files() {
    let (dir, objects) = open();
    for key in ["s/1/a", "s/1/b", "s/12/c", "t"] {
        objects.put_if_absent(key, Bytes::from_static(b"xyz")).await.unwrap();
    }
    std::fs::write(dir.path().join("store/deep/.new/left"), b"torn").unwrap();
    let keys = async |prefix: &str| objects.list(prefix).await.unwrap().into_iter().map(|i| i.key).collect::<Vec<_>>();
    assert_eq!(keys("").await, ["s/1/a", "s/1/b", "s/12/c", "t"]);
    assert_eq!(keys("s/1").await, ["s/1/a", "s/1/b"]);
    assert_eq!(keys("s/1/").await, ["s/1/a", "s/1/b"]);
    assert_eq!(keys("nothing").await, Vec::<String>::new());
    objects.delete("s/1/a").await.unwrap();
    assert_eq!(keys("s/1").await, ["s/1/b"]);
    assert_eq!(objects.head("t").await.unwrap().bytes, 3);
}

#[tokio::test]
async fn a_full_disk_is_a_clear_error() {
    // every write to /dev/full fails with ENOSPC
    let error = std::fs::write("/dev/full", b"x").unwrap_err();
    assert!(matches!(ObjectError::of_io("a", &error), ObjectError::Full { .. }), "{error:?}");
}

#[test]
fn a_bad_url_is_said() {
    for url in ["", "nothing", "ftp://host/x", "file://relative", "s3://", "file:///%zz"] {
        assert!(matches!(Objects::open(url), Err(ObjectError::BadUrl { .. })), "{url}");
    }
}

#[test]
fn buckets_open_without_being_contacted() {
    let objects = Objects::open("s3://bucket/some/prefix?x=secret").unwrap();
    assert_eq!(objects.url(), "s3://bucket/some/prefix");
}
