//! What time it is: of the transaction and its statements, which stands still, and of the clock, which does not.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arrow::array::{ArrayRef, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use datafusion::prelude::SessionContext;
use quire_types::SqlType;

use super::calendar::{DAY, to_local};
use super::forms::{Function, Gives, Kind, form};
use super::native::sql_error;
use crate::catalog::ScopeCell;
use crate::values::Home;

pub(super) fn udfs() -> Vec<ScalarUDF> {
    vec![
        Function::of(
            "clock_timestamp",
            Volatility::Volatile,
            vec![form(&[], Gives::Is(Kind::Timestamptz), |call| {
                let now = TimestampMicrosecondArray::from(vec![now(); call.rows]);
                Ok(Arc::new(now.with_data_type(SqlType::Timestamptz.arrow())) as ArrayRef)
            })],
        ),
        Function::of(
            "timeofday",
            Volatility::Volatile,
            vec![form(&[], Gives::Is(Kind::Text), |call| {
                let now = chrono::DateTime::from_timestamp_micros(now()).unwrap_or_default();
                let shown = match call.zone.parse::<chrono_tz::Tz>() {
                    Ok(zone) => now.with_timezone(&zone).format("%a %b %d %H:%M:%S%.6f %Y %Z").to_string(),
                    Err(_) => now.format("%a %b %d %H:%M:%S%.6f %Y UTC").to_string(),
                };
                Ok(Arc::new(StringViewArray::from_iter_values(vec![shown; call.rows])) as ArrayRef)
            })],
        ),
    ]
}

fn now() -> i64 {
    quire_kit::clock::wall().as_micros() as i64
}

/// When the session's transaction began, for whoever has the session's configuration and nothing else of it: microseconds since 1970.
#[derive(Clone, Debug)]
struct Began {
    at: Arc<AtomicI64>,
    /// Counts how often that was asked for.
    asked: Arc<AtomicU64>,
}

impl ConfigExtension for Began {
    const PREFIX: &'static str = "quire_began";
}

impl ExtensionOptions for Began {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    /// The same cell: a configuration that was copied before the transaction began tells when it did, too.
    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        Err(sql_error(crate::SqlError::internal(format!("{key} is not set by name"))))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}

/// Where and when the session is, as its configuration tells.
pub(super) fn home_of(config: &ConfigOptions) -> Home<'_> {
    let zone = config.execution.time_zone.as_deref().unwrap_or("UTC");
    match config.extensions.get::<Began>() {
        Some(began) => Home::new(zone, began.at.load(Ordering::Relaxed)).counting(&began.asked),
        None => Home::new(zone, now()),
    }
}

/// Whose beginning a function tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Transaction,
    Statement,
}

/// Adds those that tell when the session's transaction began, and its statement.
pub(crate) fn register(context: &SessionContext, cell: &Arc<ScopeCell>) {
    let moments: [(&'static str, &[&str], SqlType, Since); 7] = [
        ("now", &["current_timestamp"], SqlType::Timestamptz, Since::Transaction),
        ("transaction_timestamp", &[], SqlType::Timestamptz, Since::Transaction),
        ("statement_timestamp", &[], SqlType::Timestamptz, Since::Statement),
        ("localtimestamp", &[], SqlType::Timestamp, Since::Transaction),
        ("localtime", &[], SqlType::Time, Since::Transaction),
        ("current_time", &[], SqlType::Time, Since::Transaction),
        ("current_date", &[], SqlType::Date, Since::Transaction),
    ];
    let began = Began { at: cell.began(), asked: cell.moments_asked().clone() };
    context.state_ref().write().config_mut().options_mut().extensions.insert(began);
    for (name, aliases, ty, since) in moments {
        let signature = match name {
            "now" | "current_date" => Signature::nullary(Volatility::Stable),
            _ => Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::Any(1)], Volatility::Stable),
        };
        let aliases = aliases.iter().map(|alias| alias.to_string()).collect();
        context.register_udf(ScalarUDF::from(Moment { name, aliases, ty, since, cell: cell.clone(), signature }));
    }
}

/// A time that stands still, in one of its types. A precision, if there is one, rounds nothing away that matters.
struct Moment {
    name: &'static str,
    aliases: Vec<String>,
    ty: SqlType,
    since: Since,
    cell: Arc<ScopeCell>,
    signature: Signature,
}

impl Moment {
    fn value(&self, config: &ConfigOptions) -> Result<ScalarValue> {
        let micros = match self.since {
            Since::Transaction => self.cell.transaction_began(),
            Since::Statement => self.cell.statement_began(),
        };
        let local = to_local(micros, config.execution.time_zone.as_deref().unwrap_or("UTC")).map_err(sql_error)?;
        Ok(match self.ty {
            SqlType::Timestamptz => ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())),
            SqlType::Timestamp => ScalarValue::TimestampMicrosecond(Some(local), None),
            // Days since 1970 fit for as long as there are clocks.
            SqlType::Date => ScalarValue::Date32(Some(local.div_euclid(DAY) as i32)),
            _ => ScalarValue::Time64Microsecond(Some(local.rem_euclid(DAY))),
        })
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Moment {}

impl Hash for Moment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Moment {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.ty.arrow())
    }

    /// A constant from the plan on: rows may still come when another statement has begun.
    fn simplify(&self, _: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(self.value(info.config_options())?, None)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value(&args.config_options)?))
    }
}
