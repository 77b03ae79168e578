//! A list that grows at its end and is copied at every savepoint.

use std::sync::Arc;

/// Pieces that copies share, each more than twice as long as the next: a copy is as long as the logarithm of the list, and an item is
/// moved to a longer piece only so often.
#[derive(Clone, Debug)]
pub(crate) struct Pile<T> {
    pieces: Vec<Arc<Vec<T>>>,
}

impl<T> Default for Pile<T> {
    fn default() -> Self {
        Pile { pieces: vec![] }
    }
}

impl<T: Clone> Pile<T> {
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
    }

    pub(crate) fn extend(&mut self, items: Vec<T>) {
        if items.is_empty() {
            return;
        }
        let mut last = Arc::new(items);
        while let Some(before) = self.pieces.pop_if(|before| before.len() <= 2 * last.len()) {
            let mut joined = Arc::unwrap_or_clone(before);
            joined.extend_from_slice(&last);
            last = Arc::new(joined);
        }
        self.pieces.push(last);
    }

    pub(crate) fn into_vec(self) -> Vec<T> {
        self.pieces.iter().flat_map(|piece| piece.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Pile;

    #[test]
    fn copies_keep_what_they_had() {
        let mut pile = Pile::default();
        let mut copies = vec![];
        for n in 0..1000 {
            copies.push(pile.clone());
            pile.extend(vec![n]);
            assert!(pile.pieces.len() <= 10, "{} pieces of {n} items", pile.pieces.len());
        }
        for (n, copy) in copies.into_iter().enumerate() {
            assert_eq!(copy.len(), n);
            assert_eq!(copy.into_vec(), (0..n as i32).collect::<Vec<_>>());
        }
    }
}
