//! kill -9 of random nodes under load: nothing is lost, no more texts repeat than were on their way, and the dead node's shards
//! go on within seconds.
//!
//! `SPEEDTRAP_KILLS`, `SPEEDTRAP_READINGS` and `SPEEDTRAP_SEED` change how much of it there is.

use std::collections::BTreeSet;
use std::env;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::conservation::{Repeats, settled};
use speedtrap_tests::figures::say;
use speedtrap_tests::leases::ENRICH;
use speedtrap_tests::pauses::{Pauses, Spread};
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::traffic::{Mix, Traffic};
use speedtrap_tests::wiretap::Wiretaps;
use tokio::time::sleep;

/// `notify.in_flight` at its default.
const IN_FLIGHT: usize = 4;
const NAMES: [&str; 3] = ["node-1", "node-2", "node-3"];
const SHARDS: u32 = 8;
/// Readings a second.
const RATE: u32 = 250;
/// What a crash may cost here; the goal is 5 s, and a busy machine with a debug build gets more.
const FAILOVER_WITHIN: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(120);

struct Kill {
    at: SystemTime,
    shards: BTreeSet<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_lose_nothing_and_others_go_on_within_seconds() -> Result<()> {
    let (kills, readings) = (number("SPEEDTRAP_KILLS", 8)?, number("SPEEDTRAP_READINGS", 16_000)?);
    let seed = number("SPEEDTRAP_SEED", u64::from(std::process::id()))?;
    say("failover", &format!("{kills} kills over {readings} readings, seed {seed}"));
    let mut rng = SmallRng::seed_from_u64(seed);
    let sandbox = Sandbox::up_with_shards(SHARDS).await?;
    let mix = Mix { seed, violations: 0.2, bad_numbers: 0.1, unknown_plates: 20 };
    let mut traffic = Traffic::begin(&sandbox, 380, mix).await?;
    let taps = Wiretaps::of(&NAMES, &sandbox.endpoints.aws_endpoint_url).await?;
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(|name, command| taps.tap(name, command)));
    cluster.start(&NAMES).await?;
    cluster.fair(LIMIT).await?;

    // Kills are spread over the time that the readings take.
    let spacing = readings as f64 / f64::from(RATE) / kills as f64;
    let flow = traffic.flow(RATE);
    let mut killed = Vec::new();
    sleep(Duration::from_secs(2)).await;
    for _ in 0..kills {
        let begun = SystemTime::now();
        // One that has nothing to lose yet would prove nothing.
        let mut owners = Vec::new();
        for name in NAMES {
            let shards = cluster.shards_of(name, ENRICH).await?;
            owners.extend((!shards.is_empty()).then_some((name, shards)));
        }
        let (name, shards) = owners.choose(&mut rng).cloned().context("nobody owns a shard")?;
        cluster.kill(name).await?;
        killed.push(Kill { at: SystemTime::now(), shards });
        sleep(Duration::from_secs_f64(rng.random_range(1.0..3.0))).await;
        cluster.start(&[name]).await?;
        let pause = Duration::from_secs_f64(spacing * rng.random_range(0.7..1.3));
        sleep(pause.saturating_sub(begun.elapsed()?)).await;
    }
    traffic = flow.stop().await?;
    let left = (readings as usize).saturating_sub(traffic.sent().len());
    traffic.send(left).await?;

    let found = settled(&sandbox, &cluster, &traffic, LIMIT).await?;
    let repeats = Repeats::of(&found);
    let most = IN_FLIGHT * kills as usize;
    say(
        "failover",
        &format!(
            "{} readings, {} violations stored, {} texts, {} of them repeated (at most {most}), {} published again",
            traffic.sent().len(),
            found.stored.len(),
            found.texts.len(),
            repeats.texts,
            repeats.published
        ),
    );
    ensure!(repeats.texts <= most, "{} texts were repeated after {kills} kills", repeats.texts);

    let log = taps.lease_log()?;
    log.is_fenced()?;
    say("failover", &format!("{} checkpoints, each by its lease's owner and none back", log.checkpoints()));

    let pauses = Pauses::of(&traffic.sent(), &found);
    let next = |n: usize| killed.get(n + 1).map_or_else(SystemTime::now, |kill| kill.at);
    let failovers = Spread::of(killed.iter().enumerate().filter_map(|(n, kill)| {
        let until = next(n).min(kill.at + FAILOVER_WITHIN);
        // Every shard of the node; the slowest is the node's.
        kill.shards.iter().filter_map(|shard| pauses.longest(shard, kill.at, until)).max()
    }));
    say("failover", &format!("last record before a kill to first after, slowest shard of each: {failovers} (goal 5000 ms)"));
    ensure!(failovers.max < FAILOVER_WITHIN, "a failover took {:?}\n{}", failovers.max, cluster.logs());
    cluster.fair(LIMIT).await?;
    cluster.stop().await?;
    sandbox.end().await
}

fn number(name: &str, default: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is no number")),
        Err(_) => Ok(default),
    }
}
