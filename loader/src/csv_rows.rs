//! Reads a drivers file row by row and says of each bad row why and on which line it stands (pure but for the reader it is given).
//!
//! A fault of structure (wrong number of fields, a quote that is not closed) costs one line only: reading goes on at the next
//! line, so that one missing quote cannot swallow the rest of the file. Lines are counted here, since csv 1.4 reports the first
//! record of a CRLF file one line too low.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

use speedtrap_actors::domain::LicensePlate;

use crate::contract::{self, COLUMNS, PLATE};
use crate::csv_fields::{Split, split, without_line_end};

/// Lines that one record may span. Postal addresses have a few; more than this is a quote somebody forgot.
const MAX_LINES: usize = 16;

/// Longest line that is kept. Twenty times the widest row that could be loaded.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// One row of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Good(DriverRow),
    Bad(Reject),
}

/// A row that can be loaded. Values are as they stand in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DriverRow {
    pub(crate) line: u64,
    pub(crate) values: [String; COLUMNS.len()],
}

/// A row put aside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reject {
    /// The line of the file on which it begins; the header is line 1.
    pub(crate) line: u64,
    pub(crate) reason: Reason,
    pub(crate) column: Option<&'static str>,
    /// What exactly, holding no value of the row.
    pub(crate) detail: String,
    pub(crate) raw: Vec<u8>,
}

/// Why a row was put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    Ragged,
    UnclosedQuote,
    TextAfterQuote,
    LineTooLong,
    NotUtf8,
    NulByte,
    EmptyPlate,
    TooLong,
}

/// Why nothing of the file can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileFault {
    #[error("the file is empty")]
    Empty,
    #[error("the file is UTF-16; save it as UTF-8")]
    Utf16,
    #[error("the header is {found}, it must be `{}`", contract::header())]
    Header { found: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The rows of a drivers file.
pub(crate) struct CsvRows<R> {
    input: R,
    lines_read: u64,
    /// Lines read too far, to be read again.
    pending: VecDeque<Line>,
}

struct Line {
    number: u64,
    bytes: Vec<u8>,
    cut: bool,
}

impl<R: BufRead> CsvRows<R> {
    /// Checks the header.
    pub(crate) fn open(input: R) -> Result<Self, FileFault> {
        let mut rows = Self { input, lines_read: 0, pending: VecDeque::new() };
        let line = rows.next_line()?.ok_or(FileFault::Empty)?;
        if line.bytes.starts_with(&[0xff, 0xfe]) || line.bytes.starts_with(&[0xfe, 0xff]) {
            return Err(FileFault::Utf16);
        }
        let header = without_line_end(line.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line.bytes));
        let expected: Vec<Vec<u8>> = COLUMNS.map(|column| column.name.as_bytes().to_vec()).into();
        if split(header) == Split::Fields(expected) {
            return Ok(rows);
        }
        Err(FileFault::Header { found: shown_header(header) })
    }

    /// The next row; `None` at the end of the file. Empty lines are no rows.
    pub(crate) fn next_row(&mut self) -> io::Result<Option<Row>> {
        loop {
            let Some(first) = self.next_line()? else { return Ok(None) };
            if !without_line_end(&first.bytes).is_empty() {
                return self.row_from(first).map(Some);
            }
        }
    }

    fn row_from(&mut self, first: Line) -> io::Result<Row> {
        if first.cut {
            return Ok(first.rejected(Reason::LineTooLong, format!("more than {MAX_LINE_BYTES} bytes")));
        }
        let mut record = first.bytes.clone();
        let mut more = Vec::new();
        let (reason, detail) = loop {
            match split(without_line_end(&record)) {
                Split::Fields(fields) if fields.len() == COLUMNS.len() => return Ok(checked(first.number, fields, record)),
                Split::Fields(fields) => break (Reason::Ragged, format!("{} fields instead of {}", fields.len(), COLUMNS.len())),
                Split::TextAfterQuote => break (Reason::TextAfterQuote, "text stands behind a closing quote".to_owned()),
                Split::Open if more.len() + 1 >= MAX_LINES => {
                    break (Reason::UnclosedQuote, format!("a quote is not closed within {MAX_LINES} lines"));
                }
                Split::Open => match self.next_line()? {
                    Some(line) => {
                        record.extend_from_slice(&line.bytes);
                        more.push(line);
                    }
                    None => break (Reason::UnclosedQuote, "a quote is not closed by the end of the file".to_owned()),
                },
            }
        };
        // A record that was read over several lines and does not fit was begun by a stray quote: only its first line is lost.
        let (reason, detail) = if more.is_empty() || reason == Reason::UnclosedQuote {
            (reason, detail)
        } else {
            (Reason::UnclosedQuote, "a quote is not closed on its line".to_owned())
        };
        for line in more.into_iter().rev() {
            self.pending.push_front(line);
        }
        Ok(first.rejected(reason, detail))
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.pending.pop_front() {
            return Ok(Some(line));
        }
        let mut bytes = Vec::new();
        let limit = MAX_LINE_BYTES as u64;
        if self.input.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        let cut = bytes.len() == MAX_LINE_BYTES && !bytes.ends_with(b"\n");
        if cut {
            self.skip_line()?;
        }
        self.lines_read += 1;
        Ok(Some(Line { number: self.lines_read, bytes, cut }))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let (taken, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(place) => (place + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.input.consume(taken);
            if ended {
                return Ok(());
            }
        }
    }
}

impl Line {
    fn rejected(self, reason: Reason, detail: String) -> Row {
        Row::Bad(Reject { line: self.number, reason, column: None, detail, raw: without_line_end(&self.bytes).to_vec() })
    }
}

/// A wrong header for a message. A row of data, which is what stands there when the header is missing, is not shown: it has
/// addresses and telephone numbers, names of columns have neither.
fn shown_header(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let is_name = |field: &str| {
        let field = field.trim().trim_matches('"');
        !field.starts_with(|c: char| c.is_ascii_digit()) && field.chars().all(|c| c.is_alphanumeric() || "_- ".contains(c))
    };
    if text.split([',', ';', '\t']).all(is_name) {
        return format!("`{}`", text.chars().take(200).collect::<String>());
    }
    "missing (the first line looks like data)".to_owned()
}

/// Checks the values of a record that has the right number of fields.
fn checked(line: u64, fields: Vec<Vec<u8>>, record: Vec<u8>) -> Row {
    let mut values: [String; COLUMNS.len()] = Default::default();
    let reject = |reason, place: usize, detail: String| {
        let raw = without_line_end(&record).to_vec();
        Row::Bad(Reject { line, reason, column: Some(COLUMNS[place].name), detail, raw })
    };
    for (place, field) in fields.into_iter().enumerate() {
        let length = field.len();
        let Ok(text) = String::from_utf8(field) else { return reject(Reason::NotUtf8, place, "not UTF-8".to_owned()) };
        // No SQL server stores this character in a text.
        if text.contains('\0') {
            return reject(Reason::NulByte, place, "holds a NUL byte".to_owned());
        }
        if length > COLUMNS[place].max_bytes {
            return reject(Reason::TooLong, place, format!("{length} bytes, at most {} fit", COLUMNS[place].max_bytes));
        }
        values[place] = text;
    }
    if LicensePlate::check(&values[PLATE]).is_err() {
        return reject(Reason::EmptyPlate, PLATE, "no licence plate".to_owned());
    }
    Row::Good(DriverRow { line, values })
}

#[cfg(test)]
#[path = "csv_rows_tests.rs"]
mod tests;
