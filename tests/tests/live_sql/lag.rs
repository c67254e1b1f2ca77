//! How far lanes are behind while a query runs beside them, and what it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::commands::run;
use speedtrap_tests::node::Node;
use speedtrap_tests::process::Process;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, IN_STREAM};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::reading;

/// Readings that go on coming while lags are measured, in each half of a second.
pub(super) const FLOW: usize = 50;

/// Lags of the lanes of role enrich, as an operator is told.
pub(super) async fn lag_ms(sandbox: &Sandbox, url: &str) -> Result<u64> {
    let mut command = programs::command("speedtrap")?;
    sandbox.endpoints.aws_environment(&mut command);
    command.args(["shards", "--json", "--node", url]);
    let page = run(command).await?.json()?;
    let shards = page["shards"].as_array().context("shards")?;
    let lags = shards.iter().filter(|shard| shard["role"] == "enrich").filter_map(|shard| shard["lane"]["lag_ms"].as_u64());
    lags.max().context("no lane of role enrich tells how far it is behind")
}

/// How far the lanes are behind, at most: what an operator is told, and readings that were put and are not settled yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag {
    pub(super) ms: u64,
    pub(super) readings: u64,
}

/// The lanes, and how many readings were put so far.
#[derive(Clone, Copy)]
pub(super) struct Lanes<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) node: &'a Node,
    pub(super) put: &'a AtomicU64,
}

impl Lanes<'_> {
    async fn look(self, most: Lag) -> Result<Lag> {
        let put = self.put.load(Ordering::Relaxed);
        let (ms, status) = (lag_ms(self.sandbox, &self.node.url).await?, self.node.status().await?);
        let readings = put.saturating_sub(status.all_ended("enrich"));
        Ok(Lag { ms: most.ms.max(ms), readings: most.readings.max(readings) })
    }

    pub(super) async fn watched(self, looks: u32) -> Result<Lag> {
        let mut most = Lag::default();
        for _ in 0..looks {
            most = self.look(most).await?;
            sleep(Duration::from_millis(500)).await;
        }
        Ok(most)
    }
}

fn peak_rss_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// Puts readings onto the in-stream until it is told to stop.
pub(super) async fn flow(kinesis: aws_sdk_kinesis::Client, stop: Arc<AtomicBool>, put: Arc<AtomicU64>) -> Result<()> {
    for first in (0..).step_by(FLOW) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let record = |n: usize| reading(&format!("f-{n}"), &format!("F-{}", n % 97), n, n % 70);
        streams::put(&kinesis, IN_STREAM, &(first..first + FLOW).map(record).collect::<Vec<_>>()).await?;
        put.fetch_add(FLOW as u64, Ordering::Relaxed);
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// What a program that was run over windows did.
pub(super) struct Watched {
    pub(super) lines: Vec<Value>,
    pub(super) peak_kib: u64,
    pub(super) lag: Lag,
    pub(super) took: Duration,
}

pub(super) async fn watch(lanes: Lanes<'_>, command: Command) -> Result<Watched> {
    let began = Instant::now();
    let mut process = Process::start_with_output("sql", command, lanes.sandbox.folder())?;
    let pid = process.pid()?;
    let (mut peak_kib, mut lag) = (0, Lag::default());
    let mut looked = Instant::now();
    let status = loop {
        if let Ok(status) = process.ended(Duration::from_millis(50)).await {
            break status;
        }
        peak_kib = peak_kib.max(peak_rss_kib(pid).unwrap_or_default());
        if looked.elapsed() > Duration::from_millis(500) {
            lag = lanes.look(lag).await?;
            looked = Instant::now();
        }
        ensure!(began.elapsed() < Duration::from_secs(1_800), "it does not end\n{}", process.log_tail());
    };
    ensure!(status.code() == Some(0), "it ended with {status}\n{}", process.log());
    let out = std::fs::read_to_string(lanes.sandbox.folder().join("sql.out"))?;
    let lines = out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    Ok(Watched { lines, peak_kib, lag, took: began.elapsed() })
}
