//! The arguments, and the tables that exist.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Parser;
use serde_json::json;
use speedtrap_node::ByteSize;

use crate::output::Format;
use crate::tables::TABLES;

const LEAST_MEMORY: ByteSize = ByteSize::mib(16);
/// A window is closed about two seconds after its end, and shards are read once a second.
const EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

/// SQL over the live streams, the archive and the tables of Speedtrap. It reads, and changes nothing.
#[derive(Debug, Parser)]
#[command(
    name = "speedtrap-sql",
    version,
    after_help = "\
Examples:
  speedtrap-sql \"SELECT city, count(*), max(speed) FROM violations WHERE arrived > now() - interval '15 minutes' GROUP BY city\"
  speedtrap-sql --every 10s \"SELECT state, count(*) FROM readings GROUP BY state\"
  speedtrap-sql --every 1min --from '15 minutes' --windows 15 --json --file speeds.sql
  speedtrap-sql --reveal --reason 'case 17' \"SELECT * FROM drivers WHERE license_plate = '4-2288B'\"
  speedtrap-sql --tables

Streams are read beside the nodes, with no lease, at one read and half of the bytes a second and shard; a limit on `arrived` reads only
what it needs. Plates and drivers are masked unless --reveal is given. Exit codes: 0 ok, 1 failed, 2 a statement that is none or does not
only read, 4 there is no such stream or table, 5 refused, 69 unreachable, 78 bad config, 130 interrupted."
)]
pub(crate) struct Cli {
    /// The statement; `-` reads it from standard input.
    #[arg(value_name = "SQL", required_unless_present_any = ["file", "tables"])]
    pub(crate) statement: Option<String>,
    /// Reads the statement from a file; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "statement")]
    pub(crate) file: Option<PathBuf>,
    /// Lists tables and columns.
    #[arg(long, conflicts_with_all = ["statement", "file", "every", "reveal", "csv"])]
    pub(crate) tables: bool,
    /// Runs the statement over what arrived in one window after the other, each so long; until Ctrl-C.
    #[arg(long, value_name = "SPAN", value_parser = every)]
    pub(crate) every: Option<Duration>,
    /// Begins with the window of this time, or of so long ago.
    #[arg(long, value_name = "TIME|SPAN", requires = "every", value_parser = from)]
    pub(crate) from: Option<SystemTime>,
    /// Ends after so many windows.
    #[arg(long, value_name = "N", requires = "every", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) windows: Option<u64>,
    /// Writes JSON: one array, or with --every a line for each row and one more for the end of each window.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Writes CSV.
    #[arg(long)]
    csv: bool,
    /// Most memory of the statement's groups, sorts and joins.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = memory)]
    pub(crate) memory: ByteSize,
    /// Shows plates and drivers instead of masking them; noted in the audit log.
    #[arg(long, requires = "reason")]
    pub(crate) reveal: bool,
    /// Why persons are looked at; the audit log keeps it.
    #[arg(long, value_name = "WORDS", requires = "reveal")]
    pub(crate) reason: Option<String>,
    /// The nodes' TOML file: it names streams, tables and warehouse.
    #[arg(long, value_name = "FILE", env = "SPEEDTRAP_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

impl Cli {
    pub(crate) fn format(&self) -> Format {
        match (self.json, self.csv) {
            (true, _) => Format::Json,
            (_, true) => Format::Csv,
            _ => Format::Table,
        }
    }
}

/// Tables and columns, for people or for programs.
pub(crate) fn listed(format: Format) -> String {
    if format == Format::Json {
        let tables = TABLES.iter().map(|table| {
            let columns = table.columns.iter().map(|column| {
                let (name, what) = column.described();
                json!({"name": name, "type": type_of(&column.data_type().to_string()), "what": what})
            });
            json!({"name": table.name, "what": table.what, "columns": columns.collect::<Vec<_>>()})
        });
        return format!("{}\n", json!({"schema": 1, "tables": tables.collect::<Vec<_>>()}));
    }
    let mut out = String::new();
    for table in &TABLES {
        // Writing to a String cannot fail.
        let _infallible = writeln!(out, "{}: {}", table.name, table.what);
        for column in table.columns {
            let (name, what) = column.described();
            let _infallible = writeln!(out, "  {name:<19}{:<11}{what}", type_of(&column.data_type().to_string()));
        }
    }
    out
}

fn type_of(arrow: &str) -> &'static str {
    match arrow {
        "Int64" => "bigint",
        "Utf8" => "text",
        _ => "timestamp",
    }
}

fn memory(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if size < LEAST_MEMORY { Err(format!("at least {LEAST_MEMORY} are needed")) } else { Ok(size) }
}

fn every(text: &str) -> Result<Duration, String> {
    let span = span(text).ok_or("a span is written as 10s, 1min or 1h")?;
    if (EVERY.0..=EVERY.1).contains(&span) { Ok(span) } else { Err("1s to 1 day is allowed".to_owned()) }
}

fn from(text: &str) -> Result<SystemTime, String> {
    let ago = || SystemTime::now().checked_sub(span(text)?);
    let time = text.parse::<jiff::Timestamp>().ok().map(SystemTime::from);
    time.or_else(|| speedtrap_node::taken_at(text))
        .or_else(ago)
        .ok_or_else(|| "a time is written as 2026-01-31T12:00:00Z, a span as '15 minutes'".to_owned())
}

fn span(text: &str) -> Option<Duration> {
    text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
        let parsed = |arguments: &[&str]| Cli::try_parse_from([&["speedtrap-sql"], arguments].concat());
        assert!(parsed(&["SELECT 1", "--every", "10s", "--from", "15 minutes", "--windows", "3"]).is_ok());
        for bad in [
            &["SELECT 1", "--from", "1h"][..],
            &["SELECT 1", "--windows", "2"],
            &["SELECT 1", "--reveal"],
            &["SELECT 1", "--reason", "x"],
            &["SELECT 1", "--json", "--csv"],
            &["SELECT 1", "--memory", "1MiB"],
            &["SELECT 1", "--every", "0s"],
            &["SELECT 1", "--every", "-1s"],
            &["SELECT 1", "--every", "2 days"],
            &["SELECT 1", "--every", "10s", "--from", "yesterday"],
            &[],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans_are_written_as_people_do() {
        assert_eq!(["10s", "15 minutes", "1h30m", "1min"].map(span), [10, 900, 5_400, 60].map(|s| Some(Duration::from_secs(s))));
        assert_eq!(from("2026-01-31T12:00:00Z"), from("2026-01-31 12:00:00"));
    }

    #[test]
    fn every_table_is_listed_with_typed_columns() {
        let listed = listed(Format::Table);
        for table in ["readings: ", "violations: ", "errors: ", "speeding: ", "archive: ", "drivers: "] {
            assert!(listed.contains(table), "{table} in {listed}");
        }
        assert!(listed.contains("  arrived            timestamp  when"), "{listed}");
    }
}
