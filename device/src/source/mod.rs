//! Where readings come from, one by one: a file or a sensor has them, and a press, a rate or nothing at all lets them go.

mod replay;
mod sensor;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use crate::config::rate;
use crate::failure::Failure;
use crate::reading::Reading;
use crate::readings_file::Row;
use crate::report::RejectedRow;
use crate::trigger::{Presses, TriggerArgs, TriggerKind};
use replay::Replay;
use sensor::Sensor;

/// How far a slow taker may lag behind the rate and still catch up; more would be a burst.
const RATE_SLACK: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    pub(crate) trigger: TriggerArgs,
    /// Readings a second; 0 is as fast as the broker acknowledges. AWS IoT allows 100 a second on one connection.
    #[arg(long, default_value_t = 0.0, value_parser = rate)]
    rate: f64,
    /// Stops after this many rows; 0 is all of them, and until stopped with --loop.
    #[arg(long, default_value_t = 0, value_name = "N")]
    count: u64,
    /// Begins again at the end of the file, or opens the sensor's named pipe again.
    #[arg(long = "loop")]
    again: bool,
}

#[derive(clap::Args)]
#[group(required = true)]
struct InputArgs {
    /// Readings CSV with the header licensePlate,longitude,latitude,city,state,speed.
    #[arg(long, value_name = "READINGS.csv", conflicts_with = "sensor")]
    file: Option<PathBuf>,
    /// Sensor that writes a reading a line as JSON with the same six members: `-` for standard input, a named pipe, a serial
    /// line or a file. Each is sent as it comes; a bad line is reported with its number.
    #[arg(long, value_name = "PATH", conflicts_with = "file")]
    sensor: Option<PathBuf>,
}

impl SourceArgs {
    /// Whether it goes on until somebody stops it.
    pub(crate) fn is_endless(&self) -> bool {
        self.trigger.trigger != TriggerKind::None || self.input.sensor.is_some() || self.again
    }
}

/// What a source hands on.
pub(crate) enum Item {
    Reading {
        /// Row or line it came from, for messages.
        line: u64,
        reading: Reading,
        /// When the button was pressed, or the sensor said it; goes out as `iottimestamp`.
        pressed_at: Timestamp,
    },
    Rejected(RejectedRow),
}

pub(crate) struct Source {
    rows: Rows,
    pace: Pace,
    /// Rows that may still come.
    left: u64,
    /// The row that goes out next: it is fetched first, so that a bad row takes no press, and no press is waited for at the end.
    next: Option<(u64, Reading, Option<Timestamp>)>,
}

enum Rows {
    Replay(Box<Replay>),
    Sensor(Sensor),
}

enum Pace {
    AtOnce,
    Rate { interval: Duration, next_due: Instant },
    Presses(Presses),
}

impl Source {
    pub(crate) fn open(args: &SourceArgs) -> Result<Self, Failure> {
        let has_trigger = args.trigger.trigger != TriggerKind::None;
        if has_trigger && (args.rate > 0.0 || args.input.sensor.is_some()) {
            let other = if args.rate > 0.0 { "--rate" } else { "--sensor" };
            return Err(Failure::Usage {
                what: format!("with --trigger it is a press that sends a row of --file, so {other} cannot be used"),
            });
        }
        let rows = match (&args.input.file, &args.input.sensor) {
            (Some(file), _) => Rows::Replay(Box::new(Replay::open(file, args.again)?)),
            (None, Some(sensor)) => Rows::Sensor(Sensor::open(sensor, args.again)?),
            (None, None) => return Err(Failure::Usage { what: "there is neither --file nor --sensor".to_owned() }),
        };
        let pace = match args.trigger.open()? {
            Some(presses) => Pace::Presses(presses),
            None if args.rate > 0.0 => {
                Pace::Rate { interval: Duration::from_secs_f64(1.0 / args.rate), next_due: Instant::now() }
            }
            None => Pace::AtOnce,
        };
        let left = if args.count == 0 { u64::MAX } else { args.count };
        Ok(Self { rows, pace, left, next: None })
    }

    /// The next one as soon as it is there, `None` after the last. The future may be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Failure> {
        if self.next.is_none() {
            if self.left == 0 {
                return Ok(None);
            }
            let row = match &mut self.rows {
                Rows::Replay(replay) => replay.next()?.map(|row| (row, None)),
                Rows::Sensor(sensor) => sensor.next().await?.map(|(row, came_at)| (row, Some(came_at))),
            };
            let Some((row, came_at)) = row else { return Ok(None) };
            self.left -= 1;
            match row {
                Row::Rejected(row) => return Ok(Some(Item::Rejected(row))),
                Row::Reading { line, reading } => self.next = Some((line, reading, came_at)),
            }
        }
        let pressed_at = match &mut self.pace {
            Pace::AtOnce => None,
            Pace::Rate { interval, next_due } => {
                if *next_due > Instant::now() {
                    sleep_until(*next_due).await;
                }
                let now = Instant::now();
                *next_due = (*next_due).max(now.checked_sub(RATE_SLACK).unwrap_or(now)) + *interval;
                None
            }
            Pace::Presses(presses) => match presses.next().await {
                Some(pressed_at) => Some(pressed_at),
                None => return Ok(None),
            },
        };
        let next = self.next.take();
        Ok(next.map(|(line, reading, came_at)| Item::Reading {
            line,
            reading,
            pressed_at: pressed_at.or(came_at).unwrap_or_else(Timestamp::now),
        }))
    }

    /// Whether readings come as fast as they are taken, so that the taker must set the pace.
    pub(crate) fn is_unpaced(&self) -> bool {
        matches!((&self.rows, &self.pace), (Rows::Replay(_), Pace::AtOnce))
    }

    /// Size of the file, for a progress bar; none where readings come when they like.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match (&self.rows, &self.pace) {
            (Rows::Replay(replay), Pace::AtOnce | Pace::Rate { .. }) => Some(replay.bytes()),
            _ => None,
        }
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        match &self.rows {
            Rows::Replay(replay) => replay.bytes_read(),
            Rows::Sensor(_) => 0,
        }
    }
}
