//! One partition of what a shared part gives: which batches are kept, and for whom. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SpillFile;

/// Batches made before the fastest reader asks for them: so many that it seldom waits, so few that a LIMIT above wastes little.
const AHEAD_BATCHES: usize = 4;

/// A batch, where it is.
#[derive(Clone)]
pub(super) enum Kept {
    Memory {
        batch: RecordBatch,
        /// Reserved for it.
        bytes: usize,
    },
    /// The batch at `place` in a file.
    File { file: Arc<dyn SpillFile>, place: usize },
}

/// Where a reader is.
#[derive(Clone, Copy)]
enum Reader {
    /// It may come later: everything is kept for it.
    Expected,
    /// The position of the batch that it reads next.
    At(usize),
    Gone,
}

/// How it ended.
enum End {
    Complete,
    Failed(Arc<DataFusionError>),
}

/// Batches from the first that a reader still needs to the last that was made. Positions count from the first ever made.
pub(super) struct Batches {
    kept: VecDeque<Kept>,
    /// Batches before those in `kept`.
    dropped: usize,
    readers: Vec<Reader>,
    end: Option<End>,
}

impl Batches {
    pub(super) fn new(readers: usize) -> Batches {
        Batches { kept: VecDeque::new(), dropped: 0, readers: vec![Reader::Expected; readers], end: None }
    }

    /// The reader comes. False when it has been here before.
    pub(super) fn begin(&mut self, reader: usize) -> bool {
        let expected = matches!(self.readers[reader], Reader::Expected);
        if expected {
            self.readers[reader] = Reader::At(0);
        }
        expected
    }

    /// The reader has what is before `position`. Gives the bytes of memory that are no longer needed.
    pub(super) fn advance(&mut self, reader: usize, position: usize) -> usize {
        self.readers[reader] = Reader::At(position);
        self.drop_read()
    }

    /// The reader wants no more. Gives the bytes of memory that are no longer needed.
    pub(super) fn leave(&mut self, reader: usize) -> usize {
        self.readers[reader] = Reader::Gone;
        self.drop_read()
    }

    fn drop_read(&mut self) -> usize {
        let needed = self.readers.iter().map(|reader| match reader {
            Reader::Expected => 0,
            Reader::At(position) => *position,
            Reader::Gone => usize::MAX,
        });
        let needed = needed.min().unwrap_or(usize::MAX);
        let mut freed = 0;
        while self.dropped < needed
            && let Some(kept) = self.kept.pop_front()
        {
            self.dropped += 1;
            if let Kept::Memory { bytes, .. } = kept {
                freed += bytes;
            }
        }
        freed
    }

    /// Batches made so far.
    fn made(&self) -> usize {
        self.dropped + self.kept.len()
    }

    /// Whether there is an answer for a reader at `position`.
    pub(super) fn ready(&self, position: usize) -> bool {
        position < self.made() || self.end.is_some()
    }

    /// The batch at `position`, which no reader has left behind; `None` after the last.
    pub(super) fn at(&self, position: usize) -> Result<Option<Kept>> {
        assert!(position >= self.dropped, "a batch is kept until its last reader has it");
        match (self.kept.get(position - self.dropped), &self.end) {
            (Some(kept), _) => Ok(Some(kept.clone())),
            (None, Some(End::Failed(error))) => Err(DataFusionError::Shared(error.clone())),
            (None, _) => Ok(None),
        }
    }

    /// Whether somebody reads now.
    pub(super) fn is_read(&self) -> bool {
        self.readers.iter().any(|reader| matches!(reader, Reader::At(_)))
    }

    /// Whether nobody reads, and nobody will.
    pub(super) fn is_abandoned(&self) -> bool {
        self.readers.iter().all(|reader| matches!(reader, Reader::Gone))
    }

    /// Whether the next batch should be made now: a reader is about to need it. One that waits always gets the next, so readers wait
    /// for each other no more than they would for inputs of their own.
    pub(super) fn is_wanted(&self) -> bool {
        let made = self.made();
        self.readers.iter().any(|reader| matches!(reader, Reader::At(position) if position + AHEAD_BATCHES > made))
    }

    /// Appends a batch. Gives the bytes of memory that are not needed, as when all readers have left.
    pub(super) fn push(&mut self, kept: Kept) -> usize {
        self.kept.push_back(kept);
        self.drop_read()
    }

    /// Position of the first batch in memory, and the batches in memory: the last ones.
    pub(super) fn in_memory(&self) -> (usize, Vec<RecordBatch>) {
        let in_memory = self.kept.iter().filter_map(|kept| match kept {
            Kept::Memory { batch, .. } => Some(batch.clone()),
            Kept::File { .. } => None,
        });
        let in_memory: Vec<RecordBatch> = in_memory.collect();
        (self.made() - in_memory.len(), in_memory)
    }

    /// The batches from `first` on are in `file` now, and one more after them. Gives the bytes of memory that are no longer needed.
    pub(super) fn moved(&mut self, first: usize, file: &Arc<dyn SpillFile>) -> usize {
        let mut freed = 0;
        for position in first.max(self.dropped)..self.made() {
            let in_file = Kept::File { file: file.clone(), place: position - first };
            if let Kept::Memory { bytes, .. } = std::mem::replace(&mut self.kept[position - self.dropped], in_file) {
                freed += bytes;
            }
        }
        let place = self.made() - first;
        freed + self.push(Kept::File { file: file.clone(), place })
    }

    /// Nothing follows. Only the first end counts.
    pub(super) fn finish(&mut self, result: Result<()>) {
        if self.end.is_none() {
            self.end = Some(match result {
                Ok(()) => End::Complete,
                Err(error) => End::Failed(Arc::new(error)),
            });
        }
    }
}
