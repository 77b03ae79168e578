//! EXPLAIN: the plan of a query, or of the query behind a statement that changes rows. With ANALYZE the statement runs, changes included.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::sql::sqlparser::ast::{AnalyzeFormat, AnalyzeFormatKind, Query, Statement, UtilityOption, With};
use futures::StreamExt;
use quire_kit::clock;

use crate::changes_within::changes_within;
use crate::errors::datafusion_error;
use crate::names::unmarked;
use crate::show::{text_column, text_rows};
use crate::txn::Transaction;
use crate::{OutputColumn, Response, Session, SqlError, query};

/// The columns of EXPLAIN.
pub(crate) fn columns() -> Vec<OutputColumn> {
    vec![text_column("QUERY PLAN")]
}

/// What an EXPLAIN asks for.
struct Asked {
    analyze: bool,
    verbose: bool,
    /// How long it took; by default when it runs.
    summary: bool,
}

/// EXPLAIN [ANALYZE] [VERBOSE] statement.
pub(crate) async fn explain(session: &mut Session, statement: Statement, transaction: &mut Transaction) -> Result<Response, SqlError> {
    let Statement::Explain { analyze, verbose, statement, format, options, .. } = statement else {
        return Err(SqlError::internal("not an EXPLAIN"));
    };
    let options = options.unwrap_or_default();
    let other_format = |text: &str| !text.eq_ignore_ascii_case("text");
    let format = match format {
        Some(AnalyzeFormatKind::Keyword(format) | AnalyzeFormatKind::Assignment(format)) => format != AnalyzeFormat::TEXT,
        None => false,
    };
    if format
        || options
            .iter()
            .any(|o| o.name.value.eq_ignore_ascii_case("format") && o.arg.as_ref().is_some_and(|a| other_format(&a.to_string())))
    {
        return Err(SqlError::unsupported("EXPLAIN in a format other than TEXT"));
    }
    let analyze = analyze || option(&options, "analyze").unwrap_or(false);
    let verbose = verbose || option(&options, "verbose").unwrap_or(false);
    let asked = Asked { analyze, verbose, summary: option(&options, "summary").unwrap_or(analyze) };
    let mut lines = Box::pin(session.explained(*statement, &asked, transaction)).await?;
    lines.iter_mut().for_each(|line| *line = unmarked(line));
    text_rows(columns(), vec![lines.iter().map(String::as_str).collect()], "EXPLAIN")
}

impl Session {
    async fn explained(&mut self, statement: Statement, asked: &Asked, transaction: &mut Transaction) -> Result<Vec<String>, SqlError> {
        match statement {
            Statement::Query(query) if !changes_within(&query).is_empty() => match asked.analyze {
                true => self.analyzed_within(*query, asked, transaction).await,
                false => Box::pin(self.explained_within(*query, asked)).await,
            },
            Statement::Query(_) => self.explained_query(statement, asked).await,
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => match asked.analyze {
                true => self.analyzed_change(statement, asked, transaction).await,
                false => Box::pin(self.explained_change(statement, None, asked)).await,
            },
            Statement::Execute { name: Some(name), parameters, .. } => {
                let statement = self.executed(&name, parameters)?;
                let statement = self.resolve(statement)?;
                Box::pin(self.explained(statement, asked, transaction)).await
            }
            Statement::Declare { stmts } => match stmts.into_iter().next().and_then(|declared| declared.for_query) {
                Some(query) => Box::pin(self.explained(Statement::Query(query), asked, transaction)).await,
                None => Err(SqlError::syntax("DECLARE has no query")),
            },
            Statement::CreateTable(create) if create.query.is_some() && !asked.analyze => match create.query {
                Some(query) => Box::pin(self.explained(Statement::Query(query), asked, transaction)).await,
                None => Err(SqlError::internal("a query is gone")),
            },
            other => {
                let text = other.to_string();
                Err(SqlError::unsupported(format!("EXPLAIN {}", text.split_whitespace().next().unwrap_or_default())))
            }
        }
    }

    /// A query's plan, and how it went.
    async fn explained_query(&mut self, statement: Statement, asked: &Asked) -> Result<Vec<String>, SqlError> {
        let began = clock::now();
        let (planned, physical) = match asked.verbose {
            // What it shows is the plan before it was optimized.
            true => Box::pin(query::plan_and_optimize(&self.context, statement)).await?.into_parts(),
            false => Box::pin(self.planned(statement)).await?,
        };
        let planning = began.elapsed();
        let mut lines = vec![];
        if asked.verbose {
            lines.extend(planned.plan.display_indent_schema().to_string().lines().map(str::to_string));
            lines.push(String::new());
        }
        let planning = asked.summary.then(|| format!("Planning Time: {:.3} ms", planning.as_secs_f64() * 1e3));
        if !asked.analyze {
            lines.extend(shown(&physical, asked));
            lines.extend(planning);
            return Ok(lines);
        }
        let began = clock::now();
        let mut rows = query::run(&self.context, &planned, physical.clone())?;
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            count += batch.map_err(datafusion_error)?.num_rows();
        }
        let execution = began.elapsed();
        lines.extend(shown(&physical, asked));
        lines.push(format!("Rows: {count}"));
        lines.extend(planning);
        lines.extend(asked.summary.then(|| format!("Execution Time: {:.3} ms", execution.as_secs_f64() * 1e3)));
        Ok(lines)
    }

    /// What a change would do: the query that finds its rows.
    async fn explained_change(&mut self, change: Statement, with: Option<With>, asked: &Asked) -> Result<Vec<String>, SqlError> {
        let (head, source) = match change {
            Statement::Update(update) => {
                let plan = self.plan_update(update)?.with(with)?;
                (format!("Update on {}", plan.table().name), Some(plan.into_query()))
            }
            Statement::Delete(delete) => {
                let plan = self.plan_delete(delete)?.with(with)?;
                (format!("Delete on {}", plan.table().name), Some(plan.into_query()))
            }
            Statement::Merge(merge) => {
                let plan = self.plan_merge(merge, with)?;
                (format!("Merge on {}", plan.table().name), Some(plan.into_query()))
            }
            Statement::Insert(insert) => {
                let table = self.insert_table(&insert)?;
                let source = insert.source.map(|mut source| {
                    if let Some(mut with) = with {
                        with.cte_tables.extend(source.with.take().into_iter().flat_map(|own| own.cte_tables));
                        source.with = Some(with);
                    }
                    Statement::Query(source)
                });
                (format!("Insert on {}", table.name), source)
            }
            other => return Err(SqlError::internal(format!("no change: {other}"))),
        };
        let mut lines = vec![head];
        match source {
            Some(source) => lines.extend(indented(self.explained_query(source, asked).await?)),
            None => lines.push("  Result".into()),
        }
        Ok(lines)
    }

    async fn explained_within(&mut self, query: Query, asked: &Asked) -> Result<Vec<String>, SqlError> {
        let outline = Box::pin(self.outline(query)).await?;
        let mut lines = vec![];
        for change in outline.changes {
            lines.extend(Box::pin(self.explained_change(change.statement, change.with, asked)).await?);
        }
        if let Some(main) = outline.main {
            lines.extend(self.explained_query(main, asked).await?);
        }
        self.cell.forget_parts();
        Ok(lines)
    }

    /// Makes the change, and tells how it went.
    async fn analyzed_change(&mut self, change: Statement, asked: &Asked, transaction: &mut Transaction) -> Result<Vec<String>, SqlError> {
        let began = clock::now();
        let name = self.changed_table(&change)?.name.clone();
        self.work.plan = None;
        let written = self.change(change, None, transaction).await?;
        let word = match written.what {
            "INSERT" => "Insert",
            "UPDATE" => "Update",
            "DELETE" => "Delete",
            _ => "Merge",
        };
        let mut lines = vec![format!("{word} on {name}: rows={}", written.count)];
        match &self.work.plan {
            Some(plan) => lines.extend(indented(shown_run(plan, asked))),
            None => lines.push("  Lookup by key, or constant rows: no plan".into()),
        }
        lines.extend(asked.summary.then(|| format!("Execution Time: {:.3} ms", began.elapsed().as_secs_f64() * 1e3)));
        Ok(lines)
    }

    async fn analyzed_within(&mut self, query: Query, asked: &Asked, transaction: &mut Transaction) -> Result<Vec<String>, SqlError> {
        let began = clock::now();
        self.work.plan = None;
        let response = Box::pin(self.change_within(query, transaction)).await?;
        let mut count = 0;
        if let Response::Rows(mut rows) = response {
            while let Some(batch) = rows.stream.next().await {
                count += batch?.num_rows();
            }
        }
        let mut lines = match &self.work.plan {
            Some(plan) => shown_run(plan, asked),
            None => vec!["Lookup by key, or constant rows: no plan".into()],
        };
        lines.push(format!("Rows: {count}"));
        lines.extend(asked.summary.then(|| format!("Execution Time: {:.3} ms", began.elapsed().as_secs_f64() * 1e3)));
        Ok(lines)
    }
}

fn shown(plan: &Arc<dyn ExecutionPlan>, asked: &Asked) -> Vec<String> {
    match asked.analyze {
        true => shown_run(plan, asked),
        false => {
            let shown = DisplayableExecutionPlan::new(plan.as_ref()).set_show_statistics(asked.verbose).indent(asked.verbose);
            with_estimates(plan, &shown.to_string())
        }
    }
}

fn shown_run(plan: &Arc<dyn ExecutionPlan>, asked: &Asked) -> Vec<String> {
    with_estimates(plan, &DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(asked.verbose).to_string())
}

/// A plan's lines, each with the number of rows that the planner expected of its node.
fn with_estimates(plan: &Arc<dyn ExecutionPlan>, shown: &str) -> Vec<String> {
    let mut estimates = vec![];
    estimate(plan, &mut estimates);
    let mut lines: Vec<String> = shown.lines().map(str::to_string).collect();
    // A node is a line, unless it shows a value with a line break in it.
    if lines.len() == estimates.len() {
        for (line, rows) in lines.iter_mut().zip(estimates) {
            line.extend(rows.map(|rows| format!(", estimated_rows={rows}")));
        }
    }
    lines
}

/// Rows expected of a node and of those below it, in the order in which they are shown.
fn estimate(plan: &Arc<dyn ExecutionPlan>, out: &mut Vec<Option<usize>>) {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new());
    out.push(statistics.ok().and_then(|statistics| statistics.num_rows.get_value().copied()));
    plan.children().into_iter().for_each(|child| estimate(child, out));
}

fn indented(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| format!("  {line}")).collect()
}

/// Whether a switch is on, where it is given.
fn option(options: &[UtilityOption], name: &str) -> Option<bool> {
    let given = options.iter().find(|o| o.name.value.eq_ignore_ascii_case(name))?;
    Some(given.arg.as_ref().is_none_or(|a| !matches!(a.to_string().to_lowercase().as_str(), "false" | "off" | "0")))
}
