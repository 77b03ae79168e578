//! A connection's state, and which way each statement goes.

use std::sync::Arc;

use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    AlterIndexOperation, ObjectType, ResetStatement, Statement, TransactionAccessMode, TransactionIsolationLevel, TransactionMode,
};
use futures::FutureExt;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use quire_kit::{Shutdown, clock, task};
use quire_types::{Isolation, View};

use crate::catalog::ScopeCell;
use crate::changes_within::changes_within;
use crate::cursor::Cursors;
use crate::deferred::is_set_constraints;
use crate::define_index::DropOptions;
use crate::define_sequence::is_sequence_statement;
use crate::errors::{client_error, is_retryable, outcome_error};
use crate::lock::{Lock, has_locks, locking, without_locks};
use crate::names::split;
use crate::parse::is_copy_in;
use crate::plans::Plans;
use crate::prepare::Statements;
use crate::ready::Ready;
use crate::savepoint::Savepoint;
use crate::settings::{InForce, Settings, SharedSettings};
use crate::settled::is_kept;
use crate::temp::TempObjects;
use crate::turns::Turn;
use crate::txn::Transaction;
use crate::work::{Running, Work};
use crate::{
    Engine, Notice, OutputColumn, ParamValue, Parsed, Prepared, Response, Rows, SessionOptions, SqlError, TransactionStatus, WireType,
    bind, explain, parse, prepare, query, show,
};

/// Fresh snapshots that a single statement is tried on before its client is told of the conflict.
const ATTEMPTS_MAX: usize = 8;
/// A statement of more bytes may take long to plan, and does not keep a thread from others meanwhile.
const LONG_TEXT: usize = 4 << 10;

/// Cancels what a session is doing, from elsewhere. Cheap to clone.
#[derive(Clone, Default)]
pub struct CancelHandle {
    running: Arc<Mutex<Shutdown>>,
}

impl CancelHandle {
    /// The running statement, if any, ends with 57014 — in planning, in execution or while its rows are being sent.
    pub fn cancel(&self) {
        self.running.lock().trigger();
    }

    /// What the next statement listens to.
    fn renew(&self) -> Shutdown {
        let fresh = Shutdown::new();
        *self.running.lock() = fresh.clone();
        fresh
    }
}

/// Where the session stands with its transaction.
pub(crate) enum Block {
    /// Not in one.
    None,
    /// In one.
    Open(Box<Transaction>),
    /// In one that has failed: only its end, or a savepoint to go back to, is accepted.
    Failed,
}

/// What is to be run in a transaction.
#[derive(Clone)]
enum Job {
    Statement(Box<Statement>),
    /// A prepared statement that is ready.
    Ready {
        prepared: Arc<Prepared>,
        parameters: Vec<ParamValue>,
    },
}

/// One connection's state.
pub struct Session {
    pub(crate) engine: Arc<Engine>,
    pub(crate) context: SessionContext,
    pub(crate) cell: Arc<ScopeCell>,
    pub(crate) settings: SharedSettings,
    /// What the planner was last told of them.
    pub(crate) applied: Option<Arc<InForce>>,
    /// What ROLLBACK returns the settings to.
    settings_before_block: Option<Settings>,
    pub(crate) block: Block,
    /// Of the block, oldest first. They outlive its failure.
    pub(crate) savepoints: Vec<Savepoint>,
    /// A query string of several statements is under way, and no explicit block.
    pub(crate) implicit: bool,
    notices: Vec<Notice>,
    pub(crate) statements: Statements,
    pub(crate) cursors: Cursors,
    /// The text of the statement under way, for the positions in errors.
    pub(crate) source: Arc<str>,
    pub(crate) work: Running,
    cancel: CancelHandle,
    pub(crate) options: SessionOptions,
    pub(crate) plans: Plans,
    /// Its temporary tables, as of the last commit.
    pub(crate) temp: TempObjects,
}

impl Session {
    pub(crate) fn open(engine: Arc<Engine>, options: SessionOptions) -> Result<Session, SqlError> {
        let settings: SharedSettings = Arc::new(Mutex::new(Settings::new(&options.user, &options.parameters)?));
        let cell = ScopeCell::new(engine.source.clone()).of_session(settings.clone(), &options.user, options.backend_pid);
        let cell = Arc::new(cell.with_sequences(engine.sequences.clone()));
        let context = engine.planner(&cell).map_err(crate::errors::datafusion_error)?;
        let mut session = Session {
            context,
            cell,
            settings,
            applied: None,
            settings_before_block: None,
            block: Block::None,
            savepoints: vec![],
            implicit: false,
            notices: vec![],
            statements: Statements::new(),
            cursors: Cursors::new(),
            source: Arc::from(""),
            work: Running::default(),
            cancel: CancelHandle::default(),
            plans: Plans::new(engine.plan_room.clone()),
            engine,
            options,
            temp: TempObjects::default(),
        };
        session.apply_settings();
        Ok(session)
    }

    /// For CancelRequest.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// For ReadyForQuery.
    pub fn transaction_status(&self) -> TransactionStatus {
        match &self.block {
            Block::None => TransactionStatus::Idle,
            Block::Open(_) => TransactionStatus::InBlock,
            Block::Failed => TransactionStatus::Failed,
        }
    }

    /// ParameterStatus messages to send after authentication.
    pub fn parameters(&self) -> Vec<(String, String)> {
        self.settings.lock().reported()
    }

    /// ParameterStatus messages that have become due since the last call.
    pub fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        self.settings.lock().take_changes()
    }

    /// Notices that have become due since the last call; send them before the statement's CommandComplete.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// What the last statement cost. Ask once its rows have been sent: a plan counts while it runs.
    pub fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work).figures()
    }

    pub(crate) fn notice(&mut self, severity: &'static str, code: &'static str, message: impl Into<String>) {
        if !self.settings.lock().tells(severity) {
            return;
        }
        self.notices.push(Notice { severity, code, message: message.into(), detail: None, hint: None });
    }

    pub(crate) fn notice_with_detail(&mut self, severity: &'static str, code: &'static str, message: String, detail: String) {
        if self.settings.lock().tells(severity) {
            self.notices.push(Notice { severity, code, message, detail: Some(detail), hint: None });
        }
    }

    /// Splits a query string into statements. 42601 with a position when it does not parse (and then the session is failed if in a block).
    pub fn parse(&mut self, sql: &str) -> Result<Vec<Parsed>, SqlError> {
        let parsed = if sql.len() > LONG_TEXT { task::aside_now(|| parse::parse(sql)) } else { parse::parse(sql) };
        if parsed.is_err() {
            self.fail();
        }
        parsed
    }

    /// Analyses a statement that will have that name; `parameters` are the types the client fixed (`None`: to be inferred).
    pub async fn prepare(&mut self, name: &str, statement: Parsed, parameters: &[Option<WireType>]) -> Result<Arc<Prepared>, SqlError> {
        if matches!(self.block, Block::Failed) && !leaves_failure(&statement.statement) {
            return Err(SqlError::aborted_block());
        }
        self.source = statement.source.clone();
        let is_long = self.source.len() > LONG_TEXT;
        let analysed = Box::pin(self.analyse(name, statement, parameters));
        let prepared = if is_long { task::aside(analysed).await } else { analysed.await };
        if prepared.is_err() {
            self.fail();
        }
        prepared.map(Arc::new).map_err(|e| self.located(e))
    }

    /// Likewise. One without a name is run at once: what it says of `now` is of then.
    pub(crate) async fn analyse(
        &mut self,
        name: &str,
        mut statement: Parsed,
        parameters: &[Option<WireType>],
    ) -> Result<Prepared, SqlError> {
        if let Statement::Prepare { .. } = &statement.statement {
            // Its $n are those of the statement within.
            return Ok(Prepared { statement, parameters: vec![], columns: None, ready: None });
        }
        self.enter_scope().await?;
        if !name.is_empty() {
            self.settle(&mut statement.statement, &self.home())?;
        }
        let mut resolved = self.resolve(statement.statement.clone())?;
        let locks = has_locks(&resolved);
        without_locks(&mut resolved);
        let parameters = bind::parameter_types(self, &resolved, parameters).await?;
        let columns = Box::pin(self.result_columns(&resolved, &parameters)).await?;
        let ready = if locks { None } else { Ready::of(self, &resolved, &parameters, columns.as_ref()) };
        Ok(Prepared { statement, parameters, columns, ready })
    }

    /// An error with its position in the text of the statement under way.
    fn located(&self, error: SqlError) -> SqlError {
        error.located_in(&self.source)
    }

    async fn result_columns(&self, statement: &Statement, parameters: &[WireType]) -> Result<Option<Arc<Vec<OutputColumn>>>, SqlError> {
        Ok(match statement {
            Statement::Query(query) if !changes_within(query).is_empty() => {
                let Statement::Query(query) = bind::with_nulls(statement.clone(), parameters) else { return Ok(None) };
                Box::pin(self.columns_within(&query)).await?
            }
            Statement::Query(_) => {
                let nulls = bind::with_nulls(statement.clone(), parameters);
                Some(query::plan(&self.context, nulls).await?.columns)
            }
            Statement::Insert(insert) => match self.insert_returning(insert)? {
                Some(returning) => Some(self.returning_columns(returning).await?),
                None => None,
            },
            Statement::Update(update) => Box::pin(self.change_columns(self.plan_update(update.clone())?, parameters)).await?,
            Statement::Delete(delete) => Box::pin(self.change_columns(self.plan_delete(delete.clone())?, parameters)).await?,
            Statement::ShowVariable { variable } => Some(Arc::new(show::columns(variable))),
            Statement::Execute { name: Some(name), .. } => {
                self.statement_named(&split(name)?.1)?.and_then(|prepared| prepared.columns.clone())
            }
            Statement::Fetch { name, into: None, .. } => Some(self.cursor(name)?.columns.clone()),
            Statement::Explain { .. } => Some(Arc::new(explain::columns())),
            _ => None,
        })
    }

    /// Runs a statement with its parameters. Errors have already failed the transaction block, if in one.
    pub async fn execute(&mut self, prepared: &Arc<Prepared>, parameters: Vec<ParamValue>) -> Result<Response, SqlError> {
        let source = prepared.statement.source.clone();
        if prepared.ready.is_some() {
            return self.run_job(Job::Ready { prepared: prepared.clone(), parameters }, source).await;
        }
        let bound = bind::with_values(prepared.statement.statement.clone(), &prepared.parameters, &parameters)?;
        self.run_job(Job::Statement(Box::new(bound)), source).await
    }

    /// `prepare` and `execute` in one, for the simple protocol.
    pub async fn run(&mut self, statement: Parsed) -> Result<Response, SqlError> {
        self.run_job(Job::Statement(Box::new(statement.statement)), statement.source).await
    }

    async fn run_job(&mut self, job: Job, source: Arc<str>) -> Result<Response, SqlError> {
        self.work = Running::default();
        let is_long = source.len() > LONG_TEXT;
        self.source = source;
        self.begin_statement();
        let cancel = self.cancel.renew();
        let deadline = self.in_force().statement_timeout.map(|t| clock::now() + t);
        let work = match job {
            Job::Statement(statement) => self.dispatch(*statement).boxed(),
            Job::Ready { .. } => self.in_transaction(job).boxed(),
        };
        let work = if is_long { task::aside(work).boxed() } else { work };
        let response = tokio::select! {
            response = work => response,
            error = interruption(cancel.clone(), deadline) => Err(error),
        };
        match response {
            Ok(response) => Ok(interruptible(response, cancel, deadline)),
            Err(error) => {
                self.fail();
                Err(self.located(error))
            }
        }
    }

    /// What functions of the statement before changed takes effect; what they changed for its transaction alone ends.
    fn begin_statement(&mut self) {
        self.cell.begin_statement();
        if matches!(self.block, Block::None) {
            self.settings.lock().end_local();
            self.cell.locks.lock().forget();
        }
        self.apply_settings();
    }

    /// The simple protocol's query string holds several statements: they are one transaction unless they say otherwise.
    pub fn begin_implicit(&mut self) {
        self.implicit = matches!(self.block, Block::None);
    }

    /// Ends what [`Session::begin_implicit`] began: commits, or rolls back when a statement failed. Nothing to do when an explicit block took over.
    pub async fn end_implicit(&mut self) -> Result<(), SqlError> {
        if !std::mem::take(&mut self.implicit) {
            return Ok(());
        }
        self.cursors.clear();
        match std::mem::replace(&mut self.block, Block::None) {
            Block::Open(transaction) => self.commit(*transaction).await,
            Block::None | Block::Failed => Ok(()),
        }
    }

    /// A result stream ended with an error: fails the transaction block, if in one.
    pub fn fail(&mut self) {
        if matches!(self.block, Block::Open(_)) {
            self.block = Block::Failed;
        }
    }

    /// The client is gone: rolls back.
    pub fn close(&mut self) {
        self.block = Block::None;
        self.savepoints.clear();
        self.cancel.cancel();
    }

    async fn dispatch(&mut self, statement: Statement) -> Result<Response, SqlError> {
        if matches!(self.block, Block::Failed) && !leaves_failure(&statement) {
            return Err(SqlError::aborted_block());
        }
        match statement {
            Statement::StartTransaction { modes, .. } => self.begin(&modes).await,
            Statement::Commit { chain, .. } => self.end(true, chain).await,
            Statement::Rollback { savepoint: None, chain } => self.end(false, chain).await,
            Statement::Rollback { savepoint: Some(name), .. } => self.rollback_to(&name),
            Statement::Savepoint { name } => self.savepoint(&name).await,
            Statement::ReleaseSavepoint { name } => self.release(&name),
            Statement::Set(set) => self.set(set),
            Statement::Reset(ResetStatement { reset }) => self.reset(&reset),
            Statement::Discard { object_type } => self.discard(&object_type),
            Statement::Prepare { name, data_types, statement } => Box::pin(self.prepare_named(&name, &data_types, *statement)).await,
            Statement::Execute { name: Some(name), parameters, immediate: false, .. } => {
                if let Some((prepared, parameters)) = self.ready_for(&name, &parameters)? {
                    return self.in_transaction(Job::Ready { prepared, parameters }).await;
                }
                let statement = self.executed(&name, parameters)?;
                Box::pin(self.dispatch(statement)).await
            }
            Statement::Deallocate { name, .. } => self.deallocate(&name),
            Statement::Declare { .. } if !matches!(self.block, Block::Open(_)) || self.implicit => {
                Err(SqlError::new("25P01", "DECLARE CURSOR can only be used in transaction blocks"))
            }
            Statement::Fetch { name, direction, into, .. } => self.fetch(&name, &direction, into.as_ref()).await,
            Statement::Close { cursor } => self.close_cursor(&cursor),
            Statement::UNLISTEN { .. } => Ok(Response::Complete("UNLISTEN".into())),
            Statement::Lock(_) if !matches!(self.block, Block::Open(_)) => {
                Err(SqlError::new("25P01", "LOCK TABLE can only be used in transaction blocks"))
            }
            Statement::ShowVariable { variable } => show::variable(self, &variable),
            Statement::Call(function) if is_set_constraints(&function) && !matches!(self.block, Block::Open(_)) => {
                self.notice("WARNING", "25P01", "SET CONSTRAINTS can only be used in transaction blocks");
                Ok(Response::Complete("SET CONSTRAINTS".into()))
            }
            other => self.in_transaction(Job::Statement(Box::new(other))).await,
        }
    }

    /// Runs a statement in the open block, or in a transaction of its own that is retried while it loses to others.
    async fn in_transaction(&mut self, job: Job) -> Result<Response, SqlError> {
        if matches!(self.block, Block::Failed) {
            return Err(SqlError::aborted_block());
        }
        if self.implicit && matches!(self.block, Block::None) {
            let view = self.snapshot().await?;
            self.block = Block::Open(Box::new(self.new_transaction(view)));
        }
        if let Block::Open(_) = &self.block {
            let Block::Open(mut transaction) = std::mem::replace(&mut self.block, Block::Failed) else { unreachable!("just matched") };
            if transaction.isolation == Isolation::ReadCommitted || !transaction.queried {
                if let Some(turn) = self.turn(&job, Some(&transaction)).await {
                    transaction.keep_turn(turn);
                }
                let at_hand = match &job {
                    Job::Ready { prepared, parameters } if transaction.queried => {
                        prepared.ready.as_ref().and_then(|ready| self.view_at_hand(ready, parameters, &transaction))
                    }
                    _ => None,
                };
                match at_hand {
                    Some(view) => transaction.borrow(view)?,
                    None => transaction.refresh(self.snapshot().await?)?,
                }
                transaction.queried = true;
            }
            self.cell.set(transaction.scope());
            let response = self.step(job, &mut transaction).await?;
            self.block = Block::Open(transaction);
            return Ok(response);
        }
        let _turn = self.turn(&job, None).await;
        let mut early = match &job {
            Job::Ready { prepared, .. } => prepared.ready.as_ref().and_then(|ready| self.early_view(ready)),
            Job::Statement(_) => None,
        };
        let mut attempt = 1;
        loop {
            let is_early = early.is_some();
            let view = match early.take() {
                Some(view) => view,
                None => self.snapshot().await?,
            };
            let mut transaction = self.new_transaction(view.clone());
            if is_early {
                transaction.borrow(view)?;
            }
            self.cell.set(transaction.scope());
            // COPY FROM STDIN commits when its data has come: it cannot be run again from here.
            let streams = matches!(&job, Job::Statement(statement) if is_copy_in(statement));
            let result = match self.step(job.clone(), &mut transaction).await {
                Ok(Response::CopyIn(copy)) => return Ok(Response::CopyIn(Box::new(copy.owning(transaction)))),
                Ok(response) => self.commit(transaction).await.map(|()| response),
                Err(error) => Err(error),
            };
            match result {
                Err(error) if is_early && !matches!(error.code, "08007" | "53100" | "58030") => {
                    tracing::debug!(%error, "statement failed on the latest snapshot, trying again on a fresh one");
                    self.notices.clear();
                }
                Err(error) if is_retryable(&error) && attempt < ATTEMPTS_MAX && !streams => {
                    tracing::debug!(attempt, %error, "statement lost to another transaction, trying again on a fresh snapshot");
                    self.notices.clear();
                    attempt += 1;
                    self.work.retries += 1;
                }
                result => return result,
            }
        }
    }

    /// The turn with the row that a statement changes, if it says which and the transaction has not got it. To be had before its snapshot.
    async fn turn(&self, job: &Job, transaction: Option<&Transaction>) -> Option<Turn> {
        let Job::Ready { prepared, parameters } = job else { return None };
        let row = prepared.ready.as_ref()?.changed_row(parameters)?;
        if transaction.is_some_and(|transaction| transaction.has_turn(row)) {
            return None;
        }
        self.engine.turns.wait(row).await
    }

    async fn step(&mut self, job: Job, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let statement = match job {
            Job::Statement(statement) => *statement,
            Job::Ready { prepared, parameters } => {
                if let Some(ready) = &prepared.ready
                    && let Some(response) = Box::pin(self.run_ready(ready, &parameters, transaction)).await?
                {
                    return Ok(response);
                }
                // It goes the way of all statements, on a snapshot of its own.
                if transaction.is_at_hand() {
                    transaction.refresh(self.snapshot().await?)?;
                    self.cell.set(transaction.scope());
                }
                bind::with_values(prepared.statement.statement.clone(), &prepared.parameters, &parameters)?
            }
        };
        Box::pin(self.statement(statement, transaction)).await
    }

    async fn statement(&mut self, statement: Statement, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let mut statement = self.resolve(statement)?;
        if is_kept(&statement) {
            self.settle(&mut statement, &self.statement_home())?;
        }
        let locks = self.take_locks(&mut statement, transaction)?;
        if let Some(name) = prepare::parameter_in(&statement) {
            return Err(SqlError::new("42P02", format!("there is no parameter {name}")));
        }
        match statement {
            Statement::Query(query) if !changes_within(&query).is_empty() => Box::pin(self.change_within(*query, transaction)).await,
            Statement::Query(_) => self.select(statement, locks).await,
            Statement::Declare { stmts } => self.declare(stmts, locks).await,
            Statement::Lock(lock) => self.lock_tables(&lock, transaction),
            Statement::Call(function) if is_set_constraints(&function) => Box::pin(self.set_constraints(&function, transaction)).await,
            Statement::Call(function) if is_sequence_statement(&function) => self.define_sequence(&function, transaction),
            Statement::Call(function) if function.to_string().eq_ignore_ascii_case("checkpoint()") => {
                // What is acknowledged is durable: there is nothing to flush.
                Ok(Response::Complete("CHECKPOINT".into()))
            }
            Statement::Explain { .. } => explain::explain(self, statement, transaction).await,
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => {
                let written = self.change(statement, None, transaction).await?;
                self.written(written).await
            }
            Statement::Copy { source, to, target, options, legacy_options, .. } => {
                Box::pin(self.copy(source, to, target, options, legacy_options, transaction)).await
            }
            Statement::CreateTable(create) => Box::pin(self.create_table(create, transaction)).await,
            Statement::CreateIndex(create) => Box::pin(self.create_index(create, transaction)).await,
            Statement::CreateView(create) => self.create_view(create, transaction).await,
            Statement::CreateSchema { schema_name, if_not_exists, .. } => self.create_schema(&schema_name, if_not_exists, transaction),
            Statement::Drop { object_type, if_exists, names, cascade, table, .. } => match object_type {
                ObjectType::Index => self.drop_indexes(&names, table.as_ref(), DropOptions { if_exists, cascade }, transaction),
                ObjectType::Table => self.drop_tables(&names, if_exists, cascade, transaction),
                ObjectType::View => self.drop_views(&names, if_exists, cascade, transaction),
                ObjectType::Schema => self.drop_schemas(&names, if_exists, cascade, transaction),
                ObjectType::Sequence => self.drop_sequences(&names, if_exists, cascade, transaction),
                other => Err(SqlError::unsupported(format!("DROP {other}"))),
            },
            Statement::AlterTable(alter) => Box::pin(self.alter_table(alter, transaction)).await,
            Statement::AlterIndex { name, operation: AlterIndexOperation::RenameIndex { index_name } } => {
                self.alter_index(&name, &index_name, transaction)
            }
            Statement::Comment { object_type, object_name, comment, if_exists: false } => {
                self.comment_on(object_type, &object_name, comment, transaction)
            }
            Statement::Truncate(truncate) => self.truncate(&truncate, transaction),
            Statement::Analyze(analyze) => self.analyze(&analyze),
            Statement::Vacuum(vacuum) => self.vacuum(vacuum.table_name.as_ref()),
            other => {
                let text = other.to_string();
                let words: Vec<&str> = text.split_whitespace().take(2).collect();
                Err(SqlError::unsupported(words.join(" ")))
            }
        }
    }

    /// A query whose last columns are the ids of the rows to lock.
    async fn select(&mut self, statement: Statement, locks: Vec<Arc<Lock>>) -> Result<Response, SqlError> {
        if let Some(response) = self.select_row(&statement).await? {
            return Ok(response);
        }
        // A statement that locks is not worth the keeping: the locks have numbers.
        let (query, physical) = match locks.is_empty() {
            true => Box::pin(self.planned(statement)).await?,
            false => Box::pin(query::plan_and_optimize(&self.context, statement)).await?.into_parts(),
        };
        let stream = query::run(&self.context, &query, physical.clone())?;
        self.work.plan = Some(physical);
        let columns = query.columns_before(locks.len());
        Ok(Response::Rows(self.rows(columns, locking(stream, locks), "SELECT", true)))
    }

    /// A plan's output as a response.
    pub(crate) fn rows(
        &self,
        columns: Arc<Vec<OutputColumn>>,
        stream: datafusion::physical_plan::SendableRecordBatchStream,
        tag: &'static str,
        counted: bool,
    ) -> Rows {
        let shape = columns.clone();
        let zone = self.in_force().time_zone.clone();
        let stream = stream.map(move |batch| match batch {
            Ok(batch) => query::to_wire(&batch, &shape, &zone),
            Err(error) => Err(crate::errors::datafusion_error(error)),
        });
        Rows { columns, stream: stream.boxed(), tag, counted }
    }

    // --- transactions -------------------------------------------------------------------------

    pub(crate) async fn snapshot(&self) -> Result<Arc<View>, SqlError> {
        self.engine.client.snapshot().await.map_err(client_error)
    }

    /// Puts the statement to be analysed into the scope it will run in (or one like it).
    async fn enter_scope(&mut self) -> Result<(), SqlError> {
        match &mut self.block {
            Block::Open(transaction) if transaction.isolation == Isolation::ReadCommitted || !transaction.queried => {
                let view = self.engine.client.snapshot().await.map_err(client_error)?;
                transaction.refresh(view)?;
                self.cell.set(transaction.scope());
            }
            Block::Open(transaction) => self.cell.set(transaction.scope()),
            Block::None | Block::Failed => {
                let view = self.snapshot().await?;
                let transaction = self.new_transaction(view);
                self.cell.set(transaction.scope());
            }
        }
        Ok(())
    }

    fn new_transaction(&self, view: Arc<View>) -> Transaction {
        let set = self.in_force();
        Transaction::begin(view, set.isolation, set.read_only, self.cell.statement_began()).with_temp(&self.temp)
    }

    async fn begin(&mut self, modes: &[TransactionMode]) -> Result<Response, SqlError> {
        match &mut self.block {
            Block::Open(transaction) if self.implicit => {
                apply_modes(transaction, modes, false)?;
                self.implicit = false;
            }
            Block::Open(_) => self.notice("WARNING", "25001", "there is already a transaction in progress"),
            Block::None | Block::Failed => {
                // The first statement takes a snapshot of its own.
                let view = match self.engine.client.known_view() {
                    Some(view) => view,
                    None => self.snapshot().await?,
                };
                let mut transaction = self.new_transaction(view);
                // Refused modes leave no block behind.
                apply_modes(&mut transaction, modes, false)?;
                self.open_block(transaction);
            }
        }
        Ok(Response::Complete("BEGIN".into()))
    }

    fn open_block(&mut self, transaction: Transaction) {
        self.implicit = false;
        self.block = Block::Open(Box::new(transaction));
        self.settings_before_block = Some(self.settings.lock().clone());
    }

    pub(crate) fn set_modes(&mut self, modes: &[TransactionMode]) -> Result<(), SqlError> {
        match &mut self.block {
            Block::Open(transaction) => apply_modes(transaction, modes, !self.savepoints.is_empty()),
            Block::None | Block::Failed => {
                self.notice("WARNING", "25P01", "SET TRANSACTION can only be used in transaction blocks");
                Ok(())
            }
        }
    }

    async fn end(&mut self, commit: bool, chain: bool) -> Result<Response, SqlError> {
        let word = if commit { "COMMIT" } else { "ROLLBACK" };
        if chain && (self.implicit || matches!(self.block, Block::None)) {
            return Err(SqlError::new("25P01", format!("{word} AND CHAIN can only be used in transaction blocks")));
        }
        self.implicit = false;
        self.cursors.clear();
        self.savepoints.clear();
        let before = self.settings_before_block.take();
        let modes = match &self.block {
            Block::Open(transaction) => Some((transaction.isolation, transaction.read_only)),
            Block::None | Block::Failed => None,
        };
        let tag = match std::mem::replace(&mut self.block, Block::None) {
            Block::Open(transaction) if commit => {
                if let Err(error) = self.commit(*transaction).await {
                    self.restore_settings(before);
                    return Err(error);
                }
                self.settings.lock().end_local();
                self.apply_settings();
                "COMMIT"
            }
            Block::None => {
                self.notice("WARNING", "25P01", "there is no transaction in progress");
                word
            }
            Block::Open(_) | Block::Failed => {
                self.restore_settings(before);
                "ROLLBACK"
            }
        };
        if chain {
            let view = self.snapshot().await?;
            let mut transaction = self.new_transaction(view);
            if let Some((isolation, read_only)) = modes {
                transaction.isolation = isolation;
                transaction.read_only = read_only;
            }
            self.open_block(transaction);
        }
        Ok(Response::Complete(tag.into()))
    }

    fn restore_settings(&mut self, before: Option<Settings>) {
        if let Some(before) = before {
            self.settings.lock().restore(before);
            self.apply_settings();
        }
    }

    pub(crate) async fn commit(&mut self, mut transaction: Transaction) -> Result<(), SqlError> {
        if transaction.deferred.is_waiting() {
            Box::pin(self.check_deferred(None, &mut transaction)).await?;
        }
        let temp = transaction.temp();
        if !transaction.has_changes() {
            self.temp = temp;
            return Ok(());
        }
        let catalog = transaction.catalog().clone();
        let _turns = transaction.turns();
        transaction.settle_sequences(&self.cell.own_sequences().lock());
        let outcome = self.engine.client.commit(transaction.into_commit()?).await.map_err(client_error)?;
        match outcome.committed() {
            Some(_) => {
                self.temp = temp;
                Ok(())
            }
            None => Err(outcome_error(&outcome, |id| catalog.tables.get(&id).cloned())),
        }
    }
}

/// Changes a transaction's modes. What it has read cannot be certified afterwards, so they are said before it reads.
fn apply_modes(transaction: &mut Transaction, modes: &[TransactionMode], in_savepoint: bool) -> Result<(), SqlError> {
    let too_late = |message: &str| Err(SqlError::new("25001", message));
    for mode in modes {
        match mode {
            TransactionMode::IsolationLevel(level) => {
                let level = match level {
                    TransactionIsolationLevel::Serializable => Isolation::Serializable,
                    TransactionIsolationLevel::RepeatableRead | TransactionIsolationLevel::Snapshot => Isolation::RepeatableRead,
                    TransactionIsolationLevel::ReadCommitted | TransactionIsolationLevel::ReadUncommitted => Isolation::ReadCommitted,
                };
                if level != transaction.isolation && in_savepoint {
                    return too_late("SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction");
                }
                if level != transaction.isolation && transaction.queried {
                    return too_late("SET TRANSACTION ISOLATION LEVEL must be called before any query");
                }
                transaction.isolation = level;
            }
            TransactionMode::AccessMode(mode) => {
                let read_only = *mode == TransactionAccessMode::ReadOnly;
                if transaction.read_only && !read_only && transaction.queried {
                    return too_late("transaction read-write mode must be set before any query");
                }
                transaction.read_only = read_only;
            }
        }
    }
    Ok(())
}

/// What a failed block accepts: its end, and going back to before the failure.
fn leaves_failure(statement: &Statement) -> bool {
    matches!(statement, Statement::Commit { .. } | Statement::Rollback { .. })
}

/// Completes when the statement is to stop, with the error that says why.
async fn interruption(cancel: Shutdown, deadline: Option<clock::Instant>) -> SqlError {
    let timeout = async {
        match deadline {
            Some(deadline) => clock::sleep(deadline.saturating_duration_since(clock::now())).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = cancel.triggered() => SqlError::cancelled(),
        () = timeout => SqlError::new("57014", "canceling statement due to statement timeout"),
    }
}

/// Makes a response's stream end with an error when the statement is cancelled or out of time.
fn interruptible(response: Response, cancel: Shutdown, deadline: Option<clock::Instant>) -> Response {
    match response {
        Response::Rows(mut rows) => {
            rows.stream = until_interrupted(rows.stream, cancel, deadline);
            Response::Rows(rows)
        }
        Response::CopyOut(mut copy) => {
            copy.stream = until_interrupted(copy.stream, cancel, deadline);
            Response::CopyOut(copy)
        }
        other => other,
    }
}

fn until_interrupted<T: Send + 'static>(
    inner: stream::BoxStream<'static, Result<T, SqlError>>,
    cancel: Shutdown,
    deadline: Option<clock::Instant>,
) -> stream::BoxStream<'static, Result<T, SqlError>> {
    let interruption = Box::pin(interruption(cancel, deadline));
    stream::unfold(Some((inner, interruption)), |state| async move {
        let (mut inner, mut interruption) = state?;
        tokio::select! {
            biased;
            error = &mut interruption => Some((Err(error), None)),
            item = inner.next() => match item? {
                Ok(item) => Some((Ok(item), Some((inner, interruption)))),
                Err(error) => Some((Err(error), None)),
            },
        }
    })
    .boxed()
}
