use std::sync::Arc;

use bytes::Bytes;
use quire_types::TableDef;

use crate::copy::{CopyDecoder, CopyError};
use crate::session::Block;
use crate::txn::Transaction;
use crate::write::TableWriter;
use crate::{Session, SqlError};

/// Rows decoded before they are checked and handed to the writer: large enough to amortize, small enough to stay in the core's cache.
const BATCH_ROWS: usize = 16_384;
/// Likewise in bytes, for wide rows.
const BATCH_BYTES: usize = 8 << 20;

/// COPY FROM STDIN under way. Dropping it abandons the rows; nothing of them stays.
pub struct CopyIn {
    /// True for the binary format.
    pub binary: bool,
    /// Columns expected.
    pub columns: usize,
    table: Arc<TableDef>,
    /// Table positions of the columns sent.
    targets: Vec<usize>,
    decoder: CopyDecoder,
    writer: TableWriter,
    /// The transaction that the COPY is the whole of; `None` inside a block, whose transaction stays with the session.
    own: Option<Transaction>,
}

impl CopyIn {
    pub(crate) fn new(table: Arc<TableDef>, targets: Vec<usize>, binary: bool, decoder: CopyDecoder, writer: TableWriter) -> CopyIn {
        CopyIn { binary, columns: targets.len(), table, targets, decoder, writer, own: None }
    }

    pub(crate) fn owning(mut self, transaction: Transaction) -> CopyIn {
        self.own = Some(transaction);
        self
    }

    /// Takes a CopyData payload. Waits when encoding and uploading cannot keep up (back-pressure).
    /// After an error the rest of the client's data is to be discarded and the error sent.
    pub async fn push(&mut self, session: &mut Session, data: Bytes) -> Result<(), SqlError> {
        let result = self.take(session, &data).await;
        if result.is_err() {
            session.fail();
        }
        result
    }

    async fn take(&mut self, session: &Session, data: &[u8]) -> Result<(), SqlError> {
        self.decoder.push(data).map_err(|e| self.error(e))?;
        if self.decoder.buffered_rows() >= BATCH_ROWS || self.decoder.buffered_bytes() >= BATCH_BYTES {
            self.write(session).await?;
        }
        Ok(())
    }

    async fn write(&mut self, session: &Session) -> Result<(), SqlError> {
        let batch = self.decoder.take();
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let straight = self.targets.len() == self.table.columns.len() && self.targets.iter().enumerate().all(|(i, t)| i == *t);
        let rows = if straight { batch } else { session.complete(&self.table, &self.targets, &batch).await? };
        self.writer.push(rows).await
    }

    /// CopyDone: writes the rows (and commits when not in a block); gives the tag `COPY n`.
    pub async fn finish(self, session: &mut Session) -> Result<String, SqlError> {
        let result = self.complete(session).await;
        if result.is_err() {
            session.fail();
        }
        result
    }

    async fn complete(mut self, session: &mut Session) -> Result<String, SqlError> {
        self.decoder.finish().map_err(|e| self.error(e))?;
        self.write(session).await?;
        let CopyIn { table, writer, own, .. } = self;
        let rows = match own {
            Some(mut transaction) => {
                let rows = session.finish_write(&table, writer, "COPY FROM", &mut transaction).await?;
                session.commit(transaction).await?;
                rows
            }
            None => match std::mem::replace(&mut session.block, Block::Failed) {
                Block::Open(mut transaction) => {
                    let rows = session.finish_write(&table, writer, "COPY FROM", &mut transaction).await?;
                    session.block = Block::Open(transaction);
                    rows
                }
                Block::None | Block::Failed => return Err(SqlError::aborted_block()),
            },
        };
        Ok(format!("COPY {rows}"))
    }

    /// CopyFail or a lost client: 57014 'COPY from stdin failed: …'.
    pub fn abort(self, session: &mut Session, reason: &str) -> SqlError {
        session.fail();
        SqlError::new("57014", format!("COPY from stdin failed: {reason}"))
    }

    fn error(&self, error: CopyError) -> SqlError {
        SqlError::from(error).on_table(&self.table.name)
    }
}
