//! `check`: a dry run on this machine. Nothing is sent, and neither AWS nor a warehouse is needed.

use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use comfy_table::{Table, presets};

use super::CliError;
use super::output::print;
use crate::check_report::{CheckReport, FindingReport, check};
use crate::contract::Contract;
use crate::fault::LoadFault;
use crate::finding::Severity;
use crate::load_file::{LoadFile, unreadable};
use crate::progress::Progress;

pub(super) const EXAMPLES: &str = "\
Examples:
  speedtrap-loader check drivers.csv
  speedtrap-loader check exports/*.csv --contract mine.toml --json
  speedtrap-loader check --print-contract > mine.toml

Exit codes:
  0 all rows can be loaded    3 rows or a file would be rejected    4 a file does not exist    78 bad contract";

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Drivers files.
    #[arg(required_unless_present = "print_contract", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the files must look like [default: the built-in contract]
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Print the built-in contract, as a start for one's own.
    #[arg(long)]
    print_contract: bool,
    /// Print one JSON object a file to stdout.
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    pub(super) fn run(self) -> Result<u8, CliError> {
        if self.print_contract {
            write!(std::io::stdout().lock(), "{}", Contract::built_in_text())?;
            return Ok(0);
        }
        let contract = Arc::new(Contract::chosen(self.contract.as_deref())?);
        let mut worst = 0;
        for file in &self.files {
            match checked(file, &contract) {
                Ok(report) => {
                    worst = worst.max(report.exit_code());
                    print(&report, self.json, words(&report))?;
                }
                // The files behind it may be there.
                Err(fault) if self.files.len() > 1 => {
                    worst = worst.max(fault.exit_code());
                    eprintln!("speedtrap-loader: {fault}");
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(worst)
    }
}

fn checked(path: &Path, contract: &Arc<Contract>) -> Result<CheckReport, LoadFault> {
    let file = LoadFile::identify(path, contract)?;
    let input = BufReader::with_capacity(1 << 18, file.read(&Progress::default()));
    check(&file.name, &file.load_id, input, contract).map_err(|error| unreadable(path, error))
}

/// The report as tables.
fn words(report: &CheckReport) -> String {
    if let Some(fault) = &report.fault {
        return format!("{}: nothing of it can be loaded: {fault}", report.file);
    }
    let mut text = format!(
        "{}: {} rows, {} can be loaded ({} of them with warnings), {} would be rejected",
        report.file, report.rows, report.loadable, report.warned, report.rejected
    );
    if let Some(dialect) = &report.dialect {
        let yes = |is: bool| if is { "yes" } else { "no" };
        text.push_str(&format!(
            "\n  {}, byte order mark: {}, delimiter {:?}, quotes: {}, line ends: {}, final newline: {}, {} bytes",
            dialect.encoding,
            yes(dialect.bom),
            dialect.delimiter,
            yes(dialect.quotes),
            dialect.line_ends,
            yes(dialect.final_newline),
            dialect.bytes
        ));
    }
    if report.duplicates.rows > 0 {
        let lines = lines_of(&report.duplicates.first_lines, report.duplicates.rows);
        text.push_str(&format!("\n  {} rows have a plate of an earlier line, and replace it: {lines}", report.duplicates.rows));
    }
    if !report.findings.is_empty() {
        text.push_str(&format!("\n\n{}", findings_table(&report.findings)));
    }
    text.push_str(&format!("\n\n{}\n  load id {}", columns_table(report), report.load_id));
    text
}

fn findings_table(findings: &[FindingReport]) -> Table {
    let mut table = table(["  FINDING", "", "COLUMN", "ROWS", "LINES"]);
    for found in findings {
        let severity = match found.severity {
            Severity::Error => "rejected",
            Severity::Warn => "warning",
        };
        table.add_row([
            format!("  {}", found.finding.name()),
            severity.to_owned(),
            found.column.clone().unwrap_or_else(|| "-".to_owned()),
            found.count.to_string(),
            lines_of(&found.first_lines, found.count),
        ]);
    }
    table
}

fn columns_table(report: &CheckReport) -> Table {
    let mut table = table(["  COLUMN", "TYPE", "LONGEST", "ON LINE", "EMPTY"]);
    for column in &report.columns {
        table.add_row([
            format!("  {}", column.name),
            format!("{}({})", column.kind, column.bytes_allowed),
            format!("{} bytes", column.longest_bytes),
            column.longest_line.map_or_else(|| "-".to_owned(), |line| line.to_string()),
            column.empty.to_string(),
        ]);
    }
    table
}

fn table<const N: usize>(names: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(names);
    table
}

fn lines_of(first: &[u64], count: u64) -> String {
    let lines: Vec<String> = first.iter().map(u64::to_string).collect();
    let more = if count > first.len() as u64 { ", …" } else { "" };
    format!("{}{more}", lines.join(", "))
}
