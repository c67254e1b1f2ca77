//! Rows and what is found wrong with them.

use std::path::Path;

use super::*;
use crate::contract::PLATE;

const OK: [&str; 10] =
    ["Ana", "Inkwether", "ABC-1", "a@example.com", "1 Mill Row", "Foxgallow", "Iowa", "50301", "515-555-0100", "5155550100"];
const ZIP: usize = 7;
const PHONE: usize = 8;
const MYPHONE: usize = 9;

fn row(fields: [&[u8]; 10]) -> Row {
    let raw = fields.join(&b","[..]);
    Row::Whole(Record { line: 7, byte: Some(90), fields: fields.map(<[u8]>::to_vec).to_vec(), raw })
}

fn judged(contract: Contract, column: usize, value: &[u8]) -> Verdict {
    let mut fields = OK.map(str::as_bytes);
    fields[column] = value;
    Judge::new(Arc::new(contract)).judge(row(fields))
}

fn warnings_of(column: usize, value: &str) -> Vec<Finding> {
    match judged(Contract::built_in(), column, value.as_bytes()) {
        Verdict::Load { row, warnings } => {
            assert_eq!(row.values[column], value, "it is loaded as it stands");
            assert!(warnings.iter().all(|warning| warning.column == column));
            warnings.into_iter().map(|warning| warning.finding).collect()
        }
        Verdict::Reject(reject) => panic!("{value} is loaded: {reject:?}"),
    }
}

fn reject_of(contract: Contract, column: usize, value: &[u8]) -> Reject {
    match judged(contract, column, value) {
        Verdict::Reject(reject) => reject,
        Verdict::Load { .. } => panic!("`{}` is rejected", String::from_utf8_lossy(value)),
    }
}

#[test]
fn good_values_are_loaded_as_they_stand_without_a_word() {
    for (column, value) in [
        (PLATE, "95B•140"),
        (PLATE, " abc 1 "),
        (3, ""),
        (4, "1 Mill Row\r\nApt 9"),
        (ZIP, "50301-1234"),
        (ZIP, ""),
        (PHONE, ""),
        (MYPHONE, "+1 (515) 555-0100"),
    ] {
        assert_eq!(warnings_of(column, value), [], "{value}");
    }
}

#[test]
fn what_a_warehouse_can_hold_is_loaded_with_a_warning() {
    for (column, value, expected) in [
        (3, "ana at example.com", &[Finding::BadEmail][..]),
        (PHONE, "001-515-555-0100x123", &[Finding::BadPhoneNumber]),
        (MYPHONE, "n/a", &[Finding::InvalidMyphone]),
        (MYPHONE, "", &[Finding::InvalidMyphone]),
        (ZIP, "501", &[Finding::ShortZip]),
        (PLATE, "6.00E+272", &[Finding::ExcelDamage]),
        (PLATE, "3-Mar", &[Finding::ExcelDamage]),
        (PHONE, "5.16E+09", &[Finding::ExcelDamage, Finding::BadPhoneNumber]),
        (5, "#REF!", &[Finding::ExcelDamage]),
        (0, "A\u{7}na", &[Finding::ControlCharacter]),
        (5, "Pe\u{fffd}a", &[Finding::ReplacementCharacter]),
    ] {
        assert_eq!(warnings_of(column, value), expected, "{value}");
    }
}

#[test]
fn what_no_warehouse_can_hold_is_rejected_with_line_byte_column_and_raw_text() {
    for (column, value, reason) in [
        (PLATE, &b""[..], Finding::EmptyPlate),
        (PLATE, b"  ", Finding::EmptyPlate),
        (PLATE, "•".repeat(22).as_bytes(), Finding::TooLong),
        (ZIP, &[b'1'; 17], Finding::TooLong),
        (5, b"Pe\xf1a", Finding::Undecodable),
        (0, b"A\0na", Finding::NulByte),
    ] {
        let reject = reject_of(Contract::built_in(), column, value);
        assert_eq!((reject.line, reject.byte, reject.reason), (7, Some(90), reason));
        assert_eq!(reject.column.as_deref(), Some(COLUMNS[column].name));
        assert!(reject.raw.windows(value.len().max(1)).any(|part| part == value || value.is_empty()));
    }
}

#[test]
fn a_header_between_rows_is_no_driver() {
    let names = Contract::built_in().header();
    let fields: Vec<&[u8]> = names.split(',').map(str::as_bytes).collect();
    let row = row(fields.try_into().unwrap());
    let Verdict::Reject(reject) = Judge::new(Arc::new(Contract::built_in())).judge(row) else { panic!("a reject") };
    assert_eq!((reject.reason, reject.column), (Finding::RepeatedHeader, None));
}

#[test]
fn all_errors_of_a_row_are_told_at_once() {
    let mut fields = OK.map(str::as_bytes);
    (fields[PLATE], fields[5]) = (b"", b"Pe\xf1a");
    let Verdict::Reject(reject) = Judge::new(Arc::new(Contract::built_in())).judge(row(fields)) else { panic!("a reject") };
    assert_eq!((reject.reason, reject.detail.as_str()), (Finding::EmptyPlate, "no licence plate; also undecodable in city"));
}

#[test]
fn the_contract_decides_what_is_an_error_and_what_is_made_of_values() {
    let with = |from: &str, to: &str| {
        let text = Contract::built_in_text();
        assert!(text.contains(from));
        Contract::parse(Path::new("mine.toml"), &text.replacen(from, to, 1)).unwrap()
    };
    let strict = with("invalid_myphone = \"warn\"", "invalid_myphone = \"error\"");
    assert_eq!(reject_of(strict, MYPHONE, b"n/a").reason, Finding::InvalidMyphone);
    let padded = with("check = \"zip\"", "check = \"zip\"\npad = 5");
    let Verdict::Load { row, warnings } = judged(padded, ZIP, b"501") else { panic!("loaded") };
    assert_eq!((row.values[ZIP].as_str(), warnings.len()), ("00501", 0));
    let trimmed = with("check = \"plate\"", "check = \"plate\"\ntrim = true");
    let Verdict::Load { row, .. } = judged(trimmed, PLATE, b" ABC-1 ") else { panic!("loaded") };
    assert_eq!(row.values[PLATE], "ABC-1");
    let required = with("check = \"email\"", "check = \"email\"\nrequired = true");
    assert_eq!(reject_of(required, 3, b" ").reason, Finding::EmptyValue);
}

#[test]
fn columns_that_fill_nothing_are_checked_and_left_out() {
    let text = Contract::built_in_text().replacen("warehouse = \"first_name\"\n", "", 1).replacen("bytes = 256", "bytes = 2", 1);
    let contract = Contract::parse(Path::new("mine.toml"), &text).unwrap();
    assert_eq!(reject_of(contract.clone(), 1, b"Inkwether").reason, Finding::TooLong);
    let Verdict::Load { row, .. } = judged(contract, 0, b"A") else { panic!("loaded") };
    assert_eq!((row.values[0].as_str(), row.values[1].as_str()), ("", "Inkwether"));
}
