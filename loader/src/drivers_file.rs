//! Opens a drivers file: tells what is no drivers file at all, and compares its header with the contract (pure but for
//! the reader it is given).

use std::io::{self, BufRead};
use std::sync::Arc;

use crate::contract::Contract;
use crate::csv_fields::{Split, split, without_line_end};
use crate::csv_rows::{CsvRows, MAX_LINE_BYTES};

/// Delimiters that people use, the usual one first.
pub(crate) const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Why nothing of the file can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileFault {
    #[error("the file is empty")]
    Empty,
    #[error("the file is {0}, not CSV")]
    Packed(&'static str),
    #[error("the file is UTF-16")]
    Utf16,
    #[error("its lines end with a bare carriage return")]
    CarriageReturns,
    #[error("{0}")]
    Header(HeaderFault),
    #[error("it is no quarantine of the loader: {0}")]
    Rejects(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is wrong with a header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HeaderFault {
    /// The header as far as it may be shown.
    found: String,
    expected: String,
    /// Each thing that is wrong, in words.
    faults: Vec<String>,
}

/// The rows of a drivers file.
pub(crate) struct DriversFile<R> {
    pub(crate) rows: CsvRows<R>,
    /// A byte order mark stands before the header.
    pub(crate) bom: bool,
}

impl<R: BufRead> DriversFile<R> {
    /// Checks the header.
    pub(crate) fn open(input: R, contract: &Arc<Contract>) -> Result<Self, FileFault> {
        let mut rows = CsvRows::new(input, MAX_LINE_BYTES);
        let line = rows.header_line()?.ok_or(FileFault::Empty)?;
        let (bom, header) = header_of(&line)?;
        let names = names_of(header, contract.delimiter)
            .ok_or_else(|| fault(header, contract, vec!["a quote is not closed".to_owned()]))?;
        let faults = faults_of(&names, header, contract);
        if !faults.is_empty() {
            return Err(fault(header, contract, faults));
        }
        rows.expect(contract.delimiter, names.len());
        Ok(Self { rows, bom })
    }
}

/// The header in the first line, and whether a byte order mark stands before it.
pub(crate) fn header_of(line: &[u8]) -> Result<(bool, &[u8]), FileFault> {
    let packed: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "packed with gzip"),
        (b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
        (b"BZh", "packed with bzip2"),
        (b"\x28\xb5\x2f\xfd", "packed with zstd"),
        (b"%PDF", "a PDF"),
    ];
    if let Some((_, kind)) = packed.iter().find(|(magic, _)| line.starts_with(magic)) {
        return Err(FileFault::Packed(kind));
    }
    // Without a byte order mark UTF-16 shows by a NUL in every other byte of its Latin letters.
    let nuls = line.iter().take(64).filter(|byte| **byte == 0).count();
    if line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff]) || nuls * 3 > line.len().min(64) {
        return Err(FileFault::Utf16);
    }
    let (bom, header) = match line.strip_prefix(BYTE_ORDER_MARK) {
        Some(header) => (true, header),
        None => (false, line),
    };
    let header = without_line_end(header);
    if header.contains(&b'\r') {
        return Err(FileFault::CarriageReturns);
    }
    Ok((bom, header))
}

/// The names in a header.
pub(crate) fn names_of(header: &[u8], delimiter: u8) -> Option<Vec<String>> {
    match split(header, delimiter) {
        Split::Fields(fields) => Some(fields.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect()),
        _ => None,
    }
}

/// The delimiter that a header is most likely written with.
pub(crate) fn delimiter_of(header: &[u8]) -> u8 {
    let count = |delimiter: u8| header.iter().filter(|byte| **byte == delimiter).count();
    // Of several maxima the last wins, so the usual one comes last.
    DELIMITERS.into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

/// Whether a line holds names of columns rather than a row of data, which has addresses and telephone numbers.
pub(crate) fn looks_like_names(header: &[u8], delimiter: u8) -> bool {
    let is_name = |field: &str| {
        let field = field.trim();
        !field.is_empty()
            && !field.starts_with(|first: char| first.is_ascii_digit())
            && field.chars().all(|c| c.is_alphanumeric() || "_- ./()".contains(c))
    };
    names_of(header, delimiter).is_some_and(|names| names.iter().all(|name| is_name(name)))
}

fn faults_of(names: &[String], header: &[u8], contract: &Contract) -> Vec<String> {
    let delimiter = delimiter_of(header);
    if names.len() == 1 && delimiter != contract.delimiter {
        let shown = |byte: u8| if byte == b'\t' { "a tab".to_owned() } else { format!("`{}`", char::from(byte)) };
        return vec![format!("the columns are separated by {}, not by {}", shown(delimiter), shown(contract.delimiter))];
    }
    let mut faults = Vec::new();
    let wanted = |name: &String| contract.columns.iter().any(|rule| rule.name == *name);
    for rule in contract.columns.iter().filter(|rule| !names.contains(&rule.name)) {
        let same = names.iter().find(|name| !wanted(name) && name.trim().eq_ignore_ascii_case(&rule.name));
        let other = same.map(|name| format!(" (it is written `{name}`)")).unwrap_or_default();
        faults.push(format!("`{}` is missing{other}", rule.name));
    }
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            faults.push(format!("`{name}` stands there twice"));
        } else if !wanted(name) {
            faults.push(format!("`{name}` is not in the contract"));
        }
    }
    if faults.is_empty() && contract.columns.iter().map(|rule| &rule.name).ne(names) {
        faults.push("its columns stand in another order".to_owned());
    }
    faults
}

/// A row of data, which is what stands there when the header is missing, is not shown.
fn fault(header: &[u8], contract: &Contract, faults: Vec<String>) -> FileFault {
    let expected = contract.header();
    if !looks_like_names(header, delimiter_of(header)) {
        let found = "missing (the first line looks like data)".to_owned();
        return FileFault::Header(HeaderFault { found, expected, faults: Vec::new() });
    }
    let text = String::from_utf8_lossy(header);
    FileFault::Header(HeaderFault { found: format!("`{}`", text.chars().take(400).collect::<String>()), expected, faults })
}

impl std::fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the header is {}", self.found)?;
        for fault in &self.faults {
            write!(f, "; {fault}")?;
        }
        write!(f, "; it must be `{}`", self.expected)
    }
}

#[cfg(test)]
#[path = "drivers_file_tests.rs"]
mod tests;
