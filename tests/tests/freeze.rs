//! A node that is frozen for 20 s and wakes up: its shards go on elsewhere, it writes nothing over their new owners, and it gets
//! its share again.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::conservation::{Repeats, settled};
use speedtrap_tests::figures::say;
use speedtrap_tests::leases::{APPLICATIONS, ENRICH};
use speedtrap_tests::pauses::{Pauses, Spread};
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::traffic::{Mix, Traffic};
use speedtrap_tests::wiretap::Wiretaps;
use tokio::time::{Instant, sleep, sleep_until};

/// `notify.in_flight` at its default.
const IN_FLIGHT: usize = 4;
const NAMES: [&str; 3] = ["node-1", "node-2", "node-3"];
const SHARDS: u32 = 8;
/// Readings a second.
const RATE: u32 = 120;
const FROZEN_FOR: Duration = Duration::from_secs(20);
/// What the others may take to notice: less than the expiry of a lease, which would need no cluster. The goal is 3 s.
const TAKEN_WITHIN: Duration = Duration::from_secs(8);
const BACK_WITHIN: Duration = Duration::from_secs(15);
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_loses_its_leases_and_writes_over_nobody_when_it_wakes() -> Result<()> {
    let sandbox = Sandbox::up_with_shards(SHARDS).await?;
    let mix = Mix { seed: 12, violations: 0.3, bad_numbers: 0.1, unknown_plates: 20 };
    let traffic = Traffic::begin(&sandbox, 380, mix).await?;
    let taps = Wiretaps::of(&NAMES, &sandbox.endpoints.aws_endpoint_url).await?;
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(|name, command| taps.tap(name, command)));
    cluster.start(&NAMES).await?;
    cluster.fair(LIMIT).await?;
    let flow = traffic.flow(RATE);
    sleep(Duration::from_secs(4)).await;

    let frozen_name = cluster.texter().await?;
    let worker = cluster.workers().await?[&frozen_name].clone();
    let shards = cluster.shards_of(&frozen_name, ENRICH).await?;
    ensure!(!shards.is_empty(), "{frozen_name} has nothing else to lose");
    cluster.node(&frozen_name)?.process.signal(libc::SIGSTOP)?;
    let (frozen, frozen_at) = (Instant::now(), SystemTime::now());
    let taken = cluster.taken_from(&worker, TAKEN_WITHIN).await?;
    say("freeze", &format!("all leases of a frozen node were taken over {:.1} s after it froze (goal 3 s)", taken.as_secs_f64()));
    sleep_until(frozen + FROZEN_FOR).await;
    cluster.node(&frozen_name)?.process.signal(libc::SIGCONT)?;
    let thawed_at = SystemTime::now();
    let back = cluster.fair(BACK_WITHIN).await?;
    say("freeze", &format!("it had its fair share again {:.1} s after it woke up", back.as_secs_f64()));
    ensure!(cluster.workers().await?[&frozen_name] == worker, "{frozen_name} started anew");
    sleep(Duration::from_secs(3)).await;

    let traffic = flow.stop().await?;
    let found = settled(&sandbox, &cluster, &traffic, LIMIT).await?;
    let repeats = Repeats::of(&found);
    say("freeze", &format!("{} texts, {} of them repeated (at most {IN_FLIGHT})", found.texts.len(), repeats.texts));
    ensure!(repeats.texts <= IN_FLIGHT, "{} texts were repeated", repeats.texts);
    let counted = cluster.counts().await?.possible_repeats;
    ensure!(counted >= repeats.texts as u64, "{} texts were repeated and {counted} counted", repeats.texts);

    // Every checkpoint that was accepted is its lease's owner's, for all nodes and all the time.
    let log = taps.lease_log()?;
    log.is_fenced()?;
    ensure!(log.checkpoints() > 50, "only {} checkpoints were seen", log.checkpoints());
    let woken = taps.calls(&frozen_name).into_iter().filter(|call| call.at >= thawed_at && APPLICATIONS.contains(&call.table()));
    let refused = woken.filter(|call| call.is_write() && !call.is_accepted()).count();
    say(
        "freeze",
        &format!("{} checkpoints, each by its lease's owner; {refused} writes of the woken node refused", log.checkpoints()),
    );

    let pauses = Pauses::of(&traffic.sent(), &found);
    let spread = Spread::of(shards.iter().filter_map(|shard| pauses.longest(shard, frozen_at, frozen_at + TAKEN_WITHIN)));
    say("freeze", &format!("last record before the freeze to first after on its shards: {spread}"));
    cluster.stop().await?;
    sandbox.end().await
}
