//! A query in windows: every record in one of them, in little memory, while the lanes go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_sdk_kinesis::primitives::{DateTime, DateTimeFormat};
use aws_sdk_kinesis::types::Record;
use serde_json::Value;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::figures::say;
use speedtrap_tests::node::Node;
use speedtrap_tests::process::Process;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, IN_STREAM};
use tokio::time::sleep;

use super::lag::{FLOW, Lag, Lanes, flow, lag_ms, watch};
use super::{asked, reading, sql};

/// Records of the query in windows; more may be asked for by the environment.
const RECORDS: usize = 40_000;
const WINDOW: Duration = Duration::from_secs(1);
/// The engine's own bound is 256 MiB; the rest is code, most of it of a debug build, and the pages that are read.
const MOST_RSS_KIB: u64 = 400 * 1024;
/// How much further a lane may be behind for a moment, on a machine that does other things, too.
const LAG_MARGIN_MS: u64 = 5_000;

fn window_of(record: &Record) -> Result<u128> {
    let at = SystemTime::try_from(record.approximate_arrival_timestamp.context("a record that arrived at no time")?)?;
    Ok(at.duration_since(SystemTime::UNIX_EPOCH)?.as_millis() / WINDOW.as_millis())
}

/// What the lines of a query in windows tell.
#[derive(Default)]
struct Told {
    /// Rows by window and shard.
    rows: BTreeMap<(u128, String), u64>,
    first: u128,
    closed: u64,
    records: u64,
    late: u64,
}

impl Told {
    fn of(lines: &[Value]) -> Result<Self> {
        let mut told = Self::default();
        for line in lines {
            let start = DateTime::from_str(line["window_start"].as_str().unwrap_or_default(), DateTimeFormat::DateTime)?;
            let window = u128::try_from(start.to_millis()?)? / WINDOW.as_millis();
            if line["closed"] == true {
                told.first = if told.closed == 0 { window } else { told.first };
                ensure!(window == told.first + u128::from(told.closed), "windows follow each other: {line}");
                told.closed += 1;
                told.records += line["records"].as_u64().context("records")?;
                told.late += line["late"].as_u64().context("late")?;
                continue;
            }
            let n = line["n"].as_u64().context("a count")?;
            ensure!(line["events"].as_u64() == Some(n), "every event is there once: {line}");
            told.rows.insert((window, line["shard"].as_str().unwrap_or_default().to_owned()), n);
        }
        Ok(told)
    }

    fn is(&self, expected: &BTreeMap<(u128, String), u64>) -> Result<()> {
        ensure!(self.rows == *expected, "windows hold {:?}, not {expected:?}", self.rows);
        ensure!(self.records == expected.values().sum::<u64>() && self.late == 0, "{} records, {} late", self.records, self.late);
        Ok(())
    }
}

/// What arrived in these windows, by window and shard, as a plain client sees it; and how much there is in all.
async fn arrived(sandbox: &Sandbox, first: u128, windows: u64) -> Result<(BTreeMap<(u128, String), u64>, u64)> {
    let (mut arrived, mut n_seen) = (BTreeMap::new(), 0);
    for (shard, records) in streams::records_by_shard(&sandbox.clients.kinesis, IN_STREAM).await? {
        for record in &records {
            *arrived.entry((window_of(record)?, shard.clone())).or_default() += 1;
        }
        n_seen += records.len() as u64;
    }
    arrived.retain(|(window, _): &(u128, String), _| (first..first + u128::from(windows)).contains(window));
    Ok((arrived, n_seen))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_in_windows_counts_every_record_once_in_little_memory_and_holds_no_lane_up() -> Result<()> {
    let n_records = match std::env::var("SPEEDTRAP_SQL_RECORDS") {
        Ok(text) => text.parse().context("SPEEDTRAP_SQL_RECORDS is no number")?,
        Err(_) => RECORDS,
    };
    let sandbox = Sandbox::up_with_shards(4).await?;
    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    let from = SystemTime::now();
    for first in (0..n_records).step_by(2_000) {
        // Nearly all are under the limit: it is the reading that is measured here.
        let record = |n: usize| {
            reading(&format!("w-{n}"), &format!("W-{}", n % 5_000), n, if n.is_multiple_of(2_000) { 80 } else { n % 70 })
        };
        let records: Vec<_> = (first..n_records.min(first + 2_000)).map(record).collect();
        streams::put(&sandbox.clients.kinesis, IN_STREAM, &records).await?;
    }
    let windows = from.elapsed()?.as_secs() / WINDOW.as_secs() + 2;
    eventually("the lanes are through", Duration::from_secs(900), || async {
        ensure!(node.status().await?.is_idle() && lag_ms(&sandbox, &node.url).await? == 0);
        Ok(())
    })
    .await?;

    let (stop, put) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(n_records as u64)));
    let flow = tokio::spawn(flow(sandbox.clients.kinesis.clone(), Arc::clone(&stop), Arc::clone(&put)));
    let lanes = Lanes { sandbox: &sandbox, node: &node, put: &put };
    let before = lanes.watched(10).await?;
    let begin_seconds = from.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let begin = DateTime::from_secs(i64::try_from(begin_seconds)?).to_string();
    let (every, count) = (format!("{}s", WINDOW.as_secs()), windows.to_string());
    let statement =
        "SELECT shard, count(*) AS n, sum(speed) AS speeds, count(DISTINCT event_id) AS events FROM readings GROUP BY shard";
    let command = sql(&sandbox, &["--json", "--every", &every, "--from", &begin, "--windows", &count, statement])?;
    let watched = watch(lanes, command).await?;
    let after = lanes.watched(10).await?;
    windows_are_closed_while_readings_come(&sandbox).await?;
    stop.store(true, Ordering::Relaxed);
    flow.await??;

    let told = Told::of(&watched.lines)?;
    let (expected, n_seen) = arrived(&sandbox, told.first, told.closed).await?;
    ensure!(n_seen == put.load(Ordering::Relaxed), "{n_seen} records are on the stream, {put:?} were put");
    let Told { records, late, closed, .. } = told;
    say(
        "live_sql",
        &format!(
            "{records} records in {closed} windows of {} s, {late} late, in {:.0} s; peak RSS {:.0} MiB ({} build)",
            WINDOW.as_secs(),
            watched.took.as_secs_f64(),
            watched.peak_kib as f64 / 1024.0,
            if cfg!(debug_assertions) { "debug" } else { "release" }
        ),
    );
    let shown = |lag: Lag| format!("{} ms and {} unsettled readings", lag.ms, lag.readings);
    say(
        "live_sql",
        &format!(
            "most lag of the enrich lanes, with {} readings a second: {} before, {} during, {} after",
            2 * FLOW,
            shown(before),
            shown(watched.lag),
            shown(after)
        ),
    );
    told.is(&expected)?;
    ensure!(closed == windows && told.first == u128::from(begin_seconds) * 1_000 / WINDOW.as_millis(), "{closed} windows");
    ensure!(records >= n_records as u64, "{records} records are in windows, {n_records} were put before");
    ensure!(watched.peak_kib > 0 && watched.peak_kib <= MOST_RSS_KIB, "{} KiB", watched.peak_kib);
    for lag in [watched.lag, after] {
        ensure!(lag.ms <= before.ms + LAG_MARGIN_MS, "lanes were held up: {lag:?}, {before:?} before");
        let margin = LAG_MARGIN_MS * 2 * FLOW as u64 / 1_000;
        ensure!(lag.readings <= before.readings + margin, "lanes were held up: {lag:?}, {before:?} before");
    }
    an_interrupted_query_says_so(&sandbox).await?;
    node.stop().await?;
    sandbox.end().await
}

async fn windows_are_closed_while_readings_come(sandbox: &Sandbox) -> Result<()> {
    let every = format!("{}s", WINDOW.as_secs());
    let statement = "SELECT shard, count(*) AS n, count(DISTINCT event_id) AS events FROM readings GROUP BY shard";
    let ended = asked(sandbox, &["--json", "--every", &every, "--windows", "4", statement]).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let lines: Vec<Value> = ended.out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    let told = Told::of(&lines)?;
    ensure!(told.closed == 4 && told.records > 0, "{ended:?}");
    told.is(&arrived(sandbox, told.first, told.closed).await?.0)
}

async fn an_interrupted_query_says_so(sandbox: &Sandbox) -> Result<()> {
    let command = sql(sandbox, &["--every", "5s", "SELECT state, count(*) AS n FROM readings GROUP BY state"])?;
    let mut process = Process::start_with_output("interrupted", command, sandbox.folder())?;
    sleep(Duration::from_secs(3)).await;
    process.signal(libc::SIGINT)?;
    let status = process.ended(Duration::from_secs(5)).await?;
    ensure!(status.code() == Some(130) && process.log().contains("was cut off"), "{status}: {}", process.log());
    Ok(())
}
