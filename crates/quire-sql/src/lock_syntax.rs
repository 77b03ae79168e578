//! Locking clauses as the parser takes them: at the end of their query, with the two strengths that there are here, one table each.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// `FOR NO KEY UPDATE` locks as `FOR UPDATE`, `FOR KEY SHARE` as `FOR SHARE`; `OF a, b` becomes two clauses; a LIMIT that comes after the
/// clauses goes before them.
pub(crate) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !(0..tokens.len()).any(|at| clause_start(&tokens, at).is_some()) {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len());
    // Clauses of the queries under way, innermost last: they go to the end of their query.
    let mut held: Vec<Vec<TokenWithSpan>> = vec![vec![]];
    let mut at = 0;
    while at < tokens.len() {
        if let Some((strength, body)) = clause_start(&tokens, at) {
            let (end, found) = clauses(&tokens, at, strength, body);
            if let Some(held) = held.last_mut() {
                held.extend(found);
            }
            at = end;
            continue;
        }
        match tokens[at].token {
            Token::LParen => held.push(vec![]),
            Token::RParen if held.len() > 1 => out.extend(held.pop().unwrap_or_default()),
            _ => {}
        }
        out.push(tokens[at].clone());
        at += 1;
    }
    held.into_iter().rev().for_each(|clauses| out.extend(clauses));
    out
}

fn is(tokens: &[TokenWithSpan], at: usize, text: &str) -> bool {
    matches!(tokens.get(at).map(|t| &t.token), Some(Token::Word(Word { value, quote_style: None, .. })) if value.eq_ignore_ascii_case(text))
}

/// The strength of a locking clause that begins here, and the position after it.
fn clause_start(tokens: &[TokenWithSpan], at: usize) -> Option<(&'static str, usize)> {
    if !is(tokens, at, "FOR") {
        return None;
    }
    let follows = |words: &[&str]| words.iter().enumerate().all(|(i, word)| is(tokens, at + 1 + i, word)).then_some(at + 1 + words.len());
    follows(&["UPDATE"])
        .or_else(|| follows(&["NO", "KEY", "UPDATE"]))
        .map(|end| ("UPDATE", end))
        .or_else(|| follows(&["SHARE"]).or_else(|| follows(&["KEY", "SHARE"])).map(|end| ("SHARE", end)))
}

/// The clause whose rest begins at `body`, one for each table that it names; and where it ends.
fn clauses(tokens: &[TokenWithSpan], start: usize, strength: &str, body: usize) -> (usize, Vec<TokenWithSpan>) {
    let span = tokens[start].span;
    let word = |text: &str| TokenWithSpan { token: Token::make_keyword(text), span };
    let mut names: Vec<Vec<TokenWithSpan>> = vec![];
    let mut at = body;
    while is(tokens, at, "OF") || !names.is_empty() && tokens.get(at).is_some_and(|t| t.token == Token::Comma) {
        let first = at + 1;
        at = first + 1;
        while tokens.get(at).is_some_and(|t| t.token == Token::Period) {
            at += 2;
        }
        names.push(tokens.get(first..at.min(tokens.len())).unwrap_or_default().to_vec());
    }
    let wait = if is(tokens, at, "NOWAIT") {
        vec!["NOWAIT"]
    } else if is(tokens, at, "SKIP") && is(tokens, at + 1, "LOCKED") {
        vec!["SKIP", "LOCKED"]
    } else {
        vec![]
    };
    at += wait.len();
    let mut out = vec![];
    let bare = vec![];
    let each: Vec<&Vec<TokenWithSpan>> = if names.is_empty() { vec![&bare] } else { names.iter().collect() };
    for name in each {
        out.extend([word("FOR"), word(strength)]);
        if !name.is_empty() {
            out.push(word("OF"));
            out.extend(name.iter().cloned());
        }
        out.extend(wait.iter().map(|text| word(text)));
    }
    (at.min(tokens.len()), out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::dialect::PgDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    fn check(sql: &str, expected: &str) {
        let tokens = Tokenizer::new(&PgDialect, sql).tokenize_with_location().unwrap();
        let tokens = tokens.into_iter().filter(|t| !matches!(t.token, datafusion::sql::sqlparser::tokenizer::Token::Whitespace(_)));
        let mut parser = Parser::new(&PgDialect).with_tokens_with_locations(super::rewrite(tokens.collect()));
        assert_eq!(parser.parse_statement().unwrap().to_string(), expected);
    }

    #[test]
    fn clauses_are_respelled() {
        check("SELECT a FROM t FOR NO KEY UPDATE", "SELECT a FROM t FOR UPDATE");
        check("SELECT a FROM t FOR KEY SHARE NOWAIT", "SELECT a FROM t FOR SHARE NOWAIT");
        check(
            "SELECT a FROM t, u FOR UPDATE OF t, u SKIP LOCKED",
            "SELECT a FROM t, u FOR UPDATE OF t SKIP LOCKED FOR UPDATE OF u SKIP LOCKED",
        );
        check("SELECT a FROM t FOR UPDATE SKIP LOCKED LIMIT 1", "SELECT a FROM t LIMIT 1 FOR UPDATE SKIP LOCKED");
        check(
            "DELETE FROM t WHERE a = (SELECT a FROM t ORDER BY a FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING a",
            "DELETE FROM t WHERE a = (SELECT a FROM t ORDER BY a LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING a",
        );
        check("SELECT substring('abc' FROM 1 FOR 2)", "SELECT SUBSTRING('abc' FROM 1 FOR 2)");
    }
}
