//! The server under test: a URL and what it says about itself.

use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// How long to wait for a connection: a server that is starting answers within seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the server is.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Server to talk to: postgres://user:password@host:port/database
    #[arg(long, env = "QUIRE_URL", value_name = "URL")]
    pub url: String,
}

impl Target {
    /// Opens a connection; its background task ends with the client.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let mut config: Config = self.url.parse().context("--url is not a Postgres URL")?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("quire-bench");
        }
        let (client, connection) =
            config.connect(NoTls).await.map_err(explain).with_context(|| format!("cannot connect to {}", self.shown()))?;
        quire_kit::task::spawn("bench connection", async move {
            // the statement that was under way gets the same error, and says it
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(client)
    }

    /// The URL without its password, for messages and reports.
    pub(crate) fn shown(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else { return "the server".to_owned() };
        match rest.rsplit_once('@') {
            Some((user, host)) => format!("{scheme}://{}@{host}", user.split(':').next().unwrap_or(user)),
            None => self.url.clone(),
        }
    }
}

/// The result of one query as the server printed it: NULL is `None`.
pub(crate) type TextRows = Vec<Vec<Option<String>>>;

/// Runs one statement by the simple protocol and fetches every row as text.
pub(crate) async fn fetch(client: &Client, sql: &str) -> anyhow::Result<TextRows> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await.map_err(explain)? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
        }
    }
    Ok(rows)
}

/// The first cell of the first row, if there is one and it is not NULL.
pub(crate) async fn fetch_one(client: &Client, sql: &str) -> anyhow::Result<Option<String>> {
    Ok(fetch(client, sql).await?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
}

/// Runs statements whose results do not matter.
pub(crate) async fn execute(client: &Client, sql: &str) -> anyhow::Result<()> {
    client.batch_execute(sql).await.map_err(explain)
}

/// The server's own words about an error, with its SQLSTATE, detail, place and hint; else the driver's.
pub(crate) fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    let Some(server) = error.as_db_error() else {
        return match std::error::Error::source(&error) {
            Some(source) => anyhow!("{error}: {source}"),
            None => anyhow!(error),
        };
    };
    let mut text = format!("{} {}: {}", server.severity(), server.code().code(), server.message());
    for (label, part) in [("detail", server.detail()), ("where", server.where_()), ("hint", server.hint())] {
        if let Some(part) = part {
            text.push_str(&format!("\n  {label}: {part}"));
        }
    }
    anyhow!(text)
}
