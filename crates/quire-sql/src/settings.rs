//! Run-time parameters: SET, SHOW, RESET.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quire_optimizer::OptimizerOptions;
use quire_types::Isolation;

use crate::SqlError;

/// A parameter that exists.
struct Parameter {
    name: &'static str,
    default: &'static str,
    /// Told to the client when it changes (ParameterStatus).
    reported: bool,
    kind: Kind,
}

/// What values a parameter takes.
enum Kind {
    /// Anything; drivers set it and nothing here depends on it.
    Text,
    /// on, off and their spellings.
    Bool,
    /// A whole number in a range.
    Int(i64, i64),
    /// A duration; a bare number is milliseconds.
    Milliseconds,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Cannot be set.
    ReadOnly,
}

const ISOLATION_LEVELS: &[&str] = &["read committed", "repeatable read", "serializable", "read uncommitted"];

/// The version of Postgres that Quire answers as.
pub(crate) const SERVER_VERSION: &str = "15.0";

const PARAMETERS: &[Parameter] = &[
    p("application_name", "", true, Kind::Text),
    p("bytea_output", "hex", false, Kind::OneOf(&["hex"])),
    p("client_encoding", "UTF8", true, Kind::OneOf(&["utf8", "utf-8", "unicode", "sql_ascii"])),
    p(
        "client_min_messages",
        "notice",
        false,
        Kind::OneOf(&["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"]),
    ),
    p("datestyle", "ISO, MDY", true, Kind::OneOf(&["iso, mdy", "iso", "mdy", "iso,mdy", "iso, ymd", "iso, dmy"])),
    p("default_table_access_method", "heap", false, Kind::OneOf(&["heap"])),
    p("default_transaction_isolation", "read committed", false, Kind::OneOf(ISOLATION_LEVELS)),
    p("default_transaction_read_only", "off", true, Kind::Bool),
    p("extra_float_digits", "1", false, Kind::Int(-15, 3)),
    p("idle_in_transaction_session_timeout", "0", false, Kind::Milliseconds),
    p("in_hot_standby", "off", true, Kind::ReadOnly),
    p("integer_datetimes", "on", true, Kind::ReadOnly),
    p("intervalstyle", "postgres", true, Kind::OneOf(&["postgres"])),
    p("is_superuser", "on", true, Kind::ReadOnly),
    p("jit", "off", false, Kind::Bool),
    p("lock_timeout", "0", false, Kind::Milliseconds),
    p("max_identifier_length", "63", false, Kind::ReadOnly),
    p("plan_cache_mode", "auto", false, Kind::OneOf(&["auto", "force_generic_plan", "force_custom_plan"])),
    p("quire.direct_grouping", "on", false, Kind::Bool),
    p("quire.join_keys", "on", false, Kind::Bool),
    p("quire.join_reordering", "on", false, Kind::Bool),
    p("quire.magic_sets", "on", false, Kind::Bool),
    p("quire.narrow_decimals", "on", false, Kind::Bool),
    p("quire.ordered_grouping", "on", false, Kind::Bool),
    p("quire.semi_join_pushdown", "on", false, Kind::Bool),
    p("quire.shared_subplans", "on", false, Kind::Bool),
    p("quire.tabulated_conditions", "on", false, Kind::Bool),
    p("quire.target_partitions", "0", false, Kind::Int(0, 1024)),
    p("row_security", "on", false, Kind::Bool),
    p("search_path", "\"$user\", public", false, Kind::Text),
    p("server_encoding", "UTF8", true, Kind::ReadOnly),
    p("server_version", SERVER_VERSION, true, Kind::ReadOnly),
    p("server_version_num", "150000", false, Kind::ReadOnly),
    p("session_authorization", "quire", true, Kind::ReadOnly),
    p("standard_conforming_strings", "on", true, Kind::OneOf(&["on"])),
    p("statement_timeout", "0", false, Kind::Milliseconds),
    p("synchronize_seqscans", "on", false, Kind::Bool),
    p("timezone", "UTC", true, Kind::Text),
    p("transaction_isolation", "read committed", false, Kind::OneOf(ISOLATION_LEVELS)),
    p("transaction_read_only", "off", false, Kind::Bool),
    p("work_mem", "4MB", false, Kind::Text),
];

const fn p(name: &'static str, default: &'static str, reported: bool, kind: Kind) -> Parameter {
    Parameter { name, default, reported, kind }
}

/// As the client wants it spelled in ParameterStatus.
fn shown_name(name: &str) -> &str {
    match name {
        "datestyle" => "DateStyle",
        "timezone" => "TimeZone",
        "intervalstyle" => "IntervalStyle",
        other => other,
    }
}

/// A session's parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, String>,
    /// SET of a name with a dot that is not ours: kept, as Postgres keeps it.
    custom: BTreeMap<String, String>,
    changed: Vec<&'static str>,
    /// What SET LOCAL replaced: put back when the transaction ends.
    local: BTreeMap<String, Option<String>>,
    user: String,
    /// Worked out when it is first asked for, and again after a parameter has changed.
    in_force: OnceLock<Arc<InForce>>,
}

/// What every statement asks of the parameters.
#[derive(Debug)]
pub(crate) struct InForce {
    /// As Arrow reads it.
    pub(crate) time_zone: Arc<str>,
    /// Schemas of the search path, in order; `"$user"` stands for the role's name.
    pub(crate) search_path: Arc<[String]>,
    /// `statement_timeout`, when set.
    pub(crate) statement_timeout: Option<Duration>,
    /// What a transaction begins as.
    pub(crate) isolation: Isolation,
    pub(crate) read_only: bool,
    pub(crate) optimizer: OptimizerOptions,
    /// Not with `plan_cache_mode = force_custom_plan`.
    pub(crate) keeps_plans: bool,
    /// `quire.target_partitions`, when set.
    pub(crate) target_partitions: Option<usize>,
}

/// A session's parameters, where functions (`current_setting`, `set_config`) find them too.
pub(crate) type SharedSettings = Arc<parking_lot::Mutex<Settings>>;

impl Settings {
    /// Defaults, with what the startup message said.
    pub(crate) fn new(user: &str, startup: &[(String, String)]) -> Result<Settings, SqlError> {
        let mut settings = Settings { user: user.to_string(), ..Settings::default() };
        for (name, value) in startup {
            match name.as_str() {
                "options" => {
                    for (name, value) in startup_options(value) {
                        settings.set(&name, &value)?;
                    }
                }
                "user" | "database" | "replication" => {}
                name if name.starts_with("_pq_.") => {}
                name => settings.set(name, value)?,
            }
        }
        settings.changed.clear();
        Ok(settings)
    }

    fn parameter(name: &str) -> Option<&'static Parameter> {
        let name = name.to_lowercase();
        let name = if name == "time zone" { "timezone" } else { &name };
        PARAMETERS.iter().find(|p| p.name == name)
    }

    /// The value to show.
    pub(crate) fn get(&self, name: &str) -> Result<String, SqlError> {
        if let Some(parameter) = Self::parameter(name) {
            if parameter.name == "session_authorization" {
                return Ok(self.user.clone());
            }
            return Ok(self.values.get(parameter.name).cloned().unwrap_or_else(|| parameter.default.to_string()));
        }
        let unknown = || SqlError::new("42704", format!("unrecognized configuration parameter \"{name}\""));
        self.custom.get(&name.to_lowercase()).cloned().ok_or_else(unknown)
    }

    /// The value as SHOW prints it: durations in their largest whole unit.
    pub(crate) fn shown(&self, name: &str) -> Result<String, SqlError> {
        let value = self.get(name)?;
        Ok(match Self::parameter(name) {
            Some(Parameter { kind: Kind::Milliseconds, .. }) => with_unit(&value),
            _ => value,
        })
    }

    /// What every statement asks for.
    pub(crate) fn in_force(&self) -> &Arc<InForce> {
        self.in_force.get_or_init(|| {
            Arc::new(InForce {
                time_zone: self.arrow_time_zone().into(),
                search_path: self.schemas().into(),
                statement_timeout: self.statement_timeout(),
                isolation: isolation_of(&self.get("default_transaction_isolation").unwrap_or_default()),
                read_only: self.get("default_transaction_read_only").is_ok_and(|v| v == "on"),
                optimizer: self.optimizer_options(),
                keeps_plans: self.get("plan_cache_mode").is_ok_and(|mode| mode != "force_custom_plan"),
                target_partitions: self.target_partitions(),
            })
        })
    }

    /// Schemas of the search path, in order.
    pub(crate) fn search_path(&self) -> Arc<[String]> {
        self.in_force().search_path.clone()
    }

    /// The time zone as Arrow reads it: a name of the tz database, or an offset.
    fn arrow_time_zone(&self) -> String {
        let value = self.get("timezone").unwrap_or_default();
        match offset_of(&value) {
            Some(minutes) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
            None => value,
        }
    }

    /// What a parameter is without SET.
    pub(crate) fn default_of(&self, name: &str) -> Result<String, SqlError> {
        let unknown = || SqlError::new("42704", format!("unrecognized configuration parameter \"{name}\""));
        Self::parameter(name).map(|p| p.default.to_string()).ok_or_else(unknown)
    }

    /// Whether `client_min_messages` lets a message through.
    pub(crate) fn tells(&self, severity: &str) -> bool {
        const LEVELS: [&str; 4] = ["log", "notice", "warning", "error"];
        let rank = |level: &str| LEVELS.iter().position(|l| *l == level).unwrap_or(0);
        let least = self.get("client_min_messages").unwrap_or_default();
        // INFO is always told.
        severity == "INFO" || rank(&severity.to_lowercase()) >= rank(&least)
    }

    /// SET LOCAL: like [`Settings::set`], until [`Settings::end_local`].
    pub(crate) fn set_local(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        let key = Self::parameter(name).map_or_else(|| name.to_lowercase(), |p| p.name.to_string());
        let before = match Self::parameter(name) {
            Some(parameter) => self.values.get(parameter.name).cloned(),
            None => self.custom.get(&key).cloned(),
        };
        let known = self.local.remove(&key);
        self.set(name, value)?;
        self.local.insert(key, known.unwrap_or(before));
        Ok(())
    }

    /// The transaction is over: what SET LOCAL replaced comes back.
    pub(crate) fn end_local(&mut self) {
        for (key, before) in std::mem::take(&mut self.local) {
            match (Self::parameter(&key), before) {
                (Some(parameter), before) => self.put(parameter, before),
                (None, Some(before)) => drop(self.custom.insert(key, before)),
                (None, None) => drop(self.custom.remove(&key)),
            }
        }
    }

    /// ROLLBACK: everything as it was, with a ParameterStatus for what differs.
    pub(crate) fn restore(&mut self, before: Settings) {
        for parameter in PARAMETERS {
            if self.values.get(parameter.name) != before.values.get(parameter.name) {
                self.note(parameter);
            }
        }
        let changed = std::mem::take(&mut self.changed);
        *self = Settings { changed, ..before };
    }

    /// Sets a parameter. 42704 for an unknown one, 22023 for a bad value, 55P02 for one that cannot be set.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        self.local.remove(&name.to_lowercase());
        let Some(parameter) = Self::parameter(name) else {
            if name.contains('.') && !name.to_lowercase().starts_with("quire.") {
                self.custom.insert(name.to_lowercase(), value.to_string());
                return Ok(());
            }
            return Err(SqlError::new("42704", format!("unrecognized configuration parameter \"{name}\"")));
        };
        let mut value = parameter.check(value)?;
        if parameter.name == "timezone" {
            value = time_zone(&value).ok_or_else(|| invalid(parameter.name, &value))?;
        }
        self.local.remove(parameter.name);
        self.put(parameter, Some(value));
        Ok(())
    }

    /// RESET name, or everything for `None`.
    pub(crate) fn reset(&mut self, name: Option<&str>) -> Result<(), SqlError> {
        match name {
            Some(name) => match Self::parameter(name) {
                Some(parameter) => self.put(parameter, None),
                None if self.custom.remove(&name.to_lowercase()).is_some() => {}
                None => return Err(SqlError::new("42704", format!("unrecognized configuration parameter \"{name}\""))),
            },
            None => {
                let set: Vec<&'static str> = self.values.keys().copied().collect();
                for name in set {
                    self.reset(Some(name))?;
                }
                self.custom.clear();
            }
        }
        Ok(())
    }

    /// Gives a parameter a value; `None` is its default.
    fn put(&mut self, parameter: &'static Parameter, value: Option<String>) {
        match value {
            Some(value) => drop(self.values.insert(parameter.name, value)),
            None => drop(self.values.remove(parameter.name)),
        }
        self.in_force = OnceLock::new();
        self.note(parameter);
    }

    fn note(&mut self, parameter: &'static Parameter) {
        if parameter.reported {
            self.changed.push(parameter.name);
        }
    }

    /// ParameterStatus messages for a new session.
    pub(crate) fn reported(&self) -> Vec<(String, String)> {
        let reported = PARAMETERS.iter().filter(|p| p.reported);
        reported.filter_map(|p| Some((shown_name(p.name).to_string(), self.get(p.name).ok()?))).collect()
    }

    /// ParameterStatus messages that have become due.
    pub(crate) fn take_changes(&mut self) -> Vec<(String, String)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|name| Some((shown_name(name).to_string(), self.get(name).ok()?))).collect()
    }

    /// Every parameter, for SHOW ALL.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        PARAMETERS.iter().filter_map(|p| Some((shown_name(p.name).to_string(), self.shown(p.name).ok()?))).collect()
    }

    /// `"$user"` stands for the role's name.
    fn schemas(&self) -> Vec<String> {
        let path = self.get("search_path").unwrap_or_default();
        path.split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(|s| match s.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
                Some("$user") => self.user.clone(),
                Some(quoted) => quoted.to_string(),
                None => s.trim_matches('\'').to_lowercase(),
            })
            .collect()
    }

    /// Which optimizer rules run: all, but for those that were switched off.
    fn optimizer_options(&self) -> OptimizerOptions {
        let on = |name: &str| self.values.get(name).is_none_or(|value| value == "on");
        let mut options = OptimizerOptions::default();
        options.join_reordering = on("quire.join_reordering");
        options.semi_join_pushdown = on("quire.semi_join_pushdown");
        options.magic_sets = on("quire.magic_sets");
        options.shared_subplans = on("quire.shared_subplans");
        options.narrow_decimals = on("quire.narrow_decimals");
        options.tabulated_conditions = on("quire.tabulated_conditions");
        options.join_keys = on("quire.join_keys");
        options.ordered_grouping = on("quire.ordered_grouping");
        options.direct_grouping = on("quire.direct_grouping");
        options
    }

    /// In how many partitions queries run, when that is set: `0` leaves it to the node.
    fn target_partitions(&self) -> Option<usize> {
        let partitions: usize = self.get("quire.target_partitions").ok()?.parse().ok()?;
        (partitions > 0).then_some(partitions)
    }

    /// `statement_timeout`, when set.
    fn statement_timeout(&self) -> Option<Duration> {
        let milliseconds: u64 = self.get("statement_timeout").ok()?.parse().ok()?;
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }
}

fn isolation_of(name: &str) -> Isolation {
    match name {
        "repeatable read" => Isolation::RepeatableRead,
        "serializable" => Isolation::Serializable,
        _ => Isolation::ReadCommitted,
    }
}

/// The name to show for one of the parameters; others keep theirs.
pub(crate) fn display_name(name: &str) -> String {
    Settings::parameter(name).map_or_else(|| name.to_string(), |p| shown_name(p.name).to_string())
}

/// A time zone as Postgres shows it: a name of the tz database as it is spelled there, or a number of hours east of UTC in POSIX' form
/// (`-5` is `<-05>+05`).
fn time_zone(value: &str) -> Option<String> {
    if value.eq_ignore_ascii_case("utc") {
        return Some("UTC".to_string());
    }
    if offset_of(value).is_some() {
        return Some(value.to_string());
    }
    if let Ok(hours) = value.parse::<f64>() {
        let minutes = (hours * 60.0).round() as i32;
        if hours.abs() > 15.0 {
            return None;
        }
        let (east, west) = if minutes < 0 { ('-', '+') } else { ('+', '-') };
        let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
        let digits = if minutes == 0 { format!("{hours:02}") } else { format!("{hours:02}:{minutes:02}") };
        return Some(format!("<{east}{digits}>{west}{digits}"));
    }
    let found = chrono_tz::TZ_VARIANTS.iter().find(|tz| tz.name().eq_ignore_ascii_case(value));
    found.map(|tz| tz.name().to_string())
}

/// Minutes east of UTC, of a zone in the form `<-05>+05`.
fn offset_of(zone: &str) -> Option<i32> {
    let name = zone.strip_prefix('<')?.split('>').next()?;
    let (hours, minutes) = name.get(1..)?.split_once(':').unwrap_or((name.get(1..)?, "0"));
    let minutes = hours.parse::<i32>().ok()? * 60 + minutes.parse::<i32>().ok()?;
    Some(if name.starts_with('-') { -minutes } else { minutes })
}

/// `5000` as `5s`.
fn with_unit(milliseconds: &str) -> String {
    let Ok(number @ 1..) = milliseconds.parse::<u64>() else { return milliseconds.to_string() };
    let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
    let (unit, size) = units.into_iter().find(|(_, size)| number.is_multiple_of(*size)).unwrap_or(("ms", 1));
    format!("{}{unit}", number / size)
}

fn invalid(name: &str, value: &str) -> SqlError {
    SqlError::new("22023", format!("invalid value for parameter \"{}\": \"{value}\"", shown_name(name)))
}

impl Parameter {
    fn check(&self, value: &str) -> Result<String, SqlError> {
        let value = value.trim();
        match &self.kind {
            Kind::Text => Ok(value.to_string()),
            Kind::ReadOnly => Err(SqlError::new("55P02", format!("parameter \"{}\" cannot be changed", self.name))),
            Kind::Bool => match value.to_lowercase().as_str() {
                "on" | "true" | "yes" | "1" | "t" | "y" => Ok("on".into()),
                "off" | "false" | "no" | "0" | "f" | "n" => Ok("off".into()),
                _ => Err(SqlError::new("22023", format!("parameter \"{}\" requires a Boolean value", self.name))),
            },
            Kind::Int(min, max) => {
                let number: i64 = value.parse().map_err(|_| invalid(self.name, value))?;
                if number < *min || number > *max {
                    let message = format!("{number} is outside the valid range for parameter \"{}\" ({min} .. {max})", self.name);
                    return Err(SqlError::new("22023", message));
                }
                Ok(number.to_string())
            }
            Kind::Milliseconds => milliseconds(value).map(|ms| ms.to_string()).ok_or_else(|| invalid(self.name, value)),
            Kind::OneOf(allowed) => {
                let mut lower = value.to_lowercase();
                if self.name == "client_encoding" {
                    // Encodings are compared by letters and digits: drivers write 'utf-8' with its quotes.
                    lower.retain(|c| c.is_ascii_alphanumeric() || c == '_');
                }
                if !allowed.contains(&lower.as_str()) {
                    return Err(invalid(self.name, value));
                }
                Ok(match self.name {
                    "client_encoding" => "UTF8".into(),
                    "datestyle" => self.default.into(),
                    _ => lower,
                })
            }
        }
    }
}

fn milliseconds(value: &str) -> Option<u64> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let number: u64 = value[..digits].parse().ok()?;
    let unit = match value[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// `-c name=value` and `--name=value` of the startup packet's `options`.
fn startup_options(options: &str) -> Vec<(String, String)> {
    let words: Vec<&str> = options.split_whitespace().collect();
    let mut found = vec![];
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = match word {
            "-c" => words.next(),
            word => word.strip_prefix("-c").or_else(|| word.strip_prefix("--")),
        };
        if let Some((name, value)) = assignment.and_then(|a| a.split_once('=')) {
            found.push((name.replace('-', "_"), value.to_string()));
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Settings;

    #[test]
    fn values_are_checked_as_postgres_checks_them() {
        let mut settings = Settings::new("quire", &[]).unwrap();
        settings.set("statement_timeout", "2s").unwrap();
        assert_eq!(settings.get("statement_timeout").unwrap(), "2000");
        assert_eq!(settings.set("no_such_thing", "1").unwrap_err().code, "42704");
        assert_eq!(settings.set("statement_timeout", "soon").unwrap_err().code, "22023");
        assert_eq!(settings.set("server_version", "1").unwrap_err().code, "55P02");
        settings.set("my.own", "x").unwrap();
        assert_eq!(settings.get("my.own").unwrap(), "x");
    }

    #[test]
    fn startup_options_are_settings() {
        let options = [("options".to_string(), "-c statement_timeout=5s --search-path=a,b".to_string())];
        let settings = Settings::new("quire", &options).unwrap();
        assert_eq!(settings.get("statement_timeout").unwrap(), "5000");
        assert_eq!(settings.search_path()[..], ["a", "b"]);
    }

    #[test]
    fn what_is_in_force_follows_every_way_to_change_a_parameter() {
        let mut settings = Settings::new("quire", &[]).unwrap();
        let zone = |settings: &Settings| settings.in_force().time_zone.to_string();
        assert_eq!(zone(&settings), "UTC");
        let before = settings.clone();
        settings.set("timezone", "Europe/Berlin").unwrap();
        assert_eq!(zone(&settings), "Europe/Berlin");
        settings.set_local("timezone", "Asia/Tokyo").unwrap();
        assert_eq!(zone(&settings), "Asia/Tokyo");
        settings.end_local();
        assert_eq!(zone(&settings), "Europe/Berlin");
        settings.restore(before);
        assert_eq!(zone(&settings), "UTC");
        settings.set("timezone", "Europe/Berlin").unwrap();
        settings.reset(None).unwrap();
        assert_eq!(zone(&settings), "UTC");
    }
}
