//! What a client is told when something fails: SQLSTATE, message, detail, hint, position.

use std::fmt;

/// An error in Postgres' terms. Made in this crate, printed by the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// SQLSTATE, five characters.
    pub code: &'static str,
    /// Primary message: lower case, no full stop.
    pub message: String,
    /// What exactly.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// Character position in the query text, from 1.
    pub position: Option<usize>,
    /// The same as line and column, from 1, until the session that has the text turns it into a position.
    pub(crate) place: Option<(u64, u64)>,
    /// Where it happened (`COPY t, line 3, column b: "x"`).
    pub context: Option<String>,
    /// The schema, table, column and constraint concerned.
    pub object: ErrorObject,
}

/// The object that an error is about, for drivers that show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorObject {
    /// Schema name.
    pub schema: Option<String>,
    /// Table name.
    pub table: Option<String>,
    /// Column name.
    pub column: Option<String>,
    /// Constraint name.
    pub constraint: Option<String>,
}

impl SqlError {
    /// An error with a code and a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> SqlError {
        SqlError {
            code,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            place: None,
            context: None,
            object: ErrorObject::default(),
        }
    }

    /// Adds a detail.
    pub fn with_detail(mut self, detail: impl Into<String>) -> SqlError {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a position, in characters from 1.
    pub fn at(mut self, position: usize) -> SqlError {
        self.position = Some(position);
        self
    }

    /// Adds the place of a node of the syntax tree.
    pub(crate) fn at_span(mut self, span: datafusion::sql::sqlparser::tokenizer::Span) -> SqlError {
        if span.start.line > 0 {
            self.place = Some((span.start.line, span.start.column));
        }
        self
    }

    /// Forgets the place: the text it is in is not the statement's.
    pub(crate) fn without_place(mut self) -> SqlError {
        self.place = None;
        self
    }

    /// Turns the place into a position in the query text.
    pub(crate) fn located_in(mut self, source: &str) -> SqlError {
        if let (None, Some((line, column))) = (self.position, self.place.take()) {
            self.position = crate::errors::character_position(source, line as usize, column as usize);
        }
        self
    }

    /// Adds a context line.
    pub fn with_context(mut self, context: impl Into<String>) -> SqlError {
        self.context = Some(context.into());
        self
    }

    /// Names the table concerned.
    pub fn on_table(mut self, table: &str) -> SqlError {
        self.object.table = Some(table.to_string());
        self
    }

    /// Names the column concerned.
    pub fn on_column(mut self, column: &str) -> SqlError {
        self.object.column = Some(column.to_string());
        self
    }

    /// Names the constraint concerned.
    pub fn on_constraint(mut self, constraint: &str) -> SqlError {
        self.object.constraint = Some(constraint.to_string());
        self
    }

    /// 42601, for text that does not parse.
    pub fn syntax(message: impl Into<String>) -> SqlError {
        SqlError::new("42601", message)
    }

    /// 0A000, for what Quire does not do (yet).
    pub fn unsupported(what: impl fmt::Display) -> SqlError {
        SqlError::new("0A000", format!("{what} is not supported"))
    }

    /// XX000: a bug.
    pub fn internal(message: impl Into<String>) -> SqlError {
        SqlError::new("XX000", message)
    }

    /// 25P02.
    pub fn aborted_block() -> SqlError {
        SqlError::new("25P02", "current transaction is aborted, commands ignored until end of transaction block")
    }

    /// 57014.
    pub fn cancelled() -> SqlError {
        SqlError::new("57014", "canceling statement due to user request")
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for SqlError {}
