//! A Postgres client that leaves nothing out: both protocols with every value as text, types, tags, notices and errors as they came.
//!
//! Drivers ask for binary values where they can and hide tags and notices; the SQL logic tests want to see them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// No statement of a test takes longer, unless it hangs.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A message that is larger is a framing error.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const PROTOCOL_3_0: i32 = 196_608;

/// How statements are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One Query message.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync, with results in text.
    Extended,
}

impl Protocol {
    /// Its name in labels.
    pub fn label(self) -> &'static str {
        match self {
            Protocol::Simple => "simple",
            Protocol::Extended => "extended",
        }
    }
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type's oid.
    pub oid: u32,
    /// Its type's modifier, -1 for none.
    pub modifier: i32,
}

/// An error or a notice.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// `ERROR`, `NOTICE`, ….
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// The message.
    pub message: String,
}

/// What a statement gave.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Its columns; `None` when it has no rows to give.
    pub columns: Option<Vec<Column>>,
    /// Its rows; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Its command tag.
    pub tag: String,
    /// What else the server said.
    pub notices: Vec<Report>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// The server said no; the session goes on.
    #[error("{}: {} ({})", .0.severity, .0.message, .0.code)]
    Server(Report),
    /// The connection is of no more use.
    #[error("connection: {0}")]
    Connection(#[from] std::io::Error),
}

/// A session.
pub struct Session {
    stream: BufReader<TcpStream>,
}

type Message = (u8, Vec<u8>);

impl Session {
    /// Opens a session of the superuser in the one database.
    pub async fn open(address: &str) -> Result<Session, PgError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut session = Session { stream: BufReader::new(stream) };
        let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
        body.extend_from_slice(b"user\0quire\0database\0quire\0\0");
        session.send(&[&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()).await?;
        session.answer().await?;
        Ok(session)
    }

    /// Runs one statement.
    pub async fn run(&mut self, protocol: Protocol, sql: &str) -> Result<Answer, PgError> {
        let text = [sql.as_bytes(), b"\0"].concat();
        let messages = match protocol {
            Protocol::Simple => message(b'Q', &text),
            Protocol::Extended => [
                message(b'P', &[&b"\0"[..], &text, b"\0\0"].concat()),
                // No parameters, and one format for all columns: text.
                message(b'B', b"\0\0\0\0\0\0\0\x01\0\0"),
                message(b'D', b"P\0"),
                message(b'E', b"\0\0\0\0\0"),
                message(b'S', b""),
            ]
            .concat(),
        };
        self.send(&messages).await?;
        self.answer().await
    }

    /// The columns that a statement would have.
    pub async fn describe(&mut self, sql: &str) -> Result<Vec<Column>, PgError> {
        let parse = [&b"\0"[..], sql.as_bytes(), b"\0\0\0"].concat();
        self.send(&[message(b'P', &parse), message(b'D', b"S\0"), message(b'S', b"")].concat()).await?;
        Ok(self.answer().await?.columns.unwrap_or_default())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), PgError> {
        Ok(self.stream.get_mut().write_all(bytes).await?)
    }

    /// Reads up to ReadyForQuery.
    async fn answer(&mut self) -> Result<Answer, PgError> {
        let mut answer = Answer::default();
        let mut failed = None;
        loop {
            let (kind, body) = self.receive().await?;
            match kind {
                b'T' => answer.columns = Some(columns(&body)?),
                b'D' => answer.rows.push(values(&body)?),
                b'C' | b'I' => answer.tag = text(&body),
                b'N' => answer.notices.push(report(&body)),
                b'E' => failed = failed.or(Some(report(&body))),
                b'Z' => break,
                b'R' | b'S' | b'K' | b'1' | b'2' | b'n' | b't' => {}
                other => return Err(garbled(format!("message '{}'", char::from(other)))),
            }
        }
        match failed {
            Some(report) => Err(PgError::Server(report)),
            None => Ok(answer),
        }
    }

    async fn receive(&mut self) -> Result<Message, PgError> {
        let read = async {
            let kind = self.stream.read_u8().await?;
            let length = self.stream.read_u32().await? as usize;
            if !(4..MESSAGE_BYTES_MAX).contains(&length) {
                return Err(garbled(format!("a message of {length} bytes")));
            }
            let mut body = vec![0; length - 4];
            self.stream.read_exact(&mut body).await?;
            Ok((kind, body))
        };
        let nothing = || PgError::Connection(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"));
        tokio::time::timeout(TIMEOUT, read).await.unwrap_or_else(|_| Err(nothing()))
    }
}

fn garbled(what: String) -> PgError {
    PgError::Connection(std::io::Error::new(std::io::ErrorKind::InvalidData, format!("unexpected: {what}")))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// Takes a message apart, piece by piece.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], PgError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or_else(|| garbled("the end of a message".into()))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn i16(&mut self) -> Result<i16, PgError> {
        let bytes = self.bytes(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn i32(&mut self) -> Result<i32, PgError> {
        let bytes = self.bytes(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self) -> Result<String, PgError> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(|| garbled("a string without an end".into()))?;
        let bytes = self.bytes(end)?;
        self.bytes(1)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn columns(body: &[u8]) -> Result<Vec<Column>, PgError> {
    let mut reader = Reader(body);
    let count = reader.i16()?;
    let column = |_| {
        let name = reader.string()?;
        let (_table, _number) = (reader.i32()?, reader.i16()?);
        let (oid, _length, modifier, _format) = (reader.i32()? as u32, reader.i16()?, reader.i32()?, reader.i16()?);
        Ok(Column { name, oid, modifier })
    };
    (0..count).map(column).collect()
}

fn values(body: &[u8]) -> Result<Vec<Option<String>>, PgError> {
    let mut reader = Reader(body);
    let count = reader.i16()?;
    let value = |_| match reader.i32()? {
        -1 => Ok(None),
        length => reader.bytes(length as usize).map(|b| Some(String::from_utf8_lossy(b).into_owned())),
    };
    (0..count).map(value).collect()
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim_end_matches('\0').to_string()
}

fn report(body: &[u8]) -> Report {
    let mut report = Report::default();
    for field in body.split(|b| *b == 0).filter(|f| !f.is_empty()) {
        let value = || String::from_utf8_lossy(&field[1..]).into_owned();
        match field[0] {
            b'S' => report.severity = value(),
            b'C' => report.code = value(),
            b'M' => report.message = value(),
            _ => {}
        }
    }
    report
}
