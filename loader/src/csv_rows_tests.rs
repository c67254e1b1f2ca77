//! The dirt real files have, row by row, with the true line of each.

use super::*;

const OK: &str = "Ana,Inkwether,ABC-1,a@example.com,1 Mill Row,Foxgallow,Iowa,501,515-555-0100,5155550100";

fn rows_of(bytes: &[u8]) -> Vec<Row> {
    let mut rows = CsvRows::open(bytes).expect("a good header");
    std::iter::from_fn(|| rows.next_row().expect("memory does not fail")).collect()
}

fn file(lines: &[&str], end: &str) -> Vec<u8> {
    let mut text = contract::header();
    for line in lines {
        text.push_str(end);
        text.push_str(line);
    }
    text.into_bytes()
}

/// Lines of good rows, and lines of bad ones with their reason.
fn verdicts(bytes: &[u8]) -> Vec<(u64, Option<Reason>)> {
    let verdict = |row: Row| match row {
        Row::Good(row) => (row.line, None),
        Row::Bad(reject) => (reject.line, Some(reject.reason)),
    };
    rows_of(bytes).into_iter().map(verdict).collect()
}

#[test]
fn line_ends_and_a_missing_last_newline_change_no_value() {
    for end in ["\n", "\r\n"] {
        let rows = rows_of(&file(&[OK, OK], end));
        assert_eq!(rows.len(), 2);
        for (row, line) in rows.into_iter().zip([2, 3]) {
            let Row::Good(row) = row else { panic!("a good row") };
            assert_eq!((row.line, row.values[9].as_str(), row.values[7].as_str()), (line, "5155550100", "501"));
        }
    }
}

#[test]
fn each_bad_row_is_put_aside_with_its_true_line() {
    let long = OK.replace("ABC-1", &"P".repeat(65));
    let wide = OK.replace("ABC-1", &"•".repeat(22));
    let nul = OK.replace("Ana", "A\0na");
    let extra = format!("{OK},surplus");
    let no_plate = OK.replace("ABC-1", "");
    let blank_plate = OK.replace("ABC-1", "  ");
    let after = OK.replace("1 Mill Row", "\"1 Mill\" Row");
    let lines = [OK, &extra, "a,b", &no_plate, "", &blank_plate, &long, &wide, &nul, &after, OK];
    let expected = vec![
        (2, None),
        (3, Some(Reason::Ragged)),
        (4, Some(Reason::Ragged)),
        (5, Some(Reason::EmptyPlate)),
        (7, Some(Reason::EmptyPlate)),
        (8, Some(Reason::TooLong)),
        (9, Some(Reason::TooLong)),
        (10, Some(Reason::NulByte)),
        (11, Some(Reason::TextAfterQuote)),
        (12, None),
    ];
    assert_eq!(verdicts(&file(&lines, "\r\n")), expected);
    assert_eq!(verdicts(&file(&lines, "\n")), expected);
}

#[test]
fn a_field_may_hold_line_breaks_and_lines_stay_true_behind_it() {
    let broken = OK.replace("1 Mill Row", "\"1 Mill Row\r\nApt 9\"");
    let rows = rows_of(&file(&[&broken, OK, "x"], "\r\n"));
    let Row::Good(row) = &rows[0] else { panic!("a good row") };
    assert_eq!((row.line, row.values[4].as_str()), (2, "1 Mill Row\r\nApt 9"));
    let Row::Bad(reject) = &rows[2] else { panic!("a bad row") };
    assert_eq!(reject.line, 5);
}

#[test]
fn an_unclosed_quote_costs_one_line() {
    let open = OK.replace("1 Mill Row", "\"1 Mill Row");
    let quoted = OK.replace("1 Mill Row", "\"1 Mill Row, Apt 9\"");
    let expected = vec![(2, None), (3, Some(Reason::UnclosedQuote)), (4, None), (5, None)];
    assert_eq!(verdicts(&file(&[OK, &open, OK, OK], "\n")), expected);
    // The quote of a later row closes it by accident.
    assert_eq!(verdicts(&file(&[OK, &open, OK, &quoted], "\n")), expected);
    let mut many = vec![open.as_str()];
    many.resize(100, OK);
    let seen = verdicts(&file(&many, "\r\n"));
    assert_eq!((seen.len(), seen[0], seen[99]), (100, (2, Some(Reason::UnclosedQuote)), (101, None)));
}

#[test]
fn bytes_that_are_not_utf8_are_put_aside_whole() {
    let mut bytes = file(&[OK], "\n");
    bytes.extend_from_slice(b"\nAna,Ink,ABC-2,a@example.com,1 Mill Row,Pe\xf1a,Iowa,501,515-555-0100,5155550100\n");
    let rows = rows_of(&bytes);
    let Row::Bad(reject) = &rows[1] else { panic!("a bad row") };
    assert_eq!((reject.line, reject.reason, reject.column), (3, Reason::NotUtf8, Some("city")));
    assert!(reject.raw.contains(&0xf1));
}

#[test]
fn an_endless_line_is_cut_and_the_next_one_read() {
    let long = "x".repeat(3 * MAX_LINE_BYTES);
    assert_eq!(verdicts(&file(&[&long, OK], "\n")), vec![(2, Some(Reason::LineTooLong)), (3, None)]);
}

#[test]
fn headers_must_be_exact_but_for_a_byte_order_mark() {
    let mut marked = "\u{feff}".as_bytes().to_vec();
    marked.extend(file(&[OK], "\r\n"));
    assert_eq!(verdicts(&marked), vec![(2, None)]);
    assert!(matches!(CsvRows::open(&b""[..]), Err(FileFault::Empty)));
    assert!(matches!(CsvRows::open(&b"\xff\xfef\0i\0"[..]), Err(FileFault::Utf16)));
    assert!(matches!(CsvRows::open(&b"first,last,plate\r\n"[..]), Err(FileFault::Header { .. })));
    assert_eq!(verdicts(&file(&[], "")), vec![]);
    let said = |bytes: &[u8]| CsvRows::open(bytes).err().map(|fault| fault.to_string()).unwrap_or_default();
    assert!(said(b"first;last;plate").contains("`first;last;plate`"));
    let said = said(OK.as_bytes());
    assert!(said.contains("missing") && !said.contains("Ana") && !said.contains("555"), "{said}");
}
