//! Postgres' spellings that the parser does not know, brought to ones that it does, token by token.
//!
//! Tokens keep their places in the text, so that errors still point where the user looks.

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer, TokenizerError, Whitespace, Word};

use crate::{SqlError, like, lock_syntax, syntax_define};

/// Where a MOVE is rewritten to `FETCH … INTO this`: SQL's FETCH has no INTO, so nothing else comes out of the parser so.
pub(crate) const MOVE_TARGET: &str = "quire:move";

/// What `HEADER MATCH` is rewritten to, as a column of FORCE_NULL: the parser knows HEADER as on or off only.
pub(crate) const HEADER_MATCH: &str = "quire:header match";

/// The column that MERGE's `DO NOTHING` is rewritten to set, or to insert.
pub(crate) const MERGE_NOTHING: &str = "quire:nothing";
/// Likewise for MERGE's `INSERT DEFAULT VALUES`.
pub(crate) const MERGE_DEFAULTS: &str = "quire:default values";

/// The tokens of a query string, without white space, in the parser's spelling.
pub(crate) fn tokens(sql: &str) -> Result<Result<Vec<TokenWithSpan>, SqlError>, TokenizerError> {
    let tokens = Tokenizer::new(&PgDialect, sql).tokenize_with_location()?;
    Ok(join_strings(tokens).and_then(rewrite))
}

fn rewrite(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, SqlError> {
    let mut out = Vec::with_capacity(tokens.len());
    for statement in tokens.split_inclusive(|t| t.token == Token::SemiColon) {
        let (body, end) = match statement.split_last() {
            Some((last, body)) if last.token == Token::SemiColon => (body.to_vec(), Some(last.clone())),
            _ => (statement.to_vec(), None),
        };
        let body = crate::syntax_sequence::rewrite(expressions(lock_syntax::rewrite(body)));
        out.extend(whole_statement(syntax_define::rewrite(body)?)?);
        out.extend(end);
    }
    Ok(out)
}

/// String constants that only white space with a line break separates are one; on one line they are an error.
fn join_strings(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, SqlError> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut new_line = false;
    for token in tokens {
        match &token.token {
            Token::EOF => continue,
            Token::Whitespace(space) => {
                new_line |= matches!(space, Whitespace::Newline | Whitespace::SingleLineComment { .. });
                continue;
            }
            Token::SingleQuotedString(next) => {
                if let Some(TokenWithSpan { token: Token::SingleQuotedString(first) | Token::EscapedStringLiteral(first), .. }) =
                    out.last_mut()
                {
                    if !new_line {
                        return Err(SqlError::syntax(format!("syntax error at or near \"'{next}'\"")).at_span(token.span));
                    }
                    first.push_str(next);
                    new_line = false;
                    continue;
                }
            }
            _ => {}
        }
        new_line = false;
        out.push(match token.token {
            Token::UnicodeStringLiteral(text) => TokenWithSpan { token: Token::SingleQuotedString(text), span: token.span },
            _ => token,
        });
    }
    Ok(out)
}

pub(crate) fn keyword(token: Option<&TokenWithSpan>) -> Keyword {
    match token.map(|t| &t.token) {
        Some(Token::Word(Word { keyword, quote_style: None, .. })) => *keyword,
        _ => Keyword::NoKeyword,
    }
}

/// An unquoted word, whether or not the parser has it as a keyword.
pub(crate) fn is_word(token: Option<&TokenWithSpan>, text: &str) -> bool {
    matches!(token.map(|t| &t.token), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(text))
}

pub(crate) fn is(token: Option<&TokenWithSpan>, wanted: &Token) -> bool {
    token.is_some_and(|t| t.token == *wanted)
}

pub(crate) fn at(span: Span, token: Token) -> TokenWithSpan {
    TokenWithSpan { token, span }
}

pub(crate) fn word(span: Span, text: &str) -> TokenWithSpan {
    at(span, Token::make_keyword(text))
}

fn words(span: Span, text: &str) -> Vec<TokenWithSpan> {
    text.split(' ').map(|w| if w == "*" { at(span, Token::Mul) } else { word(span, w) }).collect()
}

/// The position of the parenthesis that closes the one at `open`.
pub(crate) fn closing(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// Spellings that may stand anywhere in a statement.
fn expressions(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut i = 0;
    while i < tokens.len() {
        let span = tokens[i].span;
        match keyword(tokens.get(i)) {
            // trim(leading from x): of blanks.
            Keyword::LEADING | Keyword::TRAILING | Keyword::BOTH if keyword(tokens.get(i + 1)) == Keyword::FROM => {
                tokens.insert(i + 1, at(span, Token::SingleQuotedString(" ".into())));
            }
            // ORDER BY x USING <
            Keyword::USING if is(tokens.get(i + 1), &Token::Lt) || is(tokens.get(i + 1), &Token::Gt) => {
                let order = if is(tokens.get(i + 1), &Token::Lt) { "ASC" } else { "DESC" };
                tokens.splice(i..i + 2, [word(span, order)]);
            }
            // x IN (VALUES (1), (2)): the parser takes VALUES here for a function.
            Keyword::IN if is(tokens.get(i + 1), &Token::LParen) && keyword(tokens.get(i + 2)) == Keyword::VALUES => {
                if let Some(end) = closing(&tokens, i + 1) {
                    tokens.insert(end, at(span, Token::RParen));
                    let mut select = words(span, "SELECT * FROM");
                    select.push(at(span, Token::LParen));
                    tokens.splice(i + 2..i + 2, select);
                }
            }
            // EXISTS (SELECT): of no columns at all.
            Keyword::SELECT
                if i > 1
                    && keyword(tokens.get(i - 2)) == Keyword::EXISTS
                    && is(tokens.get(i - 1), &Token::LParen)
                    && is(tokens.get(i + 1), &Token::RParen) =>
            {
                tokens.insert(i + 1, at(span, Token::Number("1".into(), false)));
            }
            _ if is_word(tokens.get(i), "ISNULL") && ends_value(&tokens[..i]) => {
                tokens.splice(i..i + 1, words(span, "IS NULL"));
            }
            // (VALUES (1, 2)) as a value, likewise.
            Keyword::VALUES if is(tokens.get(i + 1), &Token::LParen) && is_value(&tokens[..i]) => as_select(&mut tokens, i),
            _ => {}
        }
        i += 1;
    }
    tokens
}

/// Whether a value may end with these tokens, so that x ISNULL may follow.
fn ends_value(before: &[TokenWithSpan]) -> bool {
    match before.last().map(|t| &t.token) {
        Some(Token::Word(word)) => word.quote_style.is_some() || !matches!(word.keyword, Keyword::AS | Keyword::SELECT),
        Some(Token::Number(..) | Token::SingleQuotedString(_) | Token::RParen | Token::RBracket | Token::Placeholder(_)) => true,
        _ => false,
    }
}

/// Whether what begins after these tokens stands in parentheses where a value does, and no relation.
fn is_value(before: &[TokenWithSpan]) -> bool {
    let Some(last) = before.iter().rposition(|t| t.token != Token::LParen) else { return false };
    let in_parentheses = last + 1 < before.len();
    let operator = |token: Option<&TokenWithSpan>| {
        matches!(
            token.map(|t| &t.token),
            Some(
                Token::Eq
                    | Token::Neq
                    | Token::Lt
                    | Token::LtEq
                    | Token::Gt
                    | Token::GtEq
                    | Token::Plus
                    | Token::Minus
                    | Token::Mul
                    | Token::Div
                    | Token::Mod
                    | Token::StringConcat
            )
        )
    };
    let value = match keyword(before.get(last)) {
        Keyword::SELECT | Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::AND | Keyword::OR | Keyword::BETWEEN => true,
        Keyword::ANY | Keyword::SOME => true,
        // Not UNION ALL.
        Keyword::ALL => last > 0 && operator(before.get(last - 1)),
        _ => operator(before.get(last)),
    };
    in_parentheses && value
}

/// `VALUES (1, 2)` at a position as a SELECT. One row may be of what stands around it; a list of several is a relation.
fn as_select(tokens: &mut Vec<TokenWithSpan>, at_values: usize) {
    let span = tokens[at_values].span;
    let Some(end) = closing(tokens, at_values + 1) else { return };
    if is(tokens.get(end + 1), &Token::Comma) {
        let mut depth = 0usize;
        let after = tokens.iter().enumerate().skip(at_values).find_map(|(i, token)| match token.token {
            Token::LParen => {
                depth += 1;
                None
            }
            Token::RParen if depth == 0 => Some(i),
            Token::RParen => {
                depth -= 1;
                None
            }
            _ => None,
        });
        let Some(after) = after else { return };
        tokens.insert(after, at(span, Token::RParen));
        let mut select = words(span, "SELECT * FROM");
        select.push(at(span, Token::LParen));
        tokens.splice(at_values..at_values, select);
        return;
    }
    let mut select = vec![word(span, "SELECT")];
    let (mut depth, mut column) = (0usize, 1);
    let mut named = |out: &mut Vec<TokenWithSpan>| {
        out.push(word(span, "AS"));
        out.push(at(span, Token::make_word(&format!("column{column}"), Some('"'))));
        column += 1;
    };
    for token in &tokens[at_values + 2..end] {
        match token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 => named(&mut select),
            _ => {}
        }
        select.push(token.clone());
    }
    named(&mut select);
    tokens.splice(at_values..=end, select);
}

/// Statements that begin, end or are built differently.
fn whole_statement(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, SqlError> {
    let Some(first) = tokens.first() else { return Ok(tokens) };
    let span = first.span;
    if is_word(tokens.first(), "ABORT") {
        tokens[0] = word(span, "ROLLBACK");
    } else if is_word(tokens.first(), "CHECKPOINT") && tokens.len() == 1 {
        return Ok(vec![word(span, "CALL"), word(span, "CHECKPOINT"), at(span, Token::LParen), at(span, Token::RParen)]);
    } else if is_word(tokens.first(), "MOVE") {
        tokens[0] = word(span, "FETCH");
        tokens.push(word(span, "INTO"));
        tokens.push(at(span, Token::make_word(MOVE_TARGET, Some('"'))));
    } else if is_word(tokens.first(), "VACUUM") || keyword(tokens.first()) == Keyword::ANALYZE || is_word(tokens.first(), "ANALYSE") {
        if is_word(tokens.first(), "ANALYSE") {
            tokens[0] = word(span, "ANALYZE");
        }
        maintenance(&mut tokens);
    } else if keyword(tokens.first()) == Keyword::COPY {
        copy_options(&mut tokens);
    } else if tokens.iter().any(|t| keyword(Some(t)) == Keyword::MERGE) {
        merge_actions(&mut tokens);
    } else if keyword(tokens.first()) == Keyword::TABLE {
        tokens.splice(0..1, words(span, "SELECT * FROM"));
    } else if keyword(tokens.first()) == Keyword::CREATE {
        create_table(&mut tokens)?;
    } else if matches!(keyword(tokens.first()), Keyword::FETCH) && tokens.len() == 2 {
        // FETCH c
        tokens.splice(1..1, words(span, "NEXT FROM"));
    } else if keyword(tokens.first()) == Keyword::FETCH && !tokens.iter().any(|t| matches!(keyword(Some(t)), Keyword::FROM | Keyword::IN)) {
        // FETCH 5 c: FROM may be left out.
        let name = tokens.len() - 1;
        tokens.insert(name, word(span, "FROM"));
    }
    if keyword(tokens.first()) == Keyword::FETCH
        && let Some(last) = tokens.iter().position(|t| is_word(Some(t), "INTO"))
        && let Some(from) = tokens[..last].iter().position(|t| matches!(keyword(Some(t)), Keyword::FROM | Keyword::IN))
        && from == 1
    {
        // MOVE FROM c, FETCH FROM c
        tokens.insert(1, word(span, "NEXT"));
    } else if keyword(tokens.first()) == Keyword::FETCH && matches!(keyword(tokens.get(1)), Keyword::FROM | Keyword::IN) {
        tokens.insert(1, word(span, "NEXT"));
    }
    Ok(tokens)
}

/// VACUUM and ANALYZE: their options make no difference here, and the parser knows few of them.
fn maintenance(tokens: &mut Vec<TokenWithSpan>) {
    if is(tokens.get(1), &Token::LParen)
        && let Some(end) = closing(tokens, 1)
    {
        tokens.drain(1..=end);
    }
    while ["FULL", "FREEZE", "VERBOSE", "ANALYZE", "ANALYSE"].iter().any(|option| is_word(tokens.get(1), option)) {
        tokens.remove(1);
    }
}

/// `FORCE_QUOTE *`, `HEADER MATCH`, and `FREEZE on`, of which the parser knows TRUE and FALSE only.
fn copy_options(tokens: &mut Vec<TokenWithSpan>) {
    let mut i = 1;
    while i < tokens.len() {
        let span = tokens[i].span;
        if is_word(tokens.get(i), "FORCE_QUOTE") && is(tokens.get(i + 1), &Token::Mul) {
            let every = [at(span, Token::LParen), at(span, Token::make_word("*", Some('"'))), at(span, Token::RParen)];
            tokens.splice(i + 1..i + 2, every);
        } else if is_word(tokens.get(i), "QUOTE") && is(tokens.get(i + 1), &Token::Mul) {
            tokens[i + 1].token = Token::make_word("*", Some('"'));
        } else if (is_word(tokens.get(i), "FREEZE") || is_word(tokens.get(i), "HEADER")) && switch(tokens.get(i + 1)).is_some() {
            let on = switch(tokens.get(i + 1)) == Some(true);
            tokens[i + 1].token = Token::make_keyword(if on { "TRUE" } else { "FALSE" });
        } else if is_word(tokens.get(i), "HEADER") && is_word(tokens.get(i + 1), "MATCH") {
            let marker = [Token::LParen, Token::make_word(HEADER_MATCH, Some('"')), Token::RParen];
            let marker = [Token::make_keyword("FORCE_NULL")].into_iter().chain(marker);
            tokens.splice(i..i + 2, marker.map(|token| at(span, token)));
        }
        i += 1;
    }
}

/// ON, OFF, 1, 0.
fn switch(token: Option<&TokenWithSpan>) -> Option<bool> {
    match token.map(|t| &t.token) {
        Some(Token::Number(digits, _)) if digits == "1" => Some(true),
        Some(Token::Number(digits, _)) if digits == "0" => Some(false),
        _ if is_word(token, "ON") => Some(true),
        _ if is_word(token, "OFF") => Some(false),
        _ => None,
    }
}

/// MERGE's `DO NOTHING` and `INSERT DEFAULT VALUES`.
fn merge_actions(tokens: &mut Vec<TokenWithSpan>) {
    let marked = |span: Span, marker: &str| {
        let insert = [Token::make_keyword("INSERT"), Token::LParen, Token::make_word(marker, Some('"')), Token::RParen];
        let values = [Token::make_keyword("VALUES"), Token::LParen, Token::make_keyword("NULL"), Token::RParen];
        insert.into_iter().chain(values).map(|token| at(span, token)).collect::<Vec<_>>()
    };
    let mut negated = false;
    let mut i = 1;
    while i < tokens.len() {
        let span = tokens[i].span;
        if keyword(tokens.get(i)) == Keyword::WHEN && matches!(keyword(tokens.get(i + 1)), Keyword::NOT | Keyword::MATCHED) {
            negated = keyword(tokens.get(i + 1)) == Keyword::NOT;
        } else if keyword(tokens.get(i)) == Keyword::THEN && is_word(tokens.get(i + 1), "DO") && is_word(tokens.get(i + 2), "NOTHING") {
            let action = match negated {
                true => marked(span, MERGE_NOTHING),
                false => {
                    let set = [Token::make_keyword("UPDATE"), Token::make_keyword("SET"), Token::make_word(MERGE_NOTHING, Some('"'))];
                    let set = set.into_iter().chain([Token::Eq, Token::make_keyword("NULL")]);
                    set.map(|token| at(span, token)).collect()
                }
            };
            tokens.splice(i + 1..i + 3, action);
        } else if keyword(tokens.get(i)) == Keyword::THEN
            && keyword(tokens.get(i + 1)) == Keyword::INSERT
            && keyword(tokens.get(i + 2)) == Keyword::DEFAULT
            && keyword(tokens.get(i + 3)) == Keyword::VALUES
        {
            tokens.splice(i + 1..i + 4, marked(span, MERGE_DEFAULTS));
        }
        i += 1;
    }
}

/// `CREATE TABLE x (a, b) AS query WITH NO DATA`.
fn create_table(tokens: &mut Vec<TokenWithSpan>) -> Result<(), SqlError> {
    // The log is where rows are: there are no tables without it.
    if is_word(tokens.get(1), "UNLOGGED") && keyword(tokens.get(2)) == Keyword::TABLE {
        tokens.remove(1);
    }
    let mut i = 1;
    while ["TEMP", "TEMPORARY", "UNLOGGED", "LOCAL", "GLOBAL"].iter().any(|w| is_word(tokens.get(i), w)) {
        i += 1;
    }
    if keyword(tokens.get(i)) != Keyword::TABLE {
        return Ok(());
    }
    i += 1;
    if keyword(tokens.get(i)) == Keyword::IF {
        i += 3;
    }
    // The name, with its schema.
    i += 1;
    while is(tokens.get(i), &Token::Period) {
        i += 2;
    }
    if i == tokens.len() {
        return Err(SqlError::syntax("syntax error at end of input"));
    }
    if is(tokens.get(i), &Token::LParen) {
        like::rewrite(tokens, i);
    }
    if is(tokens.get(i), &Token::LParen)
        && let Some(end) = closing(tokens, i)
        && tokens[i + 1..end].iter().enumerate().all(|(n, t)| match t.token {
            Token::Word(_) => n % 2 == 0,
            Token::Comma => n % 2 == 1,
            _ => false,
        })
        && end > i + 1
    {
        // Names without types, so a query must follow. The parser wants types; CREATE TABLE AS takes the query's.
        let mut typed = vec![];
        for token in &tokens[i + 1..end] {
            typed.push(token.clone());
            if token.token != Token::Comma {
                typed.push(word(token.span, "TEXT"));
            }
        }
        tokens.splice(i + 1..end, typed);
    }
    let Some(query) = tokens.iter().position(|t| keyword(Some(t)) == Keyword::AS) else { return Ok(()) };
    let count = tokens.len();
    if keyword(tokens.last()) == Keyword::DATA && keyword(tokens.get(count.wrapping_sub(2))) == Keyword::WITH {
        tokens.truncate(count - 2);
    } else if keyword(tokens.last()) == Keyword::DATA
        && keyword(tokens.get(count.wrapping_sub(2))) == Keyword::NO
        && keyword(tokens.get(count.wrapping_sub(3))) == Keyword::WITH
    {
        tokens.truncate(count - 3);
        let span = tokens[query].span;
        let mut select = words(span, "SELECT * FROM");
        select.push(at(span, Token::LParen));
        tokens.splice(query + 1..query + 1, select);
        tokens.push(at(span, Token::RParen));
        tokens.push(word(span, "AS"));
        tokens.push(at(span, Token::make_word("quire:source", Some('"'))));
        tokens.push(word(span, "LIMIT"));
        tokens.push(at(span, Token::Number("0".into(), false)));
    }
    Ok(())
}

/// For tests: what the parser makes of a query string's tokens.
#[cfg(test)]
pub(crate) fn check(sql: &str, expected: &str) {
    use datafusion::sql::sqlparser::parser::Parser;

    let tokens = tokens(sql).expect("it has tokens").expect("it is well spelled");
    let mut parser = Parser::new(&PgDialect).with_tokens_with_locations(tokens);
    let statements = parser.parse_statements().expect(sql);
    assert_eq!(statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::check;

    #[test]
    fn what_the_parser_lacks_is_respelled() {
        check("ABORT; TABLE t", "ROLLBACK; SELECT * FROM t");
        check("VACUUM (VERBOSE) ANALYZE t", "VACUUM t");
        check("SELECT 1 WHERE 1 IN (VALUES (1), (2))", "SELECT 1 WHERE 1 IN (SELECT * FROM (VALUES (1), (2)))");
        check("UPDATE t SET (a, b) = (VALUES (f(1, 2), 'x'))", "UPDATE t SET (a, b) = (SELECT f(1, 2) AS \"column1\", 'x' AS \"column2\")");
        check("SELECT 1 WHERE 1 = ANY (VALUES (1), (2))", "SELECT 1 WHERE 1 = ANY(SELECT * FROM (VALUES (1), (2)))");
        check("SELECT 1 UNION ALL (VALUES (1))", "SELECT 1 UNION ALL (VALUES (1))");
        check("SELECT EXISTS (SELECT), x ISNULL, 1 AS isnull", "SELECT EXISTS (SELECT 1), x IS NULL, 1 AS isnull");
        check("SELECT x FROM t ORDER BY x USING >", "SELECT x FROM t ORDER BY x DESC");
        check("CREATE TABLE t AS SELECT 1 WITH NO DATA", "CREATE TABLE t AS SELECT * FROM (SELECT 1) AS \"quire:source\" LIMIT 0");
        check("SELECT 'a'\n'b'", "SELECT 'ab'");
        check(
            "COPY t TO STDOUT (FORCE_QUOTE *, HEADER match)",
            "COPY t TO STDOUT (FORCE_QUOTE (\"*\"), FORCE_NULL (\"quire:header match\"))",
        );
        check("COPY t FROM STDIN (FREEZE on, HEADER off);", "COPY t FROM STDIN (FREEZE, HEADER FALSE)");
        check(
            "MERGE INTO t USING s ON a = b WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT DEFAULT VALUES",
            "MERGE INTO t USING s ON a = b WHEN MATCHED THEN UPDATE SET \"quire:nothing\" = NULL \
             WHEN NOT MATCHED THEN INSERT (\"quire:default values\") VALUES (NULL)",
        );
        check("FETCH c; FETCH 2 c; FETCH FROM c", "FETCH NEXT FROM c; FETCH 2 FROM c; FETCH NEXT FROM c");
    }

    #[test]
    fn strings_on_one_line_are_not_joined() {
        assert_eq!(super::tokens("SELECT 'a' 'b'").unwrap().unwrap_err().code, "42601");
    }
}
