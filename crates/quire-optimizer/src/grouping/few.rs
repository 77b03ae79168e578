//! A few groups of short strings: a view of such a string has it all, so that rows are compared with known groups by their views.
//!
//! What is known is only a shortcut. A group is what DataFusion's table of groups says; it is asked about rows that are not known, and about
//! all rows when that are many.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::Groups;

/// Groups that are remembered: a row is compared with each.
pub(super) const KNOWN_MAX: usize = 16;
/// Columns that are compared.
const KEYS_MAX: usize = 2;
/// A string up to this is in its view.
const INLINE_BYTES_MAX: u32 = 12;
/// With one row in so many that is of no known group, the table is asked about all.
const ROWS_PER_MISS: usize = 4;

/// Whether groups with keys of these types can be told so.
pub(super) fn can_tell(types: &[DataType]) -> bool {
    types.len() <= KEYS_MAX && types.iter().all(|data_type| *data_type == DataType::Utf8View)
}

pub(super) struct Few {
    groups: Box<dyn GroupValues>,
    /// Views of the keys, and the group's number.
    known: Vec<([u128; KEYS_MAX], usize)>,
    /// More are given to the next step.
    groups_max: usize,
    /// Whether it is not worth the while.
    is_off: bool,
}

impl Few {
    pub(super) fn new(schema: SchemaRef, groups_max: usize) -> Result<Few> {
        Ok(Few { groups: new_group_values(schema, &GroupOrdering::None)?, known: vec![], groups_max, is_off: false })
    }

    /// Appends numbers of rows by their views, and gives the places of those that are of no known group.
    fn number_known(&self, views: impl Iterator<Item = [u128; KEYS_MAX]>, numbers: &mut Vec<usize>) -> Vec<u32> {
        let mut missed = vec![];
        let (mut last, mut last_number) = self.known.first().copied().unwrap_or(([u128::MAX; KEYS_MAX], 0));
        for (row, views) in (0_u32..).zip(views) {
            if views != last {
                match self.known.iter().find(|(known, _)| *known == views) {
                    Some((known, number)) => (last, last_number) = (*known, *number),
                    None => {
                        missed.push(row);
                        numbers.push(0);
                        continue;
                    }
                }
            }
            numbers.push(last_number);
        }
        missed
    }

    fn remember(&mut self, views: [u128; KEYS_MAX], keys: usize, number: usize) {
        let is_inline = views[..keys].iter().all(|view| *view as u32 <= INLINE_BYTES_MAX);
        if is_inline && self.known.len() < KNOWN_MAX && self.known.iter().all(|(known, _)| *known != views) {
            self.known.push((views, number));
        }
    }
}

impl Groups for Few {
    fn number(&mut self, keys: &[ArrayRef], numbers: &mut Vec<usize>) -> Result<()> {
        let texts: Option<Vec<_>> = keys.iter().map(|key| key.as_string_view_opt().filter(|key| key.null_count() == 0)).collect();
        let Some(texts) = texts.filter(|_| !self.is_off) else { return self.groups.intern(keys, numbers) };
        let of_row = |row: usize| -> [u128; KEYS_MAX] {
            let mut views = [0; KEYS_MAX];
            views.iter_mut().zip(&texts).for_each(|(view, text)| *view = text.views()[row]);
            views
        };
        let are_all_new = self.groups.is_empty();
        let missed = match texts.as_slice() {
            [one] => self.number_known(one.views().iter().map(|view| [*view, 0]), numbers),
            [one, other] => self.number_known(one.views().iter().zip(other.views().iter()).map(|(one, other)| [*one, *other]), numbers),
            _ => return self.groups.intern(keys, numbers),
        };
        if missed.is_empty() {
            return Ok(());
        }
        let rows = UInt32Array::from(missed);
        let unknown = keys.iter().map(|key| take(key, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        let mut found = Vec::with_capacity(rows.len());
        self.groups.intern(&unknown, &mut found)?;
        for (row, number) in rows.values().iter().zip(found) {
            numbers[*row as usize] = number;
            self.remember(of_row(*row as usize), keys.len(), number);
        }
        self.is_off = !are_all_new && rows.len() * ROWS_PER_MISS > numbers.len();
        Ok(())
    }

    fn count(&self) -> usize {
        self.groups.len()
    }

    fn ready(&self) -> usize {
        if self.count() > self.groups_max { self.count() } else { 0 }
    }

    fn give(&mut self, _all: usize) -> Result<Vec<ArrayRef>> {
        self.known.clear();
        let keys = self.groups.emit(EmitTo::All)?;
        // What it looks up rows in is another matter.
        self.groups.clear_shrink(self.groups_max);
        Ok(keys)
    }
}
