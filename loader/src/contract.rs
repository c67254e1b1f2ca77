//! What a drivers file must look like (pure): its columns, how many bytes each may have, and how bad which finding is.
//!
//! The text form is read in `contract_file`. A file read under another contract is another load: [`Contract::canonical`] is part
//! of the load id.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::finding::{Finding, Severity};

/// Changes when the same contract begins to mean something else.
const RULES: &str = "drivers-2";

/// Place of the licence plate in [`COLUMNS`].
pub(crate) const PLATE: usize = 2;

/// One column of the warehouse table that drivers files fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its usual name in the header. In the warehouse it is the same in lower case.
    pub(crate) name: &'static str,
    /// The longest value in bytes. Redshift counts bytes in `VARCHAR(n)` where PostgreSQL counts characters, so the loader counts.
    pub(crate) max_bytes: usize,
    /// What it is called in the warehouse.
    pub(crate) warehouse: &'static str,
}

const fn column(name: &'static str, warehouse: &'static str, max_bytes: usize) -> Column {
    Column { name, max_bytes, warehouse }
}

/// The columns of the warehouse table in its order.
pub(crate) const COLUMNS: [Column; 10] = [
    column("first_name", "first_name", 256),
    column("last_name", "last_name", 256),
    column("licensePlate", "licenseplate", 64),
    column("email", "email", 320),
    column("address", "address", 512),
    column("city", "city", 256),
    column("state", "state", 256),
    column("zipcode", "zipcode", 16),
    column("phoneNumber", "phonenumber", 64),
    column("myphone", "myphone", 64),
];

/// The rules for one column of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnRule {
    /// Its name in the header, exactly.
    pub(crate) name: String,
    /// Place in [`COLUMNS`] of the column it fills; `None` if it is checked but not loaded.
    pub(crate) place: Option<usize>,
    /// The longest value in bytes, counted as it is loaded.
    pub(crate) bytes: usize,
    pub(crate) check: Check,
    pub(crate) required: bool,
    pub(crate) trim: bool,
    /// Digits of a zip code are filled up with zeros from the left to this length.
    pub(crate) pad: Option<usize>,
}

/// What the values of a column are checked as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    Text,
    Plate,
    Email,
    Phone,
    /// The number that is texted.
    Myphone,
    Zip,
}

impl Check {
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("text", Self::Text),
        ("plate", Self::Plate),
        ("email", Self::Email),
        ("phone", Self::Phone),
        ("myphone", Self::Myphone),
        ("zip", Self::Zip),
    ];
}

/// The rules for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contract {
    pub(crate) delimiter: u8,
    /// In the order of the header.
    pub(crate) columns: Vec<ColumnRule>,
    /// What differs from [`Finding::usual_severity`].
    pub(crate) severities: BTreeMap<Finding, Severity>,
}

/// A column in the canonical form; every default is written out.
#[derive(Serialize)]
struct CanonicalColumn<'a> {
    name: &'a str,
    warehouse: Option<&'static str>,
    bytes: usize,
    check: Check,
    required: bool,
    trim: bool,
    pad: Option<usize>,
}

impl Contract {
    /// How bad a finding is.
    pub(crate) fn severity(&self, finding: Finding) -> Severity {
        self.severities.get(&finding).copied().unwrap_or(finding.usual_severity())
    }

    /// The same text for every contract that means the same, however it was written.
    pub(crate) fn canonical(&self) -> String {
        let columns: Vec<CanonicalColumn<'_>> = self
            .columns
            .iter()
            .map(|rule| CanonicalColumn {
                name: &rule.name,
                warehouse: rule.place.map(|place| COLUMNS[place].warehouse),
                bytes: rule.bytes,
                check: rule.check,
                required: rule.required,
                trim: rule.trim,
                pad: rule.pad,
            })
            .collect();
        let severities: BTreeMap<&str, Severity> =
            Finding::ALL.into_iter().map(|finding| (finding.name(), self.severity(finding))).collect();
        serde_json::json!({ "rules": RULES, "delimiter": self.delimiter, "columns": columns, "findings": severities }).to_string()
    }

    /// The header as one line, for messages.
    pub(crate) fn header(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|rule| rule.name.as_str()).collect();
        names.join(&char::from(self.delimiter).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_warehouse_schema() {
        let schema = include_str!("../../data/schema/warehouse.sql");
        for column in COLUMNS {
            let name = column.warehouse;
            assert_eq!(name, column.name.to_lowercase());
            let line =
                schema.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).expect("a column of the table");
            assert!(line.contains(&format!("VARCHAR({})", column.max_bytes)), "{line}");
        }
    }

    #[test]
    fn the_built_in_contract_fills_every_column_of_the_warehouse_as_it_stands_in_the_file() {
        let contract = Contract::built_in();
        assert_eq!(contract.header(), "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone");
        for (place, (rule, column)) in contract.columns.iter().zip(COLUMNS).enumerate() {
            assert_eq!((rule.name.as_str(), rule.place, rule.bytes), (column.name, Some(place), column.max_bytes));
            assert!(!rule.trim && rule.pad.is_none() && rule.required == (place == PLATE));
        }
        for finding in Finding::ALL {
            assert_eq!(contract.severity(finding), finding.usual_severity(), "{}", finding.name());
        }
    }
}
