//! `crawl`: proposes a contract for a file.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::CliError;
use super::output::print;
use crate::contract::COLUMNS;
use crate::crawl::{Proposal, crawl};
use crate::load_file::unreadable;

pub(super) const EXAMPLES: &str = "\
Examples:
  speedtrap-loader crawl export.csv
  speedtrap-loader crawl export.csv --rows 50000 --out mine.toml
  speedtrap-loader crawl export.csv --plate Kennzeichen --out mine.toml && speedtrap-loader check export.csv --contract mine.toml";

#[derive(Debug, Args)]
pub(super) struct CrawlArgs {
    /// A CSV file with a header; comma, semicolon, tab or | separate its columns.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Rows to look at.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// The column with the licence plate, where its name does not say it.
    #[arg(long, value_name = "COLUMN")]
    plate: Option<String>,
    /// Write the contract there instead of to stdout; a file that exists is not replaced.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the proposal as one JSON object, the contract in its member `contract`.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    file: String,
    rows: u64,
    broken: u64,
    delimiter: char,
    columns: Vec<AnswerColumn<'a>>,
    contract: &'a str,
    written_to: Option<&'a PathBuf>,
}

#[derive(Serialize)]
struct AnswerColumn<'a> {
    name: &'a str,
    warehouse: Option<&'static str>,
    #[serde(rename = "type")]
    kind: &'static str,
    bytes: usize,
    longest_bytes: usize,
    empty: u64,
}

impl CrawlArgs {
    pub(super) fn run(self) -> Result<u8, CliError> {
        let file = File::open(&self.file).map_err(|error| unreadable(&self.file, error))?;
        let proposal = crawl(BufReader::new(file), self.rows, self.plate.as_deref())
            .map_err(|fault| CliError::Crawl { path: self.file.clone(), fault })?;
        let name = self.file.file_name().map_or_else(Default::default, |name| name.to_string_lossy().into_owned());
        let contract = proposal.to_toml(&name);
        if let Some(out) = &self.out {
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .open(out)
                .map_err(|error| std::io::Error::new(error.kind(), format!("`{}`: {error}", out.display())))?;
            file.write_all(contract.as_bytes())?;
        }
        let words = match &self.out {
            Some(out) => format!("contract for {name} from {} rows: {}", proposal.rows, out.display()),
            None => contract.trim_end().to_owned(),
        };
        print(&self.answer(&proposal, name, &contract), self.json, words)?;
        Ok(0)
    }

    fn answer<'a>(&'a self, proposal: &'a Proposal, file: String, contract: &'a str) -> Answer<'a> {
        let columns = proposal
            .columns
            .iter()
            .map(|column| AnswerColumn {
                name: &column.name,
                warehouse: column.place.map(|place| COLUMNS[place].warehouse),
                kind: "varchar",
                bytes: column.bytes(),
                longest_bytes: column.longest,
                empty: column.empty,
            })
            .collect();
        Answer {
            file,
            rows: proposal.rows,
            broken: proposal.broken,
            delimiter: char::from(proposal.delimiter),
            columns,
            contract,
            written_to: self.out.as_ref(),
        }
    }
}
