//! Reads a CSV file row by row, with the line and the byte each begins at (pure but for the reader it is given).
//!
//! A fault of structure (wrong number of fields, a quote that is not closed) costs one line only: reading goes on at the next
//! line, so that one missing quote cannot swallow the rest of the file. Lines are counted here, since csv 1.4 reports the first
//! record of a CRLF file one line too low.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

use crate::contract::COLUMNS;
use crate::csv_fields::{Split, split, without_line_end};
use crate::finding::Finding;

/// Lines that one record may span. Postal addresses have a few; more than this is a quote somebody forgot.
const MAX_LINES: usize = 16;

/// Longest line that is kept. Twenty times the widest row that could be loaded.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024;

/// One row of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Whole(Record),
    /// Its structure is broken.
    Broken(Reject),
}

/// A row with as many fields as the header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The line on which it begins; the header is line 1.
    pub(crate) line: u64,
    /// Bytes before it in the file, if that is known.
    pub(crate) byte: Option<u64>,
    pub(crate) fields: Vec<Vec<u8>>,
    /// All of it as it stands in the file, but for the last line end.
    pub(crate) raw: Vec<u8>,
}

/// A row that can be loaded: its values in the order of [`COLUMNS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DriverRow {
    pub(crate) line: u64,
    pub(crate) values: [String; COLUMNS.len()],
}

/// A row put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reject {
    pub(crate) line: u64,
    pub(crate) byte: Option<u64>,
    pub(crate) reason: Finding,
    pub(crate) column: Option<String>,
    /// What exactly, holding no value of the row.
    pub(crate) detail: String,
    pub(crate) raw: Vec<u8>,
}

/// How the text of a file is written, as far as it was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) lf: u64,
    pub(crate) crlf: u64,
    /// The last line has no line end.
    pub(crate) open_end: bool,
    /// Some value stands in quotes.
    pub(crate) quotes: bool,
}

/// The rows of a CSV file.
pub(crate) struct CsvRows<R> {
    input: R,
    delimiter: u8,
    /// Fields of a whole row.
    width: usize,
    max_line_bytes: usize,
    lines_read: u64,
    bytes_read: u64,
    /// Lines read too far, to be read again.
    pending: VecDeque<Line>,
    layout: Layout,
}

/// One line as it stands in the file.
struct Line {
    number: u64,
    byte: u64,
    bytes: Vec<u8>,
    cut: bool,
}

impl<R: BufRead> CsvRows<R> {
    /// Reads nothing yet. Lines longer than `max_line_bytes` are cut.
    pub(crate) fn new(input: R, max_line_bytes: usize) -> Self {
        Self {
            input,
            delimiter: b',',
            width: 0,
            max_line_bytes,
            lines_read: 0,
            bytes_read: 0,
            pending: VecDeque::new(),
            layout: Layout::default(),
        }
    }

    /// Takes the first line, which is the header; `None` if the file is empty.
    pub(crate) fn header_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.next_line()?.map(|line| line.bytes))
    }

    /// What the header says of the rows behind it.
    pub(crate) fn expect(&mut self, delimiter: u8, width: usize) {
        (self.delimiter, self.width) = (delimiter, width);
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

    /// The next line that is not empty, whatever stands in it; `None` at the end of the file.
    pub(crate) fn next_line_of_text(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.next_line()? {
                Some(line) if without_line_end(&line.bytes).is_empty() => {}
                line => return Ok(line.map(|line| line.bytes)),
            }
        }
    }

    /// Lines read so far.
    pub(crate) fn lines_read(&self) -> u64 {
        self.lines_read
    }

    /// How what was read so far is written.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    fn row_from(&mut self, first: Line) -> io::Result<Row> {
        if first.cut {
            let detail = format!("more than {} bytes; the quarantine keeps as many", self.max_line_bytes);
            return Ok(first.rejected(Finding::LineTooLong, detail));
        }
        match split(without_line_end(&first.bytes), self.delimiter) {
            Split::Fields(fields) if fields.len() == self.width => Ok(first.whole(fields)),
            Split::Fields(fields) => {
                Ok(first.rejected(Finding::Ragged, format!("{} fields instead of {}", fields.len(), self.width)))
            }
            Split::TextAfterQuote => Ok(first.rejected(Finding::TextAfterQuote, "text stands behind a closing quote".to_owned())),
            Split::Open => self.over_several_lines(first),
        }
    }

    /// Reads on from a line that ends inside quotes.
    fn over_several_lines(&mut self, first: Line) -> io::Result<Row> {
        let mut record = first.bytes.clone();
        let mut more = Vec::new();
        let detail = loop {
            if more.len() + 1 >= MAX_LINES {
                break format!("a quote is not closed within {MAX_LINES} lines");
            }
            let Some(line) = self.next_line()? else { break "a quote is not closed by the end of the file".to_owned() };
            record.extend_from_slice(&line.bytes);
            more.push(line);
            match split(without_line_end(&record), self.delimiter) {
                Split::Open => {}
                Split::Fields(fields) if fields.len() == self.width => {
                    return Ok(Line { bytes: record, ..first }.whole(fields));
                }
                // It was begun by a stray quote, which some later one closes by accident.
                _ => break "a quote is not closed on its line".to_owned(),
            }
        };
        // Only the first line is lost.
        for line in more.into_iter().rev() {
            self.pending.push_front(line);
        }
        Ok(first.rejected(Finding::UnclosedQuote, detail))
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.pending.pop_front() {
            return Ok(Some(line));
        }
        let mut bytes = Vec::with_capacity(256);
        let limit = self.max_line_bytes as u64;
        if self.input.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        let byte = self.bytes_read;
        self.bytes_read += bytes.len() as u64;
        let cut = bytes.len() == self.max_line_bytes && !bytes.ends_with(b"\n");
        if cut {
            self.skip_line()?;
        }
        self.lines_read += 1;
        match &bytes[..] {
            [.., b'\r', b'\n'] => self.layout.crlf += 1,
            [.., b'\n'] => self.layout.lf += 1,
            _ => self.layout.open_end = !cut,
        }
        self.layout.quotes |= bytes.contains(&b'"');
        Ok(Some(Line { number: self.lines_read, byte, bytes, cut }))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let (taken, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(place) => (place + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.input.consume(taken);
            self.bytes_read += taken as u64;
            if ended {
                return Ok(());
            }
        }
    }
}

impl Line {
    fn whole(mut self, fields: Vec<Vec<u8>>) -> Row {
        self.bytes.truncate(without_line_end(&self.bytes).len());
        Row::Whole(Record { line: self.number, byte: Some(self.byte), fields, raw: self.bytes })
    }

    fn rejected(mut self, reason: Finding, detail: String) -> Row {
        self.bytes.truncate(without_line_end(&self.bytes).len());
        Row::Broken(Reject { line: self.number, byte: Some(self.byte), reason, column: None, detail, raw: self.bytes })
    }
}

impl Row {
    /// Bytes it has in the file.
    pub(crate) fn raw_len(&self) -> usize {
        match self {
            Self::Whole(record) => record.raw.len(),
            Self::Broken(reject) => reject.raw.len(),
        }
    }
}

#[cfg(test)]
#[path = "csv_rows_tests.rs"]
mod tests;
