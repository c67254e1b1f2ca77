//! The in-stream is split and merged under load, the split through an outage of the warehouse and the merge through one of
//! DynamoDB: nothing is lost, each plate's order holds, and children begin when their parents are done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_kinesis::types::ScalingType;
use serde_json::{Value, json};
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::conservation::{Repeats, settled};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::endpoints::get_json;
use speedtrap_tests::figures::say;
use speedtrap_tests::leases::{ENRICH, LeaseRow, LeaseWatch, leases};
use speedtrap_tests::proxy::Proxy;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::IN_STREAM;
use speedtrap_tests::traffic::{Mix, Traffic};
use tokio::time::{Instant, sleep, sleep_until};

/// Seconds that the warehouse is away; more may be asked for by the environment.
const OUTAGE_SECONDS: u64 = 60;
/// Longer than a lease lives without renewal.
const DYNAMODB_AWAY: Duration = Duration::from_secs(15);
/// `notify.in_flight` at its default; there is one notify lane.
const IN_FLIGHT: usize = 4;
/// Readings a second.
const RATE: u32 = 80;
/// Lanes come back after 30 s of backoff at most.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn split_and_merge_under_load_through_outages_lose_nothing() -> Result<()> {
    let seconds = match std::env::var("SPEEDTRAP_TEST_OUTAGE_SECONDS") {
        Ok(text) => text.parse().context("SPEEDTRAP_TEST_OUTAGE_SECONDS is no number")?,
        Err(_) => OUTAGE_SECONDS,
    };
    let sandbox = Sandbox::up_with_shards(2).await?;
    let mix = Mix { seed: 13, violations: 0.3, bad_numbers: 0.1, unknown_plates: 20 };
    let traffic = Traffic::begin(&sandbox, 380, mix).await?;
    let watch = LeaseWatch::begin(&sandbox.clients, &[ENRICH]);
    let (mut warehouse, mut dynamodb) =
        (Proxy::before(&sandbox.endpoints.warehouse_url).await?, Proxy::before(&sandbox.endpoints.aws_endpoint_url).await?);
    let warehouse_url = warehouse.instead_of(&sandbox.endpoints.warehouse_url)?;
    let dynamodb_url = dynamodb.instead_of(&sandbox.endpoints.aws_endpoint_url)?;
    let settings = move |_: &str, command: &mut tokio::process::Command| {
        command.env("SPEEDTRAP_WAREHOUSE__URL", &warehouse_url).env("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb_url);
        // Drivers are forgotten at once, or the outage would not be felt.
        command.env("SPEEDTRAP_LOOKUP__KNOWN_FOR", "1s").env("SPEEDTRAP_LOOKUP__UNKNOWN_FOR", "1s");
        Ok(())
    };
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(settings));
    cluster.start(&["node-1", "node-2", "node-3"]).await?;
    cluster.fair(LIMIT).await?;
    let flow = traffic.flow(RATE);
    sleep(Duration::from_secs(4)).await;

    warehouse.refuse().await;
    let refused = Instant::now();
    sleep(Duration::from_secs(seconds / 3)).await;
    set_shards(&sandbox, 4).await?;
    sleep_until(refused + Duration::from_secs(seconds)).await;
    let done = cluster.counts().await?.enriched;
    ensure!(done < flow.count() as u64, "the outage of the warehouse was not felt");
    warehouse.accept().await?;
    let back = Instant::now();
    read(&sandbox, &cluster, 4, 2).await?;
    let took = back.elapsed().as_secs_f64();
    say(
        "reshard",
        &format!("{took:.1} s after a warehouse outage of {seconds} s all 4 children of the split in it were fairly read"),
    );
    the_shards_page_knows_keys_and_children(&sandbox, &cluster).await?;
    sleep(Duration::from_secs(4)).await;

    dynamodb.refuse().await;
    sleep(DYNAMODB_AWAY / 2).await;
    set_shards(&sandbox, 2).await?;
    sleep(DYNAMODB_AWAY / 2).await;
    dynamodb.accept().await?;
    let back = Instant::now();
    read(&sandbox, &cluster, 2, 6).await?;
    let (took, away) = (back.elapsed().as_secs_f64(), DYNAMODB_AWAY.as_secs());
    say("reshard", &format!("{took:.1} s after a DynamoDB outage of {away} s both children of the merge in it were fairly read"));
    sleep(Duration::from_secs(4)).await;

    let traffic = flow.stop().await?;
    let found = settled(&sandbox, &cluster, &traffic, LIMIT).await?;
    let repeats = Repeats::of(&found);
    let (sent, texts) = (traffic.sent().len(), found.texts.len());
    say(
        "reshard",
        &format!("{sent} readings, {texts} texts, {} of them repeated, {} published again", repeats.texts, repeats.published),
    );
    ensure!(repeats.texts <= IN_FLIGHT, "{} texts were repeated", repeats.texts);
    let counted = cluster.counts().await?.possible_repeats;
    ensure!(counted >= repeats.texts as u64, "{} texts were repeated and {counted} counted", repeats.texts);
    parents_came_first(&watch)?;
    closed_shards_name_their_children(&sandbox, &watch).await?;
    cluster.stop().await?;
    sandbox.end().await
}

/// Every open shard is there with its keys, and with what its owner's lane says of reads and lease; closed ones name their children.
async fn the_shards_page_knows_keys_and_children(sandbox: &Sandbox, cluster: &Cluster<'_>) -> Result<()> {
    let listed = sandbox.clients.kinesis.list_shards().stream_name(IN_STREAM).send().await?.shards.unwrap_or_default();
    // A node puts its leases up at each look.
    eventually("the page knows the shards of the stream", LIMIT, || async {
        let page: Value = get_json(format!("{}/api/v1/shards", cluster.node("node-1")?.url)).await?;
        let rows = page["shards"].as_array().context("shards")?;
        let row = |shard: &str| rows.iter().find(|row| row["role"] == "enrich" && row["shard"] == *shard);
        for shard in
            listed.iter().filter(|shard| shard.sequence_number_range().is_some_and(|it| it.ending_sequence_number().is_none()))
        {
            let (id, keys) = (shard.shard_id(), shard.hash_key_range().context("a range")?);
            let row = row(id).with_context(|| format!("{id} is missing"))?;
            ensure!(row["hash_range"] == json!({"first": keys.starting_hash_key(), "last": keys.ending_hash_key()}), "{row}");
            ensure!(row["lease_left_ms"].as_u64().is_some_and(|ms| ms <= 10_000), "{row}");
            let lane = &row["lane"];
            ensure!(
                lane["records_per_s"].is_number() && lane["iterator_age_ms"].is_number() && lane["throttles"].is_number(),
                "{row}"
            );
        }
        for child in &listed {
            let parents = [child.parent_shard_id(), child.adjacent_parent_shard_id()].into_iter().flatten();
            for parent in parents.filter_map(row) {
                ensure!(parent["children"].as_array().is_some_and(|all| all.contains(&child.shard_id().into())), "{parent}");
            }
        }
        Ok(())
    })
    .await
}

/// Waits until so many shards are open and fairly read, and so many done.
async fn read(sandbox: &Sandbox, cluster: &Cluster<'_>, open: usize, done: usize) -> Result<()> {
    eventually("the reshard is through", LIMIT, || async {
        let rows = leases(&sandbox.clients, ENRICH).await?;
        let n_open = rows.iter().filter(|row| row.is_open()).count();
        // Rows of shards that are done may have been taken away.
        ensure!(n_open == open && rows.len() - n_open <= done, "{rows:?}");
        Ok(())
    })
    .await
    .with_context(|| cluster.logs())?;
    cluster.fair(LIMIT).await.map(|_| ())
}

async fn set_shards(sandbox: &Sandbox, count: i32) -> Result<()> {
    let request = sandbox.clients.kinesis.update_shard_count().stream_name(IN_STREAM).target_shard_count(count);
    request.scaling_type(ScalingType::UniformScaling).send().await.context("UpdateShardCount failed")?;
    Ok(())
}

/// At no look was a shard begun whose parents were not done.
fn parents_came_first(watch: &LeaseWatch) -> Result<()> {
    let changes = watch.changes();
    let mut rows = BTreeMap::<String, LeaseRow>::new();
    let mut children = 0;
    for look in changes.chunk_by(|one, next| one.at == next.at) {
        rows.extend(look.iter().map(|change| (change.row.shard.clone(), change.row.clone())));
        for row in
            rows.values().filter(|row| row.owner.is_some() || row.checkpoint.starts_with(|first: char| first.is_ascii_digit()))
        {
            let early = row.parents.iter().filter_map(|parent| rows.get(parent)).find(|parent| parent.is_open());
            ensure!(early.is_none(), "{} was begun before its parent was done: {early:?}", row.shard);
        }
        children = rows.values().filter(|row| !row.parents.is_empty()).count();
    }
    ensure!(children == 6, "{children} children of the stream's shards had leases");
    let merged = rows.values().filter(|row| row.parents.len() == 2).count();
    ensure!(merged == 2, "{merged} leases of merged shards name two parents");
    Ok(())
}

/// What was last seen of each closed shard's lease.
async fn closed_shards_name_their_children(sandbox: &Sandbox, watch: &LeaseWatch) -> Result<()> {
    let rows: BTreeMap<String, LeaseRow> =
        watch.changes().into_iter().map(|change| (change.row.shard.clone(), change.row)).collect();
    let shards = sandbox.clients.kinesis.list_shards().stream_name(IN_STREAM).send().await?.shards.unwrap_or_default();
    let mut closed = BTreeMap::<&str, BTreeSet<&str>>::new();
    for shard in &shards {
        for parent in [shard.parent_shard_id(), shard.adjacent_parent_shard_id()].into_iter().flatten() {
            closed.entry(parent).or_default().insert(shard.shard_id());
        }
    }
    ensure!(closed.len() == 6, "{} shards are closed", closed.len());
    for (shard, children) in closed {
        let row = rows.get(shard).with_context(|| format!("{shard} never had a lease"))?;
        ensure!(!row.is_open(), "the lease of the closed {shard} is not at its end: {row:?}");
        let noted: BTreeSet<&str> = row.children.iter().map(String::as_str).collect();
        ensure!(noted == children, "the lease of the closed {shard} names {noted:?}, not {children:?}");
    }
    Ok(())
}
