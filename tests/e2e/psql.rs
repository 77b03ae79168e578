//! psql itself, with what it prints against PostgreSQL 15.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use quire_tests::Quire;

const TABLES: &str = "\
CREATE TABLE item (id int PRIMARY KEY, name varchar(30) NOT NULL, price numeric(8,2) DEFAULT 0 CHECK (price >= 0), other int UNIQUE);
CREATE TABLE part (id int PRIMARY KEY, item_id int REFERENCES item (id), made timestamptz DEFAULT now());
CREATE VIEW cheap AS SELECT id, price FROM item;";

const LIST: &str = "       List of relations
 Schema | Name  | Type  | Owner 
--------+-------+-------+-------
 public | cheap | view  | quire
 public | item  | table | quire
 public | part  | table | quire
(3 rows)

";

const LIST_TABLES: &str = "       List of relations
 Schema | Name | Type  | Owner 
--------+------+-------+-------
 public | item | table | quire
 public | part | table | quire
(2 rows)

";

const ITEM: &str = r#"                       Table "public.item"
 Column |         Type          | Collation | Nullable | Default 
--------+-----------------------+-----------+----------+---------
 id     | integer               |           | not null | 
 name   | character varying(30) |           | not null | 
 price  | numeric(8,2)          |           |          | 0
 other  | integer               |           |          | 
Indexes:
    "item_pkey" PRIMARY KEY, btree (id)
    "item_other_key" UNIQUE CONSTRAINT, btree (other)
Check constraints:
    "item_price_check" CHECK (price >= 0::numeric)
Referenced by:
    TABLE "part" CONSTRAINT "part_item_id_fkey" FOREIGN KEY (item_id) REFERENCES item(id)

"#;

const PART: &str = r#"                         Table "public.part"
 Column  |           Type           | Collation | Nullable | Default 
---------+--------------------------+-----------+----------+---------
 id      | integer                  |           | not null | 
 item_id | integer                  |           |          | 
 made    | timestamp with time zone |           |          | now()
Indexes:
    "part_pkey" PRIMARY KEY, btree (id)
Foreign-key constraints:
    "part_item_id_fkey" FOREIGN KEY (item_id) REFERENCES item(id)

"#;

const CHEAP: &str = "                  View \"public.cheap\"
 Column |     Type     | Collation | Nullable | Default 
--------+--------------+-----------+----------+---------
 id     | integer      |           |          | 
 price  | numeric(8,2) |           |          | 

";

/// What psql prints for these commands, each a `-c` of its own.
fn psql(quire: &Quire, commands: &[&str]) -> Result<String> {
    let (host, port) = quire.address().rsplit_once(':').context("an address is host:port")?;
    let mut psql = Command::new("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "quire", "quire"]).env("PGTZ", "UTC").env_remove("PAGER");
    for command in commands {
        psql.args(["-c", command]);
    }
    let output = psql.output().context("cannot run psql (apt-get install postgresql-client)")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{commands:?}\n{out}{err}");
    Ok(out.into_owned())
}

fn expect(quire: &Quire, command: &str, expected: &str) -> Result<()> {
    let printed = psql(quire, &[command])?;
    ensure!(printed == expected, "{command}\nexpected:\n{expected}\nprinted:\n{printed}");
    Ok(())
}

#[tokio::test]
async fn its_describe_commands_print_what_they_print_for_postgres() -> Result<()> {
    let quire = Quire::dev().await?;
    quire.connect().await?.batch_execute(TABLES).await?;
    expect(&quire, r"\d", LIST)?;
    expect(&quire, r"\dt", LIST_TABLES)?;
    expect(&quire, r"\d item", ITEM)?;
    expect(&quire, r"\d part", PART)?;
    expect(&quire, r"\d cheap", CHEAP)?;
    for command in [r"\l", r"\dn", r"\di", r"\dv", r"\du", r"\d+ item", r"\d+ cheap", r"\dt *.*", r"\df lower", r"\dp", r"\conninfo"] {
        let printed = psql(&quire, &[command])?;
        ensure!(!printed.trim().is_empty(), "{command} printed nothing");
    }
    let databases = psql(&quire, &[r"\l"])?;
    ensure!(databases.contains(" quire     | quire | UTF8 ") || databases.contains(" quire | quire | UTF8 "), "{databases}");
    Ok(())
}

#[tokio::test]
async fn queries_timing_and_copy_work() -> Result<()> {
    let quire = Quire::dev().await?;
    let dir = std::env::temp_dir().join(format!("quire-psql-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let (given, taken) = (dir.join("given.csv"), dir.join("taken.csv"));
    std::fs::write(&given, "id,name\n1,one\n2,\"two, quoted\"\n3,\n")?;
    let printed = psql(
        &quire,
        &[
            "CREATE TABLE copied (id int, name text)",
            &format!(r"\copy copied FROM '{}' CSV HEADER", given.display()),
            "SELECT * FROM copied ORDER BY id",
            &format!(r"\copy (SELECT * FROM copied ORDER BY id) TO '{}' CSV HEADER", taken.display()),
        ],
    )?;
    let expected =
        "CREATE TABLE\nCOPY 3\n id |    name     \n----+-------------\n  1 | one\n  2 | two, quoted\n  3 | \n(3 rows)\n\nCOPY 3\n";
    ensure!(printed == expected, "{printed}");
    ensure!(std::fs::read_to_string(&taken)? == std::fs::read_to_string(&given)?);
    std::fs::remove_dir_all(&dir)?;
    let timed = psql(&quire, &[r"\timing on", "SELECT 1"])?;
    ensure!(timed.contains("Time: "), "{timed}");
    Ok(())
}

#[tokio::test]
async fn an_error_shows_its_place_and_a_script_stops_at_it() -> Result<()> {
    let quire = Quire::dev().await?;
    let failed = psql(&quire, &["SELECT nocolumn FROM (VALUES (1)) v(a)"]).expect_err("there is no such column");
    let told = failed.to_string();
    ensure!(told.contains("ERROR:  column \"nocolumn\" does not exist"), "{told}");
    ensure!(told.contains("LINE 1: SELECT nocolumn FROM"), "{told}");
    Ok(())
}
