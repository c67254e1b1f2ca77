//! Reading rows.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rand::{Rng, RngExt};
use serde::Serialize;

use crate::args::{Dirt, ReadingsArgs};
use crate::drivers::{city, pick};
use crate::plates::{Purpose, driver_plate, row_rng, unknown_plate};
use crate::row_writer::RowWriter;
use crate::words::STATES;

pub(crate) const HEADER: [&str; 6] = ["licensePlate", "longitude", "latitude", "city", "state", "speed"];

/// This row (from 0) is always exactly at the limit, so that any file of five rows or more tests it.
const ROW_AT_LIMIT: u64 = 4;

/// Where the plates of known drivers come from.
pub(crate) enum PlateSource {
    /// The plates of a drivers file, all in memory (about 60 bytes each).
    File { plates: Vec<String>, known: HashSet<String> },
    /// The drivers that `speedtrap-data drivers` would make.
    Made { rows: u64 },
}

impl PlateSource {
    pub(crate) fn open(args: &ReadingsArgs) -> Result<Self> {
        match &args.drivers {
            Some(path) => Self::from_file(path),
            None => Ok(Self::Made { rows: args.driver_rows }),
        }
    }

    fn from_file(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_path(path)
            .with_context(|| format!("cannot read the drivers file `{shown}`"))?;
        let header = reader.headers().with_context(|| format!("`{shown}` has no readable header"))?;
        let Some(column) = header.iter().position(|name| name.trim_start_matches('\u{feff}') == "licensePlate") else {
            bail!("`{shown}` has no column `licensePlate`; a drivers file begins with {}", crate::drivers::HEADER.join(","));
        };
        let width = header.len();
        let mut plates = Vec::new();
        for row in reader.records() {
            let row = row.with_context(|| format!("failed to read `{shown}`"))?;
            // Ragged rows and rows without plate are rejected by the loader, so their plates are not known ones.
            if row.len() == width && !row[column].trim().is_empty() {
                plates.push(row[column].trim().to_owned());
            }
        }
        if plates.is_empty() {
            bail!("`{shown}` holds no plate to draw from");
        }
        let known = plates.iter().map(|p| p.to_uppercase()).collect();
        Ok(Self::File { plates, known })
    }

    fn known(&self, seed: u64, dirt: &Dirt, rng: &mut impl Rng) -> String {
        match self {
            Self::File { plates, .. } => plates[rng.random_range(0..plates.len())].clone(),
            Self::Made { rows } => driver_plate(seed, rng.random_range(0..*rows), dirt),
        }
    }

    fn is_known(&self, plate: &str) -> bool {
        match self {
            Self::File { known, .. } => known.contains(&plate.to_uppercase()),
            Self::Made { .. } => false,
        }
    }
}

/// What the file holds, for whoever checks counts against it. All but `rows` and `ragged_rows` count the other rows.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct ReadingsSummary {
    pub(crate) rows: u64,
    pub(crate) seed: u64,
    pub(crate) over_75: u64,
    pub(crate) exactly_75: u64,
    pub(crate) unknown_plates: u64,
    /// Above 75 and with a known plate: the texts to expect if every driver's number is good.
    pub(crate) over_75_known: u64,
    pub(crate) bad_speeds: u64,
    pub(crate) ragged_rows: u64,
}

impl fmt::Display for ReadingsSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} readings (seed {}): {} above 75 ({} of known plates), {} exactly 75, {} unknown plates, {} bad speeds, {} ragged rows",
            self.rows,
            self.seed,
            self.over_75,
            self.over_75_known,
            self.exactly_75,
            self.unknown_plates,
            self.bad_speeds,
            self.ragged_rows
        )
    }
}

pub(crate) fn write_readings<W: Write>(
    args: &ReadingsArgs,
    plates: &PlateSource,
    dirt: &Dirt,
    out: &mut RowWriter<W>,
) -> io::Result<ReadingsSummary> {
    let seed = args.seed();
    let mut summary = ReadingsSummary { rows: args.rows(), seed, ..ReadingsSummary::default() };
    out.row(&HEADER)?;
    for row in 0..args.rows() {
        let mut rng = row_rng(seed, Purpose::Reading, row);
        let unknown = rng.random_bool(args.unknown_share);
        let plate = if unknown {
            loop {
                let plate = unknown_plate(&mut rng);
                if !plates.is_known(&plate) {
                    break plate;
                }
            }
        } else {
            plates.known(seed, dirt, &mut rng)
        };
        let speed = speed(row, &mut rng);
        let bad_speed = row != ROW_AT_LIMIT && rng.random_bool(dirt.bad_speeds);
        let mut fields = vec![
            plate,
            degrees(180, &mut rng),
            degrees(90, &mut rng),
            city(dirt, &mut rng),
            pick(&STATES, &mut rng).to_owned(),
            if bad_speed { pick(&["75.9", "-1", "fast", "NaN", ""], &mut rng).to_owned() } else { speed.to_string() },
        ];
        if row != ROW_AT_LIMIT && rng.random_bool(dirt.bad_rows) {
            if rng.random_bool(0.5) {
                drop(fields.pop())
            } else {
                fields.push("surplus".to_owned())
            }
            summary.ragged_rows += 1;
        } else if bad_speed {
            summary.bad_speeds += 1;
            summary.unknown_plates += u64::from(unknown);
        } else {
            summary.over_75 += u64::from(speed > 75);
            summary.exactly_75 += u64::from(speed == 75);
            summary.unknown_plates += u64::from(unknown);
            summary.over_75_known += u64::from(speed > 75 && !unknown);
        }
        out.row(&fields)?;
    }
    Ok(summary)
}

fn speed(row: u64, rng: &mut impl Rng) -> u16 {
    if row == ROW_AT_LIMIT {
        75
    } else if rng.random_bool(0.7) {
        rng.random_range(76..=110)
    } else {
        rng.random_range(60..=75)
    }
}

fn degrees(limit: i64, rng: &mut impl Rng) -> String {
    let micro: i64 = rng.random_range(-limit * 1_000_000..=limit * 1_000_000);
    let sign = if micro < 0 { "-" } else { "" };
    format!("{sign}{}.{:06}", micro.abs() / 1_000_000, micro.abs() % 1_000_000)
}
