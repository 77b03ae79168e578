//! Bytes to requests, with every length checked.
//!
//! `pgwire` names the messages; taking them apart is done here, because its decoders trust the lengths inside a message
//! (a short one panics) and replace what is not UTF-8.

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::{PgWireFrontendMessage, copy, extendedquery, simplequery, startup, terminate};
use quire_sql::SqlError;

/// FunctionCall, which pgwire does not know.
const FUNCTION_CALL: u8 = b'F';
/// Bytes before a message's body: its type and its length.
const HEADER_BYTES: usize = 5;
/// Bytes of a message whose kind is never long (Postgres' PQ_SMALL_MESSAGE_LIMIT).
const SMALL_MESSAGE_BYTES_MAX: usize = 10_000;

/// A message of a client.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The byte that says what it is.
    pub(crate) kind: u8,
    /// What it says; or why that cannot be made out, which the session survives.
    pub(crate) message: Result<PgWireFrontendMessage, SqlError>,
}

impl Incoming {
    /// Whether it belongs to the extended protocol, in which an error is followed by silence until Sync.
    pub(crate) fn is_extended(&self) -> bool {
        matches!(
            self.kind,
            extendedquery::MESSAGE_TYPE_BYTE_PARSE
                | extendedquery::MESSAGE_TYPE_BYTE_BIND
                | extendedquery::MESSAGE_TYPE_BYTE_DESCRIBE
                | extendedquery::MESSAGE_TYPE_BYTE_EXECUTE
                | extendedquery::MESSAGE_TYPE_BYTE_CLOSE
                | extendedquery::MESSAGE_TYPE_BYTE_FLUSH
        )
    }

    /// Whether that silence ends here.
    pub(crate) fn ends_skipping(&self) -> bool {
        matches!(self.kind, extendedquery::MESSAGE_TYPE_BYTE_SYNC | terminate::MESSAGE_TYPE_BYTE_TERMINATE)
    }
}

/// Takes the next whole message off the front of `buffer`; `None` when more bytes are needed.
///
/// An error means that the stream has lost its framing: the connection is to be closed.
pub(crate) fn split(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Incoming>, SqlError> {
    let Some(&kind) = buffer.first() else { return Ok(None) };
    let bytes_max = match kind {
        simplequery::MESSAGE_TYPE_BYTE_QUERY
        | extendedquery::MESSAGE_TYPE_BYTE_PARSE
        | extendedquery::MESSAGE_TYPE_BYTE_BIND
        | copy::MESSAGE_TYPE_BYTE_COPY_DATA
        | FUNCTION_CALL => bytes_max,
        extendedquery::MESSAGE_TYPE_BYTE_DESCRIBE
        | extendedquery::MESSAGE_TYPE_BYTE_EXECUTE
        | extendedquery::MESSAGE_TYPE_BYTE_CLOSE
        | extendedquery::MESSAGE_TYPE_BYTE_FLUSH
        | extendedquery::MESSAGE_TYPE_BYTE_SYNC
        | terminate::MESSAGE_TYPE_BYTE_TERMINATE
        | copy::MESSAGE_TYPE_BYTE_COPY_DONE
        | copy::MESSAGE_TYPE_BYTE_COPY_FAIL
        | startup::MESSAGE_TYPE_BYTE_PASSWORD_MESSAGE_FAMILY => SMALL_MESSAGE_BYTES_MAX,
        other => return Err(SqlError::new("08P01", format!("invalid frontend message type {other}"))),
    };
    if buffer.len() < HEADER_BYTES {
        return Ok(None);
    }
    let length = (&buffer[1..HEADER_BYTES]).get_i32();
    let length = usize::try_from(length).ok().filter(|l| (4..=bytes_max).contains(l));
    let Some(length) = length else {
        let limit = format!("A message of this kind has at most {bytes_max} bytes.");
        return Err(SqlError::new("08P01", "invalid message length").with_detail(limit));
    };
    if buffer.len() < 1 + length {
        return Ok(None);
    }
    let mut body = buffer.split_to(1 + length);
    body.advance(HEADER_BYTES);
    Ok(Some(Incoming { kind, message: decode(kind, body.freeze()) }))
}

/// Whether a Sync is among the messages that have arrived, before any further Execute: then the statement about to run is
/// alone in its pipeline.
pub(crate) fn syncs_next(mut arrived: &[u8]) -> bool {
    while arrived.len() >= HEADER_BYTES {
        match arrived[0] {
            extendedquery::MESSAGE_TYPE_BYTE_SYNC => return true,
            extendedquery::MESSAGE_TYPE_BYTE_EXECUTE => return false,
            _ => {}
        }
        let length = (&arrived[1..HEADER_BYTES]).get_u32() as usize;
        arrived = arrived.get(1 + length..).unwrap_or_default();
    }
    false
}

/// Takes a message apart. An error leaves the framing intact: the session goes on.
fn decode(kind: u8, body: Bytes) -> Result<PgWireFrontendMessage, SqlError> {
    let mut body = Fields(body);
    let request = match kind {
        simplequery::MESSAGE_TYPE_BYTE_QUERY => PgWireFrontendMessage::Query(simplequery::Query::new(body.text()?)),
        extendedquery::MESSAGE_TYPE_BYTE_PARSE => PgWireFrontendMessage::Parse(parse(&mut body)?),
        extendedquery::MESSAGE_TYPE_BYTE_BIND => PgWireFrontendMessage::Bind(bind(&mut body)?),
        extendedquery::MESSAGE_TYPE_BYTE_DESCRIBE => {
            PgWireFrontendMessage::Describe(extendedquery::Describe::new(body.u8()?, Some(body.text()?)))
        }
        extendedquery::MESSAGE_TYPE_BYTE_EXECUTE => {
            PgWireFrontendMessage::Execute(extendedquery::Execute::new(Some(body.text()?), body.i32()?))
        }
        extendedquery::MESSAGE_TYPE_BYTE_CLOSE => PgWireFrontendMessage::Close(extendedquery::Close::new(body.u8()?, Some(body.text()?))),
        extendedquery::MESSAGE_TYPE_BYTE_FLUSH => PgWireFrontendMessage::Flush(extendedquery::Flush::new()),
        extendedquery::MESSAGE_TYPE_BYTE_SYNC => PgWireFrontendMessage::Sync(extendedquery::Sync::new()),
        terminate::MESSAGE_TYPE_BYTE_TERMINATE => PgWireFrontendMessage::Terminate(terminate::Terminate::new()),
        copy::MESSAGE_TYPE_BYTE_COPY_DATA => return Ok(PgWireFrontendMessage::CopyData(copy::CopyData::new(body.0))),
        copy::MESSAGE_TYPE_BYTE_COPY_DONE => PgWireFrontendMessage::CopyDone(copy::CopyDone::new()),
        copy::MESSAGE_TYPE_BYTE_COPY_FAIL => PgWireFrontendMessage::CopyFail(copy::CopyFail::new(body.text()?)),
        FUNCTION_CALL => return Err(SqlError::unsupported("a function call message")),
        other => return Err(SqlError::new("08P01", format!("message type {other} was not expected"))),
    };
    if body.0.is_empty() { Ok(request) } else { Err(SqlError::new("08P01", "invalid message format")) }
}

fn parse(body: &mut Fields) -> Result<extendedquery::Parse, SqlError> {
    let (name, query) = (body.text()?, body.text()?);
    let count = body.u16()?;
    let types = (0..count).map(|_| body.i32().map(|oid| oid as u32)).collect::<Result<Vec<_>, _>>()?;
    Ok(extendedquery::Parse::new(Some(name), query, types))
}

fn bind(body: &mut Fields) -> Result<extendedquery::Bind, SqlError> {
    let (portal, statement) = (body.text()?, body.text()?);
    let formats = body.formats()?;
    let count = body.u16()?;
    let parameters = (0..count).map(|_| body.value()).collect::<Result<Vec<_>, _>>()?;
    let result_formats = body.formats()?;
    Ok(extendedquery::Bind::new(Some(portal), Some(statement), formats, parameters, result_formats))
}

/// A message's body, read from the front.
struct Fields(Bytes);

impl Fields {
    fn need(&self, bytes: usize) -> Result<(), SqlError> {
        if self.0.len() < bytes { Err(SqlError::new("08P01", "insufficient data left in message")) } else { Ok(()) }
    }

    fn u8(&mut self) -> Result<u8, SqlError> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    fn u16(&mut self) -> Result<u16, SqlError> {
        self.need(2)?;
        Ok(self.0.get_u16())
    }

    fn i32(&mut self) -> Result<i32, SqlError> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }

    fn formats(&mut self) -> Result<Vec<i16>, SqlError> {
        let count = self.u16()?;
        (0..count).map(|_| self.u16().map(|f| f as i16)).collect()
    }

    /// A parameter; its length is -1 for NULL.
    fn value(&mut self) -> Result<Option<Bytes>, SqlError> {
        let length = self.i32()?;
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        self.need(length)?;
        Ok(Some(self.0.split_to(length)))
    }

    /// Text up to a NUL.
    fn text(&mut self) -> Result<String, SqlError> {
        let end = self.0.iter().position(|b| *b == 0);
        let end = end.ok_or_else(|| SqlError::new("08P01", "invalid string in message"))?;
        let text = utf8(&self.0[..end])?.to_string();
        self.0.advance(end + 1);
        Ok(text)
    }
}

/// 22021 for what is not UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    std::str::from_utf8(bytes).map_err(|e| {
        let bad = &bytes[e.valid_up_to()..];
        let shown: Vec<String> = bad.iter().take(e.error_len().unwrap_or(bad.len()).min(4)).map(|b| format!("0x{b:02x}")).collect();
        SqlError::new("22021", format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use pgwire::messages::Message;

    const MAX: usize = 1 << 20;

    fn encoded(message: impl Message) -> BytesMut {
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer).unwrap();
        buffer
    }

    fn decoded(mut buffer: BytesMut) -> Result<PgWireFrontendMessage, SqlError> {
        let incoming = split(&mut buffer, MAX)?.expect("whole");
        assert!(buffer.is_empty());
        incoming.message
    }

    /// Encodes, decodes, and shows both.
    fn there_and_back(message: impl Message + std::fmt::Debug) -> (String, String) {
        let shown = format!("{message:?}");
        let back = format!("{:?}", decoded(encoded(message)).unwrap());
        let inner = back.split_once('(').unwrap().1.strip_suffix(')').unwrap().to_string();
        (shown, inner)
    }

    #[test]
    fn what_pgwire_encodes_comes_back() {
        let values = vec![None, Some(Bytes::from_static(b"")), Some(Bytes::from_static(b"\x00\x01"))];
        for (sent, back) in [
            there_and_back(extendedquery::Parse::new(Some("s".into()), "select $1".into(), vec![23, 0])),
            there_and_back(extendedquery::Bind::new(Some("p".into()), Some("s".into()), vec![1], values, vec![0, 1])),
            there_and_back(extendedquery::Execute::new(Some("p".into()), 10)),
            there_and_back(extendedquery::Describe::new(b'S', Some("s".into()))),
            there_and_back(simplequery::Query::new("sélect".into())),
            there_and_back(copy::CopyData::new(Bytes::from_static(b"a\0b"))),
            there_and_back(extendedquery::Sync::new()),
        ] {
            assert_eq!(sent, back);
        }
    }

    #[test]
    fn a_message_arrives_byte_by_byte() {
        let whole = encoded(simplequery::Query::new("select 1".into()));
        let mut buffer = BytesMut::new();
        for byte in &whole[..whole.len() - 1] {
            buffer.extend_from_slice(&[*byte]);
            assert!(split(&mut buffer, MAX).unwrap().is_none());
        }
        buffer.extend_from_slice(&whole[whole.len() - 1..]);
        assert!(split(&mut buffer, MAX).unwrap().is_some());
    }

    #[test]
    fn every_shortened_message_is_an_error_and_never_a_panic() {
        let parse = encoded(extendedquery::Parse::new(Some("s".into()), "select $1".into(), vec![23]));
        let bind =
            encoded(extendedquery::Bind::new(Some("".into()), Some("s".into()), vec![1], vec![Some(Bytes::from_static(b"abc"))], vec![1]));
        for whole in [parse, bind, encoded(extendedquery::Execute::new(Some("p".into()), 1))] {
            for length in 5..whole.len() {
                let mut cut = BytesMut::from(&whole[..length]);
                cut[1..5].copy_from_slice(&(length as i32 - 1).to_be_bytes());
                assert_eq!(decoded(cut).unwrap_err().code, "08P01");
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_allocated() {
        let refused = |bytes: &[u8]| split(&mut BytesMut::from(bytes), MAX).unwrap_err().message;
        assert_eq!(refused(b"Q\x40\x00\x00\x00"), "invalid message length");
        assert_eq!(refused(b"Q\xff\xff\xff\xff"), "invalid message length");
        assert_eq!(refused(b"Q\x00\x00\x00\x03"), "invalid message length");
        assert_eq!(refused(b"S\x00\x01\x00\x00"), "invalid message length");
        assert_eq!(refused(b"\x16\x03\x01"), "invalid frontend message type 22");
    }

    #[test]
    fn text_that_is_no_utf8_has_its_own_code() {
        let error = decoded(BytesMut::from(&b"Q\x00\x00\x00\x07\xc3\x28\x00"[..])).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), ("22021", "invalid byte sequence for encoding \"UTF8\": 0xc3"));
    }

    #[test]
    fn a_statement_is_alone_when_a_sync_follows() {
        let sync = encoded(extendedquery::Sync::new());
        let close = encoded(extendedquery::Close::new(b'P', Some("".into())));
        let execute = encoded(extendedquery::Execute::new(Some("".into()), 0));
        let joined = |parts: &[&BytesMut]| parts.iter().flat_map(|p| p.to_vec()).collect::<Vec<u8>>();
        assert!(syncs_next(&joined(&[&sync])));
        assert!(syncs_next(&joined(&[&close, &sync, &execute])));
        assert!(!syncs_next(&joined(&[&execute, &sync])));
        assert!(!syncs_next(&joined(&[&close])));
        assert!(!syncs_next(&joined(&[&close])[..3]));
        assert!(!syncs_next(b""));
    }
}
