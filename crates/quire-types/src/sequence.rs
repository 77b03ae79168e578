use crate::{ColumnId, SchemaId, SqlType, TableId};

/// A sequence: numbers that are given out once each, in no promised order across compute nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceDef {
    /// Its id.
    pub id: TableId,
    /// The schema it is in.
    pub schema: SchemaId,
    /// Its name, unique among the relations of the schema.
    pub name: String,
    /// smallint, integer or bigint.
    pub ty: SqlType,
    /// Where RESTART returns to.
    pub start: i64,
    /// From one value to the next; never 0.
    pub increment: i64,
    /// The smallest value.
    pub min: i64,
    /// The largest.
    pub max: i64,
    /// Values that a compute node takes at a time, at least.
    pub cache: i64,
    /// Begins again at the other end instead of failing.
    pub cycle: bool,
    /// The column that takes the sequence along when it is dropped.
    pub owner: Option<(TableId, ColumnId)>,
    /// Where it is. Values up to here have been given to compute nodes.
    pub position: SequencePosition,
    /// Counts definition changes and `setval`s: what a compute node took under an earlier one is void.
    pub epoch: u64,
}

/// How far a sequence has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequencePosition {
    /// The value given out last, or the first one to give.
    pub last: i64,
    /// Whether `last` has been given out.
    pub called: bool,
}

impl SequenceDef {
    /// The next values, at most `count`: the first, how many, and where the sequence is afterwards. `None` when it has come to its end.
    pub fn take(&self, count: u64) -> Option<(i64, u64, SequencePosition)> {
        let step = i128::from(self.increment);
        let first = match self.position.called {
            false => i128::from(self.position.last),
            true => i128::from(self.position.last) + step,
        };
        let (min, max) = (i128::from(self.min), i128::from(self.max));
        let inside = first >= min && first <= max;
        let first = match (inside, self.cycle) {
            (true, _) => first,
            (false, true) => {
                if step > 0 {
                    min
                } else {
                    max
                }
            }
            (false, false) => return None,
        };
        let room = if step > 0 { (max - first) / step } else { (min - first) / step };
        let taken = i128::from(count.max(1)).min(room + 1);
        let last = first + step * (taken - 1);
        let fits = "a value between the sequence's bounds is a bigint";
        let position = SequencePosition { last: i64::try_from(last).expect(fits), called: true };
        Some((i64::try_from(first).expect(fits), u64::try_from(taken).expect("at most count"), position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(min: i64, max: i64, increment: i64, position: (i64, bool), cycle: bool) -> SequenceDef {
        SequenceDef {
            id: TableId(1),
            schema: SchemaId(1),
            name: "s".into(),
            ty: SqlType::Int8,
            start: min,
            increment,
            min,
            max,
            cache: 1,
            cycle,
            owner: None,
            position: SequencePosition { last: position.0, called: position.1 },
            epoch: 0,
        }
    }

    #[test]
    fn values_are_taken_up_to_the_end() {
        let check = |s: SequenceDef, count, expected: Option<(i64, u64, i64)>| {
            assert_eq!(s.take(count).map(|(first, n, at)| (first, n, at.last)), expected, "{s:?}");
        };
        check(sequence(1, i64::MAX, 1, (1, false), false), 32, Some((1, 32, 32)));
        check(sequence(1, i64::MAX, 1, (32, true), false), 32, Some((33, 32, 64)));
        check(sequence(1, 10, 3, (1, true), false), 32, Some((4, 3, 10)));
        check(sequence(1, 10, 3, (10, true), false), 1, None);
        check(sequence(1, 10, 3, (10, true), true), 2, Some((1, 2, 4)));
        check(sequence(-5, -1, -2, (-1, false), false), 9, Some((-1, 3, -5)));
        check(sequence(-5, -1, -2, (-5, true), true), 1, Some((-1, 1, -1)));
        check(sequence(1, i64::MAX, 1, (i64::MAX, true), false), 1, None);
        check(sequence(i64::MIN, i64::MAX, i64::MAX, (i64::MIN, true), false), 9, Some((-1, 2, i64::MAX - 1)));
    }
}
