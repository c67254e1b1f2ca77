//! What a node with nothing to do costs: memory, and writes to DynamoDB, each explained by the settings.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::figures::say;
use speedtrap_tests::leases::{APPLICATIONS, NODE_TABLE};
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::traffic::{Mix, Traffic};
use speedtrap_tests::wiretap::Wiretaps;
use tokio::time::sleep;

const SHARDS: u32 = 4;
/// In, out, change stream, errors.
const LEASES: f64 = SHARDS as f64 + 3.0;
/// `lease.renew_every` and the heartbeat at their defaults.
const RENEW_SECONDS: f64 = 3.308;
const HEARTBEAT_SECONDS: f64 = 1.0;
/// With the pages of the program's file. The goal of 64 MiB is for release builds; a debug build's code is several times as long, and
/// most of what it has resident are pages of that (73 MiB in all were seen, 46 in a release build).
const MOST_RSS_KIB: u64 = if cfg!(debug_assertions) { 80 * 1024 } else { 64 * 1024 };
/// Without them, in any build.
const MOST_OWN_KIB: u64 = 24 * 1024;
const WINDOW: Duration = Duration::from_secs(40);
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_node_is_small_and_writes_what_its_settings_say() -> Result<()> {
    let sandbox = Sandbox::up_with_shards(SHARDS).await?;
    let taps = Wiretaps::of(&["node-1"], &sandbox.endpoints.aws_endpoint_url).await?;
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(|name, command| taps.tap(name, command)));
    // It has worked before, so that everything it ever needs is there.
    let mix = Mix { seed: 14, violations: 0.3, bad_numbers: 0.0, unknown_plates: 0 };
    let traffic = Traffic::begin(&sandbox, 400, mix).await?;
    cluster.start(&["node-1"]).await?;
    cluster.fair(LIMIT).await?;
    cluster.idle(LIMIT).await?;
    sleep(Duration::from_secs(3)).await;
    drop(traffic);

    let from = SystemTime::now();
    sleep(WINDOW).await;
    let until = from + WINDOW;
    let mut writes = BTreeMap::<String, u32>::new();
    let mut reads = 0;
    for call in taps.calls("node-1").into_iter().filter(|call| call.at >= from && call.at < until) {
        if call.is_write() {
            *writes.entry(call.table().to_owned()).or_default() += 1;
        } else {
            reads += 1;
        }
    }
    let seconds = WINDOW.as_secs_f64();
    let renewals: u32 = APPLICATIONS.iter().filter_map(|application| writes.remove(*application)).sum();
    let beats = writes.remove(NODE_TABLE).unwrap_or_default();
    let hour = |n: u32| f64::from(n) * 3_600.0 / seconds;
    let by_settings = 3_600.0 / RENEW_SECONDS;
    say(
        "idle",
        &format!(
            "{:.0} lease writes a shard-hour: {renewals} in {seconds:.0} s over {LEASES} leases; one renewal every \
             {RENEW_SECONDS} s makes {by_settings:.0}",
            hour(renewals) / LEASES
        ),
    );
    say(
        "idle",
        &format!(
            "{:.0} heartbeats a node-hour: one every {HEARTBEAT_SECONDS} s; {:.0} reads a node-hour of leases and nodes",
            hour(beats),
            hour(reads)
        ),
    );
    ensure!(writes.is_empty(), "an idle node writes elsewhere: {writes:?}");
    let most = LEASES * (seconds / RENEW_SECONDS + 2.0);
    ensure!(f64::from(renewals) <= most, "{renewals} lease writes, {most:.0} at most");
    ensure!(f64::from(renewals) >= LEASES * (seconds / RENEW_SECONDS * 0.7), "leases are renewed too rarely: {renewals}");
    let due = seconds / HEARTBEAT_SECONDS;
    ensure!((due * 0.7..=due + 2.0).contains(&f64::from(beats)), "{beats} heartbeats in {seconds} s");

    let pid = cluster.node("node-1")?.process.pid()?;
    let (rss, own) = (memory_kib(pid, "VmRSS:")?, memory_kib(pid, "RssAnon:")?);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let mib = |kib: u64| kib as f64 / 1024.0;
    say(
        "idle",
        &format!("RSS of an idle node with {SHARDS} shards: {:.1} MiB, {:.1} of it its own ({build} build)", mib(rss), mib(own)),
    );
    ensure!(own <= MOST_OWN_KIB, "an idle node has allocated {own} KiB");
    ensure!(rss <= MOST_RSS_KIB, "an idle node has {rss} KiB");
    cluster.stop().await?;
    sandbox.end().await
}

fn memory_kib(pid: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{name} is no number"))
}
