//! Expressions of DEFAULT, CHECK and views as PostgreSQL writes them back: with the types of literals and the casts that it adds.
//!
//! What is not covered here (subqueries, CASE, …) comes back as it was written.

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::parser::Parser;
use quire_types::{SqlType, TableDef};

use super::oids::quoted;
use crate::ddl;
use crate::names::fold;
use crate::values::Home;

/// What a column reference is: how it is written, and its type.
pub(super) type Columns<'a> = &'a dyn Fn(Option<&str>, &str) -> Option<(String, SqlType)>;

/// A default as `pg_attrdef.adbin` has it. At the top an implicit cast is not shown, but a literal's type is.
pub(super) fn default(sql: &str, ty: SqlType) -> String {
    let none = |_: Option<&str>, _: &str| None;
    let printed = parse(sql).and_then(|expr| Printer { columns: &none, pretty: false }.print(&expr));
    match printed {
        Some(printed) => Printer::typed(&printed, ty).unwrap_or(printed).text,
        None => sql.to_string(),
    }
}

/// `pg_get_expr(…, true)`: an expression that was written back once, with fewer parentheses.
pub(super) fn pretty(sql: &str) -> String {
    let none = |_: Option<&str>, _: &str| None;
    parse(sql).and_then(|expr| Printer { columns: &none, pretty: true }.print(&expr)).map_or_else(|| sql.to_string(), |p| p.text)
}

/// A CHECK's expression over the table's columns.
pub(super) fn check(table: &TableDef, sql: &str, pretty: bool) -> String {
    let columns = |_: Option<&str>, name: &str| table.columns.iter().find(|c| c.name == name).map(|c| (quoted(name), c.ty));
    match parse(sql).and_then(|expr| Printer { columns: &columns, pretty }.print(&expr)) {
        Some(printed) => printed.text,
        None if pretty => sql.to_string(),
        None => format!("({sql})"),
    }
}

fn parse(sql: &str) -> Option<Expr> {
    Parser::new(&PgDialect).try_with_sql(sql).ok()?.parse_expr().ok()
}

/// What is known of an expression's type.
#[derive(Clone, Copy, PartialEq)]
enum Ty {
    /// A quoted literal, which takes the type of what it meets.
    Literal,
    Of(SqlType),
    /// Not known, or none of ours.
    Other,
}

/// What kind of node an expression is: whether it needs parentheses depends on that and on the node above.
#[derive(Clone, Copy, PartialEq)]
enum Node {
    Simple,
    Sum,
    Product,
    Operator,
    Test,
    And,
    Or,
    Not,
    Cast,
}

#[derive(Clone)]
pub(super) struct Printed {
    pub(super) text: String,
    ty: Ty,
    node: Node,
    /// A constant without its type.
    bare: Option<String>,
}

fn simple(text: impl Into<String>, ty: Ty) -> Printed {
    Printed { text: text.into(), ty, node: Node::Simple, bare: None }
}

pub(super) struct Printer<'a> {
    pub(super) columns: Columns<'a>,
    pub(super) pretty: bool,
}

fn base(ty: SqlType) -> SqlType {
    match ty {
        SqlType::Varchar(_) => SqlType::Varchar(None),
        SqlType::Numeric { .. } => SqlType::NUMERIC_DEFAULT,
        other => other,
    }
}

fn shown_type(ty: SqlType) -> String {
    match base(ty) {
        // Without a length a character is one long.
        SqlType::Char(_) => "bpchar".into(),
        other => other.name(),
    }
}

fn escaped(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Printer<'_> {
    /// `None` for what is not covered.
    pub(super) fn print(&self, expr: &Expr) -> Option<Printed> {
        Some(match expr {
            Expr::Nested(inner) => self.print(inner)?,
            Expr::Identifier(ident) => self.column(None, &fold(ident))?,
            Expr::CompoundIdentifier(parts) => {
                let [.., table, column] = parts.as_slice() else { return None };
                self.column(Some(&fold(table)), &fold(column))?
            }
            Expr::Value(value) => self.constant(&value.value)?,
            Expr::TypedString(typed) => {
                let ty = ddl::sql_type(&typed.data_type).ok()?;
                self.cast(&self.constant(&typed.value.value)?, &ty.name(), Ty::Of(ty))
            }
            Expr::Interval(interval) => {
                let mut value = interval.value.to_string();
                if let Some(field) = &interval.leading_field {
                    value = format!("'{} {}'", value.trim_matches('\''), field.to_string().to_lowercase());
                }
                simple(format!("{value}::interval"), Ty::Of(SqlType::Interval))
            }
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } => self.explicit_cast(expr, data_type)?,
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                let inner = self.inside(&self.print(expr)?, Node::Not, false);
                self.finished(format!("NOT {inner}"), Ty::Of(SqlType::Bool), Node::Not)
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
                Expr::Value(value) => match &value.value {
                    Value::Number(digits, _) => {
                        let ty = number_type(digits);
                        let text = format!("'-{digits}'::{}", shown_type(ty));
                        Printed { bare: Some(format!("'-{digits}'")), ..simple(text, Ty::Of(ty)) }
                    }
                    _ => return None,
                },
                operand => {
                    let operand = self.print(operand)?;
                    let ty = operand.ty;
                    self.finished(format!("- {}", self.inside(&operand, Node::Operator, false)), ty, Node::Operator)
                }
            },
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => self.print(expr)?,
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right)?,
            Expr::IsNull(inner) => self.test(inner, "IS NULL")?,
            Expr::IsNotNull(inner) => self.test(inner, "IS NOT NULL")?,
            Expr::IsTrue(inner) => self.test(inner, "IS TRUE")?,
            Expr::IsNotTrue(inner) => self.test(inner, "IS NOT TRUE")?,
            Expr::IsFalse(inner) => self.test(inner, "IS FALSE")?,
            Expr::IsNotFalse(inner) => self.test(inner, "IS NOT FALSE")?,
            Expr::Between { expr, negated, low, high } => {
                let operators = if *negated { ["<", ">"] } else { [">=", "<="] };
                let (value, low, high) = (self.print(expr)?, self.print(low)?, self.print(high)?);
                let both = [self.operator(&value, operators[0], &low)?, self.operator(&value, operators[1], &high)?];
                self.logical(&both, if *negated { Node::Or } else { Node::And })
            }
            Expr::InList { expr, list, negated } => self.in_list(&self.print(expr)?, list, *negated)?,
            Expr::Like { negated, expr, pattern, escape_char: None, any: false } => {
                let operator = if *negated { "!~~" } else { "~~" };
                self.operator(&self.print(expr)?, operator, &self.print(pattern)?)?
            }
            Expr::ILike { negated, expr, pattern, escape_char: None, any: false } => {
                let operator = if *negated { "!~~*" } else { "~~*" };
                self.operator(&self.print(expr)?, operator, &self.print(pattern)?)?
            }
            Expr::Function(function) => self.call(function)?,
            _ => return None,
        })
    }

    fn column(&self, table: Option<&str>, name: &str) -> Option<Printed> {
        match (self.columns)(table, name) {
            Some((text, ty)) => Some(simple(text, Ty::Of(ty))),
            None => word(name),
        }
    }

    fn constant(&self, value: &Value) -> Option<Printed> {
        Some(match value {
            Value::Number(digits, _) => Printed { bare: Some(digits.clone()), ..simple(digits.clone(), Ty::Of(number_type(digits))) },
            Value::SingleQuotedString(text) => {
                Printed { bare: Some(escaped(text)), ..simple(format!("{}::text", escaped(text)), Ty::Literal) }
            }
            Value::Boolean(truth) => simple(truth.to_string(), Ty::Of(SqlType::Bool)),
            Value::Null => Printed { bare: Some("NULL".into()), ..simple("NULL", Ty::Literal) },
            _ => return None,
        })
    }

    /// A quoted literal with the type that it takes.
    fn typed(printed: &Printed, ty: SqlType) -> Option<Printed> {
        let bare = printed.bare.as_ref().filter(|_| printed.ty == Ty::Literal)?;
        if ty == SqlType::Bool {
            let truth = crate::values::parse_text(SqlType::Bool, bare.strip_prefix('\'')?.strip_suffix('\'')?, &Home::unknown()).ok()?;
            let truth = arrow::array::AsArray::as_boolean_opt(&truth)?.value(0);
            return Some(simple(truth.to_string(), Ty::Of(ty)));
        }
        Some(simple(format!("{bare}::{}", shown_type(ty)), Ty::Of(ty)))
    }

    fn cast(&self, inner: &Printed, name: &str, ty: Ty) -> Printed {
        let text = match &inner.bare {
            // A constant of the type itself.
            Some(bare) if inner.ty == Ty::Literal => return Printed { bare: None, ..simple(format!("{bare}::{name}"), ty) },
            _ if !self.pretty => format!("({})::{name}", inner.text),
            _ if matches!(inner.node, Node::Simple | Node::Cast) => format!("{}::{name}", inner.text),
            _ => format!("({})::{name}", inner.text),
        };
        Printed { text, ty, node: Node::Cast, bare: None }
    }

    fn explicit_cast(&self, expr: &Expr, data_type: &DataType) -> Option<Printed> {
        let inner = self.print(expr)?;
        if data_type.to_string().eq_ignore_ascii_case("bpchar") {
            return Some(self.cast(&inner, "bpchar", Ty::Of(SqlType::Char(1))));
        }
        Some(match ddl::sql_type(data_type) {
            Ok(ty) if inner.ty == Ty::Of(ty) => inner,
            Ok(ty) => self.cast(&inner, &ty.name(), Ty::Of(ty)),
            Err(_) => self.cast(&inner, &data_type.to_string().to_lowercase(), Ty::Other),
        })
    }

    /// An operand as its operator or function takes it.
    fn coerced(&self, operand: &Printed, wanted: SqlType) -> Printed {
        if let Some(typed) = Self::typed(operand, wanted) {
            return typed;
        }
        match operand.ty {
            Ty::Of(ty) if base(ty) != base(wanted) => self.cast(operand, &shown_type(wanted), Ty::Of(wanted)),
            _ => operand.clone(),
        }
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Printed> {
        let node = match op {
            BinaryOperator::And => Node::And,
            BinaryOperator::Or => Node::Or,
            _ => return self.operator(&self.print(left)?, &operator_name(op)?, &self.print(right)?),
        };
        let mut parts = vec![self.print(right)?];
        let mut rest = left;
        loop {
            match rest {
                Expr::Nested(inner) => rest = inner,
                Expr::BinaryOp { left, op: same, right } if same == op => {
                    parts.push(self.print(right)?);
                    rest = left;
                }
                _ => break,
            }
        }
        parts.push(self.print(rest)?);
        parts.reverse();
        Some(self.logical(&parts, node))
    }

    fn logical(&self, parts: &[Printed], node: Node) -> Printed {
        let parts: Vec<String> = parts.iter().map(|p| self.inside(p, node, false)).collect();
        self.finished(parts.join(if node == Node::And { " AND " } else { " OR " }), Ty::Of(SqlType::Bool), node)
    }

    fn operator(&self, left: &Printed, operator: &str, right: &Printed) -> Option<Printed> {
        let node = match operator {
            "+" | "-" => Node::Sum,
            "*" | "/" | "%" => Node::Product,
            _ => Node::Operator,
        };
        let (left_type, right_type) = operand_types(operator, left.ty, right.ty);
        let left = left_type.map_or_else(|| left.clone(), |ty| self.coerced(left, ty));
        let right = right_type.map_or_else(|| right.clone(), |ty| self.coerced(right, ty));
        let ty = match node {
            Node::Operator if operator == "||" => Ty::Of(SqlType::Text),
            Node::Operator => Ty::Of(SqlType::Bool),
            _ => left.ty,
        };
        let text = format!("{} {operator} {}", self.inside(&left, node, true), self.inside(&right, node, false));
        Some(self.finished(text, ty, node))
    }

    fn in_list(&self, value: &Printed, list: &[Expr], negated: bool) -> Option<Printed> {
        let items = list.iter().map(|item| self.print(item)).collect::<Option<Vec<_>>>()?;
        let Ty::Of(ty) = value.ty else { return None };
        if let [item] = items.as_slice() {
            return self.operator(value, if negated { "<>" } else { "=" }, item);
        }
        let texts: Vec<String> = items.iter().map(|item| self.coerced(item, ty).text).collect();
        let array = format!("ARRAY[{}]", texts.join(", "));
        let (operator, any) = if negated { ("<>", "ALL") } else { ("=", "ANY") };
        let (value, array) = match ty {
            SqlType::Varchar(_) => {
                let array = if self.pretty { format!("{array}::text[]") } else { format!("({array})::text[]") };
                (self.cast(value, "text", Ty::Of(SqlType::Text)), array)
            }
            _ => (value.clone(), array),
        };
        let text = format!("{} {operator} {any} ({array})", self.inside(&value, Node::Operator, true));
        Some(self.finished(text, Ty::Of(SqlType::Bool), Node::Operator))
    }

    fn test(&self, inner: &Expr, test: &str) -> Option<Printed> {
        let inner = self.print(inner)?;
        Some(self.finished(format!("{} {test}", self.inside(&inner, Node::Test, false)), Ty::Of(SqlType::Bool), Node::Test))
    }

    fn call(&self, function: &datafusion::sql::sqlparser::ast::Function) -> Option<Printed> {
        let name = fold(function.name.0.last()?.as_ident()?);
        if function.over.is_some() || function.filter.is_some() || !function.within_group.is_empty() {
            return None;
        }
        let FunctionArguments::List(list) = &function.args else { return word(&name) };
        if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
            return None;
        }
        let mut args = vec![];
        for arg in &list.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => args.push(self.print(expr)?),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => args.push(simple("*", Ty::Other)),
                _ => return None,
            }
        }
        let shared = args.iter().find_map(|a| if let Ty::Of(ty) = a.ty { Some(ty) } else { None });
        let (ty, wanted) = match name.as_str() {
            "lower" | "upper" | "btrim" | "replace" | "left" | "right" | "concat" => (Ty::Of(SqlType::Text), Some(SqlType::Text)),
            "length" | "char_length" | "strpos" => (Ty::Of(SqlType::Int4), Some(SqlType::Text)),
            "now" => (Ty::Of(SqlType::Timestamptz), None),
            "count" => (Ty::Of(SqlType::Int8), None),
            "coalesce" | "greatest" | "least" | "nullif" => (shared.map_or(Ty::Other, Ty::Of), shared),
            "abs" | "min" | "max" => (shared.map_or(Ty::Other, Ty::Of), None),
            _ => (Ty::Other, None),
        };
        let is_text = |a: &Printed| matches!(a.ty, Ty::Literal | Ty::Of(SqlType::Varchar(_) | SqlType::Char(_)));
        let texts = args.iter().map(|a| match wanted {
            Some(SqlType::Text) if is_text(a) => self.coerced(a, SqlType::Text).text,
            Some(wanted) if wanted != SqlType::Text => self.coerced(a, wanted).text,
            _ => a.text.clone(),
        });
        let texts = texts.collect::<Vec<_>>().join(", ");
        let shown = if matches!(name.as_str(), "coalesce" | "greatest" | "least" | "nullif") { name.to_uppercase() } else { quoted(&name) };
        Some(simple(format!("{shown}({texts})"), ty))
    }

    /// A finished operator: without the pretty form it always has its parentheses.
    fn finished(&self, text: String, ty: Ty, node: Node) -> Printed {
        if self.pretty {
            Printed { text, ty, node, bare: None }
        } else {
            Printed { text: format!("({text})"), ty, node: Node::Simple, bare: None }
        }
    }

    /// A part within a node of that kind.
    fn inside(&self, part: &Printed, parent: Node, first: bool) -> String {
        let plain = match (part.node, parent) {
            (Node::Simple | Node::Cast, _) => true,
            (Node::Product, Node::Sum) => true,
            (Node::Sum, Node::Sum) | (Node::Product, Node::Product) => first,
            (Node::And | Node::Not, Node::And | Node::Or) | (Node::Or, Node::Or) => true,
            (Node::Sum | Node::Product | Node::Operator | Node::Test, Node::And | Node::Or | Node::Not) => true,
            _ => false,
        };
        if plain { part.text.clone() } else { format!("({})", part.text) }
    }
}

/// Values that are written without parentheses.
fn word(name: &str) -> Option<Printed> {
    let ty = match name {
        "current_date" => SqlType::Date,
        "current_timestamp" => SqlType::Timestamptz,
        "localtimestamp" => SqlType::Timestamp,
        "current_user" | "session_user" | "current_role" | "current_catalog" => SqlType::Text,
        _ => return None,
    };
    Some(simple(name.to_uppercase(), Ty::Of(ty)))
}

fn number_type(digits: &str) -> SqlType {
    match digits {
        _ if digits.parse::<i32>().is_ok() => SqlType::Int4,
        _ if digits.parse::<i64>().is_ok() => SqlType::Int8,
        _ => SqlType::NUMERIC_DEFAULT,
    }
}

fn operator_name(op: &BinaryOperator) -> Option<String> {
    use BinaryOperator as Op;
    Some(match op {
        Op::NotEq => "<>".into(),
        Op::Eq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq | Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => op.to_string(),
        Op::StringConcat | Op::PGRegexMatch | Op::PGRegexIMatch | Op::PGRegexNotMatch | Op::PGRegexNotIMatch => op.to_string(),
        Op::PGLikeMatch | Op::PGNotLikeMatch | Op::PGILikeMatch | Op::PGNotILikeMatch => op.to_string(),
        _ => return None,
    })
}

/// The types that an operator's operands are cast to; `None` leaves one as it is.
fn operand_types(operator: &str, left: Ty, right: Ty) -> (Option<SqlType>, Option<SqlType>) {
    let is_text = |ty: SqlType| matches!(ty, SqlType::Text | SqlType::Varchar(_));
    let is_integer = |ty: SqlType| matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8);
    let is_float = |ty: SqlType| matches!(ty, SqlType::Float4 | SqlType::Float8);
    let is_numeric = |ty: SqlType| matches!(ty, SqlType::Numeric { .. });
    let text_only = matches!(operator, "||" | "~~" | "!~~" | "~~*" | "!~~*" | "~" | "~*" | "!~" | "!~*");
    let both = |ty: SqlType| (Some(ty), Some(ty));
    match (left, right) {
        _ if text_only => both(SqlType::Text),
        (Ty::Of(a), Ty::Of(b)) if is_text(a) && is_text(b) => both(SqlType::Text),
        (Ty::Of(a), Ty::Literal) if is_text(a) => both(SqlType::Text),
        (Ty::Literal, Ty::Of(b)) if is_text(b) => both(SqlType::Text),
        (Ty::Of(a), Ty::Literal) => both(a),
        (Ty::Literal, Ty::Of(b)) => both(b),
        (Ty::Literal, Ty::Literal) => both(SqlType::Text),
        (Ty::Of(a), Ty::Of(b)) if is_numeric(a) && is_integer(b) => (None, Some(SqlType::NUMERIC_DEFAULT)),
        (Ty::Of(a), Ty::Of(b)) if is_integer(a) && is_numeric(b) => (Some(SqlType::NUMERIC_DEFAULT), None),
        (Ty::Of(a), Ty::Of(b)) if is_float(a) && (is_integer(b) || is_numeric(b)) => (None, Some(SqlType::Float8)),
        (Ty::Of(a), Ty::Of(b)) if is_float(b) && (is_integer(a) || is_numeric(a)) => (Some(SqlType::Float8), None),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(_: Option<&str>, name: &str) -> Option<(String, SqlType)> {
        let ty = match name {
            "i" => SqlType::Int4,
            "n" => SqlType::Numeric { precision: 8, scale: 2 },
            "t" => SqlType::Text,
            "v" => SqlType::Varchar(Some(9)),
            "f" => SqlType::Float8,
            "d" => SqlType::Date,
            "b" => SqlType::Bool,
            _ => return None,
        };
        Some((name.to_string(), ty))
    }

    /// Both forms are PostgreSQL 15's.
    fn check(sql: &str, plain: &str, pretty: &str) {
        for (is_pretty, expected) in [(false, plain), (true, pretty)] {
            let printer = Printer { columns: &column, pretty: is_pretty };
            let printed = parse(sql).and_then(|expr| printer.print(&expr)).map(|p| p.text);
            assert_eq!(printed.as_deref(), Some(expected), "{sql}");
        }
    }

    #[test]
    fn checks_are_written_with_casts_and_parentheses() {
        check("n >= 0", "(n >= (0)::numeric)", "n >= 0::numeric");
        check("i > 0 AND i < 10", "((i > 0) AND (i < 10))", "i > 0 AND i < 10");
        check("i BETWEEN 1 AND 5", "((i >= 1) AND (i <= 5))", "i >= 1 AND i <= 5");
        check("t <> ''", "(t <> ''::text)", "t <> ''::text");
        check("v <> ''", "((v)::text <> ''::text)", "v::text <> ''::text");
        check("i IN (1, 2)", "(i = ANY (ARRAY[1, 2]))", "i = ANY (ARRAY[1, 2])");
        check("t IN ('a', 'b')", "(t = ANY (ARRAY['a'::text, 'b'::text]))", "t = ANY (ARRAY['a'::text, 'b'::text])");
        check("v IN ('a')", "((v)::text = 'a'::text)", "v::text = 'a'::text");
        check(
            "v NOT IN ('a', 'b')",
            "((v)::text <> ALL ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
            "v::text <> ALL (ARRAY['a'::character varying, 'b'::character varying]::text[])",
        );
        check("(i + 1) * 2 > 3", "(((i + 1) * 2) > 3)", "((i + 1) * 2) > 3");
        check("i + 1 * 2 > 3", "((i + (1 * 2)) > 3)", "(i + 1 * 2) > 3");
        check("t LIKE 'a%'", "(t ~~ 'a%'::text)", "t ~~ 'a%'::text");
        check("NOT b", "(NOT b)", "NOT b");
        check("b OR (i > 1 AND i < 3)", "(b OR ((i > 1) AND (i < 3)))", "b OR i > 1 AND i < 3");
        check("d > '2020-01-01'", "(d > '2020-01-01'::date)", "d > '2020-01-01'::date");
        check("f > 0", "(f > (0)::double precision)", "f > 0::double precision");
        check("length(v) > 2", "(length((v)::text) > 2)", "length(v::text) > 2");
        check("i IS NOT NULL", "(i IS NOT NULL)", "i IS NOT NULL");
        check("i > -1", "(i > '-1'::integer)", "i > '-1'::integer");
    }

    #[test]
    fn defaults_show_the_type_of_a_literal() {
        for (sql, ty, expected) in [
            ("'x'", SqlType::Text, "'x'::text"),
            ("'abc'", SqlType::Varchar(Some(9)), "'abc'::character varying"),
            ("0", SqlType::Numeric { precision: 8, scale: 2 }, "0"),
            ("-1", SqlType::Int4, "'-1'::integer"),
            ("now()", SqlType::Timestamptz, "now()"),
            ("CURRENT_TIMESTAMP", SqlType::Timestamptz, "CURRENT_TIMESTAMP"),
            ("true", SqlType::Bool, "true"),
            ("'f'", SqlType::Bool, "false"),
            ("'2020-01-01'", SqlType::Date, "'2020-01-01'::date"),
            ("'a' || 'b'", SqlType::Text, "('a'::text || 'b'::text)"),
            ("'a'", SqlType::Char(4), "'a'::bpchar"),
        ] {
            assert_eq!(default(sql, ty), expected, "{sql}");
        }
        assert_eq!(pretty("'a'::bpchar"), "'a'::bpchar");
        assert_eq!(pretty("('a'::text || 'b'::text)"), "'a'::text || 'b'::text");
    }
}
