//! Between sqllogictest and the wire: statements out, rows in the form that the files have them in.

use quire_tests::pg::{Answer, Column, PgError, Protocol, Session};
use sqllogictest::{AsyncDB, ColumnType, DBOutput};

/// A column's class: I integers, R other numbers, B boolean, T everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class(char);

impl ColumnType for Class {
    fn from_char(value: char) -> Option<Class> {
        "IRBT".contains(value).then_some(Class(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

impl Class {
    fn of(column: &Column) -> Class {
        Class(match column.oid {
            20 | 21 | 23 | 26 => 'I',
            700 | 701 | 1700 => 'R',
            16 => 'B',
            _ => 'T',
        })
    }
}

/// A session for sqllogictest.
pub(crate) struct Driver {
    pub(crate) session: Session,
    pub(crate) protocol: Protocol,
}

#[async_trait::async_trait]
impl AsyncDB for Driver {
    type Error = PgError;
    type ColumnType = Class;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Class>, PgError> {
        if let Some((command, sql)) = sql.strip_prefix('\\').and_then(|s| s.split_once(char::is_whitespace)) {
            return self.command(command, sql.trim()).await;
        }
        let answer = self.session.run(self.protocol, sql).await?;
        Ok(match &answer.columns {
            Some(columns) => {
                DBOutput::Rows { types: classes(columns), rows: answer.rows.iter().map(|r| line(r.iter().map(shown))).collect() }
            }
            None => DBOutput::StatementComplete(affected(&answer)),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "quire"
    }

    fn error_sql_state(error: &PgError) -> Option<String> {
        match error {
            PgError::Server(report) => Some(report.code.clone()),
            PgError::Connection(_) => None,
        }
    }
}

impl Driver {
    /// What is no SQL: see main.rs.
    async fn command(&mut self, command: &str, sql: &str) -> Result<DBOutput<Class>, PgError> {
        let table = |rows: Vec<Vec<String>>, width: usize| DBOutput::Rows {
            types: vec![Class('T'); width],
            rows: rows.into_iter().map(|row| line(row.into_iter())).collect(),
        };
        Ok(match command {
            "gdesc" => {
                let columns = self.session.describe(sql).await?;
                table(columns.iter().map(|c| vec![c.name.clone(), type_name(c)]).collect(), 2)
            }
            "notices" => {
                let notices = self.session.run(self.protocol, sql).await?.notices;
                table(notices.into_iter().map(|n| vec![n.severity, n.code, n.message]).collect(), 3)
            }
            "tag" => table(vec![vec![self.session.run(self.protocol, sql).await?.tag]], 1),
            other => panic!("there is no \\{other}"),
        })
    }
}

fn classes(columns: &[Column]) -> Vec<Class> {
    // A SELECT without columns still has rows; the files have no way to say "no type".
    if columns.is_empty() { vec![Class('T')] } else { columns.iter().map(Class::of).collect() }
}

fn affected(answer: &Answer) -> u64 {
    answer.tag.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A row as one value, so that it is compared to the letter.
fn line(values: impl Iterator<Item = String>) -> Vec<String> {
    vec![values.collect::<Vec<_>>().join(" | ")]
}

/// One value in one line, without a blank that an editor would eat.
fn shown(value: &Option<String>) -> String {
    match value.as_deref() {
        None => "NULL".into(),
        Some("") => "(empty)".into(),
        Some(text) => {
            let text = text.replace('\n', "\\n");
            if text.trim_matches([' ', '\t']).len() == text.len() { text } else { format!("\"{text}\"") }
        }
    }
}

/// A type as `format_type` names it.
fn type_name(column: &Column) -> String {
    let Column { oid, modifier, .. } = *column;
    let length = |name: &str| if modifier < 0 { name.to_string() } else { format!("{name}({})", modifier - 4) };
    let name = match oid {
        16 => "boolean",
        17 => "bytea",
        18 => "\"char\"",
        19 => "name",
        20 => "bigint",
        21 => "smallint",
        23 => "integer",
        25 => "text",
        26 => "oid",
        114 => "json",
        700 => "real",
        701 => "double precision",
        705 => "unknown",
        1042 if modifier < 0 => "bpchar",
        1042 => return length("character"),
        1043 => return length("character varying"),
        1082 => "date",
        1083 => "time without time zone",
        1114 => "timestamp without time zone",
        1184 => "timestamp with time zone",
        1186 => "interval",
        1700 if modifier >= 0 => return format!("numeric({},{})", (modifier - 4) >> 16, (modifier - 4) & 0xffff),
        1700 => "numeric",
        2205 => "regclass",
        2206 => "regtype",
        2950 => "uuid",
        1000 => "boolean[]",
        1001 => "bytea[]",
        1003 => "name[]",
        1005 => "smallint[]",
        1007 => "integer[]",
        1009 => "text[]",
        1015 => "character varying[]",
        1016 => "bigint[]",
        1021 => "real[]",
        1022 => "double precision[]",
        1115 => "timestamp without time zone[]",
        1182 => "date[]",
        1185 => "timestamp with time zone[]",
        1231 => "numeric[]",
        other => return format!("type {other}"),
    };
    name.to_string()
}
