//! A pattern for dates and times, taken apart.

/// Words that mean a field. Where one begins another, the longer comes first.
const FIELDS: &[&str] = &[
    "A.D.", "A.M.", "AD", "AM", "B.C.", "BC", "CC", "DAY", "DDD", "DD", "DY", "D", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "HH24",
    "HH12", "HH", "IDDD", "ID", "IW", "IYYY", "IYY", "IY", "I", "J", "MI", "MM", "MONTH", "MON", "MS", "OF", "P.M.", "PM", "Q", "RM",
    "SSSSS", "SSSS", "SS", "TZH", "TZM", "TZ", "US", "WW", "W", "Y,YYY", "YYYY", "YYY", "YY", "Y",
];

/// How a word is written, which names follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Case {
    Upper,
    Lower,
    Capital,
}

impl Case {
    /// A name that begins with a capital, in this case.
    pub(super) fn apply(self, name: &str) -> String {
        match self {
            Case::Upper => name.to_uppercase(),
            Case::Lower => name.to_lowercase(),
            Case::Capital => name.to_string(),
        }
    }
}

/// One node of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// A field by its word in capitals.
    Field {
        name: &'static str,
        case: Case,
        fill: bool,
        ordinal: Option<Case>,
    },
    Space,
    /// A sign that is neither letter nor digit.
    Separator(char),
    Text(char),
}

/// The nodes of a pattern, and whether it holds to widths exactly (`FX`).
pub(super) fn parse(pattern: &str) -> (Vec<Node>, bool) {
    let mut nodes = vec![];
    let mut exact = false;
    let mut rest = pattern;
    while !rest.is_empty() {
        // FM, FX and TM may come together.
        let mut fill = false;
        loop {
            if let Some(after) = rest.strip_prefix("FM").or(rest.strip_prefix("fm")) {
                (fill, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix("FX").or(rest.strip_prefix("fx")) {
                (exact, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix("TM").or(rest.strip_prefix("tm")) {
                rest = after;
            } else {
                break;
            }
        }
        if let Some((name, case)) = field(rest) {
            rest = &rest[name.len()..];
            let ordinal = match rest.get(..2) {
                Some("TH") => Some(Case::Upper),
                Some("th") => Some(Case::Lower),
                _ => None,
            };
            if ordinal.is_some() {
                rest = &rest[2..];
            } else if let Some(after) = rest.strip_prefix("SP") {
                rest = after;
            }
            nodes.push(Node::Field { name, case, fill, ordinal });
            continue;
        }
        let Some(c) = rest.chars().next() else { break };
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => {
                let mut escaped = false;
                while let Some(c) = rest.chars().next() {
                    rest = &rest[c.len_utf8()..];
                    match c {
                        '"' if !escaped => break,
                        '\\' if !escaped => escaped = true,
                        c => {
                            nodes.push(Node::Text(c));
                            escaped = false;
                        }
                    }
                }
            }
            '\\' if rest.starts_with('"') => {
                nodes.push(Node::Text('"'));
                rest = &rest[1..];
            }
            c if c.is_whitespace() => nodes.push(Node::Space),
            c if c.is_ascii_graphic() && !c.is_ascii_alphanumeric() => nodes.push(Node::Separator(c)),
            c => nodes.push(Node::Text(c)),
        }
    }
    (nodes, exact)
}

fn field(text: &str) -> Option<(&'static str, Case)> {
    for name in FIELDS {
        let Some(written) = text.get(..name.len()) else { continue };
        if written == *name {
            return Some((name, Case::Upper));
        }
        if written == name.to_ascii_lowercase() {
            return Some((name, Case::Lower));
        }
        let capital = matches!(*name, "DAY" | "DY" | "MONTH" | "MON") && written[1..] == name[1..].to_ascii_lowercase();
        if capital && written.starts_with(&name[..1]) {
            return Some((name, Case::Capital));
        }
    }
    None
}
