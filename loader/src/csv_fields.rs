//! Splits one CSV record into its fields (pure), stricter than RFC 4180 readers usually are.
//!
//! The csv crate reads on through a quote that was never closed, to the end of the file if need be, and glues what follows a
//! closing quote to the field. Here both are faults: that is what tells a real line break inside a field from a missing quote.

/// What a piece of text is when read as one record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// A whole record.
    Fields(Vec<Vec<u8>>),
    /// It ends inside a quoted field: the record goes on in the next line, or its quote was never closed.
    Open,
    /// Text stands between a closing quote and the next delimiter.
    TextAfterQuote,
}

/// Splits a record given without its line end.
pub(crate) fn split(record: &[u8], delimiter: u8) -> Split {
    let mut fields = Vec::with_capacity(10);
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix(b"\"") {
            Some(quoted) => match quoted_field(quoted) {
                Ok(parts) => parts,
                Err(fault) => return fault,
            },
            None => {
                let end = rest.iter().position(|byte| *byte == delimiter).unwrap_or(rest.len());
                (rest[..end].to_vec(), &rest[end..])
            }
        };
        fields.push(field);
        match after.split_first() {
            None => return Split::Fields(fields),
            Some((found, next)) if *found == delimiter => rest = next,
            Some(_) => return Split::TextAfterQuote,
        }
    }
}

/// Reads a quoted field behind its opening quote; gives it and what follows its closing quote.
fn quoted_field(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), Split> {
    let mut field = Vec::new();
    loop {
        let Some(quote) = rest.iter().position(|byte| *byte == b'"') else { return Err(Split::Open) };
        field.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix(b"\"") {
            Some(after) => {
                field.push(b'"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}

/// The text without one line end (`\n`, `\r\n` or a final `\r`).
pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(texts: &[&str]) -> Split {
        Split::Fields(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
    }

    fn split_at_commas(record: &[u8]) -> Split {
        split(record, b',')
    }

    #[test]
    fn records_split_as_rfc_4180_says() {
        assert_eq!(split_at_commas(b"a,b,c"), fields(&["a", "b", "c"]));
        assert_eq!(split_at_commas(b",,"), fields(&["", "", ""]));
        assert_eq!(split_at_commas(b"\"7 Mill Row, Apt 9\",x"), fields(&["7 Mill Row, Apt 9", "x"]));
        assert_eq!(split_at_commas(b"\"say \"\"hi\"\"\",\"\""), fields(&["say \"hi\"", ""]));
        assert_eq!(split_at_commas(b"5\" pipe,x"), fields(&["5\" pipe", "x"]));
        assert_eq!(split(b"a,b;\"c;d\"", b';'), fields(&["a,b", "c;d"]));
    }

    #[test]
    fn open_quotes_and_text_after_a_quote_are_told_apart() {
        assert_eq!(split_at_commas(b"a,\"9 Mill Row,Foxgallow"), Split::Open);
        assert_eq!(split_at_commas(b"a,\"9 Mill\" Row,b"), Split::TextAfterQuote);
    }

    proptest! {
        #[test]
        fn what_the_csv_crate_writes_is_read_back(texts in prop::collection::vec("[a-z,\"\r\n •]{0,12}", 1..12)) {
            let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
            writer.write_record(&texts).unwrap();
            let written = writer.into_inner().unwrap();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(split_at_commas(written.strip_suffix(b"\n").unwrap()), fields(&texts));
        }
    }
}
