//! CSV rows with a chosen line end, quoted only where needed, and optionally no newline after the last row.

use std::io::{self, Write};

pub(crate) struct RowWriter<W> {
    sink: W,
    line_end: &'static [u8],
    final_newline: bool,
    rows: u64,
}

impl<W: Write> RowWriter<W> {
    pub(crate) fn new(sink: W, crlf: bool, final_newline: bool) -> Self {
        Self { sink, line_end: if crlf { b"\r\n" } else { b"\n" }, final_newline, rows: 0 }
    }

    pub(crate) fn row<S: AsRef<str>>(&mut self, fields: &[S]) -> io::Result<()> {
        // The line end precedes each row but the first: whether the last row gets one is decided in `finish`.
        if self.rows > 0 {
            self.sink.write_all(self.line_end)?;
        }
        self.rows += 1;
        for (i, field) in fields.iter().enumerate() {
            if i > 0 {
                self.sink.write_all(b",")?;
            }
            self.field(field.as_ref())?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.final_newline && self.rows > 0 {
            self.sink.write_all(self.line_end)?;
        }
        self.sink.flush()
    }

    fn field(&mut self, field: &str) -> io::Result<()> {
        if field.contains([',', '"', '\r', '\n']) {
            write!(self.sink, "\"{}\"", field.replace('"', "\"\""))
        } else {
            self.sink.write_all(field.as_bytes())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn written(crlf: bool, final_newline: bool) -> String {
        let mut out = Vec::new();
        let mut w = RowWriter::new(&mut out, crlf, final_newline);
        w.row(&["a", "b,c"]).unwrap();
        w.row(&["say \"hi\"", ""]).unwrap();
        w.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn line_ends_and_the_last_newline_are_as_asked() {
        assert_eq!(written(false, true), "a,\"b,c\"\n\"say \"\"hi\"\"\",\n");
        assert_eq!(written(true, false), "a,\"b,c\"\r\n\"say \"\"hi\"\"\",");
    }
}
