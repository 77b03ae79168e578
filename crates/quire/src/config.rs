//! Settings from the command line, then the environment, then the file given by `--config`, then the defaults.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::cli::Cli;

/// Why there are no settings.
pub(crate) enum Failure {
    /// The command line: help, or what is wrong with it.
    Clap(clap::Error),
    /// The file.
    File(anyhow::Error),
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Failure {
        Failure::Clap(error)
    }
}

/// This process's settings.
pub(crate) fn read() -> Result<Cli, Failure> {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let Some(path) = config_path(&args) else { return Ok(Cli::from_arg_matches(&Cli::command().get_matches_from(args))?) };
    // What the file gives are defaults: the command line and the environment go before them.
    let command = with_defaults(Path::new(&path), &args).map_err(Failure::File)?;
    let mut matches: ArgMatches = command.try_get_matches_from(args)?;
    Ok(Cli::from_arg_matches_mut(&mut matches)?)
}

/// The file named by the flag or the environment. Found by hand, because the file decides what else is required.
fn config_path(args: &[std::ffi::OsString]) -> Option<std::ffi::OsString> {
    let texts: Vec<&str> = args.iter().map(|a| a.to_str().unwrap_or_default()).collect();
    for (i, text) in texts.iter().enumerate().skip(1) {
        if *text == "--config" {
            return args.get(i + 1).cloned();
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    std::env::var_os("QUIRE_CONFIG")
}

/// The command line's grammar, in which the file's settings are the defaults of the command that is run.
fn with_defaults(path: &Path, args: &[std::ffi::OsString]) -> anyhow::Result<clap::Command> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    let file: toml::Table = text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
    let mut command = Cli::command();
    // `quire tpch load` has its settings two levels down; the file is for the innermost command.
    let words: Vec<String> = args.iter().skip(1).filter_map(|a| a.to_str()).map(str::to_string).collect();
    apply(&mut command, &words, &file).with_context(|| format!("in {}", path.display()))?;
    Ok(command)
}

fn apply(command: &mut clap::Command, words: &[String], file: &toml::Table) -> anyhow::Result<()> {
    if let Some((at, name)) = words.iter().enumerate().find(|(_, w)| command.find_subcommand(w.as_str()).is_some()) {
        let (name, rest) = (name.clone(), words[at + 1..].to_vec());
        let inner = command.find_subcommand_mut(&name).context("a subcommand that was just found")?;
        return apply(inner, &rest, file);
    }
    ensure!(!command.has_subcommands(), "a configuration file is for one command: say which");
    for (key, value) in file {
        let flag = key.replace('_', "-");
        let known = command.get_arguments().find(|a| a.get_long() == Some(flag.as_str())).map(|a| a.get_id().clone());
        let Some(id) = known else { bail!("unknown setting \"{key}\"") };
        let value = setting(value).with_context(|| format!("the setting \"{key}\""))?;
        let with_default = |arg: clap::Arg| arg.default_value(value).required(false);
        let taken = std::mem::replace(command, clap::Command::new("quire"));
        *command = taken.mut_arg(id, with_default);
    }
    Ok(())
}

/// A value as the command line would have it: lists with commas.
fn setting(value: &toml::Value) -> anyhow::Result<String> {
    Ok(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
        toml::Value::Array(items) => items.iter().map(setting).collect::<anyhow::Result<Vec<_>>>()?.join(","),
        toml::Value::Datetime(_) | toml::Value::Table(_) => bail!("must be text, a number or a list"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str], file: &str) -> anyhow::Result<Cli> {
        let mut command = Cli::command();
        let words: Vec<String> = words.iter().map(|w| (*w).to_string()).collect();
        apply(&mut command, &words, &file.parse()?)?;
        let matches = command.try_get_matches_from(std::iter::once("quire".to_string()).chain(words))?;
        Ok(Cli::from_arg_matches(&matches)?)
    }

    fn compute(words: &[&str], file: &str) -> crate::cli::Compute {
        match parse(words, file).expect("it parses").command {
            crate::cli::Command::Compute(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_file_gives_what_the_command_line_leaves_out() {
        let file = "storage = [\"a:1\", \"b:2\"]\ncache-memory = \"1GiB\"\nmax_connections = 7";
        let args = compute(&["compute", "--cache-memory", "2GiB"], file);
        assert_eq!(args.storage, ["a:1", "b:2"]);
        assert_eq!(args.memory.cache_memory.map(|size| size.as_u64()), Some(2 << 30), "the command line goes first");
        assert_eq!(args.memory.max_connections, 7);
    }

    #[test]
    fn what_no_flag_is_called_is_refused() {
        let error = parse(&["compute", "--storage", "a:1"], "cache-memroy = 1").expect_err("a slip of the pen");
        assert!(error.to_string().contains("cache-memroy"), "{error}");
        assert!(parse(&["admin"], "storage = \"a:1\"").is_err());
    }
}
