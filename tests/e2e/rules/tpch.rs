//! TPC-H's texts with other substitution parameters (clause 2.4 of its specification).

use anyhow::{Result, ensure};
use quire_tests::Random;

use super::read;

pub(super) const SCALE: &str = "0.01";

const REGIONS: [&str; 5] = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];
/// Each with its region.
const NATIONS: [(&str, usize); 25] = [
    ("ALGERIA", 0),
    ("ARGENTINA", 1),
    ("BRAZIL", 1),
    ("CANADA", 1),
    ("EGYPT", 4),
    ("ETHIOPIA", 0),
    ("FRANCE", 3),
    ("GERMANY", 3),
    ("INDIA", 2),
    ("INDONESIA", 2),
    ("IRAN", 4),
    ("IRAQ", 4),
    ("JAPAN", 2),
    ("JORDAN", 4),
    ("KENYA", 0),
    ("MOROCCO", 0),
    ("MOZAMBIQUE", 0),
    ("PERU", 1),
    ("CHINA", 2),
    ("ROMANIA", 3),
    ("SAUDI ARABIA", 4),
    ("VIETNAM", 2),
    ("RUSSIA", 3),
    ("UNITED KINGDOM", 3),
    ("UNITED STATES", 1),
];
const SEGMENTS: [&str; 5] = ["AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD"];
const MODES: [&str; 7] = ["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"];
const TYPES: [&[&str]; 3] = [
    &["STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO"],
    &["ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED"],
    &["TIN", "NICKEL", "BRASS", "STEEL", "COPPER"],
];
const CONTAINERS: [&[&str]; 2] = [&["SM", "LG", "MED", "JUMBO", "WRAP"], &["CASE", "BOX", "BAG", "JAR", "PKG", "PACK", "CAN", "DRUM"]];
/// Some of the 92 words in names of parts.
const COLORS: [&str; 16] = [
    "almond",
    "azure",
    "blush",
    "chiffon",
    "cream",
    "drab",
    "frosted",
    "goldenrod",
    "honeydew",
    "khaki",
    "lemon",
    "midnight",
    "orchid",
    "puff",
    "sienna",
    "tomato",
];
const WORDS: [&[&str]; 2] = [&["special", "pending", "unusual", "express"], &["packages", "requests", "accounts", "deposits"]];

/// A query's text with the parameters that the specification validates by.
pub(super) fn text(number: u64) -> Result<String> {
    let text = read(&format!("../crates/quire-bench/queries/q{number:02}.sql"))?;
    // 0.0001 / scale
    Ok(text.trim_end().replace("{fraction}", "0.01"))
}

/// The same text with other parameters.
pub(super) fn with_parameters(number: u64, text: &str, random: &mut Random) -> Result<String> {
    let swaps = swaps(number, random);
    let mut sql = text.to_string();
    // In two steps: a new value may be another parameter's old one.
    for (place, (old, _)) in swaps.iter().enumerate() {
        ensure!(sql.contains(old), "query {number} has no {old}");
        sql = sql.replace(old, &format!("{{{place}}}"));
    }
    for (place, (_, new)) in swaps.iter().enumerate() {
        sql = sql.replace(&format!("{{{place}}}"), new);
    }
    Ok(sql)
}

/// What stands in the text, and what is to stand there.
fn swaps(number: u64, random: &mut Random) -> Vec<(&'static str, String)> {
    match number {
        1 => vec![("'90' day", format!("'{}' day", random.between(60, 120)))],
        2 => vec![
            ("p_size = 15", format!("p_size = {}", random.between(1, 50))),
            ("BRASS", one(random, TYPES[2]).into()),
            ("EUROPE", one(random, &REGIONS).into()),
        ],
        3 => vec![("BUILDING", one(random, &SEGMENTS).into()), ("1995-03-15", format!("1995-03-{:02}", random.between(1, 31)))],
        4 => vec![("1993-07-01", month(random, 1993, 0, 57))],
        5 => vec![("ASIA", one(random, &REGIONS).into()), ("1994-01-01", year(random))],
        6 => vec![
            ("1994-01-01", year(random)),
            ("0.06", format!("0.0{}", random.between(2, 9))),
            ("< 24", format!("< {}", random.between(24, 25))),
        ],
        7 => {
            let nations = some(random, NATIONS.to_vec(), 2);
            vec![("FRANCE", nations[0].0.into()), ("GERMANY", nations[1].0.into())]
        }
        8 => {
            let (nation, region) = some(random, NATIONS.to_vec(), 1)[0];
            vec![("BRAZIL", nation.into()), ("AMERICA", REGIONS[region].into()), ("ECONOMY ANODIZED STEEL", joined(random, &TYPES))]
        }
        9 => vec![("green", one(random, &COLORS).into())],
        10 => vec![("1993-10-01", month(random, 1993, 1, 24))],
        11 => vec![("GERMANY", nation(random))],
        12 => {
            let modes = some(random, MODES.to_vec(), 2);
            vec![("'MAIL'", format!("'{}'", modes[0])), ("'SHIP'", format!("'{}'", modes[1])), ("1994-01-01", year(random))]
        }
        13 => vec![("special", one(random, WORDS[0]).into()), ("requests", one(random, WORDS[1]).into())],
        14 => vec![("1995-09-01", month(random, 1993, 0, 59))],
        15 => vec![("1996-01-01", month(random, 1993, 0, 57))],
        16 => {
            let sizes: Vec<String> = some(random, (1..=50).collect(), 8).iter().map(u64::to_string).collect();
            vec![
                ("Brand#45", brand(random)),
                ("MEDIUM POLISHED", joined(random, &TYPES[..2])),
                ("49, 14, 23, 45, 19, 3, 36, 9", sizes.join(", ")),
            ]
        }
        17 => vec![("Brand#23", brand(random)), ("MED BOX", joined(random, &CONTAINERS))],
        18 => vec![("> 300", format!("> {}", random.between(312, 315)))],
        19 => {
            let (first, second, third) = (random.between(1, 10), random.between(10, 20), random.between(20, 30));
            vec![
                ("Brand#12", brand(random)),
                ("Brand#23", brand(random)),
                ("Brand#34", brand(random)),
                (">= 1 and l_quantity <= 1 +", format!(">= {first} and l_quantity <= {first} +")),
                (">= 10 and l_quantity <= 10 +", format!(">= {second} and l_quantity <= {second} +")),
                (">= 20 and l_quantity <= 20 +", format!(">= {third} and l_quantity <= {third} +")),
            ]
        }
        20 => vec![("forest", one(random, &COLORS).into()), ("1994-01-01", year(random)), ("CANADA", nation(random))],
        21 => vec![("SAUDI ARABIA", nation(random))],
        22 => {
            let codes: Vec<String> = some(random, (10..=34).collect(), 7).iter().map(|code| format!("'{code}'")).collect();
            vec![("'13', '31', '23', '29', '30', '18', '17'", codes.join(", "))]
        }
        _ => vec![],
    }
}

fn one<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.between(0, of.len() as u64 - 1) as usize]
}

/// Different ones.
fn some<T>(random: &mut Random, mut of: Vec<T>, count: usize) -> Vec<T> {
    let mut chosen = Vec::with_capacity(count);
    for _ in 0..count {
        let place = random.between(0, of.len() as u64 - 1) as usize;
        chosen.push(of.swap_remove(place));
    }
    chosen
}

/// One of each, in a row.
fn joined(random: &mut Random, of: &[&[&str]]) -> String {
    of.iter().map(|words| one(random, words)).collect::<Vec<_>>().join(" ")
}

fn nation(random: &mut Random) -> String {
    some(random, NATIONS.to_vec(), 1)[0].0.into()
}

fn brand(random: &mut Random) -> String {
    format!("Brand#{}{}", random.between(1, 5), random.between(1, 5))
}

/// The first day of one of five years.
fn year(random: &mut Random) -> String {
    format!("{}-01-01", random.between(1993, 1997))
}

/// The first day of a month, from the `first` to the `last` after January of `year`.
fn month(random: &mut Random, year: u64, first: u64, last: u64) -> String {
    let month = random.between(first, last);
    format!("{}-{:02}-01", year + month / 12, month % 12 + 1)
}
