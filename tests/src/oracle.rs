//! What must come of a drivers file and a readings file, counted from the files alone and by rules written a second time.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// Speed above which a reading is a violation, in miles an hour.
const LIMIT: u32 = 75;
const DRIVER_FIELDS: usize = 10;
const READING_FIELDS: usize = 6;

/// A registered owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    pub first_name: String,
    pub last_name: String,
    pub myphone: String,
}

/// A reading above the limit, without its time: plate, longitude, latitude, city, state, speed.
pub type Violation = [String; READING_FIELDS];

/// What must come of two files.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// By plate, trimmed and upper-cased.
    pub drivers: BTreeMap<String, Driver>,
    /// Rows that the device can publish.
    pub readings: u64,
    /// Sorted.
    pub violations: Vec<Violation>,
    /// Readings whose speed is no whole number.
    pub bad_speeds: u64,
}

impl Driver {
    /// The number a text must go to, if it is one in North America.
    #[must_use]
    pub fn e164(&self) -> Option<String> {
        let digits: String = self.myphone.chars().filter(char::is_ascii_digit).collect();
        match digits.len() {
            10 => Some(format!("+1{digits}")),
            11 if digits.starts_with('1') => Some(format!("+{digits}")),
            _ => None,
        }
    }
}

impl Expected {
    /// Counts two files.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of(drivers: &Path, readings: &Path) -> Result<Self> {
        let mut expected = Self { drivers: read_drivers(drivers)?, ..Self::default() };
        expected.add_readings(readings)?;
        Ok(expected)
    }

    /// Counts another readings file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn add_readings(&mut self, readings: &Path) -> Result<()> {
        for row in rows(readings)? {
            let Ok(row) = <Violation>::try_from(row) else { continue };
            self.readings += 1;
            match row[5].trim().parse::<u32>() {
                Ok(speed) if speed > LIMIT => self.violations.push(row),
                Ok(_) => {}
                Err(_) => self.bad_speeds += 1,
            }
        }
        self.violations.sort();
        Ok(())
    }

    /// The owner of a plate.
    #[must_use]
    pub fn driver(&self, plate: &str) -> Option<&Driver> {
        self.drivers.get(&plate.trim().to_uppercase())
    }

    /// Violations whose plate the warehouse knows.
    #[must_use]
    pub fn known(&self) -> usize {
        self.violations.iter().filter(|violation| self.driver(&violation[0]).is_some()).count()
    }

    /// Violations whose driver can be texted.
    #[must_use]
    pub fn textable(&self) -> usize {
        self.violations
            .iter()
            .filter(|violation| self.driver(&violation[0]).is_some_and(|driver| driver.e164().is_some()))
            .count()
    }
}

/// The text that a driver must get.
#[must_use]
pub fn text(driver: &Driver, violation: &Violation, iottimestamp: &str) -> String {
    let Driver { first_name, last_name, .. } = driver;
    let [plate, longitude, latitude, city, state, speed] = violation;
    format!(
        "To {first_name} {last_name}, \n Your vehicle with licenseplate {plate} was clocked with speed above the permissible limit \
         at {city},{state}\n Clocked speed {speed} \n Geo location {longitude}, {latitude} \n Time {iottimestamp}."
    )
}

/// Registered owners by plate, trimmed and upper-cased.
///
/// # Errors
/// When the file cannot be read.
pub fn read_drivers(path: &Path) -> Result<BTreeMap<String, Driver>> {
    let mut drivers = BTreeMap::new();
    for row in rows(path)? {
        if row.len() != DRIVER_FIELDS || row[2].trim().is_empty() {
            continue;
        }
        let driver = Driver { first_name: row[0].clone(), last_name: row[1].clone(), myphone: row[9].clone() };
        drivers.insert(row[2].trim().to_uppercase(), driver);
    }
    Ok(drivers)
}

fn rows(path: &Path) -> Result<Vec<Vec<String>>> {
    let failed = || format!("failed to read `{}`", path.display());
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(path).with_context(failed)?;
    let rows = reader.records().map(|row| Ok(row?.iter().map(str::to_owned).collect()));
    rows.collect::<Result<_>>().with_context(failed)
}
