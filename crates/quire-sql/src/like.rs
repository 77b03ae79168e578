//! `LIKE source INCLUDING …` among the columns of CREATE TABLE.
//!
//! The parser knows little of it, so it becomes a column of a name that no other has, whose options say what is meant.

use datafusion::sql::sqlparser::ast::{ColumnDef, ColumnOption, Expr, ObjectName, Value};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use quire_types::{ColumnId, CommentTarget, ConstraintKind, Generated, TableDef};

use crate::SqlError;
use crate::names::{Relation, missing_relation, split};
use crate::sequence_options::SequenceOptions;
use crate::syntax::{at, closing, is, is_word, word};
use crate::table_builder::TableBuilder;

/// The column's name. It references the source, and its default is a list of what is included.
const LIKE: &str = "quire:like";

/// What INCLUDING takes beside ALL. The first ones are nothing here.
const PARTS: [&str; 9] =
    ["STORAGE", "COMPRESSION", "STATISTICS", "COMMENTS", "CONSTRAINTS", "DEFAULTS", "GENERATED", "IDENTITY", "INDEXES"];

/// Respells such elements of the list of columns that begins at a position.
pub(crate) fn rewrite(tokens: &mut Vec<TokenWithSpan>, open: usize) {
    let mut element = open + 1;
    while let Some(end) = closing(tokens, open)
        && element < end
    {
        if is_word(tokens.get(element), "LIKE")
            && let Some((after, respelled)) = respelled(tokens, element)
        {
            tokens.splice(element..after, respelled);
        }
        let Some(comma) = next_comma(tokens, element) else { return };
        element = comma + 1;
    }
}

/// Where the element ends, and what it becomes.
fn respelled(tokens: &[TokenWithSpan], like: usize) -> Option<(usize, Vec<TokenWithSpan>)> {
    let mut i = like + 1;
    let is_name = |i: usize| matches!(tokens.get(i).map(|t| &t.token), Some(Token::Word(_)));
    while is_name(i) && is(tokens.get(i + 1), &Token::Period) {
        i += 2;
    }
    if !is_name(i) {
        return None;
    }
    i += 1;
    let name = &tokens[like + 1..i];
    let mut included = [false; PARTS.len()];
    while is_word(tokens.get(i), "INCLUDING") || is_word(tokens.get(i), "EXCLUDING") {
        let including = is_word(tokens.get(i), "INCLUDING");
        match PARTS.iter().position(|part| is_word(tokens.get(i + 1), part)) {
            Some(part) => included[part] = including,
            None if is_word(tokens.get(i + 1), "ALL") => included = [including; PARTS.len()],
            None => return None,
        }
        i += 2;
    }
    if !is(tokens.get(i), &Token::Comma) && !is(tokens.get(i), &Token::RParen) {
        return None;
    }
    let span = tokens[like].span;
    let list: Vec<&str> = PARTS.iter().zip(included).filter(|(_, included)| *included).map(|(part, _)| *part).collect();
    let mut column = vec![at(span, Token::make_word(LIKE, Some('"'))), word(span, "INT"), word(span, "DEFAULT")];
    column.extend([at(span, Token::SingleQuotedString(list.join(" "))), word(span, "REFERENCES")]);
    column.extend_from_slice(name);
    Some((i, column))
}

/// The next comma of the list that an element is in.
fn next_comma(tokens: &[TokenWithSpan], element: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(element) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.checked_sub(1)?,
            Token::Comma if depth == 0 => return Some(i),
            _ => {}
        }
    }
    None
}

/// The source, and what is included of it, when a column stands for LIKE.
pub(crate) fn source_of(column: &ColumnDef) -> Option<(&ObjectName, Vec<&str>)> {
    if column.name.value != LIKE {
        return None;
    }
    let mut source = None;
    let mut included = vec![];
    for option in &column.options {
        match &option.option {
            ColumnOption::ForeignKey(key) => source = Some(&key.foreign_table),
            ColumnOption::Default(Expr::Value(value)) => {
                if let Value::SingleQuotedString(list) = &value.value {
                    included = list.split_whitespace().collect();
                }
            }
            _ => {}
        }
    }
    Some((source?, included))
}

impl TableBuilder<'_> {
    /// Columns like those of a relation, and what else of it is included.
    pub(crate) fn like(&mut self, source: &ObjectName, included: &[&str]) -> Result<(), SqlError> {
        match self.resolver.find_relation(source)? {
            Some(Relation::Table(table)) => self.like_table(&table, |part| included.contains(&part)),
            Some(Relation::View(view)) => {
                for (name, ty) in &view.columns {
                    self.new_column(name.clone(), *ty)?;
                }
                Ok(())
            }
            Some(_) => Err(SqlError::new("42809", format!("relation \"{}\" is invalid in LIKE clause", split(source)?.1))),
            None => Err(missing_relation(source)),
        }
    }

    fn like_table(&mut self, source: &TableDef, includes: impl Fn(&str) -> bool) -> Result<(), SqlError> {
        let mut ids: Vec<(ColumnId, ColumnId)> = vec![];
        for column in &source.columns {
            let id = self.new_column(column.name.clone(), column.ty)?;
            ids.push((column.id, id));
            let new = self.column_mut(id)?;
            new.nullable = column.nullable;
            match &column.generated {
                None if includes("DEFAULTS") => new.default = column.default.clone(),
                Some(Generated::Stored(_)) if includes("GENERATED") => new.generated = column.generated.clone(),
                Some(Generated::Identity { sequence, always }) if includes("IDENTITY") => {
                    let options = self.resolver.catalog.sequences.get(sequence).map(|s| SequenceOptions::like(s)).unwrap_or_default();
                    self.identity(id, *always, options)?;
                }
                _ => {}
            }
        }
        let mapped = |columns: &[ColumnId]| -> Vec<ColumnId> {
            columns.iter().filter_map(|old| ids.iter().find(|(id, _)| id == old)).map(|(_, new)| *new).collect()
        };
        let mut renamed = vec![];
        for constraint in &source.constraints {
            let included = match &constraint.kind {
                ConstraintKind::Check(_) => includes("CONSTRAINTS"),
                ConstraintKind::ForeignKey { .. } => false,
                _ => includes("INDEXES"),
            };
            if !included {
                continue;
            }
            match &constraint.kind {
                ConstraintKind::Check(_) => self.def.constraints.push(constraint.clone()),
                ConstraintKind::PrimaryKey(columns) => self.primary_key(None, mapped(columns), constraint.deferrable)?,
                ConstraintKind::Unique(columns) => self.unique(None, mapped(columns), constraint.deferrable),
                ConstraintKind::Index { columns, unique } => {
                    let columns = mapped(columns);
                    self.index(None, columns.clone(), &columns, *unique);
                }
                ConstraintKind::ForeignKey { .. } => {}
            }
            if let Some(new) = self.def.constraints.last() {
                renamed.push((constraint.name.clone(), new.name.clone()));
            }
        }
        if includes("COMMENTS") {
            self.like_comments(source, &ids, &renamed);
        }
        Ok(())
    }

    /// Comments on what was taken along; not the one on the table.
    fn like_comments(&mut self, source: &TableDef, ids: &[(ColumnId, ColumnId)], renamed: &[(String, String)]) {
        let (from, to) = (source.id, self.def.id);
        let columns = ids.iter().map(|(old, new)| (CommentTarget::Column(from, *old), CommentTarget::Column(to, *new)));
        let constraints = renamed.iter().flat_map(|(old, new)| {
            let constraint = (CommentTarget::Constraint(from, old.clone()), CommentTarget::Constraint(to, new.clone()));
            [constraint, (CommentTarget::Index(from, old.clone()), CommentTarget::Index(to, new.clone()))]
        });
        for (old, new) in columns.chain(constraints) {
            if let Some(text) = self.resolver.catalog.comments.get(&old) {
                self.comments.push((new, text.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::syntax::check;

    #[test]
    fn like_is_a_column_to_the_parser() {
        check("CREATE TABLE t (LIKE s.u)", "CREATE TABLE t (\"quire:like\" INT DEFAULT '' REFERENCES s.u)");
        check(
            "CREATE TABLE t (a INT, LIKE u INCLUDING DEFAULTS INCLUDING INDEXES EXCLUDING DEFAULTS, CHECK (a > 0))",
            "CREATE TABLE t (a INT, \"quire:like\" INT DEFAULT 'INDEXES' REFERENCES u, CHECK (a > 0))",
        );
    }
}
