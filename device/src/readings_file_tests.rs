//! Tests of `readings_file`.

use std::io::Write;

use super::*;

fn opened(bytes: &[u8]) -> Result<ReadingsFile, Failure> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    ReadingsFile::open(file.path())
}

/// Each row as `line:plate|...|speed` or `line!reason`.
fn rows(body: &[u8]) -> Vec<String> {
    let mut file = opened(&[HEADER.join(",").as_bytes(), b"\n", body].concat()).unwrap();
    rest(&mut file)
}

fn rest(file: &mut ReadingsFile) -> Vec<String> {
    let mut rows = Vec::new();
    while let Some(row) = file.next_row().unwrap() {
        rows.push(match row {
            Row::Reading { line, reading } => format!("{line}:{}", reading.fields.join("|")),
            Row::Rejected(row) => format!("{}!{}", row.line, row.reason),
        });
    }
    rows
}

#[test]
fn fields_go_through_untouched() {
    let got = rows("95B•140, 1,2 ,\"a, \"\"b\"\"\",,076\r\n\r\n x,1,2,3,4,5".as_bytes());
    assert_eq!(got, ["2:95B•140| 1|2 |a, \"b\"||076", "4: x|1|2|3|4|5"]);
}

#[test]
fn bad_rows_are_named_by_the_line_an_editor_shows() {
    let got = rows(b"a,1,2,3,4\r\n\r\nb,1,2,3,4,5,6\r\nc,1,2,Pe\xf1a,4,5\r\nd,1,2,3,4,5\r\n");
    assert_eq!(
        got,
        [
            "2!the row has 5 fields, the header has 6",
            "4!the row has 7 fields, the header has 6",
            "5!field `city` is not valid UTF-8",
            "6:d|1|2|3|4|5"
        ]
    );
}

#[test]
fn a_forgotten_quote_costs_its_own_line_only() {
    let got = rows(b"a,1,2,\"3,4,5\nb,1,2,3,4,5\nc,1,2,\"x\ny\",4,5\n");
    assert_eq!(got, ["2!a quote is opened and not closed", "3:b|1|2|3|4|5", "4:c|1|2|x\ny|4|5"]);
    let got = rows(b"a,1,2,\"3,4,5\nb,1,2,3,4,5\nc,1,2,3,4,5\n");
    assert_eq!(got, ["2!a quote is opened and not closed", "3:b|1|2|3|4|5", "4:c|1|2|3|4|5"]);
}

#[test]
fn line_breaks_inside_quotes_are_part_of_the_field() {
    assert_eq!(rows(b"a,1,2,\"x\r\ny\",4,5\nb,1,2,3,4,5\n"), ["2:a|1|2|x\r\ny|4|5", "4:b|1|2|3|4|5"]);
}

#[test]
fn endless_lines_and_endless_fields_are_skipped_with_bounded_memory() {
    let long = [b"a,1,2,".as_slice(), &vec![b'x'; 3 * MAX_LINE_BYTES], b",4,5\nb,1,2,3,4,5\n"].concat();
    assert_eq!(rows(&long), ["2!the line is longer than 1048576 bytes", "3:b|1|2|3|4|5"]);
    let wide = [vec![b','; 1_000].as_slice(), b"\nb,1,2,3,4,5\n"].concat();
    assert_eq!(rows(&wide), ["2!the row has more than 64 fields", "3:b|1|2|3|4|5"]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_header() {
    let text = format!("\u{feff}{}\r\na,1,2,3,4,5", HEADER.join(","));
    assert_eq!(rest(&mut opened(text.as_bytes()).unwrap()), ["2:a|1|2|3|4|5"]);
}

#[test]
fn a_wrong_header_says_what_was_expected_and_found() {
    for (text, found) in [("plate,lon\n1,2\n", "plate,lon"), ("", "the file is empty"), ("\n\n", "the file is empty")] {
        let Err(failure) = opened(text.as_bytes()) else { panic!("{text:?} was taken") };
        let said = failure.to_string();
        assert!(said.contains("licensePlate,longitude,latitude,city,state,speed") && said.contains(found), "{said}");
        assert_eq!(failure.exit_code(), 1);
    }
}

#[test]
fn well_formed_files_are_read_as_the_csv_crate_reads_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/samples/readings.csv");
    let ours: Vec<String> = rest(&mut ReadingsFile::open(Path::new(path)).unwrap());
    let theirs = csv::Reader::from_path(path).unwrap().into_records().map(Result::unwrap);
    let theirs: Vec<String> =
        theirs.enumerate().map(|(i, row)| format!("{}:{}", i + 2, row.iter().collect::<Vec<_>>().join("|"))).collect();
    assert_eq!(ours, theirs);
}
