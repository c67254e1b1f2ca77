//! One of three nodes has a wall clock that is an hour ahead: sharing, planned moves and take-over are as ever.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::conservation::{Repeats, settled};
use speedtrap_tests::figures::say;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::traffic::{Mix, Traffic};
use tokio::process::Command;
use tokio::time::sleep;

/// `notify.in_flight` at its default.
const IN_FLIGHT: usize = 4;
const WRONG: &str = "node-2";
const AHEAD_MS: u64 = 3_600_000;
const RATE: u32 = 80;
const FAIR_WITHIN: Duration = Duration::from_secs(15);
/// Less than the expiry of a lease, which would need no cluster.
const TAKEN_WITHIN: Duration = Duration::from_secs(8);
const DRAIN_WITHIN: Duration = Duration::from_secs(32);
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_is_an_hour_ahead_changes_nothing() -> Result<()> {
    let sandbox = Sandbox::up_with_shards(6).await?;
    let shim = shim(sandbox.folder()).await?;
    let mix = Mix { seed: 15, violations: 0.4, bad_numbers: 0.1, unknown_plates: 20 };
    let traffic = Traffic::begin(&sandbox, 380, mix).await?;
    let settings = |name: &str, command: &mut Command| {
        if name == WRONG {
            command.env("LD_PRELOAD", &shim);
        }
        Ok(())
    };
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(settings));
    cluster.start(&["node-1", WRONG]).await?;
    cluster.fair(FAIR_WITHIN).await?;
    let flow = traffic.flow(RATE);
    is_ahead(&cluster.workers().await?[WRONG])?;

    // Planned moves, to and from it.
    sleep(Duration::from_secs(3)).await;
    cluster.start(&["node-3"]).await?;
    let fair = cluster.fair(FAIR_WITHIN).await?;
    say(
        "skew",
        &format!("with one clock an hour ahead, a third node has its share {:.1} s after it is ready", fair.as_secs_f64()),
    );
    cluster.drain("node-1", WRONG, DRAIN_WITHIN).await?;
    cluster.fair(FAIR_WITHIN).await?;
    cluster.start(&["node-1"]).await?;
    cluster.fair(FAIR_WITHIN).await?;
    sleep(Duration::from_secs(2)).await;
    let planned = cluster.counts().await?;
    ensure!((planned.duplicates, planned.possible_repeats) == (0, 0), "planned moves made duplicates: {planned:?}");

    // It takes over from another, and others from it.
    for name in ["node-3", WRONG] {
        let worker = cluster.workers().await?[name].clone();
        cluster.kill(name).await?;
        let taken = cluster.taken_from(&worker, TAKEN_WITHIN).await?;
        say("skew", &format!("{name} was killed and its leases taken over {:.1} s later", taken.as_secs_f64()));
        cluster.start(&[name]).await?;
        cluster.fair(FAIR_WITHIN).await?;
        sleep(Duration::from_secs(2)).await;
    }

    let traffic = flow.stop().await?;
    let found = settled(&sandbox, &cluster, &traffic, LIMIT).await?;
    let repeats = Repeats::of(&found);
    say("skew", &format!("{} texts, {} of them repeated after 2 kills", found.texts.len(), repeats.texts));
    ensure!(repeats.texts <= 2 * IN_FLIGHT, "{} texts were repeated", repeats.texts);
    cluster.stop().await?;
    sandbox.end().await
}

/// Builds what shifts the clock of a process.
async fn shim(folder: &Path) -> Result<PathBuf> {
    let (source, shim) = (folder.join("wrong_clock.c"), folder.join("wrong_clock.so"));
    std::fs::write(&source, include_str!("../src/wrong_clock.c"))?;
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).status().await;
    ensure!(built.context("there is no C compiler")?.success(), "the shifted clock was not built");
    Ok(shim)
}

/// The boot in a worker's id is the time at which it started, by its own clock.
fn is_ahead(worker: &str) -> Result<()> {
    let boot: u64 = worker.split('#').nth(1).context("a worker without boot")?.parse()?;
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    ensure!((AHEAD_MS - 120_000..AHEAD_MS + 1_000).contains(&(boot.saturating_sub(now))), "its clock is not ahead: {worker}");
    Ok(())
}
