//! Quarantines as they were written, mended by hand, and saved by spreadsheets.

use super::*;
use crate::rejects::RejectsFile;

const OK: &str = "Ana,Inkwether,ABC-1,a@example.com,\"1 Mill Row, Apt 9\",Foxgallow,Iowa,50301,515-555-0100,5155550100";

fn rejects() -> Vec<Reject> {
    let reject = |line: u64, reason, raw: &[u8]| Reject {
        line,
        byte: Some(line * 100),
        reason,
        column: None,
        detail: "why, \"exactly\"".into(),
        raw: raw.to_vec(),
    };
    vec![
        reject(3, Finding::Ragged, b"a,b"),
        reject(
            5,
            Finding::Undecodable,
            &OK.replace("Foxgallow", "Pe?a").bytes().map(|b| if b == b'?' { 0xf1 } else { b }).collect::<Vec<_>>(),
        ),
        reject(9, Finding::TooLong, OK.replace("Row,", "Row\r\n,").as_bytes()),
        reject(12, Finding::NulByte, &OK.replace("Ana", "A\0na").into_bytes()),
    ]
}

/// The text of both forms.
fn written() -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut file = RejectsFile::new(folder.path(), "l1");
    for reject in rejects() {
        file.write(&Origin { load_id: "l1".into(), file: "drivers.csv".into() }, &reject).unwrap();
    }
    let paths = file.finish().unwrap().unwrap();
    (std::fs::read_to_string(paths.ndjson).unwrap(), std::fs::read_to_string(paths.csv).unwrap())
}

fn read(text: &str) -> Result<Vec<RejectedRow>, FileFault> {
    let mut rows = RejectedRows::open(text.as_bytes(), &Arc::new(Contract::built_in()))?;
    std::iter::from_fn(|| rows.next_rejected().transpose()).collect()
}

fn rows_of(text: &str) -> Vec<Row> {
    let mut rows = RejectedRows::open(text.as_bytes(), &Arc::new(Contract::built_in())).unwrap();
    std::iter::from_fn(|| rows.next_row().unwrap()).collect()
}

#[test]
fn both_forms_give_back_every_byte_and_its_place() {
    let (ndjson, csv) = written();
    for text in [&ndjson, &csv] {
        let rows = read(text).unwrap();
        for (row, reject) in rows.iter().zip(rejects()) {
            assert_eq!((row.line, row.byte, &row.raw), (reject.line, reject.byte, &reject.raw));
            assert_eq!((row.origin.load_id.as_str(), row.origin.file.as_str()), ("l1", "drivers.csv"));
        }
        assert_eq!(rows.len(), 4);
    }
}

#[test]
fn a_quarantine_saved_by_a_spreadsheet_is_read_as_well() {
    let (_, csv) = written();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(csv.as_bytes());
    let mut writer = csv::WriterBuilder::new().delimiter(b';').terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    // The columns that nobody mends are taken away.
    for record in reader.records() {
        let record = record.unwrap();
        writer.write_record([0, 1, 2, 7, 8].map(|column| &record[column])).unwrap();
    }
    let saved = format!("\u{feff}{}", String::from_utf8(writer.into_inner().unwrap()).unwrap());
    let raws: Vec<Vec<u8>> = read(&saved).unwrap().into_iter().map(|row| row.raw).collect();
    assert_eq!(raws, rejects().into_iter().map(|reject| reject.raw).collect::<Vec<_>>());
}

#[test]
fn a_mended_text_counts_and_one_that_is_not_mended_stays_rejected() {
    let (ndjson, csv) = written();
    for text in [&ndjson, &csv] {
        let mended = text.replace("Pe\u{fffd}a", "Peña").replace("a,b", "a,b,c");
        let rows = rows_of(&mended);
        let Row::Broken(ragged) = &rows[0] else { panic!("still broken") };
        assert_eq!(
            (ragged.line, ragged.byte, ragged.reason, ragged.raw.as_slice()),
            (3, Some(300), Finding::Ragged, &b"a,b,c"[..])
        );
        let Row::Whole(city) = &rows[1] else { panic!("whole now") };
        assert_eq!((city.line, city.fields[5].as_slice()), (5, "Peña".as_bytes()));
    }
}

#[test]
fn what_is_no_quarantine_is_refused() {
    let said = |text: &str| read(text).unwrap_err().to_string();
    assert!(said(OK).contains("no quarantine of the loader: its header has no `load_id`"));
    assert!(said("{\"line\":1}\n").contains("its line 1 cannot be read"));
    assert!(said("load_id,file,line,raw\nl1,f,many,x\n").contains("its line 2 has no line number"));
    assert!(said("load_id,file,line,raw\nl1,f,2\n").contains("3 fields instead of 4"));
    assert_eq!(said(""), "the file is empty");
}
