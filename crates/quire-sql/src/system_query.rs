//! Queries of the system catalogs: operators, casts and functions that clients write there and that the planner lacks.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::dialect::PgDialect;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, JoinOperator, ObjectName,
    Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor, Value, Visit, VisitMut, Visitor,
    VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::sql::rules::{
    AliasDuplicatedProjectionRewrite, FixArrayLiteral, ResolveUnqualifiedIdentifier, RewriteArrayAnyAllOperation, RewritePgCatalogOperator,
    SqlStatementRewriteRule,
};

use crate::names::{fold, split};
use crate::regtypes::{call, number};

/// Rewrites a query that names a system catalog; others stay as they are.
pub(crate) fn rewrite(statement: Statement, sql: &str) -> Statement {
    if !matches!(statement, Statement::Query(_)) || !mentions_system_catalog(sql) {
        return statement;
    }
    let mut statement = statement;
    let mut relations = Relations(HashMap::new());
    let _: ControlFlow<()> = Visit::visit(&statement, &mut relations);
    let _: ControlFlow<()> = VisitMut::visit(&mut statement, &mut Catalogs { relations: relations.0 });
    let rules: [&dyn SqlStatementRewriteRule; 5] = [
        &AliasDuplicatedProjectionRewrite,
        &ResolveUnqualifiedIdentifier,
        &RewriteArrayAnyAllOperation,
        &FixArrayLiteral,
        &RewritePgCatalogOperator,
    ];
    rules.into_iter().fold(statement, |statement, rule| rule.rewrite(statement))
}

fn mentions_system_catalog(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    ["pg_catalog.", "information_schema.", "from pg_", "join pg_"].iter().any(|word| lower.contains(word))
}

/// System relations of a statement by their aliases: the values of `tableoid`.
struct Relations(HashMap<String, i64>);

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, args: None, .. } = factor
            && let Ok((schema, relation)) = split(name)
            && schema.is_none_or(|s| s == "pg_catalog")
            && let Some(oid) = crate::system::system_class_oid(&relation)
        {
            let known_as = alias.as_ref().map_or(relation, |alias| fold(&alias.name));
            self.0.insert(known_as, oid);
        }
        ControlFlow::Continue(())
    }
}

struct Catalogs {
    relations: HashMap<String, i64>,
}

impl VisitorMut for Catalogs {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        without_rows(&mut query.body);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let Some(table) = function_as_table(factor) {
            *factor = table;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundFieldAccess { root, access_chain } = expr
            && let Some(fields) = field_of_pairs(root, access_chain)
        {
            *expr = fields;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                if let [.., relation, column] = parts.as_slice()
                    && fold(column) == "tableoid"
                    && let Some(oid) = self.relations.get(&fold(relation))
                {
                    *expr = number(*oid);
                }
            }
            Expr::Function(function) => {
                let Some(name) = function.name.0.last().and_then(|p| p.as_ident()).map(fold) else { return ControlFlow::Continue(()) };
                let Some(mut args) = arguments(&function.args) else { return ControlFlow::Continue(()) };
                if args.is_empty() {
                    return ControlFlow::Continue(());
                }
                let items = match name.as_str() {
                    "generate_subscripts" => call("quire_subscripts", vec![args.remove(0)]),
                    "_pg_expandarray" => call("quire_expanded", vec![args.remove(0)]),
                    "pg_partition_ancestors" => call("quire_no_oids", vec![args.remove(0)]),
                    _ => return ControlFlow::Continue(()),
                };
                *expr = call("unnest", vec![items]);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn arguments(args: &FunctionArguments) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = args else { return None };
    expressions(&list.args)
}

fn expressions(args: &[FunctionArg]) -> Option<Vec<Expr>> {
    let expr = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    args.iter().map(expr).collect()
}

/// `(_pg_expandarray(x)).n` and `.x`: the numbers and the items of `x`, without pairs. Of a column, `(keys).x`, its field.
fn field_of_pairs(root: &Expr, chain: &[AccessExpr]) -> Option<Expr> {
    let [AccessExpr::Dot(Expr::Identifier(field))] = chain else { return None };
    let Expr::Nested(inner) = root else { return None };
    if matches!(inner.as_ref(), Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
        let name = Expr::Value(Value::SingleQuotedString(fold(field)).into());
        return Some(call("get_field", vec![inner.as_ref().clone(), name]));
    }
    let Expr::Function(function) = inner.as_ref() else { return None };
    if fold(function.name.0.last()?.as_ident()?) != "_pg_expandarray" {
        return None;
    }
    let array = arguments(&function.args)?.into_iter().next()?;
    match fold(field).as_str() {
        "n" => Some(call("unnest", vec![call("quire_ordinals", vec![array])])),
        "x" => Some(call("unnest", vec![array])),
        _ => None,
    }
}

/// Functions with rows of what does not exist here, and their columns with types.
const WITHOUT_ROWS: [(&str, &[(&str, &str)]); 4] = [
    ("pg_partition_ancestors", &[("relid", "bigint")]),
    ("pg_partition_tree", &[("relid", "bigint"), ("parentrelid", "bigint"), ("isleaf", "boolean"), ("level", "integer")]),
    ("pg_options_to_table", &[("option_name", "text"), ("option_value", "text")]),
    ("aclexplode", &[("grantor", "bigint"), ("grantee", "bigint"), ("privilege_type", "text"), ("is_grantable", "boolean")]),
];

/// A function in FROM as a table that the planner knows.
fn function_as_table(factor: &TableFactor) -> Option<TableFactor> {
    let (name, args, alias, numbered) = match factor {
        TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => {
            (last(name)?, expressions(&args.args)?, alias, *with_ordinality)
        }
        TableFactor::Function { name, args, alias, with_ordinality, .. } => (last(name)?, expressions(args)?, alias, *with_ordinality),
        TableFactor::UNNEST { array_exprs, alias, with_ordinality, .. } => {
            ("unnest".to_string(), array_exprs.clone(), alias, *with_ordinality)
        }
        _ => return None,
    };
    let known_as = alias.as_ref().map_or(name.clone(), |alias| fold(&alias.name));
    let given: Vec<String> = alias.iter().flat_map(|a| &a.columns).map(|column| fold(&column.name)).collect();
    if let Some((_, columns)) = WITHOUT_ROWS.iter().find(|(function, _)| *function == name) {
        let own = columns.iter().copied().chain(numbered.then_some(("ordinality", "bigint"))).enumerate();
        let items = own.map(|(i, (column, ty))| format!("CAST(NULL AS {ty}) AS {}", quoted(given.get(i).map_or(column, String::as_str))));
        let sql = format!("SELECT {} WHERE false", items.collect::<Vec<_>>().join(", "));
        return derived(&sql, &known_as, false);
    }
    let array = args.first()?;
    let named = |position: usize, default: &str| given.get(position).cloned().unwrap_or_else(|| default.to_string());
    let is_constant = |expr: &Expr| matches!(expr, Expr::Value(_) | Expr::UnaryOp { .. });
    match (name.as_str(), numbered) {
        // The planner's own takes constants only.
        ("generate_series", false) if !args.iter().all(is_constant) => {
            Some(unnested(call("quire_rows_of_generate_series", args.clone()), &known_as, given.first()))
        }
        ("unnest", false) if args.len() == 1 => Some(unnested(array.clone(), &known_as, given.first())),
        ("generate_subscripts", false) => Some(unnested(call("quire_subscripts", vec![array.clone()]), &known_as, given.first())),
        ("unnest", true) => {
            let items: Vec<_> = args.iter().enumerate().map(|(i, array)| (array, named(i, &known_as))).collect();
            numbered_items(&items, &known_as, &named(items.len(), "ordinality"))
        }
        ("_pg_expandarray", false) => numbered_items(&[(array, named(0, "x"))], &known_as, &named(1, "n")),
        _ => None,
    }
}

fn last(name: &ObjectName) -> Option<String> {
    name.0.last()?.as_ident().map(fold)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Arrays side by side, their items numbered as those of the first.
fn numbered_items(arrays: &[(&Expr, String)], alias: &str, ordinal: &str) -> Option<TableFactor> {
    let (first, _) = arrays.first()?;
    let items = arrays.iter().map(|(array, name)| format!("unnest({array}) AS {}", quoted(name)));
    let items = items.chain([format!("unnest(quire_ordinals({first})) AS {}", quoted(ordinal))]);
    derived(&format!("SELECT {}", items.collect::<Vec<_>>().join(", ")), alias, true)
}

fn derived(sql: &str, alias: &str, lateral: bool) -> Option<TableFactor> {
    let query = Parser::new(&PgDialect).try_with_sql(sql).and_then(|mut p| p.parse_query()).ok()?;
    let alias = TableAlias { explicit: true, name: Ident::with_quote('"', alias), columns: vec![], at: None };
    Some(TableFactor::Derived { lateral, subquery: query, alias: Some(alias), sample: None })
}

fn unnested(array: Expr, alias: &str, column: Option<&String>) -> TableFactor {
    // The function's only column is known by the alias.
    let name = Ident::with_quote('"', column.map_or(alias, String::as_str));
    let alias = TableAlias {
        explicit: true,
        name: Ident::with_quote('"', alias),
        columns: vec![TableAliasColumnDef { name, data_type: None }],
        at: None,
    };
    TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: vec![array],
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    }
}

/// Catalogs of things that do not exist here: they have no rows, and a query that joins one has none.
const EMPTY: &[&str] = &["pg_policy", "pg_statistic_ext", "pg_publication", "pg_publication_rel", "pg_publication_namespace"];

/// Queries of those use what the planner lacks (`array(…)` over them, `= any` of their arrays), and need not be planned to be answered.
fn without_rows(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            without_rows(left);
            without_rows(right);
        }
        SetExpr::Select(select) if reads_nothing(select) => {
            let null = || Expr::Value(Value::Null.into());
            for (i, item) in select.projection.iter_mut().enumerate() {
                let alias = match item {
                    SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
                    SelectItem::UnnamedExpr(expr) => crate::names::result_name(expr, i),
                    _ => continue,
                };
                let expr =
                    Expr::Cast { kind: CastKind::Cast, expr: Box::new(null()), data_type: DataType::Text, array: false, format: None };
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
            select.from.clear();
            select.selection = Some(Expr::Value(Value::Boolean(false).into()));
        }
        _ => {}
    }
}

fn reads_nothing(select: &Select) -> bool {
    let is_empty = |factor: &TableFactor| match factor {
        TableFactor::Table { name, args: None, .. } => {
            name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| EMPTY.contains(&i.value.to_lowercase().as_str()))
        }
        _ => false,
    };
    let joined = select.from.iter().any(|from| {
        let inner = |j: &JoinOperator| matches!(j, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_));
        let all_inner = from.joins.iter().all(|j| inner(&j.join_operator));
        is_empty(&from.relation) && (from.joins.is_empty() || all_inner) || all_inner && from.joins.iter().any(|j| is_empty(&j.relation))
    });
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(e, _) if e.is_empty()) && select.having.is_none();
    // An aggregate makes a row of nothing.
    let plain = select.projection.iter().all(|item| {
        let text = item.to_string().to_lowercase();
        let outside = text.split("(select").next().unwrap_or_default();
        matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
            && !["count(", "sum(", "min(", "max(", "avg(", "_agg(", "bool_and(", "bool_or(", "every("].iter().any(|a| outside.contains(a))
    });
    joined && ungrouped && plain
}
