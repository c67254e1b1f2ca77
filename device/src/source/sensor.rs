//! Readings as lines of JSON from a sensor: standard input, a named pipe, a serial line, a file that has them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::failure::Failure;
use crate::reading::Reading;
use crate::readings_file::Row;
use crate::report::RejectedRow;

/// Eight times what may be published; longer lines are skipped without being kept.
const MAX_LINE_BYTES: u64 = 1024 * 1024;
/// Lines read ahead. What the sensor says beyond them waits in its pipe or serial line.
const MAX_WAITING: usize = 64;

/// Lines from a thread of its own: a serial line or a pipe answers when it likes, and nothing can end that wait.
pub(super) struct Sensor {
    path: PathBuf,
    lines: Receiver<Sensed>,
}

type Sensed = io::Result<(Row, Timestamp)>;

impl Sensor {
    /// Begins to read; `again` opens the path anew at its end, as a named pipe wants it whose writers come and go.
    pub(super) fn open(path: &Path, again: bool) -> Result<Self, Failure> {
        let (sender, lines) = channel(MAX_WAITING);
        let input = path.to_owned();
        if path != Path::new("-") {
            // A named pipe is opened by the thread, where it waits for a writer.
            std::fs::metadata(path).map_err(|e| unreadable(path, &e))?;
        }
        let spawned = std::thread::Builder::new().name("sensor".to_owned()).spawn(move || read_on(&input, again, &sender));
        spawned.map_err(|e| unreadable(path, &e))?;
        Ok(Self { path: path.to_owned(), lines })
    }

    /// The next line and when it came, `None` at the end. The future may be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<(Row, Timestamp)>, Failure> {
        self.lines.recv().await.transpose().map_err(|e| unreadable(&self.path, &e))
    }
}

fn unreadable(path: &Path, e: &io::Error) -> Failure {
    Failure::BadInput { what: format!("the sensor `{}` cannot be read ({e}); check --sensor", path.display()) }
}

fn read_on(path: &Path, again: bool, lines: &Sender<Sensed>) {
    let mut number = 0;
    loop {
        let before = number;
        let ended = if path == Path::new("-") {
            read_lines(io::stdin().lock(), &mut number, lines)
        } else {
            File::open(path).and_then(|file| read_lines(BufReader::new(file), &mut number, lines))
        };
        if let Err(e) = ended {
            // Nobody waits for it any more if it cannot be sent.
            drop(lines.blocking_send(Err(e)));
            return;
        }
        // An end without a line before it would come again at once.
        if !again || path == Path::new("-") || number == before || lines.is_closed() {
            return;
        }
    }
}

/// Reads to the end, or until nobody takes the lines any more. Line numbers go on from `number`.
fn read_lines(mut input: impl BufRead, number: &mut u64, lines: &Sender<Sensed>) -> io::Result<()> {
    loop {
        let mut text = Vec::new();
        let read = (&mut input).take(MAX_LINE_BYTES).read_until(b'\n', &mut text)?;
        if read == 0 {
            return Ok(());
        }
        *number += 1;
        let row = if read as u64 == MAX_LINE_BYTES && text.last() != Some(&b'\n') {
            input.skip_until(b'\n')?;
            rejected(*number, format!("the line is longer than {MAX_LINE_BYTES} bytes"))
        } else if text.trim_ascii().is_empty() {
            continue;
        } else {
            match parse(&text) {
                Ok(reading) => Row::Reading { line: *number, reading },
                Err(reason) => rejected(*number, reason),
            }
        };
        if lines.blocking_send(Ok((row, Timestamp::now()))).is_err() {
            return Ok(());
        }
    }
}

fn rejected(line: u64, reason: String) -> Row {
    Row::Rejected(RejectedRow { line, reason })
}

/// One line of a sensor. What else it says is not sent on.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(borrow)]
    license_plate: &'a RawValue,
    #[serde(borrow)]
    longitude: &'a RawValue,
    #[serde(borrow)]
    latitude: &'a RawValue,
    #[serde(borrow)]
    city: &'a RawValue,
    #[serde(borrow)]
    state: &'a RawValue,
    #[serde(borrow)]
    speed: &'a RawValue,
}

fn parse(line: &[u8]) -> Result<Reading, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not valid UTF-8".to_owned())?;
    let line: Line =
        serde_json::from_str(text.trim()).map_err(|e| format!("it is no reading in JSON ({})", without_position(&e)))?;
    let fields = [
        value("licensePlate", line.license_plate)?,
        value("longitude", line.longitude)?,
        value("latitude", line.latitude)?,
        value("city", line.city)?,
        value("state", line.state)?,
        value("speed", line.speed)?,
    ];
    Ok(Reading { fields })
}

/// The parser counts from the line's own start, where every line is the first one.
fn without_position(e: &serde_json::Error) -> String {
    e.to_string().replace(" line 1 column ", " character ")
}

/// A number keeps its text as it stands in the line, never through a float.
fn value(name: &str, raw: &RawValue) -> Result<String, String> {
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(|e| format!("`{name}` is no valid text ({})", without_position(&e))),
        Some(b'-' | b'0'..=b'9') => Ok(raw.to_owned()),
        _ => Err(format!("`{name}` is neither a text nor a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(input: &[u8]) -> Vec<Row> {
        let (sender, mut lines) = channel(MAX_WAITING);
        read_lines(input, &mut 0, &sender).unwrap();
        drop(sender);
        std::iter::from_fn(|| lines.blocking_recv()).map(|line| line.unwrap().0).collect()
    }

    #[test]
    fn texts_and_numbers_are_taken_as_they_stand() {
        let line = r#"{"speed":076.50,"x":1}"#;
        assert!(parse(line.as_bytes()).is_err());
        let line = r#"{"licensePlate":"95B\u2022140","longitude":101.7668550,"latitude":-9e1,"city":"St. \"X\"","state":"","speed":76,"z":{}}"#;
        let expected = ["95B•140", "101.7668550", "-9e1", "St. \"X\"", "", "76"].map(str::to_owned);
        assert_eq!(parse(line.as_bytes()).unwrap().fields, expected);
    }

    #[test]
    fn a_bad_line_is_named_and_does_not_stop_those_after_it() {
        let good = r#"{"licensePlate":"A-1","longitude":"1","latitude":"2","city":"c","state":"s","speed":"80"}"#;
        let long = "x".repeat(3 * 1024 * 1024);
        let bad = [
            "not JSON",
            "{}",
            "[1]",
            &good.replace("\"80\"", "null"),
            &good.replace("\"1\"", "[1]"),
            &long,
            &good.replace("\"s\"", "\"s\",\"state\":\"t\""),
        ];
        let mut input = Vec::new();
        for line in bad {
            input.extend([line, "\r\n\r\n", good, "\n"].concat().into_bytes());
        }
        input.extend(b"\xff\n");
        input.extend(good.as_bytes());
        let rows = rows(&input);
        assert_eq!(rows.len(), 2 * bad.len() + 2);
        for (i, row) in rows.iter().enumerate() {
            let expected = if i < 2 * bad.len() { 1 + i as u64 / 2 * 3 + if i % 2 == 0 { 0 } else { 2 } } else { i as u64 + 8 };
            match row {
                Row::Rejected(row) => assert!(i % 2 == 0 && row.line == expected, "{i}: {row:?}"),
                Row::Reading { line, .. } => assert!(i % 2 == 1 && *line == expected, "{i}: line {line}"),
            }
        }
    }
}
