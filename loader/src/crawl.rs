//! Proposes a contract from a sample of a file (pure but for the reader it is given).
//!
//! Every column becomes a VARCHAR. A crawler that infers types would make numbers of zip codes and telephone numbers, and lose
//! their zeros and signs.

use std::io::BufRead;

use crate::contract::{COLUMNS, Check, PLATE};
use crate::contract_file::quoted;
use crate::csv_rows::{CsvRows, MAX_LINE_BYTES, Row};
use crate::drivers_file::{FileFault, delimiter_of, header_of, looks_like_names, names_of};

/// Other names that people give to columns of the warehouse, without case, blanks and signs.
const OTHER_NAMES: [(&str, &str); 19] = [
    ("firstname", "first_name"),
    ("forename", "first_name"),
    ("givenname", "first_name"),
    ("lastname", "last_name"),
    ("surname", "last_name"),
    ("familyname", "last_name"),
    ("plate", "licenseplate"),
    ("licenceplate", "licenseplate"),
    ("platenumber", "licenseplate"),
    ("registration", "licenseplate"),
    ("emailaddress", "email"),
    ("mail", "email"),
    ("street", "address"),
    ("town", "city"),
    ("zip", "zipcode"),
    ("postalcode", "zipcode"),
    ("phone", "phonenumber"),
    ("mobile", "myphone"),
    ("cellphone", "myphone"),
];

/// Narrowest column that is proposed.
const NARROWEST: usize = 16;

/// Widest column that is checked only.
const WIDEST: usize = 65_536;

/// Why no contract can be proposed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CrawlFault {
    #[error(transparent)]
    File(#[from] FileFault),
    #[error("the first line looks like data; a contract needs the names of the columns\n  next: give the file a header")]
    NoNames,
    #[error("the header has the name `{0}` twice\n  next: give each column a name of its own")]
    Twice(String),
    #[error("no column is called like a licence plate; there are {0}\n  next: name it with --plate COLUMN")]
    NoPlate(String),
}

/// A proposed contract.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) rows: u64,
    /// Rows with another number of fields than the header, or with broken quotes.
    pub(crate) broken: u64,
    pub(crate) delimiter: u8,
    pub(crate) columns: Vec<ProposedColumn>,
}

/// One column of a proposed contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProposedColumn {
    pub(crate) name: String,
    /// Place in [`COLUMNS`].
    pub(crate) place: Option<usize>,
    pub(crate) longest: usize,
    pub(crate) longest_line: u64,
    pub(crate) empty: u64,
}

/// Reads up to `most_rows` rows. `plate` names the plate's column where its name does not say it.
pub(crate) fn crawl<R: BufRead>(input: R, most_rows: u64, plate: Option<&str>) -> Result<Proposal, CrawlFault> {
    let mut rows = CsvRows::new(input, MAX_LINE_BYTES);
    let line = rows.header_line().map_err(FileFault::Io)?.ok_or(FileFault::Empty)?;
    let (_, header) = header_of(&line)?;
    let delimiter = delimiter_of(header);
    let names = names_of(header, delimiter).filter(|_| looks_like_names(header, delimiter)).ok_or(CrawlFault::NoNames)?;
    rows.expect(delimiter, names.len());
    let mut proposal = Proposal { rows: 0, broken: 0, delimiter, columns: columns_of(&names, plate)? };
    while proposal.rows < most_rows {
        let Some(row) = rows.next_row().map_err(FileFault::Io)? else { break };
        proposal.rows += 1;
        let Row::Whole(record) = row else {
            proposal.broken += 1;
            continue;
        };
        for (column, field) in proposal.columns.iter_mut().zip(&record.fields) {
            column.empty += u64::from(field.trim_ascii().is_empty());
            if field.len() > column.longest {
                (column.longest, column.longest_line) = (field.len(), record.line);
            }
        }
    }
    Ok(proposal)
}

fn columns_of(names: &[String], plate: Option<&str>) -> Result<Vec<ProposedColumn>, CrawlFault> {
    let mut columns: Vec<ProposedColumn> = Vec::new();
    for name in names {
        if columns.iter().any(|column| column.name == *name) {
            return Err(CrawlFault::Twice(name.clone()));
        }
        let place = if plate.is_some_and(|plate| plate == name) { Some(PLATE) } else { place_of(name) };
        let place = place.filter(|place| *place != PLATE || plate.is_none_or(|plate| plate == name));
        // The first one that is called so fills the column.
        let place = place.filter(|place| columns.iter().all(|column| column.place != Some(*place)));
        columns.push(ProposedColumn { name: name.clone(), place, longest: 0, longest_line: 0, empty: 0 });
    }
    if columns.iter().any(|column| column.place == Some(PLATE)) {
        return Ok(columns);
    }
    Err(CrawlFault::NoPlate(names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")))
}

/// The column of the warehouse that a column is called like.
fn place_of(name: &str) -> Option<usize> {
    let plain = |name: &str| name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let name = plain(name);
    let known = OTHER_NAMES.iter().find(|(other, _)| *other == name).map_or(name.as_str(), |(_, known)| known);
    COLUMNS.iter().position(|column| plain(column.warehouse) == plain(known))
}

impl ProposedColumn {
    /// Room for values half as long again as the longest of the sample, in a round number, but no more than the warehouse has.
    pub(crate) fn bytes(&self) -> usize {
        let most = self.place.map_or(WIDEST, |place| COLUMNS[place].max_bytes);
        (self.longest + self.longest / 2).next_power_of_two().clamp(NARROWEST, most.max(NARROWEST)).min(most)
    }

    fn check(&self) -> Check {
        match self.place.map(|place| COLUMNS[place].warehouse) {
            Some("licenseplate") => Check::Plate,
            Some("email") => Check::Email,
            Some("zipcode") => Check::Zip,
            Some("phonenumber") => Check::Phone,
            Some("myphone") => Check::Myphone,
            _ => Check::Text,
        }
    }

    fn to_toml(&self) -> String {
        let check = Check::ALL.iter().find(|(_, check)| *check == self.check()).map_or("text", |(name, _)| name);
        let mut text = format!("\n[[column]]\nname = {}\n", quoted(&self.name));
        match self.place {
            Some(place) => text.push_str(&format!("warehouse = {}\n", quoted(COLUMNS[place].warehouse))),
            None => text.push_str(
                "# No column of the warehouse is called so: it is checked, not loaded. To load it, add warehouse = \"…\".\n",
            ),
        }
        text.push_str(&format!("type = \"varchar\"\nbytes = {}", self.bytes()));
        if self.longest > 0 {
            text.push_str(&format!("  # the longest has {}, on line {}", self.longest, self.longest_line));
        }
        text.push_str(&format!("\ncheck = {}\n", quoted(check)));
        if self.place == Some(PLATE) {
            text.push_str("required = true\n");
        }
        text
    }
}

impl Proposal {
    /// The proposal as a contract file.
    pub(crate) fn to_toml(&self, file: &str) -> String {
        // A name with a line break would end the comment.
        let file: String = file.chars().filter(|c| !c.is_control()).collect();
        let mut text = format!("# Proposed for {file} from {} rows", self.rows);
        if self.broken > 0 {
            text.push_str(&format!(", {} of them broken", self.broken));
        }
        text.push_str(".\n# `speedtrap-loader check --print-contract` explains every key.\n\n");
        text.push_str(&format!("delimiter = {}\n", quoted(&char::from(self.delimiter).to_string())));
        text.extend(self.columns.iter().map(ProposedColumn::to_toml));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::contract::Contract;

    fn crawled(text: &str) -> Proposal {
        crawl(text.as_bytes(), 1_000, None).unwrap()
    }

    #[test]
    fn a_drivers_file_gets_the_columns_and_checks_of_the_built_in_contract() {
        let header = Contract::built_in().header();
        let row = "Ana,Ink,ABC-1,a@example.com,\"1 Mill Row, Apt 9\",Foxgallow,Iowa,00501,515-555-0100,5155550100";
        let proposal = crawled(&format!("{header}\r\n{row}\r\nshort,row"));
        assert_eq!((proposal.rows, proposal.broken), (2, 1));
        let contract = Contract::parse(Path::new("x"), &proposal.to_toml("drivers.csv")).unwrap();
        let built_in = Contract::built_in();
        for (rule, usual) in contract.columns.iter().zip(&built_in.columns) {
            assert_eq!(
                (&rule.name, rule.place, rule.check, rule.required),
                (&usual.name, usual.place, usual.check, usual.required)
            );
            assert!(rule.bytes >= 16 && rule.bytes <= usual.bytes, "{}", rule.bytes);
        }
    }

    #[test]
    fn other_names_other_delimiters_and_unknown_columns_make_a_contract_as_well() {
        let text = "\u{feff}Surname;Plate;Zip;Mobile;\"Insurer\"\nInk;95B•140;00501;5155550100;Reef and Co\n";
        let proposal = crawled(text);
        assert_eq!((proposal.delimiter, proposal.columns[1].longest), (b';', 9));
        let toml = proposal.to_toml("odd\nname.csv");
        assert!(!toml.contains("type = \"int") && toml.contains("# the longest has 9, on line 2"), "{toml}");
        let contract = Contract::parse(Path::new("x"), &toml).unwrap();
        let places: Vec<Option<usize>> = contract.columns.iter().map(|rule| rule.place).collect();
        assert_eq!(places, [Some(1), Some(PLATE), Some(7), Some(9), None]);
    }

    #[test]
    fn the_plate_may_be_named() {
        let text = "Owner,Kennzeichen\nInk,ABC-1\n";
        let said = crawl(text.as_bytes(), 10, None).unwrap_err().to_string();
        assert!(said.contains("`Owner`, `Kennzeichen`") && said.contains("--plate"), "{said}");
        let proposal = crawl(text.as_bytes(), 10, Some("Kennzeichen")).unwrap();
        assert_eq!(proposal.columns[1].place, Some(PLATE));
    }

    #[test]
    fn widths_are_round_and_leave_room() {
        let bytes = |longest, place| {
            let name = String::new();
            ProposedColumn { name, place, longest, longest_line: 2, empty: 0 }.bytes()
        };
        assert_eq!([bytes(0, None), bytes(9, None), bytes(20, None), bytes(40, None)], [16, 16, 32, 64]);
        assert_eq!([bytes(60, Some(PLATE)), bytes(15, Some(7)), bytes(300, Some(3)), bytes(60_000, None)], [64, 16, 320, 65_536]);
    }

    #[test]
    fn what_has_no_names_is_refused_without_showing_people() {
        let row = "Ana,Ink,ABC-1,a@example.com,5155550100";
        let said = crawl(row.as_bytes(), 10, None).unwrap_err().to_string();
        assert!(said.contains("looks like data") && !said.contains("Ana"), "{said}");
        assert!(matches!(crawl("a,plate,a\n".as_bytes(), 10, None), Err(CrawlFault::Twice(name)) if name == "a"));
        assert!(matches!(crawl(&b""[..], 10, None), Err(CrawlFault::File(FileFault::Empty))));
    }
}
