//! The command line, and the dirt levels with their shares.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  speedtrap-data drivers --rows 1000 --out drivers.csv
  speedtrap-data readings --rows 50000 --drivers drivers.csv --unknown-share 0.01 --out readings.csv
  speedtrap-data readings --rows 20 --dirt none
  speedtrap-data drivers --rows 100000 --dirt heavy --crlf false --json --out dirty.csv

With --out - (the default) the rows go to standard output and the summary to standard error.
The same seed, rows and flags always give the same bytes.";

/// Makes driver and reading CSV files: seeded, any size, with the dirt real files have.
#[derive(Parser)]
#[command(name = "speedtrap-data", version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a drivers file: one registered owner per plate, no plate twice.
    #[command(after_help = EXAMPLES)]
    Drivers(DriversArgs),
    /// Makes a readings file: speeds 60 to 110, 70 % of them above 75, exactly 75 always among them.
    #[command(after_help = EXAMPLES)]
    Readings(ReadingsArgs),
}

#[derive(Args)]
pub(crate) struct Shape {
    /// Rows to make, without the header.
    #[arg(long, default_value_t = 1_000)]
    rows: u64,
    /// Seed of everything random in the file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
pub(crate) struct Output {
    /// Where the rows go; `-` is standard output.
    #[arg(long, default_value = "-", value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Prints the summary as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Output {
    pub(crate) fn to_stdout(&self) -> bool {
        self.out.as_os_str() == "-"
    }
}

#[derive(Args)]
pub(crate) struct DriversArgs {
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    pub(crate) dirt: DirtArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl DriversArgs {
    pub(crate) fn rows(&self) -> u64 {
        self.shape.rows
    }

    pub(crate) fn seed(&self) -> u64 {
        self.shape.seed
    }
}

#[derive(Args)]
pub(crate) struct ReadingsArgs {
    #[command(flatten)]
    shape: Shape,
    /// Drivers file to draw the plates from; without it, plates of `drivers` with the same seed and dirt are drawn.
    #[arg(long, value_name = "FILE")]
    pub(crate) drivers: Option<PathBuf>,
    /// How many drivers to draw from when there is no drivers file.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) driver_rows: u64,
    /// Share of the readings whose plate no driver has.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) unknown_share: f64,
    #[command(flatten)]
    pub(crate) dirt: DirtArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl ReadingsArgs {
    pub(crate) fn rows(&self) -> u64 {
        self.shape.rows
    }

    pub(crate) fn seed(&self) -> u64 {
        self.shape.seed
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum DirtLevel {
    /// LF, final newline, ASCII, every value in its best form.
    None,
    /// What a good real file has; no row of it may be rejected.
    Light,
    /// Light, more of it, and rows and values that must be rejected.
    Heavy,
}

/// Each flag overrides the level's choice.
#[derive(Args)]
pub(crate) struct DirtArgs {
    /// How dirty the file is.
    #[arg(long, value_enum, default_value = "light")]
    dirt: DirtLevel,
    /// Ends lines with CR LF (default: at level light and heavy).
    #[arg(long, action = ArgAction::Set)]
    crlf: Option<bool>,
    /// Ends the last row with a newline (default: only at level none).
    #[arg(long, action = ArgAction::Set)]
    final_newline: Option<bool>,
    /// Share of plates such as `95B•140`, and of places, with characters outside ASCII.
    #[arg(long, value_parser = share)]
    non_ascii_share: Option<f64>,
    /// Share of fields with a quoted comma (addresses, cities).
    #[arg(long, value_parser = share)]
    quoted_share: Option<f64>,
    /// Share of drivers whose `myphone` cannot be texted.
    #[arg(long, value_parser = share)]
    bad_myphone_share: Option<f64>,
    /// Share of rows that must be rejected when the file is read: too few or too many fields (and, for drivers, no plate).
    #[arg(long, value_parser = share)]
    bad_row_share: Option<f64>,
    /// Share of readings whose speed is no whole number of miles per hour; each becomes a dead letter.
    #[arg(long, value_parser = share)]
    bad_speed_share: Option<f64>,
}

/// What is done to the rows; shares are of all rows.
#[derive(Clone)]
pub(crate) struct Dirt {
    pub(crate) crlf: bool,
    pub(crate) final_newline: bool,
    pub(crate) non_ascii: f64,
    pub(crate) quoted: f64,
    pub(crate) lost_zip_zeros: bool,
    pub(crate) odd_phones: bool,
    /// Row 500 of a drivers file gets the plate that a spreadsheet makes of `6E272`.
    pub(crate) excel_plate: bool,
    pub(crate) bad_myphone: f64,
    pub(crate) bad_rows: f64,
    pub(crate) bad_speeds: f64,
}

impl DirtArgs {
    pub(crate) fn resolve(&self) -> Dirt {
        let (light, heavy) = match self.dirt {
            DirtLevel::None => (false, false),
            DirtLevel::Light => (true, false),
            DirtLevel::Heavy => (true, true),
        };
        let by_level = |light_share: f64, heavy_share: f64| match (light, heavy) {
            (_, true) => heavy_share,
            (true, false) => light_share,
            (false, false) => 0.0,
        };
        Dirt {
            crlf: self.crlf.unwrap_or(light),
            final_newline: self.final_newline.unwrap_or(!light),
            non_ascii: self.non_ascii_share.unwrap_or(by_level(0.005, 0.05)),
            quoted: self.quoted_share.unwrap_or(by_level(0.03, 0.1)),
            lost_zip_zeros: light,
            odd_phones: light,
            excel_plate: heavy,
            bad_myphone: self.bad_myphone_share.unwrap_or(by_level(0.0, 0.01)),
            bad_rows: self.bad_row_share.unwrap_or(by_level(0.0, 0.01)),
            bad_speeds: self.bad_speed_share.unwrap_or(by_level(0.0, 0.01)),
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".to_owned()),
    }
}
