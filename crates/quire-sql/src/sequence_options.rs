//! What CREATE SEQUENCE, ALTER SEQUENCE and GENERATED … AS IDENTITY (…) say about a sequence.

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{self, DataType, Expr, ObjectName};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use quire_types::{SchemaId, SequenceDef, SequencePosition, SqlType, TableId};

use crate::SqlError;
use crate::ddl::{new_oid, sql_type};
use crate::errors::parser_error;
use crate::names::split;

/// The options given, each at most once.
#[derive(Clone, Debug, Default)]
pub(crate) struct SequenceOptions {
    pub(crate) ty: Option<SqlType>,
    increment: Option<i64>,
    /// `Some(None)` is NO MINVALUE.
    min: Option<Option<i64>>,
    max: Option<Option<i64>>,
    start: Option<i64>,
    /// `Some(None)` is RESTART without a value.
    restart: Option<Option<i64>>,
    cache: Option<i64>,
    cycle: Option<bool>,
    /// `Some(None)` is OWNED BY NONE.
    pub(crate) owned_by: Option<Option<ObjectName>>,
}

/// CREATE SEQUENCE or ALTER SEQUENCE, without these words.
#[derive(Clone, Debug)]
pub(crate) struct SequenceStatement {
    /// IF NOT EXISTS, IF EXISTS.
    pub(crate) lenient: bool,
    pub(crate) name: ObjectName,
    pub(crate) options: SequenceOptions,
    pub(crate) action: SequenceAction,
}

/// What ALTER SEQUENCE does beside setting options.
#[derive(Clone, Debug, Default)]
pub(crate) enum SequenceAction {
    #[default]
    Options,
    Rename(ast::Ident),
    SetSchema(ast::Ident),
    Owner(ast::Owner),
}

/// The type of a column declared `serial` and the like.
pub(crate) fn serial_type(data_type: &DataType) -> Option<SqlType> {
    let DataType::Custom(name, modifiers) = data_type else { return None };
    let (None, name) = split(name).ok()? else { return None };
    if !modifiers.is_empty() {
        return None;
    }
    Some(match name.as_str() {
        "serial" | "serial4" => SqlType::Int4,
        "bigserial" | "serial8" => SqlType::Int8,
        "smallserial" | "serial2" => SqlType::Int2,
        _ => return None,
    })
}

/// The statement's text after CREATE SEQUENCE or ALTER SEQUENCE.
pub(crate) fn parse(text: &str) -> Result<SequenceStatement, SqlError> {
    let failed = |e: ParserError| parser_error(&e, text);
    let mut parser = Parser::new(&PgDialect).try_with_sql(text).map_err(failed)?;
    let lenient =
        parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]) || parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let name = parser.parse_object_name(false).map_err(failed)?;
    let mut action = SequenceAction::Options;
    let mut options = SequenceOptions::default();
    if parser.parse_keywords(&[Keyword::RENAME, Keyword::TO]) {
        action = SequenceAction::Rename(parser.parse_identifier().map_err(failed)?);
    } else if parser.parse_keywords(&[Keyword::SET, Keyword::SCHEMA]) {
        action = SequenceAction::SetSchema(parser.parse_identifier().map_err(failed)?);
    } else if parser.parse_keywords(&[Keyword::OWNER, Keyword::TO]) {
        action = SequenceAction::Owner(parser.parse_owner().map_err(failed)?);
    } else {
        while parser.peek_token().token != Token::EOF {
            options.parse_one(&mut parser).map_err(failed)??;
        }
    }
    let next = parser.peek_token().token;
    if next != Token::EOF {
        return Err(SqlError::syntax(format!("syntax error at or near \"{next}\"")));
    }
    Ok(SequenceStatement { lenient, name, options, action })
}

fn set<T>(option: &mut Option<T>, value: T) -> Result<(), SqlError> {
    if option.replace(value).is_some() {
        return Err(SqlError::syntax("conflicting or redundant options"));
    }
    Ok(())
}

fn whole(expr: &Expr) -> Result<i64, SqlError> {
    let text = expr.to_string().replace(' ', "");
    text.parse().map_err(|_| SqlError::new("22003", format!("value \"{text}\" is out of range for type bigint")))
}

fn number(parser: &mut Parser<'_>) -> Result<Result<i64, SqlError>, ParserError> {
    parser.parse_number().map(|expr| whole(&expr))
}

impl SequenceOptions {
    /// Those of a sequence that there is, from its beginning.
    pub(crate) fn like(sequence: &SequenceDef) -> SequenceOptions {
        SequenceOptions {
            increment: Some(sequence.increment),
            min: Some(Some(sequence.min)),
            max: Some(Some(sequence.max)),
            start: Some(sequence.start),
            cache: Some(sequence.cache),
            cycle: Some(sequence.cycle),
            ..SequenceOptions::default()
        }
    }

    /// One option, wherever it stands.
    fn parse_one(&mut self, parser: &mut Parser<'_>) -> Result<Result<(), SqlError>, ParserError> {
        let word = parser.next_token();
        let keyword = match &word.token {
            Token::Word(w) if w.quote_style.is_none() => w.keyword,
            _ => Keyword::NoKeyword,
        };
        Ok(match keyword {
            Keyword::AS => {
                let data_type = parser.parse_data_type()?;
                sql_type(&data_type).and_then(|ty| set(&mut self.ty, ty))
            }
            Keyword::INCREMENT => {
                let _by = parser.parse_keyword(Keyword::BY);
                number(parser)?.and_then(|n| set(&mut self.increment, n))
            }
            Keyword::MINVALUE => number(parser)?.and_then(|n| set(&mut self.min, Some(n))),
            Keyword::MAXVALUE => number(parser)?.and_then(|n| set(&mut self.max, Some(n))),
            Keyword::NO if parser.parse_keyword(Keyword::MINVALUE) => set(&mut self.min, None),
            Keyword::NO if parser.parse_keyword(Keyword::MAXVALUE) => set(&mut self.max, None),
            Keyword::NO if parser.parse_keyword(Keyword::CYCLE) => set(&mut self.cycle, false),
            Keyword::START => {
                let _with = parser.parse_keyword(Keyword::WITH);
                number(parser)?.and_then(|n| set(&mut self.start, n))
            }
            Keyword::RESTART => {
                let with = parser.parse_keyword(Keyword::WITH);
                if with || matches!(parser.peek_token().token, Token::Number(..) | Token::Minus) {
                    number(parser)?.and_then(|n| set(&mut self.restart, Some(n)))
                } else {
                    set(&mut self.restart, None)
                }
            }
            Keyword::CACHE => number(parser)?.and_then(|n| set(&mut self.cache, n)),
            Keyword::CYCLE => set(&mut self.cycle, true),
            Keyword::OWNED => {
                parser.expect_keyword(Keyword::BY)?;
                match parser.parse_keyword(Keyword::NONE) {
                    true => set(&mut self.owned_by, None),
                    false => parser.parse_object_name(false).map(|name| set(&mut self.owned_by, Some(name)))?,
                }
            }
            _ => Err(SqlError::syntax(format!("syntax error at or near \"{}\"", word.token))),
        })
    }

    /// What the parser read in a column's GENERATED … AS IDENTITY (…).
    pub(crate) fn of_ast(options: &[ast::SequenceOptions]) -> Result<SequenceOptions, SqlError> {
        let mut out = SequenceOptions::default();
        for option in options {
            match option {
                ast::SequenceOptions::IncrementBy(n, _) => out.increment = Some(whole(n)?),
                ast::SequenceOptions::MinValue(n) => out.min = Some(n.as_ref().map(whole).transpose()?),
                ast::SequenceOptions::MaxValue(n) => out.max = Some(n.as_ref().map(whole).transpose()?),
                ast::SequenceOptions::StartWith(n, _) => out.start = Some(whole(n)?),
                ast::SequenceOptions::Cache(n) => out.cache = Some(whole(n)?),
                // The parser says true for NO CYCLE.
                ast::SequenceOptions::Cycle(no) => out.cycle = Some(!no),
            }
        }
        Ok(out)
    }

    /// A new sequence. Without AS it has the type given.
    pub(crate) fn create(&self, schema: SchemaId, name: String, ty: SqlType) -> Result<SequenceDef, SqlError> {
        let fresh = SequenceDef {
            id: TableId(new_oid()),
            schema,
            name,
            ty: self.ty.unwrap_or(ty),
            start: 0,
            increment: self.increment.unwrap_or(1),
            min: 0,
            max: 0,
            cache: 1,
            cycle: false,
            owner: None,
            position: SequencePosition { last: 0, called: false },
            epoch: 0,
        };
        let bounds = SequenceOptions { min: self.min.or(Some(None)), max: self.max.or(Some(None)), ..self.clone() };
        let mut sequence = bounds.bounded(fresh)?;
        sequence.start = self.start.unwrap_or(if sequence.increment > 0 { sequence.min } else { sequence.max });
        check_inside("START", sequence.start, &sequence)?;
        sequence.position.last = match self.restart {
            Some(Some(at)) => at,
            _ => sequence.start,
        };
        check_inside("RESTART", sequence.position.last, &sequence)?;
        Ok(sequence)
    }

    /// An existing sequence with the options changed; the epoch is the next one.
    pub(crate) fn alter(&self, old: &SequenceDef) -> Result<SequenceDef, SqlError> {
        let mut options = self.clone();
        let mut sequence = old.clone();
        if let Some(ty) = self.ty {
            // Bounds that were the old type's are the new one's.
            let (low, high) = type_bounds(old.ty)?;
            sequence.ty = ty;
            if old.max == high {
                options.max = options.max.or(Some(None));
            }
            if old.min == low {
                options.min = options.min.or(Some(None));
            }
        }
        sequence.increment = self.increment.unwrap_or(old.increment);
        let mut sequence = options.bounded(sequence)?;
        sequence.start = self.start.unwrap_or(old.start);
        check_inside("START", sequence.start, &sequence)?;
        if let Some(restart) = self.restart {
            sequence.position = SequencePosition { last: restart.unwrap_or(sequence.start), called: false };
        }
        check_inside("RESTART", sequence.position.last, &sequence)?;
        sequence.epoch = old.epoch + 1;
        Ok(sequence)
    }

    /// Increment, bounds, cache and cycle, checked.
    fn bounded(&self, mut sequence: SequenceDef) -> Result<SequenceDef, SqlError> {
        let refuse = |message: String| Err(SqlError::new("22023", message));
        let (low, high) = type_bounds(sequence.ty)?;
        if sequence.increment == 0 {
            return refuse("INCREMENT must not be zero".into());
        }
        let up = sequence.increment > 0;
        match self.max {
            Some(Some(max)) => sequence.max = max,
            Some(None) => sequence.max = if up { high } else { -1 },
            None => {}
        }
        match self.min {
            Some(Some(min)) => sequence.min = min,
            Some(None) => sequence.min = if up { 1 } else { low },
            None => {}
        }
        for (value, word) in [(sequence.max, "MAXVALUE"), (sequence.min, "MINVALUE")] {
            if value < low || value > high {
                return refuse(format!("{word} ({value}) is out of range for sequence data type {}", sequence.ty.name()));
            }
        }
        if sequence.min >= sequence.max {
            return refuse(format!("MINVALUE ({}) must be less than MAXVALUE ({})", sequence.min, sequence.max));
        }
        sequence.cache = self.cache.unwrap_or(sequence.cache);
        if sequence.cache <= 0 {
            return refuse(format!("CACHE ({}) must be greater than zero", sequence.cache));
        }
        sequence.cycle = self.cycle.unwrap_or(sequence.cycle);
        Ok(sequence)
    }
}

/// The smallest and largest value of a sequence's type.
fn type_bounds(ty: SqlType) -> Result<(i64, i64), SqlError> {
    match ty {
        SqlType::Int2 => Ok((i16::MIN.into(), i16::MAX.into())),
        SqlType::Int4 => Ok((i32::MIN.into(), i32::MAX.into())),
        SqlType::Int8 => Ok((i64::MIN, i64::MAX)),
        _ => Err(SqlError::new("22023", "sequence type must be smallint, integer, or bigint")),
    }
}

fn check_inside(word: &str, value: i64, sequence: &SequenceDef) -> Result<(), SqlError> {
    if value < sequence.min {
        return Err(SqlError::new("22023", format!("{word} value ({value}) cannot be less than MINVALUE ({})", sequence.min)));
    }
    if value > sequence.max {
        return Err(SqlError::new("22023", format!("{word} value ({value}) cannot be greater than MAXVALUE ({})", sequence.max)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_stand_in_any_order() {
        let parsed =
            parse("IF NOT EXISTS a.s START WITH 5 INCREMENT BY -2 NO MINVALUE MAXVALUE 10 NO CYCLE CACHE 3 OWNED BY t.c AS integer");
        let parsed = parsed.expect("it parses");
        let sequence = parsed.options.create(SchemaId(1), "s".into(), SqlType::Int8).expect("it fits");
        assert!(parsed.lenient && parsed.options.owned_by.is_some());
        assert_eq!((sequence.start, sequence.increment, sequence.min, sequence.max), (5, -2, i32::MIN.into(), 10));
        assert_eq!((sequence.cache, sequence.cycle, sequence.ty), (3, false, SqlType::Int4));
    }

    #[test]
    fn bounds_follow_a_changed_type() {
        let create = |text: &str| parse(text).and_then(|p| p.options.create(SchemaId(1), "s".into(), SqlType::Int8)).expect("it fits");
        let alter = |old: &SequenceDef, text: &str| parse(text).and_then(|p| p.options.alter(old));
        let narrow = alter(&create("s"), "s AS smallint").expect("it fits");
        assert_eq!((narrow.min, narrow.max, narrow.epoch), (1, i16::MAX.into(), 1));
        let restarted = alter(&create("s START 3 MINVALUE 2"), "s RESTART").expect("it fits");
        assert_eq!(restarted.position, SequencePosition { last: 3, called: false });
        assert_eq!(alter(&create("s"), "s RESTART 0").expect_err("below the minimum").code, "22023");
        assert_eq!(alter(&create("s"), "s INCREMENT 0").expect_err("it stands still").code, "22023");
    }

    #[test]
    fn what_is_said_twice_or_wrong_is_refused() {
        for text in ["s CACHE 1 CACHE 2", "s FOO", "s MINVALUE", "s RENAME TO t x"] {
            assert_eq!(parse(text).expect_err(text).code, "42601");
        }
    }
}
