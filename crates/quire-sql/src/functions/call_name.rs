//! Names of calls.
//!
//! The planner names an expression whenever it asks for its type, and all that it is made of: a name is as long as the expression, and of a
//! sum of some hundred terms, which are calls within calls, names took minutes. So only the outer calls are written out.

use std::cell::Cell;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use datafusion::common::Result;
use datafusion::logical_expr::Expr;

/// So many calls within each other are written out.
const LEVELS: u32 = 8;

thread_local! {
    /// How many calls the one that is being named is within.
    static LEVEL: Cell<u32> = const { Cell::new(0) };
}

/// `function(args)`, as the planner names a call; a call that is deep within others has a hash for its arguments. Expressions that differ have
/// names that differ, and one has the same name every time.
pub(super) fn call_name(function: &str, args: &[Expr]) -> Result<String> {
    let mut name = format!("{function}(");
    match Level::below() {
        Some(_level) => {
            for (i, arg) in args.iter().enumerate() {
                write!(name, "{}{}", if i == 0 { "" } else { "," }, arg.schema_name())?;
            }
        }
        None => {
            let mut hasher = DefaultHasher::new();
            args.hash(&mut hasher);
            write!(name, "#{:016x}", hasher.finish())?;
        }
    }
    name.push(')');
    Ok(name)
}

/// One level of calls, until it is dropped.
struct Level;

impl Level {
    /// One more, unless there are enough.
    fn below() -> Option<Level> {
        let level = LEVEL.get();
        (level < LEVELS).then(|| {
            LEVEL.set(level + 1);
            Level
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        LEVEL.set(LEVEL.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::expr::ScalarFunction;
    use datafusion::logical_expr::{Expr, col, lit};
    use std::sync::Arc;

    use super::LEVELS;
    use crate::functions::cast_udf;

    /// `column` in so many casts.
    fn casts(column: &str, levels: u32) -> Expr {
        let cast = Arc::new(cast_udf());
        (0..levels).fold(col(column), |arg, _| Expr::ScalarFunction(ScalarFunction::new_udf(cast.clone(), vec![arg, lit("text")])))
    }

    #[test]
    fn names_of_deep_calls_are_short_and_tell_them_apart() {
        let name = |column: &str, levels: u32| casts(column, levels).schema_name().to_string();
        assert!(name("a", LEVELS).contains("(a,"));
        assert_eq!(name("a", 500), name("a", 500));
        assert_ne!(name("a", 500), name("a", 501));
        assert_ne!(name("a", 500), name("b", 500));
        assert!(name("a", 500).len() < 1000);
        assert_eq!(name("a", 2), name("a", 2), "the level is as it was before");
    }
}
