//! One driver as a line of JSON on its way through Firehose and S3 (pure).
//!
//! Keys are lower case: Redshift's `COPY … JSON 'auto'` compares them with the column names by case and loads a key that differs
//! as NULL, silently.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::contract::COLUMNS;
use crate::csv_rows::DriverRow;

/// A row with the marks by which it is found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedRow<'a> {
    #[serde(borrow)]
    first_name: Cow<'a, str>,
    #[serde(borrow)]
    last_name: Cow<'a, str>,
    #[serde(borrow)]
    licenseplate: Cow<'a, str>,
    #[serde(borrow)]
    email: Cow<'a, str>,
    #[serde(borrow)]
    address: Cow<'a, str>,
    #[serde(borrow)]
    city: Cow<'a, str>,
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(borrow)]
    zipcode: Cow<'a, str>,
    #[serde(borrow)]
    phonenumber: Cow<'a, str>,
    #[serde(borrow)]
    myphone: Cow<'a, str>,
    #[serde(borrow, rename = "_load_id")]
    load_id: Cow<'a, str>,
    #[serde(rename = "_src_line")]
    src_line: u64,
    #[serde(borrow, rename = "_row_hash")]
    row_hash: Cow<'a, str>,
}

/// The marks alone; enough to count what has arrived.
#[derive(Debug, Deserialize)]
pub(crate) struct RowMarks<'a> {
    #[serde(borrow, rename = "_load_id")]
    pub(crate) load_id: Cow<'a, str>,
    #[serde(rename = "_src_line")]
    pub(crate) src_line: u64,
}

/// Writes a row as one JSON line, newline included.
pub(crate) fn to_line(load_id: &str, row: &DriverRow) -> Result<Vec<u8>, serde_json::Error> {
    let [first_name, last_name, licenseplate, email, address, city, state, zipcode, phonenumber, myphone] =
        row.values.each_ref().map(|value| Cow::Borrowed(value.as_str()));
    let row_hash = Cow::Owned(row_hash(&row.values));
    let load_id = Cow::Borrowed(load_id);
    let staged = StagedRow {
        first_name,
        last_name,
        licenseplate,
        email,
        address,
        city,
        state,
        zipcode,
        phonenumber,
        myphone,
        load_id,
        src_line: row.line,
        row_hash,
    };
    let mut line = serde_json::to_vec(&staged)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a line back if it is a row of this load; `None` for lines of others. The values must be those that were sent.
pub(crate) fn from_line(load_id: &str, line: &[u8]) -> Option<Result<DriverRow, AlteredRow>> {
    let staged: StagedRow<'_> = serde_json::from_slice(line).ok()?;
    if staged.load_id != load_id {
        return None;
    }
    let values = [
        staged.first_name,
        staged.last_name,
        staged.licenseplate,
        staged.email,
        staged.address,
        staged.city,
        staged.state,
        staged.zipcode,
        staged.phonenumber,
        staged.myphone,
    ]
    .map(Cow::into_owned);
    let line = staged.src_line;
    Some(if row_hash(&values) == staged.row_hash { Ok(DriverRow { line, values }) } else { Err(AlteredRow { line }) })
}

/// The marks of a line, if it has any.
pub(crate) fn marks(line: &[u8]) -> Option<RowMarks<'_>> {
    serde_json::from_slice(line).ok()
}

/// A row came back from S3 with other values than were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the row of line {line} came back from S3 with other values than were sent")]
pub(crate) struct AlteredRow {
    pub(crate) line: u64,
}

fn row_hash(values: &[String; COLUMNS.len()]) -> String {
    let mut hasher = Sha256::new();
    for value in values {
        // With its length, so that a text cannot move from one column to the next unseen.
        hasher.update(format!("{}:", value.len()));
        hasher.update(value);
    }
    hex(&hasher.finalize()[..8])
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> DriverRow {
        let values = ["Ana", "Inkwether", "95B•140", "a@example.com", "1 \"Mill\" Row", "Peña", "Iowa", "501", "x", "5155550100"];
        DriverRow { line: 7, values: values.map(str::to_owned) }
    }

    #[test]
    fn a_row_comes_back_as_it_went_under_lower_case_keys() {
        let line = to_line("l1", &row()).unwrap();
        assert_eq!(line.last(), Some(&b'\n'));
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert!(COLUMNS.iter().all(|column| keys.contains(&&column.name.to_lowercase())) && keys.len() == 13);
        assert_eq!(from_line("l1", &line), Some(Ok(row())));
        assert_eq!(from_line("l2", &line), None);
        assert_eq!(marks(&line).unwrap().src_line, 7);
    }

    #[test]
    fn altered_values_are_noticed() {
        let line = String::from_utf8(to_line("l1", &row()).unwrap()).unwrap().replace("Iowa", "Ohio");
        assert_eq!(from_line("l1", line.as_bytes()), Some(Err(AlteredRow { line: 7 })));
    }
}
