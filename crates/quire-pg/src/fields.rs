//! Errors and notices as message fields.

use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use quire_sql::{Notice, SqlError};

pub(crate) fn error(error: &SqlError, severity: &str) -> ErrorResponse {
    let mut fields =
        vec![(b'S', severity.to_string()), (b'V', severity.to_string()), (b'C', error.code.to_string()), (b'M', clean(&error.message))];
    let mut optional = |code: u8, value: &Option<String>| {
        if let Some(value) = value {
            fields.push((code, clean(value)));
        }
    };
    optional(b'D', &error.detail);
    optional(b'H', &error.hint);
    optional(b'P', &error.position.map(|p| p.to_string()));
    optional(b'W', &error.context);
    optional(b's', &error.object.schema);
    optional(b't', &error.object.table);
    optional(b'c', &error.object.column);
    optional(b'n', &error.object.constraint);
    ErrorResponse::new(fields)
}

pub(crate) fn notice(notice: &Notice) -> NoticeResponse {
    let mut fields = vec![
        (b'S', notice.severity.to_string()),
        (b'V', notice.severity.to_string()),
        (b'C', notice.code.to_string()),
        (b'M', clean(&notice.message)),
    ];
    if let Some(detail) = &notice.detail {
        fields.push((b'D', clean(detail)));
    }
    if let Some(hint) = &notice.hint {
        fields.push((b'H', clean(hint)));
    }
    NoticeResponse::new(fields)
}

/// A NUL would end the field early, and the client would lose its place.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
