//! Readings from a broker that is not AWS IoT Core: what the publisher saw acknowledged arrives on the in-stream, through a killed
//! node and a killed broker; what is no reading becomes a dead letter.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::commands::{device, run};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::endpoints::Endpoints;
use speedtrap_tests::evidence::all_letters;
use speedtrap_tests::figures::say;
use speedtrap_tests::letters::id_of;
use speedtrap_tests::mosquitto::{Mosquitto, TOPIC};
use speedtrap_tests::mqtt;
use speedtrap_tests::node::Node;
use speedtrap_tests::process::Process;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{IN_STREAM, all_records};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_secs(90);

/// A node that runs no lane but one of the lightest, and may ingest.
async fn node(sandbox: &Sandbox, broker: &Mosquitto, name: &str) -> Result<Node> {
    Node::start_with(&sandbox.endpoints, sandbox.folder(), name, |command| {
        command.args(["--roles", "errors"]).env("SPEEDTRAP_INGEST__BROKER", format!("localhost:{}", broker.port));
        for (key, file) in [("CA", "ca.pem"), ("CERT", "ingest.pem"), ("KEY", "ingest.key")] {
            command.env(format!("SPEEDTRAP_INGEST__{key}"), broker.file(file));
        }
    })
    .await
}

async fn is_connected(node: &Node) -> Result<bool> {
    Ok(node.status().await?.json()["ingest"]["connected"] == true)
}

/// The event ids on the in-stream, and how many records there are.
async fn arrived(sandbox: &Sandbox) -> Result<(BTreeSet<String>, usize)> {
    let mut ids = BTreeSet::new();
    let records = all_records(&sandbox.clients.kinesis, IN_STREAM).await?;
    for record in &records {
        let event: Value = serde_json::from_slice(record.data.as_ref()).context("a record is no JSON")?;
        ensure!(event["licensePlate"].as_str() == record.partition_key(), "the key is not the plate: {record:?}");
        ids.insert(event["eventId"].as_str().context("a reading has an id")?.to_owned());
    }
    Ok((ids, records.len()))
}

async fn all_arrived(sandbox: &Sandbox, n: usize) -> Result<usize> {
    eventually("all readings are on the in-stream", LIMIT, || async {
        let (ids, records) = arrived(sandbox).await?;
        ensure!(ids.len() == n, "{} of {n}", ids.len());
        Ok(records)
    })
    .await
}

/// Starts a device that publishes every row of a file.
fn publisher(endpoints: &Endpoints, readings: &Path, folder: &Path, rate: u32) -> Result<Process> {
    let mut command = device(endpoints, readings)?;
    command.args(["--rate", &rate.to_string(), "--connect-timeout", "60"]);
    Process::start("device", command, folder)
}

async fn done(mut device: Process) -> Result<()> {
    let status = device.ended(LIMIT).await?;
    ensure!(status.code() == Some(0), "the device ended with {status}\n{}", device.log_tail());
    Ok(())
}

#[tokio::test]
async fn acknowledged_readings_arrive_through_a_killed_node_and_a_killed_broker() -> Result<()> {
    let third: usize = std::env::var("SPEEDTRAP_INGEST_READINGS").map_or(Ok(2_000), |n| n.parse())? / 3;
    let sandbox = Sandbox::up().await?;
    let (_, readings) = sandbox.make_files(&["--rows", "50"], &["--rows", &third.to_string()]).await?;
    let mut broker = Mosquitto::start(&sandbox.folder().join("mosquitto")).await?;
    let mut endpoints = sandbox.endpoints.clone();
    endpoints.mqtt = broker.device("PI-01");
    let mut nodes = [node(&sandbox, &broker, "node-1").await?, node(&sandbox, &broker, "node-2").await?];
    eventually("one node ingests", LIMIT, || async {
        ensure!(is_connected(&nodes[0]).await? != is_connected(&nodes[1]).await?, "none, or both");
        Ok(())
    })
    .await?;

    done(publisher(&endpoints, &readings, sandbox.folder(), 0)?).await?;
    let bad: [&[u8]; 3] = [b"no JSON", b"{}", br#"{"licensePlate":"P-1"}"#];
    mqtt::publish(&broker.device("gone-wrong"), &bad.map(<[u8]>::to_vec)).await?;
    all_arrived(&sandbox, third).await?;

    // The node that ingests dies while readings come; the other takes over.
    let leader = usize::from(is_connected(&nodes[1]).await?);
    let publishing = publisher(&endpoints, &readings, sandbox.folder(), 200)?;
    eventually("readings come", LIMIT, || async {
        ensure!(arrived(&sandbox).await?.0.len() > third + 20, "not yet");
        Ok(())
    })
    .await?;
    let killed = Instant::now();
    nodes[leader].process.kill().await?;
    eventually("the other node ingests", LIMIT, || async {
        ensure!(is_connected(&nodes[1 - leader]).await?, "not yet");
        Ok(())
    })
    .await?;
    let takeover = killed.elapsed();
    done(publishing).await?;
    all_arrived(&sandbox, 2 * third).await?;

    // The broker is killed when it has nothing unsaved: what it loses after its own acknowledgement nobody can bring back.
    tokio::time::sleep(Duration::from_secs(3)).await;
    broker.kill().await?;
    let publishing = publisher(&endpoints, &readings, sandbox.folder(), 0)?;
    broker.resume().await?;
    done(publishing).await?;
    let records = all_arrived(&sandbox, 3 * third).await?;

    let letters = all_letters(&sandbox.clients).await?;
    let of_ingest: Vec<_> = letters.iter().filter(|letter| letter.stage == "ingest").collect();
    ensure!(of_ingest.len() == bad.len() && letters.len() == bad.len(), "{letters:?}");
    for payload in bad {
        let letter = of_ingest.iter().find(|letter| letter.id == id_of("ingest", payload)).context("no such letter")?;
        ensure!(letter.source.starts_with(&format!("mqtt:IotFastCarSensor-ingest/{TOPIC}/")), "{letter:?}");
    }
    say(
        "ingest",
        &format!(
            "{} readings acknowledged to the device, {} on the in-stream, {} records of repeats, take-over after {:.1} s",
            3 * third,
            3 * third,
            records - 3 * third,
            takeover.as_secs_f64()
        ),
    );
    let [first, second] = nodes;
    let survivor = if leader == 0 { second } else { first };
    survivor.stop().await?;
    sandbox.end().await
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_with_every_fault() -> Result<()> {
    let mut command = speedtrap_tests::programs::command("speedtrap")?;
    command.args(["config", "check"]).envs([
        ("SPEEDTRAP_INGEST__BROKER", "broker.example:8883"),
        ("SPEEDTRAP_INGEST__CERT", "/nowhere.pem"),
        ("SPEEDTRAP_INGEST__IN_FLIGHT", "0"),
        ("SPEEDTRAP_INGEST__USERNAME", "u"),
        ("SPEEDTRAP_WAREHOUSE__URL", "postgresql://nobody@127.0.0.1:1/none"),
    ]);
    let ended = run(command).await?;
    ensure!(ended.code == Some(78), "{ended:?}");
    for fault in ["ingest.ca", "ingest.key", "ingest.in_flight", "1 to 10000", "ingest.password_file"] {
        ensure!(ended.err.contains(fault), "no {fault}: {ended:?}");
    }
    Ok(())
}
