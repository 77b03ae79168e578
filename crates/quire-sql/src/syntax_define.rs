//! Indexes and comments in the parser's spelling.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::SqlError;
use crate::syntax::{at, is_word, keyword, word};

/// DROP INDEX CONCURRENTLY x becomes DROP INDEX x ON this, which Postgres has not.
pub(crate) const CONCURRENTLY: &str = "quire:concurrently";
/// ALTER INDEX IF EXISTS x RENAME TO y becomes RENAME TO this.y.
pub(crate) const IF_EXISTS: &str = "quire:if_exists";
/// COMMENT ON CONSTRAINT c ON t becomes COMMENT ON COLUMN this.t.c.
pub(crate) const CONSTRAINT: &str = "quire:constraint";

/// What else Postgres has comments on, by its first word.
const NOT_COMMENTED: [&str; 30] = [
    "ACCESS",
    "AGGREGATE",
    "CAST",
    "COLLATION",
    "CONVERSION",
    "DOMAIN",
    "EVENT",
    "EXTENSION",
    "FOREIGN",
    "FUNCTION",
    "LANGUAGE",
    "LARGE",
    "MATERIALIZED",
    "OPERATOR",
    "POLICY",
    "PROCEDURAL",
    "PROCEDURE",
    "PUBLICATION",
    "ROLE",
    "ROUTINE",
    "RULE",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "TABLESPACE",
    "TEXT",
    "TRANSFORM",
    "TRIGGER",
    "TRUSTED",
    "TYPE",
];

/// The statement in the parser's spelling, when it is one of these.
pub(crate) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, SqlError> {
    match keyword(tokens.first()) {
        Keyword::CREATE => create_index(&mut tokens),
        Keyword::DROP => drop_index(&mut tokens),
        Keyword::ALTER => alter_index(&mut tokens),
        Keyword::COMMENT => comment(&mut tokens)?,
        _ => {}
    }
    Ok(tokens)
}

/// ON ONLY t: there is no inheritance.
fn create_index(tokens: &mut Vec<TokenWithSpan>) {
    let index = if is_word(tokens.get(1), "UNIQUE") { 2 } else { 1 };
    if !is_word(tokens.get(index), "INDEX") {
        return;
    }
    if let Some(on) = tokens.iter().position(|t| keyword(Some(t)) == Keyword::ON)
        && is_word(tokens.get(on + 1), "ONLY")
    {
        tokens.remove(on + 1);
    }
}

fn drop_index(tokens: &mut Vec<TokenWithSpan>) {
    if is_word(tokens.get(1), "INDEX") && is_word(tokens.get(2), "CONCURRENTLY") {
        let span = tokens.remove(2).span;
        tokens.extend([word(span, "ON"), at(span, Token::make_word(CONCURRENTLY, Some('"')))]);
    }
}

fn alter_index(tokens: &mut Vec<TokenWithSpan>) {
    if !(is_word(tokens.get(1), "INDEX") && is_word(tokens.get(2), "IF") && is_word(tokens.get(3), "EXISTS")) {
        return;
    }
    tokens.drain(2..4);
    let last = tokens.len() - 1;
    if last >= 4 && is_word(tokens.get(last - 2), "RENAME") && is_word(tokens.get(last - 1), "TO") {
        let span = tokens[last].span;
        tokens.splice(last..last, [at(span, Token::make_word(IF_EXISTS, Some('"'))), at(span, Token::Period)]);
    }
}

fn comment(tokens: &mut Vec<TokenWithSpan>) -> Result<(), SqlError> {
    if !is_word(tokens.get(1), "ON") {
        return Ok(());
    }
    if let Some(what) = NOT_COMMENTED.iter().find(|what| is_word(tokens.get(2), what)) {
        return Err(SqlError::unsupported(format!("COMMENT ON {what}")).at_span(tokens[2].span));
    }
    let Some(is) = tokens.iter().position(|t| keyword(Some(t)) == Keyword::IS) else { return Ok(()) };
    // The parser would take a bare word for a text.
    if let Some(text) = tokens.get_mut(is + 1) {
        match &text.token {
            Token::DollarQuotedString(quoted) => text.token = Token::SingleQuotedString(quoted.value.clone()),
            Token::Word(word) if word.keyword != Keyword::NULL || word.quote_style.is_some() => {
                return Err(SqlError::syntax(format!("syntax error at or near \"{}\"", text.token)).at_span(text.span));
            }
            _ => {}
        }
    }
    if is_word(tokens.get(2), "CONSTRAINT") && is_word(tokens.get(4), "ON") && is > 5 {
        if is > 6 && is_word(tokens.get(5), "DOMAIN") && matches!(tokens[6].token, Token::Word(_)) {
            return Err(SqlError::unsupported("COMMENT ON CONSTRAINT of a domain").at_span(tokens[2].span));
        }
        let span = tokens[2].span;
        let dot = || at(span, Token::Period);
        let mut column = vec![word(span, "COLUMN"), at(span, Token::make_word(CONSTRAINT, Some('"'))), dot()];
        column.extend_from_slice(&tokens[5..is]);
        column.extend([dot(), tokens[3].clone()]);
        tokens.splice(2..is, column);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::syntax::check;

    #[test]
    fn what_the_parser_lacks_is_respelled() {
        check("CREATE UNIQUE INDEX ON ONLY t (a)", "CREATE UNIQUE INDEX ON t(a)");
        check("DROP INDEX CONCURRENTLY IF EXISTS a", "DROP INDEX IF EXISTS a ON \"quire:concurrently\"");
        check("ALTER INDEX IF EXISTS s.a RENAME TO b", "ALTER INDEX s.a RENAME TO \"quire:if_exists\".b");
        check("COMMENT ON TABLE t IS $$it's$$", "COMMENT ON TABLE t IS 'it's'");
        check("COMMENT ON CONSTRAINT c ON s.t IS NULL", "COMMENT ON COLUMN \"quire:constraint\".s.t.c IS NULL");
    }

    #[test]
    fn comments_on_what_is_not_there_are_refused() {
        for (sql, code) in [("COMMENT ON FUNCTION f(int) IS 'x'", "0A000"), ("COMMENT ON TABLE t IS word", "42601")] {
            let error = crate::syntax::tokens(sql).expect("it has tokens").expect_err(sql);
            assert_eq!(error.code, code, "{sql}");
        }
    }
}
