//! Judges rows by the contract (pure): which can be loaded, with what warnings, and which are put aside, why.

use std::sync::Arc;

use email_address::EmailAddress;
use speedtrap_actors::domain::LicensePlate;

use crate::contract::{COLUMNS, Check, ColumnRule, Contract};
use crate::csv_rows::{DriverRow, Record, Reject, Row};
use crate::finding::{Finding, Severity};
use crate::value_checks::{self, PhoneNumbers};

/// What becomes of a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Load { row: DriverRow, warnings: Vec<Warning> },
    Reject(Reject),
}

/// A finding with which a row is loaded all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) finding: Finding,
    /// Place of the column in the contract.
    pub(crate) column: usize,
}

/// Judges the rows of files under one contract.
pub(crate) struct Judge {
    contract: Arc<Contract>,
    phone_numbers: PhoneNumbers,
    warnings: Vec<Warning>,
    errors: Vec<(Finding, usize, String)>,
}

impl Judge {
    pub(crate) fn new(contract: Arc<Contract>) -> Self {
        Self { contract, phone_numbers: PhoneNumbers::default(), warnings: Vec::new(), errors: Vec::new() }
    }

    /// Judges a row whose fields stand in the order of the contract's columns.
    pub(crate) fn judge(&mut self, row: Row) -> Verdict {
        let Record { line, byte, fields, raw } = match row {
            Row::Whole(record) => record,
            Row::Broken(reject) => return Verdict::Reject(reject),
        };
        let contract = Arc::clone(&self.contract);
        if contract.columns.iter().zip(&fields).all(|(rule, field)| rule.name.as_bytes() == field) {
            let (reason, detail) = (Finding::RepeatedHeader, "the header once more".to_owned());
            return Verdict::Reject(Reject { line, byte, reason, column: None, detail, raw });
        }
        let mut values: [String; COLUMNS.len()] = Default::default();
        for (column, (rule, field)) in contract.columns.iter().zip(fields).enumerate() {
            let value = self.value(column, rule, field);
            if let Some(place) = rule.place {
                values[place] = value;
            }
        }
        let mut errors = std::mem::take(&mut self.errors).into_iter();
        let warnings = std::mem::take(&mut self.warnings);
        let Some((reason, column, mut detail)) = errors.next() else {
            return Verdict::Load { row: DriverRow { line, values }, warnings };
        };
        // All that is wrong is told, so that a row has to be mended once.
        for (finding, column, _) in errors {
            detail.push_str(&format!("; also {} in {}", finding.name(), contract.columns[column].name));
        }
        let column = Some(contract.columns[column].name.clone());
        Verdict::Reject(Reject { line, byte, reason, column, detail, raw })
    }

    /// The value as it is loaded; what is wrong with it is noted.
    fn value(&mut self, column: usize, rule: &ColumnRule, field: Vec<u8>) -> String {
        let text = match String::from_utf8(field) {
            Ok(text) => normalised(text, rule),
            Err(error) => {
                let place = error.utf8_error().valid_up_to();
                self.find(Finding::Undecodable, column, || format!("not UTF-8 after {place} bytes"));
                return String::new();
            }
        };
        if text.len() > rule.bytes {
            self.find(Finding::TooLong, column, || format!("{} bytes, at most {} fit", text.len(), rule.bytes));
        }
        if text.contains('\0') {
            self.find(Finding::NulByte, column, || "holds a NUL byte".to_owned());
        } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.find(Finding::ControlCharacter, column, || "holds a control character".to_owned());
        }
        if text.contains('\u{fffd}') {
            self.find(Finding::ReplacementCharacter, column, || "holds U+FFFD, so characters were lost before".to_owned());
        }
        self.check(column, rule, text.trim());
        text
    }

    fn check(&mut self, column: usize, rule: &ColumnRule, text: &str) {
        if text.is_empty() {
            match rule.check {
                Check::Plate => self.find(Finding::EmptyPlate, column, || "no licence plate".to_owned()),
                _ if rule.required => self.find(Finding::EmptyValue, column, || "no value".to_owned()),
                // A driver without a number cannot be told.
                Check::Myphone => self.find(Finding::InvalidMyphone, column, || "no telephone number".to_owned()),
                _ => {}
            }
            return;
        }
        let is_number_like = !matches!(rule.check, Check::Text | Check::Email);
        let is_damaged = value_checks::is_cell_error(text)
            || is_number_like && value_checks::is_scientific(text)
            || rule.check == Check::Plate && value_checks::is_date(text);
        if is_damaged {
            self.find(Finding::ExcelDamage, column, || "what a spreadsheet made of a value".to_owned());
        }
        match rule.check {
            Check::Email if !EmailAddress::is_valid(text) => {
                self.find(Finding::BadEmail, column, || "not an e-mail address".to_owned());
            }
            Check::Phone if !self.phone_numbers.is_valid(text) => {
                self.find(Finding::BadPhoneNumber, column, || "not a valid telephone number".to_owned());
            }
            Check::Myphone if !self.phone_numbers.is_valid(text) => {
                self.find(Finding::InvalidMyphone, column, || "not a valid telephone number".to_owned());
            }
            Check::Zip if value_checks::is_short_zip(text) => {
                self.find(Finding::ShortZip, column, || "fewer than five digits".to_owned());
            }
            Check::Plate if text.len() <= rule.bytes && LicensePlate::check(text).is_err() => {
                self.find(Finding::TooLong, column, || format!("at most {} bytes make a plate", LicensePlate::MAX_BYTES));
            }
            _ => {}
        }
    }

    fn find(&mut self, finding: Finding, column: usize, detail: impl FnOnce() -> String) {
        match self.contract.severity(finding) {
            Severity::Warn => self.warnings.push(Warning { finding, column }),
            Severity::Error => self.errors.push((finding, column, detail())),
        }
    }
}

/// The value as the contract wants it; as it stands in the file unless the contract says otherwise.
fn normalised(text: String, rule: &ColumnRule) -> String {
    let text = if rule.trim && text.trim().len() < text.len() { text.trim().to_owned() } else { text };
    match rule.pad {
        Some(to) => value_checks::padded_zip(&text, to).unwrap_or(text),
        None => text,
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
