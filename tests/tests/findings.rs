//! Faults on one node of three, as another node tells of them: the right finding within 3 s, gone within 10 s of repair; and none
//! while nothing is wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::commands;
use speedtrap_tests::faults::{Faults, Trickle, discard_letters, healthy_run, poison};
use speedtrap_tests::figures::say;
use speedtrap_tests::node::Node;
use speedtrap_tests::oracle::read_drivers;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::IN_STREAM;
use speedtrap_tests::throttle::Throttle;
use tokio::time::{Instant, sleep};

const NAMES: [&str; 3] = ["node-1", "node-2", "node-3"];
/// What is promised.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How long lanes may take to be as before: the lanes of a node that died are taken over, and come back to it.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// The findings of a cluster, as one of its nodes tells of them.
struct Watcher<'a>(&'a Node);

impl Watcher<'_> {
    async fn findings(&self) -> Result<Vec<Value>> {
        let page = self.0.overview().await?;
        page["findings"].as_array().cloned().with_context(|| format!("no findings in {page}"))
    }

    /// Waits until one of these rules speaks of this node, or of all.
    async fn shows(&self, what: &str, rules: &[&str], node: Option<&str>, begun: Instant) -> Result<()> {
        loop {
            let found = self.findings().await?;
            let shown_after = begun.elapsed();
            if let Some(finding) = found.iter().find(|it| is_about(it, rules, node)) {
                for key in ["id", "severity", "since", "text", "link", "next"] {
                    ensure!(finding[key].as_str().is_some_and(|text| !text.is_empty()), "{key} is missing in {finding}");
                }
                let text = finding["text"].as_str().unwrap_or_default();
                say("findings", &format!("{what}: shown after {:.1} s: {text}", shown_after.as_secs_f64()));
                ensure!(shown_after <= SHOWN_WITHIN, "{what} was shown only after {shown_after:?}");
                return Ok(());
            }
            if shown_after > QUIET_WITHIN {
                bail!("{what} is not shown: {found:?}");
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until none of these rules speaks of this node.
    async fn shows_no_more(&self, what: &str, rules: &[&str], node: Option<&str>, repaired: Instant) -> Result<()> {
        loop {
            let found = self.findings().await?;
            let gone_after = repaired.elapsed();
            if !found.iter().any(|it| is_about(it, rules, node)) {
                say("findings", &format!("{what}: gone {:.1} s after its repair", gone_after.as_secs_f64()));
                ensure!(gone_after <= GONE_WITHIN, "{what} was gone only after {gone_after:?}");
                return Ok(());
            }
            if gone_after > QUIET_WITHIN {
                bail!("{what} stays: {found:?}");
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until nothing is wrong at all.
    async fn is_quiet(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let found = self.findings().await?;
            if found.is_empty() {
                return Ok(());
            }
            ensure!(begun.elapsed() < QUIET_WITHIN, "not everything is as before: {found:?}");
            sleep(LOOK).await;
        }
    }
}

fn is_about(finding: &Value, rules: &[&str], node: Option<&str>) -> bool {
    let of_node = node.is_none_or(|node| finding["node"] == node);
    of_node && finding["rule"].as_str().is_some_and(|rule| rules.contains(&rule))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_told_of_by_another_node_and_a_healthy_run_has_none() -> Result<()> {
    let sandbox = Sandbox::up_with_shards(3).await?;
    let drivers = commands::make_csv(
        sandbox.folder(),
        "drivers.csv",
        &["drivers", "--rows", "100", "--seed", "6", "--bad-myphone-share", "0"],
    );
    let drivers = drivers.await?;
    sandbox.load(&drivers).await?;
    let plates: Vec<String> = read_drivers(&drivers)?.into_keys().collect();

    let mut faults = Faults::before(&sandbox, &NAMES).await?;
    let wires = faults.wires();
    let settings = move |name: &str, command: &mut tokio::process::Command| {
        wires.wire(name, command);
        Ok(())
    };
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(settings));
    cluster.start(&NAMES).await?;
    cluster.meshed(QUIET_WITHIN).await?;
    cluster.fair(QUIET_WITHIN).await?;
    let trickle = Trickle::of(&sandbox, plates);
    healthy(Watcher(cluster.node("node-1")?), healthy_run()?).await?;

    let watcher = Watcher(cluster.node("node-1")?);
    let begun = Instant::now();
    faults.warehouse("node-2")?.refuse().await;
    watcher.shows("a warehouse that refuses", &["warehouse-failing"], Some("node-2"), begun).await?;
    let held = watcher.0.overview().await?;
    ensure!(held["findings"][0]["text"].as_str().is_some_and(|text| text.contains("unreachable")), "no reason is told: {held}");
    let repaired = Instant::now();
    faults.warehouse("node-2")?.accept().await?;
    watcher.shows_no_more("a warehouse that refuses", &["warehouse-failing", "warehouse-slow"], None, repaired).await?;
    watcher.is_quiet().await?;

    let texter = cluster.texter().await?;
    let asked = NAMES.into_iter().find(|name| *name != texter).context("all of them text")?;
    let watcher = Watcher(cluster.node(asked)?);
    let throttle = Throttle::start().await?;
    let begun = Instant::now();
    let well = faults.sns.lead_to(throttle.address).await?;
    watcher.shows("SNS that throttles", &["sms-failing"], Some(&texter), begun).await?;
    let repaired = Instant::now();
    faults.sns.lead_to(well).await?;
    watcher.shows_no_more("SNS that throttles", &["sms-failing", "sms-slow"], None, repaired).await?;
    watcher.is_quiet().await?;

    poisoned(&sandbox, &watcher).await?;
    lost_and_frozen(&mut cluster).await?;
    drop(trickle);

    // Nobody asks it anything now.
    sleep(Duration::from_secs(2)).await;
    let watcher = Watcher(cluster.node("node-1")?);
    let begun = Instant::now();
    faults.warehouse("node-2")?.refuse().await;
    watcher.shows("a warehouse that goes while nothing flows", &["warehouse-failing"], Some("node-2"), begun).await?;
    let repaired = Instant::now();
    faults.warehouse("node-2")?.accept().await?;
    watcher.shows_no_more("a warehouse that goes while nothing flows", &["warehouse-failing"], None, repaired).await?;
    cluster.stop().await?;
    sandbox.end().await
}

async fn healthy(watcher: Watcher<'_>, lasts: Duration) -> Result<()> {
    watcher.is_quiet().await?;
    let (begun, mut looks, mut told) = (Instant::now(), 0, BTreeSet::new());
    while begun.elapsed() < lasts {
        told.extend(watcher.findings().await?.iter().map(|finding| finding["text"].to_string()));
        looks += 1;
        sleep(Duration::from_millis(500)).await;
    }
    say("findings", &format!("{} findings in {looks} looks over {} s of a healthy run", told.len(), lasts.as_secs()));
    ensure!(told.is_empty(), "nothing was wrong, and it was told: {told:?}");
    Ok(())
}

/// A record that cannot be read becomes a dead letter, which is news until somebody settles it.
async fn poisoned(sandbox: &Sandbox, watcher: &Watcher<'_>) -> Result<()> {
    let begun = Instant::now();
    let shards = sandbox.clients.kinesis.list_shards().stream_name(IN_STREAM).send().await?;
    poison(sandbox, shards.shards().first().context("there is a shard")?.shard_id()).await?;
    watcher.shows("a poisoned record", &["dead-letters-new"], None, begun).await?;
    discard_letters(&watcher.0.url).await?;
    watcher.shows_no_more("a poisoned record", &["dead-letters-new"], None, Instant::now()).await?;
    watcher.is_quiet().await
}

async fn lost_and_frozen(cluster: &mut Cluster<'_>) -> Result<()> {
    const SILENCE: [&str; 2] = ["node-silent", "node-dead"];
    let begun = Instant::now();
    cluster.kill("node-3").await?;
    Watcher(cluster.node("node-1")?).shows("a killed node", &SILENCE, Some("node-3"), begun).await?;
    cluster.start(&["node-3"]).await?;
    let watcher = Watcher(cluster.node("node-1")?);
    watcher.shows_no_more("a killed node", &SILENCE, Some("node-3"), Instant::now()).await?;
    watcher.is_quiet().await?;

    let begun = Instant::now();
    cluster.node("node-2")?.process.signal(libc::SIGSTOP)?;
    watcher.shows("a frozen node", &SILENCE, Some("node-2"), begun).await?;
    sleep(Duration::from_secs(2)).await;
    let repaired = Instant::now();
    cluster.node("node-2")?.process.signal(libc::SIGCONT)?;
    watcher.shows_no_more("a frozen node", &SILENCE, Some("node-2"), repaired).await?;
    watcher.is_quiet().await
}
