use anyhow::{Context, Result};
use tokio_postgres::{Client, SimpleQueryMessage};

/// The rows of a query as `psql -At -P null=NULL` prints them.
pub async fn lines(client: &Client, sql: &str) -> Result<Vec<String>> {
    let messages = client.simple_query(sql).await.with_context(|| sql.to_string())?;
    let line = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join("|")),
        _ => None,
    };
    Ok(messages.iter().filter_map(line).collect())
}
