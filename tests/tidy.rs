//! The repository's own rules, those that neither the compiler nor clippy checks: who may use whom, what is absent where,
//! and that what is named exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Our crates from the lowest floor up: each with its floor and the crates of ours that it may use. `quire-types` is open
/// to all and not listed. `docs/architecture.md` has the same table in words.
const FLOORS: &[(&str, u8, &[&str])] = &[
    ("quire-types", 0, &[]),
    ("quire-kit", 0, &[]),
    ("quire-proto", 1, &[]),
    ("quire-log", 1, &[]),
    ("quire-segment", 1, &[]),
    ("quire-objects", 1, &["quire-kit"]),
    ("quire-cache", 1, &["quire-kit"]),
    ("quire-bench", 1, &["quire-kit"]),
    ("quire-scan", 2, &["quire-kit", "quire-segment"]),
    ("quire-optimizer", 2, &[]),
    ("quire-client", 2, &["quire-kit", "quire-proto"]),
    ("quire-storage", 2, &["quire-kit", "quire-proto", "quire-log", "quire-segment", "quire-objects", "quire-cache", "quire-scan"]),
    ("quire-sql", 3, &["quire-kit", "quire-optimizer", "quire-scan", "quire-client", "quire-cache", "quire-segment"]),
    ("quire-pg", 4, &["quire-kit", "quire-sql"]),
    ("quire", 5, &["quire-kit", "quire-bench", "quire-cache", "quire-objects", "quire-client", "quire-storage", "quire-sql", "quire-pg"]),
    ("quire-tests", 6, &["quire-kit"]),
];

/// (crate, what it never reaches, be it through others): only the wire joins the halves.
const NEVER_REACHES: &[(&str, &[&str])] = &[
    ("quire-pg", &["quire-storage", "quire-log", "quire-objects"]),
    ("quire-sql", &["quire-storage", "quire-log", "quire-objects"]),
    ("quire-client", &["quire-storage", "quire-log", "quire-objects"]),
    ("quire-storage", &["quire-sql", "quire-pg", "quire-client"]),
    ("quire-scan", &["quire-client", "quire-storage", "quire-cache"]),
];

/// (dependency, the crates that may name it).
const NAMED_ONLY_IN: &[(&str, &[&str])] = &[
    ("datafusion", &["quire-sql", "quire-optimizer"]),
    ("sqlparser", &["quire-sql"]),
    ("openraft", &["quire-storage"]),
    ("rocksdb", &["quire-storage"]),
    ("object_store", &["quire-objects"]),
    ("foyer", &["quire-cache"]),
    ("pgwire", &["quire-pg"]),
    ("parquet", &["quire-segment"]),
    ("rand", &["quire-kit"]),
    ("tonic", &["quire-proto", "quire-client", "quire-storage"]),
    ("prost", &["quire-proto", "quire-client", "quire-storage"]),
    ("anyhow", &["quire", "quire-bench", "quire-tests"]),
];

/// Crates that may use DataFusion's smaller crates (expressions, pruning).
const DATAFUSION_PARTS: &[&str] = &["quire-sql", "quire-scan", "quire-segment"];

/// What the log's meaning must not depend on: it is the same on every replica, for ever.
const LOG_USES: &[&str] = &["quire-types", "bytes", "thiserror", "roaring"];
const LOG_WORDS: &[&str] = &["async", "await", "f32", "f64", "Instant", "SystemTime", "tokio", "rand", "HashMap::new().iter"];

/// The world is had through `quire-kit`, so that a seed can replay a cluster.
const WORLD: &[&str] =
    &["Instant::now", "SystemTime::now", "tokio::spawn", "tokio::task::spawn(", "thread::spawn", "rand::random", "thread_rng"];

/// Where this machine's paths would show.
const PRIVATE_PATHS: &[&str] = &[concat!("/wor", "k/"), concat!("/roo", "t/")];

/// A container's own directories are not this machine's.
const PRIVATE_PATHS_ALLOWED: &[&str] = &["deploy/Dockerfile"];

/// One package of the workspace.
struct Package {
    directory: PathBuf,
    uses: BTreeSet<String>,
}

fn root() -> PathBuf {
    let tests = quire_tests::paths::package();
    tests.parent().unwrap_or(&tests).to_path_buf()
}

fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| shown.clone())?;
    ensure!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The packages of the workspace; dev and build dependencies count like others.
fn packages() -> Result<BTreeMap<String, Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let json = output(Command::new(cargo).args(["metadata", "--format-version", "1", "--offline", "--no-deps"]).current_dir(root()))?;
    let metadata: serde_json::Value = serde_json::from_str(&json)?;
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let name = package["name"].as_str().context("a package without a name")?;
        let manifest = Path::new(package["manifest_path"].as_str().context("a package without a manifest")?);
        let dependencies = package["dependencies"].as_array().context("a package without dependencies")?;
        let uses = dependencies.iter().filter_map(|d| d["name"].as_str()).map(str::to_string).collect();
        packages
            .insert(name.to_string(), Package { directory: manifest.parent().context("a manifest has a directory")?.to_path_buf(), uses });
    }
    Ok(packages)
}

/// What is in the repository or about to be: (path from the root, text). Binary files are left out.
fn files() -> Result<Vec<(String, String)>> {
    let list = output(Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(root()))?;
    let mut files = Vec::new();
    for path in list.split('\0').filter(|p| !p.is_empty()) {
        // deleted in the work tree, or not text
        if let Ok(text) = std::fs::read_to_string(root().join(path)) {
            files.push((path.to_string(), text));
        }
    }
    ensure!(files.len() > 100, "only {} files: is this the repository?", files.len());
    Ok(files)
}

/// Lines with their numbers, line comments cut off.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap_or(line)))
}

/// Whether `word` is in `line`, not as a part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| !inside(line[..at].chars().next_back()) && !inside(line[at + word.len()..].chars().next()))
}

fn none(breaches: &[String]) -> Result<()> {
    ensure!(breaches.is_empty(), "\n{}", breaches.join("\n"));
    Ok(())
}

#[test]
fn a_crate_uses_only_crates_on_lower_floors() -> Result<()> {
    let packages = packages()?;
    let mut breaches = Vec::new();
    for name in packages.keys() {
        if !FLOORS.iter().any(|(known, ..)| known == name) {
            breaches.push(format!("{name} is on no floor: put it into the table of tests/tidy.rs and docs/architecture.md"));
        }
    }
    for (name, floor, may_use) in FLOORS {
        let package = packages.get(*name).with_context(|| format!("{name} is gone"))?;
        if *name != "quire-tests" && package.directory != root().join("crates").join(name) {
            breaches.push(format!("{name} is not in crates/{name}"));
        }
        for used in may_use.iter() {
            let lower =
                FLOORS.iter().find(|(n, ..)| n == used).is_some_and(|(_, f, _)| f < floor || (*name == "quire-storage" && f == floor));
            if !lower {
                breaches.push(format!("{name} may not be allowed to use {used}, which is on no lower floor"));
            }
        }
        for used in package.uses.iter().filter(|u| packages.contains_key(*u) && *u != "quire-types") {
            if !may_use.contains(&used.as_str()) {
                breaches.push(format!("{name} uses {used}"));
            }
        }
    }
    none(&breaches)
}

#[test]
fn only_the_wire_joins_the_halves() -> Result<()> {
    let packages = packages()?;
    let mut breaches = Vec::new();
    for (name, never) in NEVER_REACHES {
        let mut reached = BTreeSet::from([name.to_string()]);
        let mut open = vec![name.to_string()];
        while let Some(next) = open.pop() {
            for used in packages.get(&next).into_iter().flat_map(|p| &p.uses).filter(|u| packages.contains_key(*u)) {
                if reached.insert(used.clone()) {
                    open.push(used.clone());
                }
            }
        }
        breaches.extend(never.iter().filter(|n| reached.contains(**n)).map(|n| format!("{name} reaches {n}")));
    }
    none(&breaches)
}

#[test]
fn a_library_is_named_only_where_it_is_at_home() -> Result<()> {
    let mut breaches = Vec::new();
    for (name, package) in packages()? {
        for used in &package.uses {
            let home = NAMED_ONLY_IN.iter().find(|(library, _)| library == used).map(|(_, home)| *home);
            let home = home.or_else(|| used.starts_with("datafusion-").then_some(DATAFUSION_PARTS));
            if home.is_some_and(|home| !home.contains(&name.as_str())) {
                breaches.push(format!("{name} uses {used}"));
            }
        }
    }
    none(&breaches)
}

#[test]
fn the_log_has_no_clock_no_dice_no_async_and_no_float() -> Result<()> {
    let packages = packages()?;
    let log = packages.get("quire-log").context("quire-log is gone")?;
    // what its tests use decides nothing
    let allowed = |name: &str| LOG_USES.contains(&name) || name == "proptest";
    let mut breaches: Vec<String> = log.uses.iter().filter(|u| !allowed(u)).map(|u| format!("quire-log uses {u}")).collect();
    for (path, text) in files()?.iter().filter(|(path, _)| path.starts_with("crates/quire-log/src/") && !path.contains("/tests")) {
        for (number, line) in code(text) {
            breaches.extend(LOG_WORDS.iter().filter(|w| has_word(line, w)).map(|w| format!("{path}:{number}: {w}")));
        }
    }
    none(&breaches)
}

#[test]
fn protobuf_types_stop_in_client_and_in_the_edges_of_storage() -> Result<()> {
    // Beside the rpc module: Raft's transport and its snapshots, what the state machine writes down, and the wiring of the services.
    let edges =
        ["rpc/", "rpc.rs", "raft/", "persist", "node.rs", "replica.rs", "tests"].map(|edge| format!("crates/quire-storage/src/{edge}"));
    let mut breaches = Vec::new();
    for (path, text) in files()?.iter().filter(|(path, _)| path.starts_with("crates/") && path.ends_with(".rs")) {
        let at_home = path.starts_with("crates/quire-proto/") || path.starts_with("crates/quire-client/");
        if !at_home && !edges.iter().any(|edge| path.starts_with(edge)) {
            let named = code(text).filter(|(_, line)| has_word(line, "quire_proto") || has_word(line, "prost"));
            breaches.extend(named.map(|(number, _)| format!("{path}:{number}")));
        }
    }
    none(&breaches)
}

#[test]
fn clock_dice_and_tasks_are_had_from_the_kit_only() -> Result<()> {
    let mut breaches = Vec::new();
    for (path, text) in files()? {
        let product = path.starts_with("crates/") && path.ends_with(".rs") && !path.starts_with("crates/quire-kit/");
        if product {
            for (number, line) in code(&text) {
                breaches.extend(WORLD.iter().filter(|w| line.contains(**w)).map(|w| format!("{path}:{number}: {w}")));
            }
        }
    }
    none(&breaches)
}

#[test]
fn lines_have_no_tabs_before_and_no_blanks_after_them() -> Result<()> {
    let mut breaches = Vec::new();
    for (path, text) in files()? {
        // what psql prints has blanks at the ends of lines: golden files, and e2e/psql.rs, which quotes it
        if path == "tests/e2e/psql.rs" {
            continue;
        }
        let ours =
            (path.starts_with("crates/") && path.contains("/src/")) || (path.starts_with("tests/") && !path.starts_with("tests/golden/"));
        let written = [".rs", ".toml", ".py", ".sh", ".slt", ".proto", ".md"].iter().any(|end| path.ends_with(end));
        if !ours || !written {
            continue;
        }
        for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line)) {
            if line.starts_with('\t') {
                breaches.push(format!("{path}:{number}: begins with a tab"));
            }
            if line.ends_with([' ', '\t']) {
                breaches.push(format!("{path}:{number}: ends with a blank"));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            breaches.push(format!("{path}: the last line has no end"));
        }
    }
    none(&breaches)
}

#[test]
fn a_page_that_an_error_names_exists() -> Result<()> {
    let prefix = "docs/operating/";
    let mut breaches = Vec::new();
    let mut named = 0;
    for (path, text) in files()?.iter().filter(|(path, _)| path.starts_with("crates/") || path.starts_with("deploy/")) {
        for (at, _) in text.match_indices(prefix) {
            let rest = &text[at + prefix.len()..];
            let page: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
            let Some(page) = page.find(".md").map(|end| &page[..end + 3]) else { continue };
            named += 1;
            if !root().join(prefix).join(page).is_file() {
                breaches.push(format!("{path} names {prefix}{page}, which does not exist"));
            }
        }
    }
    ensure!(named > 0, "no page is named: has the prefix changed?");
    none(&breaches)
}

#[test]
fn an_error_in_the_log_names_a_page() -> Result<()> {
    let mut breaches = Vec::new();
    for (path, text) in files()?.iter().filter(|(path, _)| path.starts_with("crates/") && path.ends_with(".rs")) {
        for (at, _) in text.match_indices("tracing::error!(") {
            let call = &text[at..text[at..].find(");").map_or(text.len(), |end| at + end)];
            if !call.contains("docs/operating/") {
                breaches.push(format!("{path}:{}: wakes a person and does not say where to read on", text[..at].matches('\n').count() + 1));
            }
        }
    }
    none(&breaches)
}

#[test]
fn the_readme_begins_with_what_to_type() -> Result<()> {
    let readme = std::fs::read_to_string(root().join("README.md")).context("README.md")?;
    let beginning: String = readme.lines().take(40).collect::<Vec<_>>().join("\n");
    for command in ["make demo", "make test"] {
        ensure!(beginning.contains(command), "the first 40 lines of README.md do not say `{command}`");
    }
    Ok(())
}

#[test]
fn nothing_names_a_path_of_one_machine() -> Result<()> {
    let mut breaches = Vec::new();
    for (path, text) in files()? {
        if PRIVATE_PATHS_ALLOWED.contains(&path.as_str()) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            // in the middle of a longer path it is somebody else's
            let own = |p: &&&str| {
                line.match_indices(**p).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}*".contains(c)))
            };
            breaches.extend(PRIVATE_PATHS.iter().filter(own).map(|p| format!("{path}:{}: {p}", number + 1)));
        }
    }
    none(&breaches)
}
