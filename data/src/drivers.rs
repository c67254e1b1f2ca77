//! Driver rows.

use std::fmt;
use std::io::{self, Write};

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use serde::Serialize;

use crate::args::Dirt;
use crate::plates::{Purpose, driver_plate, row_rng};
use crate::row_writer::RowWriter;
use crate::words::{AREA_CODES, CITIES, FIRST_NAMES, LAST_NAMES, NON_ASCII_CITIES, STATES, STREETS};

pub(crate) const HEADER: [&str; 10] =
    ["first_name", "last_name", "licensePlate", "email", "address", "city", "state", "zipcode", "phoneNumber", "myphone"];

/// What the file holds, for whoever checks counts against it.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct DriversSummary {
    pub(crate) rows: u64,
    pub(crate) seed: u64,
    pub(crate) non_ascii_plates: u64,
    pub(crate) short_zips: u64,
    /// Among the rows that are not bad.
    pub(crate) bad_myphones: u64,
    pub(crate) ragged_rows: u64,
    pub(crate) empty_plates: u64,
}

impl fmt::Display for DriversSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} drivers (seed {}): {} plates outside ASCII, {} short zips, {} bad myphones, {} ragged rows, {} empty plates",
            self.rows, self.seed, self.non_ascii_plates, self.short_zips, self.bad_myphones, self.ragged_rows, self.empty_plates
        )
    }
}

pub(crate) fn write_drivers<W: Write>(rows: u64, seed: u64, dirt: &Dirt, out: &mut RowWriter<W>) -> io::Result<DriversSummary> {
    let mut summary = DriversSummary { rows, seed, ..DriversSummary::default() };
    out.row(&HEADER)?;
    for row in 0..rows {
        let mut rng = row_rng(seed, Purpose::Driver, row);
        let mut fields = driver(row, seed, dirt, &mut rng);
        if rng.random_bool(dirt.bad_rows) {
            match rng.random_range(0..3) {
                0 => fields[2].clear(),
                1 => drop(fields.pop()),
                _ => fields.push("surplus".to_owned()),
            }
        }
        count(&fields, &mut summary);
        out.row(&fields)?;
    }
    Ok(summary)
}

fn driver(row: u64, seed: u64, dirt: &Dirt, rng: &mut impl Rng) -> Vec<String> {
    let (first, last) = (pick(&FIRST_NAMES, rng), pick(&LAST_NAMES, rng));
    let plate = driver_plate(seed, row, dirt);
    let email = format!("{}.{}.{row}@example.com", first.to_lowercase(), last.to_lowercase());
    let mut address = format!("{} {}", rng.random_range(1..9_999), pick(&STREETS, rng));
    if rng.random_bool(dirt.quoted) {
        address = format!("{address}, Apt {}", rng.random_range(1..200));
    }
    let zip = rng.random_range(501..99_951);
    let zip = if dirt.lost_zip_zeros { format!("{zip}") } else { format!("{zip:05}") };
    let area = AREA_CODES.choose(rng).copied().unwrap_or(202);
    let phone = phone_number(area, rng.random_range(0..100), dirt.odd_phones, rng);
    vec![
        first.to_owned(),
        last.to_owned(),
        plate,
        email,
        address,
        city(dirt, rng),
        pick(&STATES, rng).to_owned(),
        zip,
        phone,
        myphone(row, seed, dirt, rng),
    ]
}

pub(crate) fn city(dirt: &Dirt, rng: &mut impl Rng) -> String {
    let name = if rng.random_bool(dirt.non_ascii) { pick(&NON_ASCII_CITIES, rng) } else { pick(&CITIES, rng) };
    if rng.random_bool(dirt.quoted) { format!("{name}, Lower Ward") } else { name.to_owned() }
}

pub(crate) fn pick(words: &[&'static str], rng: &mut impl Rng) -> &'static str {
    words.choose(rng).copied().unwrap_or_default()
}

/// The column nobody texts: as people type numbers, many of them not dialable.
fn phone_number(area: u16, last: u8, odd: bool, rng: &mut impl Rng) -> String {
    let shape = if odd { rng.random_range(0..7) } else { 0 };
    match shape {
        0 => format!("{area}-555-01{last:02}"),
        1 => format!("({area})555-01{last:02}"),
        2 => format!("001-{area}-555-01{last:02}x{:05}", rng.random_range(0..100_000)),
        3 => format!("+1-{area}-555-01{last:02}"),
        4 => format!("{area}.555.01{last:02}x{:03}", rng.random_range(0..1_000)),
        5 => format!("55501{last:02}"),
        _ => format!("{area}55501{last:02}"),
    }
}

/// The number that is texted. It follows the row, so the first 12,000 drivers of a file have distinct numbers.
fn myphone(row: u64, seed: u64, dirt: &Dirt, rng: &mut impl Rng) -> String {
    let n = row.wrapping_add(seed);
    let areas = AREA_CODES.len() as u64;
    let area = AREA_CODES[usize::try_from(n % areas).unwrap_or(0)];
    let last = n / areas % 100;
    if rng.random_bool(dirt.bad_myphone) {
        return match rng.random_range(0..4) {
            0 => String::new(),
            1 => format!("55501{last:02}"),
            2 => "n/a".to_owned(),
            _ => format!("{area}55501{last:02}99"),
        };
    }
    match rng.random_range(0..10) {
        0 if dirt.odd_phones => format!("+1{area}55501{last:02}"),
        1 if dirt.odd_phones => format!("({area}) 555-01{last:02}"),
        _ => format!("{area}55501{last:02}"),
    }
}

fn count(fields: &[String], summary: &mut DriversSummary) {
    if fields.len() != HEADER.len() {
        summary.ragged_rows += 1;
        return;
    }
    if fields[2].is_empty() {
        summary.empty_plates += 1;
        return;
    }
    summary.non_ascii_plates += u64::from(!fields[2].is_ascii());
    summary.short_zips += u64::from(fields[7].len() < 5);
    summary.bad_myphones += u64::from(!is_textable(&fields[9]));
}

/// True for the shapes `myphone` makes on purpose; a test holds it against the library that judges numbers.
fn is_textable(myphone: &str) -> bool {
    let digits = myphone.chars().filter(char::is_ascii_digit).count();
    digits == if myphone.starts_with('+') { 11 } else { 10 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use phonenumber::country::Id;

    use super::*;

    #[test]
    fn every_area_code_makes_valid_numbers_for_the_notifier() {
        for area in AREA_CODES {
            for last in [0, 23, 99] {
                let text = format!("{area}55501{last:02}");
                let number = phonenumber::parse(Some(Id::US), &text).unwrap();
                assert!(phonenumber::is_valid(&number), "{text}");
            }
        }
    }

    #[test]
    fn summary_and_library_agree_on_which_numbers_can_be_texted() {
        let args = crate::args::Cli::try_parse_from(["x", "drivers", "--dirt", "heavy", "--bad-myphone-share", "0.3"]).unwrap();
        let crate::args::Command::Drivers(args) = args.command else { panic!("not drivers") };
        let dirt = args.dirt.resolve();
        for row in 0..2_000 {
            let text = myphone(row, 3, &dirt, &mut row_rng(3, Purpose::Driver, row));
            let valid = phonenumber::parse(Some(Id::US), &text).is_ok_and(|n| phonenumber::is_valid(&n));
            assert_eq!(valid, is_textable(&text), "{text}");
        }
    }

    use clap::Parser as _;
}
