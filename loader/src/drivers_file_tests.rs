//! Files that are drivers files, and those that only look like one.

use super::*;

const HEADER: &str = "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone";
const OK: &str = "Ana,Inkwether,ABC-1,a@example.com,1 Mill Row,Foxgallow,Iowa,50301,515-555-0100,5155550100";

fn built_in() -> Arc<Contract> {
    Arc::new(Contract::built_in())
}

fn rows_in(bytes: &[u8]) -> usize {
    let mut file = DriversFile::open(bytes, &built_in()).expect("a good header");
    std::iter::from_fn(|| file.rows.next_row().expect("memory does not fail")).count()
}

fn said(bytes: &[u8]) -> String {
    DriversFile::open(bytes, &built_in()).err().expect("a fault").to_string()
}

#[test]
fn a_byte_order_mark_any_line_end_and_no_rows_are_fine() {
    assert_eq!(rows_in(format!("\u{feff}{HEADER}\r\n{OK}").as_bytes()), 1);
    assert!(DriversFile::open(format!("\u{feff}{HEADER}\n").as_bytes(), &built_in()).unwrap().bom);
    assert_eq!(rows_in(HEADER.as_bytes()), 0);
    assert_eq!(rows_in(format!("{HEADER}\r\n\r\n\r\n").as_bytes()), 0);
    assert_eq!(rows_in(format!("{}\n{OK}\n", HEADER.replace("city", "\"city\"")).as_bytes()), 1);
}

#[test]
fn what_is_no_csv_is_called_by_its_name() {
    assert_eq!(said(b""), "the file is empty");
    assert!(said(b"\x1f\x8b\x08\0\0\0\0\0").contains("gzip"));
    assert!(said(b"PK\x03\x04\x14\0").contains("spreadsheet"));
    let utf16 = |mark: &[u8], order: fn(u16) -> [u8; 2]| {
        let mut bytes = mark.to_vec();
        bytes.extend(HEADER.encode_utf16().chain("\r\n".encode_utf16()).flat_map(order));
        bytes
    };
    for bytes in [utf16(b"\xff\xfe", u16::to_le_bytes), utf16(b"\xfe\xff", u16::to_be_bytes), utf16(b"", u16::to_le_bytes)] {
        assert_eq!(said(&bytes), "the file is UTF-16");
    }
    assert!(said(format!("{HEADER}\r{OK}\r{OK}\r").as_bytes()).contains("carriage return"));
}

#[test]
fn a_wrong_header_is_told_by_what_is_wrong() {
    for (header, faults) in [
        (HEADER.replace(",myphone", ""), &["`myphone` is missing"][..]),
        (HEADER.replace("licensePlate", "licenseplate"), &["`licensePlate` is missing (it is written `licenseplate`)"]),
        (HEADER.replace("city", "email"), &["`city` is missing", "`email` stands there twice"]),
        (format!("{HEADER},insurer"), &["`insurer` is not in the contract"]),
        (HEADER.replace("first_name,last_name", "last_name,first_name"), &["another order"]),
        (HEADER.replace(',', ";"), &["separated by `;`, not by `,`"]),
        (HEADER.replace(',', "\t"), &["separated by a tab, not by `,`"]),
    ] {
        let said = said(format!("{header}\r\n{OK}\r\n").as_bytes());
        assert!(faults.iter().all(|fault| said.contains(fault)) && said.contains(HEADER), "{said}");
    }
}

#[test]
fn a_missing_header_is_told_without_showing_the_people_in_its_place() {
    let said = said(format!("{OK}\r\n{OK}").as_bytes());
    assert!(said.contains("missing") && !said.contains("Ana") && !said.contains("555"), "{said}");
}

#[test]
fn other_delimiters_are_read_if_the_contract_has_them() {
    let semicolons = Arc::new(Contract { delimiter: b';', ..Contract::built_in() });
    let text = format!("{HEADER}\r\n{OK}").replace(',', ";");
    let mut file = DriversFile::open(text.as_bytes(), &semicolons).unwrap();
    let Some(crate::csv_rows::Row::Whole(record)) = file.rows.next_row().unwrap() else { panic!("a whole row") };
    assert_eq!(record.fields[2], b"ABC-1");
}
