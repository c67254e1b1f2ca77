//! Three nodes over eight shards: they share, a fourth joins, one leaves, and nothing is processed twice on the way.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::commands;
use speedtrap_tests::conservation::{Repeats, settled};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::evidence::{Evidence, texts};
use speedtrap_tests::figures::say;
use speedtrap_tests::leases::{APPLICATIONS, Change, ENRICH, LeaseWatch, leases};
use speedtrap_tests::oracle::{Driver, read_drivers};
use speedtrap_tests::pauses::{Pauses, Spread};
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::traffic::{Mix, Traffic};
use tokio::time::{Instant, sleep};

const SHARDS: u32 = 8;
/// Readings a second: ten of each shard.
const RATE: u32 = 80;
/// What is promised of a start and of a join.
const FAIR_WITHIN: Duration = Duration::from_secs(10);
/// Around a move; pauses are looked for in it.
const AROUND: Duration = Duration::from_secs(2);
/// What a planned move may take here; the goal is 1 s, and a busy machine with a debug build gets more.
const MOVE_WITHIN: Duration = Duration::from_secs(3);
/// What a node has for its drain.
const DRAIN_WITHIN: Duration = Duration::from_secs(32);
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_join_and_leave_and_nothing_is_processed_twice() -> Result<()> {
    let sandbox = Sandbox::up_with_shards(SHARDS).await?;
    // Nearly all are published, so that pauses are seen to a tenth of a second; half are texted, which costs most.
    let mix = Mix { seed: 11, violations: 0.95, bad_numbers: 0.5, unknown_plates: 10 };
    let traffic = Traffic::begin(&sandbox, 380, mix).await?;
    let watch = LeaseWatch::begin(&sandbox.clients, &APPLICATIONS);
    let mut cluster = Cluster::of(&sandbox);

    let launched = Instant::now();
    cluster.start(&["node-1", "node-2", "node-3"]).await?;
    cluster.fair(LIMIT).await?;
    let took = launched.elapsed();
    say("cluster", &format!("three nodes share {SHARDS} shards {:.1} s after they were launched", took.as_secs_f64()));
    ensure!(took < FAIR_WITHIN, "it took {took:?} until the leases were shared fairly\n{}", cluster.logs());

    let flow = traffic.flow(RATE);
    sleep(Duration::from_secs(5)).await;
    let joins = SystemTime::now();
    let launched = Instant::now();
    cluster.start(&["node-4"]).await?;
    cluster.fair(LIMIT).await?;
    let took = launched.elapsed();
    say("cluster", &format!("a fourth has its share {:.1} s after it was launched", took.as_secs_f64()));
    ensure!(took < FAIR_WITHIN, "it took {took:?} until the fourth had its share\n{}", cluster.logs());
    sleep(Duration::from_secs(4)).await;
    // Readings stand still for a moment, so that all that came in can be held against all that was counted.
    flow.set_rate(0);
    cluster.idle(LIMIT).await?;
    let counts = cluster.counts().await?;
    ensure!(counts.enriched == flow.count() as u64, "{} events ended of {} readings", counts.enriched, flow.count());
    ensure!((counts.duplicates, counts.possible_repeats) == (0, 0), "{counts:?}");

    flow.set_rate(RATE);
    sleep(Duration::from_secs(3)).await;
    let leaves = SystemTime::now();
    let asked = Instant::now();
    let ended_by_drained = cluster.drain("node-2", "node-1", DRAIN_WITHIN).await?;
    let took = asked.elapsed();
    for application in APPLICATIONS {
        let kept = leases(&sandbox.clients, application).await?.into_iter().filter(|row| row.node() == Some("node-2"));
        ensure!(kept.count() == 0, "node-2 left with leases of {application}");
    }
    let fair = cluster.fair(LIMIT).await?;
    let (took, fair) = (took.as_secs_f64(), fair.as_secs_f64());
    say(
        "cluster",
        &format!("a drained node ended with 0 leases after {took:.1} s; the others had fair shares {fair:.1} s later"),
    );
    sleep(Duration::from_secs(4)).await;

    let traffic = flow.stop().await?;
    let found = settled(&sandbox, &cluster, &traffic, LIMIT).await?;
    let sent = traffic.sent();
    let counts = cluster.counts().await?;
    ensure!((counts.duplicates, counts.possible_repeats) == (0, 0), "{counts:?}");
    ensure!(Repeats::of(&found) == Repeats { published: 0, texts: 0 }, "{:?}", Repeats::of(&found));
    let ended = counts.enriched + ended_by_drained;
    ensure!(ended == sent.len() as u64, "{ended} events ended of {} readings", sent.len());
    say("cluster", &format!("{} readings, {} texts, nothing processed twice", sent.len(), found.texts.len()));

    let pauses = Pauses::of(&sent, &found);
    let (to_the_fourth, stayed) = pauses_of_moves(&watch, &pauses, joins, leaves);
    say("cluster", &format!("planned move to a node that joins, last record before to first after: {to_the_fourth}"));
    say("cluster", &format!("longest pause meanwhile of each shard that stayed: {stayed}"));
    let (from_the_drained, stayed) = pauses_of_moves(&watch, &pauses, leaves, SystemTime::now());
    say("cluster", &format!("planned move off a drained node, last record before to first after: {from_the_drained}"));
    say("cluster", &format!("longest pause meanwhile of each shard that stayed: {stayed}"));
    ensure!(to_the_fourth.count >= 2 && from_the_drained.count >= 2, "too few shards moved to say anything");
    let longest = to_the_fourth.max.max(from_the_drained.max);
    ensure!(longest < MOVE_WITHIN, "a planned move took {longest:?}\n{}", cluster.logs());

    changed_drivers_are_served_by_every_node(&sandbox, &cluster, traffic, &found).await?;
    cluster.stop().await?;
    sandbox.end().await
}

/// The longest pause of each enrich shard around its move, and of those that stayed around the same moves.
fn pauses_of_moves(watch: &LeaseWatch, pauses: &Pauses, from: SystemTime, to: SystemTime) -> (Spread, Spread) {
    let is_within = |change: &Change| change.application == ENRICH && change.at < to;
    let moves: Vec<Change> = watch.moves_since(from).into_iter().filter(is_within).collect();
    let longest = |shard: &str, change: &Change| pauses.longest(shard, change.at - AROUND, change.at + AROUND);
    let moved = moves.iter().filter_map(|change| longest(&change.row.shard, change));
    let has_moved = |shard: &&str| moves.iter().any(|change| change.row.shard == *shard);
    let stayed = pauses.shards().filter(|shard| !has_moved(shard));
    let stayed = stayed.filter_map(|shard| moves.iter().filter_map(|change| longest(shard, change)).max());
    (Spread::of(moved), Spread::of(stayed))
}

/// One node is told of a load; readings of all shards get the new numbers a second later.
async fn changed_drivers_are_served_by_every_node(
    sandbox: &Sandbox,
    cluster: &Cluster<'_>,
    mut traffic: Traffic,
    before: &Evidence,
) -> Result<()> {
    let drivers = with_new_numbers(sandbox.folder())?;
    let mut command = commands::loader(&sandbox.endpoints, &drivers, &sandbox.folder().join("rejects"))?;
    command.args(["--node-url", &cluster.node("node-1")?.url]);
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(0), "the loader failed: {ended:?}");
    traffic.drivers = read_drivers(&drivers)?;
    sleep(Duration::from_secs(1)).await;
    // Several of each node's shards, all of plates that the nodes have remembered.
    let (known, sent_before) = (before.texts.len(), traffic.sent().len());
    traffic.send(20 * SHARDS as usize).await?;
    let sent = traffic.sent();
    let new = &sent[sent_before..];
    let owed: Vec<(&str, &Driver)> = new
        .iter()
        .filter(|reading| reading.is_violation())
        .filter_map(|reading| {
            let driver = traffic.drivers.get(&reading.values[0].trim().to_uppercase())?;
            driver.e164().map(|_| (reading.iottimestamp.as_str(), driver))
        })
        .collect();
    ensure!(owed.len() > SHARDS as usize, "too few texts are owed: {}", owed.len());
    eventually("all changed drivers are texted", LIMIT, || async {
        let sent = texts(&sandbox.endpoints).await?;
        let all: usize = sent.values().map(Vec::len).sum();
        ensure!(all == known + owed.len(), "{all} texts for {}", known + owed.len());
        Ok(())
    })
    .await?;
    let sent = texts(&sandbox.endpoints).await?;
    for (iottimestamp, driver) in &owed {
        let number = driver.e164().context("a number")?;
        let is_told = sent.get(&number).is_some_and(|texts| texts.iter().any(|text| text.contains(iottimestamp)));
        ensure!(is_told, "the reading of {iottimestamp} was not texted to the new number");
    }
    say("cluster", &format!("{} texts went to changed numbers 1 s after one node was told of the load", owed.len()));
    Ok(())
}

/// The drivers with numbers in another area.
fn with_new_numbers(folder: &Path) -> Result<PathBuf> {
    let mut reader = csv::Reader::from_path(folder.join("drivers.csv"))?;
    let file = folder.join("changed.csv");
    let mut writer = csv::Writer::from_path(&file)?;
    writer.write_record(reader.headers()?)?;
    for row in reader.records() {
        let mut row: Vec<String> = row?.iter().map(str::to_owned).collect();
        let digits: String = row[9].chars().filter(char::is_ascii_digit).collect();
        if digits.len() >= 10 {
            row[9] = format!("+1907{}", &digits[digits.len() - 7..]);
        }
        writer.write_record(&row)?;
    }
    writer.flush()?;
    Ok(file)
}
