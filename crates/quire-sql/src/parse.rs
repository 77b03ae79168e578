//! SQL text to statements.

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{CopySource, CopyTarget, Statement};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use crate::errors::parser_error;
use crate::{SqlError, nesting, syntax, system_query};

/// Characters of SQL text in logs.
const LOGGED_CHARACTERS: usize = 500;

/// One statement of a query string.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Its syntax tree.
    pub(crate) statement: Statement,
    /// The query string it came from, for positions in errors.
    pub(crate) source: std::sync::Arc<str>,
}

impl Parsed {
    /// The statement's text, shortened, for logs.
    pub fn summary(&self) -> String {
        let text = self.source.trim();
        match text.char_indices().nth(LOGGED_CHARACTERS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_string(),
        }
    }
}

/// Splits a query string. 42601 when it does not parse, 54001 when it is nested too deeply.
pub(crate) fn parse(sql: &str) -> Result<Vec<Parsed>, SqlError> {
    let mut tokens = match syntax::tokens(sql) {
        Ok(tokens) => tokens.map_err(|e| e.located_in(sql))?,
        Err(error) => return Err(parser_error(&ParserError::from(error), sql)),
    };
    nesting::check(&tokens)?;
    if copies_from_stdin(&tokens) && tokens.last().is_some_and(|t| t.token != Token::SemiColon) {
        // The parser wants inline data to follow; drivers send the bare statement.
        tokens.push(TokenWithSpan { token: Token::SemiColon, span: Span::empty() });
    }
    let mut parser = Parser::new(&PgDialect).with_recursion_limit(nesting::PARSER_LEVELS).with_tokens_with_locations(tokens);
    let statements = parser.parse_statements().map_err(|e| parser_error(&e, sql))?;
    let source: std::sync::Arc<str> = sql.into();
    Ok(statements
        .into_iter()
        .map(|statement| Parsed { statement: system_query::rewrite(statement, sql), source: source.clone() })
        .collect())
}

fn copies_from_stdin(tokens: &[TokenWithSpan]) -> bool {
    let is = |t: &TokenWithSpan, word: Keyword| matches!(&t.token, Token::Word(w) if w.keyword == word);
    tokens.first().is_some_and(|t| is(t, Keyword::COPY)) && tokens.iter().any(|t| is(t, Keyword::STDIN))
}

/// Whether a statement reads from the client.
pub(crate) fn is_copy_in(statement: &Statement) -> bool {
    matches!(statement, Statement::Copy { source: CopySource::Table { .. }, to: false, target: CopyTarget::Stdin, .. })
}
