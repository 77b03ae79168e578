//! How deep a statement may be nested.
//!
//! Trees are walked, copied and dropped by calling oneself for each level, and a thread whose stack ends takes the process with it. No
//! parentheses are needed for that: `1 + 1 + 1` is a sum within a sum, and so are the parts of a UNION and the tables of a list. So what
//! may become deep is counted in the text, before there is a tree.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::SqlError;

/// Parentheses, brackets and CASEs within each other.
const WITHIN_MAX: usize = 250;
/// Sub-queries in expressions of each other. To check a plan is twice the work for each of them.
const SUBQUERIES_MAX: usize = 16;
/// Operators in a row. The planner names what each is applied to whenever it asks for a type: its time grows with the cube.
const OPERATORS_MAX: usize = 1000;
/// Conditions in a row.
const CONDITIONS_MAX: usize = 5000;
/// Queries of set operations, tables of a list and WITH queries.
const RELATIONS_MAX: usize = 5000;

/// Levels that the parser, which has a bound of its own, may need for what passes here.
pub(crate) const PARSER_LEVELS: usize = 4 * WITHIN_MAX;

/// 54001 for a statement that is nested too deeply. What cannot be told from the text is counted as if it were.
pub(crate) fn check(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut around = vec![];
    let mut here = Row::default();
    let mut last = &Token::SemiColon;
    for TokenWithSpan { token, .. } in tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))) {
        if opens(token) {
            let within = Row { is_expression: here.is_expression_after(last), subqueries: here.subqueries, ..Row::default() };
            here.add(token);
            around.push(std::mem::replace(&mut here, within));
        } else if closes(token) {
            here = around.pop().unwrap_or_default();
        } else {
            here.subqueries += usize::from(here.is_expression && *last == Token::LParen && keyword(token) == Some(Keyword::SELECT));
            here.add(token);
        }
        last = token;
        let kind = match here {
            _ if around.len() > WITHIN_MAX => format!("{WITHIN_MAX} parentheses within each other"),
            Row { subqueries, .. } if subqueries > SUBQUERIES_MAX => format!("{SUBQUERIES_MAX} sub-queries within each other"),
            Row { operators, .. } if operators > OPERATORS_MAX => format!("{OPERATORS_MAX} operators in a row"),
            Row { conditions, .. } if conditions > CONDITIONS_MAX => format!("{CONDITIONS_MAX} conditions in a row"),
            Row { relations, .. } if relations > RELATIONS_MAX => format!("{RELATIONS_MAX} tables or queries in a row"),
            _ => continue,
        };
        return Err(too_deep().with_hint(format!("A statement may have {kind}.")));
    }
    Ok(())
}

pub(crate) fn too_deep() -> SqlError {
    SqlError::new("54001", "stack depth limit exceeded")
}

fn keyword(token: &Token) -> Option<Keyword> {
    match token {
        Token::Word(word) => Some(word.keyword),
        _ => None,
    }
}

fn opens(token: &Token) -> bool {
    matches!(token, Token::LParen | Token::LBracket | Token::LBrace) || keyword(token) == Some(Keyword::CASE)
}

fn closes(token: &Token) -> bool {
    matches!(token, Token::RParen | Token::RBracket | Token::RBrace) || keyword(token) == Some(Keyword::END)
}

/// What stands in a row, within one pair of parentheses.
#[derive(Default)]
struct Row {
    /// A query within these parentheses would be part of an expression.
    is_expression: bool,
    /// Such queries around here.
    subqueries: usize,
    operators: usize,
    conditions: usize,
    relations: usize,
    /// Within a list of tables or of WITH queries.
    lists_relations: bool,
}

impl Row {
    /// Another row in the same parentheses.
    fn next(&self, relations: usize) -> Row {
        Row { is_expression: self.is_expression, subqueries: self.subqueries, relations, ..Row::default() }
    }

    /// Whether what is opened after a token is part of an expression, and not a table.
    fn is_expression_after(&self, token: &Token) -> bool {
        use Keyword as K;
        match token {
            Token::Comma => !self.lists_relations,
            Token::LParen => self.is_expression,
            Token::Word(word) => !matches!(
                word.keyword,
                K::FROM
                    | K::JOIN
                    | K::LATERAL
                    | K::USING
                    | K::AS
                    | K::MATERIALIZED
                    | K::UNION
                    | K::EXCEPT
                    | K::INTERSECT
                    | K::ALL
                    | K::DISTINCT
            ),
            token => *token != Token::SemiColon,
        }
    }

    fn add(&mut self, token: &Token) {
        use Keyword as K;
        match token {
            Token::SemiColon => *self = self.next(0),
            Token::Comma => {
                self.operators = 0;
                self.conditions = 0;
                self.relations += usize::from(self.lists_relations);
            }
            Token::Word(word) => match word.keyword {
                K::AND | K::OR => {
                    self.operators = 0;
                    self.conditions += 1;
                }
                K::WHEN | K::THEN | K::ELSE | K::ON => {
                    self.operators = 0;
                    self.conditions = 0;
                }
                K::SELECT | K::WHERE | K::GROUP | K::ORDER | K::HAVING | K::RETURNING | K::SET => {
                    *self = self.next(self.relations);
                }
                K::UNION | K::EXCEPT | K::INTERSECT | K::JOIN => {
                    *self = Row { lists_relations: self.lists_relations, ..self.next(self.relations + 1) };
                }
                K::FROM | K::USING | K::WITH => self.lists_relations = true,
                K::IS | K::IN | K::LIKE | K::ILIKE | K::SIMILAR | K::BETWEEN | K::COLLATE | K::AT | K::NOTNULL | K::OPERATOR => {
                    self.operators += 1;
                }
                _ => {}
            },
            token if is_operand(token) => {}
            _ => self.operators += 1,
        }
    }
}

/// Parts of names, literals and what stands between words.
fn is_operand(token: &Token) -> bool {
    use Token as T;
    let text = matches!(
        token,
        T::SingleQuotedString(_)
            | T::DoubleQuotedString(_)
            | T::DollarQuotedString(_)
            | T::EscapedStringLiteral(_)
            | T::UnicodeStringLiteral(_)
    );
    let number =
        matches!(token, T::Number(..) | T::HexStringLiteral(_) | T::SingleQuotedByteStringLiteral(_) | T::NationalStringLiteral(_));
    text || number || matches!(token, T::LParen | T::LBrace | T::Period | T::Placeholder(_) | T::Whitespace(_) | T::EOF)
}

#[cfg(test)]
mod tests {
    use super::{CONDITIONS_MAX, OPERATORS_MAX, RELATIONS_MAX, SUBQUERIES_MAX, WITHIN_MAX};
    use crate::parse::parse;

    fn code(sql: &str) -> Option<String> {
        parse(sql).err().map(|error| error.code.to_string())
    }

    fn within(before: &str, inner: &str, after: &str, levels: usize) -> String {
        format!("SELECT {}{inner}{}", before.repeat(levels), after.repeat(levels))
    }

    fn in_a_row(first: &str, more: &str, times: usize) -> String {
        format!("{first}{}", more.repeat(times))
    }

    #[test]
    fn a_statement_may_be_nested_so_deep_and_no_deeper() {
        let nested = |levels| {
            [
                within("(", "1", ")", levels),
                within("abs(", "a", ")", levels),
                within("ARRAY[", "1", "]", levels),
                within("CASE WHEN a THEN 0 ELSE ", "a", " END", levels),
                within("* FROM (SELECT ", "a", ") t", levels),
            ]
        };
        let rows = |operators, conditions, relations| {
            [
                in_a_row("SELECT 1", "+1", operators),
                in_a_row("SELECT a", "::int", operators),
                in_a_row("SELECT a", "[1]", operators),
                in_a_row("SELECT a", " IS NULL", operators),
                in_a_row("SELECT a WHERE b", " AND c", conditions),
                in_a_row("SELECT a WHERE b = 1", " OR b = 2 AND c = 3", conditions / 2),
                in_a_row("SELECT a, b FROM t", " UNION ALL SELECT a, b FROM t", relations - 1),
                in_a_row("SELECT a, b FROM t", ", u", relations),
                in_a_row("SELECT a, b FROM t", " JOIN u ON t.a = u.a", relations),
            ]
        };
        for sql in nested(WITHIN_MAX).into_iter().chain(rows(OPERATORS_MAX, CONDITIONS_MAX, RELATIONS_MAX)) {
            assert_eq!(code(&sql), None, "{}", &sql[..60]);
        }
        for sql in nested(WITHIN_MAX + 1).into_iter().chain(rows(OPERATORS_MAX + 1, CONDITIONS_MAX + 2, 2 * RELATIONS_MAX + 1)) {
            assert_eq!(code(&sql).as_deref(), Some("54001"), "{}", &sql[..60]);
        }
        let subqueries = |levels: usize| within("(SELECT ", "1", ")", levels);
        assert_eq!(code(&subqueries(SUBQUERIES_MAX)), None);
        assert_eq!(code(&subqueries(SUBQUERIES_MAX + 1)).as_deref(), Some("54001"));
        let half = "1+".repeat(300_000);
        assert_eq!(code(&format!("SELECT {half}")).as_deref(), Some("54001"), "before there is a tree, and before it is known to be none");
    }

    #[test]
    fn what_stands_side_by_side_is_not_nested() {
        let rows = "(-1, 'a' || 'b', now() - interval '1 day'),".repeat(20_000);
        assert_eq!(code(&format!("INSERT INTO t VALUES {rows} (1, 'a', NULL)")), None);
        assert_eq!(code(&format!("SELECT a IN ({}1)", "-1,".repeat(20_000))), None);
        assert_eq!(code(&format!("SELECT CASE{} END", " WHEN a = 1 AND b <> 2 THEN -1".repeat(3000))), None);
        assert_eq!(code(&"SELECT 1 + 1;".repeat(5000)), None);
        assert_eq!(code(&format!("SELECT 1{}", ", a - b AS c".repeat(3000))), None);
    }
}
