//! How much of a bare loop's speed an enrich lane keeps.
//!
//! `cargo bench -p speedtrap-actors` runs the lane on in-memory ports against one loop on one thread that does the same reading,
//! filtering, lookup and serialising with a plain hash map and no actors. Both take records from the same source, in slices that
//! alternate, and count CPU time, so that a machine whose speed drifts slows both alike. It prints both rates and their ratio,
//! for a stream where 7 % of the readings are violations and for one where 70 % are.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use speedtrap_actors::adapters::{CachedDrivers, DriverCacheLimits};
use speedtrap_actors::cluster::{Application, Cluster, start_node};
use speedtrap_actors::domain::{Driver, PlateKey, Position, SequenceNumber, ShardId, SpeedEvent, SpeedMph};
use speedtrap_actors::flow::Backoff;
use speedtrap_actors::lane::{EnrichStages, LaneSettings, LeaseTiming, Stages};
use speedtrap_actors::observe::{ActorTable, LaneStats, LeaseBoard};
use speedtrap_actors::ports::{
    OutRecord, Page, Record, Refused, RemoteFailure, Shard, ShardIterator, ShardSource, SourceError, StartAt, ViolationStore,
    ViolationStream,
};
use speedtrap_actors::testing::{MemoryDeadLetters, MemoryDriverDirectory, MemoryLeaseTable, sample_driver};
use speedtrap_actors::wire::{read_reading, write_published};
use tokio::sync::Notify;

/// Readings of one slice: about a tenth of a second.
const SLICE: u64 = 100_000;
/// Slices of each subject that count, after two that do not.
const SLICES: usize = 21;
const DRIVERS: usize = 1_000;
const LIMIT: u16 = 75;

fn main() {
    println!(
        "enrich lane against a bare loop: {SLICES} slices of {SLICE} readings each, alternating, CPU time, one thread, {DRIVERS} drivers"
    );
    for percent in [7, 70] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let (bare, lane) = runtime.block_on(compare(percent));
        let ratios: Vec<f64> = bare.iter().zip(&lane).map(|(bare, lane)| bare / lane).collect();
        println!(
            "{percent:>3} % violations: bare loop {:>6.0} ns a reading ({:.2} M/s), lane {:>6.0} ns ({:.2} M/s), the lane keeps {:.0} % (slices {:.0} % to {:.0} %)",
            median(&bare),
            1e3 / median(&bare),
            median(&lane),
            1e3 / median(&lane),
            median(&ratios) * 100.0,
            ratios.iter().copied().fold(f64::INFINITY, f64::min) * 100.0,
            ratios.iter().copied().fold(0.0, f64::max) * 100.0,
        );
    }
}

/// CPU nanoseconds a reading, slice by slice, of the bare loop and of the lane.
async fn compare(percent: usize) -> (Vec<f64>, Vec<f64>) {
    let readings = readings(percent);
    let directory = MemoryDriverDirectory::default();
    let mut map = HashMap::new();
    for n in 0..DRIVERS {
        let (plate, driver) = (plate(n), sample_driver("Ada"));
        directory.register(&plate, driver.clone());
        map.insert(PlateKey::of(&plate), Arc::new(driver));
    }
    let source = Arc::new(Tap::new(readings.clone()));
    let bare_source = Tap::new(readings);
    let node = start_node("bench#1", &ActorTable::default(), vec![application(Arc::clone(&source), directory)], Cluster::alone())
        .await
        .expect("a node starts");
    let (mut bare, mut lane) = (Vec::new(), Vec::new());
    for n in 0..SLICES + 2 {
        let start = cpu_time();
        bare_slice(&bare_source, &map);
        let middle = cpu_time();
        source.pour(SLICE).await;
        let end = cpu_time();
        if n >= 2 {
            bare.push((middle - start).as_nanos() as f64 / SLICE as f64);
            lane.push((end - middle).as_nanos() as f64 / SLICE as f64);
        }
    }
    node.actor().get_cell().kill();
    (bare, lane)
}

/// The limit: what has to be done with each reading, and nothing else.
fn bare_slice(source: &Tap, drivers: &HashMap<PlateKey, Arc<Driver>>) {
    let limit = SpeedMph::new(LIMIT).expect("a speed");
    let mut left = SLICE;
    let mut out = Vec::with_capacity(1_000);
    while left > 0 {
        let records = source.take(left.min(1_000));
        left -= records.len() as u64;
        for record in &records {
            match read_reading(&record.data) {
                Ok(reading) if reading.speed > limit => {
                    let event: SpeedEvent = reading.to_event();
                    if let Some(driver) = drivers.get(&event.plate_key()) {
                        let data = Bytes::from(write_published(&event, driver));
                        out.push(OutRecord { partition_key: event.license_plate().to_owned(), data });
                    }
                }
                _ => {}
            }
        }
        black_box(&out);
        out.clear();
    }
}

fn plate(n: usize) -> String {
    format!("{n:04}-B")
}

fn readings(percent: usize) -> Vec<Bytes> {
    let reading = |n: usize| {
        let mph = if n * 7919 % 100 < percent { 76 + n % 35 } else { 30 + n % 46 };
        format!(
            r#"{{"iottimestamp": "2020-07-01 12:00:00.{n:06}", "licensePlate": "{}", "longitude": "101.766855", "latitude": "79.694526", "city": "West Kristopher", "state": "Iowa", "speed": "{mph}"}}"#,
            plate(n * 31 % DRIVERS)
        )
    };
    (0..10_000).map(|n| Bytes::from(reading(n))).collect()
}

fn application(source: Arc<Tap>, directory: MemoryDriverDirectory) -> Application {
    Application {
        name: "bench".to_owned(),
        source,
        leases: Arc::new(MemoryLeaseTable::default()),
        letters: Arc::new(MemoryDeadLetters::default()),
        stages: Stages::Enrich(EnrichStages {
            limit: SpeedMph::new(LIMIT).expect("a speed"),
            raw: None,
            drivers: Arc::new(CachedDrivers::new(Arc::new(directory), DriverCacheLimits::default())),
            store: Arc::new(Sink),
            stream: Arc::new(Sink),
        }),
        settings: LaneSettings {
            credit_events: 2_000,
            credit_bytes: 2 << 20,
            batch_events: 500,
            batch_bytes: 512 << 10,
            poll_interval: Duration::ZERO,
            read_limit: 1_000,
            checkpoint_interval: Duration::from_secs(1),
            backoff: Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) },
            stall_after: Duration::from_secs(30),
            longest_call: Duration::from_secs(60),
        },
        start: StartAt::TrimHorizon,
        stats: LaneStats::default(),
        board: LeaseBoard::default(),
        timing: LeaseTiming {
            renew_every: Duration::from_millis(3_308),
            expires_after: Duration::from_secs(10),
            sync_every: Duration::from_secs(5),
        },
    }
}

/// A shard without end that gives out only as many records as were poured.
struct Tap {
    readings: Vec<Bytes>,
    given: AtomicU64,
    allowed: AtomicU64,
    more: Notify,
    empty: Notify,
}

impl Tap {
    fn new(readings: Vec<Bytes>) -> Self {
        Self { readings, given: AtomicU64::new(0), allowed: AtomicU64::new(0), more: Notify::new(), empty: Notify::new() }
    }

    fn take(&self, n: u64) -> Vec<Record> {
        let first = self.given.fetch_add(n, Relaxed);
        let record = |at: u64| Record {
            position: Position { sequence: SequenceNumber::parse(&format!("496{at:053}")).expect("digits"), sub: 0 },
            data: self.readings[usize::try_from(at).expect("a count") % self.readings.len()].clone(),
            arrived: None,
        };
        (first..first + n).map(record).collect()
    }

    /// Lets so many more records out, and waits until the reader asks for one beyond them. What it has still in its lane then is
    /// as much as it had when it began.
    async fn pour(&self, n: u64) {
        self.allowed.fetch_add(n, Relaxed);
        self.more.notify_one();
        // A permit may be left from before the pouring.
        while self.given.load(Relaxed) < self.allowed.load(Relaxed) {
            self.empty.notified().await;
        }
    }
}

#[async_trait]
impl ShardSource for Tap {
    fn stream(&self) -> &'static str {
        "bench"
    }

    fn most_bytes_per_second(&self) -> f64 {
        f64::INFINITY
    }

    async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        Ok(vec![Shard { id: ShardId::new("shardId-000000000000"), parents: Vec::new(), hash_range: None }])
    }

    async fn iterator(&self, _: &ShardId, _: &StartAt) -> Result<ShardIterator, SourceError> {
        Ok(ShardIterator(String::new()))
    }

    async fn read(&self, iterator: &ShardIterator, limit: usize) -> Result<Page, SourceError> {
        while self.given.load(Relaxed) >= self.allowed.load(Relaxed) {
            self.empty.notify_one();
            self.more.notified().await;
        }
        let left = self.allowed.load(Relaxed) - self.given.load(Relaxed);
        Ok(Page { records: self.take(left.min(limit as u64)), next: Some(iterator.clone()), millis_behind_latest: Some(0) })
    }
}

/// Takes everything at once.
struct Sink;

#[async_trait]
impl ViolationStore for Sink {
    async fn put(&self, events: &[&SpeedEvent]) -> Result<Vec<Refused>, RemoteFailure> {
        black_box(events);
        Ok(Vec::new())
    }
}

#[async_trait]
impl ViolationStream for Sink {
    async fn publish(&self, records: &[OutRecord]) -> Result<Vec<Refused>, RemoteFailure> {
        black_box(records);
        Ok(Vec::new())
    }
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, which is ours.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(answer, 0, "the process has a CPU clock");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below a second"))
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
