//! What operators have done to a running cluster: nothing is lost, what is planned happens once, and the audit log knows.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::commands;
use speedtrap_tests::conservation::{Repeats, settled};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::endpoints::get_json;
use speedtrap_tests::evidence::{self, Evidence};
use speedtrap_tests::figures::say;
use speedtrap_tests::leases::{ENRICH, NOTIFY};
use speedtrap_tests::letters;
use speedtrap_tests::node::Node;
use speedtrap_tests::operator::Operator;
use speedtrap_tests::process::Process;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, IN_STREAM};
use speedtrap_tests::traffic::{Mix, Traffic};
use tokio::time::{Instant, sleep};

const SHARDS: u32 = 4;
/// Readings a second.
const RATE: u32 = 40;
const LIMIT: Duration = Duration::from_secs(60);
/// Most texts that one killed notify lane may repeat: `notify.in_flight`.
const IN_FLIGHT: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_and_nodes_move_as_told_with_nothing_processed_twice_and_killed_actors_lose_nothing() -> Result<()> {
    let sandbox = Sandbox::up_with_shards(SHARDS).await?;
    let mix = Mix { seed: 17, violations: 0.9, bad_numbers: 0.3, unknown_plates: 8 };
    let traffic = Traffic::begin(&sandbox, 120, mix).await?;
    let mut cluster = Cluster::of(&sandbox);
    cluster.start(&["node-1", "node-2", "node-3"]).await?;
    cluster.fair(LIMIT).await?;
    cluster.meshed(LIMIT).await?;
    let operator = Operator { url: cluster.node("node-1")?.url.clone(), name: "op" };

    // First what is planned, so that whatever was done twice is a fault.
    let flow = traffic.flow(RATE);
    sleep(Duration::from_secs(2)).await;
    a_shard_goes_where_it_is_told_to(&cluster, &operator).await?;
    a_lane_is_drained(&cluster, &operator).await?;
    a_node_stands_aside_and_comes_back(&cluster, &operator).await?;
    sleep(Duration::from_secs(1)).await;
    let traffic = flow.stop().await?;
    let found = settled(&sandbox, &cluster, &traffic, LIMIT).await?;
    let counts = cluster.counts().await?;
    ensure!((counts.duplicates, counts.possible_repeats) == (0, 0), "{counts:?}");
    ensure!(Repeats::of(&found) == Repeats { published: 0, texts: 0 }, "{:?}", Repeats::of(&found));
    ensure!(counts.enriched == traffic.sent().len() as u64, "{} of {}", counts.enriched, traffic.sent().len());
    say("actions", &format!("{} readings through planned actions, nothing lost, nothing twice", traffic.sent().len()));

    // Then what cuts work off: it starts again from the checkpoint, and no text is sent twice but those in flight.
    let flow = traffic.flow(RATE);
    sleep(Duration::from_secs(1)).await;
    actors_are_ended_and_come_back(&cluster, &operator).await?;
    sleep(Duration::from_secs(1)).await;
    let traffic = flow.stop().await?;
    let found = settled(&sandbox, &cluster, &traffic, LIMIT).await?;
    let texts = found.repeated_texts();
    ensure!(texts <= IN_FLIGHT, "{texts} texts were repeated by one killed notify lane");
    say("actions", &format!("{} readings through killed actors, nothing lost, {texts} texts repeated", traffic.sent().len()));
    cluster.stop().await?;
    sandbox.end().await
}

async fn a_shard_goes_where_it_is_told_to(cluster: &Cluster<'_>, operator: &Operator) -> Result<()> {
    let held = |name: &'static str| cluster.shards_of(name, ENRICH);
    let of_each = [held("node-1").await?, held("node-2").await?, held("node-3").await?];
    // Four shards of three nodes: from the one with two to one with one, which leaves it fair.
    let full = of_each.iter().position(|shards| shards.len() == 2).context("one has two")?;
    let to = ["node-2", "node-3", "node-1"][full];
    let shard = of_each[full].first().context("two shards")?;
    let page = operator.act("handoff-shard", &format!("enrich/{shard}"), json!({"to": to})).await?;
    // It may move again at once: leases of other roles count, too, where the nodes even things out.
    let said = page["outcome"].as_str().unwrap_or_default();
    ensure!(said.starts_with(&format!("{to} runs it")), "{page}");
    say("actions", &format!("handed over: {said}"));
    let unknown = operator.preview("handoff-shard", format!("enrich/{shard}").into(), json!({"to": "node-9"})).await?;
    ensure!(unknown.0 == 404, "{unknown:?}");
    Ok(())
}

async fn held_by(cluster: &Cluster<'_>, name: &str) -> Result<BTreeSet<String>> {
    cluster.shards_of(name, ENRICH).await
}

/// The nodes may still even out what the hand-over before has moved; then the lane is elsewhere, and another one is drained.
async fn a_lane_is_drained(cluster: &Cluster<'_>, operator: &Operator) -> Result<()> {
    let mut tries = 0;
    loop {
        let shard = held_by(cluster, "node-3").await?.into_iter().next().context("node-3 has a shard")?;
        let path = format!("node-3/enrich/{shard}/driver_lookup");
        let drained = lane_drained(operator, &path).await;
        tries += 1;
        let has_moved = !held_by(cluster, "node-3").await?.contains(&shard);
        if drained.is_ok() || !has_moved || tries == 5 {
            return drained;
        }
        sleep(Duration::from_secs(2)).await;
    }
}

async fn lane_drained(operator: &Operator, path: &str) -> Result<()> {
    operator.act("drain-actor", path, json!({})).await?;
    let row = actor(operator, path).await?;
    ensure!(row["last"]["reason"] == "drained by op: a test" && row["last"]["by"] == "op", "{row}");
    Ok(())
}

async fn a_node_stands_aside_and_comes_back(cluster: &Cluster<'_>, operator: &Operator) -> Result<()> {
    let ended = speedtrap(operator, &["nodes", "drain", "node-2", "--stay", "--reason", "a look inside", "--yes"]).await?;
    ensure!(ended.code == Some(0), "{ended:?}\n{}", cluster.logs());
    let node = node(operator, "node-2").await?;
    ensure!(node["draining"] == true && node["presence"] == "linked", "{node}");
    for application in [ENRICH, NOTIFY] {
        ensure!(cluster.shards_of("node-2", application).await?.is_empty(), "it gave everything away");
    }
    sleep(Duration::from_secs(3)).await;
    ensure!(held_by(cluster, "node-2").await?.is_empty(), "it takes nothing");
    cluster.node("node-2")?.status().await.context("it still runs")?;
    let twice = speedtrap(operator, &["nodes", "drain", "node-2", "--stay", "--reason", "again", "--yes"]).await?;
    ensure!(twice.code == Some(5), "{twice:?}");

    operator.act("resume-node", "node-2", json!({})).await?;
    let resumed = Instant::now();
    let ended = speedtrap(operator, &["shards", "rebalance", "--reason", "after a look inside", "--yes"]).await?;
    ensure!(ended.code == Some(0), "{ended:?}\n{}", cluster.logs());
    ensure!(!held_by(cluster, "node-2").await?.is_empty(), "it has its share again: {ended:?}");
    say("actions", &format!("a resumed node had its share {:.1} s later", resumed.elapsed().as_secs_f64()));
    Ok(())
}

async fn actors_are_ended_and_come_back(cluster: &Cluster<'_>, operator: &Operator) -> Result<()> {
    let shard = held_by(cluster, "node-2").await?.into_iter().next().context("node-2 has a shard")?;
    let path = format!("node-2/enrich/{shard}/violation_persister");
    let (status, preview) = operator.preview("kill-actor", path.as_str().into(), json!({})).await?;
    ensure!(status == 200 && preview["confirm_text"] == "violation_persister", "{preview}");
    let elsewhere = Operator { url: cluster.node("node-3")?.url.clone(), ..operator.clone() };
    let (status, refused) = elsewhere.confirm(&preview, "k1", None).await?;
    ensure!(status == 409 && refused["code"] == "unknown_token", "a preview is good at its own node only: {refused}");
    let (status, refused) = operator.confirm(&preview, "k1", Some("violation-persister")).await?;
    ensure!(status == 409 && refused["code"] == "not_confirmed", "{refused}");
    let (status, begun) = operator.confirm(&preview, "k1", None).await?;
    ensure!(status == 202, "{begun}");
    let (status, again) = operator.confirm(&preview, "k1", None).await?;
    ensure!(status == 202 && again["action_id"] == begun["action_id"], "{again}");
    let id = begun["action_id"].as_str().context("an id")?;
    let page = operator.ended(id, LIMIT).await?;
    ensure!(page["state"] == "done", "{page}\n{}", cluster.logs());
    let row = actor(operator, &path).await?;
    ensure!(row["restarts"] == 1 && row["state"] == "running" && row["last"]["by"] == "op", "{row}");
    ensure!(row["last"]["reason"] == "killed by op: a test", "{row}");
    let lines = operator.audited(id).await?;
    let phases: Vec<_> = lines.iter().map(|line| line["phase"].as_str()).collect();
    ensure!(phases == [Some("intent"), Some("done")] && lines[0]["who"] == "op" && lines[0]["key"] == "k1", "{lines:?}");

    operator.act("restart-actor", &format!("node-2/enrich/{shard}"), json!({})).await?;
    operator.act("restart-actor", "node-3/heartbeat", json!({})).await?;
    let texter = cluster.texter().await?;
    let shard = cluster.shards_of(&texter, NOTIFY).await?.into_iter().next().context("a notify shard")?;
    let path = format!("{texter}/notify/{shard}/owner_notifier");
    let ended = speedtrap(operator, &["actors", "kill", &path, "--reason", "it hangs", "--yes", "--json"]).await?;
    ensure!(ended.code == Some(0) && ended.json()?["state"] == "done", "{ended:?}\n{}", cluster.logs());

    for (arguments, code) in [
        (&["actors", "kill", "node-2", "--reason", "no", "--yes"][..], 5),
        (&["actors", "kill", "node-2/membership/gateway", "--reason", "no", "--yes"], 5),
        (&["actors", "restart", "node-2/nobody", "--reason", "no", "--yes"], 4),
        (&["actors", "restart", "node-2/heartbeat"], 5),
        (&["actors", "restart", "node-2/heartbeat", "--dry-run"], 0),
    ] {
        let ended = speedtrap(operator, arguments).await?;
        ensure!(ended.code == Some(code), "{arguments:?}: {ended:?}");
    }
    Ok(())
}

async fn speedtrap(operator: &Operator, arguments: &[&str]) -> Result<commands::Ended> {
    let mut command = programs::command("speedtrap")?;
    command.args(arguments).args(["--node", &operator.url]);
    commands::run(command).await
}

/// The row of one actor, from a cluster-wide look.
async fn actor(operator: &Operator, path: &str) -> Result<Value> {
    let page: Value = get_json(format!("{}/api/v1/actors?scope=cluster", operator.url)).await?;
    let rows = page["rows"].as_array().context("rows")?;
    rows.iter().find(|row| row["name"] == path).cloned().with_context(|| format!("there is no {path}"))
}

async fn node(operator: &Operator, name: &str) -> Result<Value> {
    let page: Value = get_json(format!("{}/api/v1/nodes", operator.url)).await?;
    let nodes = page["nodes"].as_array().context("nodes")?;
    nodes.iter().find(|node| node["name"] == name).cloned().with_context(|| format!("there is no {name}"))
}

/// A reading under the limit ends without a trace but the count, so what was redriven is counted on the stream itself.
fn reading(n: usize) -> Vec<u8> {
    json!({"iottimestamp": "2026-01-02 03:04:05.678901", "licensePlate": format!("RE-{n}"), "longitude": "-93.6", "latitude": "41.6",
        "city": "Pebblestow", "state": "Iowa", "speed": "80", "eventId": format!("redriven-{n:04}")})
    .to_string()
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_redriven_once_each_and_a_run_that_is_broken_off_leaves_the_rest_open() -> Result<()> {
    const N: usize = 60;
    let sandbox = Sandbox::up().await?;
    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    let operator = Operator { url: node.url.clone(), name: "op" };
    for n in 0..2 * N {
        let (stage, payload) = (if n < N { "enrich" } else { "ingest" }, reading(n));
        letters::store(&sandbox.clients.dynamodb, &letters::id_of(stage, &payload), stage, IN_STREAM, &payload).await?;
    }
    let filter = |stage: &str| json!({"stage": stage, "reason": "a test put it", "state": "open"});
    let begun = Instant::now();
    let id = operator.begin("redrive", filter("enrich"), json!({"per_second": 20})).await?;
    let page = operator.ended(&id, LIMIT).await?;
    ensure!(page["state"] == "done" && page["outcome"] == format!("{N} redriven"), "{page}");
    ensure!(page["progress"] == json!({"done": N, "left": 0, "total": N}), "{page}");
    let took = begun.elapsed();
    ensure!(took >= Duration::from_secs_f64((N - 1) as f64 / 20.0), "it took {took:?}, so the pace was not kept");
    say("actions", &format!("{N} letters redriven at 20 a second in {:.1} s", took.as_secs_f64()));
    each_went_through_once(&sandbox, &node, N).await?;
    let none = operator.preview("redrive", filter("enrich"), json!({})).await?;
    ensure!(none.0 == 404, "{none:?}");

    // Broken off in the middle: what is done is done, the rest stays open, and may be done later.
    let id = operator.begin("redrive", filter("ingest"), json!({"per_second": 5})).await?;
    eventually("some are redriven", LIMIT, || async {
        let page = operator.look(&id).await?;
        ensure!(page["progress"]["done"].as_u64() >= Some(3), "{page}");
        Ok(())
    })
    .await?;
    let (status, said) = operator.post(&format!("/api/v1/actions/{id}/cancel"), None, json!({})).await?;
    ensure!(status == 202, "{said}");
    let page = operator.ended(&id, LIMIT).await?;
    ensure!(page["state"] == "cancelled", "{page}");
    let done = usize::try_from(page["progress"]["done"].as_u64().context("a count")?)?;
    let open = evidence::all_letters(&sandbox.clients).await?.iter().filter(|letter| letter.state == "open").count();
    ensure!(done < N && open == 2 * N - N - done, "{done} done, {open} open: {page}");
    each_went_through_once(&sandbox, &node, N + done).await?;
    let lines = operator.audited(&id).await?;
    ensure!(lines.len() == 2 && lines[1]["phase"] == "cancelled", "{lines:?}");
    let again = operator.post(&format!("/api/v1/actions/{id}/cancel"), None, json!({})).await?;
    ensure!(again.0 == 409, "{again:?}");

    let ids: Vec<_> = (N..2 * N).map(|n| letters::id_of("ingest", &reading(n))).collect();
    let id = operator.begin("redrive", json!(ids), json!({"per_second": 1000})).await?;
    let page = operator.ended(&id, LIMIT).await?;
    ensure!(page["state"] == "done" && page["outcome"] == format!("{} redriven", N - done), "{page}");
    each_went_through_once(&sandbox, &node, 2 * N).await?;
    a_command_is_broken_off_and_done_once_more(&sandbox, &node, 2 * N, N).await?;
    node.stop().await?;
    sandbox.end().await
}

/// Ctrl-C breaks a redrive off at the node: what is done is done, the rest is named, stays open, and is done by the next one.
async fn a_command_is_broken_off_and_done_once_more(sandbox: &Sandbox, node: &Node, before: usize, n: usize) -> Result<()> {
    for number in before..before + n {
        let payload = reading(number);
        letters::store(&sandbox.clients.dynamodb, &letters::id_of("ingest", &payload), "ingest", IN_STREAM, &payload).await?;
    }
    let order = |pace: [&str; 2]| -> Result<tokio::process::Command> {
        let mut command = programs::command("speedtrap")?;
        command.args(["dead-letters", "redrive", "--all", "--stage", "ingest", "--reason", "a test", "--yes", "--json"]);
        command.args(pace).args(["--node", &node.url]);
        Ok(command)
    };
    let mut process = Process::start_with_output("redrive", order(["--rate", "5"])?, sandbox.folder())?;
    eventually("some are redriven", LIMIT, || async {
        let page: Value = get_json(format!("{}/api/v1/actions", node.url)).await?;
        let action = &page["actions"][0];
        ensure!(action["state"] == "running" && action["progress"]["done"].as_u64() >= Some(3), "{action}");
        Ok(())
    })
    .await?;
    process.signal(libc::SIGINT)?;
    ensure!(process.ended(LIMIT).await?.code() == Some(130), "{}", process.log_tail());
    let end: Value = serde_json::from_str(&std::fs::read_to_string(sandbox.folder().join("redrive.out"))?)?;
    let done = usize::try_from(end["done"].as_u64().context("a count")?)?;
    let left = end["left"].as_array().context("letters")?.len();
    ensure!(done >= 3 && done + left == n, "{end}");
    each_went_through_once(sandbox, node, before + done).await?;
    let ended = commands::run(order(["--per-second", "1000"])?).await?;
    ensure!(ended.code == Some(0) && ended.json()? == json!({"schema": 1, "done": n - done, "left": []}), "{ended:?}");
    each_went_through_once(sandbox, node, before + n).await?;
    say(
        "actions",
        &format!("a redrive of {n} letters by command, broken off after {done} and done once more: each went through once"),
    );
    Ok(())
}

/// As many records on the stream as letters were put back, each of another event, and each stored.
async fn each_went_through_once(sandbox: &Sandbox, node: &Node, n: usize) -> Result<()> {
    let records = streams::all_records(&sandbox.clients.kinesis, IN_STREAM).await?;
    let distinct: BTreeSet<_> = records.iter().map(|record| record.data.as_ref()).collect();
    ensure!(
        (records.len(), distinct.len()) == (n, n),
        "{} records, {} of them different, for {n}",
        records.len(),
        distinct.len()
    );
    eventually("all that was put back is stored", LIMIT, || async {
        let found: Evidence = sandbox.evidence().await?;
        ensure!(found.stored.len() == n, "{} of {n}", found.stored.len());
        Ok(())
    })
    .await
    .with_context(|| node.process.log_tail())
}
