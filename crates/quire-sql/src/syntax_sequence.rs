//! Sequences in the parser's spelling: it knows their options in one order only, and no ALTER SEQUENCE. And SET CONSTRAINTS.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::syntax::{at, closing, is, is_word, keyword, word};

/// CREATE SEQUENCE becomes a call of this, with the rest of the statement's text.
pub(crate) const CREATE_SEQUENCE: &str = "quire:create_sequence";
/// Likewise ALTER SEQUENCE.
pub(crate) const ALTER_SEQUENCE: &str = "quire:alter_sequence";
/// Likewise SET CONSTRAINTS.
pub(crate) const SET_CONSTRAINTS: &str = "quire:set_constraints";
/// INSERT … OVERRIDING SYSTEM VALUE becomes INSERT … PARTITION (this), which Postgres has not, or INSERT INTO t AS this.
pub(crate) const OVERRIDING_SYSTEM: &str = "quire:overriding_system";
/// OVERRIDING USER VALUE.
pub(crate) const OVERRIDING_USER: &str = "quire:overriding_user";
/// ALTER TABLE … SET SCHEMA x becomes SWAP WITH this.x, which Postgres has not.
pub(crate) const SET_SCHEMA: &str = "quire:set_schema";

/// The statement in the parser's spelling, when it is one of these.
pub(crate) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let first = keyword(tokens.first());
    if first == Keyword::CREATE && is_word(tokens.get(1), "SEQUENCE") {
        return call(CREATE_SEQUENCE, &tokens);
    }
    if first == Keyword::ALTER && is_word(tokens.get(1), "SEQUENCE") {
        return call(ALTER_SEQUENCE, &tokens);
    }
    let is_mode = |token| is_word(token, "DEFERRED") || is_word(token, "IMMEDIATE");
    if first == Keyword::SET && tokens.len() > 3 && is_word(tokens.get(1), "CONSTRAINTS") && is_mode(tokens.last()) {
        return call(SET_CONSTRAINTS, &tokens);
    }
    match first {
        Keyword::CREATE | Keyword::ALTER => {
            sort_identity_options(&mut tokens);
            if first == Keyword::ALTER && is_word(tokens.get(1), "TABLE") {
                set_schema(&mut tokens);
            }
        }
        Keyword::INSERT => overriding(&mut tokens),
        _ => {}
    }
    tokens
}

/// `CALL "function"('the tokens after the first two')`
fn call(function: &str, tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let span = tokens[0].span;
    let rest: Vec<String> = tokens[2..].iter().map(|t| t.token.to_string()).collect();
    // A number and its sign, a name and its schema: parts that are read again do not mind blanks between them.
    let text = Token::SingleQuotedString(rest.join(" "));
    vec![
        word(span, "CALL"),
        at(span, Token::make_word(function, Some('"'))),
        at(span, Token::LParen),
        at(span, text),
        at(span, Token::RParen),
    ]
}

/// AS IDENTITY (START WITH 5 INCREMENT BY 2): in the order that the parser wants.
fn sort_identity_options(tokens: &mut [TokenWithSpan]) {
    let mut i = 0;
    while i < tokens.len() {
        i += 1;
        if !is_word(tokens.get(i - 1), "IDENTITY") || !is(tokens.get(i), &Token::LParen) {
            continue;
        }
        let Some(end) = closing(tokens, i) else { return };
        let mut options: Vec<(usize, Vec<TokenWithSpan>)> = vec![];
        for token in &tokens[i + 1..end] {
            let negated = options.last().is_some_and(|(_, option)| option.len() == 1 && is_word(option.first(), "NO"));
            let rank = rank(token);
            match rank {
                Some(rank) if !negated => options.push((rank, vec![token.clone()])),
                Some(rank) => {
                    if let Some(last) = options.last_mut() {
                        last.0 = rank;
                        last.1.push(token.clone());
                    }
                }
                None => match options.last_mut() {
                    Some((_, option)) => option.push(token.clone()),
                    None => return,
                },
            }
        }
        options.sort_by_key(|(rank, _)| *rank);
        for (place, token) in tokens[i + 1..end].iter_mut().zip(options.into_iter().flat_map(|(_, option)| option)) {
            *place = token;
        }
    }
}

/// The place of an option's first word among the parser's; NO takes that of the word after it.
fn rank(token: &TokenWithSpan) -> Option<usize> {
    const ORDER: [&str; 7] = ["INCREMENT", "MINVALUE", "MAXVALUE", "START", "CACHE", "CYCLE", "NO"];
    ORDER.iter().position(|word| is_word(Some(token), word))
}

fn set_schema(tokens: &mut Vec<TokenWithSpan>) {
    let count = tokens.len();
    if count > 4 && is_word(tokens.get(count - 3), "SET") && is_word(tokens.get(count - 2), "SCHEMA") {
        let span = tokens[count - 3].span;
        let marked = [word(span, "SWAP"), word(span, "WITH"), at(span, Token::make_word(SET_SCHEMA, Some('"'))), at(span, Token::Period)];
        tokens.splice(count - 3..count - 1, marked);
    }
}

fn overriding(tokens: &mut Vec<TokenWithSpan>) {
    let Some(i) = tokens.iter().position(|t| is_word(Some(t), "OVERRIDING")) else { return };
    let marker = match tokens.get(i + 1) {
        next if is_word(next, "SYSTEM") => OVERRIDING_SYSTEM,
        next if is_word(next, "USER") => OVERRIDING_USER,
        _ => return,
    };
    if !is_word(tokens.get(i + 2), "VALUE") {
        return;
    }
    let span = tokens[i].span;
    // After a list of columns the parser takes partitions, right after the table's name an alias.
    let marked = match i > 0 && is(tokens.get(i - 1), &Token::RParen) {
        true => vec![
            word(span, "PARTITION"),
            at(span, Token::LParen),
            at(span, Token::SingleQuotedString(marker.into())),
            at(span, Token::RParen),
        ],
        false => vec![word(span, "AS"), at(span, Token::make_word(marker, Some('"')))],
    };
    tokens.splice(i..i + 3, marked);
}

#[cfg(test)]
mod tests {
    use crate::syntax::check;

    #[test]
    fn what_the_parser_lacks_is_respelled() {
        check("CREATE SEQUENCE a.\"B\" START -1", "CALL \"quire:create_sequence\"('a . \"B\" START - 1')");
        check("ALTER SEQUENCE s RESTART", "CALL \"quire:alter_sequence\"('s RESTART')");
        check("SET CONSTRAINTS a, s.b DEFERRED", "CALL \"quire:set_constraints\"('a , s . b DEFERRED')");
        check("ALTER TABLE t SET SCHEMA s", "ALTER TABLE t SWAP WITH \"quire:set_schema\".s");
        check(
            "CREATE TABLE t (a INT GENERATED ALWAYS AS IDENTITY (START WITH 5 NO CYCLE INCREMENT BY 2 NO MINVALUE))",
            "CREATE TABLE t (a INT GENERATED ALWAYS AS IDENTITY ( INCREMENT BY 2 NO MINVALUE START WITH 5 NO CYCLE ))",
        );
        check("INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES (1)", "INSERT INTO t (a) PARTITION ('quire:overriding_system') VALUES (1)");
        check("INSERT INTO t OVERRIDING USER VALUE SELECT 1", "INSERT INTO t AS \"quire:overriding_user\" SELECT 1");
    }
}
