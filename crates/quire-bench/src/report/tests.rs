use super::*;
use crate::record::RunRecord;

fn record(name: &str, median: f64) -> Record {
    let query = |query, median_ms, answer| QueryRecord {
        query,
        first_ms: median_ms,
        median_ms,
        times_ms: median_ms.into_iter().collect(),
        rows: 4,
        first_moved: None,
        later_moved: None,
        answer,
        problem: None,
    };
    let queries = vec![query(1, Some(median), AnswerRecord::Right), query(2, None, AnswerRecord::Failed)];
    let run = RunRecord { warmup: 1, repeats: 3, sum_ms: median, geomean_ms: median, queries };
    Record { run: Some(run), ..Record::new(name.to_owned(), "server <1>".to_owned(), 0.01) }
}

#[test]
fn the_page_holds_every_figure_and_no_outside_resource() {
    let html = page(&[record("Quire", 12.5), record("a & b", 100.0)]);
    for part in ["TPC-H at scale 0.01", "a &amp; b", "server &lt;1&gt;", "12.5", "Q2", "failed", "1 of 2", "prefers-color-scheme: dark"] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("http") && !html.contains("<script"));
}

#[test]
fn bytes_moved_are_shown_where_they_were_counted() {
    let (plain, mut counted) = (record("PostgreSQL", 10.0), record("Quire", 12.5));
    let moved = |storage_bytes| Some(MovedRecord { storage_bytes, ..MovedRecord::default() });
    if let Some(query) = counted.run.as_mut().and_then(|run| run.queries.first_mut()) {
        (query.first_moved, query.later_moved) = (moved(4_200_000), moved(0));
    }
    let html = page(&[counted, plain.clone()]);
    assert!(html.contains("<td>4.2</td><td>0.0</td>") && html.contains("<th>4.2</th><th>0.0</th>"), "{html}");
    assert!(html.contains("colspan=6") && html.contains("colspan=4"), "{html}");
    assert!(!page(&[plain]).contains("first MB"));
}

#[test]
fn a_moment_is_a_date() {
    assert_eq!(utc(0), "1970-01-01 00:00");
    assert_eq!(utc(951_827_696), "2000-02-29 12:34");
    assert_eq!(utc(1_777_863_723), "2026-05-04 03:02");
}
