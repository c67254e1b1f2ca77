//! Reads a quarantine back, mended or not (pure but for the reader it is given).
//!
//! Each row keeps the line and byte it has in the file it came from. A quarantine saved by a spreadsheet may have another
//! delimiter, a byte order mark and other line ends.

use std::borrow::Cow;
use std::io::BufRead;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::contract::Contract;
use crate::csv_fields::{Split, split, without_line_end};
use crate::csv_rows::{CsvRows, MAX_LINE_BYTES, Record, Reject, Row};
use crate::drivers_file::{FileFault, delimiter_of, header_of, names_of};
use crate::finding::Finding;
use crate::rejects::{COLUMNS, Origin, RejectedLine};

/// JSON writes a control character in six bytes, and Base64 stands beside it.
const MAX_REJECT_BYTES: usize = 8 * MAX_LINE_BYTES;

/// A row of the quarantine.
#[derive(Debug)]
pub(crate) struct RejectedRow {
    pub(crate) origin: Origin,
    pub(crate) line: u64,
    pub(crate) byte: Option<u64>,
    pub(crate) raw: Vec<u8>,
}

/// The rows of a quarantine.
pub(crate) struct RejectedRows<R> {
    lines: CsvRows<R>,
    form: Form,
    contract: Arc<Contract>,
    /// The first line, if it is a row already.
    first: Option<Vec<u8>>,
}

enum Form {
    Ndjson,
    /// Where the columns of [`COLUMNS`] are; a spreadsheet's user may have moved some, or taken away what is not needed.
    Csv([Option<usize>; COLUMNS.len()]),
}

/// Places in [`COLUMNS`].
const LOAD_ID: usize = 0;
const FILE: usize = 1;
const LINE: usize = 2;
const BYTE: usize = 3;
const RAW: usize = 7;
const RAW_BASE64: usize = 8;

impl<R: BufRead> RejectedRows<R> {
    pub(crate) fn open(input: R, contract: &Arc<Contract>) -> Result<Self, FileFault> {
        let mut lines = CsvRows::new(input, MAX_REJECT_BYTES);
        let first = lines.header_line()?.ok_or(FileFault::Empty)?;
        let contract = Arc::clone(contract);
        let (_, header) = header_of(&first)?;
        if header.starts_with(b"{") {
            return Ok(Self { lines, form: Form::Ndjson, contract, first: Some(header.to_vec()) });
        }
        let delimiter = delimiter_of(header);
        let names = names_of(header, delimiter).unwrap_or_default();
        let places = COLUMNS.map(|column| names.iter().position(|name| name == column));
        for needed in [LOAD_ID, FILE, LINE, RAW] {
            if places[needed].is_none() {
                return Err(FileFault::Rejects(format!("its header has no `{}`", COLUMNS[needed])));
            }
        }
        lines.expect(delimiter, names.len());
        Ok(Self { lines, form: Form::Csv(places), contract, first: None })
    }

    /// The next row as the quarantine has it.
    pub(crate) fn next_rejected(&mut self) -> Result<Option<RejectedRow>, FileFault> {
        match self.form {
            Form::Ndjson => self.next_json(),
            Form::Csv(places) => self.next_cells(places),
        }
    }

    /// The next row as one of the file it came from.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row>, FileFault> {
        Ok(self.next_rejected()?.map(|rejected| row_of(rejected, &self.contract)))
    }

    fn next_json(&mut self) -> Result<Option<RejectedRow>, FileFault> {
        let line = match self.first.take() {
            Some(line) => line,
            None => match self.lines.next_line_of_text()? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        let number = self.lines.lines_read();
        let read: RejectedLine<'_> = serde_json::from_slice(&line)
            .map_err(|error| FileFault::Rejects(format!("its line {number} cannot be read: {}", kind_of(&error))))?;
        Ok(Some(RejectedRow {
            origin: Origin { load_id: read.load_id.into_owned(), file: read.file.into_owned() },
            line: read.line,
            byte: read.byte,
            raw: bytes_of(read.raw, read.raw_base64.as_deref()),
        }))
    }

    fn next_cells(&mut self, places: [Option<usize>; COLUMNS.len()]) -> Result<Option<RejectedRow>, FileFault> {
        let Some(row) = self.lines.next_row()? else { return Ok(None) };
        let mut record = match row {
            Row::Whole(record) => record,
            Row::Broken(reject) => {
                return Err(FileFault::Rejects(format!("its line {}: {}", reject.line, reject.detail)));
            }
        };
        let at = record.line;
        let mut cell = |column: usize| {
            let place = places[column]?;
            Some(String::from_utf8_lossy(&std::mem::take(&mut record.fields[place])).into_owned())
        };
        let number = |text: String| text.trim().parse::<u64>().ok();
        let line = cell(LINE).and_then(number).ok_or_else(|| FileFault::Rejects(format!("its line {at} has no line number")))?;
        let byte = cell(BYTE).and_then(number);
        let origin = Origin { load_id: cell(LOAD_ID).unwrap_or_default(), file: cell(FILE).unwrap_or_default() };
        let (raw, base64) = (cell(RAW).unwrap_or_default(), cell(RAW_BASE64));
        Ok(Some(RejectedRow { origin, line, byte, raw: bytes_of(Cow::Owned(raw), base64.as_deref()) }))
    }
}

/// The row's bytes. A text that nobody has mended stands for the bytes it was made of.
fn bytes_of(raw: Cow<'_, str>, base64: Option<&str>) -> Vec<u8> {
    let bytes = base64.filter(|text| !text.is_empty()).and_then(|text| STANDARD.decode(text.trim()).ok());
    match bytes {
        Some(bytes) if String::from_utf8_lossy(&bytes) == raw => bytes,
        _ => raw.into_owned().into_bytes(),
    }
}

/// Splits a mended row as if it stood in its file. One that is still broken is a reject again.
fn row_of(rejected: RejectedRow, contract: &Contract) -> Row {
    let RejectedRow { line, byte, raw, .. } = rejected;
    let width = contract.columns.len();
    let (reason, detail) = match split(without_line_end(&raw), contract.delimiter) {
        Split::Fields(fields) if fields.len() == width => return Row::Whole(Record { line, byte, fields, raw }),
        Split::Fields(fields) => (Finding::Ragged, format!("{} fields instead of {width}", fields.len())),
        Split::Open => (Finding::UnclosedQuote, "a quote is not closed".to_owned()),
        Split::TextAfterQuote => (Finding::TextAfterQuote, "text stands behind a closing quote".to_owned()),
    };
    Row::Broken(Reject { line, byte, reason, column: None, detail, raw })
}

/// What is wrong with a line of JSON, without the values in it.
fn kind_of(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => "a key is missing or has a value of another kind".to_owned(),
        _ => format!("no JSON at column {}", error.column()),
    }
}

#[cfg(test)]
#[path = "rejected_rows_tests.rs"]
mod tests;
