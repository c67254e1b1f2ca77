//! What a dry run finds in a file (pure): how it is written, what is wrong with its rows, what its columns hold.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::BufRead;
use std::sync::Arc;

use serde::Serialize;
use speedtrap_actors::domain::PlateKey;

use crate::contract::{Check, Contract};
use crate::csv_rows::Row;
use crate::drivers_file::{DriversFile, FileFault};
use crate::finding::{Finding, Severity};
use crate::judge::{Judge, Verdict};

/// Lines named for each finding.
const FIRST_LINES: usize = 5;

/// All that a dry run finds in one file.
#[derive(Debug, Serialize)]
pub(crate) struct CheckReport {
    pub(crate) file: String,
    /// Hash of the file and the contract; `load` gives it the same.
    pub(crate) load_id: String,
    /// Why nothing of it could be loaded.
    pub(crate) fault: Option<String>,
    pub(crate) rows: u64,
    pub(crate) loadable: u64,
    pub(crate) rejected: u64,
    /// Loadable rows with at least one warning.
    pub(crate) warned: u64,
    pub(crate) dialect: Option<Dialect>,
    pub(crate) findings: Vec<FindingReport>,
    pub(crate) duplicates: Duplicates,
    pub(crate) columns: Vec<ColumnReport>,
}

/// How the text of the file is written.
#[derive(Debug, Serialize)]
pub(crate) struct Dialect {
    pub(crate) encoding: &'static str,
    pub(crate) bom: bool,
    pub(crate) delimiter: char,
    pub(crate) quotes: bool,
    pub(crate) line_ends: &'static str,
    pub(crate) final_newline: bool,
    pub(crate) bytes: u64,
}

/// One kind of finding in one column.
#[derive(Debug, Serialize)]
pub(crate) struct FindingReport {
    pub(crate) finding: Finding,
    pub(crate) severity: Severity,
    pub(crate) column: Option<String>,
    pub(crate) count: u64,
    pub(crate) first_lines: Vec<u64>,
}

/// Loadable rows whose plate stood on an earlier line; the last one wins.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Duplicates {
    pub(crate) rows: u64,
    pub(crate) first_lines: Vec<u64>,
}

/// What a column holds, counted over all whole rows.
#[derive(Debug, Serialize)]
pub(crate) struct ColumnReport {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) check: Check,
    pub(crate) bytes_allowed: usize,
    pub(crate) longest_bytes: usize,
    pub(crate) longest_line: Option<u64>,
    pub(crate) empty: u64,
}

/// Reads the whole file and judges each row, as a load would.
pub(crate) fn check<R: BufRead>(
    file: &str,
    load_id: &str,
    input: R,
    contract: &Arc<Contract>,
) -> Result<CheckReport, std::io::Error> {
    let mut checking = Checking::new(file, load_id, contract);
    let mut source = match DriversFile::open(input, contract) {
        Ok(source) => source,
        Err(FileFault::Io(error)) => return Err(error),
        Err(fault) => return Ok(CheckReport { fault: Some(fault.to_string()), ..checking.report }),
    };
    while let Some(row) = source.rows.next_row()? {
        checking.add(row);
    }
    let (layout, bytes) = (source.rows.layout(), source.rows.bytes_read());
    let mut report = checking.end();
    let is_undecodable = report.findings.iter().any(|finding| finding.finding == Finding::Undecodable);
    report.dialect = Some(Dialect {
        encoding: if is_undecodable { "not all UTF-8" } else { "UTF-8" },
        bom: source.bom,
        delimiter: char::from(contract.delimiter),
        quotes: layout.quotes,
        line_ends: match (layout.lf, layout.crlf) {
            (0, 0) => "none",
            (_, 0) => "LF",
            (0, _) => "CR LF",
            _ => "mixed",
        },
        final_newline: !layout.open_end,
        bytes,
    });
    Ok(report)
}

struct Checking {
    report: CheckReport,
    contract: Arc<Contract>,
    judge: Judge,
    findings: BTreeMap<(Finding, Option<usize>), (u64, Vec<u64>)>,
    /// Plates by hash. Eight bytes each keep a check of millions of rows small; that two of them collide is a matter of chance in
    /// a report that decides nothing.
    plates: HashSet<u64>,
    plate: Option<usize>,
}

impl Checking {
    fn new(file: &str, load_id: &str, contract: &Arc<Contract>) -> Self {
        let columns = contract
            .columns
            .iter()
            .map(|rule| ColumnReport {
                name: rule.name.clone(),
                kind: "varchar",
                check: rule.check,
                bytes_allowed: rule.bytes,
                longest_bytes: 0,
                longest_line: None,
                empty: 0,
            })
            .collect();
        let report = CheckReport {
            file: file.to_owned(),
            load_id: load_id.to_owned(),
            fault: None,
            rows: 0,
            loadable: 0,
            rejected: 0,
            warned: 0,
            dialect: None,
            findings: Vec::new(),
            duplicates: Duplicates::default(),
            columns,
        };
        Self {
            report,
            contract: Arc::clone(contract),
            judge: Judge::new(Arc::clone(contract)),
            findings: BTreeMap::new(),
            plates: HashSet::new(),
            plate: contract.columns.iter().position(|rule| rule.check == Check::Plate),
        }
    }

    fn add(&mut self, row: Row) {
        self.report.rows += 1;
        let mut plate = None;
        if let Row::Whole(record) = &row {
            for (column, field) in self.report.columns.iter_mut().zip(&record.fields) {
                column.empty += u64::from(field.trim_ascii().is_empty());
                if field.len() > column.longest_bytes {
                    (column.longest_bytes, column.longest_line) = (field.len(), Some(record.line));
                }
            }
            plate = self.plate.map(|plate| key_of(&record.fields[plate]));
        }
        match self.judge.judge(row) {
            Verdict::Load { row, warnings } => {
                self.report.loadable += 1;
                self.report.warned += u64::from(!warnings.is_empty());
                for warning in warnings {
                    self.note(warning.finding, Some(warning.column), row.line);
                }
                if plate.is_some_and(|plate| !self.plates.insert(plate)) {
                    self.report.duplicates.rows += 1;
                    note_line(&mut self.report.duplicates.first_lines, row.line);
                }
            }
            Verdict::Reject(reject) => {
                self.report.rejected += 1;
                let place = |name: &String| self.contract.columns.iter().position(|rule| rule.name == *name);
                let column = reject.column.as_ref().and_then(place);
                self.note(reject.reason, column, reject.line);
            }
        }
    }

    fn note(&mut self, finding: Finding, column: Option<usize>, line: u64) {
        let (count, lines) = self.findings.entry((finding, column)).or_default();
        *count += 1;
        note_line(lines, line);
    }

    fn end(mut self) -> CheckReport {
        let finding = |((finding, column), (count, first_lines)): ((Finding, Option<usize>), (u64, Vec<u64>))| FindingReport {
            finding,
            severity: self.contract.severity(finding),
            column: column.map(|column| self.contract.columns[column].name.clone()),
            count,
            first_lines,
        };
        self.report.findings = std::mem::take(&mut self.findings).into_iter().map(finding).collect();
        // What costs rows comes first.
        self.report.findings.sort_by_key(|finding| finding.severity == Severity::Warn);
        self.report
    }
}

impl CheckReport {
    /// 0, or 3 if rows or the whole file would be rejected.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.rejected > 0 || self.fault.is_some() { 3 } else { 0 }
    }
}

fn key_of(plate: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    PlateKey::of(&String::from_utf8_lossy(plate)).hash(&mut hasher);
    hasher.finish()
}

fn note_line(lines: &mut Vec<u64>, line: u64) {
    if lines.len() < FIRST_LINES {
        lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone";
    const OK: &str = "Ana,Inkwether,ABC-1,a@example.com,\"1 Mill Row, Apt 9\",Foxgallow,Iowa,50301,515-555-0100,5155550100";

    fn checked(text: &str) -> CheckReport {
        check("drivers.csv", "l1", text.as_bytes(), &Arc::new(Contract::built_in())).unwrap()
    }

    #[test]
    fn rows_findings_duplicates_and_columns_are_counted_with_their_first_lines() {
        let short = OK.replace("50301", "501");
        let mut lines = vec![HEADER, OK, &short, "ragged,row"];
        lines.resize(10, &short);
        let report = checked(&lines.join("\r\n"));
        assert_eq!((report.rows, report.loadable, report.rejected, report.warned), (9, 8, 1, 7));
        let [ragged, zip] = &report.findings[..] else { panic!("two findings: {:?}", report.findings) };
        assert_eq!((ragged.finding, ragged.severity, ragged.column.as_deref()), (Finding::Ragged, Severity::Error, None));
        assert_eq!((zip.finding, zip.column.as_deref(), zip.count), (Finding::ShortZip, Some("zipcode"), 7));
        assert_eq!((&ragged.first_lines[..], &zip.first_lines[..]), (&[4][..], &[3, 5, 6, 7, 8][..]));
        assert_eq!((report.duplicates.rows, &report.duplicates.first_lines[..]), (7, &[3, 5, 6, 7, 8][..]));
        let address = &report.columns[4];
        assert_eq!((address.longest_bytes, address.longest_line, address.empty), (17, Some(2), 0));
        assert_eq!(report.exit_code(), 3);
    }

    #[test]
    fn the_dialect_is_told_as_it_is() {
        let dialect = checked(&format!("\u{feff}{HEADER}\r\n{OK}\n{OK}")).dialect.unwrap();
        let told = (dialect.encoding, dialect.bom, dialect.quotes, dialect.line_ends, dialect.final_newline);
        assert_eq!(told, ("UTF-8", true, true, "mixed", false));
        let dialect = checked(&format!("{HEADER}\n")).dialect.unwrap();
        assert_eq!((dialect.bom, dialect.line_ends, dialect.final_newline), (false, "LF", true));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_reported_like_one_whose_rows_are_rejected() {
        let report = checked(&HEADER.replace(',', ";"));
        assert!(report.fault.as_ref().is_some_and(|fault| fault.contains("separated by `;`")), "{report:?}");
        assert_eq!(report.exit_code(), 3);
        assert_eq!(checked(&format!("{HEADER}\n{OK}")).exit_code(), 0);
    }
}
