//! The order of a page's values: what an index is here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, sort_to_indices};
use arrow::error::ArrowError;

/// NULLs come last in an order.
pub(crate) const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: false };

/// In which order a page's values ascend.
#[derive(Clone, Debug)]
pub enum Order {
    /// As they lie; there is no NULL.
    Stored,
    /// By these positions; NULLs last.
    By(Arc<UInt32Array>),
}

impl Order {
    /// Sorts the values, unless they ascend already.
    pub fn of(values: &ArrayRef) -> Result<Order, ArrowError> {
        Ok(match ascends(values) {
            true => Order::Stored,
            false => Order::By(Arc::new(sort_to_indices(values, Some(ASCENDING), None)?)),
        })
    }

    /// Rows that it keeps a position of.
    pub fn rows_kept(&self) -> usize {
        match self {
            Order::Stored => 0,
            Order::By(positions) => positions.len(),
        }
    }

    /// The position in the page of the value with a rank in the order.
    pub fn position(&self, rank: usize) -> usize {
        match self {
            Order::Stored => rank,
            Order::By(positions) => positions.value(rank) as usize,
        }
    }

    /// The first of so many ranks for whose position `before` does not hold; it holds for all ranks below.
    pub fn partition_point(&self, ranks: usize, before: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (0, ranks);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.position(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

fn ascends(values: &ArrayRef) -> bool {
    let Ok(compare) = make_comparator(values, values, SortOptions::default()) else { return false };
    values.null_count() == 0 && (1..values.len()).all(|i| compare(i - 1, i).is_le())
}
