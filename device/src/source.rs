//! Where readings come from, one by one.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::rate;
use crate::failure::Failure;
use crate::reading::Reading;
use crate::readings_file::{ReadingsFile, Row};
use crate::report::RejectedRow;

/// How far a slow taker may lag behind the rate and still catch up; more would be a burst.
const RATE_SLACK: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub(crate) struct SourceArgs {
    /// Readings CSV with the header licensePlate,longitude,latitude,city,state,speed.
    #[arg(long, value_name = "READINGS.csv")]
    file: PathBuf,
    /// Readings a second; 0 is as fast as the broker acknowledges. AWS IoT allows 100 a second on one connection.
    #[arg(long, default_value_t = 0.0, value_parser = rate)]
    rate: f64,
    /// Stops after this many rows of the file; 0 is all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    count: u64,
}

/// What a source hands on.
pub(crate) enum Item {
    Reading {
        /// Row or line it came from, for messages.
        line: u64,
        reading: Reading,
        /// When the button was pressed; goes out as `iottimestamp`.
        pressed_at: jiff::Timestamp,
    },
    Rejected(RejectedRow),
}

/// A readings file, played row by row at a rate or as fast as rows are taken.
pub(crate) struct Source {
    rows: ReadingsFile,
    rate: f64,
    /// Rows that may still come.
    left: u64,
    next_due: Instant,
}

impl Source {
    pub(crate) fn open(args: &SourceArgs) -> Result<Self, Failure> {
        let rows = ReadingsFile::open(&args.file)?;
        let left = if args.count == 0 { u64::MAX } else { args.count };
        Ok(Self { rows, rate: args.rate, left, next_due: Instant::now() })
    }

    /// The next one as soon as it is there, `None` after the last. The future may be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.rate > 0.0 && self.next_due > Instant::now() {
            sleep_until(self.next_due).await;
        }
        let Some(row) = self.rows.next_row()? else { return Ok(None) };
        self.left -= 1;
        Ok(Some(match row {
            Row::Rejected(row) => Item::Rejected(row),
            Row::Reading { line, reading } => {
                if self.rate > 0.0 {
                    let now = Instant::now();
                    let earliest = now.checked_sub(RATE_SLACK).unwrap_or(now);
                    self.next_due = self.next_due.max(earliest) + Duration::from_secs_f64(1.0 / self.rate);
                }
                Item::Reading { line, reading, pressed_at: jiff::Timestamp::now() }
            }
        }))
    }

    /// Size of the file, for a progress bar.
    pub(crate) fn bytes(&self) -> u64 {
        self.rows.bytes()
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.rows.bytes_read()
    }
}
