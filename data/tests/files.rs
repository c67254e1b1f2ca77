//! Runs the program and holds its files, the committed samples and the golden records against what they promise.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sha2::{Digest, Sha256};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_speedtrap-data")).args(args).output().unwrap()
}

fn made(args: &[&str]) -> Vec<u8> {
    let out = run(args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn in_data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn rows(bytes: &[u8]) -> Vec<csv::StringRecord> {
    csv::ReaderBuilder::new().has_headers(false).from_reader(bytes).records().map(Result::unwrap).collect()
}

#[test]
fn the_same_seed_makes_the_same_bytes_and_another_seed_others() {
    for kind in ["drivers", "readings"] {
        let first = made(&[kind, "--rows", "500", "--seed", "9", "--dirt", "heavy"]);
        assert_eq!(first, made(&[kind, "--rows", "500", "--seed", "9", "--dirt", "heavy"]));
        assert_ne!(first, made(&[kind, "--rows", "500", "--seed", "10", "--dirt", "heavy"]));
    }
}

#[test]
fn committed_samples_are_what_the_generator_makes() {
    let drivers = in_data("samples/drivers.csv");
    assert_eq!(made(&["drivers", "--rows", "1000", "--seed", "1"]), std::fs::read(&drivers).unwrap());
    let drivers = drivers.to_str().unwrap();
    let args = ["readings", "--rows", "1000", "--seed", "1", "--drivers", drivers, "--unknown-share", "0.006"];
    assert_eq!(made(&args), std::fs::read(in_data("samples/readings.csv")).unwrap());
}

#[test]
fn sample_drivers_have_the_promised_dirt_and_nothing_to_reject() {
    let bytes = std::fs::read(in_data("samples/drivers.csv")).unwrap();
    assert!(!bytes.ends_with(b"\n") && bytes.windows(2).any(|w| w == b"\r\n"));
    let rows = rows(&bytes);
    assert_eq!(rows.len(), 1_001);
    let header = "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone";
    assert_eq!(rows[0].iter().collect::<Vec<_>>().join(","), header);
    let rows = &rows[1..];
    let plates: HashSet<_> = rows.iter().map(|r| r[2].trim().to_uppercase()).collect();
    assert_eq!(plates.len(), 1_000, "a plate stands twice");
    assert!(rows.iter().any(|r| !r[2].is_ascii()));
    assert!(rows.iter().any(|r| r[4].contains(',')));
    assert!(rows.iter().any(|r| r[7].len() < 5));
    for row in rows {
        let number = phonenumber::parse(Some(phonenumber::country::Id::US), &row[9]).unwrap();
        assert!(phonenumber::is_valid(&number), "{}", &row[9]);
        assert!(!row[2].trim().is_empty() && row[2].len() <= 64);
    }
    // 120 area codes by 100 numbers: the owners of a small file can be told apart by their texts.
    let e164 = |r: &csv::StringRecord| {
        let number = phonenumber::parse(Some(phonenumber::country::Id::US), &r[9]).unwrap();
        number.format().mode(phonenumber::Mode::E164).to_string()
    };
    assert_eq!(rows.iter().map(e164).collect::<HashSet<_>>().len(), 1_000);
}

#[test]
fn sample_readings_have_the_promised_speeds_and_a_few_unknown_plates() {
    let drivers = rows(&std::fs::read(in_data("samples/drivers.csv")).unwrap());
    let known: HashSet<_> = drivers.iter().skip(1).map(|r| r[2].to_uppercase()).collect();
    let rows = rows(&std::fs::read(in_data("samples/readings.csv")).unwrap());
    assert_eq!(rows[0].iter().collect::<Vec<_>>().join(","), "licensePlate,longitude,latitude,city,state,speed");
    let rows = &rows[1..];
    assert_eq!(rows.len(), 1_000);
    let speeds: Vec<u16> = rows.iter().map(|r| r[5].parse().unwrap()).collect();
    assert!(speeds.iter().all(|s| (60..=110).contains(s)));
    assert_eq!(speeds.iter().filter(|s| **s > 75).count(), 696);
    assert_eq!(speeds.iter().filter(|s| **s == 75).count(), 21);
    assert_eq!(rows.iter().filter(|r| !known.contains(&r[0].to_uppercase())).count(), 10);
}

#[test]
fn every_reading_has_a_known_plate_unless_asked_otherwise() {
    let drivers = rows(&made(&["drivers", "--rows", "50", "--seed", "4"]));
    let known: HashSet<_> = drivers.iter().skip(1).map(|r| r[2].to_owned()).collect();
    let readings = rows(&made(&["readings", "--rows", "2000", "--seed", "4", "--driver-rows", "50"]));
    assert!(readings.iter().skip(1).all(|r| known.contains(&r[0])));
    let strangers = rows(&made(&["readings", "--rows", "100", "--driver-rows", "50", "--unknown-share", "1"]));
    assert!(strangers.iter().skip(1).all(|r| !known.contains(&r[0])));
}

#[test]
fn summary_counts_what_heavy_dirt_put_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("readings.csv");
    let out = made(&["readings", "--rows", "5000", "--dirt", "heavy", "--json", "--out", path.to_str().unwrap()]);
    let summary: Value = serde_json::from_slice(&out).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes.as_slice());
    let rows: Vec<_> = reader.into_records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 5_000);
    let ragged = rows.iter().filter(|r| r.len() != 6).count();
    let over = rows.iter().filter(|r| r.len() == 6 && r[5].parse::<u16>().is_ok_and(|s| s > 75)).count();
    let bad = rows.iter().filter(|r| r.len() == 6 && r[5].parse::<u16>().is_err()).count();
    assert!(ragged > 0 && bad > 0);
    assert_eq!(summary["ragged_rows"], ragged);
    assert_eq!(summary["over_75"], over);
    assert_eq!(summary["bad_speeds"], bad);
}

#[test]
fn a_missing_drivers_file_and_a_folder_that_is_not_there_are_explained() {
    for args in [["readings", "--drivers", "no/such/file.csv"], ["drivers", "--out", "no/such/folder/file.csv"]] {
        let out = run(&args);
        assert_eq!(out.status.code(), Some(1));
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(text.contains("no/such/") && !text.contains("panicked"), "{text}");
    }
    assert_eq!(run(&["drivers", "--bad-row-share", "7"]).status.code(), Some(2));
}

#[test]
fn golden_records_agree_with_themselves() {
    let text = std::fs::read_to_string(in_data("golden/readings.ndjson")).unwrap();
    let order = ["iottimestamp", "licensePlate", "longitude", "latitude", "city", "state", "speed"];
    for line in text.lines() {
        let golden: Value = serde_json::from_str(line).unwrap();
        let values: Vec<&str> = order.iter().map(|name| golden["reading"][name].as_str().unwrap()).collect();
        let hashed: String = values.iter().map(|v| format!("{}:{v}", v.len())).collect();
        let id: String = Sha256::digest(hashed).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(golden["eventId"], id.as_str(), "{line}");
        let members: Vec<String> =
            order.iter().zip(&values).map(|(name, v)| format!("\"{name}\":{}", serde_json::to_string(v).unwrap())).collect();
        assert_eq!(golden["json"].as_str().unwrap(), format!("{{{}}}", members.join(",")));
    }
    assert!(text.lines().count() >= 6 && !text.is_ascii());
}
