//! Texts leave at one a second while violations come much faster: the notify lane alone waits, reads no further and holds no more,
//! and enrichment goes on at full speed with its checkpoints.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::endpoints::get_json;
use speedtrap_tests::figures::say;
use speedtrap_tests::node::Node;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::traffic::{Mix, Traffic};
use tokio::time::{Instant, sleep};

/// Readings a second, nearly all of which owe a text.
const RATE: u32 = 100;
const FOR: Duration = Duration::from_secs(20);
/// What notify lanes may have let in and not ended.
const CREDIT: u64 = 32;
/// Texts that may be on their way at once, beside one a second.
const IN_FLIGHT: u64 = 4;
/// What a node may grow while thousands of texts are owed. One that kept them would need more for the batches alone.
const MOST_GROWTH_KIB: i64 = 6 * 1024;
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_texts_hold_back_nothing_but_texts() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let mix = Mix { seed: 31, violations: 0.95, bad_numbers: 0.0, unknown_plates: 0 };
    let traffic = Traffic::begin(&sandbox, 400, mix).await?;
    let slow = |command: &mut tokio::process::Command| {
        command.env("SPEEDTRAP_NOTIFY__MAX_TEXTS_PER_SECOND", "1");
    };
    let node = Node::start_with(&sandbox.endpoints, sandbox.folder(), "node-1", slow).await?;
    // By then everything that a node ever holds is there, and the notify lane is full.
    caught_up(&node, traffic.sent().len()).await?;
    eventually("the notify lane is full", LIMIT, || async {
        let lane = lane(&node, "notify").await?;
        ensure!(lane["in_lane"].as_u64() >= Some(CREDIT / 2), "{lane}");
        Ok(())
    })
    .await?;
    let (pid, texted) = (node.process.pid()?, node.status().await?.ended("notify", "notified"));
    let (rss, waited, begun) = (own_kib(pid)?, notifier(&node).await?.1, Instant::now());

    let flow = traffic.flow(RATE);
    let mut most_in_lane = 0;
    while begun.elapsed() < FOR {
        sleep(Duration::from_secs(1)).await;
        let (lane, texts) = (lane(&node, "notify").await?, node.status().await?.ended("notify", "notified"));
        let in_lane = lane["in_lane"].as_u64().context("what is in the lane is known")?;
        most_in_lane = most_in_lane.max(in_lane);
        // Counts are of settled texts, which trail behind those that were let in by the credit at most.
        let records_in = lane["records_in"].as_u64().context("a count")?;
        ensure!(records_in <= texts + 2 * CREDIT, "{records_in} records were let in for {texts} texts");
    }
    let traffic = flow.stop().await?;
    let behind = caught_up(&node, traffic.sent().len()).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let grown = own_kib(pid)? - rss;
    let texts = node.status().await?.ended("notify", "notified") - texted;
    let (actor, total) = notifier(&node).await?;
    let share = (total - waited) / 1_000.0 / seconds;
    let owed = traffic.sent().iter().filter(|reading| reading.is_violation()).count();
    say(
        "slow_texts",
        &format!(
            "at 1 text a second and {RATE} readings a second for {seconds:.0} s: {texts} texts sent of {owed} owed, at most \
             {most_in_lane} in the notify lane, which waits {:.0} % of its time; enrichment had settled all {:.1} s after the last \
             reading; memory grew by {grown} KiB",
            share * 100.0,
            behind.as_secs_f64()
        ),
    );
    ensure!(actor["waiting"] == true, "the notifier does not wait: {actor}");
    ensure!(share > 0.5, "the notifier waits only {share:.2} of its time: {actor}");
    ensure!(texts as f64 <= seconds + CREDIT as f64, "{texts} texts in {seconds:.0} s are more than one a second");
    ensure!(most_in_lane <= CREDIT, "{most_in_lane} records were in the notify lane");
    ensure!(behind < CAUGHT_UP_WITHIN, "enrichment settled everything only {behind:?} after the last reading");
    ensure!(grown < MOST_GROWTH_KIB, "the node grew by {grown} KiB");
    let lag = lane(&node, "notify").await?["millis_behind"].as_u64();
    ensure!(lag.is_none_or(|lag| lag > 1_000), "the notify lane reads on: it is {lag:?} ms behind");
    ensure!(u64::try_from(owed)? > texts + texted + 100 * IN_FLIGHT, "the texts were not slow: {texts} of {owed}");
    node.stop().await?;
    sandbox.end().await
}

/// Waits until the checkpoints of the enrich lanes cover so many readings; says how long it took.
async fn caught_up(node: &Node, readings: usize) -> Result<Duration> {
    let begun = Instant::now();
    eventually("enrichment has settled everything", LIMIT, || async {
        let ended = node.status().await?.all_ended("enrich");
        ensure!(ended == readings as u64, "{ended} of {readings} readings are settled");
        Ok(())
    })
    .await?;
    Ok(begun.elapsed())
}

/// The only lane of a role that is not closed.
async fn lane(node: &Node, role: &str) -> Result<Value> {
    let status = node.status().await?;
    let lanes = status.json()["lanes"].as_array().context("there are lanes")?;
    lanes.iter().find(|lane| lane["role"] == role).cloned().with_context(|| format!("there is no lane of {role}"))
}

/// The notifier's row, and for how many milliseconds it has waited so far.
async fn notifier(node: &Node) -> Result<(Value, f64)> {
    let page: Value = get_json(format!("{}/api/v1/actors", node.url)).await?;
    let rows = page["rows"].as_array().context("there are actors")?;
    let row = rows.iter().find(|row| row["kind"] == "OwnerNotifier").context("there is a notifier")?;
    Ok((row.clone(), row["waiting_ms"].as_f64().context("a time")?))
}

/// Memory that the process has for itself, without pages of its program's file.
fn own_kib(pid: u32) -> Result<i64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    line.trim().trim_end_matches(" kB").parse().context("RssAnon is no number")
}
