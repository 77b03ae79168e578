//! COPY: its options, and both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{Field, Schema};
use datafusion::sql::sqlparser::ast::{CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget, Ident, Statement};
use futures::stream::{self, StreamExt};
use quire_types::{SqlType, TableDef};

use crate::copy::{CopyDecoder, CopyEncoder, CopyFormat, CopyOptions, Header};
use crate::generated::stored_expression;
use crate::insert::column_positions;
use crate::names::{Resolver, fold, split};
use crate::syntax::HEADER_MATCH;
use crate::txn::Transaction;
use crate::{CopyIn, CopyOut, Response, Session, SqlError, WireType, query};

impl Session {
    pub(crate) async fn copy(
        &mut self,
        source: CopySource,
        to: bool,
        target: CopyTarget,
        options: Vec<CopyOption>,
        legacy: Vec<CopyLegacyOption>,
        transaction: &mut Transaction,
    ) -> Result<Response, SqlError> {
        let options = copy_options(options, legacy)?;
        match (&target, to) {
            (CopyTarget::Stdin, false) | (CopyTarget::Stdout, true) => {}
            (CopyTarget::File { .. } | CopyTarget::Program { .. }, _) => {
                let error = SqlError::new("0A000", "COPY from or to a file or program of the server is not supported");
                return Err(error.with_hint("Use COPY FROM STDIN or TO STDOUT; psql's \\copy command does so for a file of the client."));
            }
            _ => return Err(SqlError::syntax("COPY FROM needs STDIN, COPY TO needs STDOUT")),
        }
        if to && options.header == Header::Match {
            return Err(SqlError::new("0A000", "cannot use \"match\" with HEADER in COPY TO"));
        }
        if to { self.copy_to(source, options).await } else { self.copy_from(source, options, transaction) }
    }

    fn copy_from(&mut self, source: CopySource, options: CopyOptions, transaction: &mut Transaction) -> Result<Response, SqlError> {
        let CopySource::Table { table_name, columns } = source else { return Err(SqlError::syntax("COPY FROM needs a table")) };
        let path = self.search_path();
        let table = self.resolver(transaction, &path).table(&table_name)?;
        let targets = copy_columns(&table, &columns)?;
        let writer = self.writer(&table, "COPY FROM", transaction)?;
        let binary = matches!(options.format, CopyFormat::Binary);
        let defs = targets.iter().map(|&t| table.columns[t].clone()).collect();
        let decoder = CopyDecoder::new(options, table.name.clone(), defs, self.statement_home())?;
        Ok(Response::CopyIn(Box::new(CopyIn::new(table, targets, binary, decoder, writer))))
    }

    async fn copy_to(&mut self, source: CopySource, options: CopyOptions) -> Result<Response, SqlError> {
        let statement = match source {
            CopySource::Query(query) => Statement::Query(query),
            CopySource::Table { table_name, columns } => {
                let path = self.search_path();
                let catalog = self.cell.get().catalog;
                let resolver = Resolver { catalog: &catalog, search_path: &path };
                if resolver.find_view(&table_name)?.is_some() {
                    let name = split(&table_name)?.1;
                    return Err(SqlError::new("42809", format!("cannot copy from view \"{name}\""))
                        .with_hint("Try the COPY (SELECT ...) TO variant."));
                }
                let table = resolver.table(&table_name)?;
                let schema = catalog.schemas.get(&table.schema).map(|s| s.name.clone()).unwrap_or_default();
                Session::select_all(&table, &schema, &copy_columns(&table, &columns)?)
            }
        };
        let planned = query::plan(&self.context, statement).await?;
        let (plan, rows) = query::start(&self.context, &planned).await?;
        self.work.plan = Some(plan);
        let rows = self.rows(planned.columns.clone(), rows, "COPY", true);
        let types = planned.columns.iter().map(|c| match c.ty {
            WireType::Scalar(ty) => Ok((c, ty)),
            WireType::Array(_) | WireType::Vector(_) => Err(SqlError::unsupported("COPY TO of array columns")),
            WireType::Oid => Ok((c, SqlType::Int8)),
            WireType::Name | WireType::QuotedChar | WireType::Unknown => Ok((c, SqlType::Text)),
        });
        let fields: Vec<Field> = types.map(|t| t.map(|(c, ty)| ty.field(&c.name, true))).collect::<Result<_, SqlError>>()?;
        let binary = matches!(options.format, CopyFormat::Binary);
        let encoder = CopyEncoder::new(options, &Schema::new(fields))?;
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        // Header, then a payload a batch, then the trailer.
        let stream = stream::unfold((encoder, rows.stream, Stage::Header), move |(mut encoder, mut batches, stage)| {
            let counted = counted.clone();
            async move {
                match stage {
                    Stage::Header => {
                        let header = encoder.header();
                        Some((Ok(header), (encoder, batches, Stage::Rows)))
                    }
                    Stage::Rows => match batches.next().await {
                        Some(Ok(batch)) => {
                            counted.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                            let bytes = encoder.encode(&batch).map_err(SqlError::from);
                            Some((bytes, (encoder, batches, Stage::Rows)))
                        }
                        Some(Err(error)) => Some((Err(error), (encoder, batches, Stage::Done))),
                        None => {
                            let trailer = encoder.finish();
                            Some((Ok(trailer), (encoder, batches, Stage::Done)))
                        }
                    },
                    Stage::Done => None,
                }
            }
        });
        let stream = stream.filter(|part| std::future::ready(part.as_ref().map_or(true, |bytes| !bytes.is_empty()))).boxed();
        Ok(Response::CopyOut(CopyOut { binary, columns: planned.columns.len(), stream, rows: count }))
    }
}

enum Stage {
    Header,
    Rows,
    Done,
}

/// The columns that a COPY names; without a list, all that are not computed.
fn copy_columns(table: &TableDef, columns: &[Ident]) -> Result<Vec<usize>, SqlError> {
    if columns.is_empty() {
        return Ok((0..table.columns.len()).filter(|&position| stored_expression(&table.columns[position]).is_none()).collect());
    }
    let names: Vec<String> = columns.iter().map(fold).collect();
    let positions = column_positions(table, &names)?;
    match positions.iter().map(|&position| &table.columns[position]).find(|column| stored_expression(column).is_some()) {
        Some(column) => Err(SqlError::new("42P10", format!("column \"{}\" is a generated column", column.name))
            .with_detail("Generated columns cannot be used in COPY.")),
        None => Ok(positions),
    }
}

fn format_of(name: &str) -> Result<CopyFormat, SqlError> {
    match name.to_lowercase().as_str() {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Ok(CopyFormat::Binary),
        other => Err(SqlError::new("22023", format!("COPY format \"{other}\" not recognized"))),
    }
}

/// Both syntaxes: `WITH (FORMAT csv, …)` and `WITH CSV …`.
fn copy_options(options: Vec<CopyOption>, legacy: Vec<CopyLegacyOption>) -> Result<CopyOptions, SqlError> {
    let mut format = CopyFormat::Text;
    for option in &options {
        if let CopyOption::Format(name) = option {
            format = format_of(&name.value)?;
        }
    }
    for option in &legacy {
        match option {
            CopyLegacyOption::Binary => format = CopyFormat::Binary,
            CopyLegacyOption::Csv(_) => format = CopyFormat::Csv,
            _ => {}
        }
    }
    let mut out = CopyOptions::new(format);
    let names = |columns: Vec<Ident>| columns.iter().map(fold).collect::<Vec<_>>();
    for option in options {
        match option {
            CopyOption::Format(_) | CopyOption::Freeze(_) => {}
            CopyOption::Delimiter(c) => out.delimiter = Some(c),
            CopyOption::Null(text) => out.null = Some(text),
            CopyOption::Header(on) => out.header = if on { Header::Present } else { Header::Absent },
            CopyOption::Quote(c) => out.quote = Some(c),
            CopyOption::Escape(c) => out.escape = Some(c),
            CopyOption::ForceQuote(columns) => out.force_quote = names(columns),
            CopyOption::ForceNotNull(columns) => out.force_not_null = names(columns),
            CopyOption::ForceNull(marker) if marker.iter().any(|c| c.value == HEADER_MATCH) => out.header = Header::Match,
            CopyOption::ForceNull(columns) => out.force_null = names(columns),
            CopyOption::Encoding(name) => out.encoding = Some(name),
        }
    }
    for option in legacy {
        match option {
            CopyLegacyOption::Binary => {}
            CopyLegacyOption::Delimiter(c) => out.delimiter = Some(c),
            CopyLegacyOption::Null(text) => out.null = Some(text),
            CopyLegacyOption::Header => out.header = Header::Present,
            CopyLegacyOption::Csv(csv) => {
                for option in csv {
                    match option {
                        CopyLegacyCsvOption::Header => out.header = Header::Present,
                        CopyLegacyCsvOption::Quote(c) => out.quote = Some(c),
                        CopyLegacyCsvOption::Escape(c) => out.escape = Some(c),
                        CopyLegacyCsvOption::ForceQuote(columns) => out.force_quote = names(columns),
                        CopyLegacyCsvOption::ForceNotNull(columns) => out.force_not_null = names(columns),
                    }
                }
            }
            other => return Err(SqlError::unsupported(format!("COPY option {other}"))),
        }
    }
    Ok(out)
}
