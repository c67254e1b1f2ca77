//! Reads a contract from its TOML text. All faults are reported together, each with key, value and what is allowed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::contract::{COLUMNS, Check, ColumnRule, Contract, PLATE};
use crate::finding::{Finding, Severity};

/// The contract that is built in, as it is checked in.
const BUILT_IN: &str = include_str!("../drivers.toml");

/// Longest value of a column that is checked only; a line has no more.
const MAX_BYTES: usize = 65_536;

/// Longest zip code that padding may make.
const MAX_PAD: usize = 16;

const DELIMITERS: [(&str, u8); 4] = [(",", b','), (";", b';'), ("|", b'|'), ("\t", b'\t')];

/// One key with a value it must not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContractFault {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) allowed: String,
}

/// Why a contract cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContractError {
    #[error("cannot read the contract `{}`: {reason}\n  next: check the path", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("the contract `{}` is no TOML: {reason}\n  next: correct it", path.display())]
    Syntax { path: PathBuf, reason: String },
    #[error(
        "bad contract `{}`:{}\n  next: correct it; the built-in one is a good start: speedtrap-loader check --print-contract",
        path.display(),
        faults.iter().map(|f| format!("\n  {} = {}, allowed: {}", f.key, f.value, f.allowed)).collect::<String>()
    )]
    Faults { path: PathBuf, faults: Vec<ContractFault> },
}

impl Contract {
    /// The contract of this file, or the built-in one.
    pub(crate) fn chosen(file: Option<&Path>) -> Result<Self, ContractError> {
        let Some(path) = file else { return Ok(Self::built_in()) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ContractError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
        Self::parse(path, &text)
    }

    /// The contract that holds without `--contract`.
    pub(crate) fn built_in() -> Self {
        Self::parse(Path::new("drivers.toml"), BUILT_IN).expect("a test reads the built-in contract")
    }

    /// The text of the built-in contract.
    pub(crate) fn built_in_text() -> &'static str {
        BUILT_IN
    }

    /// Reads a contract; `path` is for messages only.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ContractError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| ContractError::Syntax {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        let mut reading = Reading::default();
        let contract = reading.contract(&table);
        if reading.faults.is_empty() {
            return Ok(contract);
        }
        Err(ContractError::Faults { path: path.to_owned(), faults: reading.faults })
    }
}

/// Gathers faults while it reads.
#[derive(Default)]
struct Reading {
    faults: Vec<ContractFault>,
}

impl Reading {
    fn fault(&mut self, key: impl Into<String>, value: impl ToString, allowed: impl Into<String>) {
        self.faults.push(ContractFault { key: key.into(), value: value.to_string(), allowed: allowed.into() });
    }

    fn contract(&mut self, table: &Table) -> Contract {
        self.known_keys("", table, &["delimiter", "column", "findings"]);
        let delimiter = self.one_of("delimiter", table.get("delimiter"), &DELIMITERS).unwrap_or(b',');
        let columns = self.columns(table.get("column"));
        let severities = self.severities(table.get("findings"));
        Contract { delimiter, columns, severities }
    }

    fn columns(&mut self, value: Option<&Value>) -> Vec<ColumnRule> {
        let tables: Option<Vec<&Table>> =
            value.and_then(Value::as_array).map(|list| list.iter().filter_map(Value::as_table).collect());
        let Some(tables) = tables.filter(|tables| !tables.is_empty()) else {
            self.fault("column", value.map_or_else(|| "(missing)".to_owned(), Value::to_string), "at least one [[column]]");
            return Vec::new();
        };
        let columns: Vec<ColumnRule> =
            tables.into_iter().enumerate().filter_map(|(n, table)| self.column(&format!("column[{n}]"), table)).collect();
        for (n, rule) in columns.iter().enumerate() {
            if columns[..n].iter().any(|other| other.name == rule.name) {
                self.fault(format!("column[{n}].name"), quoted(&rule.name), "each name once");
            }
            if let Some(place) = rule.place.filter(|place| columns[..n].iter().any(|other| other.place == Some(*place))) {
                self.fault(
                    format!("column[{n}].warehouse"),
                    quoted(COLUMNS[place].warehouse),
                    "each column of the warehouse once",
                );
            }
        }
        if self.faults.is_empty() && !columns.iter().any(|rule| rule.place == Some(PLATE)) {
            self.fault(
                "column",
                "(none for it)",
                format!("one with warehouse = \"{}\", by which drivers are known", COLUMNS[PLATE].warehouse),
            );
        }
        columns
    }

    fn column(&mut self, key: &str, table: &Table) -> Option<ColumnRule> {
        let keys = ["name", "warehouse", "type", "bytes", "check", "required", "trim", "pad"];
        self.known_keys(key, table, &keys);
        let at = |name: &str| format!("{key}.{name}");
        let name = match table.get("name") {
            Some(Value::String(name)) if !name.is_empty() && !name.contains(['\n', '\r', '\0']) => Some(name.clone()),
            other => {
                self.fault(at("name"), shown(other), "the name in the header");
                None
            }
        };
        let places: Vec<(&str, usize)> = COLUMNS.iter().enumerate().map(|(place, column)| (column.warehouse, place)).collect();
        let place = self.one_of(&at("warehouse"), table.get("warehouse"), &places);
        match table.get("type") {
            Some(Value::String(text)) if text == "varchar" => {}
            other => self.fault(at("type"), shown(other), "\"varchar\": numbers lose zeros and signs"),
        }
        let most = place.map_or(MAX_BYTES, |place| COLUMNS[place].max_bytes);
        let bytes = match table.get("bytes") {
            Some(Value::Integer(bytes)) if usize::try_from(*bytes).is_ok_and(|bytes| (1..=most).contains(&bytes)) => {
                usize::try_from(*bytes).unwrap_or(most)
            }
            other => {
                self.fault(at("bytes"), shown(other), format!("1 to {most}"));
                most
            }
        };
        let check = self.one_of(&at("check"), table.get("check"), &Check::ALL).unwrap_or(Check::Text);
        let required = self.flag(&at("required"), table.get("required"));
        let trim = self.flag(&at("trim"), table.get("trim"));
        let pad = table.get("pad").and_then(|value| {
            let most = MAX_PAD.min(bytes);
            let pad = value.as_integer().and_then(|pad| usize::try_from(pad).ok()).filter(|pad| (1..=most).contains(pad));
            if pad.is_none() || check != Check::Zip {
                self.fault(at("pad"), value, format!("1 to {most}, in a column with check = \"zip\""));
            }
            pad
        });
        if place == Some(PLATE) && check != Check::Plate {
            self.fault(at("check"), shown(table.get("check")), "\"plate\" in the column of the licence plate");
        }
        Some(ColumnRule { name: name?, place, bytes, check, required, trim, pad })
    }

    fn severities(&mut self, value: Option<&Value>) -> BTreeMap<Finding, Severity> {
        let mut severities = BTreeMap::new();
        let Some(value) = value else { return severities };
        let Some(table) = value.as_table() else {
            self.fault("findings", value, "a table");
            return severities;
        };
        for (name, value) in table {
            let key = format!("findings.{name}");
            let Some(finding) = Finding::named(name) else {
                let names: Vec<&str> = Finding::ALL.into_iter().map(Finding::name).collect();
                self.fault(key, value, format!("not known; known are {}", names.join(", ")));
                continue;
            };
            let both = [("error", Severity::Error), ("warn", Severity::Warn)];
            let choices = if finding.is_always_an_error() { &both[..1] } else { &both[..] };
            if let Some(severity) = self.one_of(&key, Some(value), choices)
                && severity != finding.usual_severity()
            {
                severities.insert(finding, severity);
            }
        }
        severities
    }

    fn known_keys(&mut self, key: &str, table: &Table, known: &[&str]) {
        for (name, value) in table.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            self.fault(path, value, format!("not known; known are {}", known.join(", ")));
        }
    }

    /// The meaning of one of several words; `None` without a fault if the key is missing.
    fn one_of<T: Copy>(&mut self, key: &str, value: Option<&Value>, choices: &[(&str, T)]) -> Option<T> {
        let value = value?;
        let meant = value.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text)).map(|(_, meant)| *meant);
        if meant.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| quoted(word)).collect();
            self.fault(key, value, words.join(", "));
        }
        meant
    }

    fn flag(&mut self, key: &str, value: Option<&Value>) -> bool {
        match value {
            None => false,
            Some(Value::Boolean(flag)) => *flag,
            Some(other) => {
                self.fault(key, other, "true or false");
                false
            }
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "(missing)".to_owned(), Value::to_string)
}

/// A text as TOML writes it.
pub(crate) fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
#[path = "contract_file_tests.rs"]
mod tests;
