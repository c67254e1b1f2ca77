//! Rows on standard output, as they come: a table, JSON or CSV.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Value, json};

use crate::window::{Window, shown};

/// Rows of one printed table, so that an answer of any length needs no more memory than these.
const TABLE_ROWS: usize = 1_000;
const TIME: &str = "%Y-%m-%dT%H:%M:%S%.3fZ";

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
}

/// Writes the rows of one statement, or of one after the other.
pub(crate) struct Output<W: Write> {
    out: W,
    format: Format,
    window: Option<Window>,
    header: Vec<String>,
    table: Vec<Vec<String>>,
    n_rows: u64,
    has_header: bool,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(out: W, format: Format) -> Self {
        Self { out, format, window: None, header: Vec::new(), table: Vec::new(), n_rows: 0, has_header: false }
    }

    /// Begins with the rows of a statement, or of one of its windows, which then stands in front of each row.
    pub(crate) fn begin(&mut self, schema: &SchemaRef, window: Option<Window>) {
        let of_window = window.iter().flat_map(|_| ["window_start", "window_end"]);
        self.header = of_window.map(str::to_owned).chain(schema.fields().iter().map(|field| field.name().clone())).collect();
        self.window = window;
        self.n_rows = 0;
    }

    /// Writes rows.
    ///
    /// # Errors
    /// When nobody reads them, or they cannot be shown.
    pub(crate) fn rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let options = FormatOptions::new().with_timestamp_format(Some(TIME)).with_display_error(false);
        let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let formatters = formatters.collect::<Result<Vec<_>, ArrowError>>().map_err(io::Error::other)?;
        let of_window: Vec<String> = self.window.iter().flat_map(|window| [shown(window.start), shown(window.end)]).collect();
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().zip(&formatters).map(|(column, formatter)| {
                let is_null = column.is_null(row) || *column.data_type() == DataType::Null;
                if is_null { Ok(None) } else { formatter.value(row).try_to_string().map(Some) }
            });
            let cells = cells.collect::<Result<Vec<_>, ArrowError>>().map_err(io::Error::other)?;
            match self.format {
                Format::Json => {
                    let values = batch.columns().iter().zip(cells).map(|(column, cell)| value(column.data_type(), cell));
                    let values = of_window.iter().map(|text| json!(text)).chain(values);
                    // Put together by hand: a map would sort the columns.
                    let members = self.header.iter().zip(values).map(|(name, value)| format!("{}:{value}", json!(name)));
                    let object = members.collect::<Vec<_>>().join(",");
                    let before = match (self.window, self.n_rows) {
                        (Some(_), _) => "",
                        (None, 0) => "[\n",
                        (None, _) => ",\n",
                    };
                    write!(self.out, "{before}{{{object}}}")?;
                    if self.window.is_some() {
                        writeln!(self.out)?;
                    }
                }
                Format::Csv | Format::Table => {
                    let cells = cells.into_iter().map(Option::unwrap_or_default);
                    self.table.push(of_window.iter().cloned().chain(cells).collect());
                    if self.table.len() >= TABLE_ROWS {
                        self.write_table()?;
                    }
                }
            }
            self.n_rows += 1;
        }
        Ok(())
    }

    /// Ends a statement's rows.
    ///
    /// # Errors
    /// When nobody reads them.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match (self.format, self.n_rows) {
            (Format::Json, 0) => writeln!(self.out, "[]")?,
            (Format::Json, _) => writeln!(self.out, "\n]")?,
            _ => self.write_table()?,
        }
        self.out.flush()
    }

    /// Ends a window's rows.
    ///
    /// # Errors
    /// When nobody reads them.
    pub(crate) fn end_window(&mut self, records: u64, late: u64) -> io::Result<()> {
        match (self.format, self.window) {
            (Format::Json, Some(Window { start, end })) => {
                let closed = json!({"window_start": shown(start), "window_end": shown(end), "closed": true,
                    "rows": self.n_rows, "records": records, "late": late});
                writeln!(self.out, "{closed}")?;
            }
            // An empty window has no rows to show; its header alone would say nothing.
            (Format::Table, _) if self.n_rows == 0 => {}
            _ => self.write_table()?,
        }
        self.out.flush()
    }

    fn write_table(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.table);
        match self.format {
            Format::Json => Ok(()),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(&mut self.out);
                if !self.has_header {
                    writer.write_record(&self.header).map_err(io::Error::from)?;
                    self.has_header = true;
                }
                rows.iter().try_for_each(|row| writer.write_record(row)).map_err(io::Error::from)?;
                writer.flush()
            }
            Format::Table => {
                let mut table = Table::new();
                table.load_style(presets::NOTHING).set_header(&self.header).add_rows(rows);
                writeln!(self.out, "{}", table.trim_fmt())
            }
        }
    }
}

/// A number as a number where JSON has one, everything else as text.
fn value(data_type: &DataType, cell: Option<String>) -> Value {
    match cell {
        None => Value::Null,
        Some(text) if data_type.is_numeric() || *data_type == DataType::Boolean => {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        Some(text) => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::columns::{Cell, Column, Rows};

    fn batch() -> RecordBatch {
        let mut rows = Rows::new(&[Column::City, Column::Speed, Column::Arrived]);
        rows.push(|column| match column {
            Column::Speed => Cell::Int(80),
            Column::Arrived => Cell::Time(1_593_604_800_123_456_789),
            _ => Cell::text("Ames, \"IA\""),
        });
        rows.push(|_| Cell::Null);
        rows.finish()
    }

    fn written(format: Format, window: Option<Window>) -> String {
        let mut bytes = Vec::new();
        let mut output = Output::new(&mut bytes, format);
        let batch = batch();
        output.begin(&batch.schema(), window);
        output.rows(&batch).expect("written");
        match window {
            Some(_) => output.end_window(7, 1).expect("written"),
            None => output.end().expect("written"),
        }
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn json_is_one_array_with_numbers_as_numbers() {
        let found: Value = serde_json::from_str(&written(Format::Json, None)).expect("JSON");
        let expected = json!([
            {"city": "Ames, \"IA\"", "speed": 80, "arrived": "2020-07-01T12:00:00.123Z"},
            {"city": null, "speed": null, "arrived": null},
        ]);
        assert_eq!(found, expected);
        let mut bytes = Vec::new();
        let mut output = Output::new(&mut bytes, Format::Json);
        output.begin(&batch().schema(), None);
        output.end().expect("written");
        assert_eq!(bytes, b"[]\n");
    }

    #[test]
    fn a_window_stands_before_its_rows_and_is_closed_by_a_line_of_its_own() {
        let window = Window::around(SystemTime::UNIX_EPOCH + Duration::from_secs(25), Duration::from_secs(10));
        let text = written(Format::Json, Some(window));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["window_start"], "1970-01-01T00:00:20.000Z");
        assert_eq!(
            (&lines[2]["closed"], &lines[2]["rows"], &lines[2]["records"], &lines[2]["late"]),
            (&json!(true), &json!(2), &json!(7), &json!(1))
        );
        let table = written(Format::Table, Some(window));
        assert!(table.trim_start().starts_with("window_start"), "{table}");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let expected = "city,speed,arrived\n\"Ames, \"\"IA\"\"\",80,2020-07-01T12:00:00.123Z\n,,\n";
        assert_eq!(written(Format::Csv, None), expected);
    }
}
