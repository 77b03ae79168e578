//! The 22 queries with the specification's validation parameters (clause 2.4), as one statement each.

/// Which way a sort key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}
use Direction::{Down, Up};

/// One query and what its answer promises.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) number: u8,
    template: &'static str,
    /// Columns that are averages or ratios: how many digits a division yields is the server's affair.
    pub(crate) approximate: &'static [usize],
    /// ORDER BY, as columns of the answer.
    pub(crate) sort: &'static [(usize, Direction)],
}

impl Query {
    /// The statement at `scale`: query 11's fraction is 0.0001 / scale (clause 2.4.11.3).
    pub(crate) fn sql(&self, scale: f64) -> String {
        let fraction = format!("{:.14}", 0.0001 / scale);
        self.template.replace("{fraction}", fraction.trim_end_matches('0'))
    }
}

macro_rules! query {
    ($number:literal, $file:literal, $approximate:expr, $sort:expr) => {
        Query { number: $number, template: include_str!(concat!("../queries/", $file)), approximate: &$approximate, sort: &$sort }
    };
}

/// All of them, in order.
pub(crate) static QUERIES: [Query; 22] = [
    query!(1, "q01.sql", [6, 7, 8], [(0, Up), (1, Up)]),
    query!(2, "q02.sql", [], [(0, Down), (2, Up), (1, Up), (3, Up)]),
    query!(3, "q03.sql", [], [(1, Down), (2, Up)]),
    query!(4, "q04.sql", [], [(0, Up)]),
    query!(5, "q05.sql", [], [(1, Down)]),
    query!(6, "q06.sql", [], []),
    query!(7, "q07.sql", [], [(0, Up), (1, Up), (2, Up)]),
    query!(8, "q08.sql", [1], [(0, Up)]),
    query!(9, "q09.sql", [], [(0, Up), (1, Down)]),
    query!(10, "q10.sql", [], [(2, Down)]),
    query!(11, "q11.sql", [], [(1, Down)]),
    query!(12, "q12.sql", [], [(0, Up)]),
    query!(13, "q13.sql", [], [(1, Down), (0, Down)]),
    query!(14, "q14.sql", [0], []),
    query!(15, "q15.sql", [], [(0, Up)]),
    query!(16, "q16.sql", [], [(3, Down), (0, Up), (1, Up), (2, Up)]),
    query!(17, "q17.sql", [0], []),
    query!(18, "q18.sql", [], [(4, Down), (3, Up)]),
    query!(19, "q19.sql", [], []),
    query!(20, "q20.sql", [], [(0, Up)]),
    query!(21, "q21.sql", [], [(1, Down), (0, Up)]),
    query!(22, "q22.sql", [], [(0, Up)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_one_statement_without_a_placeholder() {
        for (index, query) in QUERIES.iter().enumerate() {
            assert_eq!(usize::from(query.number), index + 1);
            let sql = query.sql(30.0);
            assert!(!sql.contains([';', '{', ':']), "query {}", query.number);
        }
        assert!(QUERIES[10].sql(30.0).contains("* 0.00000333333333\n"));
        assert!(QUERIES[10].sql(1.0).contains("* 0.0001\n"));
    }
}
