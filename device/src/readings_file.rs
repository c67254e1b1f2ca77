//! Reads the readings CSV row by row: a bad row is handed out with its line number, and the rest goes on.
//!
//! The file is read line by line and each line given to the CSV parser, rather than the whole file: line numbers are then
//! those of an editor (with CRLF the parser's own are one too low), memory is bounded, and a quote that is never closed
//! costs its own line instead of all that follow.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv_core::ReadRecordResult;

use crate::failure::Failure;
use crate::reading::{HEADER, Reading};
use crate::report::RejectedRow;

/// A field may hold line breaks inside quotes; a quote open for longer than this was forgotten.
const MAX_LINES_PER_ROW: usize = 16;
/// Eight times what may be published; longer lines are skipped without being kept.
const MAX_LINE_BYTES: usize = 1024 * 1024;
const MAX_FIELDS: usize = 64;

#[derive(Debug)]
pub(crate) enum Row {
    Reading { line: u64, reading: Reading },
    Rejected(RejectedRow),
}

pub(crate) struct ReadingsFile {
    path: PathBuf,
    bytes: u64,
    bytes_read: u64,
    lines_read: u64,
    input: BufReader<File>,
    parser: csv_core::Reader,
    /// Lines read ahead in search of a closing quote that never came, or the rest of a line after a lone CR.
    ahead: VecDeque<Line>,
}

struct Line {
    number: u64,
    text: Vec<u8>,
    too_long: bool,
}

/// The outcome of parsing one row from its first line on.
enum Parsed {
    Fields(Vec<Vec<u8>>),
    Rejected(String),
}

impl ReadingsFile {
    /// Opens the file and checks its header.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::BadInput {
            what: format!("the readings file `{}` cannot be read ({e}); check --file", path.display()),
        };
        let input = File::open(path).map_err(failed)?;
        let metadata = input.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::Error::other("it is a folder")));
        }
        let mut file = Self {
            path: path.to_owned(),
            bytes: metadata.len(),
            bytes_read: 0,
            lines_read: 0,
            input: BufReader::with_capacity(64 * 1024, input),
            parser: csv_core::Reader::new(),
            ahead: VecDeque::new(),
        };
        file.check_header()?;
        Ok(file)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next row, or `None` after the last. Blank lines are no rows.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row>, Failure> {
        let Some((line, parsed)) = self.next_parsed().map_err(|e| self.read_failure(&e))? else { return Ok(None) };
        Ok(Some(match parsed {
            Parsed::Fields(fields) => to_row(line, fields),
            Parsed::Rejected(reason) => Row::Rejected(RejectedRow { line, reason }),
        }))
    }

    fn check_header(&mut self) -> Result<(), Failure> {
        let wanted = HEADER.join(",");
        let path = self.path.display().to_string();
        let wrong = |found: &str| Failure::BadInput {
            what: format!("`{path}` is no readings file: its first line must be `{wanted}`, but {found}; nothing was sent"),
        };
        match self.next_parsed() {
            Err(e) => Err(self.read_failure(&e)),
            Ok(None) => Err(wrong("the file is empty")),
            Ok(Some((_, Parsed::Rejected(reason)))) => Err(wrong(&reason)),
            Ok(Some((_, Parsed::Fields(fields)))) if fields.iter().map(Vec::as_slice).eq(HEADER.map(str::as_bytes)) => Ok(()),
            Ok(Some((_, Parsed::Fields(fields)))) => {
                let found: String = String::from_utf8_lossy(&fields.join(&b',')).chars().take(200).collect();
                Err(wrong(&format!("it is `{}`", found.escape_debug())))
            }
        }
    }

    fn next_parsed(&mut self) -> io::Result<Option<(u64, Parsed)>> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            if line.too_long {
                return Ok(Some((line.number, Parsed::Rejected(format!("the line is longer than {MAX_LINE_BYTES} bytes")))));
            }
            if line.text.iter().all(|b| matches!(b, b'\r' | b'\n')) {
                continue;
            }
            let number = line.number;
            return Ok(Some((number, self.parse(line)?)));
        }
    }

    /// Parses the row that begins with `first`, taking further lines while a quote is open.
    fn parse(&mut self, first: Line) -> io::Result<Parsed> {
        self.parser.reset();
        let mut taken = vec![first];
        let mut size = taken[0].text.len();
        let mut row = RowBuffer::new(size);
        loop {
            let last = &taken[taken.len() - 1];
            let fed = row.feed(&mut self.parser, &last.text);
            // A row of several lines with another number of fields was glued together by a forgotten quote.
            let glued = taken.len() > 1 && row.ends_len != HEADER.len();
            match fed {
                Fed::Row { .. } | Fed::TooManyFields if glued => return Ok(self.give_up_quote(taken)),
                Fed::Row { used } => {
                    let (number, rest) = (last.number, &last.text[used..]);
                    if rest.iter().any(|b| !matches!(b, b'\r' | b'\n')) {
                        let rest = Line { number, text: rest.to_vec(), too_long: false };
                        self.ahead.push_front(rest);
                    }
                    return Ok(Parsed::Fields(row.fields()));
                }
                Fed::TooManyFields => return Ok(Parsed::Rejected(format!("the row has more than {MAX_FIELDS} fields"))),
                Fed::QuoteOpen => {}
            }
            let next = if taken.len() < MAX_LINES_PER_ROW && size < MAX_LINE_BYTES { self.next_line()? } else { None };
            match next {
                Some(line) if !line.too_long => {
                    size += line.text.len();
                    taken.push(line);
                }
                other => {
                    taken.extend(other);
                    return Ok(self.give_up_quote(taken));
                }
            }
        }
    }

    /// Only the first line is lost; those after it are read again as rows of their own.
    fn give_up_quote(&mut self, taken: Vec<Line>) -> Parsed {
        for line in taken.into_iter().skip(1).rev() {
            self.ahead.push_front(line);
        }
        Parsed::Rejected("a quote is opened and not closed".to_owned())
    }

    /// The next line with its line end; a last line without one gets one.
    fn next_line(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.ahead.pop_front() {
            return Ok(Some(line));
        }
        let mut text = Vec::new();
        let read = (&mut self.input).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut text)?;
        if read == 0 {
            return Ok(None);
        }
        self.lines_read += 1;
        self.bytes_read += read as u64;
        let number = self.lines_read;
        let too_long = text.last() != Some(&b'\n') && read == MAX_LINE_BYTES;
        if too_long {
            text = Vec::new();
            self.bytes_read += self.input.skip_until(b'\n')? as u64;
        } else if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        if number == 1 && text.starts_with(b"\xEF\xBB\xBF") {
            text.drain(..3);
        }
        Ok(Some(Line { number, text, too_long }))
    }

    fn read_failure(&self, e: &io::Error) -> Failure {
        Failure::BadInput { what: format!("failed to read `{}` after line {}: {e}", self.path.display(), self.lines_read) }
    }
}

fn to_row(line: u64, fields: Vec<Vec<u8>>) -> Row {
    let rejected = |reason: String| Row::Rejected(RejectedRow { line, reason });
    let n_fields = fields.len();
    let Ok(fields) = <[Vec<u8>; 6]>::try_from(fields) else {
        return rejected(format!("the row has {n_fields} fields, the header has {}", HEADER.len()));
    };
    if let Some(bad) = fields.iter().position(|field| std::str::from_utf8(field).is_err()) {
        return rejected(format!("field `{}` is not valid UTF-8", HEADER[bad]));
    }
    let fields = fields.map(|field| String::from_utf8(field).unwrap_or_default());
    Row::Reading { line, reading: Reading { fields } }
}

/// Where the parser puts the fields of one row, however many lines it has.
struct RowBuffer {
    text: Vec<u8>,
    text_len: usize,
    ends: [usize; MAX_FIELDS],
    ends_len: usize,
}

enum Fed {
    Row { used: usize },
    QuoteOpen,
    TooManyFields,
}

impl RowBuffer {
    fn new(size: usize) -> Self {
        Self { text: vec![0; size], text_len: 0, ends: [0; MAX_FIELDS], ends_len: 0 }
    }

    /// Parses `line`, which ends with a line feed: unless a quote is open, that ends the row.
    fn feed(&mut self, parser: &mut csv_core::Reader, line: &[u8]) -> Fed {
        let mut used = 0;
        // Unquoting only shrinks, so what was read so far plus this line is always enough.
        self.text.resize(self.text_len + line.len() + 1, 0);
        loop {
            let (result, n_in, n_out, n_ends) =
                parser.read_record(&line[used..], &mut self.text[self.text_len..], &mut self.ends[self.ends_len..]);
            used += n_in;
            self.text_len += n_out;
            self.ends_len += n_ends;
            match result {
                ReadRecordResult::Record => return Fed::Row { used },
                ReadRecordResult::OutputEndsFull => return Fed::TooManyFields,
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() + line.len() + 1, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return Fed::QuoteOpen,
            }
        }
    }

    fn fields(&self) -> Vec<Vec<u8>> {
        let mut start = 0;
        let field = |end: &usize| {
            let field = self.text[start..*end].to_vec();
            start = *end;
            field
        };
        self.ends[..self.ends_len].iter().map(field).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "readings_file_tests.rs"]
mod tests;
