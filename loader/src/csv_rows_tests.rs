//! The dirt real files have, row by row, with the true line of each.

use super::*;

const OK: &str = "Ana,Inkwether,ABC-1,a@example.com,1 Mill Row,Foxgallow,Iowa,501,515-555-0100,5155550100";

fn rows_of(bytes: &[u8]) -> Vec<Row> {
    let mut rows = CsvRows::new(bytes, MAX_LINE_BYTES);
    rows.header_line().expect("memory does not fail");
    rows.expect(b',', COLUMNS.len());
    std::iter::from_fn(|| rows.next_row().expect("memory does not fail")).collect()
}

fn file(lines: &[&str], end: &str) -> Vec<u8> {
    let mut text = "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone".to_owned();
    for line in lines {
        text.push_str(end);
        text.push_str(line);
    }
    text.into_bytes()
}

/// Lines of whole rows, and lines of broken ones with their reason. Each must stand where it says.
fn verdicts(bytes: &[u8]) -> Vec<(u64, Option<Finding>)> {
    let verdict = |row: Row| {
        let (line, byte, raw, reason) = match row {
            Row::Whole(record) => (record.line, record.byte, record.raw, None),
            Row::Broken(reject) => (reject.line, reject.byte, reject.raw, Some(reject.reason)),
        };
        let byte = usize::try_from(byte.expect("known")).expect("small");
        assert!(bytes[byte..].starts_with(&raw), "line {line} is not at byte {byte}");
        let line_there = 1 + bytes[..byte].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(line, line_there as u64);
        (line, reason)
    };
    rows_of(bytes).into_iter().map(verdict).collect()
}

fn whole(row: &Row) -> &Record {
    match row {
        Row::Whole(record) => record,
        Row::Broken(reject) => panic!("a whole row, not {reject:?}"),
    }
}

#[test]
fn line_ends_and_a_missing_last_newline_change_no_value() {
    for end in ["\n", "\r\n"] {
        let bytes = file(&[OK, OK], end);
        assert_eq!(verdicts(&bytes), [(2, None), (3, None)]);
        let rows = rows_of(&bytes);
        for row in &rows {
            assert_eq!((&whole(row).fields[9][..], &whole(row).fields[7][..]), (&b"5155550100"[..], &b"501"[..]));
        }
    }
}

#[test]
fn each_broken_row_is_put_aside_with_its_true_line() {
    let extra = format!("{OK},surplus");
    let after = OK.replace("1 Mill Row", "\"1 Mill\" Row");
    let expected =
        vec![(2, None), (3, Some(Finding::Ragged)), (4, Some(Finding::Ragged)), (6, Some(Finding::TextAfterQuote)), (7, None)];
    let lines = [OK, &extra, "a,b", "", &after, OK];
    assert_eq!(verdicts(&file(&lines, "\r\n")), expected);
    assert_eq!(verdicts(&file(&lines, "\n")), expected);
}

#[test]
fn a_field_may_hold_line_breaks_and_lines_stay_true_behind_it() {
    let broken = OK.replace("1 Mill Row", "\"1 Mill Row\r\nApt 9\"");
    let bytes = file(&[&broken, OK, "x"], "\r\n");
    assert_eq!(verdicts(&bytes), [(2, None), (4, None), (5, Some(Finding::Ragged))]);
    assert_eq!(whole(&rows_of(&bytes)[0]).fields[4], b"1 Mill Row\r\nApt 9");
}

#[test]
fn an_unclosed_quote_costs_one_line() {
    let open = OK.replace("1 Mill Row", "\"1 Mill Row");
    let quoted = OK.replace("1 Mill Row", "\"1 Mill Row, Apt 9\"");
    let expected = vec![(2, None), (3, Some(Finding::UnclosedQuote)), (4, None), (5, None)];
    assert_eq!(verdicts(&file(&[OK, &open, OK, OK], "\n")), expected);
    // The quote of a later row closes it by accident.
    assert_eq!(verdicts(&file(&[OK, &open, OK, &quoted], "\n")), expected);
    let mut many = vec![open.as_str()];
    many.resize(100, OK);
    let seen = verdicts(&file(&many, "\r\n"));
    assert_eq!((seen.len(), seen[0], seen[99]), (100, (2, Some(Finding::UnclosedQuote)), (101, None)));
}

#[test]
fn an_endless_line_is_cut_and_the_next_one_read() {
    let long = "x".repeat(3 * MAX_LINE_BYTES);
    assert_eq!(verdicts(&file(&[&long, OK], "\n")), vec![(2, Some(Finding::LineTooLong)), (3, None)]);
}

#[test]
fn the_layout_tells_how_the_file_is_written() {
    let layout_of = |bytes: &[u8]| {
        let mut rows = CsvRows::new(bytes, MAX_LINE_BYTES);
        while rows.next_row().unwrap().is_some() {}
        (rows.layout(), rows.bytes_read())
    };
    let expected = Layout { lf: 1, crlf: 1, open_end: true, quotes: false };
    assert_eq!(layout_of(b"a\r\nb\nc"), (expected, 6));
    assert_eq!(layout_of(b"\"a\"\n").0, Layout { lf: 1, quotes: true, ..Layout::default() });
}
