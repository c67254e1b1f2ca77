//! Faults on other nodes than the one whose page is open, each watched in the strip of findings from the fault to its repair. A
//! killed node stands in `loss`.

use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use speedtrap_tests::faults::{Faults, Trickle, discard_letters, healthy_run, poison};
use speedtrap_tests::leases::ENRICH;
use speedtrap_tests::operator::Operator;
use speedtrap_tests::throttle::Throttle;

use super::strip::{Strip, Told};
use super::{NODES, Stage};

/// The right finding for each within 3 s, gone within 10 s of its repair, and none while nothing is wrong. Readings flow all the
/// time, since a service that nobody calls cannot be seen to fail.
pub(crate) async fn each_fault_of_another_node_is_found(stage: &mut Stage<'_>) -> Result<()> {
    let texter = stage.cluster.texter().await?;
    let watcher = NODES.into_iter().find(|name| *name != texter).context("all of them text")?;
    let victim = NODES.into_iter().find(|name| *name != watcher).context("there is another node")?;
    let url = stage.url(watcher)?.to_owned();
    let _trickle = Trickle::of(stage.sandbox, stage.traffic.drivers.keys().cloned().collect());
    let Stage { sandbox, faults, browser, cluster, .. } = stage;
    let strip = Strip::open(browser, &url, "faults").await?;
    strip.stays_empty(healthy_run()?).await?;

    warehouse_down(&strip, faults, victim).await.context("a warehouse that is down")?;
    call_frozen(&strip, faults, victim).await.context("a call that does not end")?;
    texts_throttled(&strip, faults, &texter).await.context("SNS that throttles")?;
    let shards = cluster.shards_of(victim, ENRICH).await?;
    let shard = shards.first().with_context(|| format!("{victim} has no shard"))?;
    let begun = SystemTime::now();
    poison(sandbox, shard).await?;
    let is_it = |told: &Told| told.is(&["dead-letters-new"], None, "enrich");
    let told = strip.shows(&format!("a poisoned record on a shard of {victim}"), is_it, begun).await?;
    ensure!(told.text.contains(shard.as_str()), "it does not name {shard}: {told:?}");
    discard_letters(&url).await?;
    strip.clears("a poisoned record", is_it, SystemTime::now()).await?;

    let operator = Operator { url, name: "tester" };
    actor_frozen(&strip, faults, &operator, victim, shard).await.context("a frozen actor")?;
    browser.is_clean().await
}

/// Its connections are cut and refused from the moment that counts.
async fn warehouse_down(strip: &Strip<'_>, faults: &mut Faults, node: &str) -> Result<()> {
    let is_it = |told: &Told| told.is(&["warehouse-failing"], Some(node), "driver_lookup: warehouse driver lookup");
    let begun = SystemTime::now();
    faults.warehouse(node)?.refuse().await;
    let told = strip.shows(&format!("the warehouse down for {node}"), is_it, begun).await?;
    ensure!(told.text.contains("unreachable"), "no reason is told: {told:?}");
    faults.warehouse(node)?.accept().await?;
    strip.clears("the warehouse down", is_it, SystemTime::now()).await
}

/// Nothing passes between the node and the warehouse from the moment that counts, so that its lookups hang.
async fn call_frozen(strip: &Strip<'_>, faults: &mut Faults, node: &str) -> Result<()> {
    let is_it = |told: &Told| told.is(&["warehouse-slow"], Some(node), "driver_lookup: warehouse driver lookup");
    let begun = SystemTime::now();
    faults.warehouse(node)?.hold(true);
    strip.shows(&format!("a lookup of {node} that does not end"), is_it, begun).await?;
    faults.warehouse(node)?.hold(false);
    strip.clears("a lookup that does not end", is_it, SystemTime::now()).await
}

/// Every call is answered with `Throttling` from the moment that counts.
async fn texts_throttled(strip: &Strip<'_>, faults: &mut Faults, texter: &str) -> Result<()> {
    let throttle = Throttle::start().await?;
    let is_it = |told: &Told| told.is(&["sms-failing"], Some(texter), "owner_notifier: sns Publish");
    let begun = SystemTime::now();
    let well = faults.sns.lead_to(throttle.address).await?;
    let told = strip.shows(&format!("SNS throttling {texter}"), is_it, begun).await?;
    ensure!(told.text.contains("throttled"), "no reason is told: {told:?}");
    faults.sns.lead_to(well).await?;
    strip.clears("SNS throttling", is_it, SystemTime::now()).await
}

/// It takes messages and handles none from the moment that counts; an operator's kill repairs it.
async fn actor_frozen(strip: &Strip<'_>, faults: &Faults, operator: &Operator, node: &str, shard: &str) -> Result<()> {
    let actor = format!("{node}/enrich/{shard}/speed_filter");
    let is_it = |told: &Told| told.is(&["actor-frozen"], Some(node), &actor);
    let begun = SystemTime::now();
    faults.freeze(node, &actor).await?;
    strip.shows("a frozen actor", is_it, begun).await?;
    let repaired = SystemTime::now();
    operator.act("kill-actor", &actor, json!({})).await?;
    strip.clears("a frozen actor", is_it, repaired).await
}
