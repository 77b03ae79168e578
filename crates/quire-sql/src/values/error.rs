use quire_types::SqlType;

/// A value that a type does not take, in Postgres' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValueError {
    /// SQLSTATE.
    pub code: &'static str,
    /// Message.
    pub message: String,
    /// Detail.
    pub detail: Option<String>,
    /// Hint.
    pub hint: Option<String>,
}

impl ValueError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> ValueError {
        ValueError { code, message: message.into(), detail: None, hint: None }
    }

    /// 22P02, or 22007 for dates and times.
    pub(crate) fn invalid(ty: SqlType, text: &str) -> ValueError {
        let (code, name) = match ty {
            SqlType::Date => ("22007", "date"),
            SqlType::Time => ("22007", "time"),
            SqlType::Timestamp => ("22007", "timestamp"),
            SqlType::Timestamptz => ("22007", "timestamp with time zone"),
            SqlType::Interval => ("22007", "interval"),
            SqlType::Bool => ("22P02", "boolean"),
            SqlType::Int2 => ("22P02", "smallint"),
            SqlType::Int4 => ("22P02", "integer"),
            SqlType::Int8 => ("22P02", "bigint"),
            SqlType::Float4 => ("22P02", "real"),
            SqlType::Float8 => ("22P02", "double precision"),
            SqlType::Numeric { .. } => ("22P02", "numeric"),
            SqlType::Bytea => ("22P02", "bytea"),
            SqlType::Uuid => ("22P02", "uuid"),
            SqlType::Json => ("22P02", "json"),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) => ("22P02", "text"),
        };
        ValueError::new(code, format!("invalid input syntax for type {name}: \"{text}\""))
    }

    /// 22003, of text.
    pub(crate) fn out_of_range(ty: SqlType, text: &str) -> ValueError {
        ValueError::new("22003", format!("value \"{text}\" is out of range for type {}", ty.name()))
    }

    /// 22003, of a number that was computed.
    pub(crate) fn number_out_of_range(ty: SqlType) -> ValueError {
        ValueError::new("22003", format!("{} out of range", ty.name()))
    }

    /// 22003, with the bound.
    pub(crate) fn numeric_overflow(precision: u8, scale: i8) -> ValueError {
        let digits = i32::from(precision) - i32::from(scale);
        let bound = if digits == 0 { "1".to_string() } else { format!("10^{digits}") };
        let mut error = ValueError::new("22003", "numeric field overflow");
        error.detail =
            Some(format!("A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."));
        error
    }

    /// 22001.
    pub(crate) fn too_long(ty: SqlType) -> ValueError {
        ValueError::new("22001", format!("value too long for type {}", ty.name()))
    }

    /// 22P03.
    pub(crate) fn binary(ty: SqlType) -> ValueError {
        ValueError::new("22P03", format!("incorrect binary data format for type {}", ty.name()))
    }
}
