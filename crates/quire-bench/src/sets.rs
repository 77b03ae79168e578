//! Refresh sets: what RF1 inserts and RF2 deletes (clauses 2.6 and 2.7), the same for the same scale and number for ever.
//!
//! They are made as `dbgen -U` makes them. `tpchgen` has no generator for them, but its parts do not end with the table: the rows of
//! a part behind the last one are those that would come next, with values of the same distributions and totals that are right. Set n
//! takes the n-th thousandth behind the base for its new orders, and the n-th thousandth of the base, by key, is what it deletes.
//!
//! The base uses the first 8 of every 32 keys (clause 4.2.3). A new order has the key of an order that its set deletes, and 8 more: so no
//! new key is one of the base or of another set, and new rows lie among the old ones rather than at the end.

use std::iter::Peekable;
use std::ops::RangeInclusive;

use tpchgen::generators::{LineItem, LineItemGenerator, LineItemGeneratorIterator, Order, OrderGenerator, OrderGeneratorIterator};

/// After so many sets no order of the base is left to delete.
pub(crate) const SETS_MAX: u16 = 1000;
/// Below this scale a set has no orders.
pub(crate) const SCALE_MIN: f64 = 0.001;
/// Keys of the base, of every 32: the others are free for new orders.
pub(crate) const BASE_KEYS: i64 = 8;
/// Base keys and free ones repeat after so many.
pub(crate) const KEY_PERIOD: i64 = 32;

/// Some sets one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sets {
    first: u16,
    last: u16,
}

impl Sets {
    pub(crate) fn numbers(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

/// Sets from the command line: `7`, or `1-20`.
pub(crate) fn parse_sets(text: &str) -> Result<Sets, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if (1..=last).contains(&first) && last <= SETS_MAX => Ok(Sets { first, last }),
        _ => Err(format!("sets are one number from 1 to {SETS_MAX} or two, the smaller one first: 7 or 1-20")),
    }
}

/// One set of the data at one scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefreshSet {
    scale: f64,
    number: u16,
}

/// An order and its lines.
pub(crate) type NewOrder = (Order<'static>, Vec<LineItem<'static>>);

impl RefreshSet {
    pub(crate) fn new(scale: f64, number: u16) -> RefreshSet {
        assert!(scale >= SCALE_MIN, "the command line has been checked");
        assert!((1..=SETS_MAX).contains(&number), "the command line has been checked");
        RefreshSet { scale, number }
    }

    /// How many orders it inserts, and deletes: a thousandth of the base.
    pub(crate) fn orders(self) -> i64 {
        self.base() / i64::from(SETS_MAX)
    }

    fn base(self) -> i64 {
        OrderGenerator::calculate_row_count(self.scale, 1, 1)
    }

    /// Which orders of the base it deletes, counted from 1.
    fn places(self) -> RangeInclusive<i64> {
        let first = self.orders() * i64::from(self.number - 1) + 1;
        first..=first + self.orders() - 1
    }

    /// The keys that RF2 deletes, in order.
    pub(crate) fn old_keys(self) -> Vec<i64> {
        self.places().map(OrderGenerator::make_order_key).collect()
    }

    /// What RF1 inserts, by key.
    pub(crate) fn new_orders(self) -> NewOrders {
        let parts_of_base = (self.base() + self.orders() - 1) / self.orders();
        let part = i32::try_from(parts_of_base).expect("at the smallest scale they are at most 2000") + i32::from(self.number);
        let parts = i32::from(SETS_MAX);
        NewOrders {
            places: self.places(),
            orders: OrderGenerator::new(self.scale, part, parts).iter(),
            lines: LineItemGenerator::new(self.scale, part, parts).iter().peekable(),
        }
    }
}

/// See [`RefreshSet::new_orders`].
#[derive(Debug)]
pub(crate) struct NewOrders {
    places: RangeInclusive<i64>,
    orders: OrderGeneratorIterator<'static>,
    lines: Peekable<LineItemGeneratorIterator<'static>>,
}

impl Iterator for NewOrders {
    type Item = NewOrder;

    fn next(&mut self) -> Option<NewOrder> {
        let mut order = self.orders.next()?;
        let place = self.places.next().expect("a part has a thousandth of the base's rows, as the set has");
        let key = OrderGenerator::make_order_key(place) + BASE_KEYS;
        let mut lines = vec![];
        while let Some(mut line) = self.lines.next_if(|line| line.l_orderkey == order.o_orderkey) {
            line.l_orderkey = key;
            lines.push(line);
        }
        order.o_orderkey = key;
        Some((order, lines))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_sets_share_a_key_and_none_takes_one_of_the_base() {
        // the second scale's orders are not a multiple of a thousand
        for scale in [0.001, 0.0015] {
            let base: BTreeSet<i64> = OrderGenerator::new(scale, 1, 1).iter().map(|order| order.o_orderkey).collect();
            let (mut new, mut old) = (BTreeSet::new(), BTreeSet::new());
            for number in 1..=SETS_MAX {
                let set = RefreshSet::new(scale, number);
                let keys: Vec<i64> = set.new_orders().map(|(order, _)| order.o_orderkey).collect();
                assert_eq!(keys.len() as i64, set.orders());
                assert!(keys.iter().all(|key| new.insert(*key) && !base.contains(key)), "set {number}");
                let keys = set.old_keys();
                assert_eq!(keys.len() as i64, set.orders());
                assert!(keys.iter().all(|key| old.insert(*key) && base.contains(key) && key % KEY_PERIOD < BASE_KEYS), "set {number}");
            }
            assert!(new.iter().all(|key| key % KEY_PERIOD >= BASE_KEYS));
        }
    }

    #[test]
    fn a_new_order_has_its_lines_and_costs_what_they_do() {
        let content = |order: &Order<'static>| (order.o_totalprice.into_inner(), order.o_comment);
        let base: BTreeSet<(i64, &str)> = OrderGenerator::new(0.01, 1, 1).iter().map(|order| content(&order)).collect();
        for number in [1, 2, SETS_MAX] {
            let set = RefreshSet::new(0.01, number);
            assert_eq!(set.orders(), 15);
            let again: Vec<NewOrder> = set.new_orders().collect();
            assert_eq!(again, set.new_orders().collect::<Vec<_>>());
            for (order, lines) in again {
                assert!((1..=7).contains(&lines.len()));
                let mut total = 0;
                for (index, line) in lines.iter().enumerate() {
                    assert_eq!((line.l_orderkey, line.l_linenumber), (order.o_orderkey, index as i32 + 1));
                    let cents = [line.l_extendedprice, line.l_discount, line.l_tax].map(|amount| amount.into_inner());
                    total += cents[0] * (100 - cents[1]) / 100 * (100 + cents[2]) / 100;
                    assert!(line.l_shipdate > order.o_orderdate);
                }
                assert_eq!(total, order.o_totalprice.into_inner());
                assert!(!base.contains(&content(&order)), "the rows are new, not copies");
            }
        }
    }

    #[test]
    fn sets_are_one_number_or_two() {
        assert_eq!(parse_sets("7"), Ok(Sets { first: 7, last: 7 }));
        assert_eq!(parse_sets("1-1000").unwrap().numbers(), 1..=1000);
        for wrong in ["", "0", "0-3", "3-1", "1-1001", "1..3", "-", "1-"] {
            assert!(parse_sets(wrong).is_err(), "{wrong}");
        }
    }
}
