//! Functions of bytes: encodings, hashes, bits.

use arrow::array::ArrayRef;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use md5::Digest;

use super::forms::{Function, Gives, Kind, blobs, each1, each2, each3, form, int4s, texts};
use super::native::Call;
use crate::SqlError;

use Kind::{Bytea, Int4, Int8, Text};

/// Characters in a line of base64.
const BASE64_LINE: usize = 76;

pub(super) fn udfs() -> Vec<ScalarUDF> {
    macro_rules! hash {
        ($name:literal, $hasher:ty) => {
            Function::udf(
                $name,
                vec![form(&[Bytea], Gives::Is(Bytea), |call| {
                    blobs(each1(call.bytes(0), |bytes| Ok(Some(<$hasher>::digest(bytes).to_vec()))))
                })],
            )
        };
    }
    vec![
        Function::udf(
            "encode",
            vec![form(&[Bytea, Text], Gives::Is(Text), |call| {
                texts(each2(call.bytes(0), call.text(1), |bytes, format| encoded(bytes, format).map(Some)))
            })],
        ),
        Function::udf(
            "decode",
            vec![form(&[Text, Text], Gives::Is(Bytea), |call| {
                blobs(each2(call.text(0), call.text(1), |text, format| decoded(text, format).map(Some)))
            })],
        ),
        Function::udf(
            "md5",
            vec![
                form(&[Text], Gives::Is(Text), |call| {
                    texts(each1(call.text(0), |text| Ok(Some(hex::encode(md5::Md5::digest(text.as_bytes()))))))
                }),
                form(&[Bytea], Gives::Is(Text), |call| texts(each1(call.bytes(0), |bytes| Ok(Some(hex::encode(md5::Md5::digest(bytes))))))),
            ],
        ),
        hash!("sha224", sha2::Sha224),
        hash!("sha256", sha2::Sha256),
        hash!("sha384", sha2::Sha384),
        hash!("sha512", sha2::Sha512),
        Function::udf(
            "convert_from",
            vec![form(&[Bytea, Text], Gives::Is(Text), |call| {
                texts(each2(call.bytes(0), call.text(1), |bytes, name| {
                    utf8(name)?;
                    std::str::from_utf8(bytes).map(|text| Some(text.to_string())).map_err(|e| {
                        let bad: Vec<String> = bytes[e.valid_up_to()..].iter().take(2).map(|b| format!("0x{b:02x}")).collect();
                        SqlError::new("22021", format!("invalid byte sequence for encoding \"UTF8\": {}", bad.join(" ")))
                    })
                }))
            })],
        ),
        Function::udf(
            "convert_to",
            vec![form(&[Text, Text], Gives::Is(Bytea), |call| {
                blobs(each2(call.text(0), call.text(1), |text, name| {
                    utf8(name)?;
                    Ok(Some(text.as_bytes().to_vec()))
                }))
            })],
        ),
        Function::udf(
            "get_byte",
            vec![form(&[Bytea, Int4], Gives::Is(Int4), |call| {
                int4s(each2(call.bytes(0), call.int4(1), |bytes, at| Ok(Some(i32::from(bytes[index(at.into(), bytes.len())?])))))
            })],
        ),
        Function::udf("set_byte", vec![form(&[Bytea, Int4, Int4], Gives::Is(Bytea), set_byte)]),
        Function::udf(
            "get_bit",
            vec![form(&[Bytea, Int8], Gives::Is(Int4), |call| {
                int4s(each2(call.bytes(0), call.int8(1), |bytes, at| {
                    let at = index(at, bytes.len() * 8)?;
                    Ok(Some(i32::from(bytes[at / 8] >> (at % 8) & 1)))
                }))
            })],
        ),
    ]
}

fn set_byte(call: &Call) -> Result<ArrayRef> {
    blobs(each3(call.bytes(0), call.int4(1), call.int4(2), |bytes, at, value| {
        let mut out = bytes.to_vec();
        out[index(at.into(), bytes.len())?] = value as u8;
        Ok(Some(out))
    }))
}

fn index(at: i64, length: usize) -> std::result::Result<usize, SqlError> {
    usize::try_from(at)
        .ok()
        .filter(|at| *at < length)
        .ok_or_else(|| SqlError::new("2202E", format!("index {at} out of valid range, 0..{}", length as i64 - 1)))
}

/// Text is UTF-8 throughout, so the only other encodings that are known are those that are a part of it.
fn utf8(name: &str) -> std::result::Result<(), SqlError> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    match plain.as_str() {
        "utf8" | "unicode" => Ok(()),
        _ => Err(SqlError::new("0A000", format!("conversion between {name} and UTF8 is not supported"))),
    }
}

fn unknown_format(format: &str) -> SqlError {
    SqlError::new("22023", format!("unrecognized encoding: \"{format}\""))
}

fn encoded(bytes: &[u8], format: &str) -> std::result::Result<String, SqlError> {
    match format.to_ascii_lowercase().as_str() {
        "hex" => Ok(hex::encode(bytes)),
        "base64" => {
            let plain = STANDARD.encode(bytes);
            let lines: Vec<&str> = plain.as_bytes().chunks(BASE64_LINE).filter_map(|l| std::str::from_utf8(l).ok()).collect();
            Ok(lines.join("\n"))
        }
        "escape" => {
            let mut out = String::new();
            for byte in bytes {
                match byte {
                    0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
                    b'\\' => out.push_str("\\\\"),
                    plain => out.push(char::from(*plain)),
                }
            }
            Ok(out)
        }
        _ => Err(unknown_format(format)),
    }
}

fn decoded(text: &str, format: &str) -> std::result::Result<Vec<u8>, SqlError> {
    let blanks = |c: char| !matches!(c, ' ' | '\n' | '\t' | '\r');
    match format.to_ascii_lowercase().as_str() {
        "hex" => {
            let digits: String = text.chars().filter(|c| blanks(*c)).collect();
            if let Some(bad) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
                return Err(SqlError::new("22023", format!("invalid hexadecimal digit: \"{bad}\"")));
            }
            hex::decode(digits).map_err(|_| SqlError::new("22023", "invalid hexadecimal data: odd number of digits"))
        }
        "base64" => {
            let plain: String = text.chars().filter(|c| blanks(*c)).collect();
            STANDARD.decode(&plain).map_err(|e| match e {
                base64::DecodeError::InvalidByte(at, _) => {
                    let bad = plain[at..].chars().next().unwrap_or('=');
                    SqlError::new("22023", format!("invalid symbol \"{bad}\" found while decoding base64 sequence"))
                }
                _ => SqlError::new("22023", "invalid base64 end sequence")
                    .with_hint("Input data is missing padding, is truncated, or is otherwise corrupted."),
            })
        }
        "escape" => unescaped(text.as_bytes()),
        _ => Err(unknown_format(format)),
    }
}

fn unescaped(text: &[u8]) -> std::result::Result<Vec<u8>, SqlError> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let octal = |i: usize, most: u8| text.get(at + i).filter(|b| (b'0'..=most).contains(b)).map(|b| u32::from(b - b'0'));
        match (text[at], text.get(at + 1)) {
            (b'\\', Some(b'\\')) => {
                out.push(b'\\');
                at += 2;
            }
            (b'\\', _) => {
                let digits = octal(1, b'3').zip(octal(2, b'7')).zip(octal(3, b'7'));
                let ((a, b), c) = digits.ok_or_else(|| SqlError::new("22P02", "invalid input syntax for type bytea"))?;
                out.push((a * 64 + b * 8 + c) as u8);
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Ok(out)
}
