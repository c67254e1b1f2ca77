//! Readings whose ids are known before they are sent, put straight onto the in-stream at a steady rate over all shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::commands;
use crate::oracle::{Driver, Expected, Violation, read_drivers};
use crate::sandbox::Sandbox;
use crate::streams::IN_STREAM;

/// Time between two calls: many readings share one, and it is short beside what is measured.
const TICK: Duration = Duration::from_millis(50);
const SPEED_LIMIT: u32 = 75;

/// What comes in.
#[derive(Clone, Debug)]
pub struct Mix {
    pub seed: u64,
    /// Share of readings above the limit.
    pub violations: f64,
    /// Share of drivers whose number cannot be texted.
    pub bad_numbers: f64,
    /// Plates that no driver has.
    pub unknown_plates: usize,
}

/// A reading that was accepted by the in-stream.
#[derive(Clone, Debug)]
pub struct Sent {
    pub event_id: String,
    pub iottimestamp: String,
    /// Plate, longitude, latitude, city, state, speed; above the limit or not.
    pub values: Violation,
    /// The shard of the in-stream it went to.
    pub shard: String,
    pub at: SystemTime,
}

/// A stream of readings, and the memory of all of them.
pub struct Traffic {
    kinesis: Client,
    mix: Mix,
    pub drivers: BTreeMap<String, Driver>,
    rng: SmallRng,
    /// Plates by the shard that their readings went to last.
    plates: BTreeMap<String, Vec<String>>,
    made: usize,
    sent: Arc<Mutex<Vec<Sent>>>,
}

/// Traffic that flows until it is stopped.
pub struct Flow {
    rate: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Sent>>>,
    task: JoinHandle<Result<Traffic>>,
}

impl Sent {
    /// Whether it is above the limit.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.values[5].parse::<u32>().is_ok_and(|speed| speed > SPEED_LIMIT)
    }

    fn json(&self) -> Vec<u8> {
        let [plate, longitude, latitude, city, state, speed] = &self.values;
        serde_json::json!({
            "iottimestamp": self.iottimestamp, "licensePlate": plate, "longitude": longitude, "latitude": latitude,
            "city": city, "state": state, "speed": speed, "eventId": self.event_id, "topic": "rtr/iot/trafficdata",
        })
        .to_string()
        .into_bytes()
    }
}

impl Traffic {
    /// Makes drivers and loads them, then sends one reading of each plate, from which it learns where plates go.
    ///
    /// # Errors
    /// When that fails.
    pub async fn begin(sandbox: &Sandbox, drivers: u32, mix: Mix) -> Result<Self> {
        let (seed, rows, bad) = (mix.seed.to_string(), drivers.to_string(), mix.bad_numbers.to_string());
        let arguments = ["drivers", "--rows", &rows, "--seed", &seed, "--bad-myphone-share", &bad];
        let file = commands::make_csv(sandbox.folder(), "drivers.csv", &arguments).await?;
        sandbox.load(&file).await?;
        let drivers = read_drivers(&file)?;
        let unknown = unknown_plates(sandbox.folder(), &mix, &drivers).await?;
        let plates = read_plates(&file)?.into_iter().chain(unknown).collect();
        let mut traffic = Self {
            kinesis: sandbox.clients.kinesis.clone(),
            rng: SmallRng::seed_from_u64(mix.seed),
            mix,
            drivers,
            plates: BTreeMap::from([(String::new(), plates)]),
            made: 0,
            sent: Arc::default(),
        };
        let all = traffic.plates.values().map(Vec::len).sum();
        traffic.send(all).await?;
        traffic.learn_shards();
        Ok(traffic)
    }

    /// Sends readings at once; they go to all shards alike, and to the plates of a shard in turn.
    ///
    /// # Errors
    /// When one is not accepted.
    pub async fn send(&mut self, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let batch: Vec<Sent> = (0..left.min(500)).map(|_| self.next()).collect();
            left -= batch.len();
            let mut request = self.kinesis.put_records().stream_name(IN_STREAM);
            for reading in &batch {
                let entry = PutRecordsRequestEntry::builder().partition_key(&reading.values[0]).data(Blob::new(reading.json()));
                request = request.records(entry.build()?);
            }
            let answer = request.send().await.context("PutRecords failed")?;
            ensure!(answer.failed_record_count.unwrap_or_default() == 0, "some readings were not accepted: {answer:?}");
            let at = SystemTime::now();
            let shards = answer.records.into_iter().map(|record| record.shard_id.unwrap_or_default());
            lock(&self.sent).extend(batch.into_iter().zip(shards).map(|(reading, shard)| Sent { shard, at, ..reading }));
        }
        Ok(())
    }

    /// Sends so many readings a second, from a task of its own.
    #[must_use]
    pub fn flow(mut self, rate: u32) -> Flow {
        let (stop, rate) = (Arc::<AtomicBool>::default(), Arc::new(AtomicU32::new(rate)));
        let (stopped, rate_now, sent) = (Arc::clone(&stop), Arc::clone(&rate), Arc::clone(&self.sent));
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut owed, mut last) = (0.0, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                let now = ticks.tick().await;
                owed += f64::from(rate_now.load(Ordering::Relaxed)) * (now - last).as_secs_f64();
                last = now;
                self.send(owed as usize).await?;
                owed = owed.fract();
            }
            Ok(self)
        });
        Flow { rate, stop, sent, task }
    }

    /// Takes note of where plates went last, as after a reshard.
    pub fn learn_shards(&mut self) {
        let shards: BTreeMap<String, String> =
            lock(&self.sent).iter().map(|reading| (reading.values[0].clone(), reading.shard.clone())).collect();
        let mut plates = BTreeMap::<String, Vec<String>>::new();
        for (plate, shard) in shards {
            plates.entry(shard).or_default().push(plate);
        }
        self.plates = plates;
    }

    /// Everything that was sent, in the order of sending.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        lock(&self.sent).clone()
    }

    /// What must come of everything that was sent.
    #[must_use]
    pub fn expected(&self) -> Expected {
        let sent = lock(&self.sent);
        let mut violations: Vec<Violation> =
            sent.iter().filter(|reading| reading.is_violation()).map(|reading| reading.values.clone()).collect();
        violations.sort();
        Expected { drivers: self.drivers.clone(), readings: sent.len() as u64, violations, bad_speeds: 0 }
    }

    /// Places differ from reading to reading, so that no two of them are alike in anything but the plate.
    fn next(&mut self) -> Sent {
        let n = self.made;
        self.made += 1;
        let shards = self.plates.len();
        let in_shard = self.plates.values().nth(n % shards).map_or(&[][..], Vec::as_slice);
        let plate = in_shard[n / shards % in_shard.len()].clone();
        let is_violation = self.rng.random_bool(self.mix.violations);
        let speed = if is_violation { self.rng.random_range(76..=140) } else { self.rng.random_range(20..=75) };
        let (day, hour, minute, second) = (1 + n / 86_400, n / 3_600 % 24, n / 60 % 60, n % 60);
        let values = [
            plate,
            format!("{:.6}", -80.0 - n as f64 / 1e6),
            format!("{:.6}", 40.0 + n as f64 / 1e6),
            "Pebblestow".to_owned(),
            "Iowa".to_owned(),
            speed.to_string(),
        ];
        Sent {
            event_id: format!("reading-{n:06}"),
            iottimestamp: format!("2026-01-{day:02} {hour:02}:{minute:02}:{second:02}.000001"),
            values,
            shard: String::new(),
            at: SystemTime::UNIX_EPOCH,
        }
    }
}

impl Flow {
    /// Readings sent so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.sent).len()
    }

    /// Sends so many a second from now on.
    pub fn set_rate(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// Sends the last ones and gives the traffic back.
    ///
    /// # Errors
    /// When the in-stream did not accept everything.
    pub async fn stop(mut self) -> Result<Traffic> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.task).await?
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(sent: &Mutex<Vec<Sent>>) -> MutexGuard<'_, Vec<Sent>> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plates as the drivers file writes them.
fn read_plates(file: &Path) -> Result<Vec<String>> {
    let mut reader = csv::Reader::from_path(file)?;
    let plates: Vec<String> = reader.records().map(|row| Ok(row?[2].to_owned())).collect::<Result<_>>()?;
    let distinct: BTreeSet<&String> = plates.iter().collect();
    ensure!(distinct.len() == plates.len(), "the drivers file repeats a plate");
    Ok(plates)
}

async fn unknown_plates(folder: &Path, mix: &Mix, drivers: &BTreeMap<String, Driver>) -> Result<Vec<String>> {
    if mix.unknown_plates == 0 {
        return Ok(Vec::new());
    }
    let (rows, seed) = (mix.unknown_plates.to_string(), (mix.seed + 1_000).to_string());
    let file = commands::make_csv(folder, "unknown.csv", &["drivers", "--rows", &rows, "--seed", &seed]).await?;
    let plates = read_plates(&file)?;
    Ok(plates.into_iter().filter(|plate| !drivers.contains_key(&plate.trim().to_uppercase())).collect())
}
